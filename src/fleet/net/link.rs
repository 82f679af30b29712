//! A segment on the wire: machines are stations with their own hardware addresses, through a packet
//! socket.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use super::dhcp::{self, ClientMessage, DhcpAnswer, DhcpMessageType};
use crate::limits::{DHCP_BATCH, LINK_SERVERS_MAX};
use ringboot_io::engine::link::{ETHERNET_BYTES, PacketStations};
use ringboot_io::engine::net::find_interface_index;
use ringboot_protocol::dhcp::frame;
use ringboot_protocol::model::machine::Mac;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const EVERYBODY: Mac = Mac([0xff; 6]);

/// Bytes of an Ethernet frame, jumbo frames included.
const FRAME_BYTES_MAX: usize = 9216;

/// The packet socket, and the hardware addresses of the answering servers.
#[derive(Debug)]
pub(crate) struct PacketLink {
    stations: AsyncFd<PacketStations>,
    /// The sender of the frames with a server's answers: the server, or the relay agent before it.
    neighbours: RefCell<HashMap<Ipv4Addr, Mac>>,
}

impl PacketLink {
    /// Needs CAP_NET_RAW, and an Ethernet interface that is up.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        let index = find_interface_index(interface);
        if index == 0 {
            return Err(io::Error::other(format!("there is no interface {interface}")));
        }
        let stations = PacketStations::open(index).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot speak for other stations on {interface}: {error}"),
            )
        })?;
        Ok(Self { stations: stations.watched()?, neighbours: RefCell::default() })
    }

    /// Sends the message in its frame: by broadcast from 0.0.0.0; a RELEASE from the machine's
    /// address to its server.
    pub(crate) fn build_frame(&self, ask: &ClientMessage) -> Option<Vec<u8>> {
        let message = dhcp::encode_client_message(ask, None);
        let (station, from, server) = match (ask.kind, ask.address, ask.server) {
            (DhcpMessageType::Release, Some(address), Some(server)) => {
                (*self.neighbours.borrow().get(&server)?, address, server)
            }
            _ => (EVERYBODY, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
        };
        let (from, to) =
            (SocketAddrV4::new(from, CLIENT_PORT), SocketAddrV4::new(server, SERVER_PORT));
        frame::build_ethernet_frame(ask.mac, station, from, to, &message)
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        // A frame that finds no room is lost like any other; the machine repeats it.
        let _ = self.stations.get_ref().send(frame);
    }

    /// Reads answers; never ends.
    pub(crate) async fn receive_answers(&self, deliver: impl Fn(DhcpAnswer)) {
        let mut room = vec![0; FRAME_BYTES_MAX];
        loop {
            let Ok(mut ready) = self.stations.ready(Interest::READABLE).await else { return };
            for _ in 0..DHCP_BATCH {
                match self.stations.get_ref().receive(&mut room) {
                    Ok(frame) => self.read(frame).into_iter().for_each(&deliver),
                    Err(error) => {
                        if error.kind() == io::ErrorKind::WouldBlock {
                            ready.clear_ready();
                        }
                        break;
                    }
                }
            }
            yield_now().await;
        }
    }

    fn read(&self, frame: &[u8]) -> Option<DhcpAnswer> {
        let (header, packet) = frame.split_at_checked(ETHERNET_BYTES)?;
        let (_, payload) = frame::parse_ipv4_datagram(packet)?;
        let answer = dhcp::decode_dhcp_answer(payload)?;
        let sender = Mac(*header.get(6..)?.first_chunk()?);
        let mut neighbours = self.neighbours.borrow_mut();
        if let Some(server) = answer.server
            && (neighbours.len() < LINK_SERVERS_MAX || neighbours.contains_key(&server))
        {
            neighbours.insert(server, sender);
        }
        Some(answer)
    }
}
