//! UDP datagrams as raw bytes, for the packet socket that reaches a client which answers no ARP yet
//! (D-15).

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::model::machine::Mac;

/// Time to live, the default of Linux; the frame crosses no router.
const TIME_TO_LIVE: u8 = 64;
const PROTOCOL_UDP: u8 = 17;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const IPV4_BYTES: u16 = 20;
const UDP_BYTES: u16 = 8;
/// Where the checksum of UDP stands in a packet.
const UDP_CHECKSUM: std::ops::Range<usize> = 26..28;

/// Ethernet, IPv4 and UDP headers with checksums, then the payload. None where the payload does not
/// fit an IPv4 datagram.
pub fn build_ethernet_frame(
    source: Mac,
    destination: Mac,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let mut frame = [&destination.0[..], &source.0, &ETHERTYPE_IPV4].concat();
    frame.extend(build_ipv4_datagram(from, to, payload)?);
    Some(frame)
}

/// IPv4 and UDP headers with checksums, then the payload, as a packet socket of type SOCK_DGRAM
/// takes it.
pub fn build_ipv4_datagram(
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let udp_bytes = u16::try_from(payload.len()).ok()?.checked_add(UDP_BYTES)?;
    let total = udp_bytes.checked_add(IPV4_BYTES)?;
    let mut packet = Vec::with_capacity(usize::from(total));
    packet.extend_from_slice(&build_ipv4_header(*from.ip(), *to.ip(), total));
    for field in [from.port(), to.port(), udp_bytes, 0] {
        packet.extend_from_slice(&field.to_be_bytes());
    }
    packet.extend_from_slice(payload);

    // The checksum also covers a pseudo header with both addresses (RFC 768).
    let [l0, l1] = udp_bytes.to_be_bytes();
    let udp = packet.get(usize::from(IPV4_BYTES)..)?;
    let parts = [&from.ip().octets()[..], &to.ip().octets(), &[0, PROTOCOL_UDP, l0, l1], udp];
    let sum = match compute_checksum(&parts) {
        0 => u16::MAX, // zero means "no checksum" (RFC 768)
        sum => sum,
    };
    packet.get_mut(UDP_CHECKSUM)?.copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

/// Source and payload of an IPv4 packet that holds a whole UDP datagram. Checksums are left to the
/// network card: a packet that this host sent has none yet.
pub fn parse_ipv4_datagram(packet: &[u8]) -> Option<(SocketAddrV4, &[u8])> {
    let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
    let (header, rest) = packet.split_at_checked(header_bytes)?;
    let source: [u8; 4] = header.get(12..16)?.try_into().ok()?;
    let is_whole = u16::from_be_bytes([*header.get(6)?, *header.get(7)?]) & 0x3fff == 0;
    let [p0, p1, _, _, l0, l1, _, _] = *rest.first_chunk::<8>()?;
    let payload = rest.get(8..usize::from(u16::from_be_bytes([l0, l1])))?;
    let is_udp = packet.first()? >> 4 == 4 && header.get(9) == Some(&PROTOCOL_UDP);
    (is_udp && is_whole)
        .then(|| (SocketAddrV4::new(Ipv4Addr::from(source), u16::from_be_bytes([p0, p1])), payload))
}

/// An IPv4 header without options or fragments. DF is clear: some ROMs mishandle it.
fn build_ipv4_header(from: Ipv4Addr, to: Ipv4Addr, total: u16) -> [u8; 20] {
    let [t0, t1] = total.to_be_bytes();
    let ([f0, f1, f2, f3], [d0, d1, d2, d3]) = (from.octets(), to.octets());
    let mut header = [
        0x45,
        0,
        t0,
        t1,
        0,
        0,
        0,
        0,
        TIME_TO_LIVE,
        PROTOCOL_UDP,
        0,
        0,
        f0,
        f1,
        f2,
        f3,
        d0,
        d1,
        d2,
        d3,
    ];
    // The checksum counts its own field as zero (RFC 791).
    [header[10], header[11]] = compute_checksum(&[&header]).to_be_bytes();
    header
}

/// The Internet checksum (RFC 1071) over parts, each but the last of even length.
fn compute_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        let (pairs, odd) = part.as_chunks::<2>();
        sum += pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum::<u32>();
        sum += odd.first().map_or(0, |byte| u32::from(*byte) << 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn d15_frame_goes_to_the_hardware_address_with_sound_checksums() {
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 150), 67);
        let to = SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 26), 68);
        for length in [300usize, 301] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let client = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]);
            let frame =
                build_ethernet_frame(Mac([2, 0, 0, 0, 0, 1]), client, from, to, &payload).unwrap();
            assert_eq!(&frame[..6], &client.0);
            assert_eq!(&frame[12..14], &[8, 0]);
            let (ip, udp) = (&frame[14..34], &frame[34..]);
            assert_eq!(ip[0], 0x45);
            assert_eq!(usize::from(u16::from_be_bytes([ip[2], ip[3]])), 28 + length);
            assert_eq!(&ip[6..8], &[0, 0], "no fragment, no DF");
            assert_eq!(&ip[12..20], &[192, 168, 4, 150, 192, 168, 4, 26]);
            // A receiver sums headers with their checksums and gets all ones.
            assert_eq!(compute_checksum(&[ip]), 0);
            let [l0, l1] = (udp.len() as u16).to_be_bytes();
            let pseudo = [&ip[12..20], &[0, PROTOCOL_UDP, l0, l1]].concat();
            assert_eq!(compute_checksum(&[&pseudo, udp]), 0);
            assert_eq!(&udp[..4], &[0, 67, 0, 68]);
            assert_eq!(&udp[8..], &payload);
        }
        assert!(build_ipv4_datagram(from, to, &vec![0; 65_536]).is_none());
        assert!(build_ipv4_datagram(from, to, &vec![0; 65_508]).is_none());
    }

    #[test]
    fn only_a_whole_udp_datagram_of_ipv4_is_read() {
        let (from, to) = (Ipv4Addr::new(192, 168, 4, 2), Ipv4Addr::new(192, 168, 4, 26));
        let (from, to) = (SocketAddrV4::new(from, 67), SocketAddrV4::new(to, 68));
        let good = build_ipv4_datagram(from, to, b"boot").unwrap();
        let read = |changes: &[(usize, u8)]| {
            let mut packet = good.clone();
            changes.iter().for_each(|(at, value)| packet[*at] = *value);
            parse_ipv4_datagram(&packet).map(|(from, payload)| (from, payload.to_vec()))
        };
        let whole = Some((from, b"boot".to_vec()));
        assert_eq!(
            (read(&[]), read(&[(6, 0x40)])),
            (whole.clone(), whole),
            "may be fragmented, must not be"
        );
        for (changes, why) in [
            (&[(0, 0x65)][..], "another version"),
            (&[(9, 6)], "TCP"),
            (&[(6, 0x20)], "the first of several fragments"),
            (&[(7, 1)], "a later fragment"),
            (&[(6, 0x20), (9, 6)], "a fragment of TCP"),
            (&[(25, 13)], "longer than what there is"),
        ] {
            assert_eq!(read(changes), None, "{why}");
        }
    }

    /// Another program calculated the checksum.
    #[test]
    fn d15_known_udp_checksum() {
        let (from, to) = (Ipv4Addr::new(192, 168, 4, 150), Ipv4Addr::new(192, 168, 4, 26));
        let packet =
            build_ipv4_datagram(SocketAddrV4::new(from, 67), SocketAddrV4::new(to, 68), b"boot")
                .unwrap();
        assert_eq!(packet[26..], *b"\xa3\x6aboot");
    }

    /// The worked example of many textbooks has b861 with DF set; with DF clear that is f861.
    #[test]
    fn d15_known_header_checksum() {
        let header =
            build_ipv4_header(Ipv4Addr::new(192, 168, 0, 1), Ipv4Addr::new(192, 168, 0, 199), 0x73);
        assert_eq!(&header[10..12], &[0xf8, 0x61]);
    }
}
