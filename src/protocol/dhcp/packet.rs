//! The guard: the only code that walks a DHCP message. It checks bounds, op, hlen and cookie, and
//! joins the pieces of options, once.
//!
//! dhcproto 0.15 panics on `hlen > 16`, forgets every option after a host name that is not UTF-8,
//! ignores overload and keeps only the last piece of a split option. So it decodes one option at a
//! time, and only options whose types help.

use std::borrow::Cow;
use std::net::Ipv4Addr;

use dhcproto::v4::DhcpOption;
use dhcproto::{Decodable, Decoder};

use super::limits::{HARDWARE_BYTES_MAX, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN, OPTION_BYTES_MAX};

/// Option codes that ringboot reads or writes (RFC 2132, or the RFC that is named).
#[allow(missing_docs, reason = "the names are those of RFC 2132")]
pub mod code {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DOMAIN_NAME_SERVERS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const BROADCAST_ADDRESS: u8 = 28;
    pub const NTP_SERVERS: u8 = 42;
    pub const VENDOR_SPECIFIC: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_IDENTIFIER: u8 = 54;
    pub const PARAMETER_REQUEST_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLASS_IDENTIFIER: u8 = 60;
    pub const CLIENT_IDENTIFIER: u8 = 61;
    pub const TFTP_SERVER_NAME: u8 = 66;
    pub const BOOT_FILE_NAME: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const RELAY_AGENT_INFORMATION: u8 = 82;
    pub const CLIENT_ARCHITECTURE: u8 = 93;
    pub const CLIENT_GUID: u8 = 97;
    /// RFC 2563: whether the client may choose a link-local address.
    pub const AUTO_CONFIGURE: u8 = 116;
    /// RFC 3011.
    pub const SUBNET_SELECTION: u8 = 118;
    /// RFC 5859.
    pub const TFTP_SERVER_ADDRESS: u8 = 150;
    /// Encapsulated options of iPXE (ipxe.org/howto/dhcpd).
    pub const IPXE: u8 = 175;
    /// RFC 5071.
    pub const PXELINUX_CONFIG: u8 = 209;
    /// RFC 5071.
    pub const PXELINUX_PREFIX: u8 = 210;
    pub const END: u8 = 255;
}

/// The first byte of a message from a client.
pub const OP_REQUEST: u8 = 1;
/// The first byte of a message from a server.
pub const OP_REPLY: u8 = 2;

/// The four bytes before the options (RFC 2131 section 3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// The broadcast bit of `flags` (RFC 2131 figure 2).
pub const FLAG_BROADCAST: u16 = 0x8000;

const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// A message whose bounds are checked. The fields are as on the wire (RFC 2131 section 2).
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// `OP_REQUEST` or `OP_REPLY`.
    pub op: u8,
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Used bytes of `chaddr`, 0..=16.
    pub hlen: u8,
    /// Relay agents that the message passed.
    pub hops: u8,
    /// Transaction ID.
    pub xid: u32,
    /// Seconds since the client began; ringboot does not use it (D-8).
    pub secs: u16,
    /// `FLAG_BROADCAST` or 0.
    pub flags: u16,
    /// The address that the client uses.
    pub ciaddr: Ipv4Addr,
    /// The address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// The server of the boot file.
    pub siaddr: Ipv4Addr,
    /// The first relay agent; 0.0.0.0 without one.
    pub giaddr: Ipv4Addr,
    /// Hardware address of the client.
    pub chaddr: [u8; 16],
    /// The header's boot file, up to its NUL; empty when the field holds options (overload).
    pub file: &'a [u8],
    options: JoinedOptions<'a>,
}

/// Why a datagram is no message that the server reads (D-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMessage {
    /// Shorter than `MESSAGE_BYTES_MIN`.
    #[error("shorter than a DHCP header")]
    TooShort,
    /// Longer than `MESSAGE_BYTES_MAX`.
    #[error("longer than any DHCP message")]
    TooLong,
    /// A reply where a request is expected, or the other way round.
    #[error("wrong direction: the op field does not fit")]
    Op,
    /// `hlen` is above 16.
    #[error("hardware address longer than its field")]
    HardwareLength,
    /// Bytes 236 to 239 are not the magic cookie.
    #[error("no DHCP cookie")]
    Cookie,
}

impl<'a> Packet<'a> {
    /// Reads a message from a client (op = 1).
    pub fn parse_request(bytes: &'a [u8]) -> Result<Self, MalformedMessage> {
        Self::parse(bytes, OP_REQUEST)
    }

