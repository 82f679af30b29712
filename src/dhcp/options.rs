//! Which options a reply carries, and in which order.

use std::net::Ipv4Addr;

use super::classify::{Facts, RASPBERRY_PI_3_PREFIX};
use super::limits::OPTION_OCTETS_MAX;
use super::packet::{Packet, code};
use super::pxe;
use super::subnet::Subnet;
use super::times::Times;
use crate::boot::machine::{Arch, Role};

/// What an OFFER or ACK says, from which its options follow. The same for both, so that they agree (D-30).
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

/// Sent before everything that the client asks for, in this order: a Raspberry Pi 3 asks for neither mask nor router (D-33).
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

/// Sent only when asked for, or to a client that sends no list at all (GRUB's DISCOVER says nothing).
const ON_REQUEST: [u8; 5] =
    [code::DOMAIN_NAME_SERVERS, code::DOMAIN_NAME, code::HOST_NAME, code::NTP_SERVERS, code::TFTP_SERVER_ADDRESS];

/// The options of an OFFER, ACK or BOOTP reply, in the order of D-33: leading ones, the client's list, the rest, 82 last.
pub(super) fn compose(terms: &Terms<'_>, packet: &Packet<'_>, facts: &Facts<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut available = configuration(terms);
    available.extend(boot(terms, facts));
    available.extend(echoes(packet, facts));
    available.retain(|(_, value)| !value.is_empty());
    let must_name = matches!(facts.firmware.role, Role::HttpBoot | Role::Ipxe);
    let unasked = available.iter().map(|(code, _)| *code).filter(|code| {
        facts.wanted.is_none() || !ON_REQUEST.contains(code) || (must_name && *code == code::DOMAIN_NAME_SERVERS)
    });
    let wanted = facts.wanted.unwrap_or_default().iter().copied();
    let order: Vec<u8> = LEADING.into_iter().chain(wanted).chain(unasked).collect();
    let mut options = Vec::with_capacity(available.len() + 1);
    for wanted in order {
        if let Some(at) = available.iter().position(|(code, _)| *code == wanted) {
            options.push(available.remove(at));
        }
    }
    options.extend(relay_information(facts));
    options
}

/// The options of a NAK (D-26).
pub(super) fn refusal(server: Ipv4Addr, why: &str, facts: &Facts<'_>) -> Vec<(u8, Vec<u8>)> {
    let text = why.as_bytes().get(..why.len().min(OPTION_OCTETS_MAX)).unwrap_or_default();
    let mut options = vec![
        (code::MESSAGE_TYPE, vec![NAK]),
        (code::SERVER_IDENTIFIER, server.octets().to_vec()),
        (code::MESSAGE, text.to_vec()),
    ];
    options.extend(facts.client_id.map(|id| (code::CLIENT_IDENTIFIER, id.to_vec())));
    options.extend(relay_information(facts));
    options
}

/// DHCP message types that we send (RFC 2132 section 9.6).
pub(super) const OFFER: u8 = 2;
pub(super) const ACK: u8 = 5;
pub(super) const NAK: u8 = 6;

fn configuration(terms: &Terms<'_>) -> Vec<(u8, Vec<u8>)> {
    let subnet = terms.subnet;
    let mut options = vec![
        (code::SUBNET_MASK, subnet.network.mask().octets().to_vec()),
        (code::ROUTERS, list(&subnet.routers)),
        (code::BROADCAST_ADDRESS, subnet.network.broadcast().octets().to_vec()),
        (code::DOMAIN_NAME_SERVERS, list(&subnet.domain_name_servers)),
        (code::DOMAIN_NAME, text(subnet.domain_name.as_deref())),
        (code::HOST_NAME, text(terms.host_name)),
        (code::NTP_SERVERS, list(&subnet.ntp_servers)),
    ];
    if let Some(message_type) = terms.message_type {
        options.push((code::MESSAGE_TYPE, vec![message_type]));
        options.push((code::SERVER_IDENTIFIER, terms.server.octets().to_vec()));
    }
    if let Some(times) = terms.times {
        options.push((code::LEASE_TIME, times.lease_s.to_be_bytes().to_vec()));
        options.push((code::RENEWAL_TIME, times.renew_s.to_be_bytes().to_vec()));
        options.push((code::REBINDING_TIME, times.rebind_s.to_be_bytes().to_vec()));
    }
    options
}

