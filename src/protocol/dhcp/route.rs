//! Where a reply goes: to the relay, to an address, to everybody, or to a hardware address that
//! cannot be asked by ARP yet.

use std::fmt;
use std::net::Ipv4Addr;

use super::classify::{Facts, Kind};
use super::packet::Packet;
use crate::model::machine::Mac;
use crate::model::network::Network;

/// Server and relay port.
pub const SERVER_PORT: u16 = 67;
/// Client port.
pub const CLIENT_PORT: u16 = 68;

/// The way of a reply, from port 67. To the client's own segment it leaves by the interface that
/// the request came in on (D-16), to a relay agent and beyond a router by the route that leads
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the relay agent, at port 67 unless it asked otherwise (D-11, D-74).
    Relay { address: Ipv4Addr, port: u16 },
    /// To port 68 of this address, by the route to it.
    Unicast(Ipv4Addr),
    /// To port 68 of the address that a client on the segment has (D-13), in a frame to `mac`: an
    /// address that nobody has makes nothing wait for ARP. Where that is impossible, by the normal
    /// way.
    Neighbour { mac: Mac, address: Ipv4Addr },
    /// To 255.255.255.255:68.
    Broadcast,
    /// To port 68 of `address` in a frame to `mac`: the client has no address yet and answers no
    /// ARP. Where that is impossible, broadcast (D-15).
    LinkLayer { mac: Mac, address: Ipv4Addr },
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay { address, port } => write!(f, "to relay {address}:{port}"),
            Self::Unicast(address) => write!(f, "to {address}"),
            Self::Neighbour { mac, address } => write!(f, "to {address} at {mac}"),
            Self::Broadcast => f.write_str("to everybody"),
            Self::LinkLayer { mac, address } => write!(f, "to {address} in a frame to {mac}"),
        }
    }
}

/// What the choice depends on, beside the packet itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) nak: bool,
    pub(super) yiaddr: Ipv4Addr,
    pub(super) network: Network,
    pub(super) source: std::net::SocketAddrV4,
    /// The request came by unicast from an address that is not on the receiving interface's segment
    /// (D-12).
    pub(super) off_link: bool,
}

/// Rules D-10 to D-15; the first that fits wins.
pub(super) fn route(packet: &Packet<'_>, facts: &Facts<'_>, ask: Ask) -> Route {
    let ciaddr = packet.ciaddr;
    if facts.kind == Kind::Inform {
        return unicast(
            if ciaddr.is_unspecified() { *ask.source.ip() } else { ciaddr },
            packet,
            facts,
            ask,
        );
    }
    if !packet.giaddr.is_unspecified() {
        let port = if facts.relay.source_port { ask.source.port() } else { SERVER_PORT };
        return Route::Relay { address: packet.giaddr, port };
    }
    if ask.nak {
        return if ask.off_link { Route::Unicast(ciaddr) } else { Route::Broadcast };
    }
    // A ciaddr outside of the subnet would make us a reflector.
    if !ciaddr.is_unspecified() && ask.network.contains(ciaddr) {
        return unicast(ciaddr, packet, facts, ask);
    }
    if packet.wants_broadcast() || ask.yiaddr.is_unspecified() || !facts.ethernet {
        return Route::Broadcast;
    }
    Route::LinkLayer { mac: facts.mac, address: ask.yiaddr }
}

