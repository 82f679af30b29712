//! The clock of the leases: the time for which hosts have run the server, which no administrator
//! can set, in Unix seconds.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use ringboot_protocol::model::lease_clock::{ClockMark, ClockReading};

const SECOND_NS: i64 = 1_000_000_000;
/// The kernel's clock of the time since boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// By how many seconds this clock is ahead of the time since boot: by the wall clock, until the
/// store says otherwise.
static AHEAD_S: LazyLock<AtomicI64> =
    LazyLock::new(|| AtomicI64::new(take_clock_reading().resume(None)));

static BOOT: LazyLock<Option<String>> = LazyLock::new(|| {
    let id = std::fs::read_to_string(BOOT_ID).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
});

/// The time in Unix seconds. A step of the wall clock does not change it; it advances while the
/// host is suspended.
pub fn now_s() -> u64 {
    let now = since_boot_s().saturating_add(AHEAD_S.load(Ordering::Relaxed));
    u64::try_from(now).unwrap_or(0)
}

/// Sets by how many seconds the clock is ahead of the time since boot. Call it before the process
/// knows any lease.
pub fn set_clock_ahead(ahead_s: i64) {
    AHEAD_S.store(ahead_s, Ordering::Relaxed);
}

/// By how many seconds the wall clock is ahead of this one.
pub fn wall_ahead_s() -> i64 {
    let ahead_ns = AHEAD_S.load(Ordering::Relaxed).saturating_mul(SECOND_NS);
    let now = read_clock(libc::CLOCK_BOOTTIME).saturating_add(ahead_ns);
    read_clock(libc::CLOCK_REALTIME)
        .saturating_sub(now)
        .saturating_add(SECOND_NS / 2)
        .div_euclid(SECOND_NS)
}

/// The current mark of a clock that is this far ahead of the time since boot.
pub fn take_clock_mark(ahead_s: i64) -> ClockMark {
    let ClockReading { boot, since_boot_s, wall_s } = take_clock_reading();
    let seen_s = u64::try_from(since_boot_s.saturating_add(ahead_s)).unwrap_or(0);
    ClockMark { boot: boot.unwrap_or_default(), ahead_s, seen_s, wall_s }
}

/// Reads the host's clocks.
pub fn take_clock_reading() -> ClockReading {
    ClockReading {
        boot: BOOT.clone(),
        since_boot_s: since_boot_s(),
        wall_s: read_clock(libc::CLOCK_REALTIME) / SECOND_NS,
    }
}

fn since_boot_s() -> i64 {
    read_clock(libc::CLOCK_BOOTTIME) / SECOND_NS
}

/// Nanoseconds: an i64 holds 292 years of them.
fn read_clock(clock: libc::clockid_t) -> i64 {
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
