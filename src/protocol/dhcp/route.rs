//! Where a reply goes: to the relay, to an address, to the broadcast address, or in a frame to a
//! client that answers no ARP yet.

use std::fmt;
use std::net::Ipv4Addr;

use super::classify::{MessageFacts, MessageKind};
use super::packet::Packet;
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// UDP port of servers and relay agents.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// The route of a reply, from port 67. A reply to the client's own segment leaves by the interface
/// that received the request (D-16); a reply to a relay agent or beyond a router follows the
/// routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyRoute {
    /// To the relay agent, at port 67 unless it asked otherwise (D-11, D-74).
    Relay {
        /// giaddr of the request.
        address: Ipv4Addr,
        /// UDP port at the relay agent.
        port: u16,
    },
    /// To port 68 of this address, by the routing table.
    Unicast(Ipv4Addr),
    /// To port 68 of the address of a client on the segment (D-13), in a frame to `mac`, so that no
    /// reply waits for ARP on an address without a host. Where no frame can be sent, by the routing
    /// table.
    Neighbour {
        /// Hardware address of the client.
        mac: Mac,
        /// Address that the client uses.
        address: Ipv4Addr,
    },
    /// To 255.255.255.255:68.
    Broadcast,
    /// To port 68 of `address` in a frame to `mac`: the client has no address yet and answers no
    /// ARP. Where no frame can be sent, broadcast (D-15).
    LinkLayer {
        /// Hardware address of the client.
        mac: Mac,
        /// Address that the reply gives.
        address: Ipv4Addr,
    },
}

impl fmt::Display for ReplyRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay { address, port } => write!(f, "to relay {address}:{port}"),
            Self::Unicast(address) => write!(f, "to {address}"),
            Self::Neighbour { mac, address } => write!(f, "to {address} at {mac}"),
            Self::Broadcast => f.write_str("to the broadcast address"),
            Self::LinkLayer { mac, address } => write!(f, "to {address} in a frame to {mac}"),
        }
    }
}

/// What the choice of a route depends on, beside the packet itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteInputs {
    pub(super) nak: bool,
    pub(super) yiaddr: Ipv4Addr,
    pub(super) network: Ipv4Network,
    pub(super) source: std::net::SocketAddrV4,
    /// The request came by unicast from an address that is not on the receiving interface's segment
    /// (D-12).
    pub(super) off_link: bool,
}

/// Rules D-10 to D-15; the first that matches decides.
pub(super) fn choose_reply_route(
    packet: &Packet<'_>,
    facts: &MessageFacts<'_>,
    ask: RouteInputs,
) -> ReplyRoute {
    let ciaddr = packet.ciaddr;
    if facts.kind == MessageKind::Inform {
        return choose_unicast_route(
            if ciaddr.is_unspecified() { *ask.source.ip() } else { ciaddr },
            packet,
            facts,
            ask,
        );
    }
    if !packet.giaddr.is_unspecified() {
        let port = if facts.relay.source_port { ask.source.port() } else { SERVER_PORT };
        return ReplyRoute::Relay { address: packet.giaddr, port };
    }
    if ask.nak {
        return if ask.off_link { ReplyRoute::Unicast(ciaddr) } else { ReplyRoute::Broadcast };
    }
    // A ciaddr outside of the subnet would make the server a reflector.
    if !ciaddr.is_unspecified() && ask.network.contains(ciaddr) {
        return choose_unicast_route(ciaddr, packet, facts, ask);
    }
    if packet.wants_broadcast() || ask.yiaddr.is_unspecified() || !facts.ethernet {
        return ReplyRoute::Broadcast;
    }
    ReplyRoute::LinkLayer { mac: facts.mac, address: ask.yiaddr }
}

