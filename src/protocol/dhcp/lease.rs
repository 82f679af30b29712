//! The lease table in memory: a state machine per address, found by address and by machine. Time
//! comes in as unix seconds.
//!
//! | state | enters on | leaves on |
//! |---|---|---|
//! | FREE | start, lapsed offer, end of quarantine | offer |
//! | OFFERED | `LeaseChange::Offer` | bind; another server chosen; the hold is over; taken, oldest first, when nothing is free or ended |
//! | BOUND | `LeaseChange::Bind`, durable first | its end, release, decline |
//! | EXPIRED | the end of a lease, `LeaseChange::Release` | the same machine binds again; taken, oldest first, when nothing is free |
//! | DECLINED | `LeaseChange::Decline` | its timer; taken, oldest first, when nothing else is left |

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use super::classify::{hash_bytes, is_boot_firmware};
use super::layout::{LayoutPlace, PoolLayout};

pub use super::lease_record::{
    BootTimes, Circuit, ClockSeconds, Lease, LeaseChange, LeaseRowState,
};
use super::limits::{
    DECLINE_HOLD_S, ENDED_PER_MACHINE_MAX, FOREVER_S, LAPSE_ROWS_MAX, MACHINES_MAX,
    OFFER_HOLD_RASPBERRY_PI_S, OFFER_HOLD_S, OFFER_SAFE_S, OFFERS_CROWD, OFFERS_LOOKED_AT,
    TABLE_ROOM_MAX,
};
use super::listing::{DeclineLimit, DeclineScope, ListedAddress};
use super::pool_use::{LeaseStateCounts, PoolUse};
use super::strikes::{DeclineStrikes, DeclineVerdict};
use super::subnet::Subnet;
use crate::model::binding::AddressBinding;
use crate::model::machine::{Firmware, FirmwareRole, Mac, Machine};
use crate::model::network::Ipv4Network;

/// How an address stands to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressAvailability {
    /// Nobody holds or remembers it.
    Free,
    /// The machine's own: offered, bound, or remembered from before.
    Own(LeaseRowState),
    /// Another machine's, whose lease is over.
    Remembered,
    /// Another machine's now, declined, or being committed for another.
    Taken,
}

/// Who asks: a machine, and which system of it where they count as clients of their own (RFC 2131
/// section 4.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientIdentity<'a> {
    pub(super) mac: Mac,
    /// As in `Lease::client_id`; None = the machine, whatever runs on it.
    pub(super) system: Option<&'a [u8]>,
}

impl ClientIdentity<'_> {
    fn owns(&self, lease: &Lease) -> bool {
        lease.mac == self.mac
            && self.system.is_none_or(|id| lease.client_id.as_ref().is_none_or(|known| known == id))
    }

    /// Of its leases the greatest is the one that counts: a live one, the one that it named itself
    /// for, an offer, the one that ended last.
    pub(super) fn rank(
        &self,
        lease: &Lease,
        now: ClockSeconds,
    ) -> (bool, bool, bool, ClockSeconds) {
        let is_live = lease.state == LeaseRowState::Bound && lease.end_s > now;
        let is_named = self.system.is_some() && self.system == lease.client_id.as_deref();
        (is_live, is_named, lease.state == LeaseRowState::Offered, lease.end_s)
    }
}

impl From<Mac> for ClientIdentity<'_> {
    fn from(mac: Mac) -> Self {
        Self { mac, system: None }
    }
}

/// Who wants an address, and of which subnet.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressRequest<'a> {
    pub(super) network: Ipv4Network,
    pub(super) mac: Mac,
    pub(super) circuit: Circuit,
    pub(super) seed: u64,
    /// Addresses of this host.
    pub(super) ours: &'a [Ipv4Addr],
}

/// All leases and offers. Bounded by the addresses of the pools and reservations, whatever clients
/// send.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    rows: Vec<Option<LeaseTableEntry>>,
    /// Places in `rows` that hold nothing.
    vacant: Vec<u32>,
    by_address: HashMap<u32, u32>,
    /// The first of a machine's addresses; `LeaseTableEntry::next` leads to the others.
    by_mac: HashMap<Mac, u32>,
    booted: BootedMachines,
    layout: PoolLayout,
    counts: LeaseStateCounts,
    /// The layout that comes next, and how many of `rows` are in it.
    next: Option<(PoolLayout, usize)>,
    /// (when an address next changes state by itself, address)
    timers: BTreeSet<(ClockSeconds, u32)>,
    /// Leases on their way to the store: how many of an address, and to which REQUESTs.
    committing: HashMap<u32, u32>,
    waiting: HashSet<(u32, Mac, u32)>,
    offers: OffersByCircuit,
    strikes: DeclineStrikes,
    own: HashSet<u32>,
    /// Where leases without end are, or were.
    endless: HashSet<u32>,
    /// `timers` is not kept: `finish_load` makes it.
    is_loading: bool,
}

#[derive(Clone, Debug)]
struct LeaseTableEntry {
    lease: Lease,
    /// An offer on top of a lease: a bound machine may ask again at each boot stage.
    offered_until_s: ClockSeconds,
    /// 0: no timer.
    timer_s: ClockSeconds,
    spot: LayoutPlace,
    /// The machine's next address; 0: none.
    next: u32,
    /// Offered while another machine had an offer of it that was not confirmed: whoever takes it
    /// first has it.
    contested: bool,
    /// Kept back because a host answers for it to whom nobody has leased it.
    is_in_use: bool,
}

impl LeaseTableEntry {
    fn new(lease: Lease) -> Self {
        Self {
            lease,
            offered_until_s: 0,
            timer_s: 0,
            spot: LayoutPlace::Nowhere,
            next: 0,
            contested: false,
            is_in_use: false,
        }
    }
}

/// Machines that booted from the network once, whoever has their address now: those heard of last.
#[derive(Clone, Debug, Default)]
struct BootedMachines {
    seen: HashMap<Mac, ClockSeconds>,
    order: BTreeSet<(ClockSeconds, Mac)>,
}

