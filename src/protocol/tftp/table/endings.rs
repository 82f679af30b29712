//! How sessions end: the ERROR for the client, the report for the engine, the time that a session
//! stays.

use std::net::IpAddr;

use super::super::NEVER;
use super::super::Tick;
use super::super::id::TransferId;
use super::super::limits::{QUIET_TIMEOUTS, RTO_ASKED_MAX, RTO_MAX, STILL_MIN};
use super::super::outcome::TransferOutcome;
use super::super::packet::TftpRefusal;
use super::super::transfer::TransferTally;
use super::TransferTable;
use super::action::{EndedTransfer, TableAction};
use super::session::SessionStage;
use super::slots::{SessionKey, find_last_progress, peek_session};

impl<C> TransferTable<C> {
    /// Ends the confirmed transfer that has stood still longest, if that is longer than one
    /// packet's loss explains: files or memory are short (T-65).
    pub fn displace_stillest(&mut self, now: Tick) -> bool {
        let slots = &self.slots;
        let Some((moved_at, id)) = self.stillest.find_stillest(|id| find_last_progress(slots, id))
        else {
            return false;
        };
        if moved_at + STILL_MIN > now {
            return false;
        }
        self.counts.displaced += 1;
        self.mark_ended(now, id, TransferOutcome::Displaced, None);
        true
    }

    /// Ends the transfer of an address with limits whose client has been silent for the longest
    /// time, if a request of the address waits and that is longer than one packet's loss explains:
    /// its machine was reset, or its ERROR was lost (K-11). The longest waiting request begins.
    pub(super) fn displace_silent(&mut self, now: Tick, address: IpAddr) {
        if self.sources.is_full(address, &self.policy.limits)
            && let Some((since, id)) = self.find_silent(address)
            && since + STILL_MIN <= now
        {
            self.counts.displaced += 1;
            self.end_session(now, id, TransferOutcome::Displaced, None);
        }
    }

    /// When [`Self::displace_silent`] can end a transfer of this address at the earliest.
    pub(super) fn next_displacement(&self, now: Tick, address: IpAddr) -> Tick {
        self.find_silent(address).map_or(NEVER, |(since, _)| (since + STILL_MIN).max(now + 1))
    }

    /// The transfer of an address whose client has been silent for the longest time, and since
    /// when.
    fn find_silent(&self, address: IpAddr) -> Option<(Tick, TransferId)> {
        let transfers = self.sources.list_transfers(address).iter();
        let silent = transfers.filter_map(|id| {
            let session = peek_session(&self.slots, *id)?;
            match &session.stage {
                // A parked transfer waits for the server's disk.
                SessionStage::Running(transfer) if !transfer.is_parked() => {
                    Some((session.moved_at, *id))
                }
                _ => None,
            }
        });
        silent.min()
    }

    // --- endings ---

    /// Ends session `id`; `poll` sends `error` and then reports the end to the engine. A request
    /// that waits for the place begins.
    pub(super) fn end_session(
        &mut self,
        now: Tick,
        id: TransferId,
        outcome: TransferOutcome,
        error: Option<TftpRefusal>,
    ) {
        if let Some(address) = self.mark_ended(now, id, outcome, error) {
            self.begin_waiting(now, address);
        }
    }

    /// [`Self::end_session`] without its last step: returns the address that has a free place now.
    pub(super) fn mark_ended(
        &mut self,
        now: Tick,
        id: TransferId,
        outcome: TransferOutcome,
        error: Option<TftpRefusal>,
    ) -> Option<IpAddr> {
        let session = self.session_mut(id).filter(|session| session.is_live())?;
        let peer = session.peer;
        let waited = matches!(session.stage, SessionStage::Waiting);

        // A transfer that ran swallows late packets for two of its own intervals.
        let mut tally = TransferTally::default();
        if let SessionStage::Running(transfer) = &mut session.stage {
            let rto =
                transfer.rto().min(if transfer.is_confirmed() { RTO_ASKED_MAX } else { RTO_MAX });
            session.quiet_for = QUIET_TIMEOUTS * rto;
            tally = transfer.tally();
        }

        session.stage = SessionStage::Ending { outcome, error, tally };
        let counted = session.counted.take();
        let place = session.place.take();
        if std::mem::replace(&mut session.unconfirmed, false) {
            self.unconfirmed.count_out();
        }
        if let Some(place) = place {
            self.order.leave(now, id, peer.ip().to_canonical(), place);
        }
        self.set_alarm(id, NEVER);
        self.make_ready(id);

        // A waiting request had no place, but the next one of its address may begin now.
        if waited {
            self.waiting -= 1;
            return self.limited_address(peer);
        }
        self.transfers -= 1;
        if let Some(address) = counted {
            self.sources.uncount_transfer(address, id);
        }
        counted
    }

    /// Reports the end of session `id` to the engine. A session that was running stays for a while,
    /// to swallow late packets of its client (T-32).
    pub(super) fn report_end(
        &mut self,
        now: Tick,
        id: TransferId,
        outcome: TransferOutcome,
        tally: TransferTally,
    ) -> Option<TableAction<'_, C>> {
        let session = self.session_mut(id)?;
        let quiet_for = session.quiet_for;
        let end = EndedTransfer {
            id,
            peer: session.peer,
            outcome,
            terms: session.terms,
            size_asked: session.request.asks_size(),
            duration: now.saturating_sub(session.started),
            tally,
        };
        let content = session.content.take();
        let request = std::mem::take(&mut session.request);

        // A session that never ran has sent no block, so no late ACK can come.
        if quiet_for > 0 {
            session.stage = SessionStage::Quiet;
            self.set_alarm(id, now + quiet_for);
            self.enter_quiet(id);
        } else {
            self.remove_session(id);
        }

        // The action borrows the name from the table, because the session may be gone.
        self.ended = request;
        Some(TableAction::Ended { end, name: self.ended.name(), content })
    }

    pub(super) fn enter_quiet(&mut self, id: TransferId) {
        let slots = &self.slots;
        let quiet = |id| {
            peek_session(slots, id)
                .is_some_and(|session| matches!(session.stage, SessionStage::Quiet))
        };
        self.quiet.push(id, quiet);
        if self.quiet.count <= self.policy.limits.quiet_max {
            return;
        }
        let oldest = self.quiet.pop_oldest(quiet);
        if let Some(oldest) = oldest {
            self.remove_session(oldest);
        }
    }

    pub(super) fn remove_session(&mut self, id: TransferId) {
        let Some(slot) =
            self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
        else {
            return;
        };
        let Some(session) = slot.session.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        if matches!(session.stage, SessionStage::Quiet) {
            self.quiet.count_out();
        }
        // A later session of this endpoint may own the key now.
        for key in [
            SessionKey::endpoint(session.peer),
            SessionKey { peer: session.peer, tid: session.tid },
        ] {
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
    }
}
