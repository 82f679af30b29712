//! Which subnet a message belongs to: by what the relay says, by giaddr, by the interface, or by ciaddr of a routed renewal.

use std::net::Ipv4Addr;

use super::classify::Facts;
use super::decide::{Arrival, Silence};
use super::packet::Packet;
use super::subnet::{Mode, Subnet};

/// The subnet, and the clause that says how it was found.
#[derive(Clone, Debug)]
pub(super) struct Selected<'s> {
    pub(super) subnet: &'s Subnet,
    pub(super) reason: String,
    /// The client is on another segment and its message came by unicast without a relay (D-12).
    pub(super) off_link: bool,
}

/// Rules D-48 and D-51. Nothing is answered on an interface or for a relay that no subnet names.
pub(super) fn select<'s>(
    packet: &Packet<'_>,
    facts: &Facts<'_>,
    arrival: &Arrival<'_>,
    subnets: &'s [Subnet],
) -> Result<Selected<'s>, Silence> {
    let selected = if packet.giaddr.is_unspecified() && facts.subnet_selection.is_none() {
        local(packet, arrival, subnets)?
    } else {
        relayed(packet, facts, arrival, subnets)?
    };
    match selected.subnet.mode {
        Mode::Server => Ok(selected),
        Mode::Off => Err(Silence::SubnetOff(selected.subnet.network)),
    }
}

fn relayed<'s>(
    packet: &Packet<'_>,
    facts: &Facts<'_>,
    arrival: &Arrival<'_>,
    subnets: &'s [Subnet],
) -> Result<Selected<'s>, Silence> {
    let (link, by) = match (facts.relay.link, facts.subnet_selection) {
        (Some(link), _) => (link, format!("the relay's link selection {link}")),
        (None, Some(link)) => (link, format!("option 118 = {link}")),
        (None, None) => (packet.giaddr, format!("giaddr {}", packet.giaddr)),
    };
    // A client that names its own segment in option 118 needs no relay.
    let is_here = packet.giaddr.is_unspecified();
    let here = || by_interface(arrival, subnets).filter(|subnet| is_here && subnet.network.contains(link));
    let subnet = by_relay(link, subnets).or_else(here).ok_or(Silence::NoSubnet(link))?;
    Ok(Selected { subnet, reason: format!("subnet {} by {by}", subnet.network), off_link: false })
}

fn local<'s>(packet: &Packet<'_>, arrival: &Arrival<'_>, subnets: &'s [Subnet]) -> Result<Selected<'s>, Silence> {
    let here = by_interface(arrival, subnets);
    let ciaddr = packet.ciaddr;
    let is_routed = arrival.is_unicast() && !ciaddr.is_unspecified();
    if is_routed && !here.is_some_and(|subnet| subnet.network.contains(ciaddr)) {
        let subnet = by_relay(ciaddr, subnets).ok_or(Silence::NoSubnet(ciaddr))?;
        let reason = format!("subnet {} by ciaddr {ciaddr} from behind a router", subnet.network);
        return Ok(Selected { subnet, reason, off_link: true });
    }
    let subnet = here.ok_or(Silence::NoSubnet(arrival.interface_address))?;
    let by = match arrival.interface {
        Some(name) => format!("interface {name}"),
        None => format!("our address {}", arrival.interface_address),
    };
    Ok(Selected { subnet, reason: format!("subnet {} by {by}", subnet.network), off_link: false })
}

fn by_relay(link: Ipv4Addr, subnets: &[Subnet]) -> Option<&Subnet> {
    subnets.iter().find(|subnet| subnet.relay && subnet.network.contains(link))
}

/// Among the subnets of an interface the one of our address on it, else the first.
fn by_interface<'s>(arrival: &Arrival<'_>, subnets: &'s [Subnet]) -> Option<&'s Subnet> {
    let is_ours = |subnet: &&Subnet| subnet.network.contains(arrival.interface_address);
    let on_interface = |subnet: &&Subnet| match (&subnet.interface, arrival.interface) {
        (Some(configured), Some(received)) => configured == received,
        (Some(_), None) => is_ours(subnet),
        (None, _) => false,
    };
    let mut here = subnets.iter().filter(on_interface);
    here.clone().find(is_ours).or_else(|| here.next())
}
