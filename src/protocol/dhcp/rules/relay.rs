//! Tests of D-48 to D-51 and D-74: which subnet a message belongs to, and what a relay gets back.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{address, server, server_with};
use crate::dhcp::decide::{DhcpSilence, IncomingMessage};
use crate::dhcp::policy::DhcpPolicy;
use crate::dhcp::route::ReplyRoute;
use crate::dhcp::subnet::{
    AddressPool, AnsweringMode, ClientAdmission, HoldReason, Reservation, Subnet,
};
use crate::dhcp::testing::{Message, SERVER, Server, policy, relayed_subnet, subnet, unicast};

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
fn on_both(arrival: &mut IncomingMessage<'_>) {
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
            offer.reasons.iter().any(|one| one == "subnet 192.168.5.0/24 of the same link"),
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
    let here = |arrival: &mut IncomingMessage<'_>| {
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
        (decision.codes(), echoed, decision.reasons.iter().last().unwrap().to_owned())
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
