//! Tests of the lease table.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod clock;

use std::collections::{BTreeSet, HashSet};
use std::net::Ipv4Addr;

use super::booted::BootedMachines;
use super::entry::LeaseTableEntry;
use super::*;
use crate::dhcp::layout::{LayoutPlace, PoolLayout};
use crate::dhcp::lease_record::CircuitKind;
use crate::dhcp::limits::{
    DECLINE_HOLD_S, DECLINES_PER_MACHINE_MAX, ENDED_PER_MACHINE_MAX, FOREVER_S, LAPSE_ROWS_MAX,
    MACHINES_MAX, OFFER_HOLD_S, OFFERS_CROWD, OFFERS_PER_CIRCUIT_MAX,
};
use crate::dhcp::pool_use::LeaseStateCounts;
use crate::dhcp::subnet::{AddressPool, Reservation, Subnet};
use crate::dhcp::testing::subnet;
use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac, Machine};
use crate::model::network::Ipv4Network;

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn machine(n: u8) -> Machine {
    Machine { mac: mac(n), uuid: None, firmware: None }
}

fn offer(address: Ipv4Addr, n: u8, until_s: ClockSeconds) -> LeaseChange {
    LeaseChange::Offer {
        address,
        client_id: None,
        machine: machine(n),
        until_s,
        circuit: Circuit::default(),
    }
}

/// At a time when no offer is old.
fn chosen(
    leases: &LeaseTable,
    subnet: &Subnet,
    mac: Mac,
    seed: u64,
    ours: &[Ipv4Addr],
) -> Option<Ipv4Addr> {
    let wanted =
        AddressRequest { network: subnet.network, mac, circuit: Circuit::default(), seed, ours };
    leases.choose_address(&wanted, 0)
}

fn bind(address: Ipv4Addr, n: u8, end_s: ClockSeconds) -> LeaseChange {
    LeaseChange::Bind(Box::new(Lease::new_bound(address, mac(n), end_s)))
}

fn small_pool(last: u8) -> Subnet {
    let last = Ipv4Addr::new(192, 168, 4, last);
    Subnet { pools: vec![AddressPool { first: Ipv4Addr::new(192, 168, 4, 10), last }], ..subnet() }
}

#[test]
fn an_offer_lapses_into_free() {
    let subnet = small_pool(10);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let address = chosen(&leases, &subnet, mac(1), 7, &[]).unwrap();
    assert!(leases.is_empty());
    leases.apply(&offer(address, 1, 100), 0);
    assert!(!leases.is_empty());
    assert_eq!(chosen(&leases, &subnet, mac(2), 7, &[]), None);
    assert_eq!(leases.availability(address, mac(2), 99), AddressAvailability::Taken);
    leases.advance(99);
    assert_eq!(leases.len(), 1);
    leases.advance(100);
    assert_eq!((leases.len(), chosen(&leases, &subnet, mac(2), 7, &[])), (0, Some(address)));
}

/// Whether or not `advance` has come to it.
#[test]
fn an_address_is_anothers_until_the_second_in_which_its_time_is_over() {
    let mut leases = LeaseTable::new(&[small_pool(20)]);
    leases.apply(&offer(at(10), 1, 100), 0);
    leases.apply(&bind(at(11), 1, 100), 0);
    leases.apply(&bind(at(12), 1, 100), 0);
    leases.apply(&LeaseChange::Decline { address: at(12), mac: mac(1), until_s: 100 }, 0);
    let standing = |last, n, now| leases.availability(at(last), mac(n), now);
    assert_eq!([10, 11, 12].map(|last| standing(last, 2, 99)), [AddressAvailability::Taken; 3]);
    for now in [100, 101] {
        let to_another = [10, 11, 12].map(|last| standing(last, 2, now));
        assert_eq!(
            to_another,
            [AddressAvailability::Free, AddressAvailability::Remembered, AddressAvailability::Free],
            "{now}"
        );
        let to_itself = [10, 11, 12].map(|last| standing(last, 1, now));
        assert_eq!(
            to_itself,
            [
                AddressAvailability::Own(LeaseRowState::Offered),
                AddressAvailability::Own(LeaseRowState::Bound),
                AddressAvailability::Free
            ],
            "{now}"
        );
    }
}

#[test]
fn an_address_of_this_host_is_nobodys_until_the_host_has_it_no_more() {
    let subnet = small_pool(10);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let only = Ipv4Addr::new(192, 168, 4, 10);
    leases.set_own_addresses(&[only]);
    assert_eq!(chosen(&leases, &subnet, mac(1), 1, &[]), None);
    leases.set_own_addresses(&[]);
    assert_eq!(chosen(&leases, &subnet, mac(1), 1, &[]), Some(only));
}

