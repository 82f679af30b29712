//! How cores use the kernel: by io_uring, or by plain system calls and epoll if the kernel refuses
//! a ring.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The data path; all cores have the same one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Datapath {
    /// A ring for each core.
    #[default]
    IoUring,
    /// A ring for each core, and epoll for a core whose ring the kernel refuses.
    IoUringOrEpoll,
    /// recvmmsg, sendmmsg and epoll: for containers and hardened hosts that refuse io_uring.
    Epoll,
}

/// Cores without a ring since the start.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Cores of this process that use epoll because the kernel refused them a ring.
pub fn count_ringless_cores() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

impl Datapath {
    /// Both data paths.
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
