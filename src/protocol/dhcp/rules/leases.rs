//! Tests of D-22 to D-36: how an address is bound, kept back, released and reserved.

use super::{MAC_ID, address, reserve, server, server_with};
use crate::dhcp::decide::{DhcpEventKind, DhcpSilence};
use crate::dhcp::lease::{LeaseChange, LeaseRowState};
use crate::dhcp::limits::{DECLINE_HOLD_S, DECLINES_PER_CIRCUIT_MAX, FOREVER_S};
use crate::dhcp::subnet::{AddressPool, ReservationTable, Subnet};
use crate::dhcp::testing::{Message, SERVER, unicast};

#[test]
fn d27_declined_address_is_kept_back_for_an_hour_and_never_answered() {
    let mut server = server();
    let bad = server.bind(&Message::from(1));
    let decision = server.ask(&Message::from(1).decline(bad));
    assert_eq!((decision.answer, decision.silence), (None, Some(DhcpSilence::Declined)));
    assert_eq!(decision.event.unwrap().kind, DhcpEventKind::Silent(DhcpSilence::Declined));
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
                offer.event.unwrap().kind,
                DhcpEventKind::Silent(DhcpSilence::DeclinedTooMuch)
            );
            continue;
        };
        let declined = server.ask(&Message::from(2).decline(offered));
        assert!(matches!(
            declined.event.unwrap().kind,
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
            (offer.yiaddr(), offer.reasons.iter().nth(2).unwrap()),
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
