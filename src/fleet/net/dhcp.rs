//! The client's and the relay agent's side of DHCP as bytes: messages of firmware, how a relay
//! forwards them, and answers.

use std::net::Ipv4Addr;

use ringboot_protocol::model::machine::{Mac, Uuid};

/// The values of option 53 that a client sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DhcpMessageType {
    Discover,
    Offer,
    Request,
    Ack,
    Nak,
    /// Releases the address; it has no answer (D-28).
    Release,
}

/// The program that sends: each has its own options, in its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DhcpSpeaker {
    /// A BIOS PXE ROM that is not iPXE.
    BiosRom,
    /// EDK2's PXE stack, with its number of option 93: 7 on x64.
    UefiPxe(u16),
    /// EDK2's HTTP Boot, with its number of option 93: 16 on x64.
    UefiHttp(u16),
    /// iPXE, with the number of option 93 of the firmware below it: 0 as an option ROM on BIOS.
    Ipxe(u16),
    /// GRUB's `net_dhcp`, which does not identify itself.
    Grub,
    /// U-Boot on arm64.
    UBoot,
    /// The EEPROM of a Raspberry Pi 4.
    RaspberryPi,
}

/// One message of a client, before a relay agent has touched it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientMessage {
    pub(crate) speaker: DhcpSpeaker,
    pub(crate) mac: Mac,
    pub(crate) uuid: Uuid,
    pub(crate) xid: u32,
    /// Earlier messages of this exchange.
    pub(crate) nth: u16,
    /// Option 54: set in the REQUEST that answers an OFFER.
    pub(crate) server: Option<Ipv4Addr>,
    /// Option 50: the requested address; in a RELEASE ciaddr, the released one.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) kind: DhcpMessageType,
}

/// The relay agent that forwards a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelayHop {
    /// giaddr: the agent's address on the machines' segment.
    pub(crate) relay: Ipv4Addr,
    /// Sub-option 1: the switch port.
    pub(crate) circuit: u32,
    /// Sub-option 19 (RFC 8357, D-74): the server answers to the agent's source port. Off if the
    /// agent listens on port 67.
    pub(crate) own_port: bool,
}

/// A server's answer, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DhcpAnswer {
    pub(crate) kind: DhcpMessageType,
    pub(crate) xid: u32,
    pub(crate) mac: Mac,
    /// yiaddr.
    pub(crate) address: Ipv4Addr,
    /// siaddr.
    pub(crate) next_server: Ipv4Addr,
    /// Option 54.
    pub(crate) server: Option<Ipv4Addr>,
    /// Option 51, seconds.
    pub(crate) lease_s: Option<u32>,
    /// Option 67, else the header's `file`; up to the first NUL.
    pub(crate) boot_file: Option<String>,
    /// Option 60 is `HTTPClient` (D-66).
    pub(crate) is_http_client: bool,
    /// Option 43 has the menu of a Raspberry Pi (D-59).
    pub(crate) is_for_raspberry_pi: bool,
    /// Option 175 says that no ProxyDHCP answer will come (D-68).
    pub(crate) no_proxy_dhcp: bool,
    /// Option 82 as the server returned it (D-49).
    pub(super) relay_information: Option<Vec<u8>>,
}

const HEADER_BYTES: usize = 236;
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const BROADCAST: u16 = 0x8000;

