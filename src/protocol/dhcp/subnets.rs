//! All subnets of a configuration, indexed by address and by shared network.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::{Deref, Index, IndexMut};

use super::subnet::Subnet;
use crate::model::network::Ipv4Network;

/// Subnets in the order of the file. Their networks do not overlap: the configuration refuses
/// overlaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetTable {
    all: Vec<Subnet>,
    /// First address and index of each subnet, sorted by address.
    by_address: Vec<(u32, usize)>,
    by_shared_network: HashMap<String, Vec<usize>>,
}

impl From<Vec<Subnet>> for SubnetTable {
    fn from(all: Vec<Subnet>) -> Self {
        let mut by_address: Vec<(u32, usize)> = all
            .iter()
            .enumerate()
            .map(|(place, subnet)| (u32::from(subnet.network.address), place))
            .collect();
        by_address.sort_unstable();
        let mut by_shared_network: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, subnet) in all.iter().enumerate() {
            if let Some(name) = &subnet.shared_network {
                by_shared_network.entry(name.clone()).or_default().push(place);
            }
        }
        Self { all, by_address, by_shared_network }
    }
}

impl SubnetTable {
    /// Appends a subnet, and builds the indexes again.
    pub fn push(&mut self, subnet: Subnet) {
        let mut all = std::mem::take(&mut self.all);
        all.push(subnet);
        *self = all.into();
    }

    /// The subnet that contains an address.
    pub fn find(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.find_place(address).map(|place| &self.all[place])
    }

    /// The index of the subnet that contains an address.
    pub(super) fn find_place(&self, address: Ipv4Addr) -> Option<usize> {
        let after = self.by_address.partition_point(|(first, _)| *first <= u32::from(address));
        let (_, place) = *self.by_address.get(after.checked_sub(1)?)?;
        self.all[place].network.contains(address).then_some(place)
    }

    /// The subnet with exactly this network.
    pub fn find_network(&self, network: Ipv4Network) -> Option<&Subnet> {
        self.find(network.address).filter(|subnet| subnet.network == network)
    }

    /// The subnets of a shared network.
    pub(super) fn sharing(&self, name: &str) -> impl Iterator<Item = &Subnet> {
        self.by_shared_network.get(name).into_iter().flatten().map(|place| &self.all[*place])
    }
}

impl Deref for SubnetTable {
    type Target = [Subnet];

    fn deref(&self) -> &[Subnet] {
        &self.all
    }
}

impl Index<usize> for SubnetTable {
    type Output = Subnet;

    fn index(&self, place: usize) -> &Subnet {
        &self.all[place]
    }
}

/// For tests and for overrides. A change of `network` or `shared_network` does not reach the
/// indexes.
impl IndexMut<usize> for SubnetTable {
    fn index_mut(&mut self, place: usize) -> &mut Subnet {
        &mut self.all[place]
    }
}

impl<'a> IntoIterator for &'a SubnetTable {
    type Item = &'a Subnet;
    type IntoIter = std::slice::Iter<'a, Subnet>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation)]
    use std::time::{Duration, Instant};

    use super::*;
    use crate::dhcp::policy::DhcpPolicy;
    use crate::dhcp::subnet::{AddressPool, Reservation};
    use crate::dhcp::testing::{Message, Server, policy, relayed_subnet, subnet};
    use crate::model::machine::Mac;

    fn network(text: &str) -> Ipv4Network {
        text.parse().expect("a network")
    }

