//! The facts of a message: its kind, its client, the firmware that sent it, and what it asks for.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, MessageType};

use super::limits::{
    DATAGRAM_BYTES_DEFAULT, HOST_NAME_BYTES_MAX, IP_UDP_HEADER_BYTES, LEASE_REQUESTED_S_MIN,
    REPLY_BYTES_MAX,
};
use super::packet::{Packet, code};
use super::pxe;
use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac, Uuid};

/// What a client's message says.
#[derive(Clone, Debug)]
pub struct MessageFacts<'a> {
    /// The message type, with the four kinds of REQUEST.
    pub kind: MessageKind,
    /// The key of the machine: its Ethernet address, or a stand-in for other hardware.
    pub mac: Mac,
    /// False for hardware other than Ethernet: no frame can be addressed to it (D-15).
    pub ethernet: bool,
    /// Option 61 as sent (D-37).
    pub client_id: Option<&'a [u8]>,
    /// Option 97 as sent (D-39).
    pub guid: Option<&'a [u8]>,
    /// The UUID in option 97, where its type is 0.
    pub uuid: Option<Uuid>,
    /// The class and the architecture of the program that sent the message.
    pub firmware: Firmware,
    /// The option that shows the firmware: `option 93 = 7`.
    pub evidence: String,
    /// False only for an iPXE whose option 175 lacks HTTP (D-70).
    pub speaks_http: bool,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 51, seconds.
    pub lease_time_s: Option<u32>,
    /// Option 55; None where the client sent no list.
    pub wanted: Option<&'a [u8]>,
    /// Largest UDP payload of a reply, bytes (D-4).
    pub payload_bytes_max: usize,
    /// Option 12, where it is a plain host name.
    pub host_name: Option<&'a str>,
    /// Option 82.
    pub relay: RelayInformation<'a>,
    /// Option 118 (RFC 3011).
    pub subnet_selection: Option<Ipv4Addr>,
}

/// The message types. The fields of a REQUEST alone tell its kind (D-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// DHCPDISCOVER.
    Discover,
    /// A REQUEST with option 54: the client answers an OFFER.
    Selecting,
    /// A REQUEST with option 50, without 54 and ciaddr: the client remembers an address.
    InitReboot,
    /// A REQUEST with ciaddr alone: RENEW (unicast) or REBIND (broadcast).
    Renewing,
    /// A REQUEST that names no address at all.
    Empty,
    /// DHCPDECLINE.
    Decline,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
    /// No option 53 (D-31).
    Bootp,
    /// FORCERENEW, leasequery, a server's message, an unknown number (D-32).
    Other(u8),
}

/// What the relay agent says in option 82.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayInformation<'a> {
    /// Option 82 as received (D-49).
    pub information: Option<&'a [u8]>,
    /// Sub-option 1 (RFC 3046): the port that the client is behind.
    pub circuit: Option<&'a [u8]>,
    /// Sub-option 5 (RFC 3527).
    pub link: Option<Ipv4Addr>,
    /// Sub-option 11 (RFC 5107).
    pub server_override: Option<Ipv4Addr>,
    /// Sub-option 19 (RFC 8357): answer at the relay's source port (D-74).
    pub source_port: bool,
}

