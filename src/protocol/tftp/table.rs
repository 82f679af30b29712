//! All transfers of one boot core: who asked, on which port, what leaves next, and what is too
//! much.
//!
//! The engine feeds datagrams in (`handle_listen`, `handle_tid`), wakes the table
//! (`handle_timeouts`) and takes out what to do (`poll`). Nothing here waits and nothing is
//! allocated for a packet; a request costs one allocation.

mod line;
mod requests;
mod session;
mod stillest;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

pub use super::id::TransferId;
pub use super::local::Local;
pub use super::outcome::{Failure, Outcome};

use self::line::Line;
use self::session::{Session, Stage};
use self::stillest::Stillest;
use super::keyed::Keyed;
use super::limits::{
    DISTRUST, Limits, MTU_DEFAULT, NETWORK_RATE, QUIET_TIMEOUTS, RATE_PLACES, REPLIES_QUEUED_MAX,
    RTO_ASKED_MAX, RTO_MAX, STILL_MIN, TIDS_DEFAULT, WRONG_TID_INTERVAL,
};
use super::local::is_unicast;
use super::options::{OptionPolicy, Terms, negotiate};
use super::packet::{ErrorCode, Packet, Refusal, Request, parse, write_error};
use super::sources::{Rates, Sources, network, place};
use super::timers::Timers;
use super::transfer::{Acked, Blocks, Tally, Timeout, Transfer, Transmit};
use super::{NEVER, Tick};
use crate::model::network::Networks;
use crate::model::random::{Random, mix};

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Of the way to the clients, octets; blocks are cut to fit without fragments (T-17).
    pub mtu: u16,
    pub options: OptionPolicy,
    /// TID sockets of the engine, numbered from 0. None at all = single-port mode: every answer
    /// leaves from the listening socket (T-47).
    pub tids: u16,
    pub limits: Limits,
    /// Blocks that may leave for one transfer in a millisecond; 0 = a whole window at once (T-40).
    /// Firmware runs one transfer at a time.
    pub packets_per_ms: u16,
    /// Off for `--root` without a configuration. Never applied to loopback (T-65).
    pub per_address_limits: bool,
    /// Who is served; empty = everybody. Loopback always is (T-65).
    pub serve: Networks,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mtu: MTU_DEFAULT,
            options: OptionPolicy::default(),
            tids: TIDS_DEFAULT,
            limits: Limits::default(),
            packets_per_ms: 0,
            per_address_limits: true,
            serve: Networks::default(),
        }
    }
}

/// What the engine is to do.
///
/// `tid`: the socket to send from; None = the listening socket, in single-port mode only.
#[derive(Debug)]
pub enum Action<'a, C> {
    /// Find the file and call [`Table::opened`].
    Open { id: TransferId, peer: SocketAddr, local: Local, request: &'a Request },
    /// Send blocks `first`, `first + 1`, … (modulo 65536), each `block_size` octets of `bytes`, the
    /// last one of the transfer shorter or empty. One action is one window. What can't leave now
    /// goes back by [`Table::unsent`].
    Blocks {
        id: TransferId,
        peer: SocketAddr,
        local: Local,
        tid: Option<u16>,
        content: &'a C,
        first: u16,
        block_size: u16,
        /// Octets of the content.
        bytes: Range<u64>,
        /// At least 1.
        blocks: u32,
        /// The final block is among them.
        last: bool,
    },
    /// Send these octets: an OACK or an ERROR. `turned_away`: the ERROR is the answer to a datagram
    /// that began nothing.
    Datagram {
        peer: SocketAddr,
        local: Local,
        tid: Option<u16>,
        bytes: &'a [u8],
        turned_away: Option<Refusal>,
    },
    /// The transfer is over. The content comes back, so that a core need not be the one to free it.
    Ended {
        id: TransferId,
        peer: SocketAddr,
        outcome: Outcome,
        name: &'a [u8],
        /// The request had a `tsize`.
        size_asked: bool,
        /// What was agreed; None = there was no file to agree on.
        terms: Option<Terms>,
        started: Tick,
        tally: Tally,
        content: Option<C>,
    },
}

