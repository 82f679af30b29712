//! `[[dhcp.subnet]]`: networks, lease times, admission, and what only several subnets side by side
//! show.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::networks::{read_addresses, read_inside_addresses, read_network};
use super::pools::{check_pool_addresses, find_overlaps, read_pools};
use super::reservations::{check_reservations, read_reservations};
use super::values::{parse_text, read_dns_name, read_interface, read_number, refuse_unknown_word};
use crate::boot::menu;
use crate::config::file::{self, PlacedValue, SecondsValue};
use crate::config::problem::ConfigComplaints;
use crate::dhcp::subnet::{AnsweringMode, ClientAdmission, Subnet};
use crate::model::network::Ipv4Network;

/// Below a minute renewals outnumber boots; 0xffff_ffff on the wire means no end.
const LEASE_TIME_S: std::ops::RangeInclusive<u64> = 60..=365 * 24 * 60 * 60;

/// Resolves all subnets, and checks what only several subnets side by side show.
pub(super) fn resolve_subnets(
    written: &[file::SubnetTable],
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Subnet> {
    let mut subnets: Vec<(Range<usize>, Subnet)> = Vec::new();
    for table in written {
        let Some(subnet) = resolve_subnet(table, complaints) else { continue };
        subnets.push((find_subnet_span(table), subnet));
    }

    // The DHCP core finds the subnet of a message by one address, so no address may be in two
    // subnets.
    let ranges: Vec<(Ipv4Addr, Ipv4Addr)> = subnets
        .iter()
        .map(|(_, subnet)| (subnet.network.address, subnet.network.broadcast()))
        .collect();
    for (index, before) in find_overlaps(&ranges) {
        let ((span, subnet), (first, other)) = (&subnets[index], &subnets[before]);
        let (theirs, line) = (other.network, complaints.describe_line(first));
        let what = format!("subnet {} overlaps subnet {theirs} of {line}", subnet.network);
        complaints.add(span, what, "an address belongs to one subnet: make one of them smaller");
    }
    check_reservations(written, complaints);
    check_pool_addresses(&subnets, complaints);
    subnets.into_iter().map(|(_, subnet)| subnet).collect()
}

/// The position of each subnet as `path:line`.
pub(super) fn place_subnets(
    written: &[file::SubnetTable],
    complaints: &ConfigComplaints<'_>,
) -> Vec<(Ipv4Network, String)> {
    let placed = written.iter().filter_map(|one| {
        let network = one.subnet.as_ref()?.get_ref().parse().ok()?;
        Some((network, complaints.describe_place(&find_subnet_span(one))))
    });
    placed.collect()
}

fn find_subnet_span(written: &file::SubnetTable) -> Range<usize> {
    written.subnet.as_ref().map_or(written.span.clone(), PlacedValue::span)
}

fn resolve_subnet(
    written: &file::SubnetTable,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<Subnet> {
    let mode = read_mode(written, complaints);
    let relay = is_set(&written.relay, false);
    if written.interface.is_none() && !relay && mode == AnsweringMode::Server {
        let hint = "name the interface (interface = \"eth0\"), or write relay = true for a \
                    subnet behind relay agents";
        complaints.add(
            &written.span,
            "this subnet has neither `interface` nor `relay = true`",
            hint,
        );
    }

    // Without its network the rest of a subnet cannot be checked.
    let Some(text) = &written.subnet else {
        complaints.add(
            &written.span,
            "`subnet` is missing",
            "name the network: subnet = \"192.168.4.0/24\"",
        );
        return None;
    };
    let network = read_network(text, complaints)?;
    if let Some(name) = written.shared_network.as_ref().filter(|_| !relay) {
        let what = "`shared-network` is for subnets behind relay agents (relay = true)";
        let hint = "the subnets of one interface share it by themselves: leave this out";
        complaints.add(&name.span(), what, hint);
    }
    // `Subnet::new` has the defaults, so that tests of other rooms have the same.
    let defaults = Subnet::new(network);
    Some(Subnet {
        interface: written.interface.as_ref().map(|name| read_interface(name, complaints)),
        relay,
        shared_network: written.shared_network.as_ref().map(|name| name.get_ref().clone()),
        mode,
        clients: read_clients(written, complaints),
        allow_other_servers: is_set(&written.allow_other_servers, defaults.allow_other_servers),
        conflict_detection: is_set(&written.conflict_detection, defaults.conflict_detection),
        pools: read_pools(written, network, complaints),
        reservations: read_reservations(written, network, complaints).into(),
        routers: read_inside_addresses(written.routers.as_deref(), network, "router", complaints),
        domain_name: written.domain_name.as_ref().map(|name| read_dns_name(name, complaints)),
        domain_name_servers: read_addresses(written.domain_name_servers.as_deref(), complaints),
        ntp_servers: read_addresses(written.ntp_servers.as_deref(), complaints),
        authoritative: is_set(&written.authoritative, defaults.authoritative),
        next_server: written
            .next_server
            .as_ref()
            .and_then(|text| parse_text(text, "an IPv4 address", complaints)),
        install_by_default: is_set(&written.install_by_default, defaults.install_by_default),
        pxelinux_config: written
            .pxelinux_config
            .as_ref()
            .map(|text| read_location(text, complaints)),
        pxelinux_prefix: written.pxelinux_prefix.as_ref().map(|text| read_prefix(text, complaints)),
        ..resolve_lease_times(defaults, written, complaints)
    })
}

fn is_set(written: &Option<PlacedValue<bool>>, default: bool) -> bool {
    written.as_ref().map_or(default, |at| *at.get_ref())
}

/// The mode must be written: a second DHCP server on a segment does harm.
fn read_mode(written: &file::SubnetTable, complaints: &mut ConfigComplaints<'_>) -> AnsweringMode {
    match written.mode.as_ref().map(|at| (at, at.get_ref().as_str())) {
        Some((_, "server")) => AnsweringMode::Server,
        Some((_, "off")) => AnsweringMode::Off,
        Some((at, other)) => {
            refuse_unknown_word(other, &at.span(), "mode", &["server", "off"], complaints);
            AnsweringMode::Off
        }
        None => {
            let hint =
                "write mode = \"server\" to give addresses here, or mode = \"off\" to stay silent";
            complaints.add(&written.span, "`mode` is missing", hint);
            AnsweringMode::Off
        }
    }
}

fn read_clients(
    written: &file::SubnetTable,
    complaints: &mut ConfigComplaints<'_>,
) -> ClientAdmission {
    match written.clients.as_ref().map(|at| (at, at.get_ref().as_str())) {
        None | Some((_, "pxe")) => ClientAdmission::Pxe,
        Some((_, "known")) => ClientAdmission::Known,
        Some((_, "any")) => ClientAdmission::Any,
        Some((at, other)) => {
            refuse_unknown_word(
                other,
                &at.span(),
                "kind of clients",
                &["pxe", "known", "any"],
                complaints,
            );
            ClientAdmission::Known
        }
    }
}

/// The subnet with the lease times of the file. A time that is not written follows the other one
/// where the default would contradict it.
fn resolve_lease_times(
    defaults: Subnet,
    written: &file::SubnetTable,
    complaints: &mut ConfigComplaints<'_>,
) -> Subnet {
    let default =
        read_lease_time(written.default_lease_time.as_ref(), "default-lease-time", complaints);
    let max = read_lease_time(written.max_lease_time.as_ref(), "max-lease-time", complaints);
    let (default_lease_time_s, max_lease_time_s) = match (default, max) {
        (Some(default), Some(max)) => (default, max),
        (Some(default), None) => (default, default.max(defaults.max_lease_time_s)),
        (None, Some(max)) => (max.min(defaults.default_lease_time_s), max),
        (None, None) => (defaults.default_lease_time_s, defaults.max_lease_time_s),
    };
    if let (true, Some(at)) = (default_lease_time_s > max_lease_time_s, &written.default_lease_time)
    {
        let what = format!(
            "default-lease-time {default_lease_time_s} s is longer than max-lease-time \
             {max_lease_time_s} s"
        );
        complaints.add(&at.span(), what, "lower the first or raise the second");
    }
    // A time in the file counts for firmware too.
    let firmware_lease_time_s = match &written.default_lease_time {
        Some(_) => default_lease_time_s,
        None => defaults.firmware_lease_time_s.min(max_lease_time_s),
    };
    Subnet { default_lease_time_s, firmware_lease_time_s, max_lease_time_s, ..defaults }
}

fn read_lease_time(
    at: Option<&PlacedValue<SecondsValue>>,
    key: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<u32> {
    let at = at?;
    let seconds = PlacedValue::new(at.span(), at.get_ref().0);
    read_number(&seconds, key, LEASE_TIME_S, complaints)
}

fn read_location(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    if let Some(fault) = menu::location_fault(text.get_ref()) {
        complaints.add(&text.span(), format!("{:?} {fault}", text.get_ref()), "");
    }
    text.get_ref().clone()
}

/// PXELINUX appends names to the prefix without a `/` of its own (D-45).
fn read_prefix(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    if !text.get_ref().ends_with('/') {
        let what = format!("pxelinux-prefix {:?} does not end with /", text.get_ref());
        complaints.add(&text.span(), what, format!("write \"{}/\"", text.get_ref()));
    } else if text.get_ref() != "/" {
        return read_location(text, complaints);
    }
    text.get_ref().clone()
}