#[test]
fn machines_spread_over_a_pool_whatever_the_seed() {
    let leases = LeaseTable::new(&[subnet()]);
    for seed in [0, 1, u64::MAX] {
        let chosen: HashSet<_> =
            (0..40).map(|n| chosen(&leases, &subnet(), mac(n), seed, &[])).collect();
        assert!(chosen.len() > 20, "{} addresses for 40 machines, seed {seed}", chosen.len());
    }
}

#[test]
fn an_expired_lease_is_remembered_until_nothing_else_is_left() {
    let subnet = small_pool(12);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let [a, b, c] = [10, 11, 12].map(|n| Ipv4Addr::new(192, 168, 4, n));
    leases.apply(&bind(a, 1, 60), 0);
    leases.apply(&bind(b, 2, 50), 0);
    leases.advance(60);
    assert_eq!(leases.find_client_lease(mac(1), subnet.network, 60).unwrap().address, a);
    assert_eq!(
        leases.choose_address(&AddressRequest { mac: mac(9), ..wanted(&subnet, 0) }, 60),
        Some(c),
        "a free one first"
    );
    leases.apply(&bind(c, 9, 1000), 60);
    assert_eq!(
        leases.choose_address(&AddressRequest { mac: mac(8), ..wanted(&subnet, 0) }, 60),
        Some(b),
        "then the one that ended first"
    );
    leases.apply(&offer(b, 8, 200), 60);
    assert_eq!(leases.find_client_lease(mac(2), subnet.network, 60), None, "taken over");
    assert_eq!(
        leases.choose_address(&AddressRequest { mac: mac(7), ..wanted(&subnet, 0) }, 60),
        Some(a)
    );
}

#[test]
fn no_row_lasts_longer_from_now_than_it_was_given_for() {
    let [a, b, c, d, e] = [10, 11, 12, 13, 14].map(|n| Ipv4Addr::new(192, 168, 4, n));
    let reservations = vec![Reservation { mac: mac(3), address: c, hostname: None }].into();
    let subnet = Subnet { reservations, ..small_pool(14) };
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let row = |address, n, state, start_s, end_s| {
        let LeaseChange::Bind(lease) = bind(address, n, end_s) else { unreachable!() };
        Lease { state, start_s, ..*lease }
    };
    let rows = [
        row(a, 1, LeaseRowState::Bound, 99_000, 99_600),
        row(b, 2, LeaseRowState::Declined, 99_999, 99_999),
        row(c, 3, LeaseRowState::Bound, 99_000, FOREVER_S),
        row(d, 4, LeaseRowState::Bound, 99_000, FOREVER_S),
        row(e, 5, LeaseRowState::Bound, 900, 100_000),
    ];
    leases.load(rows, 1000);
    let ends = [a, b, c, d, e].map(|address| leases.get(address).unwrap().end_s);
    let unreserved_s = 99_000;
    assert_eq!(ends, [1600, 1000 + DECLINE_HOLD_S, FOREVER_S, unreserved_s, 100_000]);
}

#[test]
fn an_offer_to_a_bound_machine_leaves_its_lease_alone() {
    let subnet = small_pool(12);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let a = Ipv4Addr::new(192, 168, 4, 10);
    leases.apply(&bind(a, 1, 600), 0);
    leases.apply(&offer(a, 1, 120), 10);
    leases.apply(&LeaseChange::Forget { address: a, mac: mac(1) }, 11);
    leases.advance(300);
    assert_eq!(leases.get(a).unwrap().state, LeaseRowState::Bound);
    assert_eq!(leases.availability(a, mac(2), 300), AddressAvailability::Taken);
}

#[test]
fn reservations_routers_and_edges_are_never_chosen() {
    let reserved =
        Reservation { mac: mac(1), address: Ipv4Addr::new(192, 168, 4, 2), hostname: None };
    let pool =
        AddressPool { first: Ipv4Addr::new(192, 168, 4, 0), last: Ipv4Addr::new(192, 168, 4, 3) };
    let subnet = Subnet { pools: vec![pool], reservations: vec![reserved].into(), ..subnet() };
    let leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let three = Ipv4Addr::new(192, 168, 4, 3);
    for seed in 0..50 {
        assert_eq!(chosen(&leases, &subnet, mac(5), seed, &[]), Some(three));
    }
    assert_eq!(chosen(&leases, &subnet, mac(5), 0, &[three]), None, "nor an address of our own");
}

