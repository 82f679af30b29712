//! Setting up a ring: the best flags that this kernel has, and a clear sentence when it has no ring
//! for us.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode};

use super::limits::{COMPLETIONS_MAX, SHORTAGE_PAUSE, SUBMISSIONS_MAX};
use super::wait::Wait;

/// How often a ring is asked for that the kernel has no memory for now, and how often in a second.
const RING_TRIES: u32 = 10;
const RING_TRIED_EVERY: Duration = Duration::from_millis(20);

/// Calls of all cores that brought nothing, because the kernel was short of memory.
static SHORTAGES: AtomicU64 = AtomicU64::new(0);

/// How often the kernel was short of memory for a core, since the start.
pub fn shortages() -> u64 {
    SHORTAGES.load(Ordering::Relaxed)
}

/// Why there is no ring, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum NoRing {
    #[error(
        "the kernel refuses io_uring (EPERM): it is switched off by sysctl \
         kernel.io_uring_disabled, or by the seccomp profile of a container. Set \
         kernel.io_uring_disabled=0, or run ringboot outside the container or with a profile that \
         allows io_uring"
    )]
    Refused,
    #[error("this kernel has no io_uring (ENOSYS): it needs Linux 6.0 or newer")]
    Missing,
    #[error("the io_uring of this kernel is too old: it needs Linux 6.0 or newer")]
    Old,
    #[error(
        "no memory may be locked for an io_uring (ENOMEM): raise RLIMIT_MEMLOCK (`ulimit -l`, \
         LimitMEMLOCK= in a systemd unit)"
    )]
    Memory,
    #[error("io_uring could not be set up: {0}")]
    Other(#[source] io::Error),
    #[error("epoll could not be set up: {0}")]
    Epoll(#[source] io::Error),
}

impl From<io::Error> for NoRing {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Refused,
            Some(libc::ENOSYS) => Self::Missing,
            Some(libc::ENOMEM) => Self::Memory,
            _ => Self::Other(error),
        }
    }
}

/// A ring for the calling thread alone: DEFER_TASKRUN where the kernel has it (6.1), else
/// COOP_TASKRUN (5.19). The thread that calls this must be the one that uses it.
pub fn for_this_thread() -> Result<IoUring, NoRing> {
    with_completions(COMPLETIONS_MAX)
}

/// The same, with a completion queue of this many entries. What ended processes had locked the
/// kernel gives back with a delay.
pub fn with_completions(completions: u32) -> Result<IoUring, NoRing> {
    for _ in 1..RING_TRIES {
        match build(completions) {
            Err(NoRing::Memory) => std::thread::sleep(RING_TRIED_EVERY),
            answer => return answer,
        }
    }
    build(completions)
}

fn build(completions: u32) -> Result<IoUring, NoRing> {
    let mut best = IoUring::builder();
    best.setup_cqsize(completions).setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    match best.build(SUBMISSIONS_MAX) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let mut older = IoUring::builder();
            older.setup_cqsize(completions).setup_coop_taskrun().setup_taskrun_flag();
            older.build(SUBMISSIONS_MAX).map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => NoRing::Old,
                _ => error.into(),
            })
        }
        answer => Ok(answer?),
    }
}

/// Submits what is queued, and waits as told unless something has completed already. Of
/// [`Wait::Poll`] it takes the sleep.
pub(super) fn enter(ring: &mut IoUring, wait: Wait) -> io::Result<()> {
    let is_busy = !ring.completion().is_empty();
    let submitter = ring.submitter();
    let answer = match wait {
        // Without completions to wait for, the enter must still run deferred work: GETEVENTS goes
        // out with the flag set.
        Wait::No => submitter.submit(),
        _ if is_busy => submitter.submit(),
        Wait::Forever | Wait::Poll { then: None, .. } => submitter.submit_and_wait(1),
        Wait::AtMost(time) | Wait::Poll { then: Some(time), .. } => {
            let time = Timespec::from(time);
            submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
        }
    };
    ride_out(answer.map(drop))
}

/// Submits what is queued. What cannot be submitted now stays queued for the next time.
pub(super) fn submit(ring: &mut IoUring) -> io::Result<()> {
    ride_out(ring.submit().map(drop))
}

/// Takes an error that passes by itself for a call that has brought nothing, after a pause where
/// the kernel is short of memory.
pub(super) fn ride_out(answer: io::Result<()>) -> io::Result<()> {
    match answer.as_ref().err().and_then(io::Error::raw_os_error) {
        // The time is over; a signal came; the completion queue wants to be emptied first.
        Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
        Some(libc::EAGAIN | libc::ENOMEM) => {
            SHORTAGES.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(SHORTAGE_PAUSE);
            Ok(())
        }
        _ => answer,
    }
}

/// Asks the kernel for a ring that can do what the drivers want, and gives it back.
pub fn probe() -> Result<(), NoRing> {
    let ring = for_this_thread()?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    // The kernel does not list the multishot receive of messages by itself; this operation came
    // with the same release, 6.0.
    if known.is_supported(opcode::SendZc::CODE) { Ok(()) } else { Err(NoRing::Old) }
}
