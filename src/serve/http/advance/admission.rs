//! Places for connections (H-34): who gets one, who waits, and who is turned away.

use super::ConnectionKeeper;
use crate::engine::stream::SendBody;
use crate::http::admission::AdmissionOutcome;
use crate::http::limits::AWAY_PER_TURN_MAX;
use crate::http::respond;
use crate::serve::http::connection::{ConnectionStage, HttpConnection};
use crate::serve::http::journal::CoreFault;

impl ConnectionKeeper {
    /// While all places are taken, closes connections of sources that have more of them than a
    /// source that waits.
    pub(in crate::serve::http) fn make_room(&mut self) {
        for still in self.places.find_still(&self.connections, self.sender.time.now) {
            let Some(mut connection) = self.connections.take(still.id) else { continue };

            // Asked for each connection: every one that is closed changes the shares of the
            // sources.
            match self.places.may_give_up(&connection, still.is_answered) {
                Some(true) => {}
                Some(false) => {
                    self.connections.insert(connection);
                    continue;
                }
                None => {
                    self.connections.insert(connection);
                    break;
                }
            }

            self.sender.counters.given_up.add(1);
            let fault = CoreFault::AllTaken(self.places.most());
            self.sender.journal.log_fault(fault, self.sender.time.now);

            // Only an idle connection is closed in order. A reset discards what the kernel still
            // holds for a client in the middle of a request or an answer.
            connection.is_cut = still.is_answered || connection.first_byte.is_some();
            self.end_connection(connection);
        }
    }

    /// Gives a new connection a place, or has it wait. Returns whether it continues.
    pub(super) fn admit(&mut self, connection: &mut HttpConnection) -> bool {
        self.sender.counters.connections.add(1);
        // The kernel may have accepted the connection just before the listeners were closed.
        if self.sender.is_draining {
            return false;
        }

        connection.start_clock(self.sender.time.now);
        match self.places.admit(connection) {
            AdmissionOutcome::Start(_) => connection.give_place(),
            AdmissionOutcome::Waits => self.enqueue(connection),
            AdmissionOutcome::WaitsInPlaceOf(displaced) => {
                self.enqueue(connection);
                if let Some(mut displaced) = self.connections.take(displaced) {
                    // An iPXE that loses its place in the queue is still told when to come again
                    // (H-14).
                    if self.refuse_place(&mut displaced) {
                        self.put_back(displaced);
                    } else {
                        self.end_connection(displaced);
                    }
                }
            }
            AdmissionOutcome::Refuse(_) => return self.refuse_place(connection),
        }
        true
    }

    /// Has a connection wait for a place.
    fn enqueue(&mut self, connection: &mut HttpConnection) {
        self.sender.counters.queued.add(1);
        connection.stage = ConnectionStage::Waiting;
    }

    /// Refuses a connection that has no room to wait, or has waited in vain: iPXE is told when to
    /// come again, other clients are disconnected (H-14). Returns whether it continues.
    pub(super) fn refuse_place(&mut self, connection: &mut HttpConnection) -> bool {
        self.sender.counters.turned_away.add(1);
        connection.stage = ConnectionStage::Refused;
        if !self.places.take_refusal(connection) {
            return false;
        }
        connection.start_clock(self.sender.time.now);
        if connection.touch() {
            self.touched.push(connection.id);
        }
        true
    }

    /// Reads the request of a client without a place, and answers "come again" if the client is one
    /// that does (H-14).
    pub(super) fn turn_away(&mut self, connection: &mut HttpConnection) -> bool {
        let asked = connection.input.unanswered();
        if asked.is_empty() {
            return !connection.has_ended;
        }
        if !respond::is_ipxe_request(asked) {
            return false;
        }
        let told = respond::encode_overloaded(self.sender.date.at(self.sender.time.today));
        self.sender.driver.send(connection.id, &told, SendBody::Nothing, false);
        self.begin_leaving(connection)
    }

    /// Handles a failure of accept(2): the driver turns waiting clients away by a descriptor that
    /// it keeps in reserve, so that none of them hangs.
    pub(in crate::serve::http) fn handle_accept_failure(&mut self, error: i32) {
        let sender = &mut self.sender;
        sender.counters.accept_failed.add(1);
        sender.journal.log_fault(CoreFault::NoConnection(error), sender.time.now);
        if matches!(error, libc::EMFILE | libc::ENFILE) {
            let told = respond::encode_overloaded(sender.date.at(sender.time.today));
            let count = sender.driver.turn_away(AWAY_PER_TURN_MAX, |asked| {
                respond::is_ipxe_request(asked).then(|| told.clone())
            });
            sender.counters.turned_away.add(count as u64);
        }
    }
}
