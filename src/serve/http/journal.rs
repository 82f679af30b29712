//! What the log is told of HTTP: files that were delivered whole, names that were refused,
//! transfers that were cut.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use super::{Fault, Running};
use crate::images::{CleanPath, NameRefusal};
use crate::observe::events::{BootStage, EventKind, EventWeight, MachineEvent};
use crate::observe::pace::{EventSource, append_unsaid_count};
use crate::serve::shelf::Origin;
use crate::serve::stage::{self, stage_of};
use crate::snapshot::PublishedState;

/// Events of one core in a second. What is beyond is not said: a person can not read it, and
/// formatting it would cost more than serving a small file.
pub(super) const EVENTS_PER_SECOND_MAX: u32 = 2_000;
/// Lines of trouble of one kind in a second.
pub(super) const TROUBLE_PER_SECOND_MAX: u32 = 10;

/// A file on its way to a machine.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) path: Rc<CleanPath>,
    pub(super) origin: Origin,
    pub(super) reasons: Vec<String>,
    /// Of this answer's body.
    pub(super) bytes: u64,
    pub(super) began: Instant,
    /// It carries the file's last byte: pieces of an ISO that is booted in place do not, and are
    /// not told of.
    pub(super) completes: bool,
}

impl Running {
    /// The kernel has taken the last byte.
    pub(super) fn say_delivered(&mut self, peer: SocketAddr, delivery: &Delivery) {
        if !self.may_say() {
            return;
        }
        let Delivery { path, reasons, bytes, began, .. } = delivery;
        let kind = EventKind::Sent { name: path.display().into_owned(), bytes: *bytes };
        let reasons =
            if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
        let seconds = self.now.duration_since(*began).as_secs_f64();
        let text =
            format!("{} sent by HTTP, {bytes} bytes in {seconds:.3} s{reasons}", path.display());
        self.say(peer, self.stage_of(delivery), kind, text);
    }

    /// The file was changed in place: the client got less than was promised.
    pub(super) fn say_changed(&mut self, peer: SocketAddr, delivery: &Delivery) {
        if !self.may_say() {
            return;
        }
        let name = delivery.path.display().into_owned();
        let text = format!(
            "{name}: the file was changed in place while it was being sent: connection cut"
        );
        self.say(peer, self.stage_of(delivery), EventKind::Changed { name }, text);
    }

    /// The client took too little, or never finished its request (H-33).
    pub(super) fn say_timed_out(&mut self, peer: SocketAddr, written: u64) {
        if self.may_say() {
            let text = format!("HTTP connection cut after {written} bytes: too slow");
            self.say(peer, BootStage::File, EventKind::TooSlow, text);
        }
    }

    /// `told` gives the name that was refused, and why.
    pub(super) fn say_refused(
        &mut self,
        peer: SocketAddr,
        refusal: NameRefusal,
        told: impl FnOnce() -> (String, String),
    ) {
        if self.may_say() {
            let refused =
                stage::refused(&self.published().load().snapshot, told(), refusal, "HTTP");
            self.say(peer, refused.stage, refused.kind, refused.text);
        }
    }

    /// What is no request, or of a kind that is not served: `why` is a clause.
    pub(super) fn say_bad(&mut self, peer: SocketAddr, why: impl FnOnce() -> String) {
        if self.may_say() {
            self.say(
                peer,
                BootStage::File,
                EventKind::BadRequest,
                format!("HTTP refused a request: {}", why()),
            );
        }
    }

    /// Tells the operator of a fault, with a count of those that were not said.
    pub(super) fn say_fault(&mut self, fault: Fault) {
        let Some(unsaid) = self.faults.admit(fault, self.now) else { return };
        let text = match fault {
            Fault::Full => format!(
                "all {} HTTP connections of a core are taken: clients that stand still are \
                 disconnected for clients that have fewer connections. Raise `[http] connections` \
                 if this is no attack",
                self.connections_max
            ),
            Fault::Accept(libc::EMFILE) => {
                "no descriptor is free for an HTTP connection (EMFILE): raise LimitNOFILE= of the \
                 unit, or `ulimit -n`"
                    .to_owned()
            }
            Fault::Accept(error) => {
                format!(
                    "the kernel gives no HTTP connection: {}",
                    std::io::Error::from_raw_os_error(error)
                )
            }
        };
        tracing::warn!("{}", append_unsaid_count(text, unsaid));
    }

    /// Whether one more event may be said in this second; one that may not is not even put into
    /// words.
    fn may_say(&mut self) -> bool {
        let may = self.pace.admit((), self.now).is_some();
        if !may {
            self.counters.events_left_out.add(1);
        }
        may
    }

    fn stage_of(&self, delivery: &Delivery) -> BootStage {
        stage_of(&self.published().load().snapshot, &delivery.path.display(), delivery.origin)
    }

    fn published(&self) -> &PublishedState {
        &self.shelf.names().published
    }

    /// For the timeline alone where the log has had enough of its like.
    fn say(&mut self, peer: SocketAddr, stage: BootStage, kind: EventKind, text: String) {
        let mac = self.shelf.names().machine_at(peer.ip()).map(|machine| machine.mac);
        let mut event = MachineEvent::new(mac, Some(peer.ip()), stage, kind, text);
        if event.weight != EventWeight::Detail {
            match self.gate.admit(&event.kind, None, EventSource::of(&event), self.now) {
                Some(unsaid) => event.text = append_unsaid_count(event.text, unsaid),
                None => {
                    event.weight = EventWeight::Detail;
                    self.counters.events_left_out.add(1);
                }
            }
        }
        self.events.push(event);
    }
}
