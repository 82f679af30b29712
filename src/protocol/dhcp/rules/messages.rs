//! Tests of D-19 to D-32: what the server answers to each message type.

use std::net::Ipv4Addr;

use super::{MAC_ID, address, reserve, server, server_with};
use crate::dhcp::decide::{AnswerKind, DhcpEventKind, DhcpSilence, IncomingMessage};
use crate::dhcp::lease::{Lease, LeaseRowState, LeaseTable};
use crate::dhcp::limits::OFFER_HOLD_S;
use crate::dhcp::route::ReplyRoute;
use crate::dhcp::subnet::AddressPool;
use crate::dhcp::testing::{Message, SERVER, Server, relayed_subnet, subnet, unicast};

#[test]
fn d19_address_is_the_bound_one_then_the_previous_then_the_requested_then_any() {
    let mut server = server();
    let requested = server.ask(&Message::from(1).with(50, &address(77).octets()).discover());
    assert_eq!(requested.yiaddr(), address(77));
    server.ask(&Message::from(1).request(address(77)));
    let bound = server.ask(&Message::from(1).with(50, &address(78).octets()).discover());
    assert_eq!(bound.yiaddr(), address(77), "its lease goes before its wish");
    server.now += 10_000;
    let previous = server.ask(&Message::from(1).discover());
    assert_eq!(previous.yiaddr(), address(77), "over, but remembered");
    let other = server.ask(&Message::from(2).with(50, &address(77).octets()).discover());
    assert_ne!(other.yiaddr(), address(77), "never another's");
    let outside = server.ask(&Message::from(3).with(50, &address(200).octets()).discover());
    assert!((10..=100).contains(&outside.yiaddr().octets()[3]));
}

#[test]
fn d19_no_address_left_is_silence_and_an_event() {
    let mut server =
        server_with(|s| s.pools = vec![AddressPool { first: address(10), last: address(11) }]);
    server.ask(&Message::from(1).discover());
    server.ask(&Message::from(2).discover());
    let third = server.ask(&Message::from(3).discover());
    assert_eq!(third.silence, Some(DhcpSilence::NoAddressFree(subnet().network)));
    assert_eq!(
        third.event.unwrap().kind,
        DhcpEventKind::Silent(DhcpSilence::NoAddressFree(subnet().network))
    );
    server.now += OFFER_HOLD_S;
    assert_eq!(
        server.ask(&Message::from(3).discover()).message_type(),
        Some(2),
        "lapsed offers are free again"
    );
}

#[test]
fn d20_server_identifier_is_on_the_clients_segment_and_any_of_ours_is_accepted() {
    const SECOND: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
    let mut server = server();
    let offer = server.ask(&Message::from(1).discover());
    assert_eq!(offer.option(54).unwrap(), SERVER.octets());
    let relayed = server.ask(&Message::from(2).relayed().discover());
    assert_eq!(relayed.option(54).unwrap(), SERVER.octets(), "relayed: the receiving interface");
    let request = Message::from(1).request(offer.yiaddr()).with(54, &SECOND.octets());
    let ack = server.ask_by(&request, |arrival| arrival.ours = &[SECOND, SERVER]);
    assert_eq!(ack.message_type(), Some(5));
}

#[test]
fn d22_request_of_our_offer_is_acked() {
    let mut server = server();
    let offer = server.ask(&Message::from(1).discover());
    let ack = server.ask(&Message::from(1).request(offer.yiaddr()));
    assert_eq!((ack.message_type(), ack.yiaddr()), (Some(5), offer.yiaddr()));
    assert_eq!(server.leases.get(offer.yiaddr()).unwrap().state, LeaseRowState::Bound);
}

#[test]
fn d22_another_servers_choice_drops_our_offer_in_silence() {
    let mut server = server();
    let offer = server.ask(&Message::from(1).discover());
    let other = Message::from(1).request(address(200)).with(54, &[192, 168, 4, 2]);
    let decision = server.ask(&other);
    assert_eq!(decision.silence, Some(DhcpSilence::OtherServer(address(2))));
    assert_eq!(server.leases.get(offer.yiaddr()), None);
}

