//! The clock that leases run on: the time that hosts have run for the server, which nobody can set,
//! told as unix seconds.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

const SECOND_NS: i64 = 1_000_000_000;
/// The kernel's name for the time since it was started.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// By how much this clock is ahead of the time since boot, seconds: by the wall clock, until the
/// store tells how to go on.
static AHEAD_S: LazyLock<AtomicI64> =
    LazyLock::new(|| AtomicI64::new(Reading::take().resume(None)));

static BOOT: LazyLock<Option<String>> = LazyLock::new(|| {
    let id = std::fs::read_to_string(BOOT_ID).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
});

/// Seconds. A step of the wall clock does not change them; the time of a suspended machine counts.
pub fn now_s() -> u64 {
    let now = since_boot_s().saturating_add(AHEAD_S.load(Ordering::Relaxed));
    u64::try_from(now).unwrap_or(0)
}

/// From now on the clock is ahead of the time since boot by so much. Before any lease is known to
/// the process.
pub fn go_by(ahead_s: i64) {
    AHEAD_S.store(ahead_s, Ordering::Relaxed);
}

/// By how much the wall clock is ahead of this one, seconds.
pub fn wall_ahead_s() -> i64 {
    let ahead_ns = AHEAD_S.load(Ordering::Relaxed).saturating_mul(SECOND_NS);
    let now = read(libc::CLOCK_BOOTTIME).saturating_add(ahead_ns);
    read(libc::CLOCK_REALTIME)
        .saturating_sub(now)
        .saturating_add(SECOND_NS / 2)
        .div_euclid(SECOND_NS)
}

/// What the store keeps of this clock, so that the next run goes on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of the host that ran then. Empty: unknown.
    pub boot: String,
    /// By how much the clock was ahead of the time since that boot.
    pub ahead_s: i64,
    /// It had come so far.
    pub seen_s: u64,
    /// What the wall clock said then: for whoever reads the store.
    pub wall_s: i64,
}

impl Mark {
    /// Of a clock that is ahead of the time since boot by so much.
    pub fn take(ahead_s: i64) -> Self {
        let Reading { boot, since_boot_s, wall_s } = Reading::take();
        let seen_s = u64::try_from(since_boot_s.saturating_add(ahead_s)).unwrap_or(0);
        Self { boot: boot.unwrap_or_default(), ahead_s, seen_s, wall_s }
    }
}

/// What the host tells.
#[derive(Clone, Debug)]
pub struct Reading {
    /// None: it does not say which boot this is.
    pub boot: Option<String>,
    pub since_boot_s: i64,
    pub wall_s: i64,
}

impl Reading {
    pub fn take() -> Self {
        Self {
            boot: BOOT.clone(),
            since_boot_s: since_boot_s(),
            wall_s: read(libc::CLOCK_REALTIME) / SECOND_NS,
        }
    }

    /// By how much the clock of leases is ahead of the time since boot, when a run goes on with
    /// what another has left.
    ///
    /// Within one boot it goes on exactly. After another boot, or on another host, nobody knows for
    /// how long nothing ran: a wall clock may be wrong. The clock goes on where it was seen last: a
    /// lease may then last longer than it was given for, and never ends while its holder has it.
    /// Without a mark it begins with the wall clock, whose times the rows of old stores are in.
    pub fn resume(&self, before: Option<&Mark>) -> i64 {
        let Some(mark) = before else { return self.wall_s.saturating_sub(self.since_boot_s) };
        let seen_s = i64::try_from(mark.seen_s).unwrap_or(i64::MAX);
        let is_this_boot = self.boot.as_ref() == Some(&mark.boot);
        // The time since boot goes back where a virtual machine is rolled back, or in another time
        // namespace.
        if is_this_boot && self.since_boot_s.saturating_add(mark.ahead_s) >= seen_s {
            return mark.ahead_s;
        }
        seen_s.saturating_sub(self.since_boot_s)
    }
}

fn since_boot_s() -> i64 {
    read(libc::CLOCK_BOOTTIME) / SECOND_NS
}

/// Nanoseconds: an i64 holds 292 years of them.
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into `time`, which lives across the call. It knows both clocks, so
    // that there is no error.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.saturating_mul(SECOND_NS).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn it_is_the_wall_clock_until_that_is_set_and_goes_on_by_itself() {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let first = now_s();
        assert!(first.abs_diff(wall) <= 1, "{first} and {wall}");
        assert!(wall_ahead_s().abs() <= 1);
        std::thread::sleep(Duration::from_millis(1100));
        assert!((1..=3).contains(&(now_s() - first)));
        assert!(BOOT.is_some());
    }

    fn reading(boot: &str, since_boot_s: i64, wall_s: i64) -> Reading {
        Reading {
            boot: Some(boot.to_owned()).filter(|boot| !boot.is_empty()),
            since_boot_s,
            wall_s,
        }
    }

    fn mark(boot: &str, ahead_s: i64, seen_s: u64) -> Mark {
        Mark { boot: boot.to_owned(), ahead_s, seen_s, wall_s: 7 }
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

    /// Whoever has written into the store.
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
