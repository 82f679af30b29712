//! Probes whether an address is in use: by ARP on a local segment, by ICMP echo beyond a relay.

// Casts give kernel constants and struct sizes the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::link;
use super::net::set_socket_option;

/// Sends ARP probes (RFC 5227) and receives ARP replies.
#[derive(Debug)]
pub struct ArpProbe(OwnedFd);

/// Bytes of an ARP packet for IPv4 over Ethernet.
const ARP_BYTES: usize = 28;
const ETHERNET: u16 = 1;
const ARP_REQUEST: u16 = 1;

impl ArpProbe {
    /// Opens the socket. Needs CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        Ok(Self(link::open_arp_replies()?))
    }

    /// Asks which station has this address. The probe names no sender address, so it changes no ARP
    /// table.
    pub fn send_query(&self, interface: u32, mac: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
        let mut packet = Vec::with_capacity(ARP_BYTES);
        packet.extend(ETHERNET.to_be_bytes());
        packet.extend((libc::ETH_P_IP as u16).to_be_bytes());
        packet.extend([6, 4]);
        packet.extend(ARP_REQUEST.to_be_bytes());
        packet.extend(mac);
        packet.extend([0; 10]);
        packet.extend(address.octets());
        link::broadcast_frame(&self.0, libc::ETH_P_ARP as u16, interface, &packet)
    }

    /// Receives a reply: the station's hardware address, and its IP address.
    pub fn read_answer(&self) -> Option<([u8; 6], Ipv4Addr)> {
        let mut packet = [0; 64];
        let bytes = (&*SockRef::from(&self.0)).read(&mut packet).ok()?;
        let packet = packet.get(..bytes).unwrap_or_default();
        // Skip a runt; it does not end the turn.
        let mac = packet.get(8..14).and_then(|mac| mac.try_into().ok()).unwrap_or_default();
        let address: [u8; 4] =
            packet.get(14..18).and_then(|address| address.try_into().ok()).unwrap_or_default();
        Some((mac, Ipv4Addr::from(address)))
    }
}

impl AsFd for ArpProbe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends ICMP echo requests and receives the replies.
#[derive(Debug)]
pub struct EchoProbe {
    socket: Socket,
    identifier: u16,
}

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// A level and an option of icmp.h that the libc crate lacks; set bits block a type.
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;

impl EchoProbe {
    /// Opens the socket. Needs CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        set_socket_option(&socket, SOL_RAW, ICMP_FILTER, !(1 << ECHO_REPLY))?;
        Ok(Self { socket, identifier: std::process::id() as u16 })
    }

    /// Sends an echo request to this address.
    pub fn send_query(&self, address: Ipv4Addr) -> io::Result<()> {
        let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
        packet.extend(self.identifier.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(b"ringboot");
        let sum =
            packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
        let folded = (sum & 0xffff) + (sum >> 16);
        packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        self.socket.send_to(&packet, &SocketAddr::from((address, 0)).into()).map(drop)
    }

    /// Receives an echo reply: its sender; 0.0.0.0: the reply is for another program's request.
    pub fn read_answer(&self) -> Option<Ipv4Addr> {
        let mut packet = [0; 128];
        let bytes = (&self.socket).read(&mut packet).ok()?;
        let packet = packet.get(..bytes).unwrap_or_default();
        let header = usize::from(packet.first().unwrap_or(&0) & 0xf) * 4;
        let is_ours = packet.get(header) == Some(&ECHO_REPLY)
            && packet.get(header + 4..header + 6) == Some(&self.identifier.to_be_bytes()[..]);
        let source =
            packet.get(12..16).and_then(|rest| rest.first_chunk::<4>()).filter(|_| is_ours);
        Some(source.map_or(Ipv4Addr::UNSPECIFIED, |octets| Ipv4Addr::from(*octets)))
    }
}

impl AsFd for EchoProbe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn d36_this_machine_answers_its_own_ping() {
        let probe = EchoProbe::open().unwrap();
        let address = Ipv4Addr::new(127, 0, 0, 7);
        probe.send_query(address).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        // Other programs of this machine are pinged as well.
        while probe.read_answer() != Some(address) {
            assert!(Instant::now() < until, "no answer");
        }
    }
}
