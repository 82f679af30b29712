//! The rules of the wire as tests of whole decisions: a message in, the answer's bytes and the
//! table out.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::{Ipv4Addr, SocketAddrV4};

use super::decide::{AnswerKind, DhcpEventKind, DhcpSilence};
use super::lease::{Lease, LeaseChange, LeaseRowState, LeaseTable};
use super::limits::{
    DECLINE_HOLD_S, DECLINES_PER_CIRCUIT_MAX, FOREVER_S, OFFER_HOLD_RASPBERRY_PI_S, OFFER_HOLD_S,
};
use super::packet::COOKIE;
use super::route::ReplyRoute;
use super::subnet::{
    AddressPool, AnsweringMode, ClientAdmission, HoldReason, OtherServer, Reservation,
    ReservationTable, Subnet,
};
use super::testing::{Message, SERVER, Server, policy, relayed_subnet, subnet, unicast};
use crate::boot::plan::BootConfig;
use crate::dhcp::policy::DhcpPolicy;
use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac};

fn server() -> Server {
    Server::new(policy())
}

fn server_with(change: impl FnOnce(&mut Subnet)) -> Server {
    let mut policy = policy();
    change(&mut policy.subnets[0]);
    Server::new(policy)
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 4, last)
}

fn reserve(machine: u8, last: u8) -> impl FnOnce(&mut Subnet) {
    move |subnet| {
        let hostname = Some(format!("node-{machine}"));
        let one = Reservation { mac: Message::from(machine).mac, address: address(last), hostname };
        subnet.reservations = [subnet.reservations.to_vec(), vec![one]].concat().into();
    }
}

const MAC_ID: [u8; 7] = [1, 0x52, 0x54, 0, 0x12, 0x34, 1];

// --- packet ---

#[test]
fn d01_what_is_no_request_is_dropped_silently() {
    let mut server = server();
    for (at, value) in [(0usize, 2u8), (2, 17), (2, 255), (236, 0)] {
        let mut bytes = Message::from(1).discover().bytes();
        bytes[at] = value;
        let decision = server.decide(&Message::from(1).discover(), |arrival| {
            arrival.bytes = Box::leak(bytes.into())
        });
        assert!(
            decision.answer.is_none() && decision.changes.is_empty() && decision.event.is_none()
        );
        assert!(matches!(decision.silence, Some(DhcpSilence::Malformed(_))));
    }
    let mut group = Message::from(1).discover();
    group.mac = Mac([0xff; 6]);
    assert_eq!(server.ask(&group).silence, Some(DhcpSilence::NotAStation));
}

#[test]
fn d02_reply_copies_the_fields_of_its_request() {
    let mut message = Message::from(1).relayed().discover();
    (message.xid, message.flags, message.secs) = (0xfeed_f00d, 0x8001, 77);
    let decision = server().ask(&message);
    let (bytes, sent) = (decision.bytes(), message.bytes());
    assert_eq!((bytes[0], bytes[3]), (2, 0), "op and hops");
    assert_eq!(bytes[1..3], sent[1..3], "htype and hlen");
    assert_eq!(bytes[4..8], sent[4..8], "xid");
    assert_eq!(bytes[8..10], [0, 0], "secs");
    assert_eq!(bytes[10..12], sent[10..12], "flags");
    assert_eq!(bytes[24..44], sent[24..44], "giaddr and all sixteen octets of chaddr");
}

/// An OFFER byte for byte: D-3 padding, D-33 order, D-43 Pads, D-53 options.
#[test]
fn d33_offer_to_uefi_pxe_is_golden() {
    let prl = [1, 3, 6, 15, 66, 67, 43, 60, 97];
    let guid = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let offer = server().ask(&Message::from(1).pxe(7).with(97, &guid).with(55, &prl).discover());
    let t1_t2 = [offer.option(58).unwrap(), offer.option(59).unwrap()];
    let golden = [
        &[53, 1, 2, 1, 4, 255, 255, 255, 0, 3, 4, 192, 168, 4, 1, 28, 4, 192, 168, 4, 255][..],
        &[51, 4, 0, 0, 2, 88, 54, 4, 192, 168, 4, 150, 58, 4],
        &t1_t2[0],
        &[59, 4],
        &t1_t2[1],
        &[6, 4, 192, 168, 4, 150, 15, 9],
        b"itwish.cn",
        b"\x42\x0d192.168.4.150\x00",
        b"\x43\x0bshimx64.efi\x00",
        &[43, 4, 6, 1, 8, 255],
        b"\x3c\x09PXEClient\x00",
        &[97, 17],
        &guid,
        &[255],
    ]
    .concat();
    let area = &offer.bytes()[240..];
    assert_eq!(&area[..golden.len()], &golden[..]);
    assert!(area[golden.len()..].iter().all(|&b| b == 0));
    assert_eq!(offer.bytes()[236..240], COOKIE);
}

#[test]
fn d33_mask_and_router_come_unasked_and_first() {
    let offer = server().ask(&Message::from(1).with(55, &[15, 6]).discover());
    assert_eq!(offer.codes(), [53, 1, 3, 28, 51, 54, 58, 59, 15, 6]);
    let bare = server().ask(&Message::from(1).discover());
    assert_eq!(bare.codes()[..8], [53, 1, 3, 28, 51, 54, 58, 59]);
    assert!(bare.codes().contains(&6), "a client without a list gets what there is");
}

#[test]
fn d33_name_servers_are_told_to_who_boots_by_names_and_else_to_who_asks() {
    let of = |message: Message| {
        let offer = server().ask(&message.with(55, &[1, 3]).discover());
        [6, 15].map(|code| offer.option(code).is_some())
    };
    assert_eq!(of(Message::from(1).pxe(7)), [false, false]);
    assert_eq!(of(Message::from(1).http(16)), [true, false]);
    assert_eq!(of(Message::from(1).ipxe(0)), [true, false]);
}

#[test]
fn d04_reply_stays_within_what_the_client_takes() {
    for (size, limit) in [(None, 548), (Some(576u16), 548), (Some(1472), 1444), (Some(65280), 1472)]
    {
        let mut server = server_with(|s| s.domain_name_servers = vec![SERVER; 60]);
        let mut message =
            Message::from(1).ipxe(0).with(55, &[6, 15]).with(61, &[9; 200]).discover();
        if let Some(size) = size {
            message = message.with(57, &size.to_be_bytes());
        }
        let offer = server.ask(&message);
        assert!(offer.bytes().len() <= limit, "{size:?}");
        assert_eq!(offer.option(6).is_some(), limit > 548, "dropped only under pressure");
    }
}

#[test]
fn d05_what_does_not_fit_at_all_is_an_event_and_no_answer() {
    let message = Message::from(1).http(16).with(61, &[9; 250]).discover();
    let mut server = server();
    server.policy.boot.uefi_http = Some(format!("efi/{}", "b".repeat(200)));
    let decision = server.ask(&message);
    assert!(matches!(decision.silence, Some(DhcpSilence::DoesNotFit(_))));
    assert!(decision.answer.is_none() && decision.changes.is_empty() && decision.event.is_some());
}

#[test]
fn d06_overload_is_off_so_file_stays_readable() {
    let mut server = server_with(|s| s.domain_name_servers = vec![SERVER; 60]);
    let offer =
        server.ask(&Message::from(1).pxe(7).with(55, &[6, 15]).with(61, &[9; 120]).discover());
    assert_eq!(offer.option(52), None);
    assert_eq!(offer.reply().file, b"shimx64.efi");
    assert_eq!(offer.bytes()[44..108], [0; 64], "sname holds no options");
}

#[test]
fn d08_secs_changes_nothing() {
    let mut message = Message::from(1).ipxe(0).discover();
    let early = server().ask(&message).answer;
    message.secs = u16::MAX;
    assert_eq!(server().ask(&message).answer, early);
}

// --- routes ---

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
    let there = |arrival: &mut super::decide::IncomingMessage<'_>| {
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

// --- messages ---

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
        third.event.unwrap().told,
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
            let by = |arrival: &mut super::decide::IncomingMessage<'_>| {
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
        let ours =
            |arrival: &mut super::decide::IncomingMessage<'_>| arrival.ours = &[ELSEWHERE, SERVER];
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
                ..Lease::of_address(taken, Message::from(1).mac, end_s)
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
        assert!(offer.reasons.contains(&why), "{:?}", offer.reasons);
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
fn d27_declined_address_is_kept_back_for_an_hour_and_never_answered() {
    let mut server = server();
    let bad = server.bind(&Message::from(1));
    let decision = server.ask(&Message::from(1).decline(bad));
    assert_eq!((decision.answer, decision.silence), (None, Some(DhcpSilence::Declined)));
    assert_eq!(decision.event.unwrap().told, DhcpEventKind::Silent(DhcpSilence::Declined));
    let next = server.ask(&Message::from(1).with(50, &bad.octets()).discover()).yiaddr();
    assert_ne!(next, bad);
    assert_eq!(server.ask(&Message::from(1).request(bad)).message_type(), Some(6));
    server.now += DECLINE_HOLD_S;
    let again = server.ask(&Message::from(9).with(50, &bad.octets()).discover());
    assert_eq!(again.yiaddr(), bad, "after an hour it is free");
}

