//! All transfers of one boot core: who asked, on which port, what leaves next, and what is too
//! much.
//!
//! The engine feeds datagrams in (`handle_listen`, `handle_tid`), wakes the table
//! (`handle_timeouts`) and takes out what to do (`poll`). Nothing here waits and nothing is
//! allocated for a packet; a request costs one allocation.

mod action;
mod endings;
mod line;
mod policy;
mod requests;
mod session;
mod slots;
mod stillest;
mod strangers;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

pub use self::action::{EndedTransfer, TableAction, TableCounts, TransferView, WantedBlocks};
pub use self::policy::TftpPolicy;
pub use super::id::TransferId;
pub use super::local::LocalAddress;
pub use super::outcome::{TransferFailure, TransferOutcome};

use self::line::SessionQueue;
use self::session::{ClientSession, SessionStage};
use self::slots::{SessionKey, SessionSlot, find_last_progress, peek_session};
use self::stillest::StillestTransfers;
use super::Tick;
use super::keyed::KeyedHasherBuilder;
use super::limits::{NETWORK_RATE, RATE_PLACES, WRONG_TID_INTERVAL};
use super::local::is_unicast_address;
use super::options::{OptionPolicy, negotiate_options};
use super::packet::{ErrorCode, Packet, StoredReadRequest, TftpRefusal, parse_tftp_packet};
use super::sources::{RateBuckets, SourceTable};
use super::timers::TimerHeap;
use super::transfer::{AckEffect, TimeoutEffect, Transfer};
use crate::model::network::NetworkSet;
use crate::model::random::{SeededRandom, mix_bits};

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
        if broadcast || !is_unicast_address(local.address) || !self.is_served(peer) {
            self.counts.not_served += 1;
            return;
        }
        match parse_tftp_packet(bytes) {
            Some(Packet::Read(Ok(asked))) => self.handle_request(now, peer, local, &asked),
            Some(Packet::Read(Err(refusal))) => self.turn_away(now, peer, local, refusal),
            Some(Packet::Write) => self.turn_away(now, peer, local, TftpRefusal::ACCESS_VIOLATION),
            Some(packet) if self.policy.tids == 0 => {
                if let Some(id) = self.find_session(peer, None) {
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
        match self.find_session(peer, Some(tid)) {
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
    pub fn restrict_options(&mut self, id: TransferId, options: OptionPolicy) {
        if let Some(peer) = self.session_mut(id).map(|session| session.peer) {
            let options = self.fit_to_mtu(options, peer);
            if let Some(session) = self.session_mut(id) {
                session.options = options;
            }
        }
    }

    /// The answer to [`TableAction::Open`]: the content and its length in octets (for netascii: of
    /// the translated bytes). Content that comes too late for its transfer is handed back.
    #[must_use = "content of a transfer that has ended meanwhile comes back"]
    pub fn finish_open(
        &mut self,
        now: Tick,
        id: TransferId,
        answer: Result<(C, u64), TftpRefusal>,
    ) -> Option<C> {
        let seed = self.random.next_number();
        let is_distrusted = self
            .session_mut(id)
            .map(|session| session.peer)
            .is_some_and(|peer| self.is_distrusted(now, peer));
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
                self.schedule_session(id);
            }
            Err(refusal) => {
                self.end_session(now, id, TransferOutcome::Refused { code: refusal.code }, Some(refusal))
            }
        }
        None
    }

    /// Of the blocks that the last [`TableAction::Blocks`] of `id` named, only the first `blocks`
    /// were sent: the rest is not resident, or the send queue is full. Call it before anything else
    /// for this transfer. The transfer is parked, and its timers with it, until [`Self::resume`];
    /// after `limits::PARKED_MAX` it fails.
    pub fn hand_back_blocks(&mut self, now: Tick, id: TransferId, blocks: u32) {
        if let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.hand_back_blocks(now, blocks);
            self.schedule_session(id);
        }
    }

    /// What was parked can go on.
    pub fn resume(&mut self, id: TransferId) {
        if let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.resume();
            self.schedule_session(id);
        }
    }

    /// The content can't be sent any more; the client gets ERROR 0 (T-31).
    pub fn fail_transfer(&mut self, now: Tick, id: TransferId, why: TransferFailure) {
        if self.session_mut(id).is_some_and(|session| session.is_live()) {
            self.end_session(now, id, TransferOutcome::Failed(why), Some(TftpRefusal::INTERNAL));
        }
    }

    /// From now on requests of these networks are answered; none = of all (T-65). Transfers that
    /// run go on.
    pub fn serve_only(&mut self, networks: NetworkSet) {
        self.policy.serve = networks;
    }

    /// There is no answer to an `TableAction::Open` now: the request is forgotten without a word,
    /// and its repetition is a new one.
    pub fn forget_request(&mut self, now: Tick, id: TransferId) {
        if self
            .session_mut(id)
            .is_some_and(|session| matches!(session.stage, SessionStage::Opening))
        {
            self.end_session(now, id, TransferOutcome::NeverBegun, None);
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
    pub fn iter_transfers(&self) -> impl Iterator<Item = TransferView<'_, C>> {
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

    fn handle_session_packet(&mut self, now: Tick, id: TransferId, packet: Packet<'_>) {
        let Some(session) = self.session_mut(id) else { return };
        match (&mut session.stage, packet) {
            (SessionStage::Running(transfer), Packet::Ack { block }) => {
                match transfer.handle_ack(now, block) {
                    AckEffect::Done => self.end_session(now, id, TransferOutcome::Complete, None),
                    AckEffect::Moved => {
                        session.moved_at = now;
                        if std::mem::replace(&mut session.unconfirmed, false) {
                            self.handle_first_ack(now, id);
                        }
                        self.schedule_session(id);
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
                self.end_session(
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
    fn handle_first_ack(&mut self, now: Tick, id: TransferId) {
        self.unconfirmed.count_out();
        let slots = &self.slots;
        self.stillest.insert(now, id, |id| find_last_progress(slots, id));
        let Some(peer) = self.peer(id) else { return };
        if self.is_distrusted(now, peer)
            && let Some(SessionStage::Running(transfer)) =
                self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.distrust();
        }
    }

    fn handle_alarm(&mut self, now: Tick, id: TransferId) {
        let Some(session) = self.session_mut(id) else { return };
        match &mut session.stage {
            SessionStage::Waiting if now >= session.forget_at => {
                self.end_session(now, id, TransferOutcome::NeverBegun, None)
            }
            SessionStage::Waiting => {
                let (forget_at, peer) = (session.forget_at, session.peer);
                self.set_alarm(id, forget_at);
                if let Some(address) = self.limited_address(peer) {
                    self.begin_waiting(now, address);
                }
            }
            SessionStage::Opening => self.fail_transfer(now, id, TransferFailure::NotOpened),
            SessionStage::Running(transfer) => match transfer.handle_timeout(now) {
                TimeoutEffect::Again | TimeoutEffect::Early => self.schedule_session(id),
                TimeoutEffect::LastAckMissing => {
                    self.end_session(now, id, TransferOutcome::CompleteWithoutLastAck, None)
                }
                // A forged address gets no more than its share (T-64), a client that was there
                // learns of it (T-42).
                TimeoutEffect::GaveUp => {
                    let gone = TftpRefusal { code: ErrorCode::Undefined, text: "Timed out" };
                    let told = transfer.is_confirmed().then_some(gone);
                    self.end_session(now, id, TransferOutcome::GaveUp, told);
                }
                TimeoutEffect::Stalled => self.fail_transfer(now, id, TransferFailure::OutOfReach),
            },
            SessionStage::Ending { .. } => (),
            SessionStage::Quiet => self.remove_session(id),
        }
    }

    /// After an event of a running transfer: its timer, and its turn in `poll`.
    fn schedule_session(&mut self, id: TransferId) {
        let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        else {
            return;
        };
        let deadline = transfer.deadline();
        self.set_alarm(id, deadline);
        self.make_ready(id);
    }

    fn find_session(&self, peer: SocketAddr, tid: Option<u16>) -> Option<TransferId> {
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

/// An ERROR to somebody without a session.
#[derive(Clone, Copy, Debug)]
struct ErrorReply {
    peer: SocketAddr,
    local: LocalAddress,
    tid: Option<u16>,
    refusal: TftpRefusal,
}
