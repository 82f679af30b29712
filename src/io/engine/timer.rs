//! A timer for tokio's tasks with a precision of some microseconds (timerfd): the runtime's own
//! timers have a millisecond.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A timer for which one task at a time waits.
#[derive(Debug)]
pub struct TaskTimer(AsyncFd<OwnedFd>);

impl TaskTimer {
    /// Creates a timer; call it within a runtime.
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        // SAFETY: an `OwnedFd` never changes its descriptor, `as_raw_fd` always returns that one,
        // and it is closed only with the value, which the AsyncFd owns from here on and gives away
        // to nobody.
        Ok(Self(unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }?))
    }

    /// Returns when this much time has passed.
    pub async fn wait(&self, time: Duration) -> io::Result<()> {
        // All zeros would stop the timer.
        let time = time.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            self.0.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval, it_value },
        )?;
        self.0
            .async_io(Interest::READABLE, |timer| Ok(rustix::io::read(timer, &mut [0; 8])?))
            .await
            .map(drop)
    }

    /// Returns at that moment; with a precision of a millisecond if the timerfd fails.
    pub async fn wait_until(&self, due: Instant) {
        if self.wait(due.saturating_duration_since(Instant::now())).await.is_err() {
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_timer_never_rings_early_and_again_and_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let timer = TaskTimer::new().unwrap();
            for time in [Duration::ZERO, Duration::from_micros(300), Duration::from_millis(2)] {
                let begun = Instant::now();
                timer.wait(time).await.unwrap();
                assert!(begun.elapsed() >= time);
            }
        });
    }
}