#[test]
fn a_lease_in_commit_is_given_to_nobody_else() {
    let subnet = small_pool(10);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let a = Ipv4Addr::new(192, 168, 4, 10);
    let changes = [bind(a, 1, 600)];
    leases.begin_commit(&changes, 77, 0);
    assert!(leases.is_committing(a, mac(1), 77) && !leases.is_committing(a, mac(1), 78));
    leases.advance(10_000);
    assert_eq!(chosen(&leases, &subnet, mac(2), 1, &[]), None, "however long the store takes");
    leases.finish_commit(&changes, 77, true, 10_000);
    assert!(!leases.is_committing(a, mac(1), 77));
    assert_eq!(leases.get(a).unwrap().state, LeaseRowState::Bound);
    leases.begin_commit(&changes, 79, 20_000);
    leases.finish_commit(&changes, 79, false, 20_000);
    let to_another = |now| leases.choose_address(&wanted(&subnet, 2), now);
    assert_eq!(
        [20_009, 20_010].map(to_another),
        [None, Some(a)],
        "it is an offer again, and no younger"
    );
    leases.advance(20_000 + OFFER_HOLD_S);
    assert_eq!(
        leases.availability(a, mac(2), 20_200),
        AddressAvailability::Remembered,
        "a failed commit binds nothing"
    );
}

#[test]
fn rows_of_the_store_come_back_in_their_states() {
    let subnet = small_pool(13);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let row = |last: u8, state, end_s| {
        let LeaseChange::Bind(lease) = bind(Ipv4Addr::new(192, 168, 4, last), last, end_s) else {
            unreachable!()
        };
        Lease { state, ..*lease }
    };
    let rows = [
        row(10, LeaseRowState::Bound, 900),
        row(11, LeaseRowState::Bound, 10),
        row(12, LeaseRowState::Declined, 900),
    ];
    leases.load(rows, 500);
    let [a, b, c, d] = [10, 11, 12, 13].map(|n| Ipv4Addr::new(192, 168, 4, n));
    assert_eq!(
        leases.availability(a, mac(10), 500),
        AddressAvailability::Own(LeaseRowState::Bound)
    );
    assert_eq!(leases.availability(b, mac(1), 500), AddressAvailability::Remembered);
    assert_eq!(
        leases.availability(c, mac(12), 500),
        AddressAvailability::Taken,
        "declined for its finder too"
    );
    assert_eq!(chosen(&leases, &subnet, mac(1), 0, &[]), Some(d));
    check(&leases, &subnet, 500);
}

#[test]
fn d27_what_a_machine_declined_counts_after_a_restart_while_the_address_is_kept_back() {
    const NOW: ClockSeconds = 1_000_000;
    let row = |last: u8, state, end_s| Lease { state, ..Lease::new_bound(at(last), mac(1), end_s) };
    for (state, left_s, counts) in [
        (LeaseRowState::Declined, 1, true),
        (LeaseRowState::Declined, DECLINE_HOLD_S, true),
        (LeaseRowState::Declined, 0, false),
        (LeaseRowState::Bound, 1, false),
        (LeaseRowState::Released, 1, false),
    ] {
        let mut leases = LeaseTable::new(&[small_pool(20)]);
        let others = (11..10 + DECLINES_PER_MACHINE_MAX as u8)
            .map(|n| row(n, LeaseRowState::Declined, NOW + 3000));
        leases.load(others.chain([row(10, state, NOW + left_s)]), NOW);
        assert_eq!(leases.is_silenced(mac(1), NOW), counts, "{state:?}, {left_s} s");
    }
}

#[test]
fn d52_a_lease_of_what_boots_is_remembered_and_no_offer_nor_a_lease_of_a_system() {
    let roles = [
        None,
        Some((FirmwareRole::System, None)),
        Some((FirmwareRole::System, Some(Arch::Bios))),
        Some((FirmwareRole::Pxe, None)),
    ];
    let of = |role: Option<(FirmwareRole, Option<Arch>)>| {
        role.map(|(role, arch)| Firmware { role, arch })
    };
    for (role, boots) in roles.into_iter().zip([false, false, true, true]) {
        let mut leases = LeaseTable::new(&[small_pool(20)]);
        let machine = Machine { firmware: of(role), ..machine(1) };
        let (address, circuit) = (at(10), Circuit::default());
        leases.apply(
            &LeaseChange::Offer { address, client_id: None, machine, until_s: 120, circuit },
            5,
        );
        assert_eq!(leases.booted_machines().next(), None, "{role:?} offered");
        let lease =
            Lease { firmware: of(role), start_s: 7, ..Lease::new_bound(address, mac(1), 600) };
        assert_eq!(lease.is_of_booting_machine(), boots, "{role:?}");
        leases.apply(&LeaseChange::Bind(Box::new(lease)), 7);
        assert_eq!(leases.booted_machines().next(), boots.then_some((mac(1), 7)), "{role:?}");
    }
}

