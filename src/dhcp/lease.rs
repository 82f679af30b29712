//! The lease table in memory: a state machine per address, found by address and by machine. Time comes in as unix seconds.
//!
//! | state | enters on | leaves on |
//! |---|---|---|
//! | FREE | start, lapsed offer, end of quarantine | offer |
//! | OFFERED | `Change::Offer` | bind; another server chosen; the hold is over |
//! | BOUND | `Change::Bind`, durable first | its end, release, decline |
//! | EXPIRED | the end of a lease, `Change::Release` | the same machine binds again; taken, oldest first, when nothing is free |
//! | DECLINED | `Change::Decline` | its timer |

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use super::classify::{hash, says_boot};
use super::limits::{MACHINES_MAX, OFFER_HOLD_S};
use super::pool::FreeMap;
use super::subnet::{Network, Subnet};
use crate::bindings::Binding;
use crate::boot::machine::{Firmware, Mac, Machine, Uuid};

/// Unix seconds.
pub type Time = u64;

/// One lease as the durable store keeps it: one row per address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub mac: Mac,
    /// Option 61, where it says more than the hardware address: an alias, never the key (D-38).
    pub client_id: Option<Vec<u8>>,
    pub uuid: Option<Uuid>,
    /// The class of the last boot stage; an installed system does not overwrite it.
    pub firmware: Option<Firmware>,
    pub host_name: Option<String>,
    pub state: State,
    pub start_s: Time,
    /// End of the lease, of the offer, or of the quarantine.
    pub end_s: Time,
}

impl Lease {
    /// True where the row is of a machine that boots from the network: the store remembers the machine for longer.
    pub fn is_of_booting_machine(&self) -> bool {
        self.firmware.is_some_and(says_boot)
    }
}

/// What a row says of its address. EXPIRED is `Bound` whose end is past, or `Released`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never durable.
    Offered,
    Bound,
    Released,
    Declined,
}

/// What a decision does to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Hold the address for the machine until then.
    Offer {
        address: Ipv4Addr,
        machine: Machine,
        until_s: Time,
    },
    /// The lease of an ACK: durable before the ACK leaves.
    Bind(Box<Lease>),
    Release {
        address: Ipv4Addr,
        mac: Mac,
        end_s: Time,
    },
    Decline {
        address: Ipv4Addr,
        mac: Mac,
        until_s: Time,
    },
    /// The client took another server's offer.
    Forget {
        address: Ipv4Addr,
        mac: Mac,
    },
}

impl Change {
    /// True for changes that the store keeps.
    pub fn is_durable(&self) -> bool {
        match self {
            Self::Bind(_) | Self::Release { .. } | Self::Decline { .. } => true,
            Self::Offer { .. } | Self::Forget { .. } => false,
        }
    }

    pub fn address(&self) -> Ipv4Addr {
        match self {
            Self::Bind(lease) => lease.address,
            Self::Offer { address, .. }
            | Self::Release { address, .. }
            | Self::Decline { address, .. }
            | Self::Forget { address, .. } => *address,
        }
    }
}

/// How an address stands to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody holds or remembers it.
    Free,
    /// The machine's own: offered, bound, or remembered from before.
    Own(State),
    /// Another machine's, whose lease is over.
    Remembered,
    /// Another machine's now, declined, or being committed for another.
    Taken,
}

/// All leases and offers. Bounded by the addresses of the pools and reservations, whatever clients send.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    held: HashMap<u32, Held>,
    by_mac: HashMap<Mac, Vec<u32>>,
    /// Machines that booted from the network once, whoever has their address now.
    booted: HashSet<Mac>,
    /// By first address; they do not overlap.
    pools: Vec<FreeMap>,
    /// Given to one machine only, or to nobody.
    set_aside: BTreeSet<u32>,
    /// (when an address next changes state by itself, address)
    timers: BTreeSet<(Time, u32)>,
    /// (index of the pool, end of the lease, address) of EXPIRED addresses, oldest first.
    remembered: BTreeSet<(usize, Time, u32)>,
    committing: HashMap<u32, Vec<(Mac, u32)>>,
}

