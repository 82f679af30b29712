//! `[dhcp]` and `[[dhcp.subnet]]`: networks, pools, reservations, lease times, and where DHCP is
//! listened for.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::ops::Range;

use super::{DHCP_PORT, complain_unknown_word, parse_typed_text, resolve_number};
use crate::boot::menu;
use crate::config::DhcpSettings;
use crate::config::file::{self, PlacedValue, SecondsValue};
use crate::config::problem::ConfigComplaints;
use crate::dhcp::limits::{FIRMWARE_LEASE_S, POOL_ADDRESSES_MAX};
use crate::dhcp::subnet::{AddressPool, Reservation, ServedClients, Subnet, SubnetMode};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// dhcpd's own defaults where a subnet says nothing: 12 hours and 1 day.
const DEFAULT_LEASE_TIME_S: u32 = 12 * 60 * 60;
const MAX_LEASE_TIME_S: u32 = 24 * 60 * 60;
/// Below a minute renewals outnumber boots; 0xffff_ffff on the wire would mean for ever.
const LEASE_TIME_S: std::ops::RangeInclusive<u64> = 60..=365 * 24 * 60 * 60;
/// `IFNAMSIZ` less its NUL.
const INTERFACE_MAX_BYTES: usize = 15;
/// Longest host or domain name of DNS.
const NAME_MAX_BYTES: usize = 253;

