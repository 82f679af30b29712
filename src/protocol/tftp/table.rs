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
pub use super::local::LocalAddress;
pub use super::outcome::{TransferFailure, TransferOutcome};

use self::line::SessionQueue;
use self::session::{ClientSession, SessionStage};
use self::stillest::StillestTransfers;
use super::keyed::KeyedHasherBuilder;
use super::limits::{
    DISTRUST, MTU_DEFAULT, NETWORK_RATE, QUIET_TIMEOUTS, RATE_PLACES, REPLIES_QUEUED_MAX,
    RTO_ASKED_MAX, RTO_MAX, STILL_MIN, TIDS_DEFAULT, TransferLimits, WRONG_TID_INTERVAL,
};
use super::local::is_unicast_address;
use super::options::{NegotiatedTerms, OptionPolicy, negotiate_options};
use super::packet::{
    ErrorCode, Packet, StoredReadRequest, TftpRefusal, parse_tftp_packet, write_error,
};
use super::sources::{RateBuckets, SourceTable, find_rate_place, find_source_network};
use super::timers::TimerHeap;
use super::transfer::{
    AckEffect, DataBlockRun, NextTransmit, TimeoutEffect, Transfer, TransferTally,
};
use super::{NEVER, Tick};
use crate::model::network::NetworkSet;
use crate::model::random::{SeededRandom, mix_bits};

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpPolicy {
    /// Of the way to the clients, bytes; blocks are cut to fit without fragments (T-17).
    pub mtu: u16,
    pub options: OptionPolicy,
    /// TID sockets of the engine, numbered from 0. None at all = single-port mode: every answer
    /// leaves from the listening socket (T-47).
    pub tids: u16,
    pub limits: TransferLimits,
    /// Blocks that may leave for one transfer in a millisecond; 0 = a whole window at once (T-40).
    /// Firmware runs one transfer at a time.
    pub packets_per_ms: u16,
    /// Off for `--root` without a configuration. Never applied to loopback (T-65).
    pub per_address_limits: bool,
    /// Who is served; empty = everybody. Loopback always is (T-65).
    pub serve: NetworkSet,
}

impl Default for TftpPolicy {
    fn default() -> Self {
        Self {
            mtu: MTU_DEFAULT,
            options: OptionPolicy::default(),
            tids: TIDS_DEFAULT,
            limits: TransferLimits::default(),
            packets_per_ms: 0,
            per_address_limits: true,
            serve: NetworkSet::default(),
        }
    }
}

