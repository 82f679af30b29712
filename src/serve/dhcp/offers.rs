//! Offers that wait a moment, in case a host answers the probe for their address (D-36).

use std::net::Ipv4Addr;
use std::time::Instant;

use super::letters::SegmentSign;
use super::messages::ReceivedMessage;
use super::pending_answer::PendingAnswer;
use super::signs::SignSender;
use crate::dhcp::lease::LeaseChange;
use crate::dhcp::limits::PROBE_WAIT_MS;
use crate::dhcp::other_servers::{self as look, MonotonicMillis};
use crate::dhcp::probes::{ConflictProbes, ProbeVerdict};
use crate::dhcp::route::ReplyRoute;
use crate::model::machine::Mac;

/// The offers that wait, each with the message that it answers.
pub(super) struct PendingOffers {
    probes: ConflictProbes<(PendingAnswer, ReceivedMessage)>,
    started: Instant,
    port: u16,
}

impl PendingOffers {
    /// `port`: the server's own. A trial on another port than 67 probes no address.
    pub(super) fn new(port: u16) -> Self {
        Self { probes: ConflictProbes::default(), started: Instant::now(), port }
    }

    fn now(&self) -> MonotonicMillis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(MonotonicMillis::MAX)
    }

    /// Milliseconds until the next offer leaves.
    pub(super) fn next_in_ms(&self) -> Option<MonotonicMillis> {
        self.probes.next_due_ms().map(|at| at.saturating_sub(self.now()))
    }

    /// The next offer whose probe has run out without an answer.
    pub(super) fn take_unanswered(&mut self) -> Option<PendingAnswer> {
        let now = self.now();
        self.probes.pop_due(now).map(|(pending, _)| pending)
    }

    /// Decides on the offers of an address for which a host has answered.
    pub(super) fn take_answer(
        &mut self,
        address: Ipv4Addr,
        host: Option<Mac>,
    ) -> ProbeVerdict<(PendingAnswer, ReceivedMessage)> {
        let now = self.now();
        self.probes.record_answer(address, host, now)
    }

    /// Holds an offer back and has its address probed, unless the address is known to be free. All
    /// other answers come back, and the core sends them at once.
    pub(super) fn hold_back(
        &mut self,
        pending: PendingAnswer,
        message: &ReceivedMessage,
        signs: &SignSender,
    ) -> Option<PendingAnswer> {
        let offered = pending.decision.changes.iter().find_map(|change| match change {
            LeaseChange::Offer { address, .. } => Some(*address),
            _ => None,
        });
        let way = pending.decision.answer.as_ref().map(|answer| match answer.route {
            ReplyRoute::Relay { .. } => None,
            _ => Some(pending.way.interface),
        });
        let (Some(address), Some(interface), Some(client)) = (offered, way, pending.decision.mac)
        else {
            return Some(pending);
        };

        // While a probe runs, a retransmission of the same client replaces the offer that waits.
        let is_unproven =
            pending.decision.unproven.is_some() && !self.probes.is_proven(address, self.now());
        let is_asked =
            is_unproven && self.port == look::PORT && interface != Some(0) && signs.has_listener();
        if !is_asked && !self.probes.is_waiting(address) {
            return Some(pending);
        }

        let held = (pending, message.clone());
        let back = if is_asked {
            let until = self.now().saturating_add(PROBE_WAIT_MS);
            let begun = self.probes.hold_offer(address, client, held, until);
            if begun.is_ok() {
                signs.send_at_once(SegmentSign::Offers { address, interface });
            }
            begun
        } else {
            self.probes.replace_offer(address, client, held)
        };
        back.err().map(|(pending, _)| pending)
    }
}
