//! From a request to a session: repetitions, replacements, limits, and the choice of a TID.

use std::net::{IpAddr, SocketAddr};

use super::super::Tick;
use super::super::id::TransferId;
use super::super::limits::{
    OPENING_MAX, OVERHEAD_V4, OVERHEAD_V6, REQUEST_COPY_GRACE, WAITING_MAX,
};
use super::super::local::LocalAddress;
use super::super::options::OptionPolicy;
use super::super::outcome::TransferOutcome;
use super::super::packet::{ReadRequest, StoredReadRequest};
use super::super::sources::{find_rate_place, find_source_network};
use super::TransferTable;
use super::session::{ClientSession, SessionStage};
use super::slots::{SessionKey, SessionSlot, peek_session};

impl<C> TransferTable<C> {
    pub(super) fn handle_request(
        &mut self,
        now: Tick,
        peer: SocketAddr,
        local: LocalAddress,
        asked: &ReadRequest<'_>,
    ) {
        self.counts.requests += 1;
        if let Some(id) = self.keys.get(&SessionKey::endpoint(peer)).copied() {
            if self.is_repeat(now, id, asked) {
                self.counts.repeated += 1;
                return;
            }
            self.replace_session(now, id);
        }

        // A new request: check the share of its source first, so that it displaces no other client
        // in vain.
        let source = peer.ip().to_canonical();
        if self.sources.has_its_share(source, &self.policy.limits) || !self.make_room(now) {
            self.counts.dropped += 1;
            return;
        }
        match self.limited_address(peer) {
            Some(address) => self.admit_request(now, address, peer, local, asked),
            None => {
                let id = self.insert_session(now, peer, local, asked);
                self.begin_session(now, id);
            }
        }
    }

    /// Whether one more transfer finds a place. A full table ends the confirmed transfer that made
    /// no progress for the longest time, if the loss of one packet does not explain that time
    /// (T-65).
    fn make_room(&mut self, now: Tick) -> bool {
        if self.transfers < self.policy.limits.transfers_max {
            return true;
        }
        self.counts.full += 1;
        self.displace_stillest(now)
    }

    /// Whether `asked` repeats the request of session `id` (T-49). If so, handles it.
    fn is_repeat(&mut self, now: Tick, id: TransferId, asked: &ReadRequest<'_>) -> bool {
        let Some(session) =
            self.session_mut(id).filter(|session| session.request.is_repeated_by(asked))
        else {
            return false;
        };
        let address = session.peer.ip().to_canonical();
        match &mut session.stage {
            // The client still wants the file, so it keeps its place.
            SessionStage::Waiting => {
                session.forget_at = now + WAITING_MAX;
                self.begin_waiting(now, address);
                true
            }
            SessionStage::Opening => true,
            SessionStage::Running(transfer) if transfer.is_confirmed() => {
                now < session.moved_at + REQUEST_COPY_GRACE
            }
            SessionStage::Running(transfer) => {
                if transfer.handle_repeated_request() {
                    self.schedule_session(id);
                }
                true
            }
            SessionStage::Ending { .. } | SessionStage::Quiet => false,
        }
    }

    /// Ends session `id`, whose endpoint has sent another request and so dropped this transfer
    /// (T-50).
    fn replace_session(&mut self, now: Tick, id: TransferId) {
        let Some(session) = self.session_mut(id).filter(|session| session.is_live()) else {
            return;
        };
        let whole =
            matches!(&session.stage, SessionStage::Running(transfer) if transfer.is_sent_whole());
        self.end_session(
            now,
            id,
            if whole { TransferOutcome::CompleteWithoutLastAck } else { TransferOutcome::Replaced },
            None,
        );
    }

    /// Handles a request from an address with limits: begins, queues or drops it (T-65).
    fn admit_request(
        &mut self,
        now: Tick,
        address: IpAddr,
        peer: SocketAddr,
        local: LocalAddress,
        asked: &ReadRequest<'_>,
    ) {
        // A request does not overtake waiting ones of its address: it queues behind them.
        if !self.sources.has_room(address, &self.policy.limits) {
            let wake_at = self.next_displacement(now, address).min(now + WAITING_MAX);
            self.enqueue_request(now, wake_at, peer, local, asked);
            return self.displace_silent(now, address);
        }

        // One host owns a whole IPv6 network, so the rate of one address does not bound it (T-65).
        if find_source_network(address)
            .is_some_and(|network| self.network_rates.take_token(now, network).is_err())
        {
            self.counts.dropped += 1;
            return;
        }

        match self.request_rates.take_token(now, address) {
            Ok(()) => {
                let id = self.insert_session(now, peer, local, asked);
                self.begin_session(now, id);
            }
            Err(free_at) => self.enqueue_request(now, free_at, peer, local, asked),
        }
    }

