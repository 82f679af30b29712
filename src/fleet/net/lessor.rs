//! How a fleet reaches a DHCP server, and what becomes of the addresses that it is given there.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use super::context::Context;
use super::ledger::Ledger;
use super::link::Link;
use super::relay::{self, Relay};
use super::segment::{Road, Segment};
use crate::limits::{HOST_NETWORK_PREFIX_MAX, MACHINES_PER_RELAY};
use ringboot_io::engine::net::{self, Interface};
use ringboot_protocol::model::network::Network;

/// The DHCP side of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lessor {
    pub way: Way,
    /// Addresses are not given back at the end.
    pub keeps_leases: bool,
}

/// From where machines ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Behind relay agents of this host: no privilege is needed, and the server may be anywhere.
    Relay {
        /// An address of this host. On loopback each rack has its own, counted from this one. Port
        /// 0 is any, with the answers asked for there (RFC 8357); 67 suits every server and needs
        /// the privilege to bind it.
        agent: SocketAddrV4,
        server: SocketAddrV4,
    },
    /// As stations of the network at this interface, each with a hardware address of its own. Needs
    /// CAP_NET_RAW.
    Link { interface: String },
}

impl Lessor {
    /// By this way; addresses are given back at the end.
    pub fn by(way: Way) -> Self {
        Self { way, keeps_leases: false }
    }

    /// The segments that so many machines are spread over, one after the other. Within a set of
    /// local tasks.
    pub(crate) fn open(
        &self,
        context: &Rc<Context>,
        machines: u32,
        seed: u64,
    ) -> io::Result<Vec<Rc<Segment>>> {
        let ledger = Rc::new(Ledger::new(self.way.networks()?));
        let segment = |road, number| {
            Segment::open(Rc::clone(context), road, Rc::clone(&ledger), seed.wrapping_add(number))
        };
        match &self.way {
            Way::Link { interface } => Ok(vec![segment(Road::Link(Link::open(interface)?), 0)]),
            Way::Relay { agent, server } => {
                let room = relay::room();
                // A rack has an agent of its own where this host has the addresses for it: all of
                // loopback is its own.
                let racks = if agent.ip().is_loopback() {
                    machines.div_ceil(MACHINES_PER_RELAY)
                } else {
                    1
                };
                let open = |rack: u32| {
                    let address = Ipv4Addr::from(u32::from(*agent.ip()).wrapping_add(rack));
                    let at = SocketAddrV4::new(address, agent.port());
                    Ok(segment(
                        Road::Relay(Relay::open(at, *server, Rc::clone(&room))?),
                        rack.into(),
                    ))
                };
                (0..racks).map(open).collect()
            }
        }
    }
}

impl Way {
    /// Nothing of it leaves this host.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Relay { agent, server } => agent.ip().is_loopback() && server.ip().is_loopback(),
            Self::Link { interface } => interface == "lo",
        }
    }

    /// The networks that machines are in, as far as this host's own addresses tell: those of the
    /// interface that has the agent's address, or those of the interface itself. Empty where
    /// nothing is known.
    pub fn networks(&self) -> io::Result<Vec<Network>> {
        let is_ours = |interface: &Interface| match self {
            Self::Relay { agent, .. } => {
                // All of a loopback network is this host's.
                let holds =
                    |network: Network| agent.ip().is_loopback() && network.contains(*agent.ip());
                prefixes(interface)
                    .any(|(address, network)| address == *agent.ip() || holds(network))
            }
            Self::Link { interface: name } => interface.name == *name,
        };
        let interfaces = net::interfaces()?;
        let networks = interfaces.iter().filter(|interface| is_ours(interface)).flat_map(prefixes);
        Ok(networks
            .map(|(_, network)| network)
            .filter(|network| network.prefix <= HOST_NETWORK_PREFIX_MAX)
            .collect())
    }
}

/// The addresses of an interface with their networks.
fn prefixes(interface: &Interface) -> impl Iterator<Item = (Ipv4Addr, Network)> {
    interface.prefixes.iter().map(|&(address, prefix)| {
        let mask = Network { address, prefix }.mask();
        (address, Network { address: address & mask, prefix })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn loopback_is_the_network_of_its_relay_agents_and_a_stranger_has_none() {
        let server = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 67);
        let way = |agent: [u8; 4]| Way::Relay { agent: SocketAddrV4::new(agent.into(), 0), server };
        assert_eq!(
            way([127, 77, 0, 2]).networks().unwrap(),
            ["127.0.0.0/8".parse::<Network>().unwrap()]
        );
        assert_eq!(way([203, 0, 113, 9]).networks().unwrap(), []);
        assert!(way([127, 77, 0, 2]).is_loopback() && !way([203, 0, 113, 9]).is_loopback());
        assert!(!Way::Link { interface: "eth0".into() }.is_loopback());
        assert_eq!(Way::Link { interface: "no such".into() }.networks().unwrap(), []);
    }
}
