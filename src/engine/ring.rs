//! Setting up a ring: the best flags that this kernel has, and a clear sentence when it has no ring for us.

use std::io;

use io_uring::IoUring;

use super::limits::{COMPLETIONS_MAX, SUBMISSIONS_MAX};

/// Why there is no ring, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum NoRing {
    #[error(
        "the kernel refuses io_uring (EPERM): it is switched off by sysctl kernel.io_uring_disabled, or by the seccomp profile of \
         a container. Set kernel.io_uring_disabled=0, or run ringboot outside the container or with a profile that allows io_uring"
    )]
    Refused,
    #[error("this kernel has no io_uring (ENOSYS): ringboot needs Linux 6.0 or newer")]
    Missing,
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
            Ok(older.build(SUBMISSIONS_MAX)?)
        }
        answer => Ok(answer?),
    }
}

/// Asks the kernel for a ring and gives it back: so that `serve` can refuse before it binds anything.
pub fn probe() -> Result<(), NoRing> {
    for_this_thread().map(drop)
}
