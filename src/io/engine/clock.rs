//! The clock that leases run on: the time that hosts have run for the server, which nobody can set,
//! told as unix seconds.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use ringboot_protocol::model::lease_clock::{ClockMark, ClockReading};

const SECOND_NS: i64 = 1_000_000_000;
/// The kernel's name for the time since it was started.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// By how much this clock is ahead of the time since boot, seconds: by the wall clock, until the
/// store tells how to go on.
static AHEAD_S: LazyLock<AtomicI64> = LazyLock::new(|| AtomicI64::new(take_reading().resume(None)));

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

/// The mark of a clock that is ahead of the time since boot by so much, now.
pub fn take_mark(ahead_s: i64) -> ClockMark {
    let ClockReading { boot, since_boot_s, wall_s } = take_reading();
    let seen_s = u64::try_from(since_boot_s.saturating_add(ahead_s)).unwrap_or(0);
    ClockMark { boot: boot.unwrap_or_default(), ahead_s, seen_s, wall_s }
}

/// What the host says of its clocks now.
pub fn take_reading() -> ClockReading {
    ClockReading {
        boot: BOOT.clone(),
        since_boot_s: since_boot_s(),
        wall_s: read(libc::CLOCK_REALTIME) / SECOND_NS,
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
}
