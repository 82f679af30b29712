//! The subnets of the client's link: by the relay's link selection, by giaddr, by the receiving
//! interface, or by ciaddr of a routed renewal.

use std::net::Ipv4Addr;

use super::arrival::IncomingMessage;
use super::classify::MessageFacts;
use super::packet::Packet;
use super::silence::DhcpSilence;
use super::subnet::{AnsweringMode, Subnet};
use super::subnets::SubnetTable;

/// The subnets of the client's link, and the clause that says how it was found.
#[derive(Clone, Debug)]
pub(super) struct SelectedLink<'s> {
    /// The subnet by which the link was found.
    pub(super) subnet: &'s Subnet,
    /// Subnets that share its link.
    pub(super) others: Vec<&'s Subnet>,
    pub(super) reason: String,
    /// True for a client on another segment whose message came by unicast, without a relay (D-12).
    pub(super) off_link: bool,
}

/// Selects the link of a message (D-48, D-51). Err where no subnet names the interface or the
/// relay.
pub(super) fn select_link<'s>(
    packet: &Packet<'_>,
    facts: &MessageFacts<'_>,
    arrival: &IncomingMessage<'_>,
    subnets: &'s SubnetTable,
) -> Result<SelectedLink<'s>, DhcpSilence> {
    let is_local = packet.giaddr.is_unspecified();
    let here = if is_local { find_interface_subnets(arrival, subnets) } else { Vec::new() };
    let ciaddr = packet.ciaddr;
    let is_routed = is_local && arrival.is_unicast() && !ciaddr.is_unspecified();
    if is_routed && !here.iter().any(|subnet| subnet.network.contains(ciaddr)) {
        let by = format!("ciaddr {ciaddr} from behind a router");
        let link = vec![find_relay_subnet(ciaddr, subnets)?];
        return Ok(SelectedLink {
            off_link: true,
            ..filter_served_subnets(link, ciaddr, None, &by)?
        });
    }

    // A relay's option 82 is more exact than its giaddr.
    let local = arrival.interface_address;
    let (link, at, by) = match (is_local, facts.relay.link, arrival.interface) {
        (true, _, Some(name)) => (here, local, format!("interface {name}")),
        (true, _, None) => (here, local, format!("our address {local}")),
        (false, Some(link), _) => (
            find_shared_subnets(link, subnets)?,
            link,
            format!("the relay's link selection {link}"),
        ),
        (false, None, _) => (
            find_shared_subnets(packet.giaddr, subnets)?,
            packet.giaddr,
            format!("giaddr {}", packet.giaddr),
        ),
    };

    // The relay's link selection overrides the client's wish.
    filter_served_subnets(
        link,
        at,
        facts.subnet_selection.filter(|_| facts.relay.link.is_none()),
        &by,
    )
}

/// The subnets of a link that the server serves. A client may choose one of them by option 118 (RFC
/// 3011), but none of another link: any client can write the option.
fn filter_served_subnets<'s>(
    link: Vec<&'s Subnet>,
    at: Ipv4Addr,
    wish: Option<Ipv4Addr>,
    by: &str,
) -> Result<SelectedLink<'s>, DhcpSilence> {
    let first = *link.first().ok_or(DhcpSilence::NoSubnet(at))?;
    let mut serving: Vec<&Subnet> =
        link.into_iter().filter(|subnet| subnet.mode == AnsweringMode::Server).collect();
    if serving.is_empty() {
        return Err(DhcpSilence::SubnetOff(first.network));
    }

    // Without a wish the first serving subnet counts: the link begins with the one by which it was
    // found.
    let place = match wish {
        None => 0,
        Some(wish) => serving
            .iter()
            .position(|subnet| subnet.network.contains(wish))
            .ok_or(DhcpSilence::NoSubnet(wish))?,
    };
    let subnet = serving.remove(place);
    let reason = match wish {
        Some(wish) => format!("subnet {} by option 118 = {wish}", subnet.network),
        None => format!("subnet {} by {by}", subnet.network),
    };
    Ok(SelectedLink { subnet, others: serving, reason, off_link: false })
}

/// The subnet for relays that contains this address, and those that share a network with it.
fn find_shared_subnets(link: Ipv4Addr, subnets: &SubnetTable) -> Result<Vec<&Subnet>, DhcpSilence> {
    let first = find_relay_subnet(link, subnets)?;
    let same = first.shared_network.iter().flat_map(|name| subnets.sharing(name));
    let others = same.filter(|subnet| subnet.relay && subnet.network != first.network);
    Ok(std::iter::once(first).chain(others).collect())
}

fn find_relay_subnet(link: Ipv4Addr, subnets: &SubnetTable) -> Result<&Subnet, DhcpSilence> {
    let subnet = subnets.find(link).ok_or(DhcpSilence::NoSubnetBehind(link))?;
    if subnet.relay { Ok(subnet) } else { Err(DhcpSilence::NotForRelays(subnet.network)) }
}

/// The subnets of the receiving interface that contain one of its addresses, that of
/// `interface_address` first. A subnet that is reached only through relay agents is none of them:
/// its addresses do not work on this segment.
fn find_interface_subnets<'s>(
    arrival: &IncomingMessage<'_>,
    subnets: &'s SubnetTable,
) -> Vec<&'s Subnet> {
    let place = |address| {
        subnets.find_place(address).filter(|place| is_received_on(arrival, &subnets[*place]))
    };
    let first = place(arrival.interface_address);
    if arrival.here.is_empty() {
        return first.map(|place| &subnets[place]).into_iter().collect();
    }
    let mut places: Vec<usize> =
        arrival.here.iter().filter_map(|(address, _)| place(*address)).collect();
    places.sort_unstable_by_key(|place| (Some(*place) != first, *place));
    places.dedup();
    places.into_iter().map(|place| &subnets[place]).collect()
}

/// Whether the message came in on the interface of this subnet, as far as the kernel says it.
fn is_received_on(arrival: &IncomingMessage<'_>, subnet: &Subnet) -> bool {
    match (&subnet.interface, arrival.interface) {
        (Some(configured), Some(received)) => configured == received,
        (Some(_), None) => true,
        (None, _) => false,
    }
}