#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    /// An offer on top of a lease: a bound machine may ask again at each boot stage.
    offered_until_s: Time,
    timer_s: Option<Time>,
    remembered: Option<(usize, Time)>,
}

impl Leases {
    /// An empty table for these subnets.
    pub fn new(subnets: &[Subnet]) -> Self {
        let mut leases = Self::default();
        leases.reconfigure(subnets, 0);
        leases
    }

    /// Takes over the pools of a new configuration. Leases outside of it are kept, but no longer given.
    pub fn reconfigure(&mut self, subnets: &[Subnet], now: Time) {
        self.set_aside = set_aside(subnets);
        self.pools = pools(subnets);
        for &address in self.set_aside.iter().chain(self.held.keys()) {
            if let Some(pool) = self.pools.iter_mut().find(|pool| pool.contains(address)) {
                pool.set(address, false);
            }
        }
        self.remembered.clear();
        let addresses: Vec<u32> = self.held.keys().copied().collect();
        for address in addresses {
            if let Some(held) = self.held.get_mut(&address) {
                held.remembered = None;
            }
            self.settle(address, now);
        }
    }

    /// Takes the durable rows over at the start. A row of an unknown pool is kept and simply never offered.
    pub fn load(&mut self, rows: impl IntoIterator<Item = Lease>, now: Time) {
        for lease in rows {
            self.insert(Held { lease, offered_until_s: 0, timer_s: None, remembered: None }, now);
        }
    }

    /// Takes the machines over that the store remembers to have booted from the network.
    pub fn load_machines(&mut self, machines: impl IntoIterator<Item = Mac>) {
        machines.into_iter().for_each(|mac| self.remember(mac));
    }

    /// True for a machine whose firmware or loader had a lease at any time, or has an offer now.
    pub(super) fn has_booted(&self, mac: Mac) -> bool {
        let addresses = self.by_mac.get(&mac).into_iter().flatten();
        let offered = || addresses.filter_map(|address| self.held.get(address)?.lease.firmware).any(says_boot);
        self.booted.contains(&mac) || offered()
    }

    /// Lets offers lapse, leases expire and quarantines end. Call it with the time before `decide`; it costs what has ended.
    pub fn advance(&mut self, now: Time) {
        while let Some(&(at, address)) = self.timers.first() {
            if at > now {
                return;
            }
            self.settle(address, now);
            // An address that settles into the same instant would turn here for ever.
            self.timers.remove(&(at, address));
        }
    }

    /// Carries a change out. Volatile ones at once; `Bind` only after its commit (see `begin_commit`).
    pub fn apply(&mut self, change: &Change, now: Time) {
        match change {
            Change::Offer { address, machine, until_s } => self.offer(*address, *machine, *until_s, now),
            Change::Bind(lease) => {
                let held = Held { lease: (**lease).clone(), offered_until_s: 0, timer_s: None, remembered: None };
                self.insert(held, now);
            }
            Change::Release { address, mac, end_s } => {
                self.change(*address, *mac, now, |held| {
                    (held.lease.state, held.lease.end_s, held.offered_until_s) = (State::Released, *end_s, 0);
                });
            }
            Change::Decline { address, mac, until_s } => self.decline(*address, *mac, *until_s, now),
            Change::Forget { address, mac } => self.change(*address, *mac, now, |held| held.offered_until_s = 0),
        }
    }

    /// Takes a decision's changes in: applies all but `Bind`, which waits for the store while its address is held for the
    /// machine. A repeat of the same REQUEST finds the commit pending and is not answered twice.
    pub fn begin_commit(&mut self, changes: &[Change], xid: u32, now: Time) {
        for change in changes {
            let Change::Bind(lease) = change else {
                self.apply(change, now);
                continue;
            };
            let machine = Machine { mac: lease.mac, uuid: lease.uuid, firmware: lease.firmware };
            self.offer(lease.address, machine, now.saturating_add(OFFER_HOLD_S), now);
            self.committing.entry(u32::from(lease.address)).or_default().push((lease.mac, xid));
        }
    }