/// All subnets, with what can only be seen when they stand side by side.
pub(super) fn resolve_subnets(
    written: &[file::SubnetKeys],
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Subnet> {
    let mut subnets: Vec<(Range<usize>, Subnet)> = Vec::new();
    for one in written {
        let Some(subnet) = resolve_subnet(one, complaints) else { continue };
        subnets.push((locate_subnet(one), subnet));
    }
    let ranges: Vec<(Ipv4Addr, Ipv4Addr)> = subnets
        .iter()
        .map(|(_, subnet)| (subnet.network.address, subnet.network.broadcast()))
        .collect();
    for (index, before) in find_overlaps(&ranges) {
        let ((span, subnet), (first, other)) = (&subnets[index], &subnets[before]);
        let (theirs, line) = (format_network(other.network), complaints.line_of(first));
        let what =
            format!("subnet {} overlaps subnet {theirs} of {line}", format_network(subnet.network));
        complaints.add(span, what, "an address belongs to one subnet: make one of them smaller");
    }
    refuse_double_reservations(written, complaints);
    limit_pool_addresses(&subnets, complaints);
    subnets.into_iter().map(|(_, subnet)| subnet).collect()
}

/// Pairs of ranges that share an address, the later one of the file first, in the order of the
/// file. Not every pair: each that overlaps is in one.
fn find_overlaps(ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Vec<(usize, usize)> {
    let mut sorted: Vec<usize> = (0..ranges.len()).collect();
    sorted.sort_by_key(|index| (ranges[*index].0, std::cmp::Reverse(ranges[*index].1), *index));
    let mut found = Vec::new();
    let mut furthest: Option<usize> = None;
    for index in sorted {
        match furthest {
            Some(before) if ranges[index].0 <= ranges[before].1 => {
                found.push((index.max(before), index.min(before)));
                if ranges[index].1 > ranges[before].1 {
                    furthest = Some(index);
                }
            }
            _ => furthest = Some(index),
        }
    }
    found.sort_unstable();
    found
}

/// Pools of more addresses than a /8 has are a slip, or a machine that runs out of memory.
fn limit_pool_addresses(subnets: &[(Range<usize>, Subnet)], complaints: &mut ConfigComplaints<'_>) {
    let mut sum = 0;
    for (span, subnet) in subnets {
        let before = sum;
        sum += subnet.pools.iter().map(AddressPool::size).sum::<u64>();
        if before <= POOL_ADDRESSES_MAX && sum > POOL_ADDRESSES_MAX {
            let what = format!(
                "with the pools of subnet {} there are {sum} addresses to give",
                format_network(subnet.network)
            );
            complaints.add(
                span,
                what,
                format!("{POOL_ADDRESSES_MAX} are the most, as many as 10.0.0.0/8 has"),
            );
        }
    }
}

/// Where each subnet stands.
pub(super) fn locate_subnets(
    written: &[file::SubnetKeys],
    complaints: &ConfigComplaints<'_>,
) -> Vec<(Ipv4Network, String)> {
    let network = |one: &file::SubnetKeys| one.subnet.as_ref()?.get_ref().parse().ok();
    written
        .iter()
        .filter_map(|one| Some((network(one)?, complaints.place_of(&locate_subnet(one)))))
        .collect()
}

fn locate_subnet(written: &file::SubnetKeys) -> Range<usize> {
    written.subnet.as_ref().map_or(written.span.clone(), PlacedValue::span)
}

/// Where DHCP is listened for: the interfaces of served subnets, those of `[server]` for relays, or
/// one address.
pub(super) fn resolve_dhcp_listeners(
    written: &file::DhcpKeys,
    server: &file::ServerKeys,
    subnets: &[Subnet],
    complaints: &mut ConfigComplaints<'_>,
) -> DhcpSettings {
    let allowed: Vec<String> = server
        .interfaces
        .iter()
        .flatten()
        .map(|name| resolve_interface(name, complaints))
        .collect();
    let address = written
        .listen_address
        .as_ref()
        .and_then(|text| parse_typed_text(text, "an IPv4 address", complaints));
    let served: Vec<&Subnet> =
        subnets.iter().filter(|subnet| subnet.mode == SubnetMode::Server).collect();
    let mut interfaces: Vec<String> = Vec::new();
    for name in served.iter().filter_map(|subnet| subnet.interface.clone()) {
        if !interfaces.contains(&name) {
            interfaces.push(name);
        }
    }
    if served.iter().any(|subnet| subnet.relay) {
        interfaces.extend(
            allowed.iter().filter(|name| !interfaces.contains(name)).cloned().collect::<Vec<_>>(),
        );
    }
    if !allowed.is_empty() {
        for name in written.subnet.iter().flatten().filter_map(|subnet| subnet.interface.as_ref()) {
            if !allowed.contains(name.get_ref()) {
                let what =
                    format!("interface {:?} is not among [server] interfaces", name.get_ref());
                complaints.add(&name.span(), what, format!("listed there: {}", allowed.join(", ")));
            }
        }
    }
    if !served.is_empty() && interfaces.is_empty() && address.is_none() {
        let hint =
            "list the interfaces that relays reach in [server], or set `listen-address` in [dhcp]";
        complaints.add(
            &written.span,
            "these subnets are reached by relays, but no interface is named",
            hint,
        );
    }
    let port = written
        .listen_port
        .as_ref()
        .and_then(|at| resolve_number(at, "listen-port", 1..=65_535, complaints));
    DhcpSettings {
        interfaces: if address.is_some() { Vec::new() } else { interfaces },
        listen_address: address.filter(|_| !served.is_empty()),
        listen_port: port.unwrap_or(DHCP_PORT),
    }
}

/// `192.168.4.0/24`, without host bits.
pub(super) fn resolve_network(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<Ipv4Network> {
    let written = match parse_written_network(text.get_ref()) {
        Ok(written) => written,
        Err(why) => {
            let what = format!("{:?} is not a network{why}", text.get_ref());
            complaints.add(
                &text.span(),
                what,
                "write address and prefix length: \"192.168.4.0/24\"",
            );
            return None;
        }
    };
    let address = Ipv4Addr::from(u32::from(written.address) & u32::from(written.mask()));
    let network = Ipv4Network { address, ..written };
    if network != written {
        let what = format!("{} has bits set outside its prefix", text.get_ref());
        complaints.add(&text.span(), what, format!("the network is {}", format_network(network)));
    }
    Some(network)
}

/// The error says which half is wrong, where there are two.
fn parse_written_network(text: &str) -> Result<Ipv4Network, String> {
    let (address, prefix) = text.split_once('/').ok_or_else(String::new)?;
    let address = address.parse().map_err(|_| format!(": {address:?} is no IPv4 address"))?;
    let length = prefix.parse::<u8>().ok().filter(|length| *length <= 32);
    let prefix = length.ok_or_else(|| format!(": {prefix:?} is no prefix length from 0 to 32"))?;
    Ok(Ipv4Network { address, prefix })
}

fn resolve_subnet(
    written: &file::SubnetKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<Subnet> {
    let relay = written.relay.as_ref().is_some_and(|at| *at.get_ref());
    let mode = resolve_dhcp_mode(written, complaints);
    if written.interface.is_none() && !relay && mode == SubnetMode::Server {
        let hint = "name the interface (interface = \"eth0\"), or say that relays bring the \
                    requests (relay = true)";
        complaints.add(
            &written.span,
            "this subnet has neither `interface` nor `relay = true`",
            hint,
        );
    }
    let Some(text) = &written.subnet else {
        complaints.add(
            &written.span,
            "`subnet` is missing",
            "name the network: subnet = \"192.168.4.0/24\"",
        );
        return None;
    };
    let network = resolve_network(text, complaints)?;
    if let Some(name) = written.shared_network.as_ref().filter(|_| !relay) {
        let hint = "the subnets of one interface share it without a word: leave this out";
        complaints.add(
            &name.span(),
            "`shared-network` is for subnets that relay agents bring (relay = true)",
            hint,
        );
    }
    let (default_lease_time_s, max_lease_time_s) = resolve_lease_times(written, complaints);
    let is_said = written.default_lease_time.is_some();
    let firmware_lease_time_s =
        if is_said { default_lease_time_s } else { FIRMWARE_LEASE_S.min(max_lease_time_s) };
    Some(Subnet {
        network,
        interface: written.interface.as_ref().map(|name| resolve_interface(name, complaints)),
        relay,
        shared_network: written.shared_network.as_ref().map(|name| name.get_ref().clone()),
        mode,
        clients: resolve_dhcp_clients(written, complaints),
        allow_other_servers: written.allow_other_servers.as_ref().is_some_and(|at| *at.get_ref()),
        conflict_detection: written.conflict_detection.as_ref().is_none_or(|at| *at.get_ref()),
        pools: resolve_pools(written, network, complaints),
        reservations: resolve_reservations(written, network, complaints).into(),
        routers: resolve_inside_addresses(
            written.routers.as_deref(),
            network,
            "router",
            complaints,
        ),
        domain_name: written.domain_name.as_ref().map(|name| resolve_dns_name(name, complaints)),
        domain_name_servers: resolve_addresses(written.domain_name_servers.as_deref(), complaints),
        ntp_servers: resolve_addresses(written.ntp_servers.as_deref(), complaints),
        default_lease_time_s,
        firmware_lease_time_s,
        max_lease_time_s,
        authoritative: written.authoritative.as_ref().is_some_and(|at| *at.get_ref()),
        next_server: written
            .next_server
            .as_ref()
            .and_then(|text| parse_typed_text(text, "an IPv4 address", complaints)),
        install_by_default: written.install_by_default.as_ref().is_some_and(|at| *at.get_ref()),
        pxelinux_config: written
            .pxelinux_config
            .as_ref()
            .map(|text| resolve_location(text, complaints)),
        pxelinux_prefix: written
            .pxelinux_prefix
            .as_ref()
            .map(|text| resolve_pxelinux_prefix(text, complaints)),
    })
}

/// Said aloud, never assumed: a second DHCP server on a segment does harm.
fn resolve_dhcp_mode(
    written: &file::SubnetKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> SubnetMode {
    match written.mode.as_ref().map(|at| (at, at.get_ref().as_str())) {
        Some((_, "server")) => SubnetMode::Server,
        Some((_, "off")) => SubnetMode::Off,
        Some((at, other)) => {
            complain_unknown_word(other, &at.span(), "mode", &["server", "off"], complaints);
            SubnetMode::Off
        }
        None => {
            let hint =
                "write mode = \"server\" to give addresses here, or mode = \"off\" to stay silent";
            complaints.add(&written.span, "`mode` is missing", hint);
            SubnetMode::Off
        }
    }
}

fn resolve_dhcp_clients(
    written: &file::SubnetKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> ServedClients {
    match written.clients.as_ref().map(|at| (at, at.get_ref().as_str())) {
        None | Some((_, "pxe")) => ServedClients::Pxe,
        Some((_, "known")) => ServedClients::Known,
        Some((_, "any")) => ServedClients::Any,
        Some((at, other)) => {
            complain_unknown_word(
                other,
                &at.span(),
                "kind of clients",
                &["pxe", "known", "any"],
                complaints,
            );
            ServedClients::Known
        }
    }
}

fn resolve_lease_times(
    written: &file::SubnetKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> (u32, u32) {
    let mut seconds = |at: &Option<PlacedValue<SecondsValue>>, key| {
        let at = at.as_ref()?;
        resolve_number::<u32>(
            &PlacedValue::new(at.span(), at.get_ref().0),
            key,
            LEASE_TIME_S,
            complaints,
        )
    };
    let default = seconds(&written.default_lease_time, "default-lease-time");
    let max = seconds(&written.max_lease_time, "max-lease-time");
    let (default, max) = match (default, max) {
        (Some(default), Some(max)) => (default, max),
        (Some(default), None) => (default, default.max(MAX_LEASE_TIME_S)),
        (None, Some(max)) => (max.min(DEFAULT_LEASE_TIME_S), max),
        (None, None) => (DEFAULT_LEASE_TIME_S, MAX_LEASE_TIME_S),
    };
    if let (true, Some(at)) = (default > max, &written.default_lease_time) {
        let what = format!("default-lease-time {default} s is longer than max-lease-time {max} s");
        complaints.add(&at.span(), what, "lower the one or raise the other");
    }
    (default, max)
}

fn resolve_pools(
    written: &file::SubnetKeys,
    network: Ipv4Network,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<AddressPool> {
    let (mut pools, mut spans): (Vec<AddressPool>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
    for text in written.pools.iter().flatten() {
        let Some(pool) = resolve_pool(text, complaints) else { continue };
        let shown = format!("{}-{}", pool.first, pool.last);
        if !network.contains(pool.first) || !network.contains(pool.last) {
            let what = format!("pool {shown} is outside subnet {}", format_network(network));
            let (first, last) = find_usable_range(network);
            complaints.add(
                &text.span(),
                what,
                format!("machines there can have {first} to {last}"),
            );
        } else if network.prefix < 31
            && (pool.first == network.address || pool.last == network.broadcast())
        {
            let what =
                format!("pool {shown} holds the address of the network or its broadcast address");
            let (first, last) = find_usable_range(network);
            complaints.add(
                &text.span(),
                what,
                format!("machines there can have {first} to {last}"),
            );
        }
        spans.push(text.span());
        pools.push(pool);
    }
    let ranges: Vec<(Ipv4Addr, Ipv4Addr)> =
        pools.iter().map(|pool| (pool.first, pool.last)).collect();
    for (index, before) in find_overlaps(&ranges) {
        let (pool, other) = (pools[index], pools[before]);
        let what = format!(
            "pool {}-{} overlaps pool {}-{}",
            pool.first, pool.last, other.first, other.last
        );
        complaints.add(&spans[index], what, "make one pool of the two, or move one of them");
    }
    pools
}

fn resolve_pool(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<AddressPool> {
    match parse_written_pool(text.get_ref()) {
        Ok(pool) if pool.first > pool.last => {
            let what = format!("pool {} runs backwards", text.get_ref());
            complaints.add(&text.span(), what, format!("write \"{}-{}\"", pool.last, pool.first));
            None
        }
        Ok(pool) => Some(pool),
        Err(why) => {
            let what = format!("{:?} is not a pool{why}", text.get_ref());
            complaints.add(
                &text.span(),
                what,
                "write the first and the last address: \"192.168.4.10-192.168.4.100\"",
            );
            None
        }
    }
}

/// The error says which half is wrong, where there are two.
fn parse_written_pool(text: &str) -> Result<AddressPool, String> {
    let (first, last) = text.split_once('-').ok_or_else(String::new)?;
    let end = |text: &str| {
        text.trim().parse().map_err(|_| format!(": {:?} is no IPv4 address", text.trim()))
    };
    Ok(AddressPool { first: end(first)?, last: end(last)? })
}

fn resolve_reservations(
    written: &file::SubnetKeys,
    network: Ipv4Network,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Reservation> {
    let mut reservations: Vec<Reservation> = Vec::new();
    for host in written.host.iter().flatten() {
        let mac: Option<Mac> = match &host.mac {
            Some(text) => parse_typed_text(text, "a hardware address", complaints),
            None => complain_missing_key(host, "mac", "mac = \"52:54:00:12:34:10\"", complaints),
        };
        let address: Option<Ipv4Addr> = match &host.address {
            Some(text) => parse_typed_text(text, "an IPv4 address", complaints),
            None => complain_missing_key(
                host,
                "address",
                &format!("address = \"{}\"", find_usable_range(network).0),
                complaints,
            ),
        };
        let hostname = host.hostname.as_ref().map(|name| resolve_dns_name(name, complaints));
        if let (Some(address), Some(text)) = (address, &host.address) {
            let reserved = network.prefix < 31
                && (address == network.address || address == network.broadcast());
            if !network.contains(address) || reserved {
                let what = format!(
                    "{address} is no address for a machine in subnet {}",
                    format_network(network)
                );
                let (first, last) = find_usable_range(network);
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

fn complain_missing_key<T>(
    host: &file::HostKeys,
    key: &str,
    example: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    complaints.add(&host.span, format!("`{key}` is missing"), format!("write {example}"));
    None
}

/// No two reservations of the file share a hardware address within a subnet, or an address at all.
fn refuse_double_reservations(written: &[file::SubnetKeys], complaints: &mut ConfigComplaints<'_>) {
    let mut addresses: HashMap<Ipv4Addr, Range<usize>> = HashMap::new();
    for subnet in written {
        let mut macs: HashMap<Mac, Range<usize>> = HashMap::new();
        for host in subnet.host.iter().flatten() {
            if let Some((mac, span)) =
                host.mac.as_ref().and_then(|at| Some((at.get_ref().parse().ok()?, at.span())))
            {
                complain_repeated_value(
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
                complain_repeated_value(
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

fn complain_repeated_value<T: Eq + Hash + std::fmt::Display>(
    seen: &mut HashMap<T, Range<usize>>,
    value: T,
    span: Range<usize>,
    hint: &str,
    complaints: &mut ConfigComplaints<'_>,
) {
    if let Some(first) = seen.get(&value) {
        let what = format!("{value} is already reserved in {}", complaints.line_of(first));
        complaints.add(&span, what, hint);
        return;
    }
    seen.insert(value, span);
}

fn resolve_addresses(
    written: Option<&[PlacedValue<String>]>,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Ipv4Addr> {
    written
        .unwrap_or_default()
        .iter()
        .filter_map(|text| parse_typed_text(text, "an IPv4 address", complaints))
        .collect()
}

fn resolve_inside_addresses(
    written: Option<&[PlacedValue<String>]>,
    network: Ipv4Network,
    kind: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Ipv4Addr> {
    for text in written.unwrap_or_default() {
        if let Ok(address) = text.get_ref().parse::<Ipv4Addr>()
            && !network.contains(address)
        {
            let what = format!("{kind} {address} is outside subnet {}", format_network(network));
            complaints.add(
                &text.span(),
                what,
                "machines reach it without a router, so it must be inside",
            );
        }
    }
    resolve_addresses(written, complaints)
}

fn resolve_interface(name: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    let text = name.get_ref();
    let odd = text.is_empty() || text.contains('/') || text.contains(char::is_whitespace);
    if odd || text.len() > INTERFACE_MAX_BYTES {
        let what = format!("{text:?} is not the name of an interface");
        complaints.add(&name.span(), what, "`ip link` shows the names");
    }
    text.clone()
}

fn resolve_dns_name(name: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    let text = name.get_ref();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > NAME_MAX_BYTES || !text.split('.').all(label) {
        let what = format!("{text:?} is not a name that DNS knows");
        complaints.add(
            &name.span(),
            what,
            "letters, digits and hyphens, parted by dots: \"node41.example.org\"",
        );
    }
    text.clone()
}

fn resolve_location(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    if let Some(fault) = menu::location_fault(text.get_ref()) {
        complaints.add(&text.span(), format!("{:?} {fault}", text.get_ref()), "");
    }
    text.get_ref().clone()
}

/// D-45: PXELINUX glues names to the prefix as it stands.
fn resolve_pxelinux_prefix(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    if !text.get_ref().ends_with('/') {
        let what = format!("pxelinux-prefix {:?} does not end with /", text.get_ref());
        complaints.add(&text.span(), what, format!("write \"{}/\"", text.get_ref()));
    } else if text.get_ref() != "/" {
        return resolve_location(text, complaints);
    }
    text.get_ref().clone()
}

/// The first and the last address that a machine can have.
fn find_usable_range(network: Ipv4Network) -> (Ipv4Addr, Ipv4Addr) {
    let (first, last) = (u32::from(network.address), u32::from(network.broadcast()));
    let edge = u32::from(network.prefix < 31);
    (Ipv4Addr::from(first + edge), Ipv4Addr::from(last - edge))
}

fn format_network(network: Ipv4Network) -> String {
    format!("{}/{}", network.address, network.prefix)
}