#[test]
fn reconfigured_pools_keep_leases_and_give_only_new_addresses() {
    let mut leases = LeaseTable::new(&[small_pool(20)]);
    let a = Ipv4Addr::new(192, 168, 4, 10);
    leases.apply(&bind(a, 1, 900), 0);
    let first = Ipv4Addr::new(192, 168, 4, 30);
    let moved = Subnet { pools: vec![AddressPool { first, last: first }], ..subnet() };
    leases.reconfigure(std::slice::from_ref(&moved));
    assert!(leases.get(a).is_some() && !leases.is_in_pool(a));
    assert_eq!(chosen(&leases, &moved, mac(2), 5, &[]), Some(first));
}

#[test]
fn a_move_takes_each_row_over_once_and_says_when_all_are_there() {
    let mut leases = LeaseTable::new(&[small_pool(20)]);
    (10..17).for_each(|n| leases.apply(&bind(at(n), n, 900), 0));
    leases.begin_takeover(PoolLayout::new(&[small_pool(14)]));
    let mut told = Vec::new();
    let pieces = [3, 3, 1].map(|rows| leases.move_rows(rows, |_, address| told.push(address)));
    assert_eq!(pieces, [false, false, true]);
    assert_eq!(told, (10..17).map(at).collect::<Vec<_>>());
}

#[test]
fn a_move_that_is_dropped_has_changed_nothing_and_comes_back() {
    let mut leases = LeaseTable::new(&[subnet()]);
    leases.apply(&bind(Ipv4Addr::new(192, 168, 4, 10), 1, 900), 0);
    let before = leases.layout.clone();
    let wanted = PoolLayout::new(&[small_pool(29)]);
    leases.begin_takeover(wanted.clone());
    assert_eq!(leases.drop_move(), Some(wanted));
    assert_eq!((leases.drop_move(), leases.finish_move()), (None, None));
    assert_eq!(leases.layout, before);
}

/// Any order of changes keeps the indexes true: an address is free, under a timer, or in its
/// order; and so does a configuration that comes in pieces meanwhile.
#[test]
fn any_order_of_changes_keeps_the_table_sound() {
    let subnet = small_pool(29);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let (mut now, mut random) = (1000u64, 1u64);
    let mut begun: Vec<([LeaseChange; 1], u32)> = Vec::new();
    let mut next = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize
    };
    for step in 0..40_000 {
        let (n, address) =
            (next() as u8 % 40, Ipv4Addr::new(192, 168, 4, 10 + (next() % 20) as u8));
        let standing = leases.availability(address, mac(n), now);
        let given = standing != AddressAvailability::Taken;
        let circuit =
            Circuit { via: [CircuitKind::Segment, CircuitKind::Port][next() % 2], key: 7 };
        match next() % 11 {
            0 | 1 if given => {
                let machine = machine(n);
                leases.apply(
                    &LeaseChange::Offer {
                        address,
                        client_id: None,
                        machine,
                        until_s: now + 120,
                        circuit,
                    },
                    now,
                );
            }
            2 if given => {
                begun.push(([bind(address, n, now + 300)], step));
                leases.begin_commit(&begun.last().unwrap().0, step, now);
            }
            3 if !begun.is_empty() => {
                let (changes, xid) = begun.swap_remove(next() % begun.len());
                leases.finish_commit(&changes, xid, given, now);
            }
            4 => leases.apply(&LeaseChange::Release { address, mac: mac(n), end_s: now }, now),
            5 => leases.apply(
                &LeaseChange::Decline { address, mac: mac(n), until_s: now + DECLINE_HOLD_S },
                now,
            ),
            6 => leases.apply(&LeaseChange::Free { address }, now),
            7 => leases.apply(&LeaseChange::Forget { address, mac: mac(n) }, now),
            8 => leases.set_own_addresses(&[Ipv4Addr::new(192, 168, 4, 10 + (next() % 40) as u8)]),
            9 if next() % 9 == 0 => leases.begin_takeover(PoolLayout::new(&[small_pool(29)])),
            9 => {
                if leases.move_rows(3, |_, _| ()) && leases.next.is_some() {
                    let before = leases.finish_move().unwrap();
                    assert_eq!(before, leases.layout, "what came in pieces is what was there");
                }
            }
            _ => {
                now += next() as u64 % 60;
                leases.advance(now);
            }
        }
        check(&leases, &subnet, now);
    }
}