impl BootedMachines {
    fn add(&mut self, mac: Mac, seen_s: ClockSeconds) {
        let is_oldest = self.order.first().is_some_and(|oldest| (seen_s, mac) < *oldest);
        if is_oldest && self.seen.len() >= MACHINES_MAX {
            return;
        }
        match self.seen.insert(mac, seen_s) {
            Some(before) if before > seen_s => drop(self.seen.insert(mac, before)),
            Some(before) => {
                self.order.remove(&(before, mac));
                self.order.insert((seen_s, mac));
            }
            None => drop(self.order.insert((seen_s, mac))),
        }
        if self.seen.len() > MACHINES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.seen.remove(&oldest);
        }
    }
}

/// Unconfirmed offers by where they went; those on segments of ours are not counted.
#[derive(Clone, Debug, Default)]
struct OffersByCircuit {
    of: HashMap<u32, Circuit>,
    counts: HashMap<Circuit, usize>,
    /// The one that lapses first is the first of its circuit.
    order: BTreeSet<(Circuit, ClockSeconds, u32)>,
}

impl OffersByCircuit {
    fn put(&mut self, address: u32, until_s: ClockSeconds) {
        if let Some(&circuit) = self.of.get(&address)
            && self.order.insert((circuit, until_s, address))
        {
            *self.counts.entry(circuit).or_default() += 1;
        }
    }

    fn take(&mut self, address: u32, until_s: ClockSeconds) {
        if let Some(&circuit) = self.of.get(&address)
            && self.order.remove(&(circuit, until_s, address))
            && let Some(count) = self.counts.get_mut(&circuit)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&circuit);
            }
        }
    }

    fn from(&self, circuit: Circuit) -> impl Iterator<Item = u32> {
        let all = self.order.range((circuit, 0, 0)..);
        all.take_while(move |(from, ..)| *from == circuit).map(|(_, _, address)| *address)
    }
}

impl LeaseTable {
    /// An empty table for these subnets. It has room for the rows that they can fill, untouched and
    /// so without memory, up to a large site's: a million rows that are moved at once would be a
    /// pause.
    pub fn new(subnets: &[Subnet]) -> Self {
        let layout = PoolLayout::new(subnets);
        let rows = Vec::with_capacity(layout.addresses().min(TABLE_ROOM_MAX));
        Self { rows, layout, ..Self::default() }
    }

    /// Takes the pools of a new configuration over, at once.
    pub fn reconfigure(&mut self, subnets: &[Subnet]) {
        self.begin_move(PoolLayout::new(subnets));
        self.move_on(usize::MAX, |_, _| ());
        self.finish_move();
    }

    /// Begins to take the pools of a new configuration over: `move_on` goes on with it, and until
    /// it is done everything is given by the old ones. One that was begun before is dropped.
    pub fn begin_move(&mut self, mut layout: PoolLayout) {
        layout.own(self.own.clone());
        self.next = Some((layout, 0));
    }

    /// Takes so many more rows over, and tells of each. True: all are there, and `finish_move` may
    /// follow.
    pub fn move_on(&mut self, rows: usize, mut told: impl FnMut(&Self, Ipv4Addr)) -> bool {
        let Some((mut layout, from)) = self.next.take() else { return true };
        let to = from.saturating_add(rows).min(self.rows.len());
        for held in self.rows[from..to].iter().flatten() {
            layout.put(u32::from(held.lease.address), held.spot);
            told(self, held.lease.address);
        }
        self.next = Some((layout, to));
        to == self.rows.len()
    }

    /// From now on addresses are given by the new pools. Leases outside of them are kept, but no
    /// longer given. What was before comes back, for another thread to drop.
    pub fn finish_move(&mut self) -> Option<PoolLayout> {
        let (layout, _) = self.next.take()?;
        let before = std::mem::replace(&mut self.layout, layout);
        self.end_unreserved();
        Some(before)
    }

    /// A lease without end is a BOOTP client's, which never says that it is gone: it ends with its
    /// reservation (D-31).
    fn end_unreserved(&mut self) {
        for address in std::mem::take(&mut self.endless) {
            let Some(lease) =
                self.held(address).map(|held| &held.lease).filter(|lease| lease.is_endless())
            else {
                continue;
            };
            if self.layout.is_reserved_for(address, lease.mac) {
                self.endless.insert(address);
                continue;
            }
            // It ends in the past: whatever the time is now.
            let began = lease.start_s;
            self.touch(address, began, |held| held.lease.end_s = began);
        }
    }

    /// The new configuration is not wanted any more.
    pub fn drop_move(&mut self) -> Option<PoolLayout> {
        self.next.take().map(|(layout, _)| layout)
    }

    /// Addresses that this host has now: nobody is given one of them.
    pub fn keep_own(&mut self, own: &[Ipv4Addr]) {
        let own: HashSet<u32> = own.iter().copied().map(u32::from).collect();
        if own == self.own {
            return;
        }
        let (rows, by_address) = (&self.rows, &self.by_address);
        let next = self.next.as_mut().map(|(layout, _)| layout);
        for layout in std::iter::once(&mut self.layout).chain(next) {
            for address in layout.own(own.clone()) {
                if let Some(held) =
                    by_address.get(&address).and_then(|row| rows.get(*row as usize)?.as_ref())
                {
                    layout.take(address, held.spot);
                    layout.put(address, held.spot);
                }
            }
        }
        self.own = own;
    }

    /// Takes the durable rows over at the start.
    pub fn load(&mut self, rows: impl IntoIterator<Item = Lease>, now: ClockSeconds) {
        self.begin_load();
        rows.into_iter().for_each(|lease| self.load_row(lease, now));
        self.finish_load();
    }

    /// The same one by one: `load_row` with each, in any order, then `finish_load`, before anything
    /// else is asked.
    pub fn begin_load(&mut self) {
        self.is_loading = true;
    }

    /// A row of an unknown pool is kept and simply never offered.
    pub fn load_row(&mut self, mut lease: Lease, now: ClockSeconds) {
        lease.end_s = cap_lease_end_s(&lease, now);
        if lease.state == LeaseRowState::Declined && lease.end_s > now {
            self.strikes.recall(lease.mac, lease.end_s.saturating_sub(DECLINE_HOLD_S));
        }
        self.insert(LeaseTableEntry::new(lease), None, now);
    }

    /// A million timers are put in order at once in a third of the time, and of the memory, that
    /// they take one by one.
    pub fn finish_load(&mut self) {
        self.is_loading = false;
        let held = self.rows.iter().flatten().filter(|held| held.timer_s > 0);
        self.timers = held.map(|held| (held.timer_s, u32::from(held.lease.address))).collect();
        self.end_unreserved();
    }

