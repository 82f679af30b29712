//! Which connections of a core have a place, which wait for one, and which give theirs up (H-34).

use std::cmp::Reverse;
use std::time::Instant;

use super::connection::{ConnectionStage, ConnectionTable, HttpConnection, PlaceHeld};
use super::plan::HttpPlan;
use crate::engine::stream::{CONNECTIONS_PER_DRIVER_MAX, ConnectionId};
use crate::http::admission::{AdmissionOutcome, ConnectionAdmission};
use crate::http::limits::{GIVE_UP_MAX, GIVE_UP_PAUSE, REFUSALS_MAX};

/// A connection that the core may close for a client that has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct StillConnection {
    pub(super) id: ConnectionId,
    pub(super) is_answered: bool,
}

/// The places of one core.
#[derive(Debug)]
pub(super) struct ConnectionPlaces {
    admission: ConnectionAdmission<ConnectionId>,
    /// Most connections that are served at a time.
    most: usize,
    /// Connections that are being told to come again.
    refusals: usize,
    /// While all places are taken: when the core next closes connections without progress.
    give_up_at: Instant,
}

impl ConnectionPlaces {
    pub(super) fn new(plan: &HttpPlan, now: Instant) -> Self {
        let most = plan.connections.min(CONNECTIONS_PER_DRIVER_MAX);
        let admission = ConnectionAdmission::new(plan.per_source, most).with_waiting(plan.waiting);
        Self { admission, most, refusals: 0, give_up_at: now }
    }

    /// Most connections that are served at a time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Decides on a connection that has arrived.
    pub(super) fn admit(&mut self, connection: &HttpConnection) -> AdmissionOutcome<ConnectionId> {
        self.admission.arrive(connection.peer.ip(), connection.id)
    }

    /// Takes a connection out of the queue.
    pub(super) fn leave_queue(&mut self, id: ConnectionId) {
        self.admission.remove_waiting(&id);
    }

    /// Counts a connection among those that are told to come again. False: there are too many.
    pub(super) fn take_refusal(&mut self, connection: &mut HttpConnection) -> bool {
        if self.refusals >= REFUSALS_MAX {
            return false;
        }
        self.refusals += 1;
        connection.place = PlaceHeld::Refusal;
        true
    }

    /// Releases the place of a connection. Returns the connection that has waited longest for it.
    pub(super) fn release(&mut self, connection: &HttpConnection) -> Option<ConnectionId> {
        if matches!(connection.stage, ConnectionStage::Waiting) {
            self.admission.remove_waiting(&connection.id);
        }
        match connection.place {
            PlaceHeld::Nothing => None,
            PlaceHeld::Refusal => {
                self.refusals -= 1;
                None
            }
            PlaceHeld::Place => self.admission.leave(connection.peer.ip()).map(|(_, next)| next),
        }
    }

    /// Closes the queue. Returns the connections that waited.
    pub(super) fn close_queue(&mut self) -> Vec<ConnectionId> {
        self.admission.close()
    }

    /// When the core next closes connections without progress; None: no waiting client has a right
    /// to their place.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        self.is_crowded().then_some(self.give_up_at)
    }

    /// Whether all places are taken and a client waits whose source has fewer than it may.
    fn is_crowded(&self) -> bool {
        self.admission.waiting() > 0 && self.admission.running() >= self.most
    }

    /// The connections to close first while all places are taken: those that receive no answer
    /// before those that do, then those of the sources with the most connections, then those
    /// without progress for longest.
    pub(super) fn find_still(
        &mut self,
        connections: &ConnectionTable,
        now: Instant,
    ) -> Vec<StillConnection> {
        if !self.is_crowded() || now < self.give_up_at {
            return Vec::new();
        }
        self.give_up_at = now + GIVE_UP_PAUSE;

        let mut still = Vec::new();
        for connection in connections.iter() {
            let share = self.admission.share(connection.peer.ip());
            if let Some((is_answered, since)) = connection.stands_still(now, share) {
                still.push((is_answered, Reverse(share), since, connection.id));
            }
        }

        // Thousands may stand still: only those that will be closed are sorted.
        if still.len() > GIVE_UP_MAX {
            still.select_nth_unstable(GIVE_UP_MAX);
            still.truncate(GIVE_UP_MAX);
        }
        still.sort_unstable();
        still
            .into_iter()
            .map(|(is_answered, _, _, id)| StillConnection { id, is_answered })
            .collect()
    }

    /// Whether a client in the queue has so few connections that the core may close this one for
    /// it. None: no client in the queue needs a place any more.
    pub(super) fn may_give_up(
        &self,
        connection: &HttpConnection,
        is_answered: bool,
    ) -> Option<bool> {
        let least = self.admission.least_share_in_need()?;
        let share = self.admission.share(connection.peer.ip());
        Some(share > least + usize::from(is_answered))
    }
}
