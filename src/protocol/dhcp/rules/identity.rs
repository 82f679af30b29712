//! Tests of D-37 to D-39: which messages come from one client.

use std::net::Ipv4Addr;

use super::{MAC_ID, address, server, server_with};
use crate::dhcp::decide::{DhcpEventKind, DhcpSilence};
use crate::dhcp::lease::LeaseTable;
use crate::dhcp::limits::OFFER_HOLD_S;
use crate::dhcp::subnet::{AddressPool, ClientAdmission};
use crate::dhcp::testing::{Message, unicast};
use crate::model::machine::{Arch, Firmware, FirmwareRole};

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
        server.ask(&a.clone().discover()).reasons.iter().nth(2).unwrap(),
        "address 192.168.4.10 because the client had it before"
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

/// Two machines with one hardware address cannot be told apart by DHCP, but the operator hears of
/// it.
#[test]
fn d38_two_machines_with_one_hardware_address_are_noticed() {
    let mut server = server();
    let twin = |n: u8| Message::from(1).pxe(7).with(97, &[&[0][..], &[n; 16]].concat());
    let own = server.bind(&twin(1));
    let second = server.ask(&twin(2).request(own));
    assert_eq!(second.message_type(), Some(5));
    assert_eq!(second.event.unwrap().kind, DhcpEventKind::Twin);
}