/// A transfer that is not over, for whoever looks at the table.
#[derive(Debug)]
pub struct Sight<'a, C> {
    pub peer: SocketAddr,
    pub name: &'a [u8],
    pub content: Option<&'a C>,
    pub started: Tick,
    /// When its client last got on.
    pub moved_at: Tick,
    /// The first block that is not acknowledged, counted from 1, and how many there are; None: it
    /// waits for its turn or its file.
    pub block: Option<(u64, u64)>,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Read requests that were well formed, repeats included.
    pub requests: u64,
    /// Requests that came once more and were answered from the session they had (T-49).
    pub repeated: u64,
    /// Answered at once with an ERROR: writes, malformed requests.
    pub turned_away: u64,
    /// Datagrams on the listening port that mean nothing there (T-4).
    pub strays: u64,
    /// Not of a configured subnet, or sent to a broadcast address (T-9, T-65).
    pub not_served: u64,
    /// Requests that had to wait (T-65).
    pub waited: u64,
    /// Requests dropped because the queue, the table or the queue of replies was full, or a rate
    /// was passed.
    pub dropped: u64,
    /// ERROR 5 sent (T-48).
    pub wrong_tid: u64,
    /// Requests that met a full table, whether a place was found or not.
    pub full: u64,
    /// Transfers that others took the place of (T-65).
    pub displaced: u64,
    /// Transfers ended because somebody guessed at their port (T-64).
    pub guessed: u64,
}

/// The transfers of one core. `C` is the engine's handle of a file; the table holds it and hands it
/// back.
#[derive(Debug)]
pub struct Table<C> {
    policy: Policy,
    random: Random,
    slots: Vec<Slot<C>>,
    free: Vec<u32>,
    keys: HashMap<Key, TransferId, Keyed>,
    timers: Timers<TransferId>,
    /// Sessions that may have something for [`Self::poll`], each at most once.
    ready: VecDeque<TransferId>,
    replies: VecDeque<Reply>,
    sources: Sources,
    request_rates: Rates,
    network_rates: Rates,
    wrong_tid_rates: Rates,
    /// Until when an address is distrusted, by a hash of it (T-64).
    distrusted: Box<[Tick]>,
    /// Sessions with a TID and not yet over.
    transfers: usize,
    waiting: usize,
    unconfirmed: Line,
    stillest: Stillest,
    quiet: Line,
    /// The TID last used for an endpoint, by a hash of it (T-46).
    last_tids: Box<[u16]>,
    seed: u64,
    counts: Counts,
    /// The datagram that [`Action::Datagram`] shows.
    datagram: Vec<u8>,
    /// The request whose name [`Action::Ended`] shows.
    ended: Request,
}

impl<C> Table<C> {
    pub fn new(policy: Policy, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let limits = policy.limits;
        Self {
            request_rates: Rates::per_second(
                limits.requests_per_second_max,
                limits.requests_burst_max,
                random.next_number(),
            ),
            network_rates: Rates::per_second(
                limits.requests_per_second_max.saturating_mul(NETWORK_RATE),
                limits.requests_burst_max.saturating_mul(NETWORK_RATE),
                mix(seed),
            ),
            wrong_tid_rates: Rates::new(WRONG_TID_INTERVAL, 1, random.next_number()),
            distrusted: vec![0; RATE_PLACES].into(),
            seed: random.next_number(),
            policy,
            random,
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::with_hasher(Keyed::new(&mut random)),
            timers: Timers::default(),
            ready: VecDeque::new(),
            replies: VecDeque::new(),
            sources: Sources::default(),
            transfers: 0,
            waiting: 0,
            unconfirmed: Line::default(),
            stillest: Stillest::default(),
            quiet: Line::default(),
            last_tids: vec![u16::MAX; RATE_PLACES].into(),
            counts: Counts::default(),
            datagram: Vec::with_capacity(1024),
            ended: Request::default(),
        }
    }

