//! Which options a reply carries, and in which order.

use std::net::Ipv4Addr;

use super::classify::{MessageFacts, RASPBERRY_PI_3_PREFIX};
use super::limits::OPTION_BYTES_MAX;
use super::packet::{Packet, code};
use super::pxe;
use super::reply::ReplyOptions;
use super::subnet::Subnet;
use super::times::LeaseTimes;
use crate::model::machine::{Arch, FirmwareRole};

/// What the options of a reply are made from. The same for OFFER and ACK, so that they agree
/// (D-30).
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyTerms<'a> {
    pub(super) subnet: &'a Subnet,
    /// DHCP message type; None for BOOTP, whose replies have neither 51, 53 nor 54 (D-31).
    pub(super) message_type: Option<u8>,
    /// Option 54: our address on the client's segment (D-20).
    pub(super) server: Ipv4Addr,
    /// The server of boot files: siaddr, options 66 and 150.
    pub(super) next_server: Ipv4Addr,
    /// None for INFORM and BOOTP (D-29, D-31).
    pub(super) times: Option<LeaseTimes>,
    /// The boot file, where one option can hold it.
    pub(super) file: Option<&'a str>,
    pub(super) host_name: Option<&'a str>,
}

/// Options that come first, in this order, asked for or not: a Raspberry Pi 3 asks for neither mask
/// nor router (D-33).
const LEADING: [u8; 8] = [
    code::MESSAGE_TYPE,
    code::SUBNET_MASK,
    code::ROUTERS,
    code::BROADCAST_ADDRESS,
    code::LEASE_TIME,
    code::SERVER_IDENTIFIER,
    code::RENEWAL_TIME,
    code::REBINDING_TIME,
];

/// Options that only a client gets that asks for them, or that sends no option 55 at all, as GRUB's
/// DISCOVER.
const ON_REQUEST: [u8; 5] = [
    code::DOMAIN_NAME_SERVERS,
    code::DOMAIN_NAME,
    code::HOST_NAME,
    code::NTP_SERVERS,
    code::TFTP_SERVER_ADDRESS,
];

/// The options of an OFFER, ACK or BOOTP reply, in the order of D-33: the leading ones, the
/// client's list, the rest, 82 last.
pub(super) fn compose_options(
    terms: &ReplyTerms<'_>,
    packet: &Packet<'_>,
    facts: &MessageFacts<'_>,
) -> ReplyOptions {
    let mut available = ReplyOptions::with_room();
    push_network_options(terms, &mut available);
    push_boot_options(terms, facts, &mut available);
    push_echoed_options(packet, facts, &mut available);

    // HTTP Boot and iPXE resolve names in URLs, and may not ask for a name server.
    let must_name = matches!(facts.firmware.role, FirmwareRole::HttpBoot | FirmwareRole::Ipxe);
    let sent_unasked = available.iter().map(|(code, _)| code).filter(|code| {
        facts.wanted.is_none()
            || !ON_REQUEST.contains(code)
            || (must_name && *code == code::DOMAIN_NAME_SERVERS)
    });
    let codes: Vec<u8> = sent_unasked.collect();
    let wanted = facts.wanted.unwrap_or_default().iter().copied();
    let mut options = available.select_in_order(LEADING.into_iter().chain(wanted).chain(codes));
    push_relay_information(facts, &mut options);
    options
}

/// The options of a NAK (D-26).
pub(super) fn compose_nak_options(
    server: Ipv4Addr,
    why: &str,
    facts: &MessageFacts<'_>,
) -> ReplyOptions {
    let mut options = ReplyOptions::with_room();
    options.push(code::MESSAGE_TYPE, &[NAK]);
    options.push(code::SERVER_IDENTIFIER, &server.octets());
    options.push(
        code::MESSAGE,
        why.as_bytes().get(..why.len().min(OPTION_BYTES_MAX)).unwrap_or_default(),
    );
    if let Some(id) = facts.client_id {
        options.push(code::CLIENT_IDENTIFIER, id);
    }
    push_relay_information(facts, &mut options);
    options
}

/// DHCP message types of replies (RFC 2132 section 9.6).
pub(super) const OFFER: u8 = 2;
pub(super) const ACK: u8 = 5;
pub(super) const NAK: u8 = 6;

fn push_network_options(terms: &ReplyTerms<'_>, options: &mut ReplyOptions) {
    let subnet = terms.subnet;
    options.push(code::SUBNET_MASK, &subnet.network.mask().octets());
    push_address_list(code::ROUTERS, &subnet.routers, options);
    options.push(code::BROADCAST_ADDRESS, &subnet.network.broadcast().octets());
    push_address_list(code::DOMAIN_NAME_SERVERS, &subnet.domain_name_servers, options);
    options.push(code::DOMAIN_NAME, fit_option_text(subnet.domain_name.as_deref()));
    options.push(code::HOST_NAME, fit_option_text(terms.host_name));
    push_address_list(code::NTP_SERVERS, &subnet.ntp_servers, options);
    if let Some(message_type) = terms.message_type {
        options.push(code::MESSAGE_TYPE, &[message_type]);
        options.push(code::SERVER_IDENTIFIER, &terms.server.octets());
    }
    if let Some(times) = terms.times {
        options.push(code::LEASE_TIME, &times.lease_s.to_be_bytes());
        options.push(code::RENEWAL_TIME, &times.renew_s.to_be_bytes());
        options.push(code::REBINDING_TIME, &times.rebind_s.to_be_bytes());
    }
}

