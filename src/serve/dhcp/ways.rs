//! The sockets for DHCP answers that do not leave by the socket of their request: one for each
//! interface and for each routed destination, so that none can fill the send buffer of another.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use crate::engine::net::{self, NetworkInterface};
use crate::engine::udp::{SocketId, UdpDriver};

/// Interfaces that get a packet socket of their own; all further ones share one.
const LINKS_MAX: usize = 1024;
/// Relay agents and clients behind routers that get a socket of their own; one more replaces the
/// socket of the destination that was answered least recently.
const ROUTED_MAX: usize = 256;

/// The sockets for answers. The kernel charges packets that it holds, for a neighbour that does not
/// answer or a link that takes nothing, to the socket that sent them. So there is a socket for each
/// interface, and for each destination behind a router.
pub(super) struct AnswerWays {
    /// Sends frames on any interface; opened before root was dropped. None without CAP_NET_RAW.
    shared_link: Option<SocketId>,
    links: HashMap<u32, SocketId>,
    routed: HashMap<Ipv4Addr, RoutedSocket>,
    /// Routed answers so far: the clock for [`RoutedSocket::used`].
    answers: u64,
}

struct RoutedSocket {
    socket: SocketId,
    /// When the socket was used last, as a count of answers.
    used: u64,
}

impl AnswerWays {
    pub(super) fn new(driver: &mut UdpDriver, link: Option<OwnedFd>) -> Self {
        let shared_link = link.map(|fd| add(driver, fd));
        Self { shared_link, links: HashMap::new(), routed: HashMap::new(), answers: 0 }
    }

    /// Closes the sockets of interfaces that are not among these.
    pub(super) fn keep_interfaces(
        &mut self,
        driver: &mut UdpDriver,
        interfaces: &[NetworkInterface],
    ) {
        for (_, link) in
            self.links.extract_if(|index, _| !interfaces.iter().any(|one| one.index == *index))
        {
            if Some(link) != self.shared_link {
                driver.remove(link);
            }
        }
    }

    /// The packet socket for frames on this interface; None: there is none at all.
    pub(super) fn link_socket(
        &mut self,
        driver: &mut UdpDriver,
        interface: u32,
    ) -> Option<SocketId> {
        let shared = self.shared_link.filter(|_| interface > 0)?;
        if let Some(link) = self.links.get(&interface) {
            return Some(*link);
        }
        if self.links.len() >= LINKS_MAX {
            return Some(shared);
        }
        let link = net::open_link_sender().map_or(shared, |fd| add(driver, fd));
        self.links.insert(interface, link);
        Some(link)
    }

    /// The socket for whole IPv4 packets to this address; the kernel routes each packet.
    pub(super) fn routed_socket(
        &mut self,
        driver: &mut UdpDriver,
        to: Ipv4Addr,
    ) -> io::Result<SocketId> {
        self.answers += 1;
        if let Some(known) = self.routed.get_mut(&to) {
            known.used = self.answers;
            return Ok(known.socket);
        }

        // Opened before another socket is given up: without a free descriptor all of them stay.
        let fd = net::open_packet_sender()?;
        if self.routed.len() >= ROUTED_MAX
            && let Some((&oldest, _)) = self.routed.iter().min_by_key(|(_, routed)| routed.used)
            && let Some(oldest) = self.routed.remove(&oldest)
        {
            driver.remove(oldest.socket);
        }

        let socket = add(driver, fd);
        self.routed.insert(to, RoutedSocket { socket, used: self.answers });
        Ok(socket)
    }
}

fn add(driver: &mut UdpDriver, fd: OwnedFd) -> SocketId {
    driver.add(fd, IpAddr::V4(Ipv4Addr::UNSPECIFIED), false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::datapath::Datapath;
    use crate::engine::udp::TurnWait;

    #[test]
    fn each_destination_has_a_socket_and_the_oldest_gives_its_place_up() {
        for datapath in Datapath::ALL {
            let mut driver = UdpDriver::new(datapath).unwrap();
            let mut ways = AnswerWays::new(&mut driver, None);
            let relay = Ipv4Addr::new(127, 9, 9, 9);
            let socket = ways.routed_socket(&mut driver, relay).unwrap();
            for n in 0..4 * u32::try_from(ROUTED_MAX).unwrap() {
                let other =
                    ways.routed_socket(&mut driver, Ipv4Addr::from(0x7f00_0000 + n)).unwrap();
                assert_ne!(other, socket);
                assert_eq!(
                    ways.routed_socket(&mut driver, relay).unwrap(),
                    socket,
                    "it is answered all the time"
                );
                driver.run_turn(TurnWait::No, |_| {}).unwrap();
            }
            assert_eq!(ways.routed.len(), ROUTED_MAX);
        }
    }
}
