//! The interfaces of this host as the DHCP core knows them: their addresses, and the server's own
//! address on the segment of a client.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::dhcp::other_servers;
use crate::dhcp::subnet::{AnsweringMode, Subnet};
use crate::dhcp::subnets::SubnetTable;
use crate::engine::net::NetworkInterface;
use crate::engine::udp::SocketId;
use crate::model::machine::Mac;

/// Sockets and local addresses whose own address is remembered.
const OWN_ADDRESSES_MAX: usize = 4096;
/// A packet of this many bytes fits every link (RFC 791).
const PACKET_BYTES_ANYWHERE: usize = 576;

/// The server's own address on the segment of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnAddress {
    pub(super) address: Ipv4Addr,
    /// Index of the interface in [`HostInterfaces`]; None: the socket is bound to no interface.
    place: Option<usize>,
}

/// The interfaces of this host.
#[derive(Debug)]
pub(super) struct HostInterfaces {
    all: Arc<Vec<NetworkInterface>>,
    /// Indices into `all`.
    by_name: HashMap<String, usize>,
    macs: HashSet<Mac>,
    /// Largest packet, in bytes, that fits every interface.
    mtu: usize,
    /// Every IPv4 address of this host (D-20), sorted.
    ours: Vec<Ipv4Addr>,
    /// Cache by socket and local address, cleared when interfaces or subnets change.
    own: HashMap<(SocketId, Ipv4Addr), OwnAddress>,
}

impl Default for HostInterfaces {
    fn default() -> Self {
        Self {
            all: Arc::default(),
            by_name: HashMap::new(),
            macs: HashSet::new(),
            mtu: PACKET_BYTES_ANYWHERE,
            ours: Vec::new(),
            own: HashMap::new(),
        }
    }
}

impl HostInterfaces {
    /// Replaces the interfaces by those that exist now.
    pub(super) fn replace_all(&mut self, interfaces: Arc<Vec<NetworkInterface>>) {
        self.ours = interfaces.iter().flat_map(ipv4).collect();
        self.ours.sort_unstable();
        self.ours.dedup();
        let places = interfaces.iter().enumerate().rev();
        self.by_name = places.map(|(place, one)| (one.name.clone(), place)).collect();
        self.macs = interfaces.iter().map(|one| Mac(one.mac)).collect();
        let smallest = interfaces.iter().map(|one| one.mtu as usize).min();
        self.mtu = smallest.map_or(usize::MAX, |mtu| mtu.max(PACKET_BYTES_ANYWHERE));
        self.all = interfaces;
        self.own.clear();
    }

    pub(super) fn as_slice(&self) -> &[NetworkInterface] {
        &self.all
    }

    pub(super) fn own_addresses(&self) -> &[Ipv4Addr] {
        &self.ours
    }

    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    pub(super) fn is_own(&self, mac: Mac) -> bool {
        self.macs.contains(&mac)
    }

    pub(super) fn find_by_name(&self, name: &str) -> Option<&NetworkInterface> {
        self.all.get(*self.by_name.get(name)?)
    }

    /// The networks of the interface that holds this address.
    pub(super) fn prefixes(&self, own: OwnAddress) -> &[(Ipv4Addr, u8)] {
        own.place.and_then(|place| self.all.get(place)).map_or(&[], |one| &one.prefixes)
    }

    /// The server's address for messages that arrive by this socket, which is bound to `interface`.
    pub(super) fn find_own(
        &mut self,
        subnets: &SubnetTable,
        (socket, local): (SocketId, Ipv4Addr),
        interface: Option<&str>,
    ) -> OwnAddress {
        if let Some(known) = self.own.get(&(socket, local)) {
            return *known;
        }
        let own = self.find_own_on(subnets, interface, local);
        if self.own.len() < OWN_ADDRESSES_MAX {
            self.own.insert((socket, local), own);
        }
        own
    }

    /// The server's address on an interface. Where the interface has several, it is the one inside
    /// the subnet that is served there: the kernel reports the first one for every broadcast.
    pub(super) fn find_own_on(
        &self,
        subnets: &SubnetTable,
        interface: Option<&str>,
        local: Ipv4Addr,
    ) -> OwnAddress {
        let place = interface.and_then(|name| self.by_name.get(name).copied());
        let is_served = |address: &Ipv4Addr| {
            let subnet = subnets.find(*address);
            subnet.is_some_and(|subnet| subnet.interface.as_deref() == interface)
        };
        let found = match place.and_then(|place| self.all.get(place)) {
            Some(found) if interface.is_some() && !is_served(&local) => ipv4(found).find(is_served),
            _ => None,
        };
        OwnAddress { address: found.unwrap_or(local), place }
    }

    /// Clears the cache of own addresses, because the subnets have changed.
    pub(super) fn forget_own(&mut self) {
        self.own.clear();
    }
}

/// The subnets that are watched for other servers: those served here by broadcast on port 67. A
/// trial on another port disturbs no client.
pub(super) fn watched_subnets(
    subnets: &[Subnet],
    port: u16,
) -> impl Iterator<Item = (&Subnet, &String)> {
    let served = subnets
        .iter()
        .filter(move |subnet| subnet.mode == AnsweringMode::Server && port == other_servers::PORT);
    served.filter_map(|subnet| Some((subnet, subnet.interface.as_ref()?)))
}

/// The IPv4 addresses of an interface.
pub(super) fn ipv4(interface: &NetworkInterface) -> impl Iterator<Item = Ipv4Addr> {
    interface.addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}
