//! Offers that wait a moment, until nobody has answered for their address (D-36).

use std::net::Ipv4Addr;
use std::time::Instant;

use super::letters::SegmentSign;
use super::messages::{ReceivedMessage, WayIn};
use super::signs::SignSender;
use crate::dhcp::decide::Decision;
use crate::dhcp::lease::LeaseChange;
use crate::dhcp::limits::PROBE_WAIT_MS;
use crate::dhcp::other_servers::{self as look, MonotonicMillis};
use crate::dhcp::probes::{ConflictProbes, ProbeVerdict};
use crate::dhcp::route::ReplyRoute;
use crate::model::machine::Mac;

/// A decision that has not been carried out yet.
pub(super) struct PendingAnswer {
    pub(super) decision: Decision,
    pub(super) way: WayIn,
}

/// The offers that wait, with what they answer.
pub(super) struct PendingOffers {
    probes: ConflictProbes<(PendingAnswer, ReceivedMessage)>,
    started: Instant,
    port: u16,
}

impl PendingOffers {
    /// `port`: of DHCP. A trial on another port asks nobody.
    pub(super) fn new(port: u16) -> Self {
        Self { probes: ConflictProbes::default(), started: Instant::now(), port }
    }

    fn now(&self) -> MonotonicMillis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(MonotonicMillis::MAX)
    }

    /// Milliseconds until the next offer leaves.
    pub(super) fn next_in_ms(&self) -> Option<MonotonicMillis> {
        self.probes.wakes_at().map(|at| at.saturating_sub(self.now()))
    }

    /// The next offer for whose address nobody has answered in time.
    pub(super) fn take_unanswered(&mut self) -> Option<PendingAnswer> {
        let now = self.now();
        self.probes.pass(now).map(|(pending, _)| pending)
    }

    /// Takes in that a host answers for an address.
    pub(super) fn take_answer(
        &mut self,
        address: Ipv4Addr,
        host: Option<Mac>,
    ) -> ProbeVerdict<(PendingAnswer, ReceivedMessage)> {
        let now = self.now();
        self.probes.answered(address, host, now)
    }

    /// Has an offer wait if nothing is known of its address. All else comes back, and leaves at
    /// once.
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
        let is_unproven =
            pending.decision.unproven.is_some() && !self.probes.is_proven(address, self.now());
        let is_asked =
            is_unproven && self.port == look::PORT && interface != Some(0) && signs.has_listener();
        if !is_asked && !self.probes.is_asked(address) {
            return Some(pending);
        }
        let held = (pending, message.clone());
        let back = if is_asked {
            let until = self.now().saturating_add(PROBE_WAIT_MS);
            let begun = self.probes.begin(address, client, held, until);
            if begun.is_ok() {
                signs.send_at_once(SegmentSign::Offers { address, interface });
            }
            begun
        } else {
            self.probes.replace(address, client, held)
        };
        back.err().map(|(pending, _)| pending)
    }
}