    /// Option 53 of an unchecked message, where the option area holds it.
    pub fn peek_type(bytes: &[u8]) -> Option<u8> {
        let mut rest = bytes.get(MESSAGE_BYTES_MIN..)?;
        while let Some((&code, after)) = rest.split_first() {
            rest = after;
            match code {
                code::PAD => continue,
                code::END => return None,
                _ => {}
            }
            let (&length, after) = rest.split_first()?;
            let (value, after) = after.split_at_checked(usize::from(length))?;
            if code == code::MESSAGE_TYPE {
                return value.first().copied();
            }
            rest = after;
        }
        None
    }

    /// Reads a message from a server (op = 2): for the search for other servers, for the simulated
    /// machines and for tests.
    pub fn parse_reply(bytes: &'a [u8]) -> Result<Self, MalformedMessage> {
        Self::parse(bytes, OP_REPLY)
    }

    /// The value of an option, its pieces joined (RFC 3396); None where the message lacks it.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(code)
    }

    /// Every option in the order of its first piece.
    pub fn options(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.options.values.iter().map(|(code, value)| (*code, value.as_ref()))
    }

    /// One option, decoded by dhcproto. Not for option 94, on which dhcproto asserts, nor for 93,
    /// of which it keeps too little.
    pub fn decode_option(&self, code: u8) -> Option<DhcpOption> {
        let value = self.option(code)?;
        let mut one = [0u8; OPTION_BYTES_MAX + 2];
        *one.get_mut(0)? = code;
        *one.get_mut(1)? = u8::try_from(value.len()).ok()?;
        let end = value.len() + 2;
        one.get_mut(2..end)?.copy_from_slice(value);
        DhcpOption::decode(&mut Decoder::new(one.get(..end)?)).ok()
    }

    /// True where the client asks for a broadcast reply.
    pub fn wants_broadcast(&self) -> bool {
        self.flags & FLAG_BROADCAST != 0
    }

    fn parse(bytes: &'a [u8], op: u8) -> Result<Self, MalformedMessage> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MalformedMessage::TooLong);
        }
        let (header, area) =
            bytes.split_at_checked(MESSAGE_BYTES_MIN).ok_or(MalformedMessage::TooShort)?;
        let octet = |at: usize| header.get(at).copied().unwrap_or(0);
        let address = |at| Ipv4Addr::from(copy_array::<4>(header, at));

        if octet(0) != op {
            return Err(MalformedMessage::Op);
        }
        if octet(2) > HARDWARE_BYTES_MAX {
            return Err(MalformedMessage::HardwareLength);
        }
        if copy_array::<4>(header, 236) != COOKIE {
            return Err(MalformedMessage::Cookie);
        }

        // Option 52 says that `file` and `sname` hold options. Then `file` names no boot file.
        let (sname, file) = (slice_field(header, SNAME), slice_field(header, FILE));
        let (options, overload) = JoinedOptions::read(area, sname, file);
        Ok(Self {
            op,
            htype: octet(1),
            hlen: octet(2),
            hops: octet(3),
            xid: u32::from_be_bytes(copy_array(header, 4)),
            secs: u16::from_be_bytes(copy_array(header, 8)),
            flags: u16::from_be_bytes(copy_array(header, 10)),
            ciaddr: address(12),
            yiaddr: address(16),
            siaddr: address(20),
            giaddr: address(24),
            chaddr: copy_array(header, 28),
            file: if overload & OVERLOAD_FILE == 0 { cut_at_nul(file) } else { &[] },
            options,
        })
    }
}

/// Bits of option 52: the header fields that hold options.
const OVERLOAD_FILE: u8 = 1;
const OVERLOAD_SNAME: u8 = 2;

/// Options with their pieces joined, found by code without a search.
#[derive(Clone, Debug)]
struct JoinedOptions<'a> {
    values: Vec<(u8, Cow<'a, [u8]>)>,
    /// Index in `values` plus one, by code; 0 = not sent. Codes 0 and 255 carry no value, so 254
    /// indexes fit a u8.
    index: [u8; 256],
}