fn check(leases: &LeaseTable, subnet: &Subnet, now: ClockSeconds) {
    let held = || leases.rows.iter().flatten();
    assert_eq!(held().count(), leases.len());
    assert_eq!(leases.rows.len() - leases.vacant.len(), leases.len());
    assert_eq!(held().filter(|h| h.timer_s > 0).count(), leases.timers.len());
    let in_order =
        |h: &&LeaseTableEntry| h.spot != LayoutPlace::Live && leases.is_in_pool(h.lease.address);
    assert_eq!(held().filter(in_order).count(), leases.layout.count_ordered());
    assert!(
        held().all(|h| h.timer_s > 0 || matches!(h.spot, LayoutPlace::Ended(_))),
        "each address has one place"
    );
    let spots = |wanted: fn(&LayoutPlace) -> bool| held().filter(|h| wanted(&h.spot)).count();
    let counts = LeaseStateCounts {
        bound: spots(|spot| *spot == LayoutPlace::Live),
        offered: spots(|spot| matches!(spot, LayoutPlace::Offered(_))),
        ended: spots(|spot| matches!(spot, LayoutPlace::Ended(_))),
        kept_back: spots(|spot| matches!(spot, LayoutPlace::Declined(_))),
    };
    assert_eq!(
        (leases.counts(), counts.total()),
        (counts, leases.len()),
        "what is counted is what is there"
    );
    let in_pool = |h: &&LeaseTableEntry| leases.is_in_pool(h.lease.address);
    let used = leases.pool_use(subnet.network);
    assert_eq!(held().filter(in_pool).count(), used.addresses - used.free, "{used:?}");
    assert_eq!(
        held().filter(in_pool).filter(|h| h.spot == LayoutPlace::Live).count(),
        used.bound,
        "{used:?}"
    );
    assert_eq!(leases.offers.counts.values().sum::<usize>(), leases.offers.order.len());
    let named: usize = leases.by_mac.keys().map(|mac| leases.leases_of(*mac).count()).sum();
    assert_eq!(named, held().filter(|h| h.lease.state != LeaseRowState::Declined).count());
    assert!(leases.by_mac.keys().all(|mac| leases.leases_of(*mac).all(|lease| lease.mac == *mac)));
    let wanted = AddressRequest {
        network: subnet.network,
        mac: mac(200),
        circuit: Circuit::default(),
        seed: 9,
        ours: &[],
    };
    if let Some(address) = leases.choose_address(&wanted, now) {
        assert!(leases.is_in_pool(address) && !leases.is_written(address));
        let lease = leases.get(address);
        let runs = |lease: &Lease| lease.state == LeaseRowState::Bound && lease.end_s > now;
        assert!(!lease.is_some_and(runs), "a lease that runs is nobody else's");
        let all = leases.len() + usize::from(!leases.own.is_empty());
        assert!(lease.is_none() || all >= 20, "a held address only when none is free");
    }
}

/// Five machines, five addresses, and one that asks after them.
fn full(state: impl Fn(u8) -> LeaseChange) -> (Subnet, LeaseTable) {
    let subnet = small_pool(14);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    (10..15).for_each(|n| leases.apply(&state(n), u64::from(n)));
    (subnet, leases)
}

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 4, last)
}

fn wanted(subnet: &Subnet, n: u8) -> AddressRequest<'static> {
    AddressRequest {
        network: subnet.network,
        mac: mac(n),
        circuit: Circuit::default(),
        seed: 1,
        ours: &[],
    }
}

#[test]
fn with_nothing_free_the_oldest_offer_goes_when_it_is_ten_seconds_old() {
    let (subnet, mut leases) = full(|n| offer(at(n), n, u64::from(n) + OFFER_HOLD_S));
    assert_eq!(leases.choose_address(&wanted(&subnet, 1), 19), None, "younger than that");
    assert_eq!(leases.choose_address(&wanted(&subnet, 1), 20), Some(at(10)));
    leases.apply(&offer(at(10), 1, 20 + OFFER_HOLD_S), 20);
    assert_eq!(leases.choose_address(&wanted(&subnet, 2), 20), None, "the next is not so old");
    assert_eq!(leases.choose_address(&wanted(&subnet, 2), 21), Some(at(11)));
    let [first, second] = [10, 1].map(|n| leases.availability(at(10), mac(n), 21));
    assert_eq!(
        (first, second),
        (AddressAvailability::Free, AddressAvailability::Own(LeaseRowState::Offered)),
        "whoever takes it first has it"
    );
    leases.apply(&bind(at(10), 10, 900), 21);
    assert_eq!(leases.availability(at(10), mac(1), 21), AddressAvailability::Taken);
}