    /// A datagram at the listening port. `broadcast`: it was sent to a broadcast or multicast
    /// address, and is dropped (T-9).
    pub fn handle_listen(
        &mut self,
        now: Tick,
        peer: SocketAddr,
        local: Local,
        broadcast: bool,
        bytes: &[u8],
    ) {
        if broadcast || !is_unicast(local.address) || !self.serves(peer) {
            self.counts.not_served += 1;
            return;
        }
        match parse(bytes) {
            Some(Packet::Read(Ok(asked))) => self.handle_request(now, peer, local, &asked),
            Some(Packet::Read(Err(refusal))) => self.turn_away(now, peer, local, refusal),
            Some(Packet::Write) => self.turn_away(now, peer, local, Refusal::ACCESS_VIOLATION),
            Some(packet) if self.policy.tids == 0 => {
                if let Some(id) = self.find(peer, None) {
                    self.handle_session_packet(now, id, packet);
                }
            }
            _ => self.counts.strays += 1,
        }
    }

    /// A datagram on TID socket number `tid`.
    pub fn handle_tid(
        &mut self,
        now: Tick,
        tid: u16,
        peer: SocketAddr,
        local: Local,
        bytes: &[u8],
    ) {
        let Some(packet) = parse(bytes) else { return };
        match self.find(peer, Some(tid)) {
            Some(id) => self.handle_session_packet(now, id, packet),
            None if matches!(packet, Packet::Ack { .. } | Packet::Data { .. }) => {
                self.notice_guess(now, peer);
                self.answer_wrong_tid(now, tid, peer, local);
            }
            None => (),
        }
    }

    /// Options for this client alone (T-20, T-23), in place of [`Policy::options`]. Call it before
    /// [`Self::opened`].
    pub fn restrict(&mut self, id: TransferId, options: OptionPolicy) {
        if let Some(peer) = self.session_mut(id).map(|session| session.peer) {
            let options = self.fit(options, peer);
            if let Some(session) = self.session_mut(id) {
                session.options = options;
            }
        }
    }

    /// The answer to [`Action::Open`]: the content and its length in octets (for netascii: of the
    /// translated bytes). Content that comes too late for its transfer is handed back.
    #[must_use = "content of a transfer that has ended meanwhile comes back"]
    pub fn opened(
        &mut self,
        now: Tick,
        id: TransferId,
        answer: Result<(C, u64), Refusal>,
    ) -> Option<C> {
        let seed = self.random.next_number();
        let is_distrusted = self
            .session_mut(id)
            .map(|session| session.peer)
            .is_some_and(|peer| self.distrusts(now, peer));
        let Some(session) = self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
        else {
            return answer.ok().map(|(content, _)| content);
        };
        if !matches!(session.stage, Stage::Opening) {
            return answer.ok().map(|(content, _)| content);
        }
        match answer {
            Ok((content, len)) => {
                if is_distrusted {
                    session.options.window_max = 1;
                }
                let terms = negotiate(
                    session.request.options(),
                    &session.options,
                    session.request.mode(),
                    len,
                    &mut self.datagram,
                );
                session.len = len;
                session.terms = Some(terms);
                session.content = Some(content);
                let transfer = Transfer::new(&terms, len, seed)
                    .with_packets_per_ms(self.policy.packets_per_ms);
                session.stage = Stage::Running(Box::new(transfer));
                self.settle(id);
            }
            Err(refusal) => {
                self.end(now, id, Outcome::Refused { code: refusal.code }, Some(refusal))
            }
        }
        None
    }

