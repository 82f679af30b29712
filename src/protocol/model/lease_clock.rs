//! How the lease clock goes on after a restart: from its mark in the store and the clocks of the
//! host.

/// The mark of the lease clock in the store, from which the next run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockMark {
    /// The kernel's boot ID at that time. Empty: unknown.
    pub boot: String,
    /// Seconds by which the lease clock was ahead of the time since that boot.
    pub ahead_s: i64,
    /// The lease clock at that time, seconds.
    pub seen_s: u64,
    /// The wall clock at that time, unix seconds: for a person who reads the store.
    pub wall_s: i64,
}

/// The clocks of the host.
#[derive(Clone, Debug)]
pub struct ClockReading {
    /// The kernel's boot ID; None where the host has none.
    pub boot: Option<String>,
    /// Seconds since boot, with the time in suspend.
    pub since_boot_s: i64,
    /// The wall clock, unix seconds.
    pub wall_s: i64,
}

impl ClockReading {
    /// Seconds by which the lease clock is ahead of the time since boot, when a run goes on from
    /// the mark of another.
    ///
    /// Within one boot the clock goes on exactly. After a reboot, or on another host, the length of
    /// the pause is unknown, since the wall clock may be wrong. Then the clock goes on from where
    /// it was seen last: a lease may last longer than it was given for, and never ends while its
    /// client still counts on it. Without a mark the clock begins with the wall clock, which the
    /// rows of old stores are in.
    pub fn resume(&self, before: Option<&ClockMark>) -> i64 {
        let Some(mark) = before else { return self.wall_s.saturating_sub(self.since_boot_s) };
        let seen_s = i64::try_from(mark.seen_s).unwrap_or(i64::MAX);
        let is_this_boot = self.boot.as_ref() == Some(&mark.boot);
        // The time since boot is lower after a rollback of a virtual machine, and in another time
        // namespace.
        if is_this_boot && self.since_boot_s.saturating_add(mark.ahead_s) >= seen_s {
            return mark.ahead_s;
        }
        seen_s.saturating_sub(self.since_boot_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(boot: &str, since_boot_s: i64, wall_s: i64) -> ClockReading {
        ClockReading {
            boot: Some(boot.to_owned()).filter(|boot| !boot.is_empty()),
            since_boot_s,
            wall_s,
        }
    }

    fn mark(boot: &str, ahead_s: i64, seen_s: u64) -> ClockMark {
        ClockMark { boot: boot.to_owned(), ahead_s, seen_s, wall_s: 7 }
    }

    #[test]
    fn without_a_mark_it_begins_with_the_wall_clock() {
        assert_eq!(reading("a", 100, 1_000_000).resume(None), 999_900);
        assert_eq!(reading("", 100, -5).resume(None), -105);
    }

    #[test]
    fn within_one_boot_it_goes_on_whatever_the_wall_clock_says() {
        for wall_s in [0, 5100, i64::MAX] {
            assert_eq!(
                reading("a", 100, wall_s).resume(Some(&mark("a", 5000, 5090))),
                5000,
                "{wall_s}"
            );
            assert_eq!(
                reading("a", 90, wall_s).resume(Some(&mark("a", 5000, 5090))),
                5000,
                "in the same second"
            );
        }
    }

    #[test]
    fn after_another_boot_it_goes_on_where_it_was_seen_whatever_the_wall_clock_says() {
        for wall_s in [0, 5100, i64::MAX] {
            for since_boot_s in [0, 30, 4_000_000] {
                let now = |boot, mark| {
                    reading(boot, since_boot_s, wall_s).resume(Some(&mark)) + since_boot_s
                };
                assert_eq!(now("b", mark("a", 5000, 5090)), 5090);
                assert_eq!(now("", mark("", 5000, 5090)), 5090, "a host that does not tell");
                assert_eq!(
                    now("a", mark("a", -since_boot_s, 5090)),
                    5090,
                    "a host that was rolled back"
                );
            }
        }
    }

    /// Whatever the store holds.
    #[test]
    fn no_mark_is_a_fault() {
        for (ahead_s, seen_s) in
            [(i64::MAX, u64::MAX), (i64::MIN, 0), (i64::MAX, 0), (i64::MIN, u64::MAX)]
        {
            for since_boot_s in [0, i64::MAX] {
                for boot in ["a", "b"] {
                    reading(boot, since_boot_s, 0).resume(Some(&mark("a", ahead_s, seen_s)));
                }
            }
        }
    }
}
