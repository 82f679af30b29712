//! Sets up a ring with the best flags of this kernel, and explains a refusal.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode};

use super::limits::{COMPLETIONS_MAX, SHORTAGE_PAUSE, SUBMISSIONS_MAX};
use super::wait::TurnWait;

/// How often to try again when the kernel has no memory for a ring, and how often in a second.
const RING_TRIES: u32 = 10;
const RING_TRIED_EVERY: Duration = Duration::from_millis(20);

/// Calls of all cores that failed because the kernel was short of memory.
static SHORTAGES: AtomicU64 = AtomicU64::new(0);

/// How often a core's call failed because the kernel was short of memory, since the start.
pub fn count_shortages() -> u64 {
    SHORTAGES.load(Ordering::Relaxed)
}

/// Why there is no ring, as a sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum NoRing {
    /// The kernel forbids io_uring to this process (EPERM).
    #[error(
        "the kernel refuses io_uring (EPERM): it is switched off by sysctl \
         kernel.io_uring_disabled, or by the seccomp profile of a container. Set \
         kernel.io_uring_disabled=0, or run ringboot outside the container or with a profile that \
         allows io_uring"
    )]
    Refused,
    /// The kernel was built without io_uring (ENOSYS).
    #[error("this kernel has no io_uring (ENOSYS): it needs Linux 6.0 or newer")]
    Missing,
    /// The kernel lacks an operation that the drivers need.
    #[error("the io_uring of this kernel is too old: it needs Linux 6.0 or newer")]
    Old,
    /// The process may not lock the memory of a ring (ENOMEM).
    #[error(
        "no memory may be locked for an io_uring (ENOMEM): raise RLIMIT_MEMLOCK (`ulimit -l`, \
         LimitMEMLOCK= in a systemd unit)"
    )]
    Memory,
    /// Any other error of the setup.
    #[error("io_uring could not be set up: {0}")]
    Other(#[source] io::Error),
    /// The ring was refused, and epoll fails too.
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

/// Builds a ring for the calling thread alone: DEFER_TASKRUN if the kernel has it (6.1), else
/// COOP_TASKRUN (5.19). The thread that calls this must be the one that uses the ring.
pub fn build_thread_ring() -> Result<IoUring, NoRing> {
    build_sized_ring(COMPLETIONS_MAX)
}

/// The same, with a completion queue of this many entries. Tries again on ENOMEM, since the kernel
/// frees the locked memory of ended processes with a delay.
pub fn build_sized_ring(completions: u32) -> Result<IoUring, NoRing> {
    for _ in 1..RING_TRIES {
        match build_io_uring(completions) {
            Err(NoRing::Memory) => std::thread::sleep(RING_TRIED_EVERY),
            answer => return answer,
        }
    }
    build_io_uring(completions)
}

fn build_io_uring(completions: u32) -> Result<IoUring, NoRing> {
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

/// Submits the queued entries, and waits by `wait` unless something has completed already. For
/// [`TurnWait::Poll`] it only sleeps.
pub(super) fn enter_ring(ring: &mut IoUring, wait: TurnWait) -> io::Result<()> {
    let is_busy = !ring.completion().is_empty();
    let submitter = ring.submitter();
    let answer = match wait {
        // Without completions to wait for, the enter must still run deferred work: set GETEVENTS.
        TurnWait::No => submitter.submit(),
        _ if is_busy => submitter.submit(),
        TurnWait::Forever | TurnWait::Poll { then: None, .. } => submitter.submit_and_wait(1),
        TurnWait::AtMost(time) | TurnWait::Poll { then: Some(time), .. } => {
            let time = Timespec::from(time);
            submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
        }
    };
    ride_out_error(answer.map(drop))
}

/// Submits the queued entries. Entries that cannot be submitted now stay queued for the next time.
pub(super) fn submit_queued(ring: &mut IoUring) -> io::Result<()> {
    ride_out_error(ring.submit().map(drop))
}

/// Treats a transient error as a call without a result, after a pause if the kernel is short of
/// memory.
pub(super) fn ride_out_error(answer: io::Result<()>) -> io::Result<()> {
    match answer.as_ref().err().and_then(io::Error::raw_os_error) {
        // The time is over, a signal arrived, or the completion queue must be drained first.
        Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
        Some(libc::EAGAIN | libc::ENOMEM) => {
            SHORTAGES.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(SHORTAGE_PAUSE);
            Ok(())
        }
        _ => answer,
    }
}

/// Checks that the kernel grants a ring with the operations of the drivers.
pub fn probe_ring() -> Result<(), NoRing> {
    let ring = build_thread_ring()?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known)?;
    // The kernel does not list the multishot receive of messages; this operation came with the same
    // release, 6.0.
    if known.is_supported(opcode::SendZc::CODE) { Ok(()) } else { Err(NoRing::Old) }
}
