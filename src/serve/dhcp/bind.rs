//! The sockets of DHCP: one for each interface that exists, one for relays and loopback, one packet
//! socket for frames.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::interfaces::ipv4;
use super::plan::DhcpPlan;
use crate::engine::net::{self, NetworkInterface, SocketBinding};
use crate::observe::port_holder::SocketProtocol;
use crate::serve::binding::{once_released, refused};
use crate::serve::failure::ServerFailure;

/// The sockets, bound by the supervisor.
#[derive(Debug)]
pub struct DhcpSockets {
    pub(super) sockets: Vec<(SocketAddr, Option<String>, OwnedFd)>,
    /// The interfaces that the configuration names, each with its index once a socket is bound to
    /// it; None while the server waits for the interface.
    pub(super) interfaces: Vec<(String, Option<u32>)>,
    /// Sends frames to clients that answer no ARP yet (D-15). None without CAP_NET_RAW: such
    /// replies are broadcast.
    pub(super) link: Option<OwnedFd>,
}

impl DhcpSockets {
    /// The sockets as the READY line names them: `eth0:67,127.0.0.1:67`.
    pub fn names(&self) -> String {
        let mut names = Vec::new();
        for (address, interface, _) in &self.sockets {
            names.push(match interface {
                Some(interface) => format!("{interface}:{}", address.port()),
                None => address.to_string(),
            });
        }
        names.join(",")
    }

    /// The addresses of sockets that are bound to no interface, and so stay for the life of the
    /// process.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter(|(_, interface, _)| interface.is_none())
            .map(|(address, ..)| *address)
            .collect()
    }
}

/// Binds every DHCP socket of the plan whose interface exists and has an IPv4 address.
pub fn bind_sockets(plan: &DhcpPlan) -> Result<DhcpSockets, ServerFailure> {
    let present = net::list_interfaces()
        .map_err(|error| ServerFailure::System { what: "reading the interfaces", error })?;

    let wanted = &plan.published.get().snapshot.dhcp_interfaces;
    let interfaces: Vec<(String, Option<u32>)> =
        wanted.iter().map(|name| (name.clone(), find_usable_index(&present, name))).collect();

    let mut sockets = Vec::new();
    let there = interfaces.iter().filter(|(_, index)| index.is_some());
    let on_interfaces = there.map(|(name, _)| (Ipv4Addr::UNSPECIFIED, Some(name.as_str())));
    for (address, interface) in on_interfaces.chain(plan.address.map(|address| (address, None))) {
        let address = SocketAddr::from((address, plan.port));
        let bound = once_released(SocketProtocol::Udp, plan.port, || {
            net::open_udp_socket(&SocketBinding { address, interface, shared: false })
                .and_then(|fd| Ok((net::read_local_address(&fd)?, fd)))
        });
        let (address, fd) = bound.map_err(refused("DHCP", SocketProtocol::Udp, address))?;
        sockets.push((address, interface.map(ToOwned::to_owned), fd));
    }

    let link = net::open_link_sender();
    if let Err(error) = &link {
        tracing::warn!(
            "replies to clients without an address are broadcast: no packet socket ({error}); \
             CAP_NET_RAW gives one"
        );
    }
    Ok(DhcpSockets { sockets, interfaces, link: link.ok() })
}

/// The index of an interface. An interface without an IPv4 address counts as missing: the thread
/// `rb-interfaces` binds its socket when the address comes (`WantedSocket::follow`).
fn find_usable_index(present: &[NetworkInterface], name: &str) -> Option<u32> {
    present
        .iter()
        .find(|interface| interface.name == name && ipv4(interface).next().is_some())
        .map(|interface| interface.index)
}
