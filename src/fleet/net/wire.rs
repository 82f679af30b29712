//! A fleet's use of the network: what it verifies of the received bytes, its source addresses, and
//! simulated losses.

use std::net::{IpAddr, Ipv4Addr};

use super::impair::NetworkImpairment;
use ringboot_protocol::model::network::Ipv4Network;

/// What a machine verifies of a file with known contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentProof {
    /// Every byte.
    #[default]
    Full,
    /// The number of bytes.
    Length,
    /// Nothing: bytes are only counted.
    None,
}

/// A fleet's settings of the network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireSettings {
    /// What machines verify of files with known contents.
    pub verify: ContentProof,
    /// Datagrams of one transfer may arrive joined (UDP_GRO), as from a network card that does so.
    pub gro: bool,
    /// The impairments of datagrams, both ways.
    pub impairment: NetworkImpairment,
    /// Source addresses of machines; all of them belong to this host. 127.0.0.0/8 does so in any
    /// case.
    pub sources: Option<Ipv4Network>,
}

impl WireSettings {
    /// The source address of machine `number` without a lease: its own if there are enough, so that
    /// a server's limits per address see separate machines; unspecified if this host has only one
    /// address.
    pub(crate) fn choose_unleased_address(&self, number: u32, server: IpAddr) -> Ipv4Addr {
        const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 78, 0, 0);
        match self.sources {
            _ if server.is_ipv6() => Ipv4Addr::UNSPECIFIED,
            Some(network) => {
                // Neither the network's own address nor its broadcast.
                let usable = (!u32::from(network.mask())).saturating_sub(1).max(1);
                let first = u32::from(network.address) & u32::from(network.mask());
                Ipv4Addr::from(first.saturating_add(1 + number % usable))
            }
            None if server.is_loopback() => {
                Ipv4Addr::from(u32::from(LOOPBACK).saturating_add(1 + number))
            }
            None => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Whether this host may send from a machine's leased address.
    pub(super) fn may_send_from(&self, address: Ipv4Addr) -> bool {
        address.is_loopback()
            || self.sources.is_some_and(|network| {
                u32::from(network.mask()) & (u32::from(network.address) ^ u32::from(address)) == 0
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn machines_have_addresses_of_their_own_where_the_host_has_them() {
        let (near, far) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 0, 0, 1]));
        let wire = WireSettings::default();
        assert_eq!(wire.choose_unleased_address(299, near), Ipv4Addr::new(127, 78, 1, 44));
        assert_eq!(wire.choose_unleased_address(299, far), Ipv4Addr::UNSPECIFIED);
        assert_eq!(
            wire.choose_unleased_address(299, "::1".parse().unwrap()),
            Ipv4Addr::UNSPECIFIED
        );
        assert!(
            wire.may_send_from(Ipv4Addr::new(127, 1, 2, 3))
                && !wire.may_send_from(Ipv4Addr::new(10, 9, 0, 7))
        );
        let wire = WireSettings { sources: Some("10.9.0.5/24".parse().unwrap()), ..wire };
        assert_eq!(wire.choose_unleased_address(0, far), Ipv4Addr::new(10, 9, 0, 1));
        assert_eq!(wire.choose_unleased_address(253, far), Ipv4Addr::new(10, 9, 0, 254));
        assert_eq!(
            wire.choose_unleased_address(254, far),
            Ipv4Addr::new(10, 9, 0, 1),
            "there are no more"
        );
        assert!(
            wire.may_send_from(Ipv4Addr::new(10, 9, 0, 7))
                && !wire.may_send_from(Ipv4Addr::new(10, 8, 0, 7))
        );
    }
}