    /// The store has synced the changes (or failed to): binds what was waiting. After a failure the offer lapses by itself.
    pub fn finish_commit(&mut self, changes: &[Change], xid: u32, committed: bool, now: Time) {
        for change in changes {
            let Change::Bind(lease) = change else { continue };
            let address = u32::from(lease.address);
            if let Some(waiting) = self.committing.get_mut(&address) {
                if let Some(at) = waiting.iter().position(|&pair| pair == (lease.mac, xid)) {
                    waiting.swap_remove(at);
                }
                if waiting.is_empty() {
                    self.committing.remove(&address);
                }
            }
            if committed {
                self.apply(change, now);
            }
        }
    }

    /// True while a lease of this address is on its way to the store: whatever else is said of it would be overtaken.
    pub(super) fn is_written(&self, address: Ipv4Addr) -> bool {
        self.committing.contains_key(&u32::from(address))
    }

    /// True where a lease in this network has not ended.
    pub fn is_leased(&self, network: Network, now: Time) -> bool {
        self.iter().any(|lease| network.contains(lease.address) && lease.state == State::Bound && lease.end_s > now)
    }

    /// What boot cores should know of this address: the machine that holds it, also by offer (a Pi 3 never sends REQUEST).
    pub fn binding(&self, address: Ipv4Addr) -> Option<Binding> {
        let held = self.held.get(&u32::from(address)).filter(|held| held.lease.state != State::Declined)?;
        let lease = &held.lease;
        let machine = Machine { mac: lease.mac, uuid: lease.uuid, firmware: lease.firmware };
        Some(Binding { machine, lease_end_s: lease.end_s.max(held.offered_until_s) })
    }

