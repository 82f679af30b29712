//! A message as it came in: its bytes, its source, and the addresses of this host at that time.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::subnet::HoldReason;
use crate::model::network::Ipv4Network;

/// A datagram and how it arrived.
#[derive(Clone, Copy, Debug)]
pub struct IncomingMessage<'a> {
    /// The UDP payload.
    pub bytes: &'a [u8],
    /// Source address and port of the datagram.
    pub source: SocketAddrV4,
    /// Destination address, from IP_PKTINFO; None where it is unknown.
    pub destination: Option<Ipv4Addr>,
    /// Name of the receiving interface; None where it is unknown.
    pub interface: Option<&'a str>,
    /// Our main address on the receiving interface.
    pub interface_address: Ipv4Addr,
    /// All our addresses on that interface, with their prefix lengths; empty where the interface is
    /// unknown.
    pub here: &'a [(Ipv4Addr, u8)],
    /// Every address of this host, sorted: a REQUEST may name any of them (D-20).
    pub ours: &'a [Ipv4Addr],
    /// Subnets that must not answer now, sorted, each with the reason.
    pub held: &'a [(Ipv4Network, HoldReason)],
}

impl IncomingMessage<'_> {
    /// True where the datagram was sent to an address of ours, not to a broadcast address.
    pub(super) fn is_unicast(&self) -> bool {
        self.destination
            .is_some_and(|to| to == self.interface_address || self.ours.binary_search(&to).is_ok())
    }
}