    /// Takes the machines over that the store remembers to have booted from the network, and when
    /// they were seen last.
    pub fn load_machines(&mut self, machines: impl IntoIterator<Item = (Mac, ClockSeconds)>) {
        machines.into_iter().for_each(|(mac, seen_s)| self.booted.add(mac, seen_s));
    }

    /// The machines that booted from the network once, and when they were seen last.
    pub fn booted(&self) -> impl Iterator<Item = (Mac, ClockSeconds)> {
        self.booted.seen.iter().map(|(mac, seen_s)| (*mac, *seen_s))
    }

    /// True for a machine whose firmware or loader had a lease at any time, or has an offer now.
    pub(super) fn has_booted(&self, mac: Mac) -> bool {
        self.booted.seen.contains_key(&mac)
            || self.of(mac).filter_map(|lease| lease.firmware).any(is_boot_firmware)
    }

    /// Lets offers lapse, leases expire and quarantines end. Call it with the time before `decide`;
    /// it costs what has ended, and a call costs little. True: more is due.
    pub fn advance(&mut self, now: ClockSeconds) -> bool {
        for _ in 0..LAPSE_ROWS_MAX {
            let Some(&(at, address)) = self.timers.first() else { return false };
            if at > now {
                return false;
            }
            self.settle(address, now);
            // An address that settles into the same instant would turn here for ever.
            self.timers.remove(&(at, address));
        }
        true
    }

    /// Carries a change out. Volatile ones at once; `Bind` and `Free` only after their commit (see
    /// `begin_commit`).
    pub fn apply(&mut self, change: &LeaseChange, now: ClockSeconds) {
        match change {
            LeaseChange::Offer { address, machine, client_id, until_s, circuit } => {
                self.offer(*address, *machine, client_id.as_deref(), *until_s, *circuit, now);
            }
            LeaseChange::Bind(lease) => {
                self.insert(LeaseTableEntry::new((**lease).clone()), None, now)
            }
            LeaseChange::Release { address, mac, end_s } => {
                self.change(*address, *mac, now, |held| {
                    (held.lease.state, held.lease.end_s, held.offered_until_s) =
                        (LeaseRowState::Released, *end_s, 0);
                });
            }
            LeaseChange::Decline { address, mac, until_s } => {
                self.decline(*address, *mac, *until_s, now)
            }
            LeaseChange::Struck { mac, circuit, .. } => self.strikes.add(*mac, *circuit, now),
            LeaseChange::Forget { address, mac } => {
                self.change(*address, *mac, now, |held| held.offered_until_s = 0)
            }
            // A lease that was asked for since is on its way to the store, behind this.
            LeaseChange::Free { address } if !self.is_written(*address) => {
                self.remove(u32::from(*address))
            }
            LeaseChange::Free { .. } => {}
        }
    }

    /// Takes a decision's changes in: applies all but what waits for the store: `Free`, and `Bind`,
    /// whose address is held for the machine meanwhile. A repeat of the same REQUEST finds the
    /// commit pending and is not answered twice.
    pub fn begin_commit(&mut self, changes: &[LeaseChange], xid: u32, now: ClockSeconds) {
        for change in changes {
            let lease = match change {
                LeaseChange::Bind(lease) => lease,
                LeaseChange::Free { .. } => continue,
                _ => {
                    self.apply(change, now);
                    continue;
                }
            };
            let (address, machine) = (lease.address, Machine::from(&**lease));
            if self.waiting.insert((u32::from(address), lease.mac, xid)) {
                *self.committing.entry(u32::from(address)).or_default() += 1;
            }
            self.offer(
                address,
                machine,
                None,
                now.saturating_add(OFFER_HOLD_S),
                Circuit::default(),
                now,
            );
        }
    }

    /// The store has synced the changes (or failed to): binds what was waiting. After a failure the
    /// offer lapses by itself.
    pub fn finish_commit(
        &mut self,
        changes: &[LeaseChange],
        xid: u32,
        committed: bool,
        now: ClockSeconds,
    ) {
        for change in changes {
            match change {
                LeaseChange::Bind(lease) => {
                    let address = u32::from(lease.address);
                    if self.waiting.remove(&(address, lease.mac, xid))
                        && let Some(count) = self.committing.get_mut(&address)
                    {
                        *count -= 1;
                        if *count == 0 {
                            self.committing.remove(&address);
                        }
                    }
                    if !committed {
                        self.settle(address, now);
                    }
                }
                LeaseChange::Free { .. } => {}
                _ => continue,
            }
            if committed {
                self.apply(change, now);
            }
        }
    }

    /// True while a lease of this address is on its way to the store: whatever else is said of it
    /// would be overtaken.
    pub fn is_written(&self, address: Ipv4Addr) -> bool {
        self.committing.contains_key(&u32::from(address))
    }

    /// True where a lease in this network has not ended.
    pub fn is_leased(&self, network: Ipv4Network, now: ClockSeconds) -> bool {
        let runs = |lease: &Lease| lease.state == LeaseRowState::Bound && lease.end_s > now;
        let (first, last) = (u32::from(network.address), u32::from(network.broadcast()));
        // Whichever is less: the addresses of the network, or the rows of the table.
        if ((last - first) as usize) < self.len() {
            return (first..=last)
                .any(|address| self.get(Ipv4Addr::from(address)).is_some_and(runs));
        }
        self.iter().any(|lease| network.contains(lease.address) && runs(lease))
    }

    /// What boot cores should know of this address: the machine that holds it, also by offer (a Pi
    /// 3 never sends REQUEST).
    pub fn binding(&self, address: Ipv4Addr) -> Option<AddressBinding> {
        let held = self
            .held(u32::from(address))
            .filter(|held| held.lease.state != LeaseRowState::Declined)?;
        let lease = &held.lease;
        Some(AddressBinding {
            machine: Machine::from(lease),
            lease_end_s: lease.end_s.max(held.offered_until_s),
        })
    }