#[test]
fn a_flood_of_offers_keeps_nobody_out_and_takes_no_lease() {
    let subnet = small_pool(60);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    leases.apply(&bind(at(10), 10, 900), 0);
    for n in 11..=60 {
        leases.apply(&offer(at(n), n, OFFER_HOLD_S), 0);
    }
    let mut given = HashSet::new();
    for n in 100..150 {
        let address =
            leases.choose_address(&wanted(&subnet, n), 1).expect("so many offers are a flood");
        leases.apply(&offer(address, n, 1 + OFFER_HOLD_S), 1);
        assert!(given.insert(address) && address != at(10), "the oldest first");
    }
}

/// An offer that its machine has taken is none, though the store is slow.
#[test]
fn leases_that_are_being_written_are_no_flood_of_offers() {
    let (first, last) = (10, 10 + OFFERS_CROWD as u8);
    let subnet = small_pool(last);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    (first..last).for_each(|n| leases.begin_commit(&[bind(at(n), n, 900)], 7, 0));
    leases.apply(&offer(at(last), last, OFFER_HOLD_S), 0);
    let to_another = |now| leases.choose_address(&wanted(&subnet, 1), now);
    assert_eq!([9, 10].map(to_another), [None, Some(at(last))]);
}

#[test]
fn an_offer_to_a_machine_whose_lease_is_over_goes_like_any_other() {
    let subnet = small_pool(10);
    for offered_s in [60, 61] {
        let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
        leases.apply(&bind(at(10), 1, 60), 0);
        leases.advance(offered_s);
        leases.apply(&offer(at(10), 1, offered_s + OFFER_HOLD_S), offered_s);
        let to_another = |after_s| leases.choose_address(&wanted(&subnet, 2), offered_s + after_s);
        assert_eq!([9, 10].map(to_another), [None, Some(at(10))], "{offered_s}");
    }
}

/// A Pi 3 works with its offered address for a boot: it is the last to lose it.
#[test]
fn other_offers_go_before_those_of_a_pi() {
    let pi = Machine {
        firmware: Some(Firmware { role: FirmwareRole::RaspberryPi, arch: None }),
        ..machine(10)
    };
    let (subnet, leases) = full(|n| match n {
        10 => LeaseChange::Offer {
            address: at(n),
            client_id: None,
            machine: pi,
            until_s: 10 + 600,
            circuit: Circuit::default(),
        },
        _ => offer(at(n), n, u64::from(n) + OFFER_HOLD_S),
    });
    assert_eq!(leases.choose_address(&wanted(&subnet, 1), 60), Some(at(11)));
}

#[test]
fn with_nothing_else_left_the_address_that_was_declined_first_goes_and_not_to_who_declined_it() {
    let (subnet, mut leases) = full(|n| offer(at(n), n, 1000));
    for n in 10..15 {
        leases.apply(
            &LeaseChange::Decline { address: at(n), mac: mac(n), until_s: u64::from(n) + 3600 },
            20,
        );
    }
    assert_eq!(leases.choose_address(&wanted(&subnet, 1), 21), Some(at(10)));
    assert_eq!(leases.choose_address(&wanted(&subnet, 10), 21), Some(at(11)));
    leases.apply(&offer(at(10), 1, 200), 21);
    assert_eq!(leases.choose_address(&wanted(&subnet, 2), 21), Some(at(11)));
}

/// A large pool, and two ports behind the relay agent of it.
fn behind_ports() -> (Subnet, [Circuit; 2]) {
    let network = Ipv4Network { address: Ipv4Addr::new(10, 0, 0, 0), prefix: 16 };
    let pools =
        vec![AddressPool { first: Ipv4Addr::new(10, 0, 1, 0), last: Ipv4Addr::new(10, 0, 9, 255) }];
    let relay = Ipv4Addr::new(10, 0, 0, 1);
    (
        Subnet { network, pools, ..subnet() },
        [b"e1", b"e2"].map(|id| Circuit::new(network, relay, Some(id))),
    )
}

#[test]
fn an_offer_behind_a_circuit_counts_until_it_is_taken_or_lapses() {
    let (subnet, [circuit, _]) = behind_ports();
    for is_taken in [true, false] {
        let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
        for n in 0..=OFFERS_PER_CIRCUIT_MAX as u8 {
            let is_last = usize::from(n) == OFFERS_PER_CIRCUIT_MAX;
            let now = if is_last { OFFER_HOLD_S } else { 0 };
            leases.advance(now);
            let address = leases
                .choose_address(&AddressRequest { circuit, ..wanted(&subnet, n) }, now)
                .unwrap();
            assert_eq!(leases.get(address), None, "machine {n} gets a free one, taken: {is_taken}");
            let machine = machine(n);
            let until_s = OFFER_HOLD_S + now;
            leases.apply(
                &LeaseChange::Offer { address, client_id: None, machine, until_s, circuit },
                now,
            );
            if is_taken {
                leases.apply(&bind(address, n, 900), now);
            }
        }
        assert_eq!(leases.len(), if is_taken { OFFERS_PER_CIRCUIT_MAX + 1 } else { 1 });
    }
}

