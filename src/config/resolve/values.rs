//! Values of several tables: numbers with bounds, addresses, words of a list.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use crate::config::file::PlacedValue;
use crate::config::problem::ConfigComplaints;
use crate::model::spelling::find_nearest_word;

/// `IFNAMSIZ` without its NUL.
const INTERFACE_MAX_BYTES: usize = 15;
/// The longest name of DNS (RFC 1035 section 2.3.4, in text form).
const NAME_MAX_BYTES: usize = 253;

/// A number within its bounds; a number outside them becomes a complaint.
pub(super) fn read_number<T: TryFrom<u64>>(
    at: &PlacedValue<u64>,
    key: &str,
    allowed: RangeInclusive<u64>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    let value = *at.get_ref();
    if let (true, Ok(value)) = (allowed.contains(&value), T::try_from(value)) {
        return Some(value);
    }
    let what = format!("{key} = {value} is out of bounds");
    let hint = format!("write a number from {} to {}", allowed.start(), allowed.end());
    complaints.add(&at.span(), what, hint);
    None
}

/// A limit per client address; 0 means none.
pub(super) fn read_limit(
    at: Option<PlacedValue<u64>>,
    key: &str,
    default: u32,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<u32> {
    let limit =
        at.and_then(|at| read_number(&at, key, 0..=1_000_000, complaints)).unwrap_or(default);
    (limit > 0).then_some(limit)
}

/// A text that parses as a value; `kind` names it in the complaint.
pub(super) fn parse_text<T: FromStr>(
    at: &PlacedValue<String>,
    kind: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    let value = at.get_ref().parse().ok();
    if value.is_none() {
        let hint = match kind {
            "an IPv4 address" => "write four numbers with dots: \"192.168.4.150\"",
            _ => "write six pairs of hexadecimal digits: \"52:54:00:12:34:10\"",
        };
        complaints.add(&at.span(), format!("{:?} is not {kind}", at.get_ref()), hint);
    }
    value
}

pub(super) fn refuse_unknown_word(
    found: &str,
    span: &Range<usize>,
    kind: &str,
    known: &[&str],
    complaints: &mut ConfigComplaints<'_>,
) {
    let hint = match find_nearest_word(found, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of: {}", known.join(", ")),
    };
    complaints.add(span, format!("{found:?} is not a known {kind}"), hint);
}

/// `["0.0.0.0:69", "[::]:69"]`; the default is both address families on the usual port.
pub(super) fn read_listen_addresses(
    written: Option<Vec<PlacedValue<String>>>,
    port: u16,
    section: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<SocketAddr> {
    // An absent list means every address; an empty one switches the protocol off.
    let Some(list) = written else {
        return vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        ];
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in list {
        match text.get_ref().parse() {
            Ok(address) if addresses.contains(&address) => {
                complaints.add(&text.span(), format!("{address} is in the list twice"), "");
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let what = format!(
                    "[{section}] cannot listen on {:?}{}",
                    text.get_ref(),
                    name_wrong_half(text.get_ref())
                );
                let hint = format!("write address and port: \"0.0.0.0:{port}\" or \"[::]:{port}\"");
                complaints.add(&text.span(), what, hint);
            }
        }
    }
    addresses
}

/// Names the wrong half of an address with its port; empty where each half is right by itself.
fn name_wrong_half(text: &str) -> String {
    let Some((address, port)) = text.rsplit_once(':') else { return ": it has no port".to_owned() };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = address.parse::<Ipv4Addr>().is_ok()
        || bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok());
    match (is_address, port.parse::<u16>().is_ok()) {
        (false, _) if address.parse::<Ipv6Addr>().is_ok() => {
            ": an IPv6 address needs brackets".to_owned()
        }
        (false, _) => format!(": {address:?} is not an address"),
        (true, false) => format!(": {port:?} is not a port"),
        (true, true) => String::new(),
    }
}

pub(super) fn read_interface(
    name: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    let text = name.get_ref();
    let odd = text.is_empty() || text.contains('/') || text.contains(char::is_whitespace);
    if odd || text.len() > INTERFACE_MAX_BYTES {
        let what = format!("{text:?} is not an interface name");
        complaints.add(&name.span(), what, "`ip link` shows the names");
    }
    text.clone()
}

pub(super) fn read_dns_name(
    name: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    let text = name.get_ref();
    if text.len() > NAME_MAX_BYTES || !text.split('.').all(is_dns_label) {
        let what = format!("{text:?} is not a DNS name");
        complaints.add(
            &name.span(),
            what,
            "write letters, digits and hyphens, with dots between: \"node41.example.org\"",
        );
    }
    text.clone()
}

/// A label has at most 63 bytes (RFC 1035 section 2.3.4). Host names have no underscore, but DNS
/// allows it (RFC 2181 section 11).
fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}