#[test]
fn d22_a_lapsed_offer_that_nobody_else_took_is_still_good() {
    let mut server = server();
    let offered = server.ask(&Message::from(1).discover()).yiaddr();
    server.now += 10 * OFFER_HOLD_S;
    assert_eq!(server.ask(&Message::from(1).request(offered)).message_type(), Some(5));
}

#[test]
fn d22_a_lease_that_is_over_is_no_reason_to_refuse_a_free_address() {
    for (kind, gives_back) in [(5, true), (5, false), (6, false)] {
        let mut server = server();
        let first = server.bind(&Message::from(1));
        if gives_back {
            server.ask(&Message::from(1).release(first));
        } else if kind == 5 {
            server.now = server.leases.get(first).unwrap().end_s;
        }
        let free = address(if first == address(50) { 51 } else { 50 });
        let answer = server.ask(&Message::from(1).request(free));
        assert_eq!(
            answer.message_type(),
            Some(kind),
            "gives back: {gives_back}, {:?}",
            answer.reasons
        );
    }
}

#[test]
fn d23_address_that_is_not_this_clients_is_refused() {
    let mut server = server();
    let taken = server.bind(&Message::from(1));
    let offered = server.ask(&Message::from(2).discover()).yiaddr();
    for wrong in [
        taken,
        address(200),
        Ipv4Addr::new(10, 0, 0, 1),
        address(if offered == address(50) { 51 } else { 50 }),
    ] {
        let nak = server.ask(&Message::from(2).request(wrong));
        assert_eq!(nak.message_type(), Some(6), "{wrong}");
        assert!(nak.changes.is_empty());
    }
}

#[test]
fn d24_init_reboot_with_the_known_address_is_acked_and_with_a_wrong_one_refused() {
    let mut server = server();
    let own = server.bind(&Message::from(1));
    assert_eq!(server.ask(&Message::from(1).init_reboot(own)).message_type(), Some(5));
    assert_eq!(
        server.ask(&Message::from(1).init_reboot(Ipv4Addr::new(10, 9, 9, 9))).message_type(),
        Some(6),
        "wrong network"
    );
    let wrong = address(if own == address(99) { 98 } else { 99 });
    assert_eq!(
        server.ask(&Message::from(1).init_reboot(wrong)).message_type(),
        Some(6),
        "wrong address"
    );
    server.now += 100_000;
    assert_eq!(
        server.ask(&Message::from(1).init_reboot(own)).message_type(),
        Some(5),
        "over, but remembered"
    );
    let mut server = server_with(reserve(1, 30));
    assert_eq!(
        server.ask(&Message::from(1).init_reboot(address(30))).message_type(),
        Some(5),
        "reserved for it"
    );
}

#[test]
fn d24_init_reboot_of_an_unknown_client_is_silence_unless_authoritative() {
    let ask = |authoritative| {
        let mut server = server_with(|s| s.authoritative = authoritative);
        let decision = server.ask(&Message::from(1).init_reboot(address(30)));
        (decision.message_type(), decision.silence)
    };
    assert_eq!(ask(false), (None, Some(DhcpSilence::UnknownClient)));
    assert_eq!(ask(true), (Some(6), None));
    let mut relayed = server();
    let foreign = relayed.ask(&Message::from(1).relayed().init_reboot(address(30)));
    assert_eq!(foreign.message_type(), Some(6), "the network is that of giaddr");
}

