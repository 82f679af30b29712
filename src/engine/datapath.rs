//! How cores speak to the kernel: by io_uring, or by plain system calls and epoll where the kernel refuses a ring.

use std::fmt;

/// Chosen once, for every core alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Datapath {
    /// A ring for each core.
    #[default]
    IoUring,
    /// recvmmsg, sendmmsg and epoll: for containers and hardened hosts that refuse io_uring.
    Epoll,
}

impl Datapath {
    pub const ALL: [Self; 2] = [Self::IoUring, Self::Epoll];
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}
