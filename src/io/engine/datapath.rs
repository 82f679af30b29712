//! How cores speak to the kernel: by io_uring, or by plain system calls and epoll where the kernel
//! refuses a ring.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Chosen once, for every core alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Datapath {
    /// A ring for each core.
    #[default]
    IoUring,
    /// A ring for each core, and epoll for one that the kernel refuses a ring at its start.
    IoUringOrEpoll,
    /// recvmmsg, sendmmsg and epoll: for containers and hardened hosts that refuse io_uring.
    Epoll,
}

/// Cores that were refused a ring since the start.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Cores of this process that serve by epoll because they were refused a ring.
pub fn cores_without_ring() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

impl Datapath {
    /// The ways that there are.
    pub const ALL: [Self; 2] = [Self::IoUring, Self::Epoll];

    /// The driver of one core.
    pub(super) fn driver<D, E: fmt::Display>(
        self,
        ring: impl FnOnce() -> Result<D, E>,
        epoll: impl FnOnce() -> Result<D, E>,
    ) -> Result<D, E> {
        match self {
            Self::IoUring => ring(),
            Self::Epoll => epoll(),
            Self::IoUringOrEpoll => ring().or_else(|error| {
                REFUSED.fetch_add(1, Ordering::Relaxed);
                let thread = std::thread::current();
                tracing::warn!(
                    "{} serves by epoll, because {error}",
                    thread.name().unwrap_or("a core")
                );
                epoll()
            }),
        }
    }
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring | Self::IoUringOrEpoll => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}