/// The options that firmware boots by. A client that says nothing of booting gets none of them.
fn push_boot_options(terms: &ReplyTerms<'_>, facts: &MessageFacts<'_>, options: &mut ReplyOptions) {
    let role = facts.firmware.role;
    // A Raspberry Pi gets no boot file, but asks this server for its own files.
    if terms.file.is_some() || role == FirmwareRole::RaspberryPi {
        options.push(code::TFTP_SERVER_NAME, terms.next_server.to_string().as_bytes());
    }
    if let Some(file) = terms.file {
        options.push(code::BOOT_FILE_NAME, file.as_bytes());
    }

    push_class_options(terms, facts, options);
    // `compose_options` leaves option 150 out for a client whose list does not name it (D-44).
    options.push(code::TFTP_SERVER_ADDRESS, &terms.next_server.octets());

    if role != FirmwareRole::System {
        options
            .push(code::PXELINUX_CONFIG, fit_option_text(terms.subnet.pxelinux_config.as_deref()));
        // PXELINUX puts the prefix before each name as it is, so it ends with a slash (D-45).
        let prefix = terms
            .subnet
            .pxelinux_prefix
            .as_ref()
            .map(|prefix| format!("{}/", prefix.trim_end_matches('/')));
        options.push(code::PXELINUX_PREFIX, fit_option_text(prefix.as_deref()));
    }
}

/// Options 60, 43 and 175. 60 and 43 are sent together or not at all: EDK2 reads 60 alone as "ask
/// port 4011" (D-53).
fn push_class_options(
    terms: &ReplyTerms<'_>,
    facts: &MessageFacts<'_>,
    options: &mut ReplyOptions,
) {
    match (facts.firmware.role, terms.file) {
        (FirmwareRole::Ipxe, _) => options.push(code::IPXE, &pxe::NO_PROXY_DHCP),
        (FirmwareRole::HttpBoot, Some(_)) => options.push(code::CLASS_IDENTIFIER, b"HTTPClient"),
        (FirmwareRole::RaspberryPi, _) => {
            let three_spaces = facts.mac.0.starts_with(&RASPBERRY_PI_3_PREFIX);
            options.push(code::CLASS_IDENTIFIER, b"PXEClient");
            options.push(code::VENDOR_SPECIFIC, &pxe::build_raspberry_pi_menu(three_spaces));
        }
        (FirmwareRole::Pxe, Some(_)) if facts.firmware.arch.is_some_and(Arch::is_uefi) => {
            options.push(code::CLASS_IDENTIFIER, b"PXEClient");
            options.push(code::VENDOR_SPECIFIC, &pxe::BOOT_FROM_THIS_OFFER);
        }
        // BIOS clients boot conventionally: a menu in 43 stops some Intel ROMs (D-55).
        _ => {}
    }
}

/// Options that the reply repeats unchanged: client identifier (D-37), GUID (D-39), auto-configure
/// (D-32), subnet selection (RFC 3011).
fn push_echoed_options(packet: &Packet<'_>, facts: &MessageFacts<'_>, options: &mut ReplyOptions) {
    let auto = packet.option(code::AUTO_CONFIGURE).filter(|value| matches!(value, [0 | 1]));
    let selection = facts.subnet_selection.map(|link| link.octets());
    for (code, value) in [
        (code::CLIENT_IDENTIFIER, facts.client_id),
        (code::CLIENT_GUID, facts.guid),
        (code::AUTO_CONFIGURE, auto),
        (code::SUBNET_SELECTION, selection.as_ref().map(<[u8; 4]>::as_slice)),
    ] {
        options.push(code, value.unwrap_or_default());
    }
}

fn push_relay_information(facts: &MessageFacts<'_>, options: &mut ReplyOptions) {
    if let Some(value) = facts.relay.information {
        options.push(code::RELAY_AGENT_INFORMATION, value);
    }
}

fn push_address_list(code: u8, addresses: &[Ipv4Addr], options: &mut ReplyOptions) {
    options.push_parts(code, addresses.iter().take(OPTION_BYTES_MAX / 4).map(Ipv4Addr::octets));
}

/// The value of a text option; empty where there is none, or where one option cannot hold it
/// (D-41).
fn fit_option_text(value: Option<&str>) -> &[u8] {
    value.filter(|text| text.len() <= OPTION_BYTES_MAX).unwrap_or_default().as_bytes()
}