impl<'a> JoinedOptions<'a> {
    /// Reads the option area, then `file`, then `sname` where option 52 says so (D-7, D-41).
    fn read(area: &'a [u8], sname: &'a [u8], file: &'a [u8]) -> (Self, u8) {
        let mut options = Self { values: Vec::with_capacity(16), index: [0; 256] };
        options.walk(area);
        let overload = options.get(code::OVERLOAD).and_then(|v| v.first().copied()).unwrap_or(0);
        if overload & OVERLOAD_FILE != 0 {
            options.walk(file);
        }
        if overload & OVERLOAD_SNAME != 0 {
            options.walk(sname);
        }
        (options, overload)
    }

    /// Reads one area. Stops at END, at the end of the area, and at a length that overruns it.
    fn walk(&mut self, area: &'a [u8]) {
        let mut rest = area;
        while let Some((&code, after)) = rest.split_first() {
            rest = after;
            match code {
                code::PAD => continue,
                code::END => return,
                _ => {}
            }
            let Some((&length, after)) = rest.split_first() else { return };
            let Some((value, after)) = after.split_at_checked(usize::from(length)) else { return };
            self.push(code, value);
            rest = after;
        }
    }

    fn push(&mut self, code: u8, value: &'a [u8]) {
        let Some(place) = self.index.get_mut(usize::from(code)) else { return };
        if let Some((_, joined)) =
            usize::from(*place).checked_sub(1).and_then(|at| self.values.get_mut(at))
        {
            joined.to_mut().extend_from_slice(value);
            return;
        }
        self.values.push((code, Cow::Borrowed(value)));
        *place = u8::try_from(self.values.len()).unwrap_or(0);
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        let place = usize::from(*self.index.get(usize::from(code))?).checked_sub(1)?;
        self.values.get(place).map(|(_, value)| value.as_ref())
    }
}

fn copy_array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|slice| slice.try_into().ok()).unwrap_or([0; N])
}

fn slice_field(header: &[u8], range: std::ops::Range<usize>) -> &[u8] {
    header.get(range).unwrap_or_default()
}

