//! Signs of life: every core counts its turns, systemd's watchdog is notified only while all cores
//! turn, and the log names a thread that is stuck.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::observe::counters::SharedCount;
use crate::observe::threads::{ThreadObserver, ThreadView};

/// How often cores wake and the supervisor looks within systemd's timeout, so that one late turn
/// causes no restart.
const PULSES_PER_TIMEOUT: u32 = 4;

/// How often the supervisor looks at every thread, with systemd and without.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// A thread that has been busy with one thing for longer than this is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A core's end: the core counts its turns here, and sleeps no longer than `every`.
#[derive(Clone, Debug, Default)]
pub struct CorePulse {
    /// None: no watchdog (a test), and a core may sleep for as long as nothing arrives.
    every: Option<Duration>,
    turns: Arc<SharedCount>,
}

impl CorePulse {
    /// Counts a turn.
    pub fn beat(&self) {
        self.turns.add(1);
    }

    /// The longest sleep of the core; None: no limit.
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Turns since the start.
    pub fn turns(&self) -> u64 {
        self.turns.read()
    }
}

/// The supervisor's end.
#[derive(Debug)]
pub struct CoreWatchdog {
    /// How often systemd is notified; None: systemd does not watch.
    told_every: Option<Duration>,
    cores: Vec<Core>,
}

#[derive(Debug)]
struct Core {
    pulse: CorePulse,
    /// The count when systemd was last notified; None: this thread does not hold the notification
    /// up.
    told: Option<u64>,
    /// The count at the last look, and since when it has not changed.
    seen: (u64, Instant),
    thread: ThreadObserver,
}

impl CoreWatchdog {
    /// `timeout`: the time that systemd allows between two notifications; None: it does not watch.
    pub fn new(timeout: Option<Duration>) -> Self {
        Self { told_every: timeout.map(|timeout| timeout / PULSES_PER_TIMEOUT), cores: Vec::new() }
    }

    /// Adds a core that runs on this thread, and returns its pulse.
    pub fn pulse(&mut self, thread: ThreadObserver) -> CorePulse {
        self.add(thread, Some(0))
    }

    /// Adds a thread that clients do not depend on, and returns its pulse. It may wait for a disk,
    /// and does not hold up the notification of systemd.
    pub fn pulse_of_helper(&mut self, thread: ThreadObserver) -> CorePulse {
        self.add(thread, None)
    }

    fn add(&mut self, thread: ThreadObserver, told: Option<u64>) -> CorePulse {
        let pulse = CorePulse { every: Some(self.every()), turns: Arc::default() };
        self.cores.push(Core { pulse: pulse.clone(), told, seen: (0, Instant::now()), thread });
        pulse
    }

    /// How often the supervisor must look, and the longest sleep of a core.
    pub fn every(&self) -> Duration {
        self.told_every.unwrap_or(LOOKED_EVERY).min(LOOKED_EVERY)
    }

    /// The pulses of all cores, to wait for their next turns.
    pub fn pulses(&self) -> Vec<CorePulse> {
        self.cores
            .iter()
            .filter(|core| core.told.is_some())
            .map(|core| core.pulse.clone())
            .collect()
    }

    /// Notes which cores have not turned since the last look.
    pub fn look(&mut self, now: Instant) {
        let every = self.every();
        for core in &mut self.cores {
            let turns = core.pulse.turns();
            if turns != core.seen.0 {
                core.seen = (turns, now);
            }
            let still = now.saturating_duration_since(core.seen.1);
            core.thread.set_busy((still > every * 2).then_some(still));
        }
    }

    /// Whether systemd may be notified: every core has taken a turn since the last time that this
    /// was true.
    pub fn all_go_on(&mut self) -> bool {
        if self.told_every.is_none()
            || self.cores.iter().any(|core| core.told == Some(core.pulse.turns()))
        {
            return false;
        }
        for core in &mut self.cores {
            core.told = core.told.map(|_| core.pulse.turns());
        }
        true
    }
}

/// The stuck threads that the log has named.
#[derive(Debug, Default)]
pub struct StuckThreads(Vec<String>);

