//! `[dhcp]` and `[[dhcp.subnet]]`: networks, pools, reservations, lease times, and where DHCP is
//! listened for.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::ops::Range;

use super::values::{parse_text, read_number, refuse_unknown_word};
use crate::boot::menu;
use crate::config::file::{self, PlacedValue, SecondsValue};
use crate::config::problem::ConfigComplaints;
use crate::config::settings::DhcpSettings;
use crate::dhcp::limits::POOL_ADDRESSES_MAX;
use crate::dhcp::subnet::{AddressPool, AnsweringMode, ClientAdmission, Reservation, Subnet};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

const DHCP_PORT: u16 = 67;
/// Below a minute renewals outnumber boots; 0xffff_ffff on the wire would mean for ever.
const LEASE_TIME_S: std::ops::RangeInclusive<u64> = 60..=365 * 24 * 60 * 60;
/// `IFNAMSIZ` less its NUL.
const INTERFACE_MAX_BYTES: usize = 15;
/// Longest host or domain name of DNS.
const NAME_MAX_BYTES: usize = 253;

/// All subnets, with what can only be seen when they stand side by side.
pub(super) fn resolve_subnets(
    written: &[file::SubnetTable],
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Subnet> {
    let mut subnets: Vec<(Range<usize>, Subnet)> = Vec::new();
    for one in written {
        let Some(subnet) = resolve_subnet(one, complaints) else { continue };
        subnets.push((span_of(one), subnet));
    }
    let ranges: Vec<(Ipv4Addr, Ipv4Addr)> = subnets
        .iter()
        .map(|(_, subnet)| (subnet.network.address, subnet.network.broadcast()))
        .collect();
    for (index, before) in find_overlaps(&ranges) {
        let ((span, subnet), (first, other)) = (&subnets[index], &subnets[before]);
        let (theirs, line) = (show_network(other.network), complaints.line_of(first));
        let what =
            format!("subnet {} overlaps subnet {theirs} of {line}", show_network(subnet.network));
        complaints.add(span, what, "an address belongs to one subnet: make one of them smaller");
    }
    check_reservations(written, complaints);
    check_pool_addresses(&subnets, complaints);
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
fn check_pool_addresses(subnets: &[(Range<usize>, Subnet)], complaints: &mut ConfigComplaints<'_>) {
    let mut sum = 0;
    for (span, subnet) in subnets {
        let before = sum;
        sum += subnet.pools.iter().map(AddressPool::size).sum::<u64>();
        if before <= POOL_ADDRESSES_MAX && sum > POOL_ADDRESSES_MAX {
            let what = format!(
                "with the pools of subnet {} there are {sum} addresses to give",
                show_network(subnet.network)
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
pub(super) fn place_subnets(
    written: &[file::SubnetTable],
    complaints: &ConfigComplaints<'_>,
) -> Vec<(Ipv4Network, String)> {
    let network = |one: &file::SubnetTable| one.subnet.as_ref()?.get_ref().parse().ok();
    written
        .iter()
        .filter_map(|one| Some((network(one)?, complaints.place_of(&span_of(one)))))
        .collect()
}

fn span_of(written: &file::SubnetTable) -> Range<usize> {
    written.subnet.as_ref().map_or(written.span.clone(), PlacedValue::span)
}

/// Where DHCP is listened for: the interfaces of served subnets, those of `[server]` for relays, or
/// one address.
pub(super) fn resolve_listeners(
    written: &file::DhcpTable,
    server: &file::ServerTable,
    subnets: &[Subnet],
    complaints: &mut ConfigComplaints<'_>,
) -> DhcpSettings {
    let allowed: Vec<String> =
        server.interfaces.iter().flatten().map(|name| read_interface(name, complaints)).collect();
    let address = written
        .listen_address
        .as_ref()
        .and_then(|text| parse_text(text, "an IPv4 address", complaints));
    let served: Vec<&Subnet> =
        subnets.iter().filter(|subnet| subnet.mode == AnsweringMode::Server).collect();
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
        .and_then(|at| read_number(at, "listen-port", 1..=65_535, complaints));
    DhcpSettings {
        interfaces: if address.is_some() { Vec::new() } else { interfaces },
        listen_address: address.filter(|_| !served.is_empty()),
        listen_port: port.unwrap_or(DHCP_PORT),
    }
}

/// `192.168.4.0/24`, without host bits.
pub(super) fn read_network(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<Ipv4Network> {
    let written = match parse_network(text.get_ref()) {
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
        complaints.add(&text.span(), what, format!("the network is {}", show_network(network)));
    }
    Some(network)
}

/// The error says which half is wrong, where there are two.
fn parse_network(text: &str) -> Result<Ipv4Network, String> {
    let (address, prefix) = text.split_once('/').ok_or_else(String::new)?;
    let address = address.parse().map_err(|_| format!(": {address:?} is no IPv4 address"))?;
    let length = prefix.parse::<u8>().ok().filter(|length| *length <= 32);
    let prefix = length.ok_or_else(|| format!(": {prefix:?} is no prefix length from 0 to 32"))?;
    Ok(Ipv4Network { address, prefix })
}

fn resolve_subnet(
    written: &file::SubnetTable,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<Subnet> {
    let mode = read_mode(written, complaints);
    let relay = is_set(&written.relay, false);
    if written.interface.is_none() && !relay && mode == AnsweringMode::Server {
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
    let network = read_network(text, complaints)?;
    if let Some(name) = written.shared_network.as_ref().filter(|_| !relay) {
        let hint = "the subnets of one interface share it without a word: leave this out";
        complaints.add(
            &name.span(),
            "`shared-network` is for subnets that relay agents bring (relay = true)",
            hint,
        );
    }
    // A key that is not written keeps the default that tests of other rooms have too.
    let plain = Subnet::new(network);
    Some(Subnet {
        interface: written.interface.as_ref().map(|name| read_interface(name, complaints)),
        relay,
        shared_network: written.shared_network.as_ref().map(|name| name.get_ref().clone()),
        mode,
        clients: read_clients(written, complaints),
        allow_other_servers: is_set(&written.allow_other_servers, plain.allow_other_servers),
        conflict_detection: is_set(&written.conflict_detection, plain.conflict_detection),
        pools: read_pools(written, network, complaints),
        reservations: read_reservations(written, network, complaints).into(),
        routers: read_inside_addresses(written.routers.as_deref(), network, "router", complaints),
        domain_name: written.domain_name.as_ref().map(|name| read_dns_name(name, complaints)),
        domain_name_servers: read_addresses(written.domain_name_servers.as_deref(), complaints),
        ntp_servers: read_addresses(written.ntp_servers.as_deref(), complaints),
        authoritative: is_set(&written.authoritative, plain.authoritative),
        next_server: written
            .next_server
            .as_ref()
            .and_then(|text| parse_text(text, "an IPv4 address", complaints)),
        install_by_default: is_set(&written.install_by_default, plain.install_by_default),
        pxelinux_config: written
            .pxelinux_config
            .as_ref()
            .map(|text| read_location(text, complaints)),
        pxelinux_prefix: written.pxelinux_prefix.as_ref().map(|text| read_prefix(text, complaints)),
        ..with_lease_times(plain, written, complaints)
    })
}

fn is_set(written: &Option<PlacedValue<bool>>, default: bool) -> bool {
    written.as_ref().map_or(default, |at| *at.get_ref())
}

/// Said aloud, never assumed: a second DHCP server on a segment does harm.
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

/// Takes over the lease times of the file. One that is not written follows the other where the
/// defaults would contradict it.
fn with_lease_times(
    plain: Subnet,
    written: &file::SubnetTable,
    complaints: &mut ConfigComplaints<'_>,
) -> Subnet {
    let mut seconds = |at: &Option<PlacedValue<SecondsValue>>, key| {
        let at = at.as_ref()?;
        read_number::<u32>(
            &PlacedValue::new(at.span(), at.get_ref().0),
            key,
            LEASE_TIME_S,
            complaints,
        )
    };
    let default = seconds(&written.default_lease_time, "default-lease-time");
    let max = seconds(&written.max_lease_time, "max-lease-time");
    let (default_lease_time_s, max_lease_time_s) = match (default, max) {
        (Some(default), Some(max)) => (default, max),
        (Some(default), None) => (default, default.max(plain.max_lease_time_s)),
        (None, Some(max)) => (max.min(plain.default_lease_time_s), max),
        (None, None) => (plain.default_lease_time_s, plain.max_lease_time_s),
    };
    if let (true, Some(at)) = (default_lease_time_s > max_lease_time_s, &written.default_lease_time)
    {
        let what = format!(
            "default-lease-time {default_lease_time_s} s is longer than max-lease-time \
             {max_lease_time_s} s"
        );
        complaints.add(&at.span(), what, "lower the one or raise the other");
    }
    // A time that the operator has written is meant for firmware too.
    let firmware_lease_time_s = match &written.default_lease_time {
        Some(_) => default_lease_time_s,
        None => plain.firmware_lease_time_s.min(max_lease_time_s),
    };
    Subnet { default_lease_time_s, firmware_lease_time_s, max_lease_time_s, ..plain }
}

fn read_pools(
    written: &file::SubnetTable,
    network: Ipv4Network,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<AddressPool> {
    let (mut pools, mut spans): (Vec<AddressPool>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
    for text in written.pools.iter().flatten() {
        let Some(pool) = read_pool(text, complaints) else { continue };
        let shown = format!("{}-{}", pool.first, pool.last);
        if !network.contains(pool.first) || !network.contains(pool.last) {
            let what = format!("pool {shown} is outside subnet {}", show_network(network));
            let (first, last) = usable_range(network);
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
            let (first, last) = usable_range(network);
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

fn read_pool(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<AddressPool> {
    match parse_pool(text.get_ref()) {
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
fn parse_pool(text: &str) -> Result<AddressPool, String> {
    let (first, last) = text.split_once('-').ok_or_else(String::new)?;
    let end = |text: &str| {
        text.trim().parse().map_err(|_| format!(": {:?} is no IPv4 address", text.trim()))
    };
    Ok(AddressPool { first: end(first)?, last: end(last)? })
}

fn read_reservations(
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
        if let (Some(address), Some(text)) = (address, &host.address) {
            let reserved = network.prefix < 31
                && (address == network.address || address == network.broadcast());
            if !network.contains(address) || reserved {
                let what = format!(
                    "{address} is no address for a machine in subnet {}",
                    show_network(network)
                );
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

/// No two reservations of the file share a hardware address within a subnet, or an address at all.
fn check_reservations(written: &[file::SubnetTable], complaints: &mut ConfigComplaints<'_>) {
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
        let what = format!("{value} is already reserved in {}", complaints.line_of(first));
        complaints.add(&span, what, hint);
        return;
    }
    seen.insert(value, span);
}

fn read_addresses(
    written: Option<&[PlacedValue<String>]>,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Ipv4Addr> {
    written
        .unwrap_or_default()
        .iter()
        .filter_map(|text| parse_text(text, "an IPv4 address", complaints))
        .collect()
}

fn read_inside_addresses(
    written: Option<&[PlacedValue<String>]>,
    network: Ipv4Network,
    kind: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Ipv4Addr> {
    for text in written.unwrap_or_default() {
        if let Ok(address) = text.get_ref().parse::<Ipv4Addr>()
            && !network.contains(address)
        {
            let what = format!("{kind} {address} is outside subnet {}", show_network(network));
            complaints.add(
                &text.span(),
                what,
                "machines reach it without a router, so it must be inside",
            );
        }
    }
    read_addresses(written, complaints)
}

fn read_interface(name: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    let text = name.get_ref();
    let odd = text.is_empty() || text.contains('/') || text.contains(char::is_whitespace);
    if odd || text.len() > INTERFACE_MAX_BYTES {
        let what = format!("{text:?} is not the name of an interface");
        complaints.add(&name.span(), what, "`ip link` shows the names");
    }
    text.clone()
}

fn read_dns_name(name: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
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

fn read_location(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    if let Some(fault) = menu::location_fault(text.get_ref()) {
        complaints.add(&text.span(), format!("{:?} {fault}", text.get_ref()), "");
    }
    text.get_ref().clone()
}

/// D-45: PXELINUX glues names to the prefix as it stands.
fn read_prefix(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    if !text.get_ref().ends_with('/') {
        let what = format!("pxelinux-prefix {:?} does not end with /", text.get_ref());
        complaints.add(&text.span(), what, format!("write \"{}/\"", text.get_ref()));
    } else if text.get_ref() != "/" {
        return read_location(text, complaints);
    }
    text.get_ref().clone()
}

/// The first and the last address that a machine can have.
fn usable_range(network: Ipv4Network) -> (Ipv4Addr, Ipv4Addr) {
    let (first, last) = (u32::from(network.address), u32::from(network.broadcast()));
    let edge = u32::from(network.prefix < 31);
    (Ipv4Addr::from(first + edge), Ipv4Addr::from(last - edge))
}

fn show_network(network: Ipv4Network) -> String {
    format!("{}/{}", network.address, network.prefix)
}
