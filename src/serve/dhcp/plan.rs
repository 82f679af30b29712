//! What the DHCP core is made of, and what it counts.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::findings::SegmentFindings;
use super::segment::KeepLook;
use crate::dhcp::lease::Leases;
use crate::dhcp::neighbours::Look;
use crate::dhcp::pool_use::PoolReport;
use crate::observe::counters::Count;
use crate::serve::health::StoreHealth;
use crate::snapshot::Published;
use crate::store::Store;

/// Everything that the DHCP core is made of.
pub struct DhcpPlan {
    /// One socket on this address, for relays and loopback.
    pub address: Option<Ipv4Addr>,
    /// 67, unless a test or a demonstration says otherwise.
    pub port: u16,
    pub published: Arc<Published>,
    /// Loaded from the store.
    pub leases: Leases,
    pub store: Box<dyn Store>,
    /// The file of the store, for sentences.
    pub database: PathBuf,
    /// Told by the thread of the store.
    pub health: Arc<StoreHealth>,
    /// What the last looks for other servers found.
    pub looks: Vec<Look>,
    pub keep_look: KeepLook,
    pub findings: Arc<SegmentFindings>,
}

impl fmt::Debug for DhcpPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DhcpPlan").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What the DHCP core counts.
#[derive(Debug, Default)]
pub struct DhcpCounters {
    pub received: Count,
    /// By the type that the message names, whatever it is worth.
    pub discovers: Count,
    pub requests: Count,
    pub declines: Count,
    pub releases: Count,
    pub informs: Count,
    /// BOOTP, and what is no message at all.
    pub others: Count,
    /// Answers that were to leave.
    pub answered: Count,
    pub offers: Count,
    pub acks: Count,
    pub naks: Count,
    /// Answers that were dropped because their way out was full, and those that the kernel refused.
    pub unsent: Count,
    pub failed: Count,
    /// Messages without an answer because no address was free.
    pub exhausted: Count,
    /// Messages that were dropped because too many waited, and requests because the store was
    /// behind.
    pub dropped: Count,
    pub dropped_commits: Count,
    /// Leases and offers in memory, and how many of them stand in each state.
    pub leases: Count,
    pub bound: Count,
    pub offered: Count,
    pub ended: Count,
    pub kept_back: Count,
    /// The pools of every served subnet, as they were within the last second or two.
    pub pools: ArcSwap<Vec<PoolReport>>,
    /// ACKs that wait for their commit.
    pub pending: Count,
}
