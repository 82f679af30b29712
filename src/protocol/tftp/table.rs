//! All transfers of one boot core: clients, ports, what leaves next, and the limits.
//!
//! The engine passes datagrams in (`handle_listen`, `handle_tid`), wakes the table
//! (`handle_timeouts`) and drains its actions (`poll`). The table never waits and allocates nothing
//! for a packet; a request costs one allocation.

mod action;
mod endings;
mod line;
mod links;
mod order;
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
use self::order::SendOrder;
use self::session::{ClientSession, SessionStage};
use self::slots::{SessionKey, SessionSlot, find_last_progress, peek_session};
use self::stillest::StillestTransfers;
use super::keyed::KeyedHasherBuilder;
use super::limits::{NETWORK_RATE, RATE_PLACES, WRONG_TID_INTERVAL};
use super::local::is_unicast_address;
use super::options::{OptionPolicy, negotiate_options};
use super::packet::{ErrorCode, Packet, StoredReadRequest, TftpRefusal, parse_tftp_packet};
use super::sources::{RateBuckets, SourceTable};
use super::timers::TimerHeap;
use super::transfer::{AckEffect, TimeoutEffect, Transfer};
use super::{NEVER, Tick};
use crate::model::network::NetworkSet;
use crate::model::random::{SeededRandom, mix_bits};

/// The transfers of one core. `C` is the engine's handle of a file: the table keeps it during the
/// transfer and returns it at the end.
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
    /// Until when the table distrusts an address, by a hash of the address (T-64).
    distrusted: Box<[Tick]>,
    /// Sessions that have a TID and have not ended.
    transfers: usize,
    waiting: usize,
    unconfirmed: SessionQueue,
    stillest: StillestTransfers,
    /// Which large transfers go first on a full link.
    order: SendOrder,
    quiet: SessionQueue,
    /// The TID that an endpoint had last, by a hash of the endpoint (T-46).
    last_tids: Box<[u16]>,
    seed: u64,
    counts: TableCounts,
    /// The datagram that [`TableAction::Datagram`] borrows.
    datagram: Vec<u8>,
    /// The request whose name [`TableAction::Ended`] borrows.
    ended: StoredReadRequest,
}

