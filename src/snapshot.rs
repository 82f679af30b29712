//! All that control gives to the cores: one immutable value, shared by every thread.

use std::net::Ipv4Addr;

use crate::boot::menu::Menu;
use crate::boot::plan::BootConfig;
use crate::dhcp::subnet::Subnet;

/// The configuration as the cores see it. Never changed after it has been published.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub subnets: Vec<Subnet>,
    pub boot: BootConfig,
    /// None: no menu is rendered (`--root` without a configuration).
    pub menu: Option<Menu>,
    /// `[server] advertise`: goes before the address of the receiving interface.
    pub advertise: Option<Ipv4Addr>,
    /// Port of HTTP in URLs that we make (80 is left out).
    pub http_port: u16,
}
