//! Connections beyond the limits of an address, a network and the server.
#![allow(clippy::unwrap_used)]
use super::super::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};
use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 4, 10));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 4, 11));

#[test]
fn h34_the_33rd_connection_of_an_address_waits_and_others_do_not() {
    let mut admission =
        ConnectionAdmission::new(Some(CONNECTIONS_PER_ADDRESS_MAX), CONNECTIONS_MAX);
    for n in 0..CONNECTIONS_PER_ADDRESS_MAX {
        assert_eq!(admission.arrive(A, n), AdmissionOutcome::Start(n));
    }
    assert_eq!(admission.arrive(A, 100), AdmissionOutcome::Waits);
    assert_eq!(admission.arrive(B, 200), AdmissionOutcome::Start(200));
    assert_eq!(admission.running(), CONNECTIONS_PER_ADDRESS_MAX + 1);
    assert_eq!(admission.leave(B), None, "room for B is no room for A");
    assert_eq!(admission.leave(A), Some((A, 100)));
    assert_eq!(admission.leave(A), None);
    assert_eq!(admission.running(), CONNECTIONS_PER_ADDRESS_MAX - 1);
}

#[test]
fn h34_when_nothing_new_is_served_waiting_connections_are_forgotten_and_served_ones_are_kept() {
    let mut admission = ConnectionAdmission::new(Some(2), 3);
    for n in 0..3 {
        assert_eq!(
            admission.arrive(A, n),
            if n < 2 { AdmissionOutcome::Start(n) } else { AdmissionOutcome::Waits }
        );
    }
    assert_eq!(admission.arrive(B, 10), AdmissionOutcome::Start(10));
    let c = IpAddr::V4(Ipv4Addr::new(192, 168, 4, 12));
    assert_eq!(admission.arrive(c, 20), AdmissionOutcome::Waits);
    assert_eq!(admission.close(), [2, 20]);
    assert_eq!((admission.counts.len(), admission.waiting(), admission.running()), (2, 0, 3));
    assert_eq!([A, B, c].map(|address| admission.share(address)), [2, 1, 0]);
    assert_eq!([admission.leave(A), admission.leave(B), admission.leave(A)], [None; 3]);
    assert!(admission.counts.is_empty());
}

#[test]
fn h34_loopback_and_a_server_without_limits_are_bound_by_the_total_alone() {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    for (limit, address) in [(Some(1), v4), (Some(1), v6), (None, A)] {
        let mut admission = ConnectionAdmission::new(limit, CONNECTIONS_MAX);
        for n in 0..CONNECTIONS_MAX {
            assert_eq!(admission.arrive(address, n), AdmissionOutcome::Start(n));
        }
        assert_eq!(admission.arrive(address, 0), AdmissionOutcome::Waits);
    }
}

#[test]
fn h14_the_queue_is_bounded_and_beyond_it_connections_are_refused() {
    let mut admission =
        ConnectionAdmission::new(Some(CONNECTIONS_PER_ADDRESS_MAX), CONNECTIONS_MAX);
    for n in 0..CONNECTIONS_PER_ADDRESS_MAX + WAITING_MAX {
        assert!(!matches!(admission.arrive(A, n), AdmissionOutcome::Refuse(_)));
    }
    assert_eq!(admission.arrive(A, 7), AdmissionOutcome::Refuse(7));
    assert_eq!(admission.waiting(), WAITING_MAX);
    assert_eq!(admission.close().len(), WAITING_MAX);
    assert_eq!(admission.leave(A), None);
}

#[test]
fn h34_one_source_does_not_use_up_the_queue_of_all() {
    let mut admission = ConnectionAdmission::new(Some(2), CONNECTIONS_MAX).with_waiting(8);
    for n in 0..10 {
        assert!(!matches!(admission.arrive(A, n), AdmissionOutcome::Refuse(_)));
    }
    assert_eq!(admission.arrive(A, 10), AdmissionOutcome::Refuse(10));
    assert_eq!(
        [admission.arrive(B, 20), admission.arrive(B, 21)],
        [AdmissionOutcome::Start(20), AdmissionOutcome::Start(21)]
    );
    // The last one of the source that has most makes room, until the shares are equal.
    for (n, displaced) in [(22, 9), (23, 8), (24, 7)] {
        assert_eq!(admission.arrive(B, n), AdmissionOutcome::WaitsInPlaceOf(displaced));
    }
    assert_eq!(admission.arrive(B, 25), AdmissionOutcome::WaitsInPlaceOf(6));
    assert_eq!(admission.arrive(B, 26), AdmissionOutcome::Refuse(26));
    assert_eq!((admission.leave(B), admission.waiting()), (Some((B, 22)), 7));
    admission.remove_waiting(&2);
    assert_eq!(admission.leave(A), Some((A, 3)));
    // An odd number of places: the last one stays whose it is, or the two would take it from
    // each other for ever.
    let mut admission = ConnectionAdmission::new(Some(1), CONNECTIONS_MAX).with_waiting(7);
    (0..8).for_each(|n| _ = admission.arrive(A, n));
    assert_eq!(admission.arrive(B, 20), AdmissionOutcome::Start(20));
    for (n, displaced) in [(21, 7), (22, 6), (23, 5)] {
        assert_eq!(admission.arrive(B, n), AdmissionOutcome::WaitsInPlaceOf(displaced));
    }
    assert_eq!(
        [admission.arrive(B, 24), admission.arrive(A, 25)],
        [AdmissionOutcome::Refuse(24), AdmissionOutcome::Refuse(25)]
    );
}