    fn enqueue_request(
        &mut self,
        now: Tick,
        wake_at: Tick,
        peer: SocketAddr,
        local: LocalAddress,
        asked: &ReadRequest<'_>,
    ) {
        if self.waiting >= self.policy.limits.waiting_max {
            self.counts.dropped += 1;
            return;
        }
        self.counts.waited += 1;
        self.waiting += 1;
        let id = self.insert_session(now, peer, local, asked);
        self.sources.push_waiting(peer.ip().to_canonical(), id);
        self.set_alarm(id, wake_at);
    }

    /// Begins waiting requests of `address`, as far as its limits allow.
    pub(super) fn begin_waiting(&mut self, now: Tick, address: IpAddr) {
        let limits = self.policy.limits;
        loop {
            let slots = &self.slots;
            let waits = |id| {
                peek_session(slots, id)
                    .is_some_and(|session| matches!(session.stage, SessionStage::Waiting))
            };
            let Some(id) = self.sources.next_waiting(address, &limits, waits) else { return };
            if self.transfers >= limits.transfers_max {
                return;
            }
            if let Err(free_at) = self.request_rates.take_token(now, address) {
                return self.set_alarm(id, free_at);
            }
            self.waiting -= 1;
            self.begin_session(now, id);
        }
    }

    fn insert_session(
        &mut self,
        now: Tick,
        peer: SocketAddr,
        local: LocalAddress,
        asked: &ReadRequest<'_>,
    ) -> TransferId {
        let options = self.fit_to_mtu(self.policy.options, peer);
        let session = ClientSession::new(peer, local, StoredReadRequest::from(asked), options, now);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(SessionSlot { generation: 0, session: None });
            // Slots are bounded by the limits, far below 2^32.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let slot = &mut self.slots[index as usize];
        slot.session = Some(session);
        let id = TransferId { index, generation: slot.generation };
        self.keys.insert(SessionKey::endpoint(peer), id);
        id
    }

    /// Gives session `id` a TID and asks the engine for its file.
    fn begin_session(&mut self, now: Tick, id: TransferId) {
        // Sources may be forged, so the number of sessions without an ACK has a bound (T-65).
        self.displace_unconfirmed(now);
        let Some(peer) = self.session_mut(id).map(|session| session.peer) else { return };
        let tid = self.choose_tid(peer);
        let address = peer.ip().to_canonical();

        let Some(session) = self.session_mut(id) else { return };
        session.tid = tid;
        session.stage = SessionStage::Opening;
        session.counted = Some(address);
        session.unconfirmed = true;
        if tid.is_some() {
            self.keys.insert(SessionKey { peer, tid }, id);
        }

        // From here on the session counts; `mark_ended` takes each count back.
        self.sources.count_transfer(address, id);
        self.transfers += 1;
        let slots = &self.slots;
        self.unconfirmed
            .push(id, |id| peek_session(slots, id).is_some_and(|session| session.unconfirmed));
        self.set_alarm(id, now + OPENING_MAX);
        self.make_ready(id);
    }

    /// Makes room for one more unconfirmed session (T-65).
    fn displace_unconfirmed(&mut self, now: Tick) {
        while self.unconfirmed.count >= self.policy.limits.unconfirmed_max.max(1) {
            let slots = &self.slots;
            let oldest = self.unconfirmed.pop_oldest(|id| {
                peek_session(slots, id).is_some_and(|session| session.unconfirmed)
            });
            let Some(oldest) = oldest else { return };
            self.counts.displaced += 1;
            // Do not begin waiting requests of its address here: each would displace the next
            // without end.
            self.mark_ended(now, oldest, TransferOutcome::Displaced, None);
        }
    }

    /// Chooses a random TID that this endpoint did not have last and has no session on (T-46).
    pub(super) fn choose_tid(&mut self, peer: SocketAddr) -> Option<u16> {
        let tids = self.policy.tids;
        if tids == 0 {
            return None;
        }
        let place =
            find_rate_place(peer.ip(), self.seed ^ u64::from(peer.port()), self.last_tids.len());
        let last = self.last_tids[place];
        let start = u16::try_from(self.random.below(u64::from(tids))).unwrap_or(0);
        let in_turn = (0..tids).map(|step| (u32::from(start) + u32::from(step)) % u32::from(tids));
        let mut others =
            in_turn.filter_map(|tid| u16::try_from(tid).ok()).filter(|tid| *tid != last);
        let first = others.clone().next().unwrap_or(start);
        let tid = others
            .find(|tid| !self.keys.contains_key(&SessionKey { peer, tid: Some(*tid) }))
            .unwrap_or(first);
        self.last_tids[place] = tid;
        Some(tid)
    }

    /// Options for `peer`: a block and its headers fit the MTU of the path (T-17).
    pub(super) fn fit_to_mtu(&self, options: OptionPolicy, peer: SocketAddr) -> OptionPolicy {
        let overhead = if peer.ip().to_canonical().is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        OptionPolicy {
            block_size_max: options.block_size_max.min(self.policy.mtu.saturating_sub(overhead)),
            ..options
        }
    }
}