#[test]
fn offers_behind_one_circuit_are_limited_and_the_next_takes_the_oldest_of_them() {
    let (subnet, circuits) = behind_ports();
    let network = subnet.network;
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    let mut first = None;
    for n in 0..2 * OFFERS_PER_CIRCUIT_MAX {
        let mac = Mac([2, 0, 0, 0, (n >> 8) as u8, n as u8]);
        let wanted =
            AddressRequest { network, mac, circuit: circuits[0], seed: n as u64, ours: &[] };
        let now = 100 + n as u64 / 100;
        let address = leases.choose_address(&wanted, now).unwrap();
        first.get_or_insert(address);
        let machine = Machine { mac, uuid: None, firmware: None };
        leases.apply(
            &LeaseChange::Offer {
                address,
                client_id: None,
                machine,
                until_s: now + 120,
                circuit: circuits[0],
            },
            now,
        );
        assert_eq!(
            leases.len(),
            OFFERS_PER_CIRCUIT_MAX.min(n + 1),
            "each has its own until there are too many"
        );
    }
    let elsewhere =
        AddressRequest { network, mac: mac(1), circuit: circuits[1], seed: 1, ours: &[] };
    let free = leases.choose_address(&elsewhere, 100).unwrap();
    assert!(leases.get(free).is_none(), "another circuit is not concerned");
    let no_relay = Circuit::new(network, Ipv4Addr::UNSPECIFIED, Some(b"e1"));
    assert_eq!(no_relay.offers_max(), None, "a client's own word for a circuit is nothing");
}

#[test]
fn a_lease_runs_only_where_it_is_and_until_it_ends() {
    let mut leases = LeaseTable::new(&[small_pool(20)]);
    let elsewhere = Ipv4Network { address: Ipv4Addr::new(192, 168, 5, 0), prefix: 24 };
    assert!(!leases.is_leased(subnet().network, 0));
    leases.apply(&bind(at(10), 1, 100), 0);
    leases.apply(&offer(at(11), 2, 200), 0);
    let tiny = Ipv4Network { address: at(10), prefix: 32 };
    for network in [subnet().network, tiny] {
        assert!(leases.is_leased(network, 99) && !leases.is_leased(network, 100), "{network}");
    }
    assert!(!leases.is_leased(elsewhere, 50));
    assert!(
        !leases.is_leased(Ipv4Network { address: at(11), prefix: 32 }, 50),
        "an offer is no lease"
    );
    leases.apply(&LeaseChange::Release { address: at(10), mac: mac(1), end_s: 50 }, 50);
    assert!(!leases.is_leased(subnet().network, 50));
}

#[test]
fn a_machine_has_its_live_lease_before_its_offer_before_what_it_had() {
    let network = subnet().network;
    let mut leases = LeaseTable::new(&[small_pool(30)]);
    let own = |leases: &LeaseTable, now| {
        leases.find_client_lease(mac(1), network, now).map(|lease| lease.address)
    };
    leases.apply(&bind(at(10), 1, 100), 0);
    leases.apply(&bind(at(11), 1, 90), 0);
    assert_eq!(own(&leases, 95), Some(at(10)), "live before ended");
    assert_eq!(own(&leases, 100), Some(at(10)), "of two ended the later");
    leases.apply(&offer(at(12), 1, 99), 0);
    assert_eq!(own(&leases, 95), Some(at(10)), "live before offered");
    assert_eq!(own(&leases, 100), Some(at(12)), "offered before ended, whichever ends later");
    leases.apply(&LeaseChange::Release { address: at(10), mac: mac(1), end_s: 1000 }, 10);
    assert_eq!(own(&leases, 95), Some(at(12)), "a released lease is not live");
    assert_eq!(own(&leases, 80), Some(at(11)));
}