/// U-Boot and a few ROMs leave out option 54: the address that was offered is the right one,
/// whoever chose it.
#[test]
fn d24_a_request_of_what_was_offered_is_acked_without_option_54() {
    for authoritative in [false, true] {
        let mut server = server_with(|s| s.authoritative = authoritative);
        let offered = server.ask(&Message::from(1).discover()).yiaddr();
        let ack = server.ask(&Message::from(1).init_reboot(offered));
        assert_eq!((ack.message_type(), ack.yiaddr()), (Some(5), offered));
        assert_eq!(server.leases.get(offered).unwrap().state, LeaseRowState::Bound);
        let offered = server.ask(&Message::from(2).discover()).yiaddr();
        for unicast in [false, true] {
            let by = |arrival: &mut IncomingMessage<'_>| {
                arrival.destination = Some(if unicast { SERVER } else { Ipv4Addr::BROADCAST });
            };
            let ack = server.ask_by(&Message::from(2).renew(offered), by);
            assert_eq!((ack.message_type(), ack.yiaddr()), (Some(5), offered), "as if it renewed");
        }
        let wrong = address(if offered == address(99) { 98 } else { 99 });
        assert_eq!(server.ask(&Message::from(2).init_reboot(wrong)).message_type(), Some(6));
    }
}

/// By DISCOVER, REQUEST in each state, renewal, memory, reservation, BOOTP and pool; our own on
/// this interface, on another, in URLs; the relay's.
#[test]
fn d20_no_client_is_given_an_address_of_the_server_or_of_its_relay() {
    const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 31);
    let advertised = address(32);
    for taken in [SERVER, ELSEWHERE, advertised] {
        let mut server = server_with(|s| {
            s.pools = vec![AddressPool { first: taken, last: taken }];
            s.authoritative = true;
        });
        server.policy.advertise = Some(advertised);
        let ours = |arrival: &mut IncomingMessage<'_>| arrival.ours = &[ELSEWHERE, SERVER];
        let refused = |server: &mut Server, message: Message, kind: Option<u8>| {
            let decision = server.ask_by(&message, ours);
            assert_eq!(decision.message_type(), kind, "{taken}: {:?}", decision.reasons);
            assert!(
                decision.changes.iter().all(|change| change.address() != taken),
                "{taken}: {message:?}"
            );
        };
        for requested in [taken, address(9)] {
            refused(&mut server, Message::from(1).with(50, &requested.octets()).discover(), None);
        }
        refused(&mut server, Message::from(1).request(taken), Some(6));
        refused(&mut server, Message::from(1).init_reboot(taken), Some(6));
        // The client had the address before it was ours; then it has run out.
        for (state, end_s) in [
            (LeaseRowState::Bound, server.now + 500),
            (LeaseRowState::Bound, 500),
            (LeaseRowState::Released, 500),
        ] {
            let lease = Lease {
                state,
                start_s: 400,
                ..Lease::new_bound(taken, Message::from(1).mac, end_s)
            };
            server.leases = LeaseTable::new(&server.policy.subnets);
            server.leases.load([lease], server.now);
            refused(&mut server, Message::from(1).discover(), None);
            refused(&mut server, Message::from(2).discover(), None);
            refused(&mut server, Message::from(1).request(taken), Some(6));
            refused(&mut server, Message::from(1).init_reboot(taken), Some(6));
            refused(&mut server, Message::from(1).renew(taken), Some(6));
        }
        let mut reserved = server_with(|s| {
            reserve(1, taken.octets()[3])(s);
            s.pools = vec![AddressPool { first: address(60), last: address(60) }];
        });
        reserved.policy.advertise = Some(advertised);
        refused(&mut reserved, Message::from(1), None);
        refused(&mut reserved, Message::from(1).request(taken), Some(6));
        let offer = reserved.ask_by(&Message::from(1).discover(), ours);
        assert_eq!(offer.yiaddr(), address(60), "another one instead");
        let why = format!("the reserved address {taken} is the server's or the relay's own");
        assert!(offer.reasons.iter().any(|reason| reason == why), "{:?}", offer.reasons);
        assert_eq!(
            reserved.ask_by(&Message::from(1).request(address(60)), ours).message_type(),
            Some(5)
        );
    }
    let relay = Ipv4Addr::new(10, 7, 0, 1);
    let mut server = server();
    server.policy.subnets[1].pools = vec![AddressPool { first: relay, last: relay }];
    server.policy.subnets[1].routers.clear();
    server.leases.reconfigure(&server.policy.subnets);
    let offer = server.ask(&Message::from(1).relayed().discover());
    assert_eq!(offer.silence, Some(DhcpSilence::NoAddressFree(relayed_subnet().network)));
    assert_eq!(server.ask(&Message::from(1).relayed().request(relay)).message_type(), Some(6));
}