    /// Of the blocks that the last [`Action::Blocks`] of `id` named, only the first `blocks` were
    /// sent: the rest is not resident, or the send queue is full. Call it before anything else for
    /// this transfer. The transfer is parked, and its timers with it, until [`Self::resume`]; after
    /// `limits::PARKED_MAX` it fails.
    pub fn unsent(&mut self, now: Tick, id: TransferId, blocks: u32) {
        if let Some(Stage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.unsent(now, blocks);
            self.settle(id);
        }
    }

    /// What was parked can go on.
    pub fn resume(&mut self, id: TransferId) {
        if let Some(Stage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.resume();
            self.settle(id);
        }
    }

    /// The content can't be sent any more; the client gets ERROR 0 (T-31).
    pub fn failed(&mut self, now: Tick, id: TransferId, why: Failure) {
        if self.session_mut(id).is_some_and(|session| session.is_live()) {
            self.end(now, id, Outcome::Failed(why), Some(Refusal::INTERNAL));
        }
    }

    /// From now on requests of these networks are answered; none = of all (T-65). Transfers that
    /// run go on.
    pub fn serve_only(&mut self, networks: Networks) {
        self.policy.serve = networks;
    }

    /// There is no answer to an `Action::Open` now: the request is forgotten without a word, and
    /// its repetition is a new one.
    pub fn forget(&mut self, now: Tick, id: TransferId) {
        if self.session_mut(id).is_some_and(|session| matches!(session.stage, Stage::Opening)) {
            self.end(now, id, Outcome::NeverBegun, None);
        }
    }

    /// Who asked for a transfer that has not ended.
    pub fn peer(&self, id: TransferId) -> Option<SocketAddr> {
        Some(peek(&self.slots, id)?.peer)
    }

    /// The content of a transfer that has not ended.
    pub fn content(&self, id: TransferId) -> Option<&C> {
        peek(&self.slots, id)?.content.as_ref()
    }

    pub fn content_mut(&mut self, id: TransferId) -> Option<&mut C> {
        self.session_mut(id)?.content.as_mut()
    }

    /// The content turned out to have so many octets. Only where no more has left than the first
    /// block without options, and the length was not told.
    pub fn set_len(&mut self, id: TransferId, len: u64) {
        if let Some(session) = self.session_mut(id)
            && let Stage::Running(transfer) = &mut session.stage
        {
            session.len = len;
            transfer.set_len(len);
        }
    }

    /// Its client has answered.
    pub fn is_confirmed(&self, id: TransferId) -> bool {
        peek(&self.slots, id).is_some_and(|session| !session.unconfirmed)
    }

    /// Ends the confirmed transfer that has stood still longest, if that is longer than one
    /// packet's loss explains: files or memory are short (T-65).
    pub fn displace_stillest(&mut self, now: Tick) -> bool {
        let slots = &self.slots;
        let Some((moved_at, id)) = self.stillest.longest(|id| moved_at(slots, id)) else {
            return false;
        };
        if moved_at + STILL_MIN > now {
            return false;
        }
        self.counts.displaced += 1;
        self.finish(id, Outcome::Displaced, None);
        true
    }

    pub fn handle_timeouts(&mut self, now: Tick) {
        while let Some(entry) = self.timers.pop(now) {
            let id = entry.1;
            let Some(session) =
                self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
            else {
                continue;
            };
            if self.timers.due(entry, &mut session.alarm, now) {
                self.handle_alarm(now, id);
            }
        }
    }

    /// When [`Self::handle_timeouts`] should be called; it may be called early.
    pub fn next_timeout(&self) -> Option<Tick> {
        self.timers.next()
    }

    /// Transfers that are neither over nor waiting: while there are any, a core may spin.
    pub fn transfers(&self) -> usize {
        self.transfers
    }