    /// Every lease and offer, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.held.values().map(|held| &held.lease)
    }

    /// The lease or offer on this address.
    pub fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.held.get(&u32::from(address)).map(|held| &held.lease)
    }

    /// Addresses that are held, remembered or declined.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// True while the ACK to this very REQUEST waits for the store.
    pub(super) fn is_committing(&self, address: Ipv4Addr, mac: Mac, xid: u32) -> bool {
        self.committing.get(&u32::from(address)).is_some_and(|waiting| waiting.contains(&(mac, xid)))
    }

    pub(super) fn standing(&self, address: Ipv4Addr, mac: Mac, now: Time) -> Standing {
        let Some(held) = self.held.get(&u32::from(address)) else { return Standing::Free };
        match held.lease.state {
            State::Declined if held.lease.end_s > now => Standing::Taken,
            State::Declined => Standing::Free,
            state if held.lease.mac == mac => Standing::Own(state),
            _ if self.is_occupied(u32::from(address), held, now) => Standing::Taken,
            State::Offered => Standing::Free,
            _ => Standing::Remembered,
        }
    }

    /// The machine's address in this network: a live lease before an offer before one remembered, the latest first.
    pub(super) fn own(&self, mac: Mac, network: Network, now: Time) -> Option<&Lease> {
        let addresses = self.by_mac.get(&mac)?;
        let leases = addresses.iter().filter_map(|address| self.held.get(address));
        leases.filter(|held| network.contains(held.lease.address)).map(|held| &held.lease).max_by_key(|lease| {
            (lease.state == State::Bound && lease.end_s > now, lease.state == State::Offered, lease.end_s)
        })
    }

    /// True where the address is in a pool and not set aside.
    pub(super) fn is_in_pool(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        !self.set_aside.contains(&address) && self.pools.iter().any(|pool| pool.contains(address))
    }

    /// An address for a machine that has none here: free ones first, by a hash of the machine and the seed; then the one whose
    /// lease ended longest ago. Never one of `ours`.
    pub(super) fn choose(&self, subnet: &Subnet, mac: Mac, seed: u64, ours: &[Ipv4Addr]) -> Option<Ipv4Addr> {
        let start = hash(&mac.0) ^ seed;
        let pools = || {
            let within = |pool: &FreeMap| subnet.network.contains(Ipv4Addr::from(pool.first()));
            self.pools.iter().enumerate().filter(move |(_, pool)| within(pool))
        };
        let free = pools().find_map(|(_, pool)| {
            // A few steps are enough: a host has a handful of addresses on a segment.
            (0..=ours.len() as u64).filter_map(|n| pool.next(start.wrapping_add(n))).find(|a| !ours.contains(a))
        });
        free.or_else(|| {
            let oldest = pools().filter_map(|(index, _)| {
                let mut ended = self.remembered.range((index, 0, 0)..(index + 1, 0, 0));
                ended.find(|(_, _, address)| !self.committing.contains_key(address))
            });
            oldest.min_by_key(|(_, end_s, _)| *end_s).map(|&(_, _, address)| Ipv4Addr::from(address))
        })
    }

    fn remember(&mut self, mac: Mac) {
        if self.booted.len() < MACHINES_MAX {
            self.booted.insert(mac);
        }
    }

    fn is_occupied(&self, address: u32, held: &Held, now: Time) -> bool {
        let leased = matches!(held.lease.state, State::Bound | State::Declined) && held.lease.end_s > now;
        leased || held.offered_until_s > now || self.committing.contains_key(&address)
    }

    fn offer(&mut self, address: Ipv4Addr, machine: Machine, until_s: Time, now: Time) {
        let key = u32::from(address);
        if let Some(held) = self.held.get_mut(&key)
            && held.lease.mac == machine.mac
            && held.lease.state != State::Declined
        {
            held.offered_until_s = held.offered_until_s.max(until_s);
            if held.lease.state == State::Offered {
                held.lease.end_s = held.offered_until_s;
            }
            return self.settle(key, now);
        }
        let lease = Lease {
            address,
            mac: machine.mac,
            client_id: None,
            uuid: machine.uuid,
            firmware: machine.firmware,
            host_name: None,
            state: State::Offered,
            start_s: now,
            end_s: until_s,
        };
        self.insert(Held { lease, offered_until_s: until_s, timer_s: None, remembered: None }, now);
    }

    /// The machine no longer counts as the holder: it will be given another address.
    fn decline(&mut self, address: Ipv4Addr, mac: Mac, until_s: Time, now: Time) {
        let key = u32::from(address);
        let Some(mut held) = self.held.get(&key).filter(|held| held.lease.mac == mac).cloned() else { return };
        (held.lease.state, held.lease.end_s, held.offered_until_s) = (State::Declined, until_s, 0);
        self.insert(held, now);
    }

    fn change(&mut self, address: Ipv4Addr, mac: Mac, now: Time, with: impl FnOnce(&mut Held)) {
        let key = u32::from(address);
        let is_its_own = |held: &&mut Held| held.lease.mac == mac && held.lease.state != State::Declined;
        if let Some(held) = self.held.get_mut(&key).filter(is_its_own) {
            with(held);
            self.settle(key, now);
        }
    }

    fn insert(&mut self, held: Held, now: Time) {
        let key = u32::from(held.lease.address);
        self.remove(key);
        if held.lease.state != State::Offered && held.lease.firmware.is_some_and(says_boot) {
            self.remember(held.lease.mac);
        }
        if held.lease.state != State::Declined {
            self.by_mac.entry(held.lease.mac).or_default().push(key);
        }
        self.held.insert(key, held);
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.contains(key)) {
            pool.set(key, false);
        }
        self.settle(key, now);
    }

    fn remove(&mut self, key: u32) {
        let Some(held) = self.held.remove(&key) else { return };
        self.unindex(key, &held);
        if let Some(addresses) = self.by_mac.get_mut(&held.lease.mac) {
            addresses.retain(|&address| address != key);
            if addresses.is_empty() {
                self.by_mac.remove(&held.lease.mac);
            }
        }
        if !self.set_aside.contains(&key)
            && let Some(pool) = self.pools.iter_mut().find(|pool| pool.contains(key))
        {
            pool.set(key, true);
        }
    }

    fn unindex(&mut self, key: u32, held: &Held) {
        if let Some(at) = held.timer_s {
            self.timers.remove(&(at, key));
        }
        if let Some((pool, end_s)) = held.remembered {
            self.remembered.remove(&(pool, end_s, key));
        }
    }

    /// Puts an address where its state belongs at this time: under a timer, among the remembered, or back to the free.
    fn settle(&mut self, key: u32, now: Time) {
        let Some(held) = self.held.get(&key).cloned() else { return };
        self.unindex(key, &held);
        let occupied = self.is_occupied(key, &held, now);
        if !occupied && matches!(held.lease.state, State::Offered | State::Declined) {
            return self.remove(key);
        }
        let timer_s = occupied.then(|| {
            let leased = if held.lease.state == State::Released { 0 } else { held.lease.end_s };
            let next = [leased, held.offered_until_s].into_iter().filter(|&at| at > now).min();
            next.unwrap_or_else(|| now.saturating_add(1))
        });
        let remembered = match self.pools.iter().position(|pool| pool.contains(key)) {
            Some(pool) if !occupied && !self.set_aside.contains(&key) => Some((pool, held.lease.end_s)),
            _ => None,
        };
        self.timers.extend(timer_s.map(|at| (at, key)));
        self.remembered.extend(remembered.map(|(pool, end_s)| (pool, end_s, key)));
        if let Some(held) = self.held.get_mut(&key) {
            (held.timer_s, held.remembered) = (timer_s, remembered);
        }
    }
}

