//! Which options a reply carries, and in which order.

use std::net::Ipv4Addr;

use super::classify::{Facts, RASPBERRY_PI_3_PREFIX};
use super::limits::OPTION_OCTETS_MAX;
use super::packet::{Packet, code};
use super::pxe;
use super::reply::Options;
use super::subnet::Subnet;
use super::times::Times;
use crate::model::machine::{Arch, Role};

/// What an OFFER or ACK says, from which its options follow. The same for both, so that they agree
/// (D-30).
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) subnet: &'a Subnet,
    /// DHCP message type; None for BOOTP, whose replies have neither 51, 53 nor 54 (D-31).
    pub(super) message_type: Option<u8>,
    /// The address on the client's segment (D-20).
    pub(super) server: Ipv4Addr,
    /// Where files come from: siaddr, 66, 150.
    pub(super) next_server: Ipv4Addr,
    /// None for INFORM and BOOTP (D-29, D-31).
    pub(super) times: Option<Times>,
    /// The boot file, where it fits one option.
    pub(super) file: Option<&'a str>,
    pub(super) host_name: Option<&'a str>,
}

/// Sent before everything that the client asks for, in this order: a Raspberry Pi 3 asks for
/// neither mask nor router (D-33).
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

/// Sent only when asked for, or to a client that sends no list at all (GRUB's DISCOVER says
/// nothing).
const ON_REQUEST: [u8; 5] = [
    code::DOMAIN_NAME_SERVERS,
    code::DOMAIN_NAME,
    code::HOST_NAME,
    code::NTP_SERVERS,
    code::TFTP_SERVER_ADDRESS,
];

/// The options of an OFFER, ACK or BOOTP reply, in the order of D-33: leading ones, the client's
/// list, the rest, 82 last.
pub(super) fn compose(terms: &Terms<'_>, packet: &Packet<'_>, facts: &Facts<'_>) -> Options {
    let mut available = Options::roomy();
    configuration(terms, &mut available);
    boot(terms, facts, &mut available);
    echoes(packet, facts, &mut available);
    let must_name = matches!(facts.firmware.role, Role::HttpBoot | Role::Ipxe);
    let is_sent_unasked = |code: u8| {
        facts.wanted.is_none()
            || !ON_REQUEST.contains(&code)
            || (must_name && code == code::DOMAIN_NAME_SERVERS)
    };
    let codes: Vec<u8> =
        available.iter().map(|(code, _)| code).filter(|code| is_sent_unasked(*code)).collect();
    let wanted = facts.wanted.unwrap_or_default().iter().copied();
    let mut options = available.in_order(LEADING.into_iter().chain(wanted).chain(codes));
    relay_information(facts, &mut options);
    options
}

/// The options of a NAK (D-26).
pub(super) fn refusal(server: Ipv4Addr, why: &str, facts: &Facts<'_>) -> Options {
    let mut options = Options::roomy();
    options.push(code::MESSAGE_TYPE, &[NAK]);
    options.push(code::SERVER_IDENTIFIER, &server.octets());
    options.push(
        code::MESSAGE,
        why.as_bytes().get(..why.len().min(OPTION_OCTETS_MAX)).unwrap_or_default(),
    );
    if let Some(id) = facts.client_id {
        options.push(code::CLIENT_IDENTIFIER, id);
    }
    relay_information(facts, &mut options);
    options
}

/// DHCP message types that we send (RFC 2132 section 9.6).
pub(super) const OFFER: u8 = 2;
pub(super) const ACK: u8 = 5;
pub(super) const NAK: u8 = 6;

fn configuration(terms: &Terms<'_>, options: &mut Options) {
    let subnet = terms.subnet;
    options.push(code::SUBNET_MASK, &subnet.network.mask().octets());
    list(code::ROUTERS, &subnet.routers, options);
    options.push(code::BROADCAST_ADDRESS, &subnet.network.broadcast().octets());
    list(code::DOMAIN_NAME_SERVERS, &subnet.domain_name_servers, options);
    options.push(code::DOMAIN_NAME, text(subnet.domain_name.as_deref()));
    options.push(code::HOST_NAME, text(terms.host_name));
    list(code::NTP_SERVERS, &subnet.ntp_servers, options);
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

/// What makes firmware boot. A client that says nothing of booting gets none of it, except siaddr.
fn boot(terms: &Terms<'_>, facts: &Facts<'_>, options: &mut Options) {
    let role = facts.firmware.role;
    if terms.file.is_some() || role == Role::RaspberryPi {
        options.push(code::TFTP_SERVER_NAME, terms.next_server.to_string().as_bytes());
    }
    if let Some(file) = terms.file {
        options.push(code::BOOT_FILE_NAME, file.as_bytes());
    }
    class_options(terms, facts, options);
    options.push(code::TFTP_SERVER_ADDRESS, &terms.next_server.octets());
    if role != Role::System {
        options.push(code::PXELINUX_CONFIG, text(terms.subnet.pxelinux_config.as_deref()));
        let prefix = terms
            .subnet
            .pxelinux_prefix
            .as_ref()
            .map(|prefix| format!("{}/", prefix.trim_end_matches('/')));
        options.push(code::PXELINUX_PREFIX, text(prefix.as_deref()));
    }
}

/// Options 60, 43 and 175. 60 and 43 go together or not at all: EDK2 takes 60 alone for "ask port
/// 4011" (D-53).
fn class_options(terms: &Terms<'_>, facts: &Facts<'_>, options: &mut Options) {
    match (facts.firmware.role, terms.file) {
        (Role::Ipxe, _) => options.push(code::IPXE, &pxe::NO_PROXY_DHCP),
        (Role::HttpBoot, Some(_)) => options.push(code::CLASS_IDENTIFIER, b"HTTPClient"),
        (Role::RaspberryPi, _) => {
            let three_spaces = facts.mac.0.starts_with(&RASPBERRY_PI_3_PREFIX);
            options.push(code::CLASS_IDENTIFIER, b"PXEClient");
            options.push(code::VENDOR_SPECIFIC, &pxe::raspberry_pi_menu(three_spaces));
        }
        (Role::Pxe, Some(_)) if facts.firmware.arch.is_some_and(Arch::is_uefi) => {
            options.push(code::CLASS_IDENTIFIER, b"PXEClient");
            options.push(code::VENDOR_SPECIFIC, &pxe::BOOT_FROM_THIS_OFFER);
        }
        // BIOS clients boot conventionally: a menu in 43 stops some Intel ROMs (D-55).
        _ => {}
    }
}

/// What goes back as it came: client identifier (D-37), GUID (D-39), auto-configure (D-32), subnet
/// selection (RFC 3011).
fn echoes(packet: &Packet<'_>, facts: &Facts<'_>, options: &mut Options) {
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

fn relay_information(facts: &Facts<'_>, options: &mut Options) {
    if let Some(value) = facts.relay.information {
        options.push(code::RELAY_AGENT_INFORMATION, value);
    }
}

fn list(code: u8, addresses: &[Ipv4Addr], options: &mut Options) {
    options.push_all(code, addresses.iter().take(OPTION_OCTETS_MAX / 4).map(Ipv4Addr::octets));
}

/// Empty where there is none, or where it would have to be split (D-41).
fn text(value: Option<&str>) -> &[u8] {
    value.filter(|text| text.len() <= OPTION_OCTETS_MAX).unwrap_or_default().as_bytes()
}