/// In a frame where the server can write one: not on loopback, not to hardware other than Ethernet,
/// not to a client behind a relay or a router.
fn choose_unicast_route(
    address: Ipv4Addr,
    packet: &Packet<'_>,
    facts: &MessageFacts<'_>,
    ask: RouteInputs,
) -> ReplyRoute {
    let is_here = packet.giaddr.is_unspecified() && !ask.off_link && ask.network.contains(address);
    if is_here && facts.ethernet && !address.is_loopback() {
        ReplyRoute::Neighbour { mac: facts.mac, address }
    } else {
        ReplyRoute::Unicast(address)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::SocketAddrV4;

    use super::*;
    use crate::dhcp::packet::tests::request;

    const CIADDR: usize = 12;
    const GIADDR: usize = 24;

    fn routed(
        options: &[u8],
        fields: &[(usize, [u8; 4])],
        change: impl FnOnce(&mut RouteInputs),
    ) -> ReplyRoute {
        let mut bytes = request(options);
        for (at, value) in fields {
            bytes[*at..at + 4].copy_from_slice(value);
        }
        let packet = Packet::parse_request(&bytes).unwrap();
        let mut ask = RouteInputs {
            nak: false,
            yiaddr: Ipv4Addr::new(192, 168, 4, 26),
            network: Ipv4Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 },
            source: SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 77), 4444),
            off_link: false,
        };
        change(&mut ask);
        choose_reply_route(&packet, &MessageFacts::from_packet(&packet), ask)
    }

    fn neighbour(address: [u8; 4]) -> ReplyRoute {
        ReplyRoute::Neighbour {
            mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]),
            address: address.into(),
        }
    }

    const DISCOVER: [u8; 3] = [53, 1, 1];
    const REQUEST: [u8; 3] = [53, 1, 3];
    const INFORM: [u8; 3] = [53, 1, 8];
    const OWN: [u8; 4] = [192, 168, 4, 30];
    const RELAY: [u8; 4] = [10, 7, 0, 1];
    /// `secs` and `flags`, the broadcast bit set.
    const BROADCAST_BIT: (usize, [u8; 4]) = (8, [0, 0, 0x80, 0]);

    #[test]
    fn every_route_is_told_in_its_words() {
        let (mac, address) = (Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]), Ipv4Addr::from(OWN));
        for (route, words) in [
            (ReplyRoute::Relay { address: RELAY.into(), port: 67 }, "to relay 10.7.0.1:67"),
            (ReplyRoute::Unicast(address), "to 192.168.4.30"),
            (ReplyRoute::Neighbour { mac, address }, "to 192.168.4.30 at 52:54:00:12:34:10"),
            (ReplyRoute::Broadcast, "to the broadcast address"),
            (
                ReplyRoute::LinkLayer { mac, address },
                "to 192.168.4.30 in a frame to 52:54:00:12:34:10",
            ),
        ] {
            assert_eq!(route.to_string(), words);
        }
    }

    #[test]
    fn d10_inform_goes_to_ciaddr_or_to_its_source() {
        assert_eq!(routed(&INFORM, &[(CIADDR, OWN)], |_| ()), neighbour(OWN));
        assert_eq!(routed(&INFORM, &[], |_| ()), neighbour([192, 168, 4, 77]));
        assert_eq!(
            routed(&INFORM, &[(CIADDR, OWN), (GIADDR, RELAY)], |_| ()),
            ReplyRoute::Unicast(OWN.into())
        );
    }

    #[test]
    fn d11_relayed_goes_to_port_67_of_the_relay() {
        let to_relay = ReplyRoute::Relay { address: RELAY.into(), port: 67 };
        assert_eq!(routed(&DISCOVER, &[(GIADDR, RELAY)], |_| ()), to_relay);
        assert_eq!(
            routed(&REQUEST, &[(GIADDR, RELAY), (CIADDR, OWN)], |ask| ask.nak = true),
            to_relay
        );
    }

    #[test]
    fn d12_nak_is_broadcast_unless_the_client_is_behind_a_router() {
        assert_eq!(routed(&REQUEST, &[(CIADDR, OWN)], |ask| ask.nak = true), ReplyRoute::Broadcast);
        let off_link = routed(&REQUEST, &[(CIADDR, [10, 9, 0, 4])], |ask| {
            (ask.nak, ask.off_link) = (true, true)
        });
        assert_eq!(off_link, ReplyRoute::Unicast(Ipv4Addr::new(10, 9, 0, 4)));
    }

    #[test]
    fn d13_renewing_client_is_answered_at_its_address() {
        assert_eq!(routed(&REQUEST, &[(CIADDR, OWN)], |_| ()), neighbour(OWN));
        assert_eq!(routed(&REQUEST, &[(CIADDR, OWN), BROADCAST_BIT], |_| ()), neighbour(OWN));
        let from_afar = routed(&REQUEST, &[(CIADDR, OWN)], |ask| ask.off_link = true);
        assert_eq!(from_afar, ReplyRoute::Unicast(OWN.into()), "a router stands between");
        let loopback = |ask: &mut RouteInputs| {
            ask.network = Ipv4Network { address: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 }
        };
        let here = [127, 77, 0, 1];
        assert_eq!(
            routed(&REQUEST, &[(CIADDR, here)], loopback),
            ReplyRoute::Unicast(here.into()),
            "no frames there"
        );
        let foreign = routed(&DISCOVER, &[(CIADDR, [8, 8, 8, 8])], |_| ());
        assert_ne!(foreign, ReplyRoute::Unicast(Ipv4Addr::new(8, 8, 8, 8)), "we are no reflector");
    }

    #[test]
    fn d14_broadcast_bit_or_no_address_means_broadcast() {
        assert_eq!(routed(&DISCOVER, &[BROADCAST_BIT], |_| ()), ReplyRoute::Broadcast);
        assert_eq!(
            routed(&DISCOVER, &[], |ask| ask.yiaddr = Ipv4Addr::UNSPECIFIED),
            ReplyRoute::Broadcast
        );
    }

    #[test]
    fn d15_otherwise_a_frame_to_the_hardware_address() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]);
        let frame = ReplyRoute::LinkLayer { mac, address: Ipv4Addr::new(192, 168, 4, 26) };
        assert_eq!(routed(&DISCOVER, &[], |_| ()), frame);
        let mut infiniband = request(&[&DISCOVER[..], &[61, 4, 255, 1, 2, 3]].concat());
        (infiniband[1], infiniband[2]) = (32, 0);
        let packet = Packet::parse_request(&infiniband).unwrap();
        let ask = RouteInputs {
            nak: false,
            yiaddr: Ipv4Addr::new(192, 168, 4, 26),
            network: Ipv4Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 },
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            off_link: false,
        };
        assert_eq!(
            choose_reply_route(&packet, &MessageFacts::from_packet(&packet), ask),
            ReplyRoute::Broadcast,
            "no frame can be made for it"
        );
    }

    #[test]
    fn d74_relay_source_port_is_answered_where_it_asked() {
        let asks = [&DISCOVER[..], &[82, 2, 19, 0]].concat();
        let route = routed(&asks, &[(GIADDR, RELAY)], |_| ());
        assert_eq!(route, ReplyRoute::Relay { address: RELAY.into(), port: 4444 });
    }
}
