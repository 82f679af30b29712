//! Tests of leases on a host whose wall clock is wrong, over restarts and boots.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::{at, bind, mac, small_pool, wanted};
use crate::dhcp::lease::{ClockSeconds, Lease, LeaseChange, LeaseRowState, LeaseTable};
use crate::dhcp::subnet::Subnet;
use crate::model::lease_clock::{ClockMark, ClockReading};
use crate::model::random::SeededRandom;

/// A host whose wall clock says anything, with a server that may be killed at any moment.
struct Host {
    subnet: Subnet,
    /// What clients' clocks say.
    truth_s: u64,
    /// For how long a server has run in all.
    ran_s: u64,
    /// What the kernel says, whoever sets its wall clock.
    reading: ClockReading,
    boots: u64,
    /// The store.
    rows: HashMap<Ipv4Addr, Lease>,
    mark: Option<ClockMark>,
    /// The server's process, which has kept the clock.
    leases: LeaseTable,
    has_marked: bool,
    ahead_s: i64,
    /// Who was told to have which address until when, and what the server had run until then
    /// and the host been started.
    promised: HashMap<Ipv4Addr, (u8, u64, u64, u64)>,
}

const MARKED_EVERY_S: u64 = 60;

impl Host {
    fn new(subnet: Subnet) -> Self {
        let mut host = Self {
            subnet,
            truth_s: 5_000_000,
            ran_s: 0,
            reading: ClockReading { boot: Some("0".to_owned()), since_boot_s: 40, wall_s: WALL_S },
            boots: 0,
            rows: HashMap::new(),
            mark: None,
            leases: LeaseTable::default(),
            has_marked: false,
            ahead_s: 0,
            promised: HashMap::new(),
        };
        host.start();
        host
    }

    fn now(&self) -> ClockSeconds {
        u64::try_from(self.reading.since_boot_s + self.ahead_s).unwrap()
    }

    fn pass(&mut self, seconds: u64) {
        self.truth_s += seconds;
        self.reading.since_boot_s += seconds as i64;
        self.reading.wall_s += seconds as i64;
    }

    /// The server runs so long.
    fn run(&mut self, seconds: u64) {
        self.pass(seconds);
        self.ran_s += seconds;
        self.keep_mark();
    }

    /// With the first row that is kept, at the latest, and now and then.
    fn keep_mark(&mut self) {
        let is_due =
            self.mark.as_ref().is_none_or(|mark| mark.seen_s + MARKED_EVERY_S <= self.now());
        if self.has_marked && !is_due {
            return;
        }
        self.has_marked = true;
        let ClockReading { boot, wall_s, .. } = self.reading.clone();
        let mark =
            ClockMark { boot: boot.unwrap(), ahead_s: self.ahead_s, seen_s: self.now(), wall_s };
        self.mark = Some(mark);
    }

    /// After a stop and after a kill: a server that ends keeps nothing more.
    fn start(&mut self) {
        self.ahead_s = self.reading.resume(self.mark.as_ref());
        self.has_marked = false;
        self.leases = LeaseTable::new(std::slice::from_ref(&self.subnet));
        self.leases.load(self.rows.values().cloned(), self.now());
    }

    /// Another boot, whose wall clock says anything.
    fn boot(&mut self, off_s: u64, wall_s: i64) {
        self.pass(off_s);
        self.boots += 1;
        let boot = Some(self.boots.to_string());
        self.reading = ClockReading { boot, since_boot_s: (self.boots % 90) as i64, wall_s };
        self.start();
    }

