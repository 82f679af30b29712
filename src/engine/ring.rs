//! Setting up a ring: the best flags that this kernel has, and a clear sentence when it has no ring for us.

use std::io;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode};

use super::limits::{COMPLETIONS_MAX, SUBMISSIONS_MAX};
use super::udp::Wait;

/// Why there is no ring, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum NoRing {
    #[error(
        "the kernel refuses io_uring (EPERM): it is switched off by sysctl kernel.io_uring_disabled, or by the seccomp profile of \
         a container. Set kernel.io_uring_disabled=0, or run ringboot outside the container or with a profile that allows io_uring"
    )]
    Refused,
    #[error("this kernel has no io_uring (ENOSYS): it needs Linux 6.0 or newer")]
    Missing,
    #[error("the io_uring of this kernel is too old: it needs Linux 6.0 or newer")]
    Old,
    #[error(
        "no memory may be locked for an io_uring (ENOMEM): raise RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK= in a systemd unit)"
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

/// A ring for the calling thread alone: DEFER_TASKRUN where the kernel has it (6.1), else COOP_TASKRUN (5.19).
/// The thread that calls this must be the one that uses it.
pub fn for_this_thread() -> Result<IoUring, NoRing> {
    with_completions(COMPLETIONS_MAX)
}

/// The same, with a completion queue of this many entries.
pub fn with_completions(completions: u32) -> Result<IoUring, NoRing> {
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

/// Submits what is queued, and waits as told unless something has completed already. Of [`Wait::Poll`] it takes the sleep.
pub(super) fn enter(ring: &mut IoUring, wait: Wait) -> io::Result<()> {
    let is_busy = !ring.completion().is_empty();
    let submitter = ring.submitter();
    let answer = match wait {
        // Without completions to wait for, the enter must still run deferred work: GETEVENTS goes out with the flag set.
        Wait::No => submitter.submit(),
        _ if is_busy => submitter.submit(),
        Wait::Forever | Wait::Poll { then: None, .. } => submitter.submit_and_wait(1),
        Wait::AtMost(time) | Wait::Poll { then: Some(time), .. } => {
            let time = Timespec::from(time);
            submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
        }
    };
    match answer {
        Ok(_) => Ok(()),
        // The time is over; a signal came; the completion queue wants to be emptied first.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Asks the kernel for a ring that can do what the drivers want, and gives it back.
pub fn probe() -> Result<(), NoRing> {
    let ring = for_this_thread()?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    // The kernel does not list the multishot receive of messages by itself; this operation came with the same release, 6.0.
    if known.is_supported(opcode::SendZc::CODE) { Ok(()) } else { Err(NoRing::Old) }
}
