//! When a core polls for the next datagram before it sleeps: only while polling pays.
//!
//! Waking a sleeping thread takes longer than a block's way to a machine and back, so a machine
//! that boots alone gets several times the speed from a core that stays awake for a moment. A rack
//! does not: while many transfers run there is always work, and polling would only make the batches
//! smaller. Numbers in, numbers out.

use std::time::Duration;

/// With more transfers than this a core does not poll: their datagrams come so close to each other
/// that it hardly sleeps. Measured in lock step on loopback: polling makes 4 transfers 2.2 times as
/// fast, and 8 a little slower.
const TRANSFERS_MAX: usize = 4;
/// Stop polling after this many consecutive polls without a datagram: these clients answer too
/// slowly.
const MISSES_MAX: u32 = 4;
/// While polling is off, poll once every this many waits, in case the clients have changed.
const PROBE_EVERY: u32 = 32;

/// Decides from the last waits whether polling pays.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpinPolicy {
    bound: Duration,
    misses: u32,
    /// Waits since the last poll.
    passed: u32,
    is_polling: bool,
}

impl SpinPolicy {
    /// `bound`: how long after the last datagram a core polls at most; zero: never.
    pub(super) fn new(bound: Duration) -> Self {
        Self { bound, misses: 0, passed: 0, is_polling: false }
    }

    /// How long a core polls before it sleeps; `since`: the time since the last datagram.
    pub(super) fn before_wait(&mut self, transfers: usize, since: Duration) -> Option<Duration> {
        let left = self.bound.saturating_sub(since);
        let may = !left.is_zero() && (1..=TRANSFERS_MAX).contains(&transfers);
        self.is_polling = may && (self.misses < MISSES_MAX || self.passed >= PROBE_EVERY);
        self.is_polling.then_some(left)
    }

    /// Notes a datagram, and the time since the one before it.
    pub(super) fn heard(&mut self, after: Duration) {
        if after <= self.bound {
            self.misses = 0;
        } else if self.is_polling {
            self.misses = self.misses.saturating_add(1);
        }
        self.passed = if self.is_polling { 0 } else { self.passed.saturating_add(1) };
        self.is_polling = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_micros(50);
    const QUICK: Duration = Duration::from_micros(20);
    const SLOW: Duration = Duration::from_millis(2);

    /// Polls among these waits, each of which is ended by a datagram `after` the last one.
    fn polled(spin: &mut SpinPolicy, waits: u32, after: Duration) -> u32 {
        let mut polled = 0;
        for _ in 0..waits {
            polled += u32::from(spin.before_wait(1, Duration::ZERO).is_some());
            spin.heard(after);
        }
        polled
    }

    #[test]
    fn quick_clients_are_polled_for_and_slow_ones_are_not() {
        let mut spin = SpinPolicy::new(BOUND);
        assert_eq!(polled(&mut spin, 1000, QUICK), 1000);
        assert!(polled(&mut spin, 1000, SLOW) < 40, "a few probes");
        assert!(
            polled(&mut spin, 1000, QUICK) > 960,
            "a probe finds out that clients are quick now"
        );
    }

    #[test]
    fn the_bound_holds_from_the_last_datagram_on() {
        let mut spin = SpinPolicy::new(BOUND);
        assert_eq!(spin.before_wait(1, Duration::ZERO), Some(BOUND));
        assert_eq!(spin.before_wait(1, QUICK), Some(BOUND - QUICK));
        assert_eq!(spin.before_wait(1, BOUND), None);
    }

    #[test]
    fn without_transfers_or_with_many_or_where_it_is_switched_off_nothing_is_polled_for() {
        let mut spin = SpinPolicy::new(BOUND);
        assert_eq!(spin.before_wait(0, Duration::ZERO), None);
        assert_eq!(spin.before_wait(TRANSFERS_MAX + 1, Duration::ZERO), None);
        assert_eq!(SpinPolicy::new(Duration::ZERO).before_wait(1, Duration::ZERO), None);
    }
}