/// Builds the message; through a relay agent with hops 1, giaddr, and option 82 as the last one
/// before END (D-49). A RELEASE has the address in ciaddr, names server and client, and nothing
/// else (capture `clients-dhcp`).
pub(crate) fn encode_client_message(ask: &ClientMessage, through: Option<&RelayHop>) -> Vec<u8> {
    let mut packet = Vec::with_capacity(DHCP_ROOM);
    packet.extend_from_slice(&[1, 1, 6, u8::from(through.is_some())]);
    packet.extend_from_slice(&ask.xid.to_be_bytes());
    let given_back = ask.address.filter(|_| ask.kind == DhcpMessageType::Release);

    // The fields secs and flags are 0 in a RELEASE (RFC 2131 table 5).
    let (secs, flags) = if given_back.is_some() {
        (0, 0)
    } else {
        (ask.speaker.secs(ask.nth), ask.speaker.flags())
    };
    packet.extend_from_slice(&secs.to_be_bytes());
    packet.extend_from_slice(&flags.to_be_bytes());
    packet.extend_from_slice(&given_back.unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    packet.extend_from_slice(&[0; 8]);
    packet.extend_from_slice(
        &through.map_or(Ipv4Addr::UNSPECIFIED, |through| through.relay).octets(),
    );
    packet.extend_from_slice(&ask.mac.0);
    packet.resize(HEADER_BYTES, 0);
    packet.extend_from_slice(&COOKIE);
    for (code, value) in list_client_options(ask) {
        put_dhcp_option(&mut packet, code, &value);
    }

    // A relay agent adds its option behind those of the client (RFC 3046 section 2.1).
    if let Some(through) = through {
        put_dhcp_option(&mut packet, 82, &encode_relay_information(through));
    }
    packet.push(255);
    if given_back.is_some() {
        packet.resize(packet.len().max(BOOTP_BYTES), 0);
    }
    packet
}

/// Parses an answer; None for anything but a whole BOOTP reply with option 53.
pub(crate) fn decode_dhcp_answer(packet: &[u8]) -> Option<DhcpAnswer> {
    let header = packet.first_chunk::<HEADER_BYTES>()?;
    if header[0] != 2 || packet.get(HEADER_BYTES..HEADER_BYTES + COOKIE.len())? != COOKIE {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?));

    // The type is known only after the options: until then OFFER holds its place.
    let mut answer = DhcpAnswer {
        kind: DhcpMessageType::Offer,
        xid: u32::from_be_bytes(*header.get(4..)?.first_chunk()?),
        mac: Mac(*header.get(28..)?.first_chunk()?),
        address: address(16)?,
        next_server: address(20)?,
        server: None,
        lease_s: None,
        boot_file: read_option_text(header.get(108..)?),
        is_http_client: false,
        is_for_raspberry_pi: false,
        no_proxy_dhcp: false,
        relay_information: None,
    };
    let mut kind = None;
    for (code, value) in (OptionCursor { rest: packet.get(HEADER_BYTES + COOKIE.len()..)? }) {
        match code {
            53 => kind = DhcpMessageType::from_octet(*value.first()?),
            54 => answer.server = value.first_chunk::<4>().map(|a| Ipv4Addr::from(*a)),
            51 => answer.lease_s = value.first_chunk::<4>().map(|s| u32::from_be_bytes(*s)),
            43 => {
                answer.is_for_raspberry_pi =
                    value.windows(PI_MENU.len()).any(|part| part == PI_MENU)
            }
            60 => answer.is_http_client = value.starts_with(b"HTTPClient"),
            67 => answer.boot_file = read_option_text(value).or(answer.boot_file),
            175 => {
                answer.no_proxy_dhcp =
                    (OptionCursor { rest: value }).any(|one| one == NO_PROXY_DHCP)
            }
            82 => answer.relay_information = Some(value.to_vec()),
            _ => {}
        }
    }
    answer.kind = kind?;
    Some(answer)
}

/// The value of option 82: a circuit id, and an empty sub-option 19 (RFC 8357) if the agent has its
/// own port.
pub(super) fn encode_relay_information(through: &RelayHop) -> Vec<u8> {
    let mut value = Vec::new();
    put_dhcp_option(&mut value, 1, &through.circuit.to_be_bytes());
    if through.own_port {
        put_dhcp_option(&mut value, 19, &[]);
    }
    value
}

impl DhcpMessageType {
    fn octet(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
        }
    }

    fn from_octet(octet: u8) -> Option<Self> {
        let all = [Self::Discover, Self::Offer, Self::Request, Self::Ack, Self::Nak, Self::Release];
        all.into_iter().find(|kind| kind.octet() == octet)
    }
}