#[test]
fn h34_what_one_has_is_counted_until_its_last_connection_and_whoever_waits_are_gone() {
    let mut admission = ConnectionAdmission::new(Some(2), CONNECTIONS_MAX);
    assert_eq!(
        [0, 1, 2].map(|n| admission.arrive(A, n)),
        [AdmissionOutcome::Start(0), AdmissionOutcome::Start(1), AdmissionOutcome::Waits]
    );
    admission.remove_waiting(&2);
    assert_eq!((admission.leave(A), admission.share(A)), (None, 1));
    assert_eq!(
        [3, 4].map(|n| admission.arrive(A, n)),
        [AdmissionOutcome::Start(3), AdmissionOutcome::Waits]
    );
    assert_eq!((admission.leave(A), admission.share(A)), (Some((A, 4)), 2));
    assert_eq!([admission.leave(A), admission.leave(A)], [None, None]);
    assert!(admission.counts.is_empty(), "nobody is remembered");
}

#[test]
fn h34_where_all_connections_are_taken_the_source_with_the_fewest_comes_first() {
    let mut admission = ConnectionAdmission::new(Some(CONNECTIONS_PER_ADDRESS_MAX), 4);
    (0..4).for_each(|n| _ = admission.arrive(A, n));
    assert_eq!(admission.arrive(A, 4), AdmissionOutcome::Waits);
    assert_eq!(admission.least_share_in_need(), Some(4));
    assert_eq!(admission.arrive(B, 20), AdmissionOutcome::Waits);
    assert_eq!(
        (admission.least_share_in_need(), admission.share(A), admission.share(B)),
        (Some(0), 4, 0)
    );
    assert_eq!(admission.leave(A), Some((B, 20)));
    assert_eq!(admission.leave(A), Some((A, 4)));
    assert_eq!((admission.leave(A), admission.least_share_in_need()), (None, None));
}

#[test]
fn h34_the_addresses_of_one_ipv6_network_are_limited_together_as_well() {
    let mut admission = ConnectionAdmission::new(Some(4), CONNECTIONS_MAX);
    let address =
        |network: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0xfd00, 4, 0, network, 0, 0, 0, host));
    let mut started = 0;
    for host in 1..=400 {
        started += usize::from(
            admission.arrive(address(1, host), usize::from(host))
                == AdmissionOutcome::Start(host.into()),
        );
    }
    assert_eq!(started, 4 * NETWORK_SHARES);
    assert_eq!(admission.share(address(1, 7)), 4 * NETWORK_SHARES);
    for n in 1000..1004 {
        assert_eq!(
            admission.arrive(address(2, 1), n),
            AdmissionOutcome::Start(n),
            "another network"
        );
    }
    assert_eq!(admission.arrive(address(2, 1), 1004), AdmissionOutcome::Waits, "one address");
    assert_eq!(admission.arrive(address(2, 2), 1005), AdmissionOutcome::Start(1005));
    assert_eq!(
        admission.leave(address(2, 2)),
        None,
        "room for a network is none for an address that has its own share"
    );
    assert_eq!(admission.leave(address(1, 1)), Some((address(1, 33), 33)));
    // An IPv4 address is the same in either spelling, and a network of its own.
    let mapped = IpAddr::V6("::ffff:192.168.4.10".parse().unwrap());
    (0..4).for_each(|n| {
        assert_eq!(
            admission.arrive(if n % 2 == 0 { A } else { mapped }, n),
            AdmissionOutcome::Start(n)
        )
    });
    assert_eq!(
        [admission.arrive(mapped, 9), admission.arrive(B, 10)],
        [AdmissionOutcome::Waits, AdmissionOutcome::Start(10)]
    );
}

#[test]
fn h34_where_descriptors_are_few_fewer_are_served_and_fewer_wait() {
    assert_eq!(divide_connections(500_000, CONNECTIONS_MAX), (CONNECTIONS_MAX, WAITING_MAX));
    assert_eq!(divide_connections(512, CONNECTIONS_MAX), (384, 64));
    assert_eq!(divide_connections(10, CONNECTIONS_MAX), (8, 1));
    for descriptors in 8..3000 {
        let (running, waiting) = divide_connections(descriptors, CONNECTIONS_MAX);
        assert!(
            running + waiting + REFUSALS_MAX.min(descriptors / 8) <= descriptors,
            "{descriptors}"
        );
    }
}

#[test]
fn what_is_counted_is_forgotten_with_the_last_connection() {
    let mut admission = ConnectionAdmission::new(Some(1), 3).with_waiting(4);
    let addresses: Vec<IpAddr> =
        (0..8).map(|n| IpAddr::V6(Ipv6Addr::from(n << 62))).chain([A, B]).collect();
    let mut running = Vec::new();
    for (n, address) in addresses.iter().cycle().take(40).enumerate() {
        if let AdmissionOutcome::Start(_) = admission.arrive(*address, n) {
            running.push(*address);
        }
    }
    while let Some(address) = running.pop() {
        running.extend(admission.leave(address).map(|(address, _)| address));
    }
    assert_eq!((admission.running(), admission.waiting(), admission.counts.len()), (0, 0, 0));
}
