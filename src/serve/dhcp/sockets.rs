//! The DHCP core's sockets while it runs: interfaces that come and go, and the socket by which each
//! answer leaves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::bind::DhcpSockets;
use super::messages::{DhcpInbox, RouterSolicitation, WayIn};
use super::plan::DhcpCounters;
use super::ways::AnswerWays;
use crate::dhcp::decide::{AnswerDatagram, AnswerKind};
use crate::dhcp::frame;
use crate::dhcp::route::{CLIENT_PORT, ReplyRoute};
use crate::dhcp::solicitation;
use crate::engine::net::{self, NetworkInterface};
use crate::engine::udp::{
    DatagramSource, DatagramTarget, SendQueueFull, SocketId, TurnWait, UdpCompletion, UdpDriver,
};
use crate::model::machine::Mac;

/// The sockets of one core.
pub(super) struct CoreSockets {
    driver: UdpDriver,
    /// The interface of each socket in the driver's order; None: the socket is bound to none.
    interfaces: Vec<Option<String>>,
    ways: AnswerWays,
    port: u16,
    counters: Arc<DhcpCounters>,
}

impl CoreSockets {
    pub(super) fn new(
        mut driver: UdpDriver,
        sockets: DhcpSockets,
        port: u16,
        counters: Arc<DhcpCounters>,
    ) -> Self {
        let mut interfaces = Vec::new();
        for (address, interface, fd) in sockets.sockets {
            driver.add(fd, address.ip(), true);
            interfaces.push(interface);
        }
        let ways = AnswerWays::new(&mut driver, sockets.link);
        let mut sockets = Self { driver, interfaces, ways, port, counters };
        for interface in sockets.interfaces.clone().iter().flatten() {
            sockets.hear_solicitations(interface);
        }
        sockets
    }

    /// The interface that a socket is bound to.
    pub(super) fn interface_of(&self, socket: SocketId) -> Option<&str> {
        self.interfaces.get(usize::from(socket.0)).and_then(Option::as_deref)
    }

    /// The first interface that a socket is bound to.
    pub(super) fn first_interface(&self) -> Option<&str> {
        self.interfaces.iter().flatten().next().map(String::as_str)
    }

