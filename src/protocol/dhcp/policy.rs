//! The configuration of DHCP: subnets, boot files, and the address that replies advertise.

use std::net::Ipv4Addr;

use super::subnets::SubnetTable;
use crate::boot::loader_choice::BootConfig;

/// The part of a configuration that decides a DHCP reply.
#[derive(Clone, Debug, Default)]
pub struct DhcpPolicy {
    /// The subnets to serve, found by address and by interface.
    pub subnets: SubnetTable,
    /// Boot files for each class of firmware.
    pub boot: BootConfig,
    /// `[server] advertise`: the server of boot files, in place of the address of the receiving
    /// interface.
    pub advertise: Option<Ipv4Addr>,
    /// Port of HTTP in the URLs of boot files; 80 is left out of the URL.
    pub http_port: u16,
}
