//! What the log is told of HTTP: files that were delivered whole, names that were refused, transfers that were cut.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Running;
use crate::images::{CleanPath, Refusal};
use crate::observe::events::{Event, Kind, Stage, Weight};
use crate::serve::stage;

/// Events of one core in a second. What is beyond is not said: a person can not read it, and formatting it would cost more
/// than serving a small file.
const EVENTS_PER_SECOND_MAX: u32 = 2_000;

/// A file on its way to a machine.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) path: CleanPath,
    pub(super) stage: Stage,
    pub(super) reasons: Vec<String>,
    /// Of this answer's body.
    pub(super) bytes: u64,
    pub(super) began: Instant,
}

/// How many events there have been in the current second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    second: Instant,
    said: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { second: now, said: 0 }
    }

    fn allows(&mut self, now: Instant) -> bool {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.said += 1;
        self.said <= EVENTS_PER_SECOND_MAX
    }
}

impl Running {
    /// The kernel has taken the last byte.
    pub(super) fn say_delivered(&self, peer: SocketAddr, delivery: Delivery) {
        let Delivery { path, stage, reasons, bytes, began } = delivery;
        let kind = Kind::Sent { name: path.display().into_owned(), bytes };
        self.say(peer, stage, Weight::Step, kind, || {
            let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
            let seconds = began.elapsed().as_secs_f64();
            format!("{} sent by HTTP, {bytes} bytes in {seconds:.3} s{reasons}", path.display())
        });
    }

    /// The file was changed in place: the client got less than was promised.
    pub(super) fn say_changed(&self, peer: SocketAddr, delivery: &Delivery) {
        let kind = Kind::Changed { name: delivery.path.display().into_owned() };
        self.say(peer, delivery.stage, Weight::Warning, kind, || {
            format!(
                "{}: the file was changed in place while it was being sent: connection cut",
                delivery.path.display()
            )
        });
    }

    /// The client took too little, or never finished its request (H-33).
    pub(super) fn say_timed_out(&self, peer: SocketAddr, written: u64) {
        let text = || format!("HTTP connection cut after {written} bytes: too slow");
        self.say(peer, Stage::File, Weight::Warning, Kind::TooSlow, text);
    }

    pub(super) fn say_refused(&self, peer: SocketAddr, name: String, refusal: Refusal, why: &str) {
        let (stage, weight, kind) = stage::refused(&self.published().load().snapshot, name, refusal);
        self.say(peer, stage, weight, kind, || format!("HTTP refused {why}"));
    }

    fn say(&self, peer: SocketAddr, stage: Stage, weight: Weight, kind: Kind, text: impl FnOnce() -> String) {
        let mut pace = self.pace.get();
        let allowed = pace.allows(Instant::now());
        self.pace.set(pace);
        if !allowed {
            self.counters.events_left_out.add(1);
            return;
        }
        let address = peer.ip();
        let machine = self.shelf.borrow().names().machine_at(address);
        let mac = machine.map(|machine| machine.mac);
        self.events.push(Event { mac, address: Some(address), stage, weight, kind, text: text(), attempt: None });
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