    /// Sends that the kernel has not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.driver.in_flight()
    }

    pub(super) fn has_room(&self) -> bool {
        self.driver.has_room()
    }

    /// Runs a whole turn of the driver, or (None) only submits the queued sends. Datagrams go into
    /// the inbox; while the core drains, they are dropped.
    pub(super) fn collect(
        &mut self,
        wait: Option<TurnWait>,
        inbox: &mut DhcpInbox,
        is_draining: impl Fn() -> bool,
    ) -> io::Result<()> {
        let counters = &self.counters;
        let take = |completion: UdpCompletion<'_>| {
            take_completion(completion, inbox, counters, &is_draining);
        };
        match wait {
            Some(wait) => self.driver.run_turn(wait, take),
            None => self.driver.submit(take),
        }
    }

    /// Listens on a socket that is bound to an interface which has appeared.
    pub(super) fn listen_on(&mut self, interface: String, socket: OwnedFd) {
        let id = self.driver.add(socket, IpAddr::V4(Ipv4Addr::UNSPECIFIED), true);
        self.hear_solicitations(&interface);
        self.note_interface(id, interface);
    }

    /// Opens a socket for router solicitations on an interface. Without IPv6 there or without the
    /// privilege, iPXE waits its usual time for a router.
    fn hear_solicitations(&mut self, interface: &str) {
        let index = net::find_interface_index(interface);
        match net::open_router_solicitations(interface, index) {
            Ok(socket) => {
                let id = self.driver.add(socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED), true);
                self.note_interface(id, interface.to_owned());
            }
            Err(error) => {
                tracing::debug!("cannot receive router solicitations on {interface}: {error}")
            }
        }
    }

    /// Notes the interface of a socket. Packet sockets have an id in the driver too, but no
    /// interface: the list may have gaps.
    fn note_interface(&mut self, socket: SocketId, interface: String) {
        let place = usize::from(socket.0);
        self.interfaces.resize(self.interfaces.len().max(place + 1), None);
        self.interfaces[place] = Some(interface);
    }

    /// Closes the sockets of an interface that has gone.
    pub(super) fn forget(&mut self, interface: &str) {
        while let Some(place) =
            self.interfaces.iter().position(|name| name.as_deref() == Some(interface))
        {
            self.interfaces[place] = None;
            self.driver.remove(SocketId(u16::try_from(place).unwrap_or(u16::MAX)));
        }
    }

    /// Closes the packet sockets of interfaces that have gone.
    pub(super) fn keep_interfaces(&mut self, interfaces: &[NetworkInterface]) {
        self.ways.keep_interfaces(&mut self.driver, interfaces);
    }

    /// Tells a client that there is no IPv6 router. The answer is lost if the ring is full: iPXE
    /// solicits again.
    pub(super) fn send_no_router(&mut self, solicitation: &RouterSolicitation, own: Mac) {
        let mut to = solicitation.source;
        to.set_port(0);
        let message = solicitation::build_no_router_advertisement(own);
        let target = DatagramTarget::Ip(SocketAddr::V6(to));
        let _ = self.driver.send(solicitation.socket, target, None, &message, 0);
    }

    /// Sends an answer by its route (D-10 to D-16). The answer is lost if the send queue is full:
    /// the client asks again, and the core never waits. `mtu`: the largest packet, in bytes, that
    /// fits every interface.
    pub(super) fn send_answer(&mut self, answer: &AnswerDatagram, way: WayIn, mtu: usize) {
        self.count_answer(answer.kind);
        let sent = match answer.route {
            ReplyRoute::Relay { address, port } => {
                self.send_routed(SocketAddrV4::new(address, port), answer, way, mtu)
            }
            ReplyRoute::Unicast(address) => {
                self.send_routed(SocketAddrV4::new(address, CLIENT_PORT), answer, way, mtu)
            }
            // Without a packet socket, the kernel resolves a client that has its address by ARP,
            // and a client without one gets a broadcast.
            ReplyRoute::Neighbour { mac, address } => {
                match self.ways.link_socket(&mut self.driver, way.interface) {
                    Some(link) => self.send_frame(link, mac, address, answer, way),
                    None => self.send_here(address, answer, way),
                }
            }
            ReplyRoute::LinkLayer { mac, address } => {
                match self.ways.link_socket(&mut self.driver, way.interface) {
                    Some(link) => self.send_frame(link, mac, address, answer, way),
                    None => self.send_here(Ipv4Addr::BROADCAST, answer, way),
                }
            }
            ReplyRoute::Broadcast => self.send_here(Ipv4Addr::BROADCAST, answer, way),
        };
        self.counters.unsent.add(u64::from(sent.is_err()));
    }

    /// Sends by the socket that received the request.
    fn send_here(
        &mut self,
        to: Ipv4Addr,
        answer: &AnswerDatagram,
        way: WayIn,
    ) -> Result<(), SendQueueFull> {
        let from = DatagramSource { address: IpAddr::V4(answer.source), interface: way.interface };
        let target = DatagramTarget::Ip(SocketAddr::from((to, CLIENT_PORT)));
        self.driver.send(way.socket, target, Some(from), &answer.bytes, 0)
    }

    fn send_frame(
        &mut self,
        link: SocketId,
        mac: Mac,
        to: Ipv4Addr,
        answer: &AnswerDatagram,
        way: WayIn,
    ) -> Result<(), SendQueueFull> {
        let from = SocketAddrV4::new(answer.source, self.port);
        let packet =
            frame::build_ipv4_datagram(from, SocketAddrV4::new(to, CLIENT_PORT), &answer.bytes)
                .ok_or(SendQueueFull)?;
        let target = DatagramTarget::Link { interface: way.interface, mac: mac.0 };
        self.driver.send(link, target, None, &packet, 0)
    }

    /// Sends from the address that the client asked, by the interface that the routing table
    /// chooses. Without a raw socket, or for a packet that is too long for some link, it sends by
    /// the socket that received the request.
    fn send_routed(
        &mut self,
        to: SocketAddrV4,
        answer: &AnswerDatagram,
        way: WayIn,
        mtu: usize,
    ) -> Result<(), SendQueueFull> {
        let asked = way.asked.unwrap_or(answer.source);
        let from = DatagramSource { address: IpAddr::V4(asked), interface: 0 };
        let packet =
            frame::build_ipv4_datagram(SocketAddrV4::new(asked, self.port), to, &answer.bytes);
        if let Some(packet) = packet.filter(|packet| packet.len() <= mtu)
            && let Ok(socket) = self.ways.routed_socket(&mut self.driver, *to.ip())
        {
            return self.driver.send(socket, DatagramTarget::Ip(to.into()), Some(from), &packet, 0);
        }
        self.driver.send(way.socket, DatagramTarget::Ip(to.into()), Some(from), &answer.bytes, 0)
    }

    fn count_answer(&self, kind: AnswerKind) {
        let counters = &self.counters;
        counters.answered.add(1);
        match kind {
            AnswerKind::Offer => counters.offers.add(1),
            AnswerKind::Ack | AnswerKind::Parameters => counters.acks.add(1),
            AnswerKind::Nak => counters.naks.add(1),
            AnswerKind::Bootp => {}
        }
    }
}

/// Puts a datagram into the inbox, and counts a send that has failed.
fn take_completion(
    completion: UdpCompletion<'_>,
    inbox: &mut DhcpInbox,
    counters: &DhcpCounters,
    is_draining: impl Fn() -> bool,
) {
    match completion {
        // Checked for each datagram: the order may come while the turn sleeps.
        UdpCompletion::Datagram(datagram) if !is_draining() => {
            inbox.push_datagram(&datagram, counters)
        }
        UdpCompletion::Sent { result, .. } => counters.failed.add(u64::from(result.is_err())),
        UdpCompletion::Datagram(_) | UdpCompletion::Room(_) | UdpCompletion::Woken => {}
    }
}