impl DhcpSpeaker {
    /// The value of `secs` (D-8), as recorded: 4, 10, 18, ... from iPXE, whatever the time; seconds
    /// of a long uptime from GRUB.
    fn secs(self, nth: u16) -> u16 {
        /// The first recorded value (capture `uefi-http`).
        const GRUB_SECS: u16 = 51_301;
        match self {
            Self::Ipxe(_) => nth.saturating_add(1).saturating_mul(nth.saturating_add(4)),
            Self::Grub => GRUB_SECS.saturating_add(nth),
            _ => 0,
        }
    }

    /// EDK2 always sets the broadcast flag (D-18).
    fn flags(self) -> u16 {
        if matches!(self, Self::UefiPxe(_) | Self::UefiHttp(_)) { BROADCAST } else { 0 }
    }
}

/// The text that a Raspberry Pi expects in option 43.
const PI_MENU: &[u8] = b"Raspberry Pi Boot";
/// Sub-option 176 of option 175.
const NO_PROXY_DHCP: (u8, &[u8]) = (176, &[1]);

/// Length of a BOOTP message (RFC 951), to which clients without firmware pad theirs.
const BOOTP_BYTES: usize = 300;

/// Largest message built here; a starting capacity, not a limit.
const DHCP_ROOM: usize = 576;

/// A client's options in the captured order.
fn list_client_options(ask: &ClientMessage) -> Vec<(u8, Vec<u8>)> {
    let mut options = vec![(53, vec![ask.kind.octet()])];
    let server = ask.server.map(|a| (54, a.octets().to_vec()));
    let client = || (61, [&[1u8], ask.mac.0.as_slice()].concat());
    if ask.kind == DhcpMessageType::Release {
        options.extend(server);
        // A client that had no option 61 in its lease must send none now (RFC 2131 section 4.4.1).
        options.extend(matches!(ask.speaker, DhcpSpeaker::Ipxe(_)).then(client));
        return options;
    }
    let address = ask.address.map(|a| (50, a.octets().to_vec()));
    let mut guid = vec![0];
    guid.extend_from_slice(&ask.uuid.0);
    match ask.speaker {
        DhcpSpeaker::BiosRom => {
            // As udhcpc imitates it (no plain ROM was at hand), with the UUID and interface version
            // of PXE 2.1.
            options.extend(address);
            options.extend(server);
            options.push((57, vec![0x02, 0x40]));
            options.push((55, BIOS_LIST.to_vec()));
            options.push((60, b"PXEClient:Arch:00000:UNDI:002001".to_vec()));
            options.push((93, vec![0, 0]));
            options.push((94, vec![1, 2, 1]));
            options.push((97, guid));
        }
        DhcpSpeaker::UefiPxe(arch) | DhcpSpeaker::UefiHttp(arch) => {
            let http = matches!(ask.speaker, DhcpSpeaker::UefiHttp(_));
            options.extend(server);
            options.extend(address);
            let room = if http || ask.kind == DhcpMessageType::Discover {
                vec![0x05, 0xc0]
            } else {
                vec![0xff, 0x00]
            };
            options.push((57, room));
            options.push((55, if http { UEFI_HTTP_LIST.to_vec() } else { UEFI_LIST.to_vec() }));
            options.push((97, guid));
            options.push((94, vec![1, 3, 0]));
            options.push((93, arch.to_be_bytes().to_vec()));
            let class = if http { "HTTPClient" } else { "PXEClient" };
            options.push((60, format!("{class}:Arch:{arch:05}:UNDI:003000").into_bytes()));
        }
        DhcpSpeaker::Ipxe(arch) => {
            let (undi, version) =
                if arch == 0 { (vec![1, 2, 1], "002001") } else { (vec![1, 3, 10], "003010") };
            options.push((57, vec![0x05, 0xc0]));
            options.push((93, arch.to_be_bytes().to_vec()));
            options.push((94, undi));
            options.push((60, format!("PXEClient:Arch:{arch:05}:UNDI:{version}").into_bytes()));
            options.push((77, b"iPXE".to_vec()));
            options.push((55, IPXE_LIST.to_vec()));
            options.push((
                175,
                if arch == 0 { IPXE_FEATURES.to_vec() } else { IPXE_EFI_FEATURES.to_vec() },
            ));
            options.push(client());
            options.push((97, guid));
            options.extend(server);
            options.extend(address);
        }
        DhcpSpeaker::Grub if ask.kind == DhcpMessageType::Discover => {}
        DhcpSpeaker::Grub => {
            options.extend(server);
            options.extend(address);
            options.push((55, GRUB_LIST.to_vec()));
        }
        DhcpSpeaker::UBoot => {
            options.push((57, vec![0x02, 0x40]));
            options.extend(server);
            options.extend(address);
            options.push((93, UBOOT_ARM64.to_be_bytes().to_vec()));
            options.push((94, vec![1, 0, 0]));
            options.push((60, b"U-Boot.armv8".to_vec()));
            options.push((55, vec![1, 3, 6, 12, 17]));
        }
        DhcpSpeaker::RaspberryPi => {
            // After PXE 2.1: no Pi was at hand. It asks for neither mask nor router (D-33).
            options.extend(address);
            options.extend(server);
            options.push((55, vec![43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135]));
            options.push((93, vec![0, 0]));
            options.push((94, vec![1, 2, 1]));
            options.push((97, guid));
            options.push((60, b"PXEClient:Arch:00000:UNDI:002001".to_vec()));
        }
    }
    options
}