impl<C> TransferTable<C> {
    /// An empty table. `seed` is for jitter, TIDs and hash keys.
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
            order: SendOrder::default(),
            quiet: SessionQueue::default(),
            last_tids: vec![u16::MAX; RATE_PLACES].into(),
            counts: TableCounts::default(),
            datagram: Vec::with_capacity(1024),
            ended: StoredReadRequest::default(),
        }
    }

    /// Handles a datagram at the listening port. `broadcast`: its destination was a broadcast or
    /// multicast address, so the table drops it (T-9).
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
            // In single-port mode the ACKs of a transfer arrive at the listening port too (T-47).
            Some(packet) if self.policy.tids == 0 => {
                if let Some(id) = self.find_session(peer, None) {
                    self.handle_session_packet(now, id, packet);
                }
            }
            _ => self.counts.strays += 1,
        }
    }

    /// Handles a datagram on TID socket number `tid`.
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

    /// Sets the options for this client alone (T-20, T-23), in place of [`TftpPolicy::options`].
    /// Call it before [`Self::finish_open`].
    pub fn restrict_options(&mut self, id: TransferId, options: OptionPolicy) {
        if let Some(peer) = self.session_mut(id).map(|session| session.peer) {
            let options = self.fit_to_mtu(options, peer);
            if let Some(session) = self.session_mut(id) {
                session.options = options;
            }
        }
    }

    /// The engine's answer to [`TableAction::Open`]: the content and its length in bytes (for
    /// netascii: of the translated content). Returns the content if its transfer has already ended.
    #[must_use = "returns the content of a transfer that has already ended"]
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

        // The transfer may have ended while the engine opened the file.
        let Some(session) = self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
        else {
            return answer.ok().map(|(content, _)| content);
        };
        if !matches!(session.stage, SessionStage::Opening) {
            return answer.ok().map(|(content, _)| content);
        }

        match answer {
            Ok((content, len)) => {
                // A guess at transfers of this address costs it its windows (T-64).
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
                session.moved_at = now;
                self.schedule_session(id);
            }
            Err(refusal) => self.end_session(
                now,
                id,
                TransferOutcome::Refused { code: refusal.code },
                Some(refusal),
            ),
        }
        None
    }

    /// Of the blocks in the last [`TableAction::Blocks`] of `id`, the engine sent only the first
    /// `blocks`: the rest is not resident, or the send queue is full. Call it before anything else
    /// for this transfer. The transfer and its timers pause until [`Self::resume`]; after
    /// `limits::PARKED_MAX` the transfer fails.
    pub fn hand_back_blocks(&mut self, now: Tick, id: TransferId, blocks: u32) {
        if let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.hand_back_blocks(now, blocks);
            self.schedule_session(id);
        }
    }

    /// Lets a transfer go on that [`Self::hand_back_blocks`] paused.
    pub fn resume(&mut self, id: TransferId) {
        if let Some(SessionStage::Running(transfer)) =
            self.session_mut(id).map(|session| &mut session.stage)
        {
            transfer.resume();
            self.schedule_session(id);
        }
    }

    /// The engine cannot send the content any more; the client gets ERROR 0 (T-31).
    pub fn fail_transfer(&mut self, now: Tick, id: TransferId, why: TransferFailure) {
        if self.session_mut(id).is_some_and(|session| session.is_live()) {
            self.end_session(now, id, TransferOutcome::Failed(why), Some(TftpRefusal::INTERNAL));
        }
    }

    /// Answers requests from these networks only; an empty set: from all (T-65). Running transfers
    /// go on.
    pub fn serve_only(&mut self, networks: NetworkSet) {
        self.policy.serve = networks;
    }

    /// The engine has no answer to [`TableAction::Open`] now: the table drops the request without a
    /// reply, and takes a repetition for a new request.
    pub fn forget_request(&mut self, now: Tick, id: TransferId) {
        if self
            .session_mut(id)
            .is_some_and(|session| matches!(session.stage, SessionStage::Opening))
        {
            self.end_session(now, id, TransferOutcome::NeverBegun, None);
        }
    }

    /// The client of a transfer that has not ended.
    pub fn peer(&self, id: TransferId) -> Option<SocketAddr> {
        Some(peek_session(&self.slots, id)?.peer)
    }

    /// The content of a transfer that has not ended.
    pub fn content(&self, id: TransferId) -> Option<&C> {
        peek_session(&self.slots, id)?.content.as_ref()
    }

    /// The content of a transfer that has not ended, to change it.
    pub fn content_mut(&mut self, id: TransferId) -> Option<&mut C> {
        self.session_mut(id)?.content.as_mut()
    }

    /// Corrects the length of the content, in bytes. Call it only while no more than the first
    /// block without options has left, and no `tsize` told the client the length.
    pub fn set_len(&mut self, id: TransferId, len: u64) {
        if let Some(session) = self.session_mut(id)
            && let SessionStage::Running(transfer) = &mut session.stage
        {
            session.len = len;
            transfer.set_len(len);
        }
    }

    /// The client of this transfer has sent an ACK.
    pub fn is_confirmed(&self, id: TransferId) -> bool {
        peek_session(&self.slots, id).is_some_and(|session| !session.unconfirmed)
    }

    /// Handles every timer that is due; call it at [`Self::next_timeout`] or earlier.
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

    /// When to call [`Self::handle_timeouts`]; an early call does no harm.
    pub fn next_timeout(&self) -> Option<Tick> {
        self.timers.next()
    }

    /// Transfers that neither have ended nor wait: while there is one, a core may poll without
    /// sleeping.
    pub fn transfers(&self) -> usize {
        self.transfers
    }

    /// Sessions of every kind: transfers, waiting requests, ended transfers that still swallow late
    /// ACKs.
    pub fn sessions(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Counters since the start.
    pub fn counts(&self) -> &TableCounts {
        &self.counts
    }

    /// Every transfer that has not ended.
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
            len: session.len,
            got: match &session.stage {
                SessionStage::Running(transfer) => transfer.count_acked_bytes(),
                _ => 0,
            },
            is_held: session.is_held(),
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
                        if !session.is_held() {
                            self.set_alarm(id, deadline);
                        }
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
            // The transfer has ended: swallow late packets (T-32). A reading client sends no other
            // packet.
            _ => (),
        }
    }

    /// Handles the first ACK of a transfer.
    fn handle_first_ack(&mut self, now: Tick, id: TransferId) {
        self.unconfirmed.count_out();
        let slots = &self.slots;
        self.stillest.insert(now, id, |id| find_last_progress(slots, id));
        self.enter_order(now, id);
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
                let address = self.limited_address(peer);
                let displacement =
                    address.map_or(NEVER, |address| self.next_displacement(now, address));
                self.set_alarm(id, forget_at.min(displacement));
                if let Some(address) = address {
                    self.begin_waiting(now, address);
                    self.displace_silent(now, address);
                }
            }
            SessionStage::Opening => self.fail_transfer(now, id, TransferFailure::NotOpened),
            SessionStage::Running(transfer) => match transfer.handle_timeout(now) {
                TimeoutEffect::Again | TimeoutEffect::Early => self.schedule_session(id),
                TimeoutEffect::LastAckMissing => {
                    self.end_session(now, id, TransferOutcome::CompleteWithoutLastAck, None)
                }
                // A forged address gets no further packet (T-64); a client that has answered gets
                // an ERROR (T-42).
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

    /// After an event of a running transfer: sets its timer and its turn in `poll`.
    fn schedule_session(&mut self, id: TransferId) {
        // A transfer that waits for its turn has its next step ahead, and no timer.
        let Some(SessionStage::Running(transfer)) = self
            .session_mut(id)
            .filter(|session| !session.is_held())
            .map(|session| &mut session.stage)
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

/// An ERROR for a client without a session.
#[derive(Clone, Copy, Debug)]
struct ErrorReply {
    peer: SocketAddr,
    local: LocalAddress,
    tid: Option<u16>,
    refusal: TftpRefusal,
}
