//! The plan of a TFTP core, its sockets and its counters.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::model::machine::Machine;
use crate::observe::counters::SharedCount;
use crate::tftp::options::OptionPolicy;
use crate::tftp::table::TftpPolicy;

/// The options that a client may negotiate, by its address and its machine (T-23).
pub type OptionsFor = dyn Fn(IpAddr, Option<&Machine>) -> OptionPolicy + Send + Sync;

/// The table `[tftp]` as the cores need it.
#[derive(Clone)]
pub struct TftpPlan {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Sockets per core and address family from which transfers answer (T-46); 0: they answer from
    /// the listening port (T-47).
    pub tids: u16,
    /// First and last port of these sockets; None: the system's ephemeral ports.
    pub port_range: Option<(u16, u16)>,
    /// Limits and timers of the transfer table.
    pub policy: TftpPolicy,
    /// Which options a client may negotiate.
    pub options_for: Arc<OptionsFor>,
    /// How long a core polls after the last datagram before it sleeps, while transfers run; zero:
    /// never.
    pub spin: Duration,
    /// Most blocks in one send. The kernel's own limit applies too
    /// ([`count_blocks_per_send`](crate::engine::udp::count_blocks_per_send)).
    pub segments_max: u32,
    /// Receive buffers of the ring, a power of two.
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
    /// Sockets that receive requests.
    pub listening: Vec<(SocketAddr, OwnedFd)>,
    /// Sockets that transfers answer from: those of IPv4 first, then those of IPv6.
    pub tids: Vec<(SocketAddr, OwnedFd)>,
}

/// Number of answers that HTTP sends on the same processor: polling would take time from them.
pub type HttpBusy = Arc<AtomicU32>;

/// The counters of one TFTP core.
#[derive(Debug, Default)]
pub struct TftpCounters {
    /// Gauge: transfers that run now.
    pub transfers: SharedCount,
    /// Well-formed read requests, retransmissions included.
    pub requests: SharedCount,
    /// Requests from addresses that are not served (T-65), or sent to a broadcast address (T-9).
    pub not_served: SharedCount,
    /// Requests that waited for their turn.
    pub waited: SharedCount,
    /// Requests dropped because too many waited.
    pub dropped: SharedCount,
    /// Requests that found the table full.
    pub full: SharedCount,
    /// Transfers ended to make room for others.
    pub displaced: SharedCount,
    /// Transfers ended because a forger guessed their port.
    pub guessed: SharedCount,
    /// Times that a request or transfer waited because workers, files, descriptors or memory were
    /// short.
    pub busy: SharedCount,
    /// Events that the core did not log because there were too many in one second.
    pub events_left_out: SharedCount,
}
