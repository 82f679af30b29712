//! `[[dhcp.subnet.host]]`: the addresses that are reserved for machines.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::ops::Range;

use super::networks::usable_range;
use super::values::{parse_text, read_dns_name};
use crate::config::file;
use crate::config::problem::ConfigComplaints;
use crate::dhcp::subnet::Reservation;
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

pub(super) fn read_reservations(
    written: &file::SubnetTable,
    network: Ipv4Network,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Reservation> {
    let mut reservations: Vec<Reservation> = Vec::new();
    for host in written.host.iter().flatten() {
        let mac: Option<Mac> = match &host.mac {
            Some(text) => parse_text(text, "a hardware address", complaints),
            None => refuse_missing(host, "mac", "mac = \"52:54:00:12:34:10\"", complaints),
        };
        let address: Option<Ipv4Addr> = match &host.address {
            Some(text) => parse_text(text, "an IPv4 address", complaints),
            None => refuse_missing(
                host,
                "address",
                &format!("address = \"{}\"", usable_range(network).0),
                complaints,
            ),
        };
        let hostname = host.hostname.as_ref().map(|name| read_dns_name(name, complaints));

        // A /31 and a /32 have no network address and no broadcast address (RFC 3021).
        if let (Some(address), Some(text)) = (address, &host.address) {
            let reserved = network.prefix < 31
                && (address == network.address || address == network.broadcast());
            if !network.contains(address) || reserved {
                let what = format!("{address} is not an address for a machine in subnet {network}");
                let (first, last) = usable_range(network);
                complaints.add(
                    &text.span(),
                    what,
                    format!("machines there can have {first} to {last}"),
                );
            }
        }

        if let (Some(mac), Some(address)) = (mac, address) {
            reservations.push(Reservation { mac, address, hostname });
        }
    }
    reservations
}

fn refuse_missing<T>(
    host: &file::HostTable,
    key: &str,
    example: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    complaints.add(&host.span, format!("`{key}` is missing"), format!("write {example}"));
    None
}

/// Complains about two reservations with one hardware address in a subnet, or with one IP address
/// in the file.
pub(super) fn check_reservations(
    written: &[file::SubnetTable],
    complaints: &mut ConfigComplaints<'_>,
) {
    // This reads the texts of the file, because a resolved reservation has no position any more.
    let mut addresses: HashMap<Ipv4Addr, Range<usize>> = HashMap::new();
    for subnet in written {
        let mut macs: HashMap<Mac, Range<usize>> = HashMap::new();
        for host in subnet.host.iter().flatten() {
            if let Some((mac, span)) =
                host.mac.as_ref().and_then(|at| Some((at.get_ref().parse().ok()?, at.span())))
            {
                refuse_second(
                    &mut macs,
                    mac,
                    span,
                    "a machine has one address in a subnet",
                    complaints,
                );
            }
            if let Some((address, span)) =
                host.address.as_ref().and_then(|at| Some((at.get_ref().parse().ok()?, at.span())))
            {
                refuse_second(
                    &mut addresses,
                    address,
                    span,
                    "an address belongs to one machine",
                    complaints,
                );
            }
        }
    }
}

fn refuse_second<T: Eq + Hash + std::fmt::Display>(
    seen: &mut HashMap<T, Range<usize>>,
    value: T,
    span: Range<usize>,
    hint: &str,
    complaints: &mut ConfigComplaints<'_>,
) {
    if let Some(first) = seen.get(&value) {
        let what = format!("{value} is already reserved in {}", complaints.describe_line(first));
        complaints.add(&span, what, hint);
        return;
    }
    seen.insert(value, span);
}