    /// The machine asks for a lease, and has it if the answer is an address.
    fn ask(&mut self, n: u8, lease_s: u64) -> Option<Ipv4Addr> {
        let now = self.now();
        self.leases.advance(now);
        let runs = |lease: &&Lease| lease.state == LeaseRowState::Bound && lease.end_s > now;
        let own = self
            .leases
            .find_client_lease(mac(n), self.subnet.network, now)
            .filter(runs)
            .map(|lease| lease.address);
        let address = own.or_else(|| self.leases.choose_address(&wanted(&self.subnet, n), now))?;
        let LeaseChange::Bind(lease) = bind(address, n, now + lease_s) else { unreachable!() };
        let lease = Lease { start_s: now, ..*lease };
        self.rows.insert(address, lease.clone());
        self.keep_mark();
        self.leases.apply(&LeaseChange::Bind(Box::new(lease)), now);
        let promise = (n, self.truth_s + lease_s, self.ran_s + lease_s, self.boots);
        if let Some((holder, until_s, ..)) = self.promised.insert(address, promise) {
            assert!(
                holder == n || until_s <= self.truth_s,
                "{address} of {holder} is given to {n}"
            );
        }
        Some(address)
    }

    /// No lease outlasts what its machine was told by more than what is not known of each boot.
    fn check(&self) {
        let now = self.now();
        for (address, (_, _, until_ran_s, boots)) in &self.promised {
            let ends_s = self.leases.get(*address).map_or(0, |lease| lease.end_s);
            let unknown_s = (self.boots - boots) * MARKED_EVERY_S;
            let left_s = (until_ran_s + unknown_s).saturating_sub(self.ran_s);
            assert!(ends_s.saturating_sub(now) <= left_s, "{address} has {} s left", ends_s - now);
        }
    }
}

const WALL_S: i64 = 1_000_000_000;
const YEAR_S: i64 = 366 * 86_400;
const STEPS_S: [i64; 8] = [-30 * YEAR_S, -YEAR_S, -7200, -60, 60, 7200, YEAR_S, 90 * YEAR_S];

/// Each step of the wall clock, while the server runs or while it does not, before and after a
/// restart, a kill and a boot.
#[test]
fn no_step_of_the_wall_clock_ends_or_prolongs_a_lease_over_restarts_and_boots() {
    for (first, second) in STEPS_S.iter().flat_map(|first| STEPS_S.map(|second| (*first, second))) {
        for is_boot in [false, true] {
            let mut host = Host::new(small_pool(10));
            assert_eq!(host.ask(1, 600), Some(at(10)));
            host.run(5);
            host.reading.wall_s += first;
            assert_eq!(host.ask(2, 600), None);
            if is_boot {
                let wall_s = host.reading.wall_s + second;
                host.boot(200, wall_s);
            } else {
                host.reading.wall_s += second;
                host.pass(200);
                host.start();
            }
            assert_eq!(host.ask(2, 600), None, "{first} {second} {is_boot}");
            host.check();
            host.reading.wall_s -= first;
            host.run(394);
            assert_eq!(host.ask(2, 600), None, "{first} {second} {is_boot}");
            // What passed while another boot had not begun is not known.
            host.run(if is_boot { 201 + 5 } else { 1 });
            assert_eq!(host.ask(2, 600), Some(at(10)), "{first} {second} {is_boot}");
            host.check();
        }
    }
}

#[test]
fn a_lease_has_one_holder_and_ends_through_any_order_of_steps_restarts_and_boots() {
    for seed in 0..300 {
        let mut random = SeededRandom::new(seed);
        let mut host = Host::new(small_pool(12));
        let step_s = |random: &mut SeededRandom| {
            STEPS_S[random.below(8) as usize] + random.below(100) as i64
        };
        for _ in 0..200 {
            match random.below(8) {
                0 => host.reading.wall_s = WALL_S + step_s(&mut random),
                1 => {
                    host.pass(random.below(700));
                    host.start();
                }
                2 => host.boot(random.below(1000), WALL_S + step_s(&mut random)),
                3 => host.run(random.below(700)),
                _ => {
                    host.run(random.below(20));
                    host.ask(random.below(6) as u8, 60 + random.below(600));
                }
            }
            host.check();
        }
        host.run(700);
        assert!(
            host.ask(77, 60).is_some(),
            "seed {seed}: a pool whose leases are over gives addresses"
        );
    }
}