/// A text field up to its NUL, or the whole field where there is none.
fn cut_at_nul(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    /// A client's message with these options, END added.
    pub(in crate::dhcp) fn request(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&0xdead_beef_u32.to_be_bytes());
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x10]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(options);
        bytes.push(255);
        bytes
    }

    #[test]
    fn d01_only_requests_with_sound_header_and_cookie_are_read() {
        let good = request(&[53, 1, 1]);
        assert!(Packet::parse_request(&good).is_ok());
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Packet::parse_request(&bytes).map(|_| ()).unwrap_err()
        };

        assert_eq!(with(0, 2), MalformedMessage::Op);
        assert_eq!(with(2, 17), MalformedMessage::HardwareLength);
        assert_eq!(with(2, 255), MalformedMessage::HardwareLength);
        assert_eq!(with(236, 98), MalformedMessage::Cookie);
        assert_eq!(
            Packet::parse_request(&good[..239]).map(|_| ()).unwrap_err(),
            MalformedMessage::TooShort
        );
        assert_eq!(Packet::parse_request(&[]).map(|_| ()).unwrap_err(), MalformedMessage::TooShort);

        // Both bounds are inclusive: the longest message, and a header without options.
        let of_bytes = |octets: usize| [&good[..], &vec![0; octets - good.len()]].concat();
        assert!(Packet::parse_request(&of_bytes(2048)).is_ok());
        assert_eq!(
            Packet::parse_request(&of_bytes(2049)).map(|_| ()).unwrap_err(),
            MalformedMessage::TooLong
        );
        assert!(
            Packet::parse_request(&good[..240]).is_ok(),
            "a header without any option is BOOTP"
        );
    }

    #[test]
    fn the_type_is_seen_without_reading_the_message() {
        assert_eq!(
            Packet::peek_type(&request(&[0, 0, 60, 3, b'a', b'b', b'c', 53, 1, 3])),
            Some(3)
        );
        let whole = request(&[60, 3, b'a', b'b', b'c', 53, 1, 8]);
        for cut in 0..whole.len() - 1 {
            assert_eq!(Packet::peek_type(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(Packet::peek_type(&request(&[])), None);
        assert_eq!(Packet::peek_type(&request(&[0, 53, 1, 3])), Some(3), "a Pad has no length");
        for after_end in [&[255, 53, 1, 3][..], &[255, 0, 53, 1, 3]] {
            assert_eq!(Packet::peek_type(&request(after_end)), None);
        }
    }

    #[test]
    fn d07_missing_end_and_overrunning_length_lose_nothing_before_them() {
        let mut bytes = request(&[53, 1, 1, 60, 3, b'a', b'b', b'c']);
        bytes.pop();
        assert_eq!(Packet::parse_request(&bytes).unwrap().option(60), Some(&b"abc"[..]));
        let bytes = request(&[53, 1, 1, 60, 200, b'a']);
        let packet = Packet::parse_request(&bytes).unwrap();
        assert_eq!((packet.option(53), packet.option(60)), (Some(&[1][..]), None));
        let bytes = request(&[53]);
        assert_eq!(
            Packet::parse_request(&bytes[..241]).unwrap().option(53),
            None,
            "a code without its length"
        );
    }

    #[test]
    fn d07_overloaded_fields_are_read_and_are_not_names() {
        let mut bytes = request(&[53, 1, 1, 52, 1, 3]);
        bytes[108..114].copy_from_slice(&[67, 3, b'a', b'b', b'c', 255]);
        bytes[44..48].copy_from_slice(&[12, 1, b'h', 255]);
        let packet = Packet::parse_request(&bytes).unwrap();
        assert_eq!(packet.option(67), Some(&b"abc"[..]));
        assert_eq!(packet.option(12), Some(&b"h"[..]));
        assert_eq!(packet.file, b"");
        for (overload, in_file, in_sname) in
            [(0, false, false), (1, true, false), (2, false, true), (3, true, true)]
        {
            bytes[245] = overload;
            let packet = Packet::parse_request(&bytes).unwrap();
            let is_read = [67, 12].map(|code| packet.option(code).is_some());
            assert_eq!(is_read, [in_file, in_sname], "option 52 = {overload}");
            assert_eq!(packet.file.is_empty(), in_file, "option 52 = {overload}");
        }
    }

    #[test]
    fn d41_pieces_are_joined_in_the_order_options_file_sname() {
        let mut bytes = request(&[43, 1, 6, 53, 1, 1, 43, 2, 1, 8, 52, 1, 3]);
        bytes[108..112].copy_from_slice(&[43, 1, 0xf1, 255]);
        bytes[44..48].copy_from_slice(&[43, 1, 0x51, 255]);
        let packet = Packet::parse_request(&bytes).unwrap();
        assert_eq!(packet.option(43), Some(&[6, 1, 8, 0xf1, 0x51][..]));
    }

    /// The packets on which dhcproto 0.15 panics or loses options.
    #[test]
    fn what_dhcproto_cannot_read_the_guard_reads() {
        let two_archs = request(&[53, 1, 1, 0x5d, 4, 0, 7, 0, 9]);
        assert_eq!(Packet::parse_request(&two_archs).unwrap().option(93), Some(&[0, 7, 0, 9][..]));
        for undi in [&[94, 2, 1, 3][..], &[94, 4, 1, 3, 16, 0]] {
            let bytes = request(&[&[53, 1, 1], undi, &[60, 1, b'x']].concat());
            assert_eq!(Packet::parse_request(&bytes).unwrap().option(60), Some(&b"x"[..]));
        }
        let bad_name = request(&[53, 1, 1, 12, 2, 0xff, 0xfe, 60, 1, b'x', 93, 2, 0, 7]);
        let packet = Packet::parse_request(&bad_name).unwrap();
        assert_eq!((packet.option(60), packet.option(93)), (Some(&b"x"[..]), Some(&[0, 7][..])));
        let mut no_nul = request(&[53, 1, 1]);
        no_nul[108..236].fill(b'a');
        assert_eq!(Packet::parse_request(&no_nul).unwrap().file.len(), 128);
        no_nul[110] = 0;
        assert_eq!(Packet::parse_request(&no_nul).unwrap().file, b"aa");
    }

    #[test]
    fn one_option_at_a_time_goes_through_dhcproto() {
        let bytes = request(&[53, 1, 3, 50, 4, 192, 168, 4, 26, 57, 2, 5, 0xc0, 54, 3, 1, 2, 3]);
        let packet = Packet::parse_request(&bytes).unwrap();
        assert_eq!(
            packet.decode_option(50),
            Some(DhcpOption::RequestedIpAddress(Ipv4Addr::new(192, 168, 4, 26)))
        );
        assert_eq!(packet.decode_option(57), Some(DhcpOption::MaxMessageSize(1472)));
        assert_eq!(packet.decode_option(54), None, "three octets are no address");
        assert_eq!(packet.decode_option(51), None);
    }
}