#[test]
fn d25_matching_renewal_and_rebinding_are_acked_and_extended() {
    let mut server = server();
    let own = server.bind(&Message::from(1));
    server.now += 300;
    for how in [true, false] {
        let message = Message::from(1).renew(own);
        let ack = if how { server.ask_by(&message, unicast(own)) } else { server.ask(&message) };
        assert_eq!(ack.message_type(), Some(5));
        assert_eq!(ack.option(51).unwrap(), 600u32.to_be_bytes());
        assert_eq!(ack.reply().ciaddr, own);
    }
    assert_eq!(server.leases.get(own).unwrap().end_s, server.now + 600);
}

#[test]
fn d25_unknown_renewal_is_refused_by_unicast_and_silence_by_broadcast() {
    let mut server = server();
    let message = Message::from(1).renew(address(40));
    assert_eq!(server.ask_by(&message, unicast(address(40))).message_type(), Some(6));
    assert_eq!(server.ask(&message).silence, Some(DhcpSilence::UnknownClient));
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 1);
    for (destination, kind) in
        [(Some(SERVER), Some(6)), (Some(OTHER), Some(6)), (Some(address(3)), None), (None, None)]
    {
        let answer = server.ask_by(&message, |arrival| {
            (arrival.destination, arrival.ours) = (destination, &[OTHER, SERVER])
        });
        assert_eq!(
            answer.message_type(),
            kind,
            "to {destination:?}: any address of ours, and no other"
        );
    }
    let own = server.bind(&Message::from(2));
    assert_eq!(
        server.ask(&Message::from(1).renew(own)).silence,
        Some(DhcpSilence::UnknownClient),
        "another's lease"
    );
}

#[test]
fn d26_nak_says_no_more_than_it_may() {
    let message = Message::from(1)
        .relayed()
        .pxe(7)
        .with(61, &MAC_ID)
        .with(82, &[1, 2, 7, 7])
        .request(address(30));
    let nak = server().ask(&message);
    let (bytes, reply) = (nak.bytes(), nak.reply());
    assert_eq!(nak.codes(), [53, 54, 56, 61, 82]);
    assert_eq!(nak.option(53).unwrap(), [6]);
    assert!(!nak.option(56).unwrap().is_empty());
    assert_eq!(bytes[12..24], [0; 12], "ciaddr, yiaddr, siaddr");
    assert_eq!(reply.file, b"");
    assert_eq!(reply.flags & 0x8000, 0x8000, "D-11: the relay shall broadcast it");
    let asks_so = server().ask(&Message { flags: 0x8000, ..message });
    assert_eq!(asks_so.reply().flags, 0x8000, "also where the client asks so itself");
    assert_eq!(nak.answer.as_ref().unwrap().kind, AnswerKind::Nak);
    let plain = server().ask_by(&Message::from(1).renew(address(30)), unicast(address(30)));
    assert_eq!(plain.codes(), [53, 54, 56], "61 and 82 only where the client sent them");
}