impl<'a> MessageFacts<'a> {
    /// Reads the facts of a packet.
    pub fn from_packet(packet: &'a Packet<'_>) -> Self {
        let (mac, ethernet) = identify_hardware(packet);
        let (firmware, evidence) = identify_firmware(packet, mac);
        let guid = packet.option(code::CLIENT_GUID);
        Self {
            kind: classify_message(packet),
            mac,
            ethernet,
            client_id: packet.option(code::CLIENT_IDENTIFIER),
            guid,
            uuid: guid.and_then(parse_guid),
            firmware,
            evidence,
            // An iPXE without option 175 lists no features, so it counts as one with HTTP (D-70).
            speaks_http: packet.option(code::IPXE).is_none_or(pxe::ipxe_speaks_http),
            requested: match packet.decode_option(code::REQUESTED_ADDRESS) {
                Some(DhcpOption::RequestedIpAddress(address)) => Some(address),
                _ => None,
            },
            server_id: find_server_id(packet),
            lease_time_s: match packet.decode_option(code::LEASE_TIME) {
                Some(DhcpOption::AddressLeaseTime(seconds)) => {
                    Some(seconds.max(LEASE_REQUESTED_S_MIN))
                }
                _ => None,
            },
            wanted: packet.option(code::PARAMETER_REQUEST_LIST),
            payload_bytes_max: limit_payload_bytes(packet),
            host_name: packet.option(code::HOST_NAME).and_then(parse_host_name),
            relay: parse_relay_information(packet),
            subnet_selection: match packet.decode_option(code::SUBNET_SELECTION) {
                Some(DhcpOption::SubnetSelection(address)) => Some(address),
                _ => None,
            },
        }
    }

    /// True for firmware and loaders, which name themselves (options 60, 77, 93, 175), and for
    /// every Raspberry Pi: a Pi 3 takes its address without a REQUEST, so no lease records
    /// what its ROM said.
    pub fn boots_from_network(&self) -> bool {
        is_boot_firmware(self.firmware)
            || RASPBERRY_PI_PREFIXES.iter().any(|prefix| self.mac.0.starts_with(prefix))
    }

    /// False for an address that no station can have: zero, or a group address.
    pub fn is_station(&self) -> bool {
        self.mac != Mac([0; 6]) && self.mac.0[0] & 1 == 0
    }
}

/// True for a program that boots a machine. Option 93 counts without option 60.
pub(super) fn is_boot_firmware(firmware: Firmware) -> bool {
    firmware.role != FirmwareRole::System || firmware.arch.is_some()
}

/// Hardware types of Ethernet (RFC 1700) and of IEEE 802 networks, which some drivers send instead.
const HTYPE_ETHERNET: [u8; 2] = [1, 6];

/// The Ethernet address. Other hardware (InfiniBand sends hlen 0 and option 61, RFC 4390) gets a
/// stand-in: a locally administered address made from everything that identifies it, always the
/// same.
fn identify_hardware(packet: &Packet<'_>) -> (Mac, bool) {
    let [a, b, c, d, e, f, ..] = packet.chaddr;
    if packet.hlen == 6 && HTYPE_ETHERNET.contains(&packet.htype) {
        return (Mac([a, b, c, d, e, f]), true);
    }
    let used = packet.chaddr.get(..usize::from(packet.hlen)).unwrap_or_default();
    let identity = packet.option(code::CLIENT_IDENTIFIER).unwrap_or_default();
    if used.is_empty() && identity.is_empty() {
        return (Mac([0; 6]), false);
    }
    let mixed = hash_bytes(std::iter::once(&packet.htype).chain(used).chain(identity));
    let [_, b, c, d, e, f, ..] = mixed.to_be_bytes();
    (Mac([2, b, c, d, e, f]), false)
}

