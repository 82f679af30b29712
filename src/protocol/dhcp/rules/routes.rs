//! Tests of D-12 to D-18: the address, the port and the link layer that a reply goes to.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{address, server};
use crate::dhcp::decide::IncomingMessage;
use crate::dhcp::route::ReplyRoute;
use crate::dhcp::testing::{Message, SERVER, unicast};

#[test]
fn d12_nak_to_a_routed_client_goes_to_its_address() {
    let foreign = Ipv4Addr::new(10, 7, 0, 20);
    let nak = server().ask_by(&Message::from(1).renew(foreign), unicast(foreign));
    assert_eq!(nak.message_type(), Some(6));
    assert_eq!(nak.answer.unwrap().route, ReplyRoute::Unicast(foreign));
    let local = server().ask_by(&Message::from(1).renew(address(20)), unicast(address(20)));
    assert_eq!(local.answer.unwrap().route, ReplyRoute::Broadcast);
}

#[test]
fn d13_renewal_through_a_router_finds_its_subnet_and_is_answered_at_its_address() {
    let mut server = server();
    let message = Message::from(1).relayed();
    let own = server.bind(&message);
    assert_eq!(own.octets()[..3], [10, 7, 0]);
    let ack = server.ask_by(&Message::from(1).renew(own), unicast(own));
    assert_eq!((ack.message_type(), ack.yiaddr()), (Some(5), own));
    assert_eq!(ack.answer.unwrap().route, ReplyRoute::Unicast(own));
}

#[test]
fn d16_source_is_our_address_on_the_receiving_interface() {
    let mut server = server();
    server.policy.advertise = Some(Ipv4Addr::new(203, 0, 113, 5));
    let offer = server.ask(&Message::from(1).pxe(0).discover());
    assert_eq!(offer.answer.as_ref().unwrap().source, SERVER);
    assert_eq!(offer.option(54).unwrap(), SERVER.octets());
    assert_eq!(
        offer.reply().siaddr,
        Ipv4Addr::new(203, 0, 113, 5),
        "files come from the advertised address"
    );
    // An address of ours in the subnet of a client that is elsewhere is not nearer to it.
    const THERE: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 5);
    let there = |arrival: &mut IncomingMessage<'_>| {
        (arrival.here, arrival.ours) = (&[(SERVER, 24), (THERE, 24)], &[THERE, SERVER]);
    };
    let relayed = server.ask_by(&Message::from(2).relayed().discover(), there);
    assert_eq!(relayed.answer.as_ref().unwrap().source, SERVER);
    let own = server.bind(&Message::from(2).relayed());
    let routed = server.ask_by(&Message::from(2).renew(own), |arrival| {
        unicast(own)(arrival);
        there(arrival);
    });
    assert_eq!((routed.yiaddr(), routed.answer.as_ref().unwrap().source), (own, SERVER));
}

/// Port 4011 is not served: so no client may be sent there, and no answer leaves for it.
#[test]
fn d17_no_answer_goes_to_port_4011_and_none_sends_a_client_there() {
    for message in [
        Message::from(1).pxe(7),
        Message::from(1).pxe(0),
        Message::from(1).http(16),
        Message::from(1).ipxe(7),
    ] {
        let offer = server()
            .ask_by(&message.discover(), |a| a.source = SocketAddrV4::new(address(20), 4011));
        assert!(!matches!(offer.answer.as_ref().unwrap().route, ReplyRoute::Relay { .. }));
        let class = offer.option(60);
        let sends_to_4011 = class.as_deref() == Some(b"PXEClient") && offer.option(43).is_none();
        assert!(!sends_to_4011);
    }
}

#[test]
fn d18_broadcast_bit_and_its_absence_take_both_ways() {
    let mut edk2 = Message::from(1).pxe(7).discover();
    edk2.flags = 0x8000;
    assert_eq!(server().ask(&edk2).answer.unwrap().route, ReplyRoute::Broadcast);
    let ipxe = server().ask(&Message::from(1).ipxe(0).discover());
    let frame = ReplyRoute::LinkLayer { mac: Message::from(1).mac, address: ipxe.yiaddr() };
    assert_eq!(ipxe.answer.unwrap().route, frame);
}
