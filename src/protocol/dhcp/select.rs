//! Which subnets a message may belong to, those of its link: by what the relay says, by giaddr, by
//! the interface, or by ciaddr of a routed renewal.

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
    /// The one by which the link was found.
    pub(super) subnet: &'s Subnet,
    /// Those that share its link.
    pub(super) others: Vec<&'s Subnet>,
    pub(super) reason: String,
    /// The client is on another segment and its message came by unicast without a relay (D-12).
    pub(super) off_link: bool,
}

/// Rules D-48 and D-51. Nothing is answered on an interface or for a relay that no subnet names.
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
    // What a relay says of the link goes before the wish of its client.
    filter_served_subnets(
        link,
        at,
        facts.subnet_selection.filter(|_| facts.relay.link.is_none()),
        &by,
    )
}

/// Those of the link at this address that are served, the first of them first. A client may wish
/// for one by option 118 (RFC 3011), and for none of another link: anybody can write the option.
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
    let wished = |wish| {
        serving
            .iter()
            .position(|subnet| subnet.network.contains(wish))
            .ok_or(DhcpSilence::NoSubnet(wish))
    };
    let place = wish.map_or(Ok(0), wished)?;
    let subnet = serving.remove(place);
    let by = wish.map_or(by.to_owned(), |wish| format!("option 118 = {wish}"));
    Ok(SelectedLink {
        subnet,
        others: serving,
        reason: format!("subnet {} by {by}", subnet.network),
        off_link: false,
    })
}

/// The subnet for relays that this address lies in, and those that share a network with it.
fn find_shared_subnets(link: Ipv4Addr, subnets: &SubnetTable) -> Result<Vec<&Subnet>, DhcpSilence> {
    let first = find_relay_subnet(link, subnets)?;
    let same = first.shared_network.iter().flat_map(|name| subnets.sharing(name));
    let others = same.filter(|subnet| subnet.relay && subnet.network != first.network);
    Ok(std::iter::once(first).chain(others).collect())
}

fn find_relay_subnet(link: Ipv4Addr, subnets: &SubnetTable) -> Result<&Subnet, DhcpSilence> {
    let subnet = subnets.of(link).ok_or(DhcpSilence::NoSubnetBehind(link))?;
    if subnet.relay { Ok(subnet) } else { Err(DhcpSilence::NotForRelays(subnet.network)) }
}

/// The subnets of the receiving interface that an address of ours there lies in, that of
/// `interface_address` first. A subnet that relay agents bring, and that is not on the wire here,
/// is none of them: its addresses would lead nowhere.
fn find_interface_subnets<'s>(
    arrival: &IncomingMessage<'_>,
    subnets: &'s SubnetTable,
) -> Vec<&'s Subnet> {
    let is_here = |subnet: &Subnet| match (&subnet.interface, arrival.interface) {
        (Some(configured), Some(received)) => configured == received,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let place = |address| subnets.place_of(address).filter(|place| is_here(&subnets[*place]));
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
