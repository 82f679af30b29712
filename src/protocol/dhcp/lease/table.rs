//! The lease table: its rows, its indexes, and the questions that only read it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;

use super::booted::BootedMachines;
use super::client::{AddressAvailability, ClientIdentity};
use super::entry::LeaseTableEntry;
use super::offers::OffersByCircuit;
use crate::dhcp::classify::is_boot_firmware;
use crate::dhcp::layout::PoolLayout;
use crate::dhcp::lease_record::{Circuit, ClockSeconds, Lease, LeaseRowState};
use crate::dhcp::limits::TABLE_ROOM_MAX;
use crate::dhcp::listing::{DeclineLimit, DeclineScope, ListedAddress};
use crate::dhcp::pool_use::{LeaseStateCounts, PoolUse};
use crate::dhcp::strikes::{DeclineStrikes, DeclineVerdict};
use crate::dhcp::subnet::Subnet;
use crate::model::binding::AddressBinding;
use crate::model::machine::{Mac, Machine};
use crate::model::network::Ipv4Network;

/// All leases and offers. Bounded by the addresses of the pools and reservations, whatever clients
/// send.
#[derive(Clone, Debug, Default)]
pub struct LeaseTable {
    pub(super) rows: Vec<Option<LeaseTableEntry>>,
    /// Places in `rows` that hold nothing.
    pub(super) vacant: Vec<u32>,
    pub(super) by_address: HashMap<u32, u32>,
    /// The first of a machine's addresses; `LeaseTableEntry::next` leads to the others.
    pub(super) by_mac: HashMap<Mac, u32>,
    pub(super) booted: BootedMachines,
    pub(super) layout: PoolLayout,
    pub(super) counts: LeaseStateCounts,
    /// The layout that comes next, and how many of `rows` are in it.
    pub(super) next: Option<(PoolLayout, usize)>,
    /// (when an address next changes state by itself, address)
    pub(super) timers: BTreeSet<(ClockSeconds, u32)>,
    /// Leases on their way to the store: how many of an address, and to which REQUESTs.
    pub(super) committing: HashMap<u32, u32>,
    pub(super) waiting: HashSet<(u32, Mac, u32)>,
    pub(super) offers: OffersByCircuit,
    pub(super) strikes: DeclineStrikes,
    pub(super) own: HashSet<u32>,
    /// Where leases without end are, or were.
    pub(super) endless: HashSet<u32>,
    /// `timers` is not kept: `finish_load` makes it.
    pub(super) is_loading: bool,
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

    pub(super) fn held(&self, address: u32) -> Option<&LeaseTableEntry> {
        self.rows.get(*self.by_address.get(&address)? as usize)?.as_ref()
    }

    pub(super) fn is_occupied(&self, held: &LeaseTableEntry, now: ClockSeconds) -> bool {
        let leased = matches!(held.lease.state, LeaseRowState::Bound | LeaseRowState::Declined)
            && held.lease.end_s > now;
        leased || held.offered_until_s > now || self.is_written(held.lease.address)
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

    pub(super) fn held_from(
        &self,
        from: usize,
        rows: usize,
    ) -> (impl Iterator<Item = &LeaseTableEntry>, Option<usize>) {
        let to = from.saturating_add(rows).min(self.rows.len());
        let held = self.rows.get(from..to).unwrap_or_default().iter().flatten();
        (held, (to < self.rows.len()).then_some(to))
    }

    /// The machines that booted from the network once, and when they were seen last.
    pub fn booted(&self) -> impl Iterator<Item = (Mac, ClockSeconds)> {
        self.booted.seen.iter().map(|(mac, seen_s)| (*mac, *seen_s))
    }

    /// True for a machine whose firmware or loader had a lease at any time, or has an offer now.
    pub(in crate::dhcp) fn has_booted(&self, mac: Mac) -> bool {
        self.booted.seen.contains_key(&mac)
            || self.of(mac).filter_map(|lease| lease.firmware).any(is_boot_firmware)
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

    pub(in crate::dhcp) fn is_silenced(&self, mac: Mac, now: ClockSeconds) -> bool {
        self.strikes.is_silenced(mac, now)
    }

    pub(in crate::dhcp) fn weigh_decline(
        &self,
        mac: Mac,
        circuit: Circuit,
        now: ClockSeconds,
    ) -> DeclineVerdict {
        self.strikes.verdict(mac, circuit, now)
    }

    /// True while a lease of this address is on its way to the store: whatever else is said of it
    /// would be overtaken.
    pub fn is_written(&self, address: Ipv4Addr) -> bool {
        self.committing.contains_key(&u32::from(address))
    }

    /// True while the ACK to this very REQUEST waits for the store.
    pub(in crate::dhcp) fn is_committing(&self, address: Ipv4Addr, mac: Mac, xid: u32) -> bool {
        self.waiting.contains(&(u32::from(address), mac, xid))
    }

    pub(in crate::dhcp) fn standing<'c>(
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
    pub(in crate::dhcp) fn own<'c>(
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
    pub(in crate::dhcp) fn is_in_pool(&self, address: Ipv4Addr) -> bool {
        self.layout.gives(u32::from(address))
    }
}