/// FNV-1a with a final mix. The hash must stay the same over versions: addresses and timers depend
/// on it.
pub(super) fn hash_bytes<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> u64 {
    let sum = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, &b| {
        (sum ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    let sum = (sum ^ (sum >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    sum ^ (sum >> 33)
}

fn classify_message(packet: &Packet<'_>) -> MessageKind {
    let Some(value) = packet.option(code::MESSAGE_TYPE) else { return MessageKind::Bootp };
    match packet.decode_option(code::MESSAGE_TYPE) {
        Some(DhcpOption::MessageType(MessageType::Discover)) => MessageKind::Discover,
        Some(DhcpOption::MessageType(MessageType::Request)) => classify_request(packet),
        Some(DhcpOption::MessageType(MessageType::Decline)) => MessageKind::Decline,
        Some(DhcpOption::MessageType(MessageType::Release)) => MessageKind::Release,
        Some(DhcpOption::MessageType(MessageType::Inform)) => MessageKind::Inform,
        _ => MessageKind::Other(value.first().copied().unwrap_or(0)),
    }
}

/// RFC 2131 table 4.
fn classify_request(packet: &Packet<'_>) -> MessageKind {
    if find_server_id(packet).is_some() {
        MessageKind::Selecting
    } else if !packet.ciaddr.is_unspecified() {
        MessageKind::Renewing
    } else if packet.option(code::REQUESTED_ADDRESS).is_some() {
        MessageKind::InitReboot
    } else {
        MessageKind::Empty
    }
}

fn find_server_id(packet: &Packet<'_>) -> Option<Ipv4Addr> {
    match packet.decode_option(code::SERVER_IDENTIFIER) {
        Some(DhcpOption::ServerIdentifier(address)) => Some(address),
        _ => None,
    }
}

/// Type byte 0 and sixteen bytes. Any other value is only echoed (D-39).
/// The EEPROM of a Raspberry Pi 4 or 5 begins its GUID with `RPi4` or `RPi5`, so that servers know
/// it whatever its hardware address is (raspberrypi/documentation, DHCP_OPTION97).
fn is_raspberry_pi_guid(guid: &[u8]) -> bool {
    matches!(guid, [0, b'R', b'P', b'i', b'0'..=b'9', ..])
}

fn parse_guid(guid: &[u8]) -> Option<Uuid> {
    let (&kind, rest) = guid.split_first()?;
    (kind == 0).then_some(rest)?.try_into().ok().map(Uuid)
}

fn limit_payload_bytes(packet: &Packet<'_>) -> usize {
    let datagram = match packet.decode_option(code::MAX_MESSAGE_SIZE) {
        Some(DhcpOption::MaxMessageSize(octets)) => usize::from(octets).max(DATAGRAM_BYTES_DEFAULT),
        _ => DATAGRAM_BYTES_DEFAULT,
    };
    (datagram - IP_UDP_HEADER_BYTES).min(REPLY_BYTES_MAX)
}

/// A name that is safe in a log or a zone: letters, digits, hyphens and dots. The NUL that some
/// clients append is cut off.
fn parse_host_name(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let sound = text.len() <= HOST_NAME_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    sound.then_some(text)
}

/// Reads option 82; sub-option 10 (RFC 5010, flags) is ignored (D-50). Without giaddr no relay
/// agent wrote the option, but a switch that adds its port, or a client that wants to choose its
/// subnet: then the reply repeats it and nothing else follows from it.
fn parse_relay_information<'a>(packet: &'a Packet<'_>) -> RelayInformation<'a> {
    let Some(information) = packet.option(code::RELAY_AGENT_INFORMATION) else {
        return RelayInformation::default();
    };
    let address = |wanted| {
        let octets: [u8; 4] = pxe::find_suboption(information, wanted)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
            .filter(|a| !a.is_unspecified() && !packet.giaddr.is_unspecified())
    };
    RelayInformation {
        information: Some(information),
        circuit: pxe::find_suboption(information, 1),
        link: address(5),
        server_override: address(11),
        source_port: pxe::find_suboption(information, 19).is_some(),
    }
}

/// Vendor prefixes of the Raspberry Pi (IEEE registry: Raspberry Pi Foundation and Raspberry Pi
/// Trading).
const RASPBERRY_PI_PREFIXES: [[u8; 3]; 8] = [
    RASPBERRY_PI_3_PREFIX,
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
    [0x88, 0xa2, 0x9e],
    [0x98, 0xfe, 0x54],
];

/// Models up to the Pi 3, whose ROM needs three spaces in its menu.
pub(super) const RASPBERRY_PI_3_PREFIX: [u8; 3] = [0xb8, 0x27, 0xeb];

/// The program that sent the message, and the option that shows it. iPXE comes first, since it
/// keeps the vendor class of the firmware that it replaced (D-52, D-69).
fn identify_firmware(packet: &Packet<'_>, mac: Mac) -> (Firmware, String) {
    let class = packet.option(code::CLASS_IDENTIFIER).unwrap_or_default();
    let (arch, arch_evidence) = identify_arch(packet, class);
    let user_class = packet.option(code::USER_CLASS).is_some_and(pxe::user_class_is_ipxe);
    let (role, evidence) = if user_class {
        (FirmwareRole::Ipxe, "option 77 = iPXE")
    } else if packet.option(code::IPXE).is_some() {
        (FirmwareRole::Ipxe, "option 175")
    } else if class.starts_with(b"HTTPClient") {
        (FirmwareRole::HttpBoot, "option 60 = HTTPClient")
    } else if class.starts_with(b"PXEClient") {
        // A Pi with UEFI firmware sends another architecture, and boots like any PC.
        let has_address = RASPBERRY_PI_PREFIXES.iter().any(|prefix| mac.0.starts_with(prefix));
        let has_guid = packet.option(code::CLIENT_GUID).is_some_and(is_raspberry_pi_guid);
        match arch {
            Some(Arch::Bios) if has_guid => (FirmwareRole::RaspberryPi, "option 97 = RPi"),
            Some(Arch::Bios) if has_address => {
                (FirmwareRole::RaspberryPi, "a Raspberry Pi's address")
            }
            _ => (FirmwareRole::Pxe, "option 60 = PXEClient"),
        }
    } else if class.starts_with(b"U-Boot") {
        (FirmwareRole::UBoot, "option 60 = U-Boot")
    } else {
        (FirmwareRole::System, "no boot options")
    };
    let evidence = match (role, arch_evidence) {
        (FirmwareRole::Pxe | FirmwareRole::RaspberryPi, Some(arch)) => arch,
        (FirmwareRole::Ipxe | FirmwareRole::HttpBoot | FirmwareRole::UBoot, Some(arch)) => {
            format!("{evidence}, {arch}")
        }
        (_, _) => evidence.to_owned(),
    };
    (Firmware { role, arch }, evidence)
}

/// The architecture, and the option that shows it. Option 93 is a list: the first known number
/// counts, or else the first. Without option 93 the text of option 60 counts (D-52).
fn identify_arch(packet: &Packet<'_>, class: &[u8]) -> (Option<Arch>, Option<String>) {
    let list = packet.option(code::CLIENT_ARCHITECTURE).unwrap_or_default();
    let mut numbers = list.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let first = numbers.clone().next();
    let known = numbers.find(|&n| !matches!(Arch::from_number(n), Arch::Other(_)));
    if let Some(number) = known.or(first) {
        return (Some(Arch::from_number(number)), Some(format!("option 93 = {number}")));
    }
    let Some(number) = parse_class_arch(class) else { return (None, None) };
    (Some(Arch::from_number(number)), Some(format!("option 60 says Arch:{number:05}")))
}

/// The number after `Arch` in option 60, such as `PXEClient:Arch:00007:UNDI:003000`.
fn parse_class_arch(class: &[u8]) -> Option<u16> {
    let mut parts = class.split(|&b| b == b':');
    parts.find(|part| *part == b"Arch")?;
    std::str::from_utf8(parts.next()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::dhcp::packet::tests::request;

    #[test]
    fn a_hash_is_the_same_in_every_version() {
        let known = [
            (&b""[..], 0xecba_3df2_c338_3c52_u64),
            (b"a", 0xed81_70de_1919_a24d),
            (&[0x52, 0x54, 0, 0x12, 0x34, 0x10], 0xae82_4454_d4de_ff67),
        ];
        assert_eq!(known.map(|(bytes, _)| hash_bytes(bytes)), known.map(|(_, hash)| hash));
    }

    fn with<T>(options: &[u8], look: impl FnOnce(MessageFacts<'_>) -> T) -> T {
        let bytes = request(options);
        let packet = Packet::parse_request(&bytes).unwrap();
        look(MessageFacts::from_packet(&packet))
    }

    /// The same through a relay agent.
    fn relayed(options: &[u8]) -> Vec<u8> {
        let mut bytes = request(options);
        bytes[24..28].copy_from_slice(&[10, 7, 0, 1]);
        bytes
    }

    fn firmware_of(options: &[u8]) -> Firmware {
        with(options, |facts| facts.firmware)
    }

    fn option(code: u8, value: &[u8]) -> Vec<u8> {
        [&[code, value.len() as u8], value].concat()
    }

    #[test]
    fn d21_request_is_told_apart_by_its_fields_alone() {
        let kind = |options: &[u8], ciaddr: u8| {
            let mut bytes = request(options);
            bytes[12] = ciaddr;
            MessageFacts::from_packet(&Packet::parse_request(&bytes).unwrap()).kind
        };
        let (address, server) = ([50, 4, 10, 0, 0, 9], [54, 4, 10, 0, 0, 1]);
        let message = [53, 1, 3];
        assert_eq!(kind(&[&message[..], &address, &server].concat(), 0), MessageKind::Selecting);
        assert_eq!(kind(&[&message[..], &address].concat(), 0), MessageKind::InitReboot);
        assert_eq!(kind(&message, 10), MessageKind::Renewing);
        assert_eq!(kind(&[&message[..], &address].concat(), 10), MessageKind::Renewing);
        assert_eq!(kind(&message, 0), MessageKind::Empty);
        assert_eq!(kind(&[], 0), MessageKind::Bootp);
    }

    #[test]
    fn d32_what_is_not_implemented_is_its_own_kind() {
        for number in [2, 5, 6, 9, 10, 14, 200] {
            assert_eq!(with(&[53, 1, number], |f| f.kind), MessageKind::Other(number));
        }
    }

    #[test]
    fn d04_size_of_a_reply_is_read_as_an_ip_datagram() {
        let max = |size: u16| with(&option(57, &size.to_be_bytes()), |f| f.payload_bytes_max);
        assert_eq!(with(&[], |f| f.payload_bytes_max), 548);
        assert_eq!(max(576), 548);
        assert_eq!(max(300), 548, "less than the RFC allows is not believed");
        assert_eq!(max(1472), 1444);
        assert_eq!(max(65280), 1472);
    }

    #[test]
    fn d52_pxe_client_by_option_60_and_architecture_by_93_then_60() {
        let class = option(60, b"PXEClient:Arch:00007:UNDI:003000");
        let x64 = Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) };
        assert_eq!(firmware_of(&class), x64);
        assert_eq!(
            firmware_of(&[class.clone(), option(93, &[0, 11])].concat()).arch,
            Some(Arch::UefiArm64)
        );
        let list = [class, option(93, &[0, 27, 0, 6])].concat();
        assert_eq!(firmware_of(&list).arch, Some(Arch::UefiIa32), "the first known of a list");
        assert_eq!(
            firmware_of(&option(93, &[0, 7])).role,
            FirmwareRole::System,
            "option 60 makes a PXE client"
        );
        assert_eq!(firmware_of(&option(60, b"PXEClient:Arch:x:UNDI:003000")).arch, None);
    }

    #[test]
    fn d69_ipxe_by_77_by_175_and_by_both() {
        let base = [option(60, b"PXEClient:Arch:00000:UNDI:002001"), option(93, &[0, 0])].concat();
        let (class, features) = (option(77, b"iPXE"), option(175, &[0x13, 1, 1]));
        for more in [class.clone(), features.clone(), [class, features].concat()] {
            let firmware = firmware_of(&[base.clone(), more].concat());
            assert_eq!(firmware, Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::Bios) });
        }
        assert_eq!(firmware_of(&base).role, FirmwareRole::Pxe);
    }

    #[test]
    fn d69_a_renamed_user_class_is_still_ipxe_by_175() {
        let renamed = [option(77, b"my-ipxe"), option(175, &[0x13, 1, 1])].concat();
        assert_eq!(firmware_of(&renamed).role, FirmwareRole::Ipxe);
    }

    #[test]
    fn d59_raspberry_pi_by_its_prefix_and_bios_architecture() {
        let of = |arch: u8| {
            let mut bytes = request(
                &[option(60, b"PXEClient:Arch:00000:UNDI:002001"), option(93, &[0, arch])].concat(),
            );
            bytes[28..31].copy_from_slice(&RASPBERRY_PI_3_PREFIX);
            MessageFacts::from_packet(&Packet::parse_request(&bytes).unwrap()).firmware.role
        };
        assert_eq!(of(0), FirmwareRole::RaspberryPi);
        assert_eq!(of(11), FirmwareRole::Pxe, "a Pi with UEFI firmware boots as any PC");
    }

    #[test]
    fn k9_a_raspberry_pi_is_known_by_its_guid_whatever_its_address() {
        // The fourcc, the board's revision, four bytes of the address, the serial number.
        let guid = |model: &[u8; 4]| {
            let rest = [0x11, 0x31, 0xc0, 0x00, 0x12, 0x34, 0x56, 0x78, 0xde, 0xad, 0xbe, 0xef];
            [&[0], &model[..], &rest].concat()
        };
        let of = |prefix: [u8; 3], arch: u8, guid: &[u8]| {
            let class = option(60, b"PXEClient:Arch:00000:UNDI:002001");
            let mut bytes = request(&[class, option(93, &[0, arch]), option(97, guid)].concat());
            bytes[28..31].copy_from_slice(&prefix);
            MessageFacts::from_packet(&Packet::parse_request(&bytes).unwrap()).firmware.role
        };
        const OTHER: [u8; 3] = [0x02, 0x11, 0x22];
        for model in [b"RPi4", b"RPi5"] {
            assert_eq!(of(OTHER, 0, &guid(model)), FirmwareRole::RaspberryPi);
            assert_eq!(of(OTHER, 11, &guid(model)), FirmwareRole::Pxe, "UEFI on a Pi");
        }
        for prefix in [[0x88, 0xa2, 0x9e], [0x98, 0xfe, 0x54], [0x2c, 0xcf, 0x67]] {
            assert_eq!(of(prefix, 0, &guid(b"PC4 ")), FirmwareRole::RaspberryPi);
        }
        assert_eq!(of(OTHER, 0, &guid(b"PC4 ")), FirmwareRole::Pxe);
        assert_eq!(of(OTHER, 0, b"\0RPi"), FirmwareRole::Pxe);
    }

    #[test]
    fn d47_reserved_and_site_codes_change_nothing() {
        let options: Vec<u8> =
            (128..=135).chain(224..=254).flat_map(|code| option(code, &[1, 2, 3])).collect();
        with(&[&[53, 1, 1], &options[..]].concat(), |facts| {
            assert_eq!(facts.kind, MessageKind::Discover);
            assert_eq!(facts.firmware, Firmware { role: FirmwareRole::System, arch: None });
        });
    }

    #[test]
    fn d39_uuid_wants_type_zero_and_sixteen_octets() {
        let guid = |kind: u8, octets: usize| {
            let value = [&[kind][..], &vec![7; octets]].concat();
            with(&option(97, &value), |facts| (facts.uuid, facts.guid.map(<[u8]>::len)))
        };
        assert_eq!(guid(0, 16), (Some(Uuid([7; 16])), Some(17)));
        assert_eq!(guid(1, 16), (None, Some(17)));
        assert_eq!(guid(0, 15), (None, Some(16)));
        assert_eq!(with(&[], |f| f.uuid), None);
    }

    #[test]
    fn d01_hardware_that_is_not_ethernet_gets_a_stable_stand_in() {
        let facts = |htype: u8, hlen: u8, options: &[u8]| {
            let mut bytes = request(options);
            (bytes[1], bytes[2]) = (htype, hlen);
            let packet = Packet::parse_request(&bytes).unwrap();
            let facts = MessageFacts::from_packet(&packet);
            (facts.mac, facts.ethernet, facts.is_station())
        };
        let id = option(61, b"\xff1234");
        let (mac, ethernet, station) = facts(32, 0, &id);
        assert!(!ethernet && station && mac.0[0] == 2);
        assert_eq!(facts(32, 0, &id).0, mac);
        assert_ne!(facts(32, 0, &option(61, b"\xff1235")).0, mac);
        for (htype, hlen, is_ethernet) in [
            (1, 6, true),
            (6, 6, true),
            (1, 5, false),
            (1, 8, false),
            (1, 16, false),
            (32, 6, false),
        ] {
            let (mac, ethernet, station) = facts(htype, hlen, &[]);
            assert_eq!((ethernet, station), (is_ethernet, true), "type {htype}, {hlen} octets");
            assert_eq!(
                mac == Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]),
                is_ethernet,
                "type {htype}, {hlen} octets"
            );
        }
        assert!(!facts(32, 0, &[]).2, "nothing to know it by");
    }

    #[test]
    fn host_names_are_kept_only_when_they_are_names() {
        let name = |value: &[u8]| with(&option(12, value), |f| f.host_name.map(str::to_owned));
        assert_eq!(name(b"node-7.rack"), Some("node-7.rack".into()));
        assert_eq!(name(b"node\0"), Some("node".into()));
        assert_eq!(name(&[b'n'; 253]).map(|name| name.len()), Some(253));
        for bad in [&b"\xff\xfe"[..], b"a b", b"-x", b"", b"\0", b"a\nb", &[b'n'; 254]] {
            assert_eq!(name(bad), None);
        }
    }

    #[test]
    fn d50_relay_sub_options_are_read() {
        let value = [1, 2, b'e', b'1', 10, 1, 0x80, 5, 4, 10, 7, 0, 0, 11, 4, 10, 7, 0, 1, 19, 0];
        let bytes = relayed(&option(82, &value));
        let packet = Packet::parse_request(&bytes).unwrap();
        let relay = MessageFacts::from_packet(&packet).relay;
        assert_eq!(relay.link, Some(Ipv4Addr::new(10, 7, 0, 0)));
        assert_eq!(relay.server_override, Some(Ipv4Addr::new(10, 7, 0, 1)));
        assert!(relay.source_port);
        assert_eq!(relay.circuit, Some(&b"e1"[..]));
        assert_eq!(relay.information, Some(&value[..]));
        with(&option(82, &value), |facts| {
            assert_eq!(
                (facts.relay.link, facts.relay.server_override),
                (None, None),
                "no relay says it"
            );
            assert_eq!(facts.relay.information, Some(&value[..]));
        });
        let bytes = relayed(&option(82, &[5, 3, 1, 2, 3]));
        assert_eq!(
            MessageFacts::from_packet(&Packet::parse_request(&bytes).unwrap()).relay.link,
            None
        );
    }

    /// dhcproto reads a well-formed option 82 as we do.
    #[test]
    fn d50_dhcproto_agrees_about_option_82() {
        use dhcproto::v4::relay::{RelayCode, RelayInfo};
        let bytes = relayed(&option(82, &[5, 4, 10, 7, 0, 0, 11, 4, 10, 7, 0, 1]));
        let packet = Packet::parse_request(&bytes).unwrap();
        let Some(DhcpOption::RelayAgentInformation(info)) = packet.decode_option(82) else {
            panic!("option 82")
        };
        let facts = MessageFacts::from_packet(&packet);
        assert_eq!(
            info.get(RelayCode::LinkSelection),
            facts.relay.link.map(RelayInfo::LinkSelection).as_ref()
        );
        let over = facts.relay.server_override.map(RelayInfo::ServerIdentifierOverride);
        assert_eq!(info.get(RelayCode::ServerIdentifierOverride), over.as_ref());
    }
}