    /// Every lease and offer, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.rows.iter().flatten().map(|held| &held.lease)
    }

    /// The lease or offer on this address.
    pub fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.held(u32::from(address)).map(|held| &held.lease)
    }

    /// Leases and offers of one machine, declined ones excepted.
    pub fn of(&self, mac: Mac) -> impl Iterator<Item = &Lease> {
        let mut next = self.by_mac.get(&mac).copied().unwrap_or(0);
        std::iter::from_fn(move || {
            let held = self.held(next).filter(|_| next != 0)?;
            next = held.next;
            Some(&held.lease)
        })
    }

    /// A host to whom nobody has leased the address answers for it: it is kept back, as if this
    /// client had declined it.
    pub fn keep_back(
        &mut self,
        address: Ipv4Addr,
        mac: Mac,
        until_s: ClockSeconds,
        now: ClockSeconds,
    ) {
        self.decline(address, mac, until_s, now);
        if let Some(&row) = self.by_address.get(&u32::from(address))
            && let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            held.is_in_use = held.lease.state == LeaseRowState::Declined;
        }
    }

    /// So many rows of the table from this one on, as an operator looks at them, and where the next
    /// piece begins. Rows that change between two pieces may be told twice or not at all.
    pub fn listed(
        &self,
        from: usize,
        rows: usize,
        now: ClockSeconds,
    ) -> (impl Iterator<Item = ListedAddress>, Option<usize>) {
        let (held, next) = self.held_from(from, rows);
        (
            held.map(move |held| {
                ListedAddress::new(&held.lease, held.offered_until_s, held.is_in_use, now)
            }),
            next,
        )
    }

    /// The same as it is in memory.
    pub fn piece(&self, from: usize, rows: usize) -> (impl Iterator<Item = &Lease>, Option<usize>) {
        let (held, next) = self.held_from(from, rows);
        (held.map(|held| &held.lease), next)
    }

    fn held_from(
        &self,
        from: usize,
        rows: usize,
    ) -> (impl Iterator<Item = &LeaseTableEntry>, Option<usize>) {
        let to = from.saturating_add(rows).min(self.rows.len());
        let held = self.rows.get(from..to).unwrap_or_default().iter().flatten();
        (held, (to < self.rows.len()).then_some(to))
    }

    /// Who gets less than others for what was declined.
    pub fn limited(&self, now: ClockSeconds) -> Vec<DeclineLimit> {
        let machines = self
            .strikes
            .silenced(now)
            .map(|(mac, until_s)| DeclineLimit { whom: DeclineScope::Machine(mac), until_s });
        let places = self
            .strikes
            .bounded(now)
            .map(|(place, until_s)| DeclineLimit { whom: place.as_limit(), until_s });
        machines.chain(places).collect()
    }

    /// What was declined counts no more: by this machine, or (None) by anybody.
    pub fn pardon(&mut self, mac: Option<Mac>) {
        match mac {
            Some(mac) => self.strikes.pardon(mac),
            None => self.strikes = DeclineStrikes::default(),
        }
    }

    /// True where `LeaseChange::Free` may be said of the address: no lease of it is on its way to
    /// the store, and no machine has it now (`force`: whoever has it).
    pub fn may_be_freed(&self, address: Ipv4Addr, force: bool, now: ClockSeconds) -> bool {
        let is_someones = |held: &LeaseTableEntry| {
            held.lease.state != LeaseRowState::Declined && self.is_occupied(held, now)
        };
        !self.is_written(address)
            && (force || !self.held(u32::from(address)).is_some_and(is_someones))
    }

    /// How many addresses stand in which state, inside of pools and outside of them.
    pub fn counts(&self) -> LeaseStateCounts {
        self.counts
    }

    /// How much of a subnet's pools is given.
    pub fn used(&self, network: Ipv4Network) -> PoolUse {
        self.layout.used(network)
    }

    /// Addresses that are held, remembered or declined.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    pub(super) fn is_silenced(&self, mac: Mac, now: ClockSeconds) -> bool {
        self.strikes.is_silenced(mac, now)
    }

    pub(super) fn weigh_decline(
        &self,
        mac: Mac,
        circuit: Circuit,
        now: ClockSeconds,
    ) -> DeclineVerdict {
        self.strikes.verdict(mac, circuit, now)
    }

    /// True while the ACK to this very REQUEST waits for the store.
    pub(super) fn is_committing(&self, address: Ipv4Addr, mac: Mac, xid: u32) -> bool {
        self.waiting.contains(&(u32::from(address), mac, xid))
    }

    pub(super) fn standing<'c>(
        &self,
        address: Ipv4Addr,
        client: impl Into<ClientIdentity<'c>>,
        now: ClockSeconds,
    ) -> AddressAvailability {
        let Some(held) = self.held(u32::from(address)) else { return AddressAvailability::Free };
        match held.lease.state {
            LeaseRowState::Declined if held.lease.end_s > now => AddressAvailability::Taken,
            LeaseRowState::Declined => AddressAvailability::Free,
            state if client.into().owns(&held.lease) => AddressAvailability::Own(state),
            _ if held.contested && !self.is_written(address) => AddressAvailability::Free,
            _ if self.is_occupied(held, now) => AddressAvailability::Taken,
            LeaseRowState::Offered => AddressAvailability::Free,
            _ => AddressAvailability::Remembered,
        }
    }

    /// The client's address in this network (see `ClientIdentity::rank`).
    pub(super) fn own<'c>(
        &self,
        client: impl Into<ClientIdentity<'c>>,
        network: Ipv4Network,
        now: ClockSeconds,
    ) -> Option<&Lease> {
        let client = client.into();
        let own = self
            .of(client.mac)
            .filter(|lease| network.contains(lease.address) && client.owns(lease));
        own.max_by_key(|lease| client.rank(lease, now))
    }

    /// True where the address is in a pool, not set aside and not this host's.
    pub(super) fn is_in_pool(&self, address: Ipv4Addr) -> bool {
        self.layout.gives(u32::from(address))
    }

    /// An address for a machine that has none here: free ones first, by a hash of the machine and
    /// the seed; then the one whose lease ended longest ago; then the one that was offered longest
    /// ago and not taken; then the one that was declined longest ago. Where too many offers went to
    /// the same place, the oldest of these: a flood eats its own. Never one of `ours`.
    pub(super) fn choose(
        &self,
        wanted: &AddressRequest<'_>,
        now: ClockSeconds,
    ) -> Option<Ipv4Addr> {
        let AddressRequest { network, mac, circuit, seed, ours } = *wanted;
        let may_go = |address: &u32| {
            !self.committing.contains_key(address) && !ours.contains(&Ipv4Addr::from(*address))
        };
        let is_too_many =
            |most: usize| self.offers.counts.get(&circuit).is_some_and(|count| *count >= most);
        if circuit.offers_max().is_some_and(is_too_many) {
            let mut oldest = self
                .offers
                .from(circuit)
                .filter(|address| network.contains(Ipv4Addr::from(*address)));
            if let Some(address) = oldest.find(may_go) {
                return Some(Ipv4Addr::from(address));
            }
        }
        let start = hash_bytes(&mac.0) ^ seed;
        if let Some(address) = self.layout.next_free(network, start, ours) {
            return Some(address);
        }
        let is_over =
            |address: &u32| self.held(*address).is_some_and(|held| !self.is_occupied(held, now));
        let is_crowd = self.layout.offers(network) >= OFFERS_CROWD;
        let is_old = |address: &u32| {
            self.held(*address).is_some_and(|held| is_crowd || held.is_old_offer(now))
        };
        let is_anothers =
            |address: &u32| self.held(*address).is_some_and(|held| held.lease.mac != mac);
        let ended = self.layout.ended(network).filter(may_go).find(is_over);
        // A Pi's offer lapses late: a few may stand before one that is old.
        let offered =
            || self.layout.offered(network).take(OFFERS_LOOKED_AT).filter(may_go).find(is_old);
        let declined = || self.layout.declined(network).filter(may_go).find(is_anothers);
        ended.or_else(offered).or_else(declined).map(Ipv4Addr::from)
    }

    fn held(&self, address: u32) -> Option<&LeaseTableEntry> {
        self.rows.get(*self.by_address.get(&address)? as usize)?.as_ref()
    }

    fn is_occupied(&self, held: &LeaseTableEntry, now: ClockSeconds) -> bool {
        let leased = matches!(held.lease.state, LeaseRowState::Bound | LeaseRowState::Declined)
            && held.lease.end_s > now;
        leased || held.offered_until_s > now || self.is_written(held.lease.address)
    }

    fn offer(
        &mut self,
        address: Ipv4Addr,
        machine: Machine,
        client_id: Option<&[u8]>,
        until_s: ClockSeconds,
        circuit: Circuit,
        now: ClockSeconds,
    ) {
        let key = u32::from(address);
        let held = self.held(key);
        let client = ClientIdentity { mac: machine.mac, system: client_id };
        let is_its_own = |held: &LeaseTableEntry| {
            client.owns(&held.lease) && held.lease.state != LeaseRowState::Declined
        };
        if held.is_some_and(is_its_own) {
            return self.touch(key, now, |held| {
                held.offered_until_s = held.offered_until_s.max(until_s);
                if held.lease.state == LeaseRowState::Offered {
                    held.lease.end_s = held.offered_until_s;
                }
            });
        }
        let contested = held.is_some_and(
            |held| matches!(held.spot, LayoutPlace::Offered(until_s) if until_s > now),
        );
        let lease = Lease {
            address,
            mac: machine.mac,
            client_id: client_id.map(<[u8]>::to_vec),
            uuid: machine.uuid,
            firmware: machine.firmware,
            host_name: None,
            state: LeaseRowState::Offered,
            start_s: now,
            end_s: until_s,
        };
        let held =
            LeaseTableEntry { offered_until_s: until_s, contested, ..LeaseTableEntry::new(lease) };
        self.insert(held, circuit.offers_max().map(|_| circuit), now);
    }

    /// The machine no longer counts as the holder: it will be given another address.
    fn decline(&mut self, address: Ipv4Addr, mac: Mac, until_s: ClockSeconds, now: ClockSeconds) {
        let Some(held) = self.held(u32::from(address)).filter(|held| held.lease.mac == mac) else {
            return;
        };
        let lease = Lease { state: LeaseRowState::Declined, end_s: until_s, ..held.lease.clone() };
        self.insert(LeaseTableEntry::new(lease), None, now);
    }

    fn change(
        &mut self,
        address: Ipv4Addr,
        mac: Mac,
        now: ClockSeconds,
        with: impl FnOnce(&mut LeaseTableEntry),
    ) {
        let key = u32::from(address);
        let is_its_own = |held: &LeaseTableEntry| {
            held.lease.mac == mac && held.lease.state != LeaseRowState::Declined
        };
        if self.held(key).is_some_and(is_its_own) {
            self.touch(key, now, with);
        }
    }

    fn touch(&mut self, key: u32, now: ClockSeconds, with: impl FnOnce(&mut LeaseTableEntry)) {
        self.unsettle(key);
        if let Some(&row) = self.by_address.get(&key)
            && let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            with(held);
        }
        self.place(key, now);
    }

    fn insert(&mut self, mut held: LeaseTableEntry, circuit: Option<Circuit>, now: ClockSeconds) {
        let key = u32::from(held.lease.address);
        self.remove(key);
        let (mac, lease) = (held.lease.mac, &held.lease);
        if lease.state != LeaseRowState::Offered && lease.firmware.is_some_and(is_boot_firmware) {
            self.booted.add(mac, lease.start_s);
        }
        if lease.state != LeaseRowState::Declined {
            self.forget_oldest(mac, now);
            held.next = self.by_mac.insert(mac, key).unwrap_or(0);
        }
        if held.lease.is_endless() {
            self.endless.insert(key);
        }
        let row = self.vacant.pop().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        });
        self.rows[row as usize] = Some(held);
        self.by_address.insert(key, row);
        if let Some(circuit) = circuit {
            self.offers.of.insert(key, circuit);
        }
        self.place(key, now);
    }

    /// One machine does not fill the table with what it had: where it has many ended leases, the
    /// oldest is forgotten.
    fn forget_oldest(&mut self, mac: Mac, now: ClockSeconds) {
        let mut oldest = None;
        let mut count = 0;
        for lease in self.of(mac) {
            if self.held(u32::from(lease.address)).is_some_and(|held| !self.is_occupied(held, now))
            {
                count += 1;
                oldest = oldest
                    .min(Some((lease.end_s, lease.address)))
                    .or(Some((lease.end_s, lease.address)));
            }
        }
        if count >= ENDED_PER_MACHINE_MAX
            && let Some((_, address)) = oldest
        {
            self.remove(u32::from(address));
        }
    }

    fn remove(&mut self, key: u32) {
        self.unsettle(key);
        let Some(row) = self.by_address.remove(&key) else { return };
        let Some(held) = self.rows.get_mut(row as usize).and_then(Option::take) else { return };
        self.vacant.push(row);
        self.offers.of.remove(&key);
        if held.lease.state != LeaseRowState::Declined {
            self.unlink(held.lease.mac, key, held.next);
        }
        self.layout.free(key);
        if let Some((next, _)) = &mut self.next {
            next.free(key);
        }
    }

    /// Takes an address out of its machine's list.
    fn unlink(&mut self, mac: Mac, key: u32, after: u32) {
        let Some(&first) = self.by_mac.get(&mac) else { return };
        if first == key {
            match after {
                0 => drop(self.by_mac.remove(&mac)),
                next => drop(self.by_mac.insert(mac, next)),
            }
            return;
        }
        let mut at = first;
        while let Some(&row) = self.by_address.get(&at)
            && let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            if held.next == key {
                held.next = after;
                return;
            }
            at = held.next;
        }
    }

    /// Takes an address out of all orders; `settle` or `remove` follows.
    fn unsettle(&mut self, key: u32) {
        let Some(&row) = self.by_address.get(&key) else { return };
        let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut) else { return };
        let (timer_s, spot) = (std::mem::take(&mut held.timer_s), std::mem::take(&mut held.spot));
        self.timers.remove(&(timer_s, key));
        if let Some(count) = place_counter(&mut self.counts, spot) {
            *count -= 1;
        }
        if let LayoutPlace::Offered(until_s) = spot {
            self.offers.take(key, until_s);
        }
        self.layout.take(key, spot);
        if let Some((next, _)) = &mut self.next {
            next.take(key, spot);
        }
    }

    /// Puts an address where its state belongs at this time: under a timer, in its order, or back
    /// to the free.
    fn settle(&mut self, key: u32, now: ClockSeconds) {
        self.unsettle(key);
        self.place(key, now);
    }

    /// The same for one that is in no order.
    fn place(&mut self, key: u32, now: ClockSeconds) {
        let Some(&row) = self.by_address.get(&key) else { return };
        let Some(held) = self.rows.get(row as usize).and_then(Option::as_ref) else { return };
        let occupied = self.is_occupied(held, now);
        let (state, end_s, offered_until_s) =
            (held.lease.state, held.lease.end_s, held.offered_until_s);
        if !occupied && matches!(state, LeaseRowState::Offered | LeaseRowState::Declined) {
            return self.remove(key);
        }
        let spot = match state {
            _ if !occupied => LayoutPlace::Ended(end_s),
            _ if self.committing.contains_key(&key) => LayoutPlace::Live,
            LeaseRowState::Declined => LayoutPlace::Declined(end_s),
            LeaseRowState::Bound if end_s > now => LayoutPlace::Live,
            _ => LayoutPlace::Offered(offered_until_s),
        };
        let leased_s = if state == LeaseRowState::Released { 0 } else { end_s };
        let next_s = [leased_s, offered_until_s].into_iter().filter(|&at| at > now).min();
        let timer_s = if occupied { next_s.unwrap_or_else(|| now.saturating_add(1)) } else { 0 };
        if let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut) {
            (held.timer_s, held.spot) = (timer_s, spot);
        }
        if timer_s > 0 && !self.is_loading {
            self.timers.insert((timer_s, key));
        }
        if let Some(count) = place_counter(&mut self.counts, spot) {
            *count += 1;
        }
        if let LayoutPlace::Offered(until_s) = spot {
            self.offers.put(key, until_s);
        }
        self.layout.put(key, spot);
        // Also a row that `move_on` has not come to: what it puts there once more changes nothing.
        if let Some((next, _)) = &mut self.next {
            next.put(key, spot);
        }
    }
}