/// Ranges of all pools, sorted, overlaps cut off.
fn pools(subnets: &[Subnet]) -> Vec<FreeMap> {
    let mut ranges: Vec<(u32, u32)> =
        subnets.iter().flat_map(|s| &s.pools).map(|pool| (u32::from(pool.first), u32::from(pool.last))).collect();
    ranges.sort_unstable();
    let mut after: Option<u32> = None;
    let mut maps = Vec::new();
    for (first, last) in ranges {
        let first = after.map_or(first, |end| first.max(end.saturating_add(1)));
        maps.extend(FreeMap::new(first, last));
        after = after.max(Some(last));
    }
    maps
}

/// Addresses that no pool may give: reservations, routers, boot servers, network and broadcast addresses.
fn set_aside(subnets: &[Subnet]) -> BTreeSet<u32> {
    let of = |s: &Subnet| {
        let mut aside: Vec<Ipv4Addr> = s.reservations.iter().map(|r| r.address).collect();
        aside.extend(s.routers.iter().chain(&s.next_server));
        if s.network.prefix < 31 {
            aside.extend([s.network.address, s.network.broadcast()]);
        }
        aside
    };
    subnets.iter().flat_map(of).map(u32::from).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::dhcp::limits::DECLINE_HOLD_S;
    use crate::dhcp::subnet::{Pool, Reservation};
    use crate::dhcp::testing::subnet;

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn machine(n: u8) -> Machine {
        Machine { mac: mac(n), uuid: None, firmware: None }
    }

    fn bind(address: Ipv4Addr, n: u8, end_s: Time) -> Change {
        Change::Bind(Box::new(Lease {
            address,
            mac: mac(n),
            client_id: None,
            uuid: None,
            firmware: None,
            host_name: None,
            state: State::Bound,
            start_s: 0,
            end_s,
        }))
    }

    fn small_pool(last: u8) -> Subnet {
        let last = Ipv4Addr::new(192, 168, 4, last);
        Subnet { pools: vec![Pool { first: Ipv4Addr::new(192, 168, 4, 10), last }], ..subnet() }
    }

    #[test]
    fn an_offer_lapses_into_free() {
        let subnet = small_pool(10);
        let mut leases = Leases::new(std::slice::from_ref(&subnet));
        let address = leases.choose(&subnet, mac(1), 7, &[]).unwrap();
        leases.apply(&Change::Offer { address, machine: machine(1), until_s: 100 }, 0);
        assert_eq!(leases.choose(&subnet, mac(2), 7, &[]), None);
        assert_eq!(leases.standing(address, mac(2), 99), Standing::Taken);
        leases.advance(99);
        assert_eq!(leases.len(), 1);
        leases.advance(100);
        assert_eq!((leases.len(), leases.choose(&subnet, mac(2), 7, &[])), (0, Some(address)));
    }

    #[test]
    fn an_expired_lease_is_remembered_until_nothing_else_is_left() {
        let subnet = small_pool(12);
        let mut leases = Leases::new(std::slice::from_ref(&subnet));
        let [a, b, c] = [10, 11, 12].map(|n| Ipv4Addr::new(192, 168, 4, n));
        leases.apply(&bind(a, 1, 60), 0);
        leases.apply(&bind(b, 2, 50), 0);
        leases.advance(60);
        assert_eq!(leases.own(mac(1), subnet.network, 60).unwrap().address, a);
        assert_eq!(leases.choose(&subnet, mac(9), 3, &[]), Some(c), "a free one first");
        leases.apply(&bind(c, 9, 1000), 60);
        assert_eq!(leases.choose(&subnet, mac(8), 3, &[]), Some(b), "then the one that ended first");
        leases.apply(&Change::Offer { address: b, machine: machine(8), until_s: 200 }, 60);
        assert_eq!(leases.own(mac(2), subnet.network, 60), None, "taken over");
        assert_eq!(leases.choose(&subnet, mac(7), 3, &[]), Some(a));
    }

    #[test]
    fn an_offer_to_a_bound_machine_leaves_its_lease_alone() {
        let subnet = small_pool(12);
        let mut leases = Leases::new(std::slice::from_ref(&subnet));
        let a = Ipv4Addr::new(192, 168, 4, 10);
        leases.apply(&bind(a, 1, 600), 0);
        leases.apply(&Change::Offer { address: a, machine: machine(1), until_s: 120 }, 10);
        leases.apply(&Change::Forget { address: a, mac: mac(1) }, 11);
        leases.advance(300);
        assert_eq!(leases.get(a).unwrap().state, State::Bound);
        assert_eq!(leases.standing(a, mac(2), 300), Standing::Taken);
    }

    #[test]
    fn reservations_routers_and_edges_are_never_chosen() {
        let reserved = Reservation { mac: mac(1), address: Ipv4Addr::new(192, 168, 4, 2), hostname: None };
        let pool = Pool { first: Ipv4Addr::new(192, 168, 4, 0), last: Ipv4Addr::new(192, 168, 4, 3) };
        let subnet = Subnet { pools: vec![pool], reservations: vec![reserved], ..subnet() };
        let leases = Leases::new(std::slice::from_ref(&subnet));
        let three = Ipv4Addr::new(192, 168, 4, 3);
        for seed in 0..50 {
            assert_eq!(leases.choose(&subnet, mac(5), seed, &[]), Some(three));
        }
        assert_eq!(leases.choose(&subnet, mac(5), 0, &[three]), None, "nor an address of our own");
    }

    #[test]
    fn a_lease_in_commit_is_given_to_nobody_else() {
        let subnet = small_pool(10);
        let mut leases = Leases::new(std::slice::from_ref(&subnet));
        let a = Ipv4Addr::new(192, 168, 4, 10);
        let changes = [bind(a, 1, 600)];
        leases.begin_commit(&changes, 77, 0);
        assert!(leases.is_committing(a, mac(1), 77) && !leases.is_committing(a, mac(1), 78));
        leases.advance(10_000);
        assert_eq!(leases.choose(&subnet, mac(2), 1, &[]), None, "however long the store takes");
        leases.finish_commit(&changes, 77, true, 10_000);
        assert!(!leases.is_committing(a, mac(1), 77));
        assert_eq!(leases.get(a).unwrap().state, State::Bound);
        leases.begin_commit(&changes, 79, 20_000);
        leases.finish_commit(&changes, 79, false, 20_000);
        leases.advance(20_000 + OFFER_HOLD_S);
        assert_eq!(leases.standing(a, mac(2), 20_200), Standing::Remembered, "a failed commit binds nothing");
    }

    #[test]
    fn rows_of_the_store_come_back_in_their_states() {
        let subnet = small_pool(13);
        let mut leases = Leases::new(std::slice::from_ref(&subnet));
        let row = |last: u8, state, end_s| {
            let Change::Bind(lease) = bind(Ipv4Addr::new(192, 168, 4, last), last, end_s) else { unreachable!() };
            Lease { state, ..*lease }
        };
        let rows = [row(10, State::Bound, 900), row(11, State::Bound, 10), row(12, State::Declined, 900)];
        leases.load(rows, 500);
        let [a, b, c, d] = [10, 11, 12, 13].map(|n| Ipv4Addr::new(192, 168, 4, n));
        assert_eq!(leases.standing(a, mac(10), 500), Standing::Own(State::Bound));
        assert_eq!(leases.standing(b, mac(1), 500), Standing::Remembered);
        assert_eq!(leases.standing(c, mac(12), 500), Standing::Taken, "declined for its finder too");
        assert_eq!(leases.choose(&subnet, mac(1), 0, &[]), Some(d));
    }

    #[test]
    fn reconfigured_pools_keep_leases_and_give_only_new_addresses() {
        let mut leases = Leases::new(&[small_pool(20)]);
        let a = Ipv4Addr::new(192, 168, 4, 10);
        leases.apply(&bind(a, 1, 900), 0);
        let first = Ipv4Addr::new(192, 168, 4, 30);
        let moved = Subnet { pools: vec![Pool { first, last: first }], ..subnet() };
        leases.reconfigure(std::slice::from_ref(&moved), 1);
        assert!(leases.get(a).is_some() && !leases.is_in_pool(a));
        assert_eq!(leases.choose(&moved, mac(2), 5, &[]), Some(first));
    }

    /// Any order of changes keeps the indexes true: an address is free, under a timer, or remembered, never two of these.
    #[test]
    fn any_order_of_changes_keeps_the_table_sound() {
        let subnet = small_pool(29);
        let mut leases = Leases::new(std::slice::from_ref(&subnet));
        let (mut now, mut random) = (1000u64, 1u64);
        let mut next = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize
        };
        for step in 0..40_000 {
            let (n, address) = (next() as u8 % 40, Ipv4Addr::new(192, 168, 4, 10 + (next() % 20) as u8));
            let standing = leases.standing(address, mac(n), now);
            let given = standing != Standing::Taken;
            match next() % 7 {
                0 | 1 if given => {
                    leases.apply(&Change::Offer { address, machine: machine(n), until_s: now + 120 }, now);
                }
                2 if given => leases.begin_commit(&[bind(address, n, now + 300)], step, now),
                3 => leases.finish_commit(&[bind(address, n, now + 300)], step, given, now),
                4 => leases.apply(&Change::Release { address, mac: mac(n), end_s: now }, now),
                5 => leases.apply(&Change::Decline { address, mac: mac(n), until_s: now + DECLINE_HOLD_S }, now),
                _ => {
                    now += next() as u64 % 60;
                    leases.advance(now);
                    leases.committing.clear();
                }
            }
            check(&leases, &subnet);
        }
    }

    fn check(leases: &Leases, subnet: &Subnet) {
        let timed = leases.held.values().filter(|h| h.timer_s.is_some()).count();
        let remembered = leases.held.values().filter(|h| h.remembered.is_some()).count();
        assert_eq!((timed, remembered), (leases.timers.len(), leases.remembered.len()));
        assert_eq!(timed + remembered, leases.held.len(), "each address has one place");
        let named: usize = leases.by_mac.values().map(Vec::len).sum();
        let undeclined = leases.held.values().filter(|h| h.lease.state != State::Declined).count();
        assert_eq!(named, undeclined);
        if let Some(address) = leases.choose(subnet, mac(200), 9, &[]) {
            assert_ne!(leases.standing(address, mac(200), 0), Standing::Own(State::Bound));
            let free = !leases.held.contains_key(&u32::from(address));
            assert!(free || leases.held.len() == 20, "a remembered address only when none is free");
        }
    }
}