#[test]
fn d27_one_client_declines_a_few_addresses_and_then_none_of_the_pool_while_others_go_on() {
    let mut server = server();
    let own = server.bind(&Message::from(1));
    let mut silences = Vec::new();
    for _ in 0..20 {
        let offer = server.ask(&Message::from(2).discover());
        let Some(offered) = offer.answer.is_some().then(|| offer.yiaddr()) else {
            assert_eq!(offer.silence, Some(DhcpSilence::DeclinedTooMuch));
            assert_eq!(
                offer.event.unwrap().told,
                DhcpEventKind::Silent(DhcpSilence::DeclinedTooMuch)
            );
            continue;
        };
        let declined = server.ask(&Message::from(2).decline(offered));
        assert!(matches!(
            declined.event.unwrap().told,
            DhcpEventKind::Silent(DhcpSilence::Declined | DhcpSilence::LastDecline)
        ));
        silences.extend(declined.silence);
    }
    assert_eq!(
        silences,
        [
            DhcpSilence::Declined,
            DhcpSilence::Declined,
            DhcpSilence::Declined,
            DhcpSilence::LastDecline
        ]
    );
    assert_eq!(server.ask(&Message::from(1).renew(own)).message_type(), Some(5));
    server.bind(&Message::from(3));
    server.now += DECLINE_HOLD_S;
    assert_eq!(
        server.ask(&Message::from(2).discover()).message_type(),
        Some(2),
        "the hour is over"
    );
}

/// A machine whose address somebody else declines in its name goes on renewing, and gets what is
/// reserved for it.
#[test]
fn d27_a_silenced_client_keeps_what_is_its_own() {
    let mut server = server_with(reserve(2, 42));
    for n in 0..4 {
        let taken = address(60 + n);
        server.policy.subnets[0].reservations = ReservationTable::default();
        reserve(2, 60 + n)(&mut server.policy.subnets[0]);
        server.leases.reconfigure(&server.policy.subnets);
        server.bind(&Message::from(2));
        server.ask(&Message::from(2).decline(taken));
    }
    assert!(server.leases.is_silenced(Message::from(2).mac, server.now));
    server.policy.subnets[0].reservations = ReservationTable::default();
    reserve(2, 42)(&mut server.policy.subnets[0]);
    server.leases.reconfigure(&server.policy.subnets);
    assert_eq!(server.bind(&Message::from(2)), address(42));
    assert_eq!(server.ask(&Message::from(2).renew(address(42))).message_type(), Some(5));
}