impl LeaseTableEntry {
    /// True for an offer that its machine should have taken by now.
    fn is_old_offer(&self, now: ClockSeconds) -> bool {
        let offered_s = self.offered_until_s.saturating_sub(offer_hold_s(self.lease.firmware));
        offered_s.saturating_add(OFFER_SAFE_S) <= now
    }
}

fn place_counter(counts: &mut LeaseStateCounts, spot: LayoutPlace) -> Option<&mut usize> {
    match spot {
        LayoutPlace::Nowhere => None,
        LayoutPlace::Live => Some(&mut counts.bound),
        LayoutPlace::Offered(_) => Some(&mut counts.offered),
        LayoutPlace::Ended(_) => Some(&mut counts.ended),
        LayoutPlace::Declined(_) => Some(&mut counts.kept_back),
    }
}

/// The end of a row of the store, which is no further away than it was given for: stores of before
/// know times of clocks that were ahead, and of a clock that goes on after another boot the last
/// seconds are unknown.
fn cap_lease_end_s(lease: &Lease, now: ClockSeconds) -> ClockSeconds {
    let given_s = lease.end_s.saturating_sub(lease.start_s);
    let given_s = match lease.state {
        // Such a row may know nothing but the end.
        LeaseRowState::Declined => given_s.max(DECLINE_HOLD_S),
        _ if lease.end_s >= FOREVER_S => return lease.end_s,
        _ => given_s,
    };
    lease.end_s.min(now.saturating_add(given_s))
}