#[test]
fn d37_a_system_has_the_lease_that_it_named_itself_for_before_one_that_ends_later() {
    let mut leases = LeaseTable::new(&[small_pool(30)]);
    for (last, id, end_s) in
        [(10, Some(b"a".to_vec()), 100), (11, None, 200), (12, Some(b"b".to_vec()), 300)]
    {
        let lease = Lease { client_id: id, ..Lease::new_bound(at(last), mac(1), end_s) };
        leases.apply(&LeaseChange::Bind(Box::new(lease)), 0);
    }
    let own = |system: Option<&[u8]>| {
        leases
            .find_client_lease(ClientIdentity { mac: mac(1), system }, subnet().network, 50)
            .map(|lease| lease.address)
    };
    assert_eq!(own(Some(b"a")), Some(at(10)));
    assert_eq!(own(Some(b"c")), Some(at(11)), "what the boot had, and no other system's");
    assert_eq!(own(None), Some(at(12)), "for the machine as a whole the last to end");
}

#[test]
fn what_one_machine_had_is_bounded_and_what_it_has_is_not() {
    let mut leases = LeaseTable::new(&[small_pool(90)]);
    for n in 10..80 {
        leases.apply(&bind(at(n), 1, u64::from(n)), u64::from(n) - 1);
        leases.advance(u64::from(n));
    }
    assert_eq!(leases.leases_of(mac(1)).count(), ENDED_PER_MACHINE_MAX);
    assert!(leases.leases_of(mac(1)).all(|lease| lease.end_s > 70), "the latest are kept");
    (10..60).for_each(|n| leases.apply(&bind(at(n), 1, 1000), 80));
    assert!(leases.leases_of(mac(1)).count() >= 50);
}

#[test]
fn an_hour_in_which_all_leases_end_costs_a_call_little() {
    let rows = LAPSE_ROWS_MAX as u32 * 3 + 5;
    let mut leases = LeaseTable::new(&[]);
    for n in 0..rows {
        let LeaseChange::Bind(lease) = bind(Ipv4Addr::from(0x0a00_0000 + n), 0, 100) else {
            unreachable!()
        };
        let [_, _, a, b] = n.to_be_bytes();
        leases.load([Lease { mac: Mac([2, 0, 0, 0, a, b]), ..*lease }], 0);
    }
    assert!(!leases.advance(99));
    let calls = (0..10).take_while(|_| leases.advance(100)).count();
    assert_eq!((calls, leases.timers.len()), (3, 0));
}

#[test]
fn machines_that_booted_are_remembered_the_latest_first() {
    let mut booted = BootedMachines::default();
    let name = |n: usize| Mac([2, 0, 0, (n >> 16) as u8, (n >> 8) as u8, n as u8]);
    booted.add(name(0), 1);
    (1..=MACHINES_MAX).for_each(|n| {
        booted.add(name(0), 2 * n as u64 + 1);
        booted.add(name(n), 2 * n as u64);
    });
    assert_eq!((booted.seen.len(), booted.order.len()), (MACHINES_MAX, MACHINES_MAX));
    assert!(booted.seen.contains_key(&name(0)) && booted.seen.contains_key(&name(MACHINES_MAX)));
    assert!(!booted.seen.contains_key(&name(1)), "the one not heard of longest goes");
    let mut booted = BootedMachines::default();
    for (seen_s, latest_s) in [(100, 100), (50, 100), (100, 100), (150, 150)] {
        booted.add(name(0), seen_s);
        assert_eq!(booted.seen[&name(0)], latest_s, "older word is no news");
        assert_eq!(booted.order, BTreeSet::from([(latest_s, name(0))]));
    }
}

#[test]
fn what_is_freed_is_free_and_what_is_being_written_is_not() {
    let subnet = small_pool(10);
    let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
    leases.apply(&bind(at(10), 1, 600), 0);
    let free = [LeaseChange::Free { address: at(10) }];
    leases.begin_commit(&free, 0, 1);
    assert!(leases.get(at(10)).is_some(), "durably first");
    let renewed = [bind(at(10), 1, 900)];
    leases.begin_commit(&renewed, 7, 1);
    leases.finish_commit(&free, 0, true, 1);
    assert_eq!(
        leases.availability(at(10), mac(2), 1),
        AddressAvailability::Taken,
        "asked for since"
    );
    leases.finish_commit(&renewed, 7, true, 1);
    leases.begin_commit(&free, 0, 2);
    leases.finish_commit(&free, 0, false, 2);
    assert!(leases.get(at(10)).is_some());
    leases.finish_commit(&free, 0, true, 2);
    assert_eq!(chosen(&leases, &subnet, mac(2), 0, &[]), Some(at(10)));
}

/// A million rows shall fit into a small machine.
#[test]
fn a_row_is_small() {
    assert!(
        size_of::<Option<LeaseTableEntry>>() <= 144,
        "{}",
        size_of::<Option<LeaseTableEntry>>()
    );
}