impl StuckThreads {
    /// Logs once for each thread that it is stuck, and that it has resumed. Returns the name of a
    /// thread that has ended by a panic.
    pub fn say(&mut self, threads: &[ThreadView]) -> Option<String> {
        for thread in threads {
            let is_stuck = thread.busy.filter(|busy| *busy >= STUCK_AFTER);
            let said = self.0.iter().position(|name| *name == thread.name);
            match (is_stuck, said) {
                (Some(busy), None) => {
                    self.0.push(thread.name.clone());
                    let (name, seconds) = (&thread.name, busy.as_secs());
                    tracing::error!(
                        "the thread {name} stands still: {seconds} s with one thing ({})",
                        waits_for(name)
                    );
                }
                (None, Some(at)) => {
                    self.0.swap_remove(at);
                    tracing::warn!("the thread {} goes on", thread.name);
                }
                _ => {}
            }
        }

        // The supervisor ends the server for a dead thread, so that systemd starts it again.
        threads.iter().find(|thread| thread.is_dead).map(|thread| thread.name.clone())
    }
}

/// What a stuck thread most likely waits for.
fn waits_for(thread: &str) -> &'static str {
    match thread.split('-').nth(1).unwrap_or_default() {
        "log" => "the reader of the log does not read",
        "store" | "journal" | "interfaces" => "the disk of the state directory does not answer",
        "worker" | "maker" | "reader" | "keeper" | "sweep" => {
            "the disk or the file server of the root does not answer"
        }
        "reload" => "reading the configuration or what it names",
        _ => "its clients are not served",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::observe::threads;

    #[test]
    fn one_core_that_stands_still_silences_all_and_is_found() {
        let mut watchdog = CoreWatchdog::new(Some(Duration::from_secs(4)));
        assert_eq!(watchdog.every(), Duration::from_secs(1));
        let (first, second) =
            (threads::watch_thread("pulse-test-1"), threads::watch_thread("pulse-test-2"));
        let (one, other) = (watchdog.pulse(first.observer()), watchdog.pulse(second.observer()));
        assert!(!watchdog.all_go_on(), "none has begun");
        one.beat();
        assert!(!watchdog.all_go_on());
        other.beat();
        assert!(watchdog.all_go_on());
        other.beat();
        assert!(!watchdog.all_go_on());
        one.beat();
        assert!(watchdog.all_go_on(), "what the other did in between counts");
        let busy = |name: &str| {
            threads::list_threads().into_iter().find(|view| view.name == name).unwrap().busy
        };
        let later = Instant::now();
        watchdog.look(later);
        other.beat();
        watchdog.look(later + Duration::from_secs(20));
        assert!(busy("pulse-test-1").is_some() && busy("pulse-test-2").is_none());
        one.beat();
        watchdog.look(later + Duration::from_secs(21));
        assert_eq!(busy("pulse-test-1"), None);
    }

    #[test]
    fn without_systemd_cores_show_signs_of_life_all_the_same() {
        let mut watchdog = CoreWatchdog::new(None);
        let thread = threads::watch_thread("pulse-test-3");
        assert_eq!(watchdog.pulse(thread.observer()).every(), Some(LOOKED_EVERY));
        assert!(!watchdog.all_go_on(), "nobody is told");
    }

    #[test]
    fn a_thread_that_stands_still_is_said_once_and_a_dead_one_is_named() {
        let view = |busy: Option<u64>, is_dead| ThreadView {
            name: "rb-store".into(),
            busy: busy.map(Duration::from_secs),
            panics: 0,
            is_dead,
        };
        let mut said = StuckThreads::default();
        assert_eq!(said.say(&[view(Some(1), false)]), None);
        assert!(said.0.is_empty());
        said.say(&[view(Some(11), false)]);
        said.say(&[view(Some(12), false)]);
        assert_eq!(said.0, ["rb-store"]);
        assert_eq!(said.say(&[view(None, true)]).as_deref(), Some("rb-store"));
        assert!(said.0.is_empty());
    }
}