#[test]
fn d27_invented_clients_of_one_segment_keep_back_a_few_addresses_and_the_first_too_many_is_said() {
    let mut server = server();
    let mut warned = 0;
    for n in 0..80 {
        let offered = server.ask(&Message::from(n).discover()).yiaddr();
        let declined = server.ask(&Message::from(n).decline(offered));
        match declined.silence.unwrap() {
            DhcpSilence::Declined => assert!(u32::from(n) < DECLINES_PER_CIRCUIT_MAX),
            DhcpSilence::DeclineNotKept(is_first) => {
                warned += u32::from(is_first);
                assert!(
                    declined.changes.iter().all(|change| !change.is_durable()),
                    "nothing is written for it"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(warned, 1);
    let kept = server.leases.iter().filter(|lease| lease.state == LeaseRowState::Declined).count();
    assert_eq!(
        (kept, server.leases.len()),
        (DECLINES_PER_CIRCUIT_MAX as usize, DECLINES_PER_CIRCUIT_MAX as usize)
    );
    let relayed = server.ask(&Message::from(90).relayed().discover()).yiaddr();
    let request = Message::from(90).relayed();
    server.ask(&request.clone().request(relayed));
    assert_eq!(
        server.ask(&request.decline(relayed)).silence,
        Some(DhcpSilence::Declined),
        "another segment's is another's"
    );
}

/// A lease whose decline does not count is dropped, durably: else its machine would be given the
/// same address again.
#[test]
fn d27_the_decline_of_a_lease_that_is_not_kept_back_frees_it() {
    let mut server = server();
    for n in 0..DECLINES_PER_CIRCUIT_MAX {
        let offered = server.ask(&Message::from(n as u8).discover()).yiaddr();
        server.ask(&Message::from(n as u8).decline(offered));
    }
    let own = server.bind(&Message::from(99));
    let declined = server.ask(&Message::from(99).decline(own));
    assert_eq!(declined.changes[0], LeaseChange::Free { address: own });
    assert!(declined.changes[0].is_durable() && server.leases.get(own).is_none());
}

#[test]
fn d27_only_the_holder_may_decline() {
    let mut server = server();
    let own = server.bind(&Message::from(1));
    assert_eq!(server.ask(&Message::from(2).decline(own)).silence, Some(DhcpSilence::NotHeld(own)));
    let elsewhere = Message::from(1).decline(own).with(54, &[192, 168, 4, 2]);
    assert_eq!(server.ask(&elsewhere).silence, Some(DhcpSilence::OtherServer(address(2))));
    assert_eq!(server.leases.get(own).unwrap().state, LeaseRowState::Bound);
}

#[test]
fn d28_release_frees_but_remembers_and_is_never_answered() {
    let mut server = server();
    let own = server.bind(&Message::from(1));
    assert_eq!(
        server.ask(&Message::from(2).release(own)).silence,
        Some(DhcpSilence::NotHeld(own)),
        "not its own"
    );
    assert_eq!(
        server.ask(&Message::from(1).release(address(11))).silence,
        Some(DhcpSilence::NotHeld(address(11)))
    );
    let decision = server.ask_by(&Message::from(1).release(own), unicast(own));
    assert_eq!((decision.answer, decision.silence), (None, Some(DhcpSilence::Released)));
    assert!(decision.changes[0].is_durable());
    assert_eq!(server.leases.get(own).unwrap().state, LeaseRowState::Released);
    assert_eq!(server.ask(&Message::from(1).discover()).yiaddr(), own, "remembered");
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
fn d30_ack_repeats_what_the_offer_said() {
    for message in [
        Message::from(1).pxe(7),
        Message::from(1).pxe(0),
        Message::from(1).http(16),
        Message::from(1).ipxe(0),
        Message::from(1).with(61, &MAC_ID).with(55, &[1, 3, 6, 66, 67]),
    ] {
        let mut server = server();
        let offer = server.ask(&message.clone().discover());
        let ack = server.ask(&message.request(offer.yiaddr()));
        let without_type = |mut codes: Vec<u8>| {
            codes.retain(|code| *code != 53);
            codes
        };
        for code in without_type(offer.codes()) {
            assert_eq!(ack.option(code), offer.option(code), "option {code}");
        }
        assert_eq!(without_type(ack.codes()), without_type(offer.codes()));
        assert_eq!(ack.reply().file, offer.reply().file);
        assert_eq!(ack.reply().siaddr, offer.reply().siaddr);
        assert_eq!(ack.yiaddr(), offer.yiaddr());
    }
}

#[test]
fn d31_bootp_is_for_reservations_only_and_has_no_end() {
    let mut server = server_with(reserve(1, 42));
    let reply = server.ask(&Message::from(1));
    assert_eq!(reply.yiaddr(), address(42));
    for code in [51, 53, 54, 58, 59] {
        assert_eq!(reply.option(code), None);
    }
    assert_eq!((reply.reply().file, reply.reply().siaddr), (&b"pxelinux.0"[..], SERVER));
    assert_eq!(server.leases.get(address(42)).unwrap().end_s, FOREVER_S);
    assert_eq!(server.ask(&Message::from(2)).silence, Some(DhcpSilence::NoReservation));
}

/// A BOOTP client never says that it is gone: taking its reservation away is how its address comes
/// back.
#[test]
fn d31_a_bootp_lease_ends_with_its_reservation() {
    let one =
        |s: &mut Subnet| s.pools = vec![AddressPool { first: address(42), last: address(42) }];
    let mut server = server_with(|s| {
        reserve(1, 42)(s);
        one(s);
    });
    assert_eq!(server.ask(&Message::from(1)).yiaddr(), address(42));
    server.now += 100_000_000;
    server.leases.reconfigure(&server.policy.subnets);
    assert_eq!(
        server.leases.get(address(42)).unwrap().end_s,
        FOREVER_S,
        "as long as it is reserved"
    );
    assert!(server.ask(&Message::from(2).discover()).answer.is_none());
    let rows: Vec<_> = server.leases.iter().cloned().collect();
    let mut restarted = server_with(one);
    restarted.leases.load(rows, restarted.now);
    server.policy.subnets[0].reservations = ReservationTable::default();
    server.leases.reconfigure(&server.policy.subnets);
    for server in [&mut server, &mut restarted] {
        let offer = server.ask(&Message::from(2).discover());
        assert_eq!(
            (offer.yiaddr(), offer.reasons[2].as_str()),
            (address(42), "address 192.168.4.42 from the pool")
        );
        assert_eq!(server.ask(&Message::from(2).request(address(42))).message_type(), Some(5));
        assert_eq!(server.ask(&Message::from(1)).silence, Some(DhcpSilence::NoReservation));
    }
    // To another machine at once.
    let mut moved = server_with(reserve(1, 42));
    moved.ask(&Message::from(1));
    moved.policy.subnets[0].reservations = ReservationTable::default();
    reserve(3, 42)(&mut moved.policy.subnets[0]);
    moved.leases.reconfigure(&moved.policy.subnets);
    assert_eq!(moved.bind(&Message::from(3)), address(42));
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

#[test]
fn d34_some_options_are_never_sent() {
    let wish = Message::from(1).pxe(7).with(55, &[50, 55, 57, 61, 52, 80]).with(57, &[5, 0]);
    let wish = wish.with(50, &address(30).octets());
    let offer = server().ask(&wish.discover());
    for code in [50, 55, 57, 61, 52, 80] {
        assert_eq!(offer.option(code), None, "option {code}");
    }
}

#[test]
fn d35_times_are_sent_and_in_order() {
    let ack = server().ask(&Message::from(1).with(51, &7200u32.to_be_bytes()).discover());
    let seconds = |code| u32::from_be_bytes(ack.option(code).unwrap().try_into().unwrap());
    assert_eq!(seconds(51), 7200, "as asked for");
    assert!(seconds(58) < seconds(59) && seconds(59) < seconds(51));
}

// --- leases ---

#[test]
fn d35_a_lease_binds_durably_and_an_offer_does_not() {
    let mut server = server();
    let offer = server.ask(&Message::from(1).discover());
    assert!(!offer.changes[0].is_durable());
    let ack = server.ask(&Message::from(1).request(offer.yiaddr()));
    assert!(ack.changes[0].is_durable());
}

/// The ACK waits for the store: a repeat of the same REQUEST must not become a second ACK or a
/// second row.
#[test]
fn d22_a_repeated_request_waits_for_the_same_commit() {
    let mut server = server();
    let offered = server.ask(&Message::from(1).discover()).yiaddr();
    let request = Message::from(1).request(offered);
    let first = server.decide(&request, |_| ());
    server.leases.begin_commit(&first.changes, first.xid, server.now);
    let repeat = server.decide(&request, |_| ());
    assert_eq!((repeat.answer, repeat.silence), (None, Some(DhcpSilence::CommitPending)));
    assert!(repeat.changes.is_empty());
    let rival = server.ask(&Message::from(2).request(offered));
    assert_eq!(rival.message_type(), Some(6), "not given away meanwhile");
    server.leases.finish_commit(&first.changes, first.xid, true, server.now);
    let later = server.ask(&request);
    assert_eq!(later.message_type(), Some(5), "the ACK was lost: the client asks again");
}

#[test]
fn d22_a_failed_commit_binds_nothing() {
    let mut server = server();
    let offered = server.ask(&Message::from(1).discover()).yiaddr();
    let decision = server.decide(&Message::from(1).request(offered), |_| ());
    server.leases.begin_commit(&decision.changes, decision.xid, server.now);
    server.leases.finish_commit(&decision.changes, decision.xid, false, server.now);
    assert_eq!(server.leases.get(offered).unwrap().state, LeaseRowState::Offered);
    assert_eq!(
        server.ask(&Message::from(1).request(offered)).message_type(),
        Some(5),
        "the next try is fresh"
    );
}

// --- identity ---

#[test]
fn d37_client_identifier_goes_back_unchanged() {
    let id = [255, 1, 2, 3, 4, 5, 6];
    let mut server = server();
    let offer = server.ask(&Message::from(1).with(61, &id).discover());
    assert_eq!(offer.option(61).unwrap(), id);
    assert_eq!(
        server.ask(&Message::from(1).with(61, &id).request(offer.yiaddr())).option(61).unwrap(),
        id
    );
    assert_eq!(server.ask(&Message::from(2).discover()).option(61), None);
}

/// Firmware, iPXE, GRUB and the installer of one machine name themselves differently and keep one
/// address.
#[test]
fn d38_one_machine_keeps_one_address_through_all_stages() {
    let mut server = server();
    let mut stages = [
        Message::from(1).pxe(7).with(97, &[0; 17]),
        Message::from(1).ipxe(7).with(61, &MAC_ID),
        Message::from(1),
        Message::from(1).with(61, b"\xff\x12\x34\x56\x78\x00\x01\x00\x01duid"),
    ];
    let mut seen = Vec::new();
    for (n, stage) in stages.iter_mut().enumerate() {
        stage.xid = n as u32;
        seen.push(server.bind(stage));
        server.now += 20;
    }
    assert_eq!(seen, vec![seen[0]; 4]);
    let lease = server.leases.get(seen[0]).unwrap();
    assert_eq!(
        lease.client_id.as_deref(),
        Some(&b"\xff\x12\x34\x56\x78\x00\x01\x00\x01duid"[..]),
        "kept as an alias"
    );
    assert_eq!(
        lease.firmware,
        Some(Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiX64) }),
        "the last boot stage"
    );
    assert!(lease.uuid.is_some());
}

/// Containers, virtual machines and a host behind one hardware address, on a subnet that serves
/// everybody.
#[test]
fn d37_systems_with_identifiers_of_their_own_are_clients_of_their_own() {
    let list = [1, 3, 6];
    let host = || Message::from(1).with(55, &list);
    let named = |id: &[u8]| host().with(61, id);
    let [a, b] = [named(b"\x00container-a"), named(b"\x00container-b")];
    let mut server = server();
    let offers = [&a, &b].map(|system| server.ask(&system.clone().discover()).yiaddr());
    assert_ne!(offers[0], offers[1], "asked for at the same time");
    let mut all: Vec<(Message, Ipv4Addr)> =
        [a.clone(), b.clone(), host()].map(|m| (m.clone(), server.bind(&m))).into();
    assert_eq!([all[0].1, all[1].1], offers);
    all.push((named(&MAC_ID), all[2].1));
    for restarted in [false, true] {
        if restarted {
            let rows: Vec<_> = server.leases.iter().cloned().collect();
            server.leases = LeaseTable::new(&server.policy.subnets);
            server.leases.load(rows, server.now);
        }
        for (system, own) in &all {
            assert_eq!(server.ask(&system.clone().discover()).yiaddr(), *own);
            assert_eq!(server.ask(&system.clone().request(*own)).message_type(), Some(5));
            assert_eq!(server.ask(&system.clone().init_reboot(*own)).message_type(), Some(5));
            assert_eq!(
                server.ask_by(&system.clone().renew(*own), unicast(*own)).message_type(),
                Some(5)
            );
            for (_, others) in all.iter().filter(|(_, address)| address != own) {
                let nak = server.ask(&system.clone().request(*others));
                assert_eq!(nak.option(56).unwrap(), b"the address belongs to another client");
                assert_eq!(
                    server.ask(&system.clone().renew(*others)).silence,
                    Some(DhcpSilence::UnknownClient)
                );
                let declined = server.ask(&system.clone().decline(*others)).silence;
                assert_eq!(declined, Some(DhcpSilence::NotHeld(*others)));
            }
        }
    }
    assert_eq!(
        all[..3]
            .iter()
            .map(|(_, address)| *address)
            .collect::<std::collections::HashSet<_>>()
            .len(),
        3
    );
}

/// Found by the fuzzer: firmware hands its address on, and both systems ask for it before the store
/// has kept either.
#[test]
fn d37_an_address_that_is_handed_on_goes_to_one_system_while_the_store_is_slow() {
    let mut server = server();
    let own = server.bind(&Message::from(1).pxe(7));
    let [a, b] = [b"\x00a", b"\x00b"].map(|id| Message::from(1).with(61, id).request(own));
    let first = server.decide(&a, |_| ());
    server.leases.begin_commit(&first.changes, first.xid, server.now);
    let second = server.ask(&Message { xid: 9, ..b.clone() });
    assert_eq!((second.answer, second.silence), (None, Some(DhcpSilence::CommitPending)));
    server.leases.finish_commit(&first.changes, first.xid, true, server.now);
    assert_eq!(server.ask(&b).message_type(), Some(6));
}

#[test]
fn d37_an_address_of_one_system_goes_to_another_when_its_lease_is_over() {
    let mut server =
        server_with(|s| s.pools = vec![AddressPool { first: address(10), last: address(10) }]);
    let [a, b] = [b"\x00a", b"\x00b"].map(|id| Message::from(1).with(61, id));
    assert_eq!(server.bind(&a), address(10));
    assert!(server.ask(&b.clone().discover()).answer.is_none());
    server.now += 600;
    assert_eq!(
        server.ask(&a.clone().discover()).reasons[2],
        "address 192.168.4.10 by what it had before"
    );
    server.now += OFFER_HOLD_S;
    assert_eq!(server.bind(&b), address(10));
    assert!(server.ask(&a.discover()).answer.is_none());
    assert_eq!(server.leases.get(address(10)).unwrap().client_id.as_deref(), Some(&b"\x00b"[..]));
}

/// The identifier of the system before does not outlive a boot, and on a subnet for machines that
/// boot none counts at all.
#[test]
fn d38_what_boots_the_machine_takes_its_address_over_and_hands_it_on() {
    for clients in [ClientAdmission::Any, ClientAdmission::Pxe] {
        let mut server = server_with(|s| s.clients = clients);
        let firmware = Message::from(1).pxe(7);
        let own = server.bind(&firmware);
        let stages = [
            Message::from(1).with(61, b"\xffinstaller"),
            firmware,
            Message::from(1),
            Message::from(1).ipxe(7).with(61, &MAC_ID),
            Message::from(1).with(61, b"\xffsystem").with(55, &[1, 3]),
        ];
        for stage in stages {
            assert_eq!(server.bind(&stage), own, "{clients:?} {stage:?}");
            assert_eq!(server.ask(&stage.renew(own)).message_type(), Some(5));
        }
        let another = server.bind(&Message::from(1).with(61, b"\xffanother"));
        assert_eq!(another == own, clients == ClientAdmission::Pxe);
    }
}

#[test]
fn d38_released_without_and_asked_for_with_client_identifier_is_still_the_same_machine() {
    let mut server = server();
    let own = server.bind(&Message::from(1).with(61, &MAC_ID));
    server.ask_by(&Message::from(1).with(61, &MAC_ID).release(own), unicast(own));
    assert_eq!(server.bind(&Message::from(1)), own);
}

#[test]
fn d39_guid_goes_back_and_is_never_required() {
    let guid: Vec<u8> = (0..17).collect();
    assert_eq!(
        server().ask(&Message::from(1).pxe(7).with(97, &guid).discover()).option(97).unwrap(),
        guid
    );
    assert_eq!(server().ask(&Message::from(1).pxe(7).discover()).option(97), None);
    let odd = [1, 2, 3];
    assert_eq!(
        server().ask(&Message::from(1).pxe(7).with(97, &odd).discover()).option(97).unwrap(),
        odd
    );
}

// --- options ---

#[test]
fn d42_boot_file_and_server_are_in_header_and_options() {
    for message in [Message::from(1).pxe(7), Message::from(1).pxe(0), Message::from(1).ipxe(0)] {
        let offer = server().ask(&message.discover());
        assert_eq!(offer.option(67).unwrap(), offer.reply().file);
        assert_eq!(offer.option(66).unwrap(), b"192.168.4.150");
        assert_eq!(offer.reply().siaddr, SERVER);
    }
}

#[test]
fn d42_a_long_name_goes_into_option_67_only_with_a_word_of_warning() {
    let mut server = server();
    server.policy.boot.uefi_x64 = Some("d/".repeat(70));
    let offer = server.ask(&Message::from(1).pxe(7).discover());
    assert_eq!(offer.option(67).unwrap().len(), 140);
    assert_eq!(offer.reply().file, b"");
    assert!(offer.reasons.iter().any(|reason| reason.contains("140 octets")));
}

#[test]
fn d41_a_list_has_as_many_addresses_as_one_option_holds() {
    for (servers, octets) in [(62, 248), (63, 252), (64, 252), (200, 252)] {
        let mut server = server_with(|subnet| subnet.ntp_servers = vec![SERVER; servers]);
        let offer = server.ask(&Message::from(1).with(57, &1500u16.to_be_bytes()).discover());
        assert_eq!(offer.option(42).unwrap().len(), octets, "{servers} servers");
    }
}

#[test]
fn d41_a_name_that_would_be_split_is_not_sent() {
    let mut server = server();
    server.policy.boot.uefi_x64 = Some("d/".repeat(128));
    let offer = server.ask(&Message::from(1).pxe(7).discover());
    assert_eq!((offer.option(67), offer.option(60)), (None, None));
    assert!(matches!(offer.event.unwrap().told, DhcpEventKind::NoLoader(_)));
}

#[test]
fn d43_pads_follow_60_66_and_67_in_a_whole_reply() {
    let offer = server().ask(&Message::from(1).http(16).discover());
    let after = |code: u8| {
        let value = offer.option(code).unwrap();
        let wire = [&[code, value.len() as u8], &value[..]].concat();
        let at = offer.bytes().windows(wire.len()).position(|window| window == wire).unwrap();
        offer.bytes()[at + wire.len()]
    };
    assert_eq!([after(60), after(66), after(67)], [0, 0, 0]);
}

#[test]
fn d44_server_is_a_dotted_quad_in_66_and_an_address_in_150() {
    let asked = server().ask(&Message::from(1).pxe(0).with(55, &[66, 150]).discover());
    assert_eq!(asked.option(66).unwrap(), b"192.168.4.150");
    assert_eq!(asked.option(150).unwrap(), SERVER.octets());
    let unasked = server().ask(&Message::from(1).pxe(0).with(55, &[1]).discover());
    assert_eq!(unasked.option(150), None);
}

#[test]
fn d45_pxelinux_options_come_unasked() {
    let mut server = server_with(|s| {
        s.pxelinux_config = Some("menu.cfg".into());
        s.pxelinux_prefix = Some("http://192.168.4.150/boot".into());
    });
    let offer = server.ask(&Message::from(1).pxe(0).with(55, &[1, 3]).discover());
    assert_eq!(offer.option(209).unwrap(), b"menu.cfg");
    assert_eq!(offer.option(210).unwrap(), b"http://192.168.4.150/boot/");
}

// --- relay ---

#[test]
fn d48_subnet_by_link_selection_then_118_then_giaddr_then_interface() {
    let mut policy = policy();
    let third = Subnet {
        network: crate::model::network::Ipv4Network {
            address: Ipv4Addr::new(10, 8, 0, 0),
            prefix: 24,
        },
        pools: vec![AddressPool {
            first: Ipv4Addr::new(10, 8, 0, 5),
            last: Ipv4Addr::new(10, 8, 0, 9),
        }],
        ..relayed_subnet()
    };
    policy.subnets.push(third);
    let mut server = Server::new(policy);
    let mut third_octets = |message: Message| {
        let offer = server.ask(&message.discover());
        (offer.yiaddr().octets()[1], offer.answer.unwrap().route)
    };
    let relay = ReplyRoute::Relay { address: Ipv4Addr::new(10, 7, 0, 1), port: 67 };
    assert_eq!(third_octets(Message::from(1).relayed()), (7, relay));
    let link = [5, 4, 10, 8, 0, 0];
    assert_eq!(
        third_octets(Message::from(2).relayed().with(82, &link)),
        (8, relay),
        "still answered at giaddr"
    );
    assert_eq!(third_octets(Message::from(3).relayed().with(118, &[10, 7, 0, 99])), (7, relay));
    let both = Message::from(4).relayed().with(82, &[5, 4, 10, 7, 0, 0]).with(118, &[10, 8, 0, 0]);
    assert_eq!(third_octets(both), (7, relay));
    assert_eq!(third_octets(Message::from(5)).0, 168);
}

/// Anybody can write option 118; sub-option 5 of option 82 is a relay's, and so nobody's without
/// giaddr.
#[test]
fn d48_where_the_interface_is_not_known_the_address_of_ours_that_was_asked_tells() {
    let of = |ours: Ipv4Addr| {
        let message = Message::from(1).discover();
        let decision = server().ask_by(&message, |arrival| {
            (arrival.interface, arrival.here, arrival.interface_address) = (None, &[], ours);
        });
        decision.network.ok_or(decision.silence)
    };
    assert_eq!(of(SERVER), Ok(subnet().network));
    let nowhere = Ipv4Addr::new(172, 16, 0, 1);
    assert_eq!(of(nowhere), Err(Some(DhcpSilence::NoSubnet(nowhere))));
}

#[test]
fn d48_a_client_chooses_no_segment_but_its_own() {
    let (near, far) = (Ipv4Addr::new(192, 168, 4, 0), Ipv4Addr::new(10, 7, 0, 0));
    let third = Subnet {
        network: crate::model::network::Ipv4Network {
            address: Ipv4Addr::new(10, 8, 0, 0),
            prefix: 24,
        },
        ..relayed_subnet()
    };
    let mut server = server();
    server.policy.subnets.push(third);
    let link = |address: Ipv4Addr| [&[5, 4][..], &address.octets()].concat();
    let wish = |server: &mut Server, message: Message| {
        let decision = server.ask(&message.pxe(7).discover());
        (decision.answer.is_some().then(|| decision.yiaddr().octets()[1]), decision.silence)
    };
    assert_eq!(
        wish(&mut server, Message::from(1).with(118, &far.octets())),
        (None, Some(DhcpSilence::NoSubnet(far)))
    );
    assert_eq!(wish(&mut server, Message::from(1).with(118, &near.octets())).0, Some(168));
    assert_eq!(
        wish(&mut server, Message::from(1).with(82, &link(far))).0,
        Some(168),
        "no relay, no link selection"
    );
    let both = Message::from(1).with(82, &link(far)).with(118, &far.octets());
    assert_eq!(wish(&mut server, both), (None, Some(DhcpSilence::NoSubnet(far))));
    let next_door = Ipv4Addr::new(10, 8, 0, 0);
    let through = Message::from(2).relayed().with(118, &next_door.octets());
    assert_eq!(
        wish(&mut server, through),
        (None, Some(DhcpSilence::NoSubnet(next_door))),
        "nor behind a relay"
    );
    let elsewhere =
        server.ask_by(&Message::from(3).with(118, &far.octets()).discover(), |arrival| {
            arrival.interface = Some("eth7");
        });
    assert_eq!(
        elsewhere.silence,
        Some(DhcpSilence::NoSubnet(SERVER)),
        "on an interface that no subnet names"
    );
}

const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 150);

fn in_second(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 5, last)
}

/// 192.168.4.0/24 with two addresses and 192.168.5.0/24 with many, both on eth1.
fn two_on_one_interface(change: impl FnOnce(&mut Subnet)) -> Server {
    let mut policy = policy();
    policy.subnets[0].pools = vec![AddressPool { first: address(10), last: address(11) }];
    let mut second = Subnet {
        network: crate::model::network::Ipv4Network { address: in_second(0), prefix: 24 },
        pools: vec![AddressPool { first: in_second(20), last: in_second(99) }],
        routers: vec![in_second(1)],
        ..subnet()
    };
    change(&mut second);
    policy.subnets.push(second);
    Server::new(policy)
}

/// Broadcast on eth1, whose first address is that of the first subnet.
fn on_both(arrival: &mut super::decide::IncomingMessage<'_>) {
    (arrival.here, arrival.ours) = (&[(SERVER, 24), (SECOND, 24)], &[SERVER, SECOND]);
}

#[test]
fn d48_subnets_of_one_interface_are_one_link_with_all_its_pools() {
    let mut server = two_on_one_interface(|_| ());
    let mut seen = Vec::new();
    for n in 1..=10 {
        let offer = server.ask_by(&Message::from(n).pxe(7).discover(), on_both);
        let (yiaddr, second) = (offer.yiaddr(), offer.yiaddr().octets()[2] == 5);
        let own = if second { SECOND } else { SERVER };
        assert_eq!(
            offer.option(54).unwrap(),
            own.octets(),
            "the server is reached without a router"
        );
        assert_eq!((offer.reply().siaddr, offer.answer.as_ref().unwrap().source), (own, own));
        assert_eq!(
            offer.option(3).unwrap()[..3],
            yiaddr.octets()[..3],
            "the router of that subnet"
        );
        assert_eq!(
            offer.reasons.contains(&"subnet 192.168.5.0/24 of the same link".to_owned()),
            second
        );
        let request = Message::from(n).pxe(7).request(yiaddr).with(54, &own.octets());
        let ack = server.ask_by(&request, on_both);
        assert_eq!(
            (ack.message_type(), ack.yiaddr(), ack.option(54)),
            (Some(5), yiaddr, offer.option(54))
        );
        seen.push(yiaddr);
    }
    assert_eq!(
        seen.iter().filter(|address| address.octets()[2] == 4).count(),
        2,
        "the first subnet's, while there are"
    );
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 10);
    for (n, own) in
        seen.iter().map(|own| (server.leases.get(*own).unwrap().mac.0[5], *own)).collect::<Vec<_>>()
    {
        let again = server.ask_by(&Message::from(n).discover(), on_both);
        assert_eq!(again.yiaddr(), own, "its lease, wherever it lies");
        assert_eq!(
            server.ask_by(&Message::from(n).init_reboot(own), on_both).message_type(),
            Some(5)
        );
        assert_eq!(server.ask_by(&Message::from(n).renew(own), on_both).message_type(), Some(5));
        for other in [address(10), in_second(20)] {
            let renewal = Message::from(n).renew(own).with(50, &other.octets());
            assert_eq!(
                server.ask_by(&renewal, on_both).yiaddr(),
                own,
                "what it has counts, whatever option 50 says"
            );
        }
        let unicast = server.ask_by(&Message::from(n).renew(own), |arrival| {
            on_both(arrival);
            arrival.destination = Some(SERVER);
        });
        let at = ReplyRoute::Neighbour { mac: Message::from(n).mac, address: own };
        assert_eq!((unicast.message_type(), unicast.answer.unwrap().route), (Some(5), at));
    }
    let foreign = server.ask_by(&Message::from(1).init_reboot(Ipv4Addr::new(10, 9, 9, 9)), on_both);
    assert_eq!(
        (foreign.message_type(), foreign.option(56)),
        (Some(6), Some(b"wrong network".to_vec()))
    );
    let without =
        server.ask_by(&Message::from(30).discover(), |arrival| arrival.here = &[(SERVER, 24)]);
    assert_eq!(
        without.silence,
        Some(DhcpSilence::NoAddressFree(subnet().network)),
        "not without an address of ours in it"
    );
}

#[test]
fn d48_reservations_wishes_and_admission_count_on_the_whole_link() {
    let mut server = two_on_one_interface(|second| {
        let mac = Message::from(1).mac;
        second.reservations =
            vec![Reservation { mac, address: in_second(5), hostname: Some("five".into()) }].into();
    });
    let offer = server.ask_by(&Message::from(1).with(55, &[12]).discover(), on_both);
    assert_eq!((offer.yiaddr(), offer.option(12).unwrap()), (in_second(5), b"five".to_vec()));
    for wrong in [address(10), in_second(20)] {
        let nak = server.ask_by(&Message::from(1).request(wrong), on_both);
        assert_eq!(nak.option(56).unwrap(), b"another address is reserved for this client");
        let nak = server.ask_by(&Message::from(1).init_reboot(wrong), on_both);
        assert_eq!(nak.option(56).unwrap(), b"wrong address for this client");
    }
    assert_eq!(server.ask_by(&Message::from(1), on_both).yiaddr(), in_second(5), "BOOTP");
    let elsewhere = Message::from(1).with(50, &address(10).octets()).discover();
    assert_eq!(
        server.ask_by(&elsewhere, on_both).yiaddr(),
        in_second(5),
        "a reservation goes before a wish"
    );
    let wish = Message::from(2).with(50, &in_second(44).octets()).discover();
    assert_eq!(server.ask_by(&wish, on_both).yiaddr(), in_second(44));
    let parameters = server.ask_by(&Message::from(3).inform(in_second(200)), on_both);
    assert_eq!(parameters.option(3).unwrap(), in_second(1).octets());
    let by_source = server.ask_by(&Message::from(3).inform(Ipv4Addr::UNSPECIFIED), |arrival| {
        on_both(arrival);
        arrival.source = SocketAddrV4::new(in_second(200), 68);
    });
    assert_eq!(by_source.option(3).unwrap(), in_second(1).octets());
    let by_118 =
        server.ask_by(&Message::from(4).with(118, &in_second(0).octets()).discover(), on_both);
    assert_eq!(by_118.yiaddr().octets()[2], 5);
    // The first subnet is for what boots, the second for everybody.
    server.policy.subnets[0].clients = ClientAdmission::Pxe;
    assert_eq!(server.ask_by(&Message::from(7).discover(), on_both).yiaddr().octets()[2], 5);
    assert_eq!(server.ask_by(&Message::from(8).pxe(7).discover(), on_both).yiaddr().octets()[2], 4);
    server.policy.subnets[2].clients = ClientAdmission::Known;
    let silence = server.ask_by(&Message::from(9).discover(), on_both).silence;
    assert_eq!(silence, Some(DhcpSilence::NotPxe(subnet().network)));
    let held = [(subnet().network, HoldReason::Looking)];
    let decision = server.ask_by(&Message::from(1).discover(), |arrival| {
        on_both(arrival);
        arrival.held = Box::leak(Box::new(held));
    });
    assert_eq!(decision.yiaddr(), in_second(5), "a subnet that is silent silences no other");
    server.policy.subnets[0].mode = AnsweringMode::Off;
    assert_eq!(server.ask_by(&Message::from(1).discover(), on_both).yiaddr(), in_second(5));
}

#[test]
fn d48_subnets_behind_one_giaddr_share_their_network_where_they_say_so() {
    let mut policy = policy();
    let floor = |last: u8, name: Option<&str>| Subnet {
        network: crate::model::network::Ipv4Network {
            address: Ipv4Addr::new(10, last, 0, 0),
            prefix: 24,
        },
        pools: vec![AddressPool {
            first: Ipv4Addr::new(10, last, 0, 50),
            last: Ipv4Addr::new(10, last, 0, 50),
        }],
        routers: Vec::new(),
        shared_network: name.map(str::to_owned),
        ..relayed_subnet()
    };
    let segment = Subnet { relay: false, ..floor(10, Some("b")) };
    policy.subnets = vec![
        floor(6, None),
        floor(7, Some("b")),
        floor(8, Some("a")),
        floor(9, Some("b")),
        segment,
    ]
    .into();
    let mut server = Server::new(policy);
    let mut networks = |first: u8, giaddr: u8| {
        (first..first + 3)
            .map(|n| {
                let mut message = Message::from(n).relayed();
                message.giaddr = Ipv4Addr::new(10, giaddr, 0, 1);
                let offer = server.ask(&message.clone().discover());
                let yiaddr = offer.answer.is_some().then(|| offer.yiaddr())?;
                assert_eq!(server.ask(&message.request(yiaddr)).message_type(), Some(5));
                let renewed = server.ask_by(&Message::from(n).renew(yiaddr), unicast(yiaddr));
                assert_eq!(
                    (renewed.message_type(), renewed.answer.unwrap().route),
                    (Some(5), ReplyRoute::Unicast(yiaddr))
                );
                Some(yiaddr.octets()[1])
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(networks(1, 7), [Some(7), Some(9), None]);
    assert_eq!(networks(11, 6), [Some(6), None, None], "no name, nothing in common");
    assert_eq!(networks(21, 8), [Some(8), None, None]);
}

/// eth1 has 10.9.0.1: relay agents bring 192.168.4.0/24 there, and the segment itself is nobody's.
#[test]
fn d51_a_subnet_for_relays_opens_nothing_on_the_segment_that_they_come_by() {
    const OWN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
    let mut server = server_with(|subnet| (subnet.relay, subnet.authoritative) = (true, true));
    let here = |arrival: &mut super::decide::IncomingMessage<'_>| {
        (arrival.interface_address, arrival.here, arrival.ours) = (OWN, &[(OWN, 24)], &[OWN]);
    };
    let stray = Ipv4Addr::new(192, 168, 4, 20);
    let bootp = Message::from(1);
    for message in [
        Message::from(1).pxe(7).discover(),
        Message::from(1).pxe(7).init_reboot(stray),
        Message::from(1).request(stray).with(54, &OWN.octets()),
        Message::from(1).renew(stray),
        Message::from(1).inform(stray),
        bootp,
    ] {
        let decision = server.ask_by(&message, here);
        assert_eq!(
            (decision.answer, decision.silence),
            (None, Some(DhcpSilence::NoSubnet(OWN))),
            "{message:?}"
        );
        assert!(decision.changes.is_empty());
    }
    let mut relayed = Message::from(2).pxe(7);
    relayed.giaddr = address(1);
    let offer = server.ask_by(&relayed.clone().discover(), here);
    assert_eq!(offer.message_type(), Some(2), "what a relay brings is served");
    let ack = server.ask_by(&relayed.request(offer.yiaddr()).with(54, &OWN.octets()), here);
    assert_eq!(ack.message_type(), Some(5));
    let renewed = server.ask_by(&Message::from(2).renew(offer.yiaddr()), |arrival| {
        here(arrival);
        (arrival.source, arrival.destination) = (SocketAddrV4::new(offer.yiaddr(), 68), Some(OWN));
    });
    assert_eq!(renewed.message_type(), Some(5), "and its renewal through the router");
}

#[test]
fn d49_relay_information_comes_back_last_and_untouched() {
    let information = [1, 4, b'e', b't', b'h', b'7', 2, 3, 1, 2, 3, 200, 0];
    let mut server = server();
    let message = Message::from(1).relayed().with(82, &information).with(55, &[82, 1, 3]);
    let offer = server.ask(&message.clone().discover());
    let ack = server.ask(&message.clone().request(offer.yiaddr()));
    let nak = server.ask(&message.request(address(30)));
    for reply in [offer, ack, nak] {
        assert_eq!(reply.codes().last(), Some(&82));
        let wire = [&[82, information.len() as u8], &information[..], &[255]].concat();
        assert!(reply.bytes().windows(wire.len()).any(|window| window == wire), "right before END");
    }
    assert_eq!(server.ask(&Message::from(2).with(55, &[82]).discover()).option(82), None);
}

/// RFC 3046 section 2.2: where it does not fit, the answer goes without it. The relay takes it off
/// again, so the client's own limit does not count it.
#[test]
fn d49_relay_information_costs_the_client_nothing_and_never_its_answer() {
    let wish = |information: usize| {
        let message = Message::from(1).relayed().pxe(7).with(61, &[9; 60]).with(97, &[0; 17]);
        let mut bytes = message.with(57, &576u16.to_be_bytes()).discover().bytes();
        bytes.pop();
        for piece in vec![1; information].chunks(255) {
            bytes.extend([&[82, piece.len() as u8], piece].concat());
        }
        bytes.push(255);
        let mut server = server();
        let decision =
            server.decide(&Message::from(1), |arrival| arrival.bytes = Box::leak(bytes.into()));
        let echoed = decision.option(82).map_or(0, |value| value.len());
        (decision.codes(), echoed, decision.reasons.last().cloned().unwrap())
    };
    let (without, ..) = wish(0);
    for octets in [220, 240, 255, 600, 900] {
        let (codes, echoed, _) = wish(octets);
        let sent: Vec<u8> = codes.into_iter().filter(|code| *code != 82).collect();
        assert_eq!((sent, echoed), (without.clone(), octets));
    }
    let (codes, echoed, why) = wish(1200);
    assert_eq!((codes, echoed), (without, 0));
    assert_eq!(why, "options [82] left out, they do not fit");
}

#[test]
fn d50_server_identifier_override_is_used_and_accepted() {
    let relay = [10, 7, 0, 1];
    let mut server = server();
    let message =
        Message::from(1).relayed().with(82, &[&[11, 4][..], &relay, &[10, 1, 0]].concat());
    let offer = server.ask(&message.clone().discover());
    assert_eq!(offer.option(54).unwrap(), relay);
    let ack = server.ask(&message.request(offer.yiaddr()).with(54, &relay));
    assert_eq!((ack.message_type(), ack.option(54).unwrap()), (Some(5), relay.to_vec()));
}

#[test]
fn d51_unknown_relays_and_endless_hops_are_silence() {
    let mut server = server();
    let mut unknown = Message::from(1).relayed().discover();
    unknown.giaddr = Ipv4Addr::new(172, 16, 0, 1);
    assert_eq!(server.ask(&unknown).silence, Some(DhcpSilence::NoSubnetBehind(unknown.giaddr)));
    unknown.giaddr = address(1);
    let closed = DhcpSilence::NotForRelays(subnet().network);
    assert_eq!(
        server.ask(&unknown).silence,
        Some(closed.clone()),
        "that subnet is not open to relays"
    );
    let mut routed = Message::from(1).relayed().discover().with(82, &[5, 4, 192, 168, 4, 0]);
    routed.giaddr = Ipv4Addr::new(10, 7, 0, 1);
    assert_eq!(
        server.ask(&routed).silence,
        Some(closed),
        "nor to link selection by an agent of another one"
    );
    let mut far = Message::from(1).relayed().discover();
    far.hops = 17;
    assert_eq!(server.ask(&far).silence, Some(DhcpSilence::Hops));
    far.hops = 16;
    assert_eq!(server.ask(&far).message_type(), Some(2));
}

#[test]
fn d51_nothing_is_answered_where_no_subnet_is_configured_or_where_it_is_off() {
    let stray =
        server().ask_by(&Message::from(1).discover(), |arrival| arrival.interface = Some("eth7"));
    assert_eq!(stray.silence, Some(DhcpSilence::NoSubnet(SERVER)));
    let mut off = server_with(|s| s.mode = AnsweringMode::Off);
    assert_eq!(
        off.ask(&Message::from(1).discover()).silence,
        Some(DhcpSilence::SubnetOff(subnet().network))
    );
    let mut empty = Server::new(DhcpPolicy::default());
    assert!(empty.ask(&Message::from(1).pxe(7).discover()).answer.is_none());
}

#[test]
fn d74_relay_that_asks_so_is_answered_at_its_source_port() {
    let message = Message::from(1).relayed().with(82, &[19, 0]).discover();
    let relay = Ipv4Addr::new(10, 7, 0, 1);
    let offer =
        server().ask_by(&message, |arrival| arrival.source = SocketAddrV4::new(relay, 40_123));
    assert_eq!(offer.answer.unwrap().route, ReplyRoute::Relay { address: relay, port: 40_123 });
}

// --- PXE ---

#[test]
fn d53_uefi_gets_60_with_43_or_neither() {
    for arch in [7, 9] {
        let offer = server().ask(&Message::from(1).pxe(arch).discover());
        assert_eq!(offer.option(60).unwrap(), b"PXEClient");
        assert_eq!(offer.option(43).unwrap(), [6, 1, 8, 255]);
        assert_eq!(offer.option(67).unwrap(), b"shimx64.efi");
    }
    let without_loader = server().ask(&Message::from(1).pxe(11).discover());
    assert_eq!((without_loader.option(60), without_loader.option(43)), (None, None));
}

#[test]
fn d54_the_first_offer_is_a_whole_one() {
    // EDK2 ranks an offer with file and discovery control first: it needs nothing more from
    // anybody.
    let offer = server().ask(&Message::from(1).pxe(7).discover());
    assert!(
        offer.option(43).is_some()
            && offer.option(67).is_some()
            && !offer.yiaddr().is_unspecified()
    );
}

#[test]
fn d55_bios_gets_a_conventional_answer() {
    let offer = server().ask(&Message::from(1).pxe(0).discover());
    assert_eq!((offer.option(60), offer.option(43)), (None, None));
    assert_eq!(offer.reply().file, b"pxelinux.0");
}

#[test]
fn d57_no_boot_server_list_is_sent_so_siaddr_counts() {
    let offer = server().ask(&Message::from(1).pxe(7).discover());
    assert!(!offer.option(43).unwrap().starts_with(&[8]));
    assert_eq!(offer.option(43).unwrap().len(), 4, "sub-option 6 alone");
}

#[test]
fn d58_file_size_is_not_sent() {
    let offer = server().ask(&Message::from(1).pxe(7).with(55, &[13, 67]).discover());
    assert_eq!(offer.option(13), None);
}

#[test]
fn d59_raspberry_pi_gets_menu_server_and_a_long_hold() {
    let mut pi = Message::from(1).pxe(0).with(55, &[1, 3, 43, 60, 66, 67, 128]).discover();
    pi.mac = Mac([0xb8, 0x27, 0xeb, 1, 2, 3]);
    let mut server = server();
    let offer = server.ask(&pi);
    assert_eq!(offer.option(60).unwrap(), b"PXEClient");
    assert!(offer.option(43).unwrap().windows(20).any(|text| text == b"Raspberry Pi Boot   "));
    assert_eq!((offer.option(66).unwrap(), offer.option(67)), (b"192.168.4.150".to_vec(), None));
    let LeaseChange::Offer { until_s, .. } = offer.changes[0] else { panic!("an offer") };
    assert_eq!(until_s, server.now + OFFER_HOLD_RASPBERRY_PI_S);
    let binding =
        server.leases.binding(offer.yiaddr()).expect("known to boot cores without a REQUEST");
    assert_eq!(binding.machine.mac, pi.mac);
}

// --- HTTP Boot, iPXE, architectures ---

#[test]
fn d66_http_boot_gets_its_class_and_a_url() {
    for arch in [16, 17, 15, 19] {
        let offer = server().ask(&Message::from(1).http(arch).discover());
        assert_eq!(offer.option(60).unwrap(), b"HTTPClient");
        assert_eq!(offer.option(67).unwrap(), b"http://192.168.4.150/efi/bootx64.efi");
        assert_eq!(offer.option(43), None);
    }
    let mut without = server();
    without.policy.boot.uefi_http = None;
    let offer = without.ask(&Message::from(1).http(16).discover());
    assert_eq!(
        (offer.option(60), offer.option(67), offer.reply().file),
        (None, None, &b""[..]),
        "no TFTP name"
    );
    assert!(matches!(offer.event.unwrap().told, DhcpEventKind::NoLoader(_)));
}

#[test]
fn d66_name_servers_come_with_the_url_even_unasked() {
    let offer = server().ask(&Message::from(1).http(16).with(55, &[1, 3]).discover());
    assert_eq!(offer.option(6).unwrap(), SERVER.octets());
}

#[test]
fn d67_the_url_is_in_the_header_too_and_60_is_exact() {
    let offer = server().ask(&Message::from(1).http(16).discover());
    assert_eq!(offer.reply().file, b"http://192.168.4.150/efi/bootx64.efi");
    assert_eq!(offer.option(60).unwrap(), b"HTTPClient");
}

#[test]
fn d68_ipxe_is_told_that_no_proxy_will_answer() {
    let mut server = server();
    for message in [Message::from(1).ipxe(0), Message::from(1).pxe(7).with(77, b"iPXE")] {
        let offer = server.ask(&message.clone().discover());
        assert_eq!(offer.option(175).unwrap(), [176, 1, 1]);
        let ack = server.ask(&message.request(offer.yiaddr()));
        assert_eq!(ack.option(175).unwrap(), [176, 1, 1]);
    }
    assert_eq!(server.ask(&Message::from(2).pxe(0).with(55, &[175]).discover()).option(175), None);
}

#[test]
fn d69_firmware_gets_ipxe_and_ipxe_gets_the_script() {
    let mut server = server();
    server.policy.boot = BootConfig { bios: Some("undionly.kpxe".into()), ..BootConfig::default() };
    let file =
        |server: &mut Server, message: Message| server.ask(&message.discover()).option(67).unwrap();
    assert_eq!(file(&mut server, Message::from(1).pxe(0)), b"undionly.kpxe");
    let script = b"http://192.168.4.150/boot.ipxe".to_vec();
    assert_eq!(file(&mut server, Message::from(1).pxe(0).with(77, b"iPXE")), script);
    assert_eq!(file(&mut server, Message::from(1).pxe(0).with(175, &[0x13, 1, 1])), script);
    assert_eq!(file(&mut server, Message::from(1).ipxe(0)), script);
    server.policy.http_port = 8080;
    assert_eq!(file(&mut server, Message::from(1).ipxe(0)), b"http://192.168.4.150:8080/boot.ipxe");
}

#[test]
fn d70_an_ipxe_without_http_is_sent_to_tftp() {
    let mut server = server();
    server.policy.boot.ipxe = None;
    server.policy.boot.bios = None;
    let crippled = Message::from(1).ipxe(0).with(175, &[0x15, 1, 1, 0x21, 1, 1]);
    assert_eq!(server.ask(&crippled.discover()).option(67).unwrap(), b"boot.ipxe");
}

#[test]
fn d71_ipxe_is_answered_each_time_it_asks_and_again_after_a_nak() {
    let mut server = server();
    let message = Message::from(1).ipxe(0).with(57, &1472u16.to_be_bytes());
    let mut offered = Vec::new();
    for wait in [0, 1, 2, 4, 8] {
        server.now += wait;
        let offer = server.ask(&message.clone().discover());
        assert!(offer.bytes().len() <= 1472);
        offered.push(offer.yiaddr());
    }
    assert_eq!(offered, vec![offered[0]; 5]);
    assert_eq!(
        server.ask(&message.clone().init_reboot(Ipv4Addr::new(10, 1, 1, 1))).message_type(),
        Some(6)
    );
    assert_eq!(server.ask(&message.discover()).message_type(), Some(2));
}

#[test]
fn d72_nine_boots_as_seven() {
    let file = |arch| server().ask(&Message::from(1).pxe(arch).discover()).option(67);
    assert_eq!(file(9), file(7));
}

#[test]
fn d73_unknown_architecture_gets_plain_dhcp_and_an_event() {
    let mut server = server();
    let offer = server.ask(&Message::from(1).pxe(27).discover());
    assert_eq!((offer.option(60), offer.option(67), offer.option(66)), (None, None, None));
    assert_eq!(offer.option(3).unwrap(), [192, 168, 4, 1]);
    let event = offer.event.unwrap();
    assert!(matches!(event.told, DhcpEventKind::NoLoader(_)));
    assert!(event.text.contains("option 93 = 27"), "{}", event.text);
}

// --- what firmware was seen to do ---

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

/// Two machines with one hardware address cannot be told apart by DHCP, but the operator hears of
/// it.
#[test]
fn d38_two_machines_with_one_hardware_address_are_noticed() {
    let mut server = server();
    let twin = |n: u8| Message::from(1).pxe(7).with(97, &[&[0][..], &[n; 16]].concat());
    let own = server.bind(&twin(1));
    let second = server.ask(&twin(2).request(own));
    assert_eq!(second.message_type(), Some(5));
    assert_eq!(second.event.unwrap().told, DhcpEventKind::Twin);
}

#[test]
fn d19_reservation_goes_before_everything_and_names_the_host() {
    let mut server = server_with(reserve(1, 42));
    let offer =
        server.ask(&Message::from(1).with(50, &address(30).octets()).with(55, &[12]).discover());
    assert_eq!((offer.yiaddr(), offer.option(12).unwrap()), (address(42), b"node-1".to_vec()));
    assert_eq!(server.ask(&Message::from(1).request(address(42))).message_type(), Some(5));
    assert_eq!(server.ask(&Message::from(1).request(address(30))).message_type(), Some(6));
    let other = server.ask(&Message::from(2).with(50, &address(42).octets()).discover());
    assert_ne!(other.yiaddr(), address(42));
}

#[test]
fn d19_a_reserved_address_goes_to_its_machine_when_the_lease_of_another_is_over() {
    let mut server = server();
    let before = server.bind(&Message::from(2));
    server.now = server.leases.get(before).unwrap().end_s;
    let stranger = server.ask(&Message::from(3).request(before));
    assert_eq!(stranger.option(56).unwrap(), b"the address belongs to another client");
    reserve(1, before.octets()[3])(&mut server.policy.subnets[0]);
    server.leases.reconfigure(&server.policy.subnets);
    // Also of a machine that was offered it before a restart of ours.
    let ack = server.ask(&Message::from(1).request(before));
    assert_eq!((ack.message_type(), ack.yiaddr()), (Some(5), before));
}

#[test]
fn d23_a_reservation_that_is_taken_is_no_claim_to_what_another_had() {
    let mut server = server();
    let before = server.bind(&Message::from(2));
    server.now = server.leases.get(before).unwrap().end_s;
    let reserved = server.bind(&Message::from(4));
    reserve(1, reserved.octets()[3])(&mut server.policy.subnets[0]);
    server.leases.reconfigure(&server.policy.subnets);
    let nak = server.ask(&Message::from(1).request(before));
    assert_eq!(nak.option(56), Some(b"the address belongs to another client".to_vec()));
    let offered = server.ask(&Message::from(1).discover()).yiaddr();
    assert_eq!(
        server.ask(&Message::from(1).request(offered)).message_type(),
        Some(5),
        "it has another meanwhile"
    );
}

#[test]
fn d36_an_offer_waits_for_a_probe_only_where_nothing_is_known_of_its_address() {
    let mut server = server();
    let unknown = server.ask(&Message::from(1).discover());
    assert_eq!(unknown.unproven, Some(unknown.yiaddr()));
    assert_eq!(server.ask(&Message::from(1).discover()).unproven, None, "asked about a moment ago");
    server.bind(&Message::from(1));
    assert_eq!(server.ask(&Message::from(1).discover()).unproven, None, "its own");
    server.policy.subnets[0].conflict_detection = false;
    assert_eq!(server.ask(&Message::from(1).discover()).unproven, None);
    assert_eq!(server.ask(&Message::from(2).discover()).unproven, None, "switched off");
}

#[test]
fn d25_a_new_reservation_moves_a_machine_when_it_restarts_not_while_it_runs() {
    let mut server = server();
    let own = server.bind(&Message::from(1));
    let last = if own == address(99) { 98 } else { 99 };
    reserve(1, last)(&mut server.policy.subnets[0]);
    server.leases.reconfigure(&server.policy.subnets);
    assert_eq!(server.ask_by(&Message::from(1).renew(own), unicast(own)).message_type(), Some(5));
    assert_eq!(server.ask(&Message::from(1).init_reboot(own)).message_type(), Some(6));
    assert_eq!(server.bind(&Message::from(1)), address(last));
}

#[test]
fn every_decision_gives_its_reasons() {
    let offer = server().ask(&Message::from(1).pxe(7).discover());
    let reasons = offer.reasons.join("\n");
    assert!(reasons.contains("PXE firmware on x64 UEFI (option 93 = 7)"), "{reasons}");
    assert!(reasons.contains("subnet 192.168.4.0/24 by interface eth1"), "{reasons}");
    assert!(reasons.contains("loader shimx64.efi because option 93 = 7"), "{reasons}");
    assert!(reasons.contains("from the pool"), "{reasons}");
}

// --- whom we serve ---

const NOT_BOOTING: Message = Message {
    mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 9]),
    xid: 9,
    flags: 0,
    secs: 0,
    hops: 0,
    ciaddr: Ipv4Addr::UNSPECIFIED,
    giaddr: Ipv4Addr::UNSPECIFIED,
    options: Vec::new(),
};

#[test]
fn d52_only_machines_that_boot_are_served_unless_the_subnet_says_otherwise() {
    let mut server = server_with(|subnet| subnet.clients = ClientAdmission::Pxe);
    let network = subnet().network;
    for message in [
        NOT_BOOTING.clone().discover(),
        NOT_BOOTING.clone().init_reboot(address(20)),
        NOT_BOOTING.clone().inform(address(20)),
    ] {
        let decision = server.ask(&message);
        assert_eq!((decision.answer, decision.silence), (None, Some(DhcpSilence::NotPxe(network))));
        let event = decision.event.unwrap();
        assert!(event.text.contains("says nothing of network boot"), "{event:?}");
    }
    let boots = [
        Message::from(1).pxe(0),
        Message::from(2).http(16),
        Message::from(3).with(77, b"iPXE"),
        Message::from(4).with(175, &[0x13, 1, 1]),
        Message::from(5).with(93, &[0, 7]),
        Message::from(6).with(60, b"U-Boot.armv8"),
    ];
    for message in boots {
        assert_eq!(server.ask(&message.clone().discover()).message_type(), Some(2), "{message:?}");
    }
    let mut pi = Message::from(7);
    pi.mac.0[..3].copy_from_slice(&[0xb8, 0x27, 0xeb]);
    assert_eq!(
        server.ask(&pi.discover()).message_type(),
        Some(2),
        "its ROM asks once, its system says nothing"
    );
    let mut reserved = server_with(|subnet| {
        subnet.clients = ClientAdmission::Pxe;
        reserve(9, 5)(subnet);
    });
    assert_eq!(reserved.ask(&NOT_BOOTING.clone().discover()).yiaddr(), address(5));
}

#[test]
fn d52_what_a_machine_said_once_admits_its_loader_and_its_system_also_after_a_restart() {
    let mut server = server_with(|subnet| subnet.clients = ClientAdmission::Pxe);
    let firmware = NOT_BOOTING.clone().pxe(7);
    let offered = server.ask(&firmware.clone().discover()).yiaddr();
    assert_eq!(
        server.ask(&NOT_BOOTING.clone().discover()).yiaddr(),
        offered,
        "GRUB, after an OFFER alone"
    );
    server.ask(&firmware.request(offered));
    let rows: Vec<_> = server.leases.iter().cloned().collect();
    let mut again = server_with(|subnet| subnet.clients = ClientAdmission::Pxe);
    again.leases.load(rows, again.now);
    assert_eq!(again.ask(&NOT_BOOTING.clone().discover()).yiaddr(), offered);
    let mut forgotten = server_with(|subnet| subnet.clients = ClientAdmission::Pxe);
    assert!(forgotten.ask(&NOT_BOOTING.clone().discover()).answer.is_none());
    forgotten.leases.load_machines([(NOT_BOOTING.mac, 0)]);
    assert!(
        forgotten.ask(&NOT_BOOTING.clone().discover()).answer.is_some(),
        "by the store's memory"
    );
}

#[test]
fn d52_known_means_reserved() {
    let mut server = server_with(|subnet| {
        subnet.clients = ClientAdmission::Known;
        reserve(1, 5)(subnet);
    });
    assert_eq!(server.ask(&Message::from(1).discover()).yiaddr(), address(5));
    let stranger = server.ask(&Message::from(2).pxe(7).discover());
    assert_eq!(stranger.silence, Some(DhcpSilence::NotReserved(subnet().network)));
}

#[test]
fn d51_a_subnet_that_is_held_offers_nothing_and_goes_on_with_the_leases_that_it_has_given() {
    let mut server = server();
    let lease = server.bind(&Message::from(1).pxe(7));
    let other = OtherServer { mac: Mac([2; 6]), address: address(2) };
    let held = [(subnet().network, HoldReason::OtherServer(other))];
    let messages = [
        Message::from(1).pxe(7).discover(),
        Message::from(2).pxe(7).discover(),
        Message::from(1).init_reboot(Ipv4Addr::new(10, 9, 9, 9)),
        Message::from(1).inform(lease),
    ];
    for message in &messages {
        // Leaked: the closure sets a reference that outlives it.
        let decision = server.ask_by(message, |arrival| arrival.held = Box::leak(Box::new(held)));
        assert_eq!((decision.answer, decision.changes.len()), (None, 0));
        assert!(decision.event.unwrap().text.contains("192.168.4.2 (02:02:02:02:02:02)"));
        assert!(server.decide(message, |_| ()).answer.is_some(), "without that it is answered");
    }
    let held_or_looking = [held, [(subnet().network, HoldReason::Looking)]];
    for held in held_or_looking {
        let ask = |server: &mut Server, message: &Message, to_us: bool| {
            let decision = server.ask_by(message, |arrival| {
                if to_us {
                    arrival.destination = Some(SERVER);
                }
                arrival.held = Box::leak(Box::new(held));
            });
            decision.answer.map(|answer| answer.kind)
        };
        for message in [
            Message::from(1).pxe(7).request(lease),
            Message::from(1).renew(lease),
            Message::from(1).init_reboot(lease),
        ] {
            assert_eq!(ask(&mut server, &message, false), Some(AnswerKind::Ack), "a lease of ours");
        }
        let stranger = Message::from(3).renew(address(77));
        assert_eq!(ask(&mut server, &stranger, true), Some(AnswerKind::Nak), "it names us");
        assert_eq!(ask(&mut server, &stranger, false), None, "another server's, as likely as not");
        assert_eq!(
            ask(&mut server, &Message::from(3).inform(address(77)), true),
            Some(AnswerKind::Parameters)
        );
        let known = &Message::from(1).init_reboot(address(78));
        assert_eq!(
            ask(&mut server, known, false),
            None,
            "no NAK: it may have moved to the other server"
        );
        let nowhere = Box::leak(Box::new([(subnet().network, HoldReason::NoInterface)]));
        let decision =
            server.ask_by(&Message::from(1).renew(lease), |arrival| arrival.held = nowhere);
        assert_eq!(decision.answer, None);
        let began = server.now;
        server.now = server.leases.get(lease).unwrap().end_s;
        assert_eq!(
            ask(&mut server, &Message::from(1).renew(lease), false),
            None,
            "it is over in this second"
        );
        server.now = began;
    }
    let release = server.ask_by(&Message::from(1).release(lease), |arrival| {
        arrival.held = Box::leak(Box::new(held))
    });
    assert_eq!(
        release.silence,
        Some(DhcpSilence::Released),
        "what a client gives back is never answered"
    );
    let elsewhere = NOT_BOOTING.clone().request(address(20)).with(54, &[192, 168, 4, 2]);
    let silence =
        server_with(|subnet| subnet.clients = ClientAdmission::Pxe).ask(&elsewhere).silence;
    assert_eq!(
        silence,
        Some(DhcpSilence::OtherServer(address(2))),
        "which is a reason to look for it"
    );
}

/// siaddr, option 66, option 150 and the URL of HTTP Boot.
#[test]
fn d20_advertise_is_where_files_come_from() {
    let mut server = server();
    let advertised = Ipv4Addr::new(203, 0, 113, 5);
    server.policy.advertise = Some(advertised);
    let bios = server.ask(&Message::from(1).pxe(0).with(55, &[66, 67, 150]).discover());
    assert_eq!(
        (bios.reply().siaddr, bios.option(66).unwrap()),
        (advertised, b"203.0.113.5".to_vec())
    );
    assert_eq!(bios.option(150), Some(advertised.octets().to_vec()));
    assert_eq!(bios.option(54), Some(SERVER.octets().to_vec()), "but the server is who it is");
    let http = server.ask(&Message::from(2).http(16).discover());
    assert_eq!(http.option(67).unwrap(), b"http://203.0.113.5/efi/bootx64.efi");
}
