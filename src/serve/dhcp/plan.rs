//! The plan that a DHCP core is made from, and its counters.

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

/// Everything that the DHCP core is made from.
pub struct DhcpPlan {
    /// `listen-address`: one more socket on this address, for relays and loopback.
    pub address: Option<Ipv4Addr>,
    /// 67, unless a test or a demonstration sets another one.
    pub port: u16,
    /// The generation that the core decides from; the core publishes the next ones.
    pub published: Arc<PublishedState>,
    /// The leases, loaded from the store.
    pub leases: LeaseTable,
    /// The store that makes changes durable, for the writer's thread.
    pub store: Box<dyn LeaseStore>,
    /// The path of the store's file, for log lines.
    pub database: PathBuf,
    /// The state of the store; its thread writes it.
    pub health: Arc<StoreHealth>,
    /// What the last looks for other servers found, as the store has kept it.
    pub looks: Vec<LookResult>,
    /// Stores what a look has found.
    pub keep_look: KeepLook,
    /// Where the other-servers thread publishes its findings.
    pub findings: Arc<SegmentFindings>,
}

impl fmt::Debug for DhcpPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DhcpPlan").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The counters of the DHCP core.
#[derive(Debug, Default)]
pub struct DhcpCounters {
    /// Datagrams received, malformed ones included.
    pub received: SharedCount,
    /// Messages whose option 53 says DISCOVER, malformed ones included; the next four likewise.
    pub discovers: SharedCount,
    /// REQUEST messages.
    pub requests: SharedCount,
    /// DECLINE messages.
    pub declines: SharedCount,
    /// RELEASE messages.
    pub releases: SharedCount,
    /// INFORM messages.
    pub informs: SharedCount,
    /// BOOTP messages, other types, and datagrams that are no DHCP.
    pub others: SharedCount,
    /// Answers that the core wanted to send.
    pub answered: SharedCount,
    /// Of these: OFFERs.
    pub offers: SharedCount,
    /// Of these: ACKs, those to an INFORM included.
    pub acks: SharedCount,
    /// Of these: NAKs.
    pub naks: SharedCount,
    /// Answers dropped because the send queue was full.
    pub unsent: SharedCount,
    /// Answers that the kernel refused to send.
    pub failed: SharedCount,
    /// Messages left unanswered because no address was free.
    pub exhausted: SharedCount,
    /// Messages dropped because too many waited for the core.
    pub dropped: SharedCount,
    /// Requests dropped because too many commits waited for the store.
    pub dropped_commits: SharedCount,
    /// Gauge: rows in the lease table; the next four count those in each state.
    pub leases: SharedCount,
    /// Gauge: running leases.
    pub bound: SharedCount,
    /// Gauge: addresses offered and not yet requested.
    pub offered: SharedCount,
    /// Gauge: leases that have ended, whose address is kept for its client.
    pub ended: SharedCount,
    /// Gauge: addresses that are not given, because a client declined them or a host uses them.
    pub kept_back: SharedCount,
    /// How full the pools of each served subnet are, at most a second or two old.
    pub pools: ArcSwap<Vec<PoolReport>>,
    /// Gauge: answers that wait until their changes are durable.
    pub pending: SharedCount,
}
