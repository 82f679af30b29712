//! What the log is told of HTTP: files that were delivered whole, names that were refused, transfers that were cut.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Fault, Running};
use crate::images::{CleanPath, Refusal};
use crate::observe::events::{Event, Kind, Stage, Weight};
use crate::observe::pace::with_count;
use crate::serve::shelf::Origin;
use crate::serve::stage::{self, stage_of};
use crate::snapshot::Published;

/// Events of one core in a second. What is beyond is not said: a person can not read it, and formatting it would cost more
/// than serving a small file.
const EVENTS_PER_SECOND_MAX: u32 = 2_000;

/// A file on its way to a machine.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) path: Rc<CleanPath>,
    pub(super) origin: Origin,
    pub(super) reasons: Vec<String>,
    /// Of this answer's body.
    pub(super) bytes: u64,
    pub(super) began: Instant,
}

/// How many events there have been in the current second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    ends: Instant,
    said: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { ends: now + Duration::from_secs(1), said: 0 }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if now >= self.ends {
            *self = Self::new(now);
        }
        self.said += 1;
        self.said <= EVENTS_PER_SECOND_MAX
    }
}

impl Running {
    /// The kernel has taken the last byte.
    pub(super) fn say_delivered(&mut self, peer: SocketAddr, delivery: &Delivery) {
        if !self.may_say() {
            return;
        }
        let Delivery { path, reasons, bytes, began, .. } = delivery;
        let kind = Kind::Sent { name: path.display().into_owned(), bytes: *bytes };
        let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
        let seconds = self.now.duration_since(*began).as_secs_f64();
        let text = format!("{} sent by HTTP, {bytes} bytes in {seconds:.3} s{reasons}", path.display());
        self.say(peer, self.stage_of(delivery), Weight::Step, kind, text);
    }

    /// The file was changed in place: the client got less than was promised.
    pub(super) fn say_changed(&mut self, peer: SocketAddr, delivery: &Delivery) {
        if !self.may_say() {
            return;
        }
        let name = delivery.path.display().into_owned();
        let text = format!("{name}: the file was changed in place while it was being sent: connection cut");
        self.say(peer, self.stage_of(delivery), Weight::Warning, Kind::Changed { name }, text);
    }

    /// The client took too little, or never finished its request (H-33).
    pub(super) fn say_timed_out(&mut self, peer: SocketAddr, written: u64) {
        if self.may_say() {
            let text = format!("HTTP connection cut after {written} bytes: too slow");
            self.say(peer, Stage::File, Weight::Warning, Kind::TooSlow, text);
        }
    }

    /// `told` gives the name that was refused, and why.
    pub(super) fn say_refused(&mut self, peer: SocketAddr, refusal: Refusal, told: impl FnOnce() -> (String, String)) {
        if self.may_say() {
            let (name, why) = told();
            let (stage, weight, kind) = stage::refused(&self.published().load().snapshot, name, refusal);
            self.say(peer, stage, weight, kind, format!("HTTP refused {why}"));
        }
    }

    /// Tells the operator of a fault, with a count of those that were not said.
    pub(super) fn say_fault(&mut self, fault: Fault) {
        let Some(unsaid) = self.faults.admit(fault, self.now) else { return };
        let text = match fault {
            Fault::Full => format!(
                "all {} HTTP connections of a core are taken: clients that stand still are disconnected for clients that have \
                 fewer connections. Raise `[http] connections` if this is no attack",
                self.connections_max
            ),
            Fault::Accept(libc::EMFILE) => {
                "no descriptor is free for an HTTP connection (EMFILE): raise LimitNOFILE= of the unit, \
                 or `ulimit -n`"
                    .to_owned()
            }
            Fault::Accept(error) => {
                format!("the kernel gives no HTTP connection: {}", std::io::Error::from_raw_os_error(error))
            }
        };
        tracing::warn!("{}", with_count(text, unsaid));
    }

    /// Whether one more event may be said in this second; one that may not is not even put into words.
    fn may_say(&mut self) -> bool {
        let may = self.pace.allows(self.now);
        if !may {
            self.counters.events_left_out.add(1);
        }
        may
    }

    fn stage_of(&self, delivery: &Delivery) -> Stage {
        stage_of(&self.published().load().snapshot, &delivery.path.display(), delivery.origin)
    }

    fn published(&self) -> &Published {
        &self.shelf.names().published
    }

    fn say(&self, peer: SocketAddr, stage: Stage, weight: Weight, kind: Kind, text: String) {
        let address = peer.ip();
        let mac = self.shelf.names().machine_at(address).map(|machine| machine.mac);
        self.events.push(Event { mac, address: Some(address), stage, weight, kind, text, attempt: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_read_is_not_said_and_the_next_second_begins_anew() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let said = (0..EVENTS_PER_SECOND_MAX + 50).filter(|_| pace.allows(start)).count();
        assert_eq!(said, EVENTS_PER_SECOND_MAX as usize);
        assert!(pace.allows(start + Duration::from_secs(1)));
    }
}