    /// Sessions of every kind: transfers, requests that wait, endings that still swallow late ACKs.
    pub fn sessions(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// All transfers that are not over.
    pub fn sights(&self) -> impl Iterator<Item = Sight<'_, C>> {
        let live = self
            .slots
            .iter()
            .filter_map(|slot| slot.session.as_ref())
            .filter(|session| session.is_live());
        live.map(|session| Sight {
            peer: session.peer,
            name: session.request.name(),
            content: session.content.as_ref(),
            started: session.started,
            moved_at: session.moved_at,
            block: match &session.stage {
                Stage::Running(transfer) => Some(transfer.position()),
                _ => None,
            },
        })
    }

    /// The next thing to do; call it until None.
    pub fn poll(&mut self, now: Tick) -> Option<Action<'_, C>> {
        if let Some(reply) = self.replies.pop_front() {
            write_error(&mut self.datagram, reply.refusal);
            return Some(Action::Datagram {
                peer: reply.peer,
                local: reply.local,
                tid: reply.tid,
                bytes: &self.datagram,
                turned_away: Some(reply.refusal),
            });
        }
        let (id, step) = self.next_step(now)?;
        if let Step::End(outcome, tally) = step {
            return self.retire(now, id, outcome, tally);
        }
        let session = peek(&self.slots, id)?;
        let Session { peer, local, tid, .. } = *session;
        match step {
            Step::Open => Some(Action::Open { id, peer, local, request: &session.request }),
            Step::Oack => {
                let request = &session.request;
                negotiate(
                    request.options(),
                    &session.options,
                    request.mode(),
                    session.len,
                    &mut self.datagram,
                );
                Some(Action::Datagram {
                    peer,
                    local,
                    tid,
                    bytes: &self.datagram,
                    turned_away: None,
                })
            }
            Step::Error(refusal) => {
                write_error(&mut self.datagram, refusal);
                Some(Action::Datagram {
                    peer,
                    local,
                    tid,
                    bytes: &self.datagram,
                    turned_away: None,
                })
            }
            Step::Blocks(Blocks { first, blocks, block_size, bytes, last }) => {
                let content = session.content.as_ref()?;
                Some(Action::Blocks {
                    id,
                    peer,
                    local,
                    tid,
                    content,
                    first,
                    block_size,
                    bytes,
                    blocks,
                    last,
                })
            }
            Step::End(..) => None,
        }
    }

    fn handle_session_packet(&mut self, now: Tick, id: TransferId, packet: Packet<'_>) {
        let Some(session) = self.session_mut(id) else { return };
        match (&mut session.stage, packet) {
            (Stage::Running(transfer), Packet::Ack { block }) => {
                match transfer.handle_ack(now, block) {
                    Acked::Done => self.end(now, id, Outcome::Complete, None),
                    Acked::Moved => {
                        session.moved_at = now;
                        if std::mem::replace(&mut session.unconfirmed, false) {
                            self.confirmed(now, id);
                        }
                        self.settle(id);
                    }
                    Acked::Nothing => {
                        let deadline = transfer.deadline();
                        self.set_alarm(id, deadline);
                    }
                }
            }
            (Stage::Running(_) | Stage::Opening, Packet::Error { code, .. }) => {
                let probe = session.unconfirmed
                    && (code == ErrorCode::OptionsRefused as u16
                        || code == ErrorCode::Undefined as u16);
                self.end(
                    now,
                    id,
                    if probe { Outcome::SizeProbe } else { Outcome::Aborted { code } },
                    None,
                );
            }
            // Over: late packets are swallowed (T-32). The rest is nothing that a reading client
            // sends.
            _ => (),
        }
    }

    /// The first ACK of a transfer has come.
    fn confirmed(&mut self, now: Tick, id: TransferId) {
        self.unconfirmed.leave();
        let slots = &self.slots;
        self.stillest.enter(now, id, |id| moved_at(slots, id));
        let Some(peer) = self.peer(id) else { return };
        if self.distrusts(now, peer)
            && let Some(Stage::Running(transfer)) =
                self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.distrust();
        }
    }

    /// An endpoint sent an ACK to a port where it has no transfer. If it has one on another port,
    /// somebody who has not seen our answer guesses: the request is ended unless its client has
    /// proven itself, and its address gets no windows for a while (T-64).
    fn notice_guess(&mut self, now: Tick, peer: SocketAddr) {
        let Some(id) = self.find(peer, None) else { return };
        let Some(session) =
            self.session_mut(id).filter(|session| session.is_live() && session.tid.is_some())
        else {
            return;
        };
        let is_proven = matches!(&session.stage, Stage::Running(transfer) if transfer.is_proven());
        let place = self.distrust_place(peer);
        self.distrusted[place] = now + DISTRUST;
        if !is_proven {
            self.counts.guessed += 1;
            self.end(now, id, Outcome::Guessed, None);
        }
    }

    fn distrusts(&self, now: Tick, peer: SocketAddr) -> bool {
        now < self.distrusted[self.distrust_place(peer)]
    }

    fn distrust_place(&self, peer: SocketAddr) -> usize {
        place(peer.ip().to_canonical(), self.seed, self.distrusted.len())
    }

    fn handle_alarm(&mut self, now: Tick, id: TransferId) {
        let Some(session) = self.session_mut(id) else { return };
        match &mut session.stage {
            Stage::Waiting if now >= session.forget_at => {
                self.end(now, id, Outcome::NeverBegun, None)
            }
            Stage::Waiting => {
                let (forget_at, peer) = (session.forget_at, session.peer);
                self.set_alarm(id, forget_at);
                if let Some(address) = self.limited_address(peer) {
                    self.begin_waiting(now, address);
                }
            }
            Stage::Opening => self.failed(now, id, Failure::NotOpened),
            Stage::Running(transfer) => match transfer.handle_timeout(now) {
                Timeout::Again | Timeout::Early => self.settle(id),
                Timeout::LastAckMissing => self.end(now, id, Outcome::CompleteWithoutLastAck, None),
                // A forged address gets no more than its share (T-64), a client that was there
                // learns of it (T-42).
                Timeout::GaveUp => {
                    let gone = Refusal { code: ErrorCode::Undefined, text: "Timed out" };
                    let told = transfer.confirmed().then_some(gone);
                    self.end(now, id, Outcome::GaveUp, told);
                }
                Timeout::Stalled => self.failed(now, id, Failure::OutOfReach),
            },
            Stage::Ending { .. } => (),
            Stage::Quiet => self.remove(id),
        }
    }

    fn answer_wrong_tid(&mut self, now: Tick, tid: u16, peer: SocketAddr, local: Local) {
        let address = peer.ip().to_canonical();
        if !self.serves(peer)
            || self.wrong_tid_rates.take(now, network(address).unwrap_or(address)).is_err()
        {
            return;
        }
        self.counts.wrong_tid += 1;
        let refusal = Refusal { code: ErrorCode::UnknownTid, text: "Unknown transfer ID" };
        self.reply(Reply { peer, local, tid: Some(tid), refusal });
    }

    fn reply(&mut self, reply: Reply) {
        if self.replies.len() >= REPLIES_QUEUED_MAX {
            self.counts.dropped += 1;
            return;
        }
        self.replies.push_back(reply);
    }

    /// After an event of a running transfer: its timer, and its turn in `poll`.
    fn settle(&mut self, id: TransferId) {
        let Some(Stage::Running(transfer)) = self.session_mut(id).map(|session| &mut session.stage)
        else {
            return;
        };
        let deadline = transfer.deadline();
        self.set_alarm(id, deadline);
        self.make_ready(id);
    }

    /// The next session with something to do, and what.
    fn next_step(&mut self, now: Tick) -> Option<(TransferId, Step)> {
        while let Some(id) = self.ready.pop_front() {
            let Some(session) =
                self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
            else {
                continue;
            };
            session.ready = false;
            match &mut session.stage {
                // Once: nothing else makes it ready before its answer.
                Stage::Opening => return Some((id, Step::Open)),
                Stage::Running(transfer) => {
                    let Some(transmit) = transfer.poll_transmit(now) else {
                        // It may pause between bursts (T-40).
                        self.timers.set(id, &mut session.alarm, transfer.deadline());
                        continue;
                    };
                    let deadline = transfer.deadline();
                    let almost_over = transfer.confirmed() && transfer.sent_whole();
                    let counted = session.counted.filter(|_| almost_over);
                    self.timers.set(id, &mut session.alarm, deadline);
                    // A client that never sends its last ACK may go on to its next file all the
                    // same.
                    if let Some(address) = counted {
                        session.counted = None;
                        self.sources.leave(address);
                        self.begin_waiting(now, address);
                    }
                    return Some((
                        id,
                        match transmit {
                            Transmit::Oack => Step::Oack,
                            Transmit::Blocks(blocks) => Step::Blocks(blocks),
                        },
                    ));
                }
                Stage::Ending { error, outcome, tally } => {
                    let step = error.take().map_or(Step::End(*outcome, *tally), Step::Error);
                    if matches!(step, Step::Error(_)) {
                        session.ready = true;
                        self.ready.push_front(id);
                    }
                    return Some((id, step));
                }
                Stage::Waiting | Stage::Quiet => (),
            }
        }
        None
    }

    // --- endings ---

    /// Session `id` is over; `poll` will send `error` and then tell the engine. Whoever waits for
    /// its place begins.
    fn end(&mut self, now: Tick, id: TransferId, outcome: Outcome, error: Option<Refusal>) {
        if let Some(address) = self.finish(id, outcome, error) {
            self.begin_waiting(now, address);
        }
    }

    /// [`Self::end`] without its last step: gives the address that has a place now.
    fn finish(
        &mut self,
        id: TransferId,
        outcome: Outcome,
        error: Option<Refusal>,
    ) -> Option<IpAddr> {
        let session = self.session_mut(id).filter(|session| session.is_live())?;
        let peer = session.peer;
        let waited = matches!(session.stage, Stage::Waiting);
        let mut tally = Tally::default();
        if let Stage::Running(transfer) = &mut session.stage {
            let rto =
                transfer.rto().min(if transfer.confirmed() { RTO_ASKED_MAX } else { RTO_MAX });
            session.quiet_for = QUIET_TIMEOUTS * rto;
            tally = transfer.tally();
        }
        session.stage = Stage::Ending { outcome, error, tally };
        let counted = session.counted.take();
        if std::mem::replace(&mut session.unconfirmed, false) {
            self.unconfirmed.leave();
        }
        self.set_alarm(id, NEVER);
        self.make_ready(id);
        if waited {
            self.waiting -= 1;
            return self.limited_address(peer);
        }
        self.transfers -= 1;
        if let Some(address) = counted {
            self.sources.leave(address);
        }
        counted
    }

    /// Tells the engine that session `id` is over. One that was running stays for a while, to
    /// swallow late packets of its client (T-32).
    fn retire(
        &mut self,
        now: Tick,
        id: TransferId,
        outcome: Outcome,
        tally: Tally,
    ) -> Option<Action<'_, C>> {
        let session = self.session_mut(id)?;
        let (peer, started, quiet_for, terms) =
            (session.peer, session.started, session.quiet_for, session.terms);
        let content = session.content.take();
        let request = std::mem::take(&mut session.request);
        if quiet_for > 0 {
            session.stage = Stage::Quiet;
            self.set_alarm(id, now + quiet_for);
            self.enter_quiet(id);
        } else {
            self.remove(id);
        }
        self.ended = request;
        let (name, size_asked) = (self.ended.name(), self.ended.asks_size());
        Some(Action::Ended { id, peer, outcome, name, size_asked, terms, started, tally, content })
    }

    fn enter_quiet(&mut self, id: TransferId) {
        let slots = &self.slots;
        let quiet =
            |id| peek(slots, id).is_some_and(|session| matches!(session.stage, Stage::Quiet));
        self.quiet.enter(id, quiet);
        if self.quiet.count <= self.policy.limits.quiet_max {
            return;
        }
        let oldest = self.quiet.oldest(quiet);
        if let Some(oldest) = oldest {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: TransferId) {
        let Some(slot) =
            self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
        else {
            return;
        };
        let Some(session) = slot.session.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        if matches!(session.stage, Stage::Quiet) {
            self.quiet.leave();
        }
        // A later session of this endpoint may have taken the key over.
        for key in [Key::endpoint(session.peer), Key { peer: session.peer, tid: session.tid }] {
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
    }

    // --- small change ---

    fn find(&self, peer: SocketAddr, tid: Option<u16>) -> Option<TransferId> {
        self.keys.get(&Key { peer, tid }).copied()
    }

    fn session_mut(&mut self, id: TransferId) -> Option<&mut Session<C>> {
        self.slots.get_mut(id.index as usize)?.session(id)
    }

    fn set_alarm(&mut self, id: TransferId, deadline: Tick) {
        if let Some(session) =
            self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
        {
            self.timers.set(id, &mut session.alarm, deadline);
        }
    }

    fn make_ready(&mut self, id: TransferId) {
        if let Some(session) = self.session_mut(id)
            && !std::mem::replace(&mut session.ready, true)
        {
            self.ready.push_back(id);
        }
    }
}

/// Where a datagram belongs. Without a TID it names the latest session of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    peer: SocketAddr,
    tid: Option<u16>,
}