/// What makes firmware boot. A client that says nothing of booting gets none of it, except siaddr.
fn boot(terms: &Terms<'_>, facts: &Facts<'_>) -> Vec<(u8, Vec<u8>)> {
    let role = facts.firmware.role;
    let mut options = Vec::new();
    let pi = role == Role::RaspberryPi;
    if terms.file.is_some() || pi {
        options.push((code::TFTP_SERVER_NAME, terms.next_server.to_string().into_bytes()));
    }
    if let Some(file) = terms.file {
        options.push((code::BOOT_FILE_NAME, file.as_bytes().to_vec()));
    }
    options.extend(class_options(terms, facts));
    options.push((code::TFTP_SERVER_ADDRESS, terms.next_server.octets().to_vec()));
    if role != Role::System {
        options.push((code::PXELINUX_CONFIG, text(terms.subnet.pxelinux_config.as_deref())));
        let prefix = terms.subnet.pxelinux_prefix.as_ref().map(|prefix| format!("{}/", prefix.trim_end_matches('/')));
        options.push((code::PXELINUX_PREFIX, text(prefix.as_deref())));
    }
    options
}

/// Options 60, 43 and 175. 60 and 43 go together or not at all: EDK2 takes 60 alone for "ask port 4011" (D-53).
fn class_options(terms: &Terms<'_>, facts: &Facts<'_>) -> Vec<(u8, Vec<u8>)> {
    let class = |name: &[u8]| (code::CLASS_IDENTIFIER, name.to_vec());
    let vendor = |value: Vec<u8>| (code::VENDOR_SPECIFIC, value);
    match (facts.firmware.role, terms.file) {
        (Role::Ipxe, _) => vec![(code::IPXE, pxe::NO_PROXY_DHCP.to_vec())],
        (Role::HttpBoot, Some(_)) => vec![class(b"HTTPClient")],
        (Role::RaspberryPi, _) => {
            let three_spaces = facts.mac.0.starts_with(&RASPBERRY_PI_3_PREFIX);
            vec![class(b"PXEClient"), vendor(pxe::raspberry_pi_menu(three_spaces))]
        }
        (Role::Pxe, Some(_)) if facts.firmware.arch.is_some_and(Arch::is_uefi) => {
            vec![class(b"PXEClient"), vendor(pxe::BOOT_FROM_THIS_OFFER.to_vec())]
        }
        // BIOS clients boot conventionally: a menu in 43 stops some Intel ROMs (D-55).
        _ => Vec::new(),
    }
}

/// What goes back as it came: client identifier (D-37), GUID (D-39), auto-configure (D-32), subnet selection (RFC 3011).
fn echoes(packet: &Packet<'_>, facts: &Facts<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut options = Vec::new();
    options.extend(facts.client_id.map(|id| (code::CLIENT_IDENTIFIER, id.to_vec())));
    options.extend(facts.guid.map(|guid| (code::CLIENT_GUID, guid.to_vec())));
    let auto = packet.option(code::AUTO_CONFIGURE).filter(|value| matches!(value, [0 | 1]));
    options.extend(auto.map(|value| (code::AUTO_CONFIGURE, value.to_vec())));
    options.extend(facts.subnet_selection.map(|link| (code::SUBNET_SELECTION, link.octets().to_vec())));
    options
}

fn relay_information(facts: &Facts<'_>) -> Option<(u8, Vec<u8>)> {
    facts.relay.information.map(|value| (code::RELAY_AGENT_INFORMATION, value.to_vec()))
}

fn list(addresses: &[Ipv4Addr]) -> Vec<u8> {
    let fit = OPTION_OCTETS_MAX / 4;
    addresses.iter().take(fit).flat_map(|address| address.octets()).collect()
}

/// Empty where there is none, or where it would have to be split (D-41).
fn text(value: Option<&str>) -> Vec<u8> {
    value.filter(|text| text.len() <= OPTION_OCTETS_MAX).unwrap_or_default().as_bytes().to_vec()
}
