//! Control messages of UDP sockets: the local address at which a datagram arrived, and the one from
//! which a reply leaves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for one PKTINFO (either family) and one UDP_SEGMENT. Bytes.
pub(super) const CONTROL_BYTES: usize = 128;

/// Of `struct cmsghdr` on 64-bit Linux: length (8), level (4), type (4). Bytes.
const HEADER_BYTES: usize = 16;
const ALIGN: usize = 8;
const _: () = assert!(size_of::<libc::cmsghdr>() == HEADER_BYTES);

/// The kernel's facts about an arrived datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReceivedControl {
    /// The destination: may be a broadcast or multicast address.
    pub(super) destination: Option<IpAddr>,
    /// The local address from which replies should leave.
    pub(super) local: Option<IpAddr>,
    /// Index of the interface.
    pub(super) interface: u32,
    /// Length of each of several joined datagrams (UDP_GRO), bytes.
    pub(super) segment: Option<u16>,
}

/// Why the network did not deliver a datagram (linux/errqueue.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeliveryError {
    /// The source of the error: this host or ICMP.
    pub(super) origin: u8,
    /// Type of the ICMP message, if ICMP is the source.
    pub(super) kind: u8,
    /// Code of the ICMP message.
    pub(super) code: u8,
}

/// Reads IP_RECVERR.
pub(super) fn read_delivery_error(mut control: &[u8]) -> Option<DeliveryError> {
    while let Some((level, kind, data, rest)) = split_control_message(control) {
        // struct sock_extended_err: errno (4), origin, type, code.
        if (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
            && let Some(&[_, _, _, _, origin, kind, code]) = data.first_chunk()
        {
            return Some(DeliveryError { origin, kind, code });
        }
        control = rest;
    }
    None
}

/// Reads IP_PKTINFO, IPV6_PKTINFO and UDP_GRO.
pub(super) fn read_control_messages(mut control: &[u8]) -> ReceivedControl {
    let mut arrived = ReceivedControl::default();
    while let Some((level, kind, data, rest)) = split_control_message(control) {
        match (level, kind) {
            // struct in_pktinfo: the interface, the local address (ipi_spec_dst), the destination
            // (ipi_addr). The last two differ for a broadcast.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
                arrived.interface = u32::from_ne_bytes([data[0], data[1], data[2], data[3]]);
                arrived.local = Some(IpAddr::V4(Ipv4Addr::new(data[4], data[5], data[6], data[7])));
                arrived.destination =
                    Some(IpAddr::V4(Ipv4Addr::new(data[8], data[9], data[10], data[11])));
            }
            // struct in6_pktinfo: the destination, the interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let Some((address, index)) = data.split_first_chunk::<16>()
                    && let Some(index) = index.first_chunk::<4>()
                {
                    let address = IpAddr::V6(Ipv6Addr::from(*address));
                    arrived.destination = Some(address);
                    arrived.local = Some(address);
                    arrived.interface = u32::from_ne_bytes(*index);
                }
            }
            // The kernel writes an int.
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let bytes = data.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                arrived.segment = u16::try_from(bytes).ok().filter(|bytes| *bytes > 0);
            }
            _ => {}
        }
        control = rest;
    }
    arrived
}

fn split_control_message(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let (len, rest) = control.split_first_chunk::<8>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, _) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u64::from_ne_bytes(*len)).ok()?;
    let data = control.get(HEADER_BYTES..len)?;
    let rest = control.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data, rest))
}

/// Writes control messages into a slot's buffer; returns their length.
#[derive(Debug)]
pub(super) struct ControlWriter<'a> {
    buffer: &'a mut [u8; CONTROL_BYTES],
    len: usize,
}

impl<'a> ControlWriter<'a> {
    pub(super) fn new(buffer: &'a mut [u8; CONTROL_BYTES]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Sets the source address and the interface of a reply (0: by the routing table).
    pub(super) fn source(&mut self, address: IpAddr, interface: u32) {
        match address {
            IpAddr::V4(address) => {
                let mut info = [0; 12];
                info[..4].copy_from_slice(&interface.to_ne_bytes());
                info[4..8].copy_from_slice(&address.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(address) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&address.octets());
                info[16..].copy_from_slice(&interface.to_ne_bytes());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    /// Makes the kernel cut the payload into datagrams of this size.
    pub(super) fn segment(&mut self, bytes: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = HEADER_BYTES + data.len();
        let end = self.len + len.next_multiple_of(ALIGN);
        // PKTINFO (40) and UDP_SEGMENT (24) fit CONTROL_BYTES; more would be a bug, and is left
        // out.
        let Some(space) = self.buffer.get_mut(self.len..end) else { return };
        space.fill(0);
        space[..8].copy_from_slice(&(len as u64).to_ne_bytes());
        space[8..12].copy_from_slice(&level.to_ne_bytes());
        space[12..16].copy_from_slice(&kind.to_ne_bytes());
        space[16..len].copy_from_slice(data);
        self.len = end;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = [0; CONTROL_BYTES];
        let mut writer = ControlWriter::new(&mut buffer);
        writer.segment(1472);
        writer.source("fe80::1".parse().unwrap(), 3);
        let len = writer.len();
        let arrived = read_control_messages(&buffer[..len]);
        assert_eq!(arrived.local, Some("fe80::1".parse().unwrap()));
        assert_eq!(arrived.interface, 3);
    }

    #[test]
    fn cut_short_control_data_is_ignored() {
        let mut buffer = [0; CONTROL_BYTES];
        let mut writer = ControlWriter::new(&mut buffer);
        writer.source("192.168.4.150".parse().unwrap(), 2);
        let len = writer.len();
        for cut in 0..len {
            let _ = read_control_messages(&buffer[..cut]);
        }
        assert_eq!(read_control_messages(&[0xff; 40]), ReceivedControl::default());
    }
}
