//! Signs of life: every core counts its turns, and systemd's watchdog hears of us only while all of them go on.

use std::sync::Arc;
use std::time::Duration;

use crate::observe::counters::Count;

/// So often in the time that systemd allows do cores wake and does the supervisor look: one late core costs no restart.
const PULSES_PER_TIMEOUT: u32 = 4;

/// A core's end: it raises its count once a turn, and sleeps no longer than this.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    /// None: nobody watches, and a core may sleep for as long as nothing arrives.
    every: Option<Duration>,
    turns: Arc<Count>,
}

impl Pulse {
    pub fn beat(&self) {
        self.turns.add(1);
    }

    pub fn every(&self) -> Option<Duration> {
        self.every
    }
}

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct Watchdog {
    every: Option<Duration>,
    /// Each core's count, and what it was when systemd was last told.
    cores: Vec<(Pulse, u64)>,
}

impl Watchdog {
    /// `timeout` is what systemd allows between two signs of life; None where it does not watch.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { every: timeout.map(|timeout| timeout / PULSES_PER_TIMEOUT), cores: Vec::new() }
    }

    /// The pulse of one more core.
    pub(super) fn pulse(&mut self) -> Pulse {
        let pulse = Pulse { every: self.every, turns: Arc::default() };
        self.cores.push((pulse.clone(), 0));
        pulse
    }

    /// How often [`Self::all_go_on`] is to be asked.
    pub(super) fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Whether systemd may be told that we live: every core has taken a turn since the last time this was true.
    pub(super) fn all_go_on(&mut self) -> bool {
        if self.every.is_none() || self.cores.iter().any(|(pulse, told)| pulse.turns.read() == *told) {
            return false;
        }
        self.cores.iter_mut().for_each(|(pulse, told)| *told = pulse.turns.read());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_that_stands_still_silences_all() {
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(4)));
        assert_eq!(watchdog.every(), Some(Duration::from_secs(1)));
        let (one, other) = (watchdog.pulse(), watchdog.pulse());
        assert!(!watchdog.all_go_on(), "none has begun");
        one.beat();
        assert!(!watchdog.all_go_on());
        other.beat();
        assert!(watchdog.all_go_on());
        other.beat();
        assert!(!watchdog.all_go_on());
        one.beat();
        assert!(watchdog.all_go_on(), "what the other did in between counts");
    }

    #[test]
    fn where_nobody_watches_cores_sleep_as_long_as_they_like() {
        let mut watchdog = Watchdog::new(None);
        assert_eq!(watchdog.pulse().every(), None);
        assert!(!watchdog.all_go_on());
    }
}