    #[test]
    fn a_subnet_is_found_by_any_of_its_addresses_and_by_its_name() {
        let mut all: Vec<Subnet> = (0..200u8)
            .rev()
            .map(|n| Subnet { network: network(&format!("10.{n}.16.0/20")), ..subnet() })
            .collect();
        all[7].shared_network = Some("floor".to_owned());
        let mut subnets = SubnetTable::from(all.clone());
        let last = Subnet {
            network: network("10.200.0.0/31"),
            shared_network: Some("floor".to_owned()),
            ..subnet()
        };
        subnets.push(last.clone());
        assert_eq!(subnets.len(), 201);
        let in_the_order_of_the_file: Vec<&Subnet> = all.iter().chain([&last]).collect();
        assert_eq!(Vec::from_iter(&subnets), in_the_order_of_the_file);
        for (place, one) in all.iter().enumerate() {
            for address in [one.network.address, one.network.broadcast()] {
                assert_eq!(subnets.find_place(address), Some(place));
            }
            let outside = Ipv4Addr::from(u32::from(one.network.broadcast()) + 1);
            assert_eq!(subnets.find(outside), None);
            assert_eq!(subnets.find_network(one.network), Some(one));
            assert_eq!(subnets.find_network(Ipv4Network { prefix: 21, ..one.network }), None);
        }
        assert_eq!(subnets.find(Ipv4Addr::new(9, 0, 0, 1)), None, "before the first");
        assert_eq!(subnets.sharing("floor").collect::<Vec<_>>(), [&all[7], &last]);
        assert_eq!(subnets.sharing("roof").count(), 0);
    }

    /// A server with `subnets` subnets behind relays, a pool in each, and `reservations` in all.
    fn site(subnets: u32, reservations: u32) -> Server {
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let each = (1 << 24) / subnets.next_power_of_two();
        let one = |n: u32| {
            let network = Ipv4Network {
                address: Ipv4Addr::from(first + n * each),
                prefix: 8 + subnets.next_power_of_two().ilog2() as u8,
            };
            let at = |place: u32| Ipv4Addr::from(u32::from(network.address) + place);
            let host =
                |k: u32| Reservation { mac: numbered(n, k), address: at(300 + k), hostname: None };
            let reservations: Vec<Reservation> = (0..reservations / subnets).map(host).collect();
            Subnet {
                network,
                pools: vec![AddressPool { first: at(10), last: at(250) }],
                reservations: reservations.into(),
                ..relayed_subnet()
            }
        };
        let subnets: Vec<Subnet> = (0..subnets).map(one).collect();
        Server::new(DhcpPolicy { subnets: subnets.into(), ..policy() })
    }

    fn numbered(subnet: u32, machine: u32) -> Mac {
        let ([a, b], [_, c, d, e]) = ((subnet as u16).to_be_bytes(), machine.to_be_bytes());
        Mac([2, a, b, c, d, e])
    }

    /// No message costs a walk over the configuration. The fastest of many rounds counts.
    #[test]
    fn a_large_configuration_makes_no_message_dearer() {
        let sizes = [(1, 25), (4_000, 100_000), (1, 100_000)];
        let mut servers =
            sizes.map(|(subnets, reservations)| (site(subnets, reservations), Duration::MAX));
        for round in 0..60 {
            for (server, fastest) in &mut servers {
                let subnet = &server.policy.subnets[server.policy.subnets.len() * 5 / 7];
                let reserved = subnet.reservations[subnet.reservations.len() / 2].mac;
                let relay = Ipv4Addr::from(u32::from(subnet.network.address) + 1);
                let mut messages = [reserved, Mac([2, 0xff, 0, 0, 0, round])]
                    .map(|mac| Message { mac, ..Message::from(1) });
                for message in &mut messages {
                    (message.giaddr, message.hops) = (relay, 1);
                }
                let began = Instant::now();
                for message in &messages {
                    for _ in 0..20 {
                        let decision = server.decide(&message.clone().pxe(7).discover(), |_| ());
                        assert_eq!(decision.silence, None, "{:?}", decision.reasons);
                    }
                }
                *fastest = began.elapsed().min(*fastest);
            }
        }
        let [small, many_subnets, many_machines] = servers.map(|(_, fastest)| fastest);
        assert!(many_subnets < 2 * small, "4,000 subnets: {many_subnets:?}, one: {small:?}");
        assert!(
            many_machines < 2 * small,
            "100,000 reservations: {many_machines:?}, 25: {small:?}"
        );
    }
}
