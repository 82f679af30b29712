//! A message as it came in: its bytes, where from, and what of this host it met.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::subnet::Held;
use crate::model::network::Network;

/// A datagram and how it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub bytes: &'a [u8],
    pub source: SocketAddrV4,
    /// From IP_PKTINFO; None where it is not known.
    pub destination: Option<Ipv4Addr>,
    pub interface: Option<&'a str>,
    /// Our address on the receiving interface.
    pub interface_address: Ipv4Addr,
    /// All our addresses there, with the lengths of their prefixes; empty where the interface is
    /// not known.
    pub here: &'a [(Ipv4Addr, u8)],
    /// Every address of this host, in order: a REQUEST may name any of them (D-20).
    pub ours: &'a [Ipv4Addr],
    /// Subnets on which nothing may leave now, in order, with the reason.
    pub held: &'a [(Network, Held)],
}

impl Arrival<'_> {
    /// True where the datagram was sent to an address of ours alone.
    pub(super) fn is_unicast(&self) -> bool {
        self.destination
            .is_some_and(|to| to == self.interface_address || self.ours.binary_search(&to).is_ok())
    }
}
