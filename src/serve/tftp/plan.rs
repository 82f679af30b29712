//! What the configuration says of TFTP, the sockets of a core, and what it counts.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::model::machine::Machine;
use crate::observe::counters::SharedCount;
use crate::tftp::options::OptionPolicy;
use crate::tftp::table::TftpPolicy;

/// What a client may negotiate, by its address and what is known of it (T-23).
pub type OptionsFor = dyn Fn(IpAddr, Option<&Machine>) -> OptionPolicy + Send + Sync;

/// `[tftp]` as the cores want it.
#[derive(Clone)]
pub struct TftpPlan {
    pub listen: Vec<SocketAddr>,
    /// Sockets per core and address family that transfers answer from (T-46); 0 = from the
    /// listening port (T-47).
    pub tids: u16,
    /// Their ports, both ends included; None = the system's ephemeral ports.
    pub port_range: Option<(u16, u16)>,
    pub policy: TftpPolicy,
    pub options_for: Arc<OptionsFor>,
    /// How long a core polls while transfers are in flight before it sleeps.
    pub spin: Duration,
    /// Blocks that leave in one send at most. The kernel's own limit holds beside it
    /// ([`blocks_per_send`](crate::engine::udp::count_blocks_per_send)).
    pub segments_max: u32,
    /// Buffers that the ring receives into: a power of two.
    pub receive_buffers: u16,
}

impl std::fmt::Debug for TftpPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TftpPlan")
            .field("listen", &self.listen)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// One core's sockets, bound by the supervisor.
#[derive(Debug, Default)]
pub struct TftpSockets {
    pub listening: Vec<(SocketAddr, OwnedFd)>,
    /// First those of IPv4, then those of IPv6.
    pub tids: Vec<(SocketAddr, OwnedFd)>,
}

/// Answers that HTTP sends on the same processor: polling would take time from them.
pub type HttpBusy = Arc<AtomicU32>;

/// What one TFTP core counts.
#[derive(Debug, Default)]
pub struct TftpCounters {
    /// Transfers that run now.
    pub transfers: SharedCount,
    pub requests: SharedCount,
    /// Requests of clients that are not served (T-65), or sent to broadcast addresses (T-9).
    pub not_served: SharedCount,
    /// Requests that waited for their turn, and those that found no room to wait.
    pub waited: SharedCount,
    pub dropped: SharedCount,
    /// Requests that found the table full.
    pub full: SharedCount,
    /// Transfers that made room for others.
    pub displaced: SharedCount,
    /// Transfers that ended because a forger guessed their port.
    pub guessed: SharedCount,
    /// Times that a request or a transfer waited for want of workers, files, descriptors or memory.
    pub busy: SharedCount,
    /// Events beyond what is logged in a second.
    pub events_left_out: SharedCount,
}