#[test]
fn d29_inform_gets_parameters_and_nothing_is_allocated() {
    let mut server = server();
    let message = Message::from(1).with(55, &[1, 3, 6, 15]).inform(address(180));
    let ack = server.ask_by(&message, unicast(address(180)));
    assert_eq!((ack.message_type(), ack.yiaddr()), (Some(5), Ipv4Addr::UNSPECIFIED));
    for code in [51, 58, 59] {
        assert_eq!(ack.option(code), None);
    }
    assert_eq!(ack.option(15).unwrap(), b"itwish.cn");
    assert!(ack.changes.is_empty() && server.leases.is_empty());
    let at = ReplyRoute::Neighbour { mac: Message::from(1).mac, address: address(180) };
    assert_eq!(ack.answer.unwrap().route, at);
    let stranger = server.ask(&Message::from(1).inform(Ipv4Addr::new(8, 8, 8, 8)));
    assert!(stranger.answer.is_none(), "we are no reflector");
}

#[test]
fn d32_rapid_commit_is_off() {
    let decision = server().ask(&Message::from(1).with(80, &[]).discover());
    assert_eq!(decision.message_type(), Some(2), "an OFFER, not an ACK");
    assert_eq!(decision.option(80), None);
    assert!(decision.changes.iter().all(|change| !change.is_durable()));
}

#[test]
fn d32_forcerenew_and_leasequery_are_dropped() {
    for number in [9, 10, 14] {
        let decision = server().ask(&Message::from(1).with(53, &[number]));
        assert_eq!(decision.silence, Some(DhcpSilence::NotServed(number)));
        assert!(decision.changes.is_empty());
    }
}

#[test]
fn d32_auto_configure_is_echoed_only_where_it_was_sent() {
    for value in [0, 1] {
        assert_eq!(
            server().ask(&Message::from(1).with(116, &[value]).discover()).option(116).unwrap(),
            [value]
        );
    }
    assert_eq!(server().ask(&Message::from(1).with(116, &[7]).discover()).option(116), None);
    assert_eq!(server().ask(&Message::from(1).with(55, &[116]).discover()).option(116), None);
}

/// Two machines that start in one second send one xid: the hardware address tells them apart.
#[test]
fn d19_one_xid_from_two_machines_is_two_transactions() {
    let mut server = server();
    let [a, b] = [1, 2].map(|n| server.ask(&Message::from(n).discover()).yiaddr());
    assert_ne!(a, b);
    assert_eq!(server.ask(&Message::from(1).request(a)).message_type(), Some(5));
    assert_eq!(server.ask(&Message::from(2).request(b)).message_type(), Some(5));
    assert_eq!(server.ask(&Message::from(2).request(a)).message_type(), Some(6));
}

/// GRUB's DISCOVER holds option 53 and nothing else.
#[test]
fn d19_a_client_that_says_nothing_of_itself_is_answered() {
    let offer = server().ask(&Message::from(1).discover());
    assert_eq!(offer.message_type(), Some(2));
    assert_eq!(offer.reply().siaddr, SERVER, "GRUB and U-Boot take their server from siaddr");
    assert_eq!(offer.option(67), None);
}

/// U-Boot on x86 sends four DISCOVERs with four xids and then a REQUEST with the first.
#[test]
fn d22_an_offer_outlives_newer_xids_of_its_machine() {
    let mut server = server();
    let with_xid = |xid| Message { xid, ..Message::from(1).with(60, b"U-Boot") };
    let offered: Vec<_> =
        (0..4).map(|xid| server.ask(&with_xid(xid).discover()).yiaddr()).collect();
    assert_eq!(offered, vec![offered[0]; 4]);
    let ack = server.ask(&with_xid(0).request(offered[0]));
    assert_eq!((ack.message_type(), ack.xid), (Some(5), 0));
}

#[test]
fn every_decision_gives_its_reasons() {
    let offer = server().ask(&Message::from(1).pxe(7).discover());
    let reasons = offer.reasons.as_str();
    assert!(reasons.contains("PXE firmware on x64 UEFI (option 93 = 7)"), "{reasons}");
    assert!(reasons.contains("subnet 192.168.4.0/24 by interface eth1"), "{reasons}");
    assert!(reasons.contains("loader shimx64.efi because option 93 = 7"), "{reasons}");
    assert!(reasons.contains("from the pool"), "{reasons}");
}
