//! All that control gives to the cores: one immutable generation after another, read by every
//! thread without a lock.

use std::num::NonZeroU64;

use crate::boot::menu::BootMenu;
use crate::boot::quirks::FixedQuirk;
use crate::dhcp::policy::DhcpPolicy;
use crate::model::network::Ipv4Network;

pub mod bindings;
mod published;
pub mod walks;

pub use published::{PublishedGeneration, PublishedState};

/// The configuration as the cores see it. Never changed after it has been published.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub dhcp: DhcpPolicy,
    /// Where each subnet is written, `path:line`: for what is said of it while the server runs.
    pub places: Vec<(Ipv4Network, String)>,
    /// Interfaces that DHCP listens on, each with a socket of its own.
    pub dhcp_interfaces: Vec<String>,
    /// None: no menu is rendered (`--root` without a configuration).
    pub menu: Option<BootMenu>,
    /// `[[quirk]]`
    pub quirks: Vec<FixedQuirk>,
    /// `[http] rate`: bytes a second on one connection, whoever has it; None = as fast as it goes.
    pub http_rate: Option<NonZeroU64>,
}

impl Snapshot {
    /// T-65: the networks whose clients are served; none = everybody.
    pub fn networks(&self) -> Vec<Ipv4Network> {
        self.dhcp.subnets.iter().map(|subnet| subnet.network).collect()
    }
}
