//! The address of ours that a datagram came to.

use std::net::{IpAddr, Ipv4Addr};

/// Where a datagram came to, and so must be answered from (T-46).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    /// The address at which the request arrived, and from which replies leave.
    pub address: IpAddr,
    /// Interface number; 0 = not known.
    pub interface: u32,
}

/// Whether one host has this address.
pub(super) fn is_unicast_address(address: IpAddr) -> bool {
    !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}