/// Loopback has no frames. A client of other hardware, or one that a relay or a router stands
/// before, has none that we could write.
fn unicast(address: Ipv4Addr, packet: &Packet<'_>, facts: &Facts<'_>, ask: Ask) -> Route {
    let is_here = packet.giaddr.is_unspecified() && !ask.off_link && ask.network.contains(address);
    if is_here && facts.ethernet && !address.is_loopback() {
        Route::Neighbour { mac: facts.mac, address }
    } else {
        Route::Unicast(address)
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

    fn routed(options: &[u8], fields: &[(usize, [u8; 4])], change: impl FnOnce(&mut Ask)) -> Route {
        let mut bytes = request(options);
        for (at, value) in fields {
            bytes[*at..at + 4].copy_from_slice(value);
        }
        let packet = Packet::parse_request(&bytes).unwrap();
        let mut ask = Ask {
            nak: false,
            yiaddr: Ipv4Addr::new(192, 168, 4, 26),
            network: Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 },
            source: SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 77), 4444),
            off_link: false,
        };
        change(&mut ask);
        route(&packet, &Facts::of(&packet), ask)
    }

    fn neighbour(address: [u8; 4]) -> Route {
        Route::Neighbour { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]), address: address.into() }
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
            (Route::Relay { address: RELAY.into(), port: 67 }, "to relay 10.7.0.1:67"),
            (Route::Unicast(address), "to 192.168.4.30"),
            (Route::Neighbour { mac, address }, "to 192.168.4.30 at 52:54:00:12:34:10"),
            (Route::Broadcast, "to everybody"),
            (Route::LinkLayer { mac, address }, "to 192.168.4.30 in a frame to 52:54:00:12:34:10"),
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
            Route::Unicast(OWN.into())
        );
    }

    #[test]
    fn d11_relayed_goes_to_port_67_of_the_relay() {
        let to_relay = Route::Relay { address: RELAY.into(), port: 67 };
        assert_eq!(routed(&DISCOVER, &[(GIADDR, RELAY)], |_| ()), to_relay);
        assert_eq!(
            routed(&REQUEST, &[(GIADDR, RELAY), (CIADDR, OWN)], |ask| ask.nak = true),
            to_relay
        );
    }

    #[test]
    fn d12_nak_is_broadcast_unless_the_client_is_behind_a_router() {
        assert_eq!(routed(&REQUEST, &[(CIADDR, OWN)], |ask| ask.nak = true), Route::Broadcast);
        let off_link = routed(&REQUEST, &[(CIADDR, [10, 9, 0, 4])], |ask| {
            (ask.nak, ask.off_link) = (true, true)
        });
        assert_eq!(off_link, Route::Unicast(Ipv4Addr::new(10, 9, 0, 4)));
    }

    #[test]
    fn d13_renewing_client_is_answered_at_its_address() {
        assert_eq!(routed(&REQUEST, &[(CIADDR, OWN)], |_| ()), neighbour(OWN));
        assert_eq!(routed(&REQUEST, &[(CIADDR, OWN), BROADCAST_BIT], |_| ()), neighbour(OWN));
        let from_afar = routed(&REQUEST, &[(CIADDR, OWN)], |ask| ask.off_link = true);
        assert_eq!(from_afar, Route::Unicast(OWN.into()), "a router stands between");
        let loopback = |ask: &mut Ask| {
            ask.network = Network { address: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 }
        };
        let here = [127, 77, 0, 1];
        assert_eq!(
            routed(&REQUEST, &[(CIADDR, here)], loopback),
            Route::Unicast(here.into()),
            "no frames there"
        );
        let foreign = routed(&DISCOVER, &[(CIADDR, [8, 8, 8, 8])], |_| ());
        assert_ne!(foreign, Route::Unicast(Ipv4Addr::new(8, 8, 8, 8)), "we are no reflector");
    }

    #[test]
    fn d14_broadcast_bit_or_no_address_means_broadcast() {
        assert_eq!(routed(&DISCOVER, &[BROADCAST_BIT], |_| ()), Route::Broadcast);
        assert_eq!(
            routed(&DISCOVER, &[], |ask| ask.yiaddr = Ipv4Addr::UNSPECIFIED),
            Route::Broadcast
        );
    }

    #[test]
    fn d15_otherwise_a_frame_to_the_hardware_address() {
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]);
        let frame = Route::LinkLayer { mac, address: Ipv4Addr::new(192, 168, 4, 26) };
        assert_eq!(routed(&DISCOVER, &[], |_| ()), frame);
        let mut infiniband = request(&[&DISCOVER[..], &[61, 4, 255, 1, 2, 3]].concat());
        (infiniband[1], infiniband[2]) = (32, 0);
        let packet = Packet::parse_request(&infiniband).unwrap();
        let ask = Ask {
            nak: false,
            yiaddr: Ipv4Addr::new(192, 168, 4, 26),
            network: Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 },
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            off_link: false,
        };
        assert_eq!(
            route(&packet, &Facts::of(&packet), ask),
            Route::Broadcast,
            "no frame can be made for it"
        );
    }

    #[test]
    fn d74_relay_source_port_is_answered_where_it_asked() {
        let asks = [&DISCOVER[..], &[82, 2, 19, 0]].concat();
        let route = routed(&asks, &[(GIADDR, RELAY)], |_| ());
        assert_eq!(route, Route::Relay { address: RELAY.into(), port: 4444 });
    }
}
