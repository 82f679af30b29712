//! The DHCP core's sockets while it runs: interfaces that come and go, and iPXE's question for an
//! IPv6 router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::thread::{Running, Solicitation};
use crate::dhcp::lease::{Lease, LeaseRowState};
use crate::dhcp::solicitation;
use crate::engine::clock;
use crate::engine::net;
use crate::engine::udp::{DatagramTarget, SocketId};
use crate::model::machine::{FirmwareRole, Mac};

impl Running {
    pub(super) fn listen_on(&mut self, interface: String, socket: OwnedFd) {
        self.own_on.clear();
        let id = usize::from(self.driver.add(socket, IpAddr::V4(Ipv4Addr::UNSPECIFIED), true).0);
        // The packet socket has a place in the driver, and no interface of its own.
        self.sockets.resize(self.sockets.len().max(id + 1), None);
        self.hear_solicitations(&interface);
        if let Some(place) = self.sockets.get_mut(id) {
            *place = Some(interface);
        }
    }

    /// Without IPv6 on the interface or without the privilege, iPXE waits for its router as it
    /// always did.
    pub(super) fn hear_solicitations(&mut self, interface: &str) {
        let index = net::find_interface_index(interface);
        match net::open_router_solicitations(interface, index) {
            Ok(socket) => {
                let id =
                    usize::from(self.driver.add(socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED), true).0);
                self.sockets.resize(self.sockets.len().max(id + 1), None);
                if let Some(place) = self.sockets.get_mut(id) {
                    *place = Some(interface.to_owned());
                }
            }
            Err(error) => {
                tracing::debug!("no router solicitations are heard on {interface}: {error}")
            }
        }
    }

    /// An iPXE that holds a lease of ours, and nobody else, is told that there is no IPv6 router:
    /// it need not wait for one.
    pub(super) fn answer_solicitation(&mut self, solicitation: &Solicitation) {
        let now = clock::now_s();
        let is_booting = |lease: &Lease| {
            let is_ipxe =
                lease.firmware.is_some_and(|firmware| firmware.role == FirmwareRole::Ipxe);
            is_ipxe && lease.state == LeaseRowState::Bound && lease.end_s > now
        };
        let boots = solicitation.from.is_some_and(|mac| self.leases.of(mac).any(is_booting));
        let interface =
            self.sockets.get(usize::from(solicitation.socket.0)).and_then(Option::as_deref);
        let own = interface.filter(|_| boots).and_then(|name| self.interface_named(name));
        let Some(own) = own else { return };
        let mut to = solicitation.source;
        to.set_port(0);
        let message = solicitation::build_no_router_advertisement(Mac(own.mac));
        // Lost where the ring is full: iPXE solicits again.
        let _ = self.driver.send(
            solicitation.socket,
            DatagramTarget::Ip(SocketAddr::V6(to)),
            None,
            &message,
            0,
        );
    }

    pub(super) fn forget(&mut self, interface: &str) {
        let is_its = |name: &Option<String>| name.as_deref() == Some(interface);
        while let Some(place) = self.sockets.iter().position(is_its) {
            self.sockets[place] = None;
            self.driver.remove(SocketId(u16::try_from(place).unwrap_or(u16::MAX)));
        }
    }
}