/// What the engine is to do.
///
/// `tid`: the socket to send from; None = the listening socket, in single-port mode only.
#[derive(Debug)]
pub enum TableAction<'a, C> {
    /// Find the file and call [`TransferTable::opened`].
    Open { id: TransferId, peer: SocketAddr, local: LocalAddress, request: &'a StoredReadRequest },
    /// Send blocks `first`, `first + 1`, … (modulo 65536), each `block_size` bytes of `bytes`, the
    /// last one of the transfer shorter or empty. One action is one window. What can't leave now
    /// goes back by [`TransferTable::unsent`].
    Blocks {
        id: TransferId,
        peer: SocketAddr,
        local: LocalAddress,
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
    /// Send these bytes: an OACK or an ERROR. `turned_away`: the ERROR is the answer to a datagram
    /// that began nothing.
    Datagram {
        peer: SocketAddr,
        local: LocalAddress,
        tid: Option<u16>,
        bytes: &'a [u8],
        turned_away: Option<TftpRefusal>,
    },
    /// The transfer is over. The content comes back, so that a core need not be the one to free it.
    Ended {
        id: TransferId,
        peer: SocketAddr,
        outcome: TransferOutcome,
        name: &'a [u8],
        /// The request had a `tsize`.
        size_asked: bool,
        /// What was agreed; None = there was no file to agree on.
        terms: Option<NegotiatedTerms>,
        started: Tick,
        tally: TransferTally,
        content: Option<C>,
    },
}

/// A transfer that is not over, for whoever looks at the table.
#[derive(Debug)]
pub struct TransferView<'a, C> {
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
pub struct TableCounts {
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
pub struct TransferTable<C> {
    policy: TftpPolicy,
    random: SeededRandom,
    slots: Vec<SessionSlot<C>>,
    free: Vec<u32>,
    keys: HashMap<SessionKey, TransferId, KeyedHasherBuilder>,
    timers: TimerHeap<TransferId>,
    /// Sessions that may have something for [`Self::poll`], each at most once.
    ready: VecDeque<TransferId>,
    replies: VecDeque<ErrorReply>,
    sources: SourceTable,
    request_rates: RateBuckets,
    network_rates: RateBuckets,
    wrong_tid_rates: RateBuckets,
    /// Until when an address is distrusted, by a hash of it (T-64).
    distrusted: Box<[Tick]>,
    /// Sessions with a TID and not yet over.
    transfers: usize,
    waiting: usize,
    unconfirmed: SessionQueue,
    stillest: StillestTransfers,
    quiet: SessionQueue,
    /// The TID last used for an endpoint, by a hash of it (T-46).
    last_tids: Box<[u16]>,
    seed: u64,
    counts: TableCounts,
    /// The datagram that [`TableAction::Datagram`] shows.
    datagram: Vec<u8>,
    /// The request whose name [`TableAction::Ended`] shows.
    ended: StoredReadRequest,
}

impl<C> TransferTable<C> {
    pub fn new(policy: TftpPolicy, seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let limits = policy.limits;
        Self {
            request_rates: RateBuckets::per_second(
                limits.requests_per_second_max,
                limits.requests_burst_max,
                random.next_number(),
            ),
            network_rates: RateBuckets::per_second(
                limits.requests_per_second_max.saturating_mul(NETWORK_RATE),
                limits.requests_burst_max.saturating_mul(NETWORK_RATE),
                mix_bits(seed),
            ),
            wrong_tid_rates: RateBuckets::new(WRONG_TID_INTERVAL, 1, random.next_number()),
            distrusted: vec![0; RATE_PLACES].into(),
            seed: random.next_number(),
            policy,
            random,
            slots: Vec::new(),
            free: Vec::new(),
            keys: HashMap::with_hasher(KeyedHasherBuilder::new(&mut random)),
            timers: TimerHeap::default(),
            ready: VecDeque::new(),
            replies: VecDeque::new(),
            sources: SourceTable::default(),
            transfers: 0,
            waiting: 0,
            unconfirmed: SessionQueue::default(),
            stillest: StillestTransfers::default(),
            quiet: SessionQueue::default(),
            last_tids: vec![u16::MAX; RATE_PLACES].into(),
            counts: TableCounts::default(),
            datagram: Vec::with_capacity(1024),
            ended: StoredReadRequest::default(),
        }
    }

    /// A datagram at the listening port. `broadcast`: it was sent to a broadcast or multicast
    /// address, and is dropped (T-9).
    pub fn handle_listen(
        &mut self,
        now: Tick,
        peer: SocketAddr,
        local: LocalAddress,
        broadcast: bool,
        bytes: &[u8],
    ) {
        if broadcast || !is_unicast_address(local.address) || !self.serves(peer) {
            self.counts.not_served += 1;
            return;
        }
        match parse_tftp_packet(bytes) {
            Some(Packet::Read(Ok(asked))) => self.handle_request(now, peer, local, &asked),
            Some(Packet::Read(Err(refusal))) => self.turn_away(now, peer, local, refusal),
            Some(Packet::Write) => self.turn_away(now, peer, local, TftpRefusal::ACCESS_VIOLATION),
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
        local: LocalAddress,
        bytes: &[u8],
    ) {
        let Some(packet) = parse_tftp_packet(bytes) else { return };
        match self.find(peer, Some(tid)) {
            Some(id) => self.handle_session_packet(now, id, packet),
            None if matches!(packet, Packet::Ack { .. } | Packet::Data { .. }) => {
                self.notice_guess(now, peer);
                self.answer_wrong_tid(now, tid, peer, local);
            }
            None => (),
        }
    }

    /// Options for this client alone (T-20, T-23), in place of [`TftpPolicy::options`]. Call it
    /// before [`Self::opened`].
    pub fn restrict(&mut self, id: TransferId, options: OptionPolicy) {
        if let Some(peer) = self.session_mut(id).map(|session| session.peer) {
            let options = self.fit(options, peer);
            if let Some(session) = self.session_mut(id) {
                session.options = options;
            }
        }
    }

    /// The answer to [`TableAction::Open`]: the content and its length in octets (for netascii: of
    /// the translated bytes). Content that comes too late for its transfer is handed back.
    #[must_use = "content of a transfer that has ended meanwhile comes back"]
    pub fn opened(
        &mut self,
        now: Tick,
        id: TransferId,
        answer: Result<(C, u64), TftpRefusal>,
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
        if !matches!(session.stage, SessionStage::Opening) {
            return answer.ok().map(|(content, _)| content);
        }
        match answer {
            Ok((content, len)) => {
                if is_distrusted {
                    session.options.window_max = 1;
                }
                let terms = negotiate_options(
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
                session.stage = SessionStage::Running(Box::new(transfer));
                self.settle(id);
            }
            Err(refusal) => {
                self.end(now, id, TransferOutcome::Refused { code: refusal.code }, Some(refusal))
            }
        }
        None
    }

    /// Of the blocks that the last [`TableAction::Blocks`] of `id` named, only the first `blocks`
    /// were sent: the rest is not resident, or the send queue is full. Call it before anything else
    /// for this transfer. The transfer is parked, and its timers with it, until [`Self::resume`];
    /// after `limits::PARKED_MAX` it fails.
    pub fn unsent(&mut self, now: Tick, id: TransferId, blocks: u32) {
        if let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.unsent(now, blocks);
            self.settle(id);
        }
    }

    /// What was parked can go on.
    pub fn resume(&mut self, id: TransferId) {
        if let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.resume();
            self.settle(id);
        }
    }

    /// The content can't be sent any more; the client gets ERROR 0 (T-31).
    pub fn failed(&mut self, now: Tick, id: TransferId, why: TransferFailure) {
        if self.session_mut(id).is_some_and(|session| session.is_live()) {
            self.end(now, id, TransferOutcome::Failed(why), Some(TftpRefusal::INTERNAL));
        }
    }

    /// From now on requests of these networks are answered; none = of all (T-65). Transfers that
    /// run go on.
    pub fn serve_only(&mut self, networks: NetworkSet) {
        self.policy.serve = networks;
    }

    /// There is no answer to an `TableAction::Open` now: the request is forgotten without a word,
    /// and its repetition is a new one.
    pub fn forget(&mut self, now: Tick, id: TransferId) {
        if self
            .session_mut(id)
            .is_some_and(|session| matches!(session.stage, SessionStage::Opening))
        {
            self.end(now, id, TransferOutcome::NeverBegun, None);
        }
    }

    /// Who asked for a transfer that has not ended.
    pub fn peer(&self, id: TransferId) -> Option<SocketAddr> {
        Some(peek_session(&self.slots, id)?.peer)
    }

    /// The content of a transfer that has not ended.
    pub fn content(&self, id: TransferId) -> Option<&C> {
        peek_session(&self.slots, id)?.content.as_ref()
    }

    pub fn content_mut(&mut self, id: TransferId) -> Option<&mut C> {
        self.session_mut(id)?.content.as_mut()
    }

    /// The content turned out to have so many bytes. Only where no more has left than the first
    /// block without options, and the length was not told.
    pub fn set_len(&mut self, id: TransferId, len: u64) {
        if let Some(session) = self.session_mut(id)
            && let SessionStage::Running(transfer) = &mut session.stage
        {
            session.len = len;
            transfer.set_len(len);
        }
    }

    /// Its client has answered.
    pub fn is_confirmed(&self, id: TransferId) -> bool {
        peek_session(&self.slots, id).is_some_and(|session| !session.unconfirmed)
    }

    /// Ends the confirmed transfer that has stood still longest, if that is longer than one
    /// packet's loss explains: files or memory are short (T-65).
    pub fn displace_stillest(&mut self, now: Tick) -> bool {
        let slots = &self.slots;
        let Some((moved_at, id)) = self.stillest.longest(|id| find_last_progress(slots, id)) else {
            return false;
        };
        if moved_at + STILL_MIN > now {
            return false;
        }
        self.counts.displaced += 1;
        self.finish(id, TransferOutcome::Displaced, None);
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

    pub fn counts(&self) -> &TableCounts {
        &self.counts
    }

    /// All transfers that are not over.
    pub fn sights(&self) -> impl Iterator<Item = TransferView<'_, C>> {
        let live = self
            .slots
            .iter()
            .filter_map(|slot| slot.session.as_ref())
            .filter(|session| session.is_live());
        live.map(|session| TransferView {
            peer: session.peer,
            name: session.request.name(),
            content: session.content.as_ref(),
            started: session.started,
            moved_at: session.moved_at,
            block: match &session.stage {
                SessionStage::Running(transfer) => Some(transfer.position()),
                _ => None,
            },
        })
    }

    /// The next thing to do; call it until None.
    pub fn poll(&mut self, now: Tick) -> Option<TableAction<'_, C>> {
        if let Some(reply) = self.replies.pop_front() {
            write_error(&mut self.datagram, reply.refusal);
            return Some(TableAction::Datagram {
                peer: reply.peer,
                local: reply.local,
                tid: reply.tid,
                bytes: &self.datagram,
                turned_away: Some(reply.refusal),
            });
        }
        let (id, step) = self.next_step(now)?;
        if let SessionStep::End(outcome, tally) = step {
            return self.retire(now, id, outcome, tally);
        }
        let session = peek_session(&self.slots, id)?;
        let ClientSession { peer, local, tid, .. } = *session;
        match step {
            SessionStep::Open => {
                Some(TableAction::Open { id, peer, local, request: &session.request })
            }
            SessionStep::Oack => {
                let request = &session.request;
                negotiate_options(
                    request.options(),
                    &session.options,
                    request.mode(),
                    session.len,
                    &mut self.datagram,
                );
                Some(TableAction::Datagram {
                    peer,
                    local,
                    tid,
                    bytes: &self.datagram,
                    turned_away: None,
                })
            }
            SessionStep::Error(refusal) => {
                write_error(&mut self.datagram, refusal);
                Some(TableAction::Datagram {
                    peer,
                    local,
                    tid,
                    bytes: &self.datagram,
                    turned_away: None,
                })
            }
            SessionStep::Blocks(DataBlockRun { first, blocks, block_size, bytes, last }) => {
                let content = session.content.as_ref()?;
                Some(TableAction::Blocks {
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
            SessionStep::End(..) => None,
        }
    }

    fn handle_session_packet(&mut self, now: Tick, id: TransferId, packet: Packet<'_>) {
        let Some(session) = self.session_mut(id) else { return };
        match (&mut session.stage, packet) {
            (SessionStage::Running(transfer), Packet::Ack { block }) => {
                match transfer.handle_ack(now, block) {
                    AckEffect::Done => self.end(now, id, TransferOutcome::Complete, None),
                    AckEffect::Moved => {
                        session.moved_at = now;
                        if std::mem::replace(&mut session.unconfirmed, false) {
                            self.confirmed(now, id);
                        }
                        self.settle(id);
                    }
                    AckEffect::Nothing => {
                        let deadline = transfer.deadline();
                        self.set_alarm(id, deadline);
                    }
                }
            }
            (SessionStage::Running(_) | SessionStage::Opening, Packet::Error { code, .. }) => {
                let probe = session.unconfirmed
                    && (code == ErrorCode::OptionsRefused as u16
                        || code == ErrorCode::Undefined as u16);
                self.end(
                    now,
                    id,
                    if probe {
                        TransferOutcome::SizeProbe
                    } else {
                        TransferOutcome::Aborted { code }
                    },
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
        self.stillest.enter(now, id, |id| find_last_progress(slots, id));
        let Some(peer) = self.peer(id) else { return };
        if self.distrusts(now, peer)
            && let Some(SessionStage::Running(transfer)) =
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
        let is_proven =
            matches!(&session.stage, SessionStage::Running(transfer) if transfer.is_proven());
        let place = self.distrust_place(peer);
        self.distrusted[place] = now + DISTRUST;
        if !is_proven {
            self.counts.guessed += 1;
            self.end(now, id, TransferOutcome::Guessed, None);
        }
    }

    fn distrusts(&self, now: Tick, peer: SocketAddr) -> bool {
        now < self.distrusted[self.distrust_place(peer)]
    }

    fn distrust_place(&self, peer: SocketAddr) -> usize {
        find_rate_place(peer.ip().to_canonical(), self.seed, self.distrusted.len())
    }

    fn handle_alarm(&mut self, now: Tick, id: TransferId) {
        let Some(session) = self.session_mut(id) else { return };
        match &mut session.stage {
            SessionStage::Waiting if now >= session.forget_at => {
                self.end(now, id, TransferOutcome::NeverBegun, None)
            }
            SessionStage::Waiting => {
                let (forget_at, peer) = (session.forget_at, session.peer);
                self.set_alarm(id, forget_at);
                if let Some(address) = self.limited_address(peer) {
                    self.begin_waiting(now, address);
                }
            }
            SessionStage::Opening => self.failed(now, id, TransferFailure::NotOpened),
            SessionStage::Running(transfer) => match transfer.handle_timeout(now) {
                TimeoutEffect::Again | TimeoutEffect::Early => self.settle(id),
                TimeoutEffect::LastAckMissing => {
                    self.end(now, id, TransferOutcome::CompleteWithoutLastAck, None)
                }
                // A forged address gets no more than its share (T-64), a client that was there
                // learns of it (T-42).
                TimeoutEffect::GaveUp => {
                    let gone = TftpRefusal { code: ErrorCode::Undefined, text: "Timed out" };
                    let told = transfer.confirmed().then_some(gone);
                    self.end(now, id, TransferOutcome::GaveUp, told);
                }
                TimeoutEffect::Stalled => self.failed(now, id, TransferFailure::OutOfReach),
            },
            SessionStage::Ending { .. } => (),
            SessionStage::Quiet => self.remove(id),
        }
    }

    fn answer_wrong_tid(&mut self, now: Tick, tid: u16, peer: SocketAddr, local: LocalAddress) {
        let address = peer.ip().to_canonical();
        if !self.serves(peer)
            || self
                .wrong_tid_rates
                .take(now, find_source_network(address).unwrap_or(address))
                .is_err()
        {
            return;
        }
        self.counts.wrong_tid += 1;
        let refusal = TftpRefusal { code: ErrorCode::UnknownTid, text: "Unknown transfer ID" };
        self.reply(ErrorReply { peer, local, tid: Some(tid), refusal });
    }

    fn reply(&mut self, reply: ErrorReply) {
        if self.replies.len() >= REPLIES_QUEUED_MAX {
            self.counts.dropped += 1;
            return;
        }
        self.replies.push_back(reply);
    }

    /// After an event of a running transfer: its timer, and its turn in `poll`.
    fn settle(&mut self, id: TransferId) {
        let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        else {
            return;
        };
        let deadline = transfer.deadline();
        self.set_alarm(id, deadline);
        self.make_ready(id);
    }

    /// The next session with something to do, and what.
    fn next_step(&mut self, now: Tick) -> Option<(TransferId, SessionStep)> {
        while let Some(id) = self.ready.pop_front() {
            let Some(session) =
                self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
            else {
                continue;
            };
            session.ready = false;
            match &mut session.stage {
                // Once: nothing else makes it ready before its answer.
                SessionStage::Opening => return Some((id, SessionStep::Open)),
                SessionStage::Running(transfer) => {
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
                            NextTransmit::Oack => SessionStep::Oack,
                            NextTransmit::Blocks(blocks) => SessionStep::Blocks(blocks),
                        },
                    ));
                }
                SessionStage::Ending { error, outcome, tally } => {
                    let step =
                        error.take().map_or(SessionStep::End(*outcome, *tally), SessionStep::Error);
                    if matches!(step, SessionStep::Error(_)) {
                        session.ready = true;
                        self.ready.push_front(id);
                    }
                    return Some((id, step));
                }
                SessionStage::Waiting | SessionStage::Quiet => (),
            }
        }
        None
    }

    // --- endings ---

    /// Session `id` is over; `poll` will send `error` and then tell the engine. Whoever waits for
    /// its place begins.
    fn end(
        &mut self,
        now: Tick,
        id: TransferId,
        outcome: TransferOutcome,
        error: Option<TftpRefusal>,
    ) {
        if let Some(address) = self.finish(id, outcome, error) {
            self.begin_waiting(now, address);
        }
    }

    /// [`Self::end`] without its last step: gives the address that has a place now.
    fn finish(
        &mut self,
        id: TransferId,
        outcome: TransferOutcome,
        error: Option<TftpRefusal>,
    ) -> Option<IpAddr> {
        let session = self.session_mut(id).filter(|session| session.is_live())?;
        let peer = session.peer;
        let waited = matches!(session.stage, SessionStage::Waiting);
        let mut tally = TransferTally::default();
        if let SessionStage::Running(transfer) = &mut session.stage {
            let rto =
                transfer.rto().min(if transfer.confirmed() { RTO_ASKED_MAX } else { RTO_MAX });
            session.quiet_for = QUIET_TIMEOUTS * rto;
            tally = transfer.tally();
        }
        session.stage = SessionStage::Ending { outcome, error, tally };
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
        outcome: TransferOutcome,
        tally: TransferTally,
    ) -> Option<TableAction<'_, C>> {
        let session = self.session_mut(id)?;
        let (peer, started, quiet_for, terms) =
            (session.peer, session.started, session.quiet_for, session.terms);
        let content = session.content.take();
        let request = std::mem::take(&mut session.request);
        if quiet_for > 0 {
            session.stage = SessionStage::Quiet;
            self.set_alarm(id, now + quiet_for);
            self.enter_quiet(id);
        } else {
            self.remove(id);
        }
        self.ended = request;
        let (name, size_asked) = (self.ended.name(), self.ended.asks_size());
        Some(TableAction::Ended {
            id,
            peer,
            outcome,
            name,
            size_asked,
            terms,
            started,
            tally,
            content,
        })
    }

    fn enter_quiet(&mut self, id: TransferId) {
        let slots = &self.slots;
        let quiet = |id| {
            peek_session(slots, id)
                .is_some_and(|session| matches!(session.stage, SessionStage::Quiet))
        };
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
        if matches!(session.stage, SessionStage::Quiet) {
            self.quiet.leave();
        }
        // A later session of this endpoint may have taken the key over.
        for key in [
            SessionKey::endpoint(session.peer),
            SessionKey { peer: session.peer, tid: session.tid },
        ] {
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
    }

    // --- small change ---

    fn find(&self, peer: SocketAddr, tid: Option<u16>) -> Option<TransferId> {
        self.keys.get(&SessionKey { peer, tid }).copied()
    }

    fn session_mut(&mut self, id: TransferId) -> Option<&mut ClientSession<C>> {
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
struct SessionKey {
    peer: SocketAddr,
    tid: Option<u16>,
}

impl Hash for SessionKey {
    /// Always the same number of words, for [`KeyedHasherBuilder`].
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

impl SessionKey {
    fn endpoint(peer: SocketAddr) -> Self {
        Self { peer, tid: None }
    }
}

/// An ERROR to somebody without a session.
#[derive(Clone, Copy, Debug)]
struct ErrorReply {
    peer: SocketAddr,
    local: LocalAddress,
    tid: Option<u16>,
    refusal: TftpRefusal,
}

/// What a session does in its turn.
enum SessionStep {
    Open,
    Oack,
    Blocks(DataBlockRun),
    Error(TftpRefusal),
    End(TransferOutcome, TransferTally),
}

/// The last progress of a transfer that is confirmed and not over.
fn find_last_progress<C>(slots: &[SessionSlot<C>], id: TransferId) -> Option<Tick> {
    let session = peek_session(slots, id).filter(|session| !session.unconfirmed)?;
    matches!(session.stage, SessionStage::Running(_)).then_some(session.moved_at)
}

/// A session by its name, where only the slots may be borrowed.
fn peek_session<C>(slots: &[SessionSlot<C>], id: TransferId) -> Option<&ClientSession<C>> {
    let slot = slots.get(id.index as usize)?;
    slot.session.as_ref().filter(|_| slot.generation == id.generation)
}

#[derive(Debug)]
struct SessionSlot<C> {
    generation: u32,
    session: Option<ClientSession<C>>,
}

impl<C> SessionSlot<C> {
    fn session(&mut self, id: TransferId) -> Option<&mut ClientSession<C>> {
        self.session.as_mut().filter(|_| self.generation == id.generation)
    }
}
