//! IPv4 networks, and sets of them.

use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 network, `192.168.4.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Network {
    /// The first address; bits beyond the prefix are 0 in a configured subnet.
    pub address: Ipv4Addr,
    /// Prefix length, 0..=32.
    pub prefix: u8,
}

impl Ipv4Network {
    /// The subnet mask.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    /// True for an address of this network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & u32::from(self.mask()) == u32::from(self.address)
    }

    /// The last address.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !u32::from(self.mask()))
    }
}

impl std::str::FromStr for Ipv4Network {
    type Err = NotANetwork;

    /// Parses `192.168.4.0/24`; bits beyond the prefix are kept.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').ok_or(NotANetwork)?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or(NotANetwork)?;
        Ok(Self { address: address.parse().map_err(|_| NotANetwork)?, prefix })
    }
}

/// The text is no address with a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is address and prefix length, such as 192.168.4.0/24")]
pub struct NotANetwork;

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A set of networks, which may contain each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    /// First and last addresses, sorted and without overlaps.
    ranges: Vec<(u32, u32)>,
}

impl FromIterator<Ipv4Network> for NetworkSet {
    fn from_iter<I: IntoIterator<Item = Ipv4Network>>(networks: I) -> Self {
        let ends =
            |network: Ipv4Network| (u32::from(network.address), u32::from(network.broadcast()));
        let mut sorted: Vec<(u32, u32)> = networks.into_iter().map(ends).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }
}

impl NetworkSet {
    /// True for an address of any of the networks.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        let after = self.ranges.partition_point(|(first, _)| *first <= address);
        after
            .checked_sub(1)
            .and_then(|at| self.ranges.get(at))
            .is_some_and(|(_, last)| address <= *last)
    }

    /// True where the set has no network.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn network(text: &str) -> Ipv4Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_goes_from_its_address_to_its_broadcast_address() {
        for (text, mask, last, beyond) in [
            ("0.0.0.0/0", "0.0.0.0", "255.255.255.255", None),
            ("128.0.0.0/1", "128.0.0.0", "255.255.255.255", Some("127.255.255.255")),
            ("192.168.4.0/24", "255.255.255.0", "192.168.4.255", Some("192.168.5.0")),
            ("192.168.4.2/31", "255.255.255.254", "192.168.4.3", Some("192.168.4.4")),
            ("192.168.4.2/32", "255.255.255.255", "192.168.4.2", Some("192.168.4.3")),
        ] {
            let network: Ipv4Network = text.parse().unwrap();
            assert_eq!(
                (network.mask().to_string(), network.broadcast().to_string()),
                (mask.into(), last.into())
            );
            assert!(
                network.contains(network.address) && network.contains(last.parse().unwrap()),
                "{text}"
            );
            assert!(
                beyond.is_none_or(|beyond| !network.contains(beyond.parse().unwrap())),
                "{text}"
            );
        }
        let of_a_host: Ipv4Network = "192.168.4.5/24".parse().unwrap();
        assert_eq!(of_a_host.broadcast(), Ipv4Addr::new(192, 168, 4, 255));
    }

    #[test]
    fn networks_within_each_other_are_one() {
        let texts = ["127.0.0.0/8", "127.77.0.1/32", "10.0.0.0/24", "10.0.1.0/24", "10.0.3.0/24"];
        let networks: NetworkSet = texts.into_iter().map(network).collect();
        for (address, is_in) in [
            ([127, 77, 0, 2], true),
            ([127, 255, 255, 255], true),
            ([128, 0, 0, 0], false),
            ([10, 0, 0, 0], true),
            ([10, 0, 1, 255], true),
            ([10, 0, 2, 0], false),
            ([10, 0, 3, 1], true),
            ([9, 255, 255, 255], false),
        ] {
            assert_eq!(networks.contains(address.into()), is_in, "{address:?}");
        }
        assert!(
            !NetworkSet::default().contains(Ipv4Addr::LOCALHOST)
                && NetworkSet::default().is_empty()
        );
    }
}
