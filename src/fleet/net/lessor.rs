//! How a fleet reaches a DHCP server, and whether it releases its addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use super::context::FleetContext;
use super::ledger::AddressLedger;
use super::link::PacketLink;
use super::relay::{self, RelayAgent};
use super::segment::{FleetSegment, SegmentTransport};
use crate::limits::{HOST_NETWORK_PREFIX_MAX, MACHINES_PER_RELAY};
use ringboot_io::engine::net::{self, NetworkInterface};
use ringboot_protocol::model::network::Ipv4Network;

/// The DHCP side of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpAccess {
    /// How machines reach the server.
    pub way: DhcpRoute,
    /// Do not release addresses at the end.
    pub keeps_leases: bool,
}

/// The place of the machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhcpRoute {
    /// Behind relay agents of this host: this needs no privilege, and the server may be anywhere.
    Relay {
        /// An address of this host. On loopback, and if the plan has source addresses with it, each
        /// rack has its own, counted from this one. Port 0 is any, to which answers are requested
        /// (RFC 8357); 67 works with every server and needs the privilege to bind it.
        agent: SocketAddrV4,
        /// The DHCP server to which the agents forward.
        server: SocketAddrV4,
    },
    /// As stations of the network at this interface, each with its own hardware address. Needs
    /// CAP_NET_RAW.
    Link {
        /// Name of an Ethernet interface of this host.
        interface: String,
    },
}

impl DhcpAccess {
    /// Access by this route; the fleet releases its addresses at the end.
    pub fn new(way: DhcpRoute) -> Self {
        Self { way, keeps_leases: false }
    }

    /// Makes the segments of this many machines, one after the other. Call it within a set of local
    /// tasks.
    pub(crate) fn open(
        &self,
        context: &Rc<FleetContext>,
        machines: u32,
        seed: u64,
    ) -> io::Result<Vec<Rc<FleetSegment>>> {
        let ledger = Rc::new(AddressLedger::new(self.way.list_networks()?));
        let roads = match &self.way {
            DhcpRoute::Link { interface } => {
                vec![SegmentTransport::Link(PacketLink::open(interface)?)]
            }
            DhcpRoute::Relay { agent, server } => {
                let room = relay::make_shared_inbox();
                // A rack has its own agent if this host has the addresses for it, as on loopback or
                // over a private link.
                let racks = if context.wire.may_send_from(*agent.ip()) {
                    machines.div_ceil(MACHINES_PER_RELAY)
                } else {
                    1
                };
                let mut roads = Vec::new();
                for rack in 0..racks {
                    let address = Ipv4Addr::from(u32::from(*agent.ip()).wrapping_add(rack));
                    let at = SocketAddrV4::new(address, agent.port());
                    let relay = RelayAgent::open(at, *server, Rc::clone(&room))?;
                    roads.push(SegmentTransport::Relay(relay));
                }
                roads
            }
        };
        let segments = (0..).zip(roads).map(|(number, road)| {
            let seed = seed.wrapping_add(number);
            FleetSegment::open(Rc::clone(context), road, Rc::clone(&ledger), seed)
        });
        Ok(segments.collect())
    }
}

impl DhcpRoute {
    /// Whether no packet leaves this host.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Relay { agent, server } => agent.ip().is_loopback() && server.ip().is_loopback(),
            Self::Link { interface } => interface == "lo",
        }
    }

    /// The networks of the machines, as far as this host's own addresses show them: those of the
    /// interface with the agent's address, or of the interface itself. Empty if unknown.
    pub fn list_networks(&self) -> io::Result<Vec<Ipv4Network>> {
        let interfaces = net::list_interfaces()?;
        let networks = interfaces
            .iter()
            .filter(|interface| self.uses_interface(interface))
            .flat_map(list_interface_networks);
        Ok(networks
            .map(|(_, network)| network)
            .filter(|network| network.prefix <= HOST_NETWORK_PREFIX_MAX)
            .collect())
    }

    /// Whether the machines are in the networks of this interface.
    fn uses_interface(&self, interface: &NetworkInterface) -> bool {
        match self {
            Self::Relay { agent, .. } => {
                let agent = *agent.ip();
                // Every address of a loopback network is this host's.
                list_interface_networks(interface).any(|(address, network)| {
                    address == agent || agent.is_loopback() && network.contains(agent)
                })
            }
            Self::Link { interface: name } => interface.name == *name,
        }
    }
}

/// The addresses of an interface with their networks.
fn list_interface_networks(
    interface: &NetworkInterface,
) -> impl Iterator<Item = (Ipv4Addr, Ipv4Network)> {
    interface.prefixes.iter().map(|&(address, prefix)| {
        let mask = Ipv4Network { address, prefix }.mask();
        (address, Ipv4Network { address: address & mask, prefix })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loopback_is_the_network_of_its_relay_agents_and_a_stranger_has_none() {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 67);
        let way =
            |agent: [u8; 4]| DhcpRoute::Relay { agent: SocketAddrV4::new(agent.into(), 0), server };
        assert_eq!(
            way([127, 77, 0, 2]).list_networks().unwrap(),
            ["127.0.0.0/8".parse::<Ipv4Network>().unwrap()]
        );
        assert_eq!(way([203, 0, 113, 9]).list_networks().unwrap(), []);
        assert!(way([127, 77, 0, 2]).is_loopback() && !way([203, 0, 113, 9]).is_loopback());
        assert!(!DhcpRoute::Link { interface: "eth0".into() }.is_loopback());
        assert_eq!(DhcpRoute::Link { interface: "no such".into() }.list_networks().unwrap(), []);
    }
}