/// Option 55 of the BIOS ROM's stand-in (capture `clients`), with 43 as PXE 2.1 asks.
const BIOS_LIST: [u8; 10] = [1, 3, 6, 12, 15, 28, 42, 43, 66, 67];
/// Option 55 of OVMF (capture `uefi-pxe`).
const UEFI_LIST: [u8; 35] = [
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66,
    67, 97, 128, 129, 130, 131, 132, 133, 134, 135,
];
/// Option 55 of OVMF's HTTP Boot (capture `uefi-http`). 235 is a byte that EDK2 never sets: 0 on
/// arm64.
const UEFI_HTTP_LIST: [u8; 27] = [
    1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 235,
    67, 97,
];
/// Option 55 of GRUB's REQUEST (capture `uefi-http`).
const GRUB_LIST: [u8; 8] = [1, 3, 6, 15, 12, 17, 18, 60];
/// Option 93 of U-Boot on arm64 (IANA "Processor Architecture Types").
const UBOOT_ARM64: u16 = 22;
/// Option 55 of the iPXE ROM (capture `bios-ipxe`).
const IPXE_LIST: [u8; 23] = [
    1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175,
    203,
];
/// Option 175 of the iPXE ROM (capture `bios-ipxe`): PCI id, version, one byte for each feature.
const IPXE_FEATURES: [u8; 48] = [
    0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0, 0, 0x17, 1, 1, 0x22, 1, 1, 0x13, 1, 1, 0x11, 1,
    1, 0x27, 1, 1, 0x19, 1, 1, 0x29, 1, 1, 0x10, 1, 2, 0x21, 1, 1, 0x15, 1, 1, 0x18, 1, 1, 0x12, 1,
    1,
];

/// Option 175 of iPXE as an EFI driver (capture `uefi-iperom-pxe`).
const IPXE_EFI_FEATURES: [u8; 36] = [
    0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0xeb, 3, 1, 0, 0, 0x17, 1, 1, 0x24, 1, 1, 0x13, 1, 1, 0x11, 1,
    1, 0x27, 1, 1, 0x29, 1, 1, 0x15, 1, 1, 0x12, 1, 1,
];

fn put_dhcp_option(packet: &mut Vec<u8>, code: u8, value: &[u8]) {
    packet.push(code);
    packet.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
    packet.extend_from_slice(value.get(..usize::from(u8::MAX)).unwrap_or(value));
}

/// The text up to its first NUL; None if it is empty.
fn read_option_text(octets: &[u8]) -> Option<String> {
    let line = octets.split(|octet| *octet == 0).next()?;
    if line.is_empty() { None } else { Some(String::from_utf8_lossy(line).into_owned()) }
}

/// Walks an option area; ends at END, at the end of the area, or at a length that overruns it.
struct OptionCursor<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for OptionCursor<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.rest {
                [0, rest @ ..] => self.rest = rest,
                [255, ..] | [] | [_] => return None,
                [code, length, rest @ ..] => {
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    self.rest = rest;
                    return Some((*code, value));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