/// How long an offered address is held. The ROM of a Pi 3 goes on after the OFFER, without REQUEST
///
pub(super) fn offer_hold_s(firmware: Option<Firmware>) -> u64 {
    let is_pi = firmware.is_some_and(|firmware| firmware.role == FirmwareRole::RaspberryPi);
    if is_pi { OFFER_HOLD_RASPBERRY_PI_S } else { OFFER_HOLD_S }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::dhcp::lease_record::CircuitKind;
    use crate::dhcp::limits::{DECLINE_HOLD_S, DECLINES_PER_MACHINE_MAX, OFFERS_PER_CIRCUIT_MAX};
    use crate::dhcp::subnet::{AddressPool, Reservation};
    use crate::dhcp::testing::subnet;
    use crate::model::lease_clock::{ClockMark, ClockReading};
    use crate::model::machine::Arch;
    use crate::model::random::SeededRandom;

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
        let wanted = AddressRequest {
            network: subnet.network,
            mac,
            circuit: Circuit::default(),
            seed,
            ours,
        };
        leases.choose(&wanted, 0)
    }

    fn bind(address: Ipv4Addr, n: u8, end_s: ClockSeconds) -> LeaseChange {
        LeaseChange::Bind(Box::new(Lease::of_address(address, mac(n), end_s)))
    }

    fn small_pool(last: u8) -> Subnet {
        let last = Ipv4Addr::new(192, 168, 4, last);
        Subnet {
            pools: vec![AddressPool { first: Ipv4Addr::new(192, 168, 4, 10), last }],
            ..subnet()
        }
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
        assert_eq!(leases.standing(address, mac(2), 99), AddressAvailability::Taken);
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
        let standing = |last, n, now| leases.standing(at(last), mac(n), now);
        assert_eq!([10, 11, 12].map(|last| standing(last, 2, 99)), [AddressAvailability::Taken; 3]);
        for now in [100, 101] {
            let to_another = [10, 11, 12].map(|last| standing(last, 2, now));
            assert_eq!(
                to_another,
                [
                    AddressAvailability::Free,
                    AddressAvailability::Remembered,
                    AddressAvailability::Free
                ],
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
        leases.keep_own(&[only]);
        assert_eq!(chosen(&leases, &subnet, mac(1), 1, &[]), None);
        leases.keep_own(&[]);
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
        assert_eq!(leases.own(mac(1), subnet.network, 60).unwrap().address, a);
        assert_eq!(
            leases.choose(&AddressRequest { mac: mac(9), ..wanted(&subnet, 0) }, 60),
            Some(c),
            "a free one first"
        );
        leases.apply(&bind(c, 9, 1000), 60);
        assert_eq!(
            leases.choose(&AddressRequest { mac: mac(8), ..wanted(&subnet, 0) }, 60),
            Some(b),
            "then the one that ended first"
        );
        leases.apply(&offer(b, 8, 200), 60);
        assert_eq!(leases.own(mac(2), subnet.network, 60), None, "taken over");
        assert_eq!(
            leases.choose(&AddressRequest { mac: mac(7), ..wanted(&subnet, 0) }, 60),
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
        assert_eq!(leases.standing(a, mac(2), 300), AddressAvailability::Taken);
    }

    #[test]
    fn reservations_routers_and_edges_are_never_chosen() {
        let reserved =
            Reservation { mac: mac(1), address: Ipv4Addr::new(192, 168, 4, 2), hostname: None };
        let pool = AddressPool {
            first: Ipv4Addr::new(192, 168, 4, 0),
            last: Ipv4Addr::new(192, 168, 4, 3),
        };
        let subnet = Subnet { pools: vec![pool], reservations: vec![reserved].into(), ..subnet() };
        let leases = LeaseTable::new(std::slice::from_ref(&subnet));
        let three = Ipv4Addr::new(192, 168, 4, 3);
        for seed in 0..50 {
            assert_eq!(chosen(&leases, &subnet, mac(5), seed, &[]), Some(three));
        }
        assert_eq!(
            chosen(&leases, &subnet, mac(5), 0, &[three]),
            None,
            "nor an address of our own"
        );
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
        let to_another = |now| leases.choose(&wanted(&subnet, 2), now);
        assert_eq!(
            [20_009, 20_010].map(to_another),
            [None, Some(a)],
            "it is an offer again, and no younger"
        );
        leases.advance(20_000 + OFFER_HOLD_S);
        assert_eq!(
            leases.standing(a, mac(2), 20_200),
            AddressAvailability::Remembered,
            "a failed commit binds nothing"
        );
    }

    #[test]
    fn rows_of_the_store_come_back_in_their_states() {
        let subnet = small_pool(13);
        let mut leases = LeaseTable::new(std::slice::from_ref(&subnet));
        let row = |last: u8, state, end_s| {
            let LeaseChange::Bind(lease) = bind(Ipv4Addr::new(192, 168, 4, last), last, end_s)
            else {
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
            leases.standing(a, mac(10), 500),
            AddressAvailability::Own(LeaseRowState::Bound)
        );
        assert_eq!(leases.standing(b, mac(1), 500), AddressAvailability::Remembered);
        assert_eq!(
            leases.standing(c, mac(12), 500),
            AddressAvailability::Taken,
            "declined for its finder too"
        );
        assert_eq!(chosen(&leases, &subnet, mac(1), 0, &[]), Some(d));
        check(&leases, &subnet, 500);
    }

    #[test]
    fn d27_what_a_machine_declined_counts_after_a_restart_while_the_address_is_kept_back() {
        const NOW: ClockSeconds = 1_000_000;
        let row =
            |last: u8, state, end_s| Lease { state, ..Lease::of_address(at(last), mac(1), end_s) };
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
            assert_eq!(leases.booted().next(), None, "{role:?} offered");
            let lease =
                Lease { firmware: of(role), start_s: 7, ..Lease::of_address(address, mac(1), 600) };
            assert_eq!(lease.is_of_booting_machine(), boots, "{role:?}");
            leases.apply(&LeaseChange::Bind(Box::new(lease)), 7);
            assert_eq!(leases.booted().next(), boots.then_some((mac(1), 7)), "{role:?}");
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
        leases.begin_move(PoolLayout::new(&[small_pool(14)]));
        let mut told = Vec::new();
        let pieces = [3, 3, 1].map(|rows| leases.move_on(rows, |_, address| told.push(address)));
        assert_eq!(pieces, [false, false, true]);
        assert_eq!(told, (10..17).map(at).collect::<Vec<_>>());
    }

    #[test]
    fn a_move_that_is_dropped_has_changed_nothing_and_comes_back() {
        let mut leases = LeaseTable::new(&[subnet()]);
        leases.apply(&bind(Ipv4Addr::new(192, 168, 4, 10), 1, 900), 0);
        let before = leases.layout.clone();
        let wanted = PoolLayout::new(&[small_pool(29)]);
        leases.begin_move(wanted.clone());
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
            let standing = leases.standing(address, mac(n), now);
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
                8 => leases.keep_own(&[Ipv4Addr::new(192, 168, 4, 10 + (next() % 40) as u8)]),
                9 if next() % 9 == 0 => leases.begin_move(PoolLayout::new(&[small_pool(29)])),
                9 => {
                    if leases.move_on(3, |_, _| ()) && leases.next.is_some() {
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
        let in_order = |h: &&LeaseTableEntry| {
            h.spot != LayoutPlace::Live && leases.is_in_pool(h.lease.address)
        };
        assert_eq!(held().filter(in_order).count(), leases.layout.in_orders());
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
            (leases.counts(), counts.all()),
            (counts, leases.len()),
            "what is counted is what is there"
        );
        let in_pool = |h: &&LeaseTableEntry| leases.is_in_pool(h.lease.address);
        let used = leases.used(subnet.network);
        assert_eq!(held().filter(in_pool).count(), used.addresses - used.free, "{used:?}");
        assert_eq!(
            held().filter(in_pool).filter(|h| h.spot == LayoutPlace::Live).count(),
            used.bound,
            "{used:?}"
        );
        assert_eq!(leases.offers.counts.values().sum::<usize>(), leases.offers.order.len());
        let named: usize = leases.by_mac.keys().map(|mac| leases.of(*mac).count()).sum();
        assert_eq!(named, held().filter(|h| h.lease.state != LeaseRowState::Declined).count());
        assert!(leases.by_mac.keys().all(|mac| leases.of(*mac).all(|lease| lease.mac == *mac)));
        let wanted = AddressRequest {
            network: subnet.network,
            mac: mac(200),
            circuit: Circuit::default(),
            seed: 9,
            ours: &[],
        };
        if let Some(address) = leases.choose(&wanted, now) {
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
        assert_eq!(leases.choose(&wanted(&subnet, 1), 19), None, "younger than that");
        assert_eq!(leases.choose(&wanted(&subnet, 1), 20), Some(at(10)));
        leases.apply(&offer(at(10), 1, 20 + OFFER_HOLD_S), 20);
        assert_eq!(leases.choose(&wanted(&subnet, 2), 20), None, "the next is not so old");
        assert_eq!(leases.choose(&wanted(&subnet, 2), 21), Some(at(11)));
        let [first, second] = [10, 1].map(|n| leases.standing(at(10), mac(n), 21));
        assert_eq!(
            (first, second),
            (AddressAvailability::Free, AddressAvailability::Own(LeaseRowState::Offered)),
            "whoever takes it first has it"
        );
        leases.apply(&bind(at(10), 10, 900), 21);
        assert_eq!(leases.standing(at(10), mac(1), 21), AddressAvailability::Taken);
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
                leases.choose(&wanted(&subnet, n), 1).expect("so many offers are a flood");
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
        let to_another = |now| leases.choose(&wanted(&subnet, 1), now);
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
            let to_another = |after_s| leases.choose(&wanted(&subnet, 2), offered_s + after_s);
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
        assert_eq!(leases.choose(&wanted(&subnet, 1), 60), Some(at(11)));
    }

    #[test]
    fn with_nothing_else_left_the_address_that_was_declined_first_goes_and_not_to_who_declined_it()
    {
        let (subnet, mut leases) = full(|n| offer(at(n), n, 1000));
        for n in 10..15 {
            leases.apply(
                &LeaseChange::Decline { address: at(n), mac: mac(n), until_s: u64::from(n) + 3600 },
                20,
            );
        }
        assert_eq!(leases.choose(&wanted(&subnet, 1), 21), Some(at(10)));
        assert_eq!(leases.choose(&wanted(&subnet, 10), 21), Some(at(11)));
        leases.apply(&offer(at(10), 1, 200), 21);
        assert_eq!(leases.choose(&wanted(&subnet, 2), 21), Some(at(11)));
    }

    /// A large pool, and two ports behind the relay agent of it.
    fn behind_ports() -> (Subnet, [Circuit; 2]) {
        let network = Ipv4Network { address: Ipv4Addr::new(10, 0, 0, 0), prefix: 16 };
        let pools = vec![AddressPool {
            first: Ipv4Addr::new(10, 0, 1, 0),
            last: Ipv4Addr::new(10, 0, 9, 255),
        }];
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
                let address =
                    leases.choose(&AddressRequest { circuit, ..wanted(&subnet, n) }, now).unwrap();
                assert_eq!(
                    leases.get(address),
                    None,
                    "machine {n} gets a free one, taken: {is_taken}"
                );
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
            let address = leases.choose(&wanted, now).unwrap();
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
        let free = leases.choose(&elsewhere, 100).unwrap();
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
        let own =
            |leases: &LeaseTable, now| leases.own(mac(1), network, now).map(|lease| lease.address);
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
            let lease = Lease { client_id: id, ..Lease::of_address(at(last), mac(1), end_s) };
            leases.apply(&LeaseChange::Bind(Box::new(lease)), 0);
        }
        let own = |system: Option<&[u8]>| {
            leases
                .own(ClientIdentity { mac: mac(1), system }, subnet().network, 50)
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
        assert_eq!(leases.of(mac(1)).count(), ENDED_PER_MACHINE_MAX);
        assert!(leases.of(mac(1)).all(|lease| lease.end_s > 70), "the latest are kept");
        (10..60).for_each(|n| leases.apply(&bind(at(n), 1, 1000), 80));
        assert!(leases.of(mac(1)).count() >= 50);
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
        assert!(
            booted.seen.contains_key(&name(0)) && booted.seen.contains_key(&name(MACHINES_MAX))
        );
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
            leases.standing(at(10), mac(2), 1),
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
                reading: ClockReading {
                    boot: Some("0".to_owned()),
                    since_boot_s: 40,
                    wall_s: WALL_S,
                },
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
            let mark = ClockMark {
                boot: boot.unwrap(),
                ahead_s: self.ahead_s,
                seen_s: self.now(),
                wall_s,
            };
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
                .own(mac(n), self.subnet.network, now)
                .filter(runs)
                .map(|lease| lease.address);
            let address = own.or_else(|| self.leases.choose(&wanted(&self.subnet, n), now))?;
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
                assert!(
                    ends_s.saturating_sub(now) <= left_s,
                    "{address} has {} s left",
                    ends_s - now
                );
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
        for (first, second) in
            STEPS_S.iter().flat_map(|first| STEPS_S.map(|second| (*first, second)))
        {
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

    /// A million rows shall fit into a small machine.
    #[test]
    fn a_row_is_small() {
        assert!(
            size_of::<Option<LeaseTableEntry>>() <= 144,
            "{}",
            size_of::<Option<LeaseTableEntry>>()
        );
    }
}
