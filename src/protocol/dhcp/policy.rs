//! What DHCP answers from: the subnets, and what an answer says of boot files and of this server.

use std::net::Ipv4Addr;

use super::subnets::Subnets;
use crate::boot::plan::BootConfig;

/// The part of a configuration that decides a DHCP answer.
#[derive(Clone, Debug, Default)]
pub struct DhcpPolicy {
    pub subnets: Subnets,
    pub boot: BootConfig,
    /// `[server] advertise`: goes before the address of the receiving interface.
    pub advertise: Option<Ipv4Addr>,
    /// Port of HTTP in URLs that we make (80 is left out).
    pub http_port: u16,
}