impl Hash for Key {
    /// Always the same number of words, for [`Keyed`].
    #[allow(clippy::cast_possible_truncation)] // each half is taken on purpose
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (address, scope) = match self.peer {
            SocketAddr::V4(peer) => (u128::from(u32::from(*peer.ip())), 0),
            SocketAddr::V6(peer) => (u128::from(*peer.ip()), peer.scope_id()),
        };
        let tid = self.tid.map_or(u32::MAX, u32::from);
        state.write_u64((address >> 64) as u64);
        state.write_u64(address as u64);
        state.write_u64((u64::from(tid) << 32) + u64::from(self.peer.port()));
        state.write_u64(u64::from(scope));
    }
}

impl Key {
    fn endpoint(peer: SocketAddr) -> Self {
        Self { peer, tid: None }
    }
}

/// An ERROR to somebody without a session.
#[derive(Clone, Copy, Debug)]
struct Reply {
    peer: SocketAddr,
    local: Local,
    tid: Option<u16>,
    refusal: Refusal,
}

/// What a session does in its turn.
enum Step {
    Open,
    Oack,
    Blocks(Blocks),
    Error(Refusal),
    End(Outcome, Tally),
}

/// The last progress of a transfer that is confirmed and not over.
fn moved_at<C>(slots: &[Slot<C>], id: TransferId) -> Option<Tick> {
    let session = peek(slots, id).filter(|session| !session.unconfirmed)?;
    matches!(session.stage, Stage::Running(_)).then_some(session.moved_at)
}

/// A session by its name, where only the slots may be borrowed.
fn peek<C>(slots: &[Slot<C>], id: TransferId) -> Option<&Session<C>> {
    let slot = slots.get(id.index as usize)?;
    slot.session.as_ref().filter(|_| slot.generation == id.generation)
}

#[derive(Debug)]
struct Slot<C> {
    generation: u32,
    session: Option<Session<C>>,
}

impl<C> Slot<C> {
    fn session(&mut self, id: TransferId) -> Option<&mut Session<C>> {
        self.session.as_mut().filter(|_| self.generation == id.generation)
    }
}
