//! What the DHCP core is made of, and what it counts.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::findings::SegmentFindings;
use super::segment::KeepLook;
use crate::dhcp::lease::LeaseTable;
use crate::dhcp::other_servers::LookResult;
use crate::dhcp::pool_use::PoolReport;
use crate::observe::counters::SharedCount;
use crate::serve::health::StoreHealth;
use crate::snapshot::PublishedState;
use crate::store::LeaseStore;

/// Everything that the DHCP core is made of.
pub struct DhcpPlan {
    /// One socket on this address, for relays and loopback.
    pub address: Option<Ipv4Addr>,
    /// 67, unless a test or a demonstration says otherwise.
    pub port: u16,
    pub published: Arc<PublishedState>,
    /// Loaded from the store.
    pub leases: LeaseTable,
    pub store: Box<dyn LeaseStore>,
    /// The file of the store, for sentences.
    pub database: PathBuf,
    /// Told by the thread of the store.
    pub health: Arc<StoreHealth>,
    /// What the last looks for other servers found.
    pub looks: Vec<LookResult>,
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
    pub received: SharedCount,
    /// By the type that the message names, whatever it is worth.
    pub discovers: SharedCount,
    pub requests: SharedCount,
    pub declines: SharedCount,
    pub releases: SharedCount,
    pub informs: SharedCount,
    /// BOOTP, and what is no message at all.
    pub others: SharedCount,
    /// Answers that were to leave.
    pub answered: SharedCount,
    pub offers: SharedCount,
    pub acks: SharedCount,
    pub naks: SharedCount,
    /// Answers that were dropped because their way out was full, and those that the kernel refused.
    pub unsent: SharedCount,
    pub failed: SharedCount,
    /// Messages without an answer because no address was free.
    pub exhausted: SharedCount,
    /// Messages that were dropped because too many waited, and requests because the store was
    /// behind.
    pub dropped: SharedCount,
    pub dropped_commits: SharedCount,
    /// Leases and offers in memory, and how many of them stand in each state.
    pub leases: SharedCount,
    pub bound: SharedCount,
    pub offered: SharedCount,
    pub ended: SharedCount,
    pub kept_back: SharedCount,
    /// The pools of every served subnet, as they were within the last second or two.
    pub pools: ArcSwap<Vec<PoolReport>>,
    /// ACKs that wait for their commit.
    pub pending: SharedCount,
}
