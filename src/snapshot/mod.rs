//! Everything that control gives to the cores: one immutable generation after another, which every
//! thread reads without a lock.

use std::num::NonZeroU64;

use crate::boot::menu::BootMenu;
use crate::boot::quirks::FixedQuirk;
use crate::dhcp::policy::DhcpPolicy;
use crate::model::network::Ipv4Network;

pub mod bindings;
mod published;
pub mod walks;

pub use published::{PublishedGeneration, PublishedState};

/// The configuration as the cores see it. It never changes after it has been published.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Subnets, boot loaders and the answers of DHCP.
    pub dhcp: DhcpPolicy,
    /// Where the configuration names each subnet, `path:line`, for log lines while the server runs.
    pub places: Vec<(Ipv4Network, String)>,
    /// Interfaces that DHCP listens on, each with a socket of its own.
    pub dhcp_interfaces: Vec<String>,
    /// None: no menu is rendered (`--root` without a configuration).
    pub menu: Option<BootMenu>,
    /// The limits of firmware from the `[[quirk]]` tables.
    pub quirks: Vec<FixedQuirk>,
    /// `[http] rate`: most bytes a second on one connection; None: no limit.
    pub http_rate: Option<NonZeroU64>,
}

impl Snapshot {
    /// The networks whose clients are served (T-65); empty: all clients.
    pub fn networks(&self) -> Vec<Ipv4Network> {
        self.dhcp.subnets.iter().map(|subnet| subnet.network).collect()
    }
}
