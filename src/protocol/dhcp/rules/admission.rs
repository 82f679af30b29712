//! Tests of D-51 and D-52: which machines a subnet serves, and when it serves none.

use std::net::Ipv4Addr;

use super::{address, reserve, server, server_with};
use crate::dhcp::decide::{AnswerKind, DhcpSilence};
use crate::dhcp::subnet::{ClientAdmission, HoldReason, OtherServer};
use crate::dhcp::testing::{Message, SERVER, Server, subnet};
use crate::model::machine::Mac;

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
