//! Checks the interfaces of DHCP: they exist, are up, have a carrier and an address in the subnet.

use std::net::Ipv4Addr;

use super::{CheckFinding, FilePosition};
use crate::config::{Config, ConfigPlace};
use crate::dhcp::subnet::{AnsweringMode, Subnet};
use crate::engine::net::{CarrierState, NetworkInterface};
use crate::model::spelling::find_nearest_word;

/// Subnets whose interface has only addresses outside them: their leases would lead nowhere, so
/// `serve` is silent there.
pub(super) fn find_misplaced_subnets(
    config: &Config,
    present: &[NetworkInterface],
) -> Vec<CheckFinding> {
    let served = config
        .snapshot
        .dhcp
        .subnets
        .iter()
        .filter(|subnet| subnet.mode == AnsweringMode::Server && !subnet.relay);
    served.filter_map(|subnet| check_subnet_interface(config, subnet, present)).collect()
}

fn check_subnet_interface(
    config: &Config,
    subnet: &Subnet,
    present: &[NetworkInterface],
) -> Option<CheckFinding> {
    let name = subnet.interface.as_deref()?;
    // `check_interface_reach` reports an interface that is missing or has no address: DHCP waits
    // for that one.
    let named = present.iter().find(|one| one.name == name && !one.prefixes.is_empty())?;
    let is_in = |one: &&NetworkInterface| {
        one.prefixes.iter().any(|(address, _)| subnet.network.contains(*address))
    };
    if is_in(&named) {
        return None;
    }
    let addresses: Vec<String> =
        named.prefixes.iter().map(|(address, _)| address.to_string()).collect();
    let what = format!(
        "subnet {} is not on interface {name}, which has {}",
        subnet.network,
        addresses.join(", ")
    );
    let relays = "or `relay = true` where relay agents alone bring its requests";
    let (hint, key) = match present.iter().find(is_in) {
        Some(other) => (
            format!("{0} has an address in it: write interface = {0:?}, {relays}", other.name),
            "interface",
        ),
        None => (
            format!(
                "no interface has an address in it: correct the subnet, give {name} one, {relays}"
            ),
            "subnet",
        ),
    };
    Some(
        CheckFinding::error(what, hint).at_position(config.places.find_subnet(subnet.network, key)),
    )
}

/// Interfaces by which the server reaches no machine now. `serve` waits for them.
pub(super) fn find_unreachable_interfaces(
    config: &Config,
    present: &[NetworkInterface],
) -> Vec<CheckFinding> {
    let listened = &config.dhcp.interfaces;
    listened
        .iter()
        .filter_map(|name| {
            Some(
                check_interface_reach(name, present)?
                    .at_position(find_interface_place(config, name)),
            )
        })
        .collect()
}

fn check_interface_reach(name: &str, present: &[NetworkInterface]) -> Option<CheckFinding> {
    let Some(found) = present.iter().find(|one| one.name == name) else {
        return Some(report_missing_interface(name, present));
    };

    // None of these is an error: `serve` starts all the same and waits for the interface.
    let (what, hint) = match found.link() {
        _ if found.prefixes.is_empty() => (
            format!("interface {name} has no IPv4 address: DHCP waits for one"),
            format!("`ip addr add ADDRESS/PREFIX dev {name}` adds one until the next boot"),
        ),
        CarrierState::Down => (
            format!("interface {name} is down: it reaches no machine"),
            format!("`ip link set {name} up`"),
        ),
        CarrierState::NoCarrier => (
            format!("interface {name} has no carrier: it reaches no machine"),
            "check its cable and the switch port; a bridge has a carrier when one of its ports has"
                .to_owned(),
        ),
        CarrierState::Up => return None,
    };
    Some(CheckFinding::warning(what, hint))
}

fn report_missing_interface(name: &str, present: &[NetworkInterface]) -> CheckFinding {
    let names: Vec<&str> = present.iter().map(|one| one.name.as_str()).collect();
    let what = format!(
        "there is no interface {name} here (there are: {}): DHCP waits for it",
        names.join(", ")
    );
    let hint = find_nearest_word(name, &names)
        .map_or_else(String::new, |near| format!("did you mean {near:?}?"));
    CheckFinding::warning(what, hint)
}

/// The line of the configuration that names an interface.
fn find_interface_place(config: &Config, name: &str) -> Option<ConfigPlace> {
    let subnet = config
        .snapshot
        .dhcp
        .subnets
        .iter()
        .find(|subnet| subnet.interface.as_deref() == Some(name));
    match subnet {
        Some(subnet) => config.places.find_subnet(subnet.network, "interface"),
        None => config.places.find_server_interface(name),
    }
}

/// Pools and reservations with an address of this machine or of a router, which the server never
/// leases.
pub(super) fn find_own_addresses(
    config: &Config,
    present: &[NetworkInterface],
) -> Vec<CheckFinding> {
    let served =
        config.snapshot.dhcp.subnets.iter().filter(|subnet| subnet.mode == AnsweringMode::Server);
    served
        .flat_map(|subnet| {
            check_promised_addresses(config, subnet, &list_taken_addresses(subnet, present))
        })
        .collect()
}

/// Addresses of a subnet that the server never leases, each with its owner.
fn list_taken_addresses(subnet: &Subnet, present: &[NetworkInterface]) -> Vec<(Ipv4Addr, String)> {
    let own = present
        .iter()
        .flat_map(|one| one.prefixes.iter().map(move |(address, _)| (*address, &one.name)));
    let own = own.filter(|(address, _)| subnet.network.contains(*address));
    let own = own
        .map(|(address, interface)| (address, format!("an address of this machine ({interface})")));
    let mut taken: Vec<(Ipv4Addr, String)> = own.collect();
    let routers =
        subnet.routers.iter().filter(|router| taken.iter().all(|(address, _)| address != *router));
    let routers: Vec<_> =
        routers.map(|router| (*router, "a router of the subnet".to_owned())).collect();
    taken.extend(routers);
    taken
}

fn check_promised_addresses(
    config: &Config,
    subnet: &Subnet,
    taken: &[(Ipv4Addr, String)],
) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for (number, pool) in (0..).zip(&subnet.pools) {
        let inside: Vec<_> = taken
            .iter()
            .filter(|(address, _)| (pool.first..=pool.last).contains(address))
            .collect();
        let (shown, size) = (format!("the pool {}-{}", pool.first, pool.last), pool.size());
        let place = config.places.find_pool(subnet.network, number).map(FilePosition::from);
        // No machine can get an address, which is one error. Otherwise the pool works, and each
        // address is a warning.
        if inside.len() as u64 == size {
            let what = format!(
                "{shown} has no address for any machine: {size} of {size} are this machine's or a \
                 router's"
            );
            findings.push(CheckFinding::error(what, "move or widen the pool").at_position(place));
            continue;
        }
        findings.extend(inside.into_iter().map(|(address, owner)| {
            let what = format!("{shown} contains {address}, {owner}");
            CheckFinding::warning(what, "the server never leases it: leave it out of the pool")
                .at_position(place.clone())
        }));
    }

    // A reserved address may lie outside every pool, so the loop above does not see it.
    for reserved in &subnet.reservations {
        let owner = taken.iter().find(|(address, _)| *address == reserved.address);
        findings.extend(owner.map(|(address, owner)| {
            let place = config.places.find_reservation(subnet.network, reserved.mac);
            let what = format!("{address}, reserved for {}, is {owner}", reserved.mac);
            CheckFinding::warning(what, "the server never leases it: reserve another address")
                .at_position(place)
        }));
    }
    findings
}
