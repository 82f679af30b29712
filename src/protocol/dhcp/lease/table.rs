//! The lease table: its rows, its indexes, and the methods that only read it.

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
    /// Indexes of empty places in `rows`.
    pub(super) vacant: Vec<u32>,
    /// The row of each address.
    pub(super) by_address: HashMap<u32, u32>,
    /// The first of a machine's addresses; `LeaseTableEntry::next` leads to the others.
    pub(super) by_mac: HashMap<Mac, u32>,
    pub(super) booted: BootedMachines,
    pub(super) layout: PoolLayout,
    pub(super) counts: LeaseStateCounts,
    /// The layout of a new configuration, and how many of `rows` are already in it.
    pub(super) next: Option<(PoolLayout, usize)>,
    /// (when the state of an address next changes by itself, address)
    pub(super) timers: BTreeSet<(ClockSeconds, u32)>,
    /// Leases on their way to the store, by address: how many.
    pub(super) committing: HashMap<u32, u32>,
    /// The same by REQUEST: address, machine, xid.
    pub(super) waiting: HashSet<(u32, Mac, u32)>,
    pub(super) offers: OffersByCircuit,
    pub(super) strikes: DeclineStrikes,
    /// Addresses of this host.
    pub(super) own: HashSet<u32>,
    /// Addresses that have, or had, a lease without end.
    pub(super) endless: HashSet<u32>,
    /// True until `finish_load`, which fills `timers`.
    pub(super) is_loading: bool,
}

impl LeaseTable {
    /// An empty table for these subnets. It reserves address space, not memory, for the rows that
    /// the pools can fill, up to a large site: to move a million rows at once would be a pause.
    pub fn new(subnets: &[Subnet]) -> Self {
        let layout = PoolLayout::new(subnets);
        let rows = Vec::with_capacity(layout.addresses().min(TABLE_ROOM_MAX));
        Self { rows, layout, ..Self::default() }
    }

    /// Every lease and offer, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.rows.iter().flatten().map(|entry| &entry.lease)
    }

    /// The lease or offer of this address.
    pub fn get(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.entry(u32::from(address)).map(|entry| &entry.lease)
    }

    /// Leases and offers of one machine, without the addresses that it declined.
    pub fn leases_of(&self, mac: Mac) -> impl Iterator<Item = &Lease> {
        let mut next = self.by_mac.get(&mac).copied().unwrap_or(0);
        std::iter::from_fn(move || {
            let entry = self.entry(next).filter(|_| next != 0)?;
            next = entry.next;
            Some(&entry.lease)
        })
    }

    pub(super) fn entry(&self, address: u32) -> Option<&LeaseTableEntry> {
        self.rows.get(*self.by_address.get(&address)? as usize)?.as_ref()
    }

    /// True while a lease, an offer, a quarantine or a pending commit keeps the address from other
    /// clients.
    pub(super) fn is_occupied(&self, entry: &LeaseTableEntry, now: ClockSeconds) -> bool {
        let leased = matches!(entry.lease.state, LeaseRowState::Bound | LeaseRowState::Declined)
            && entry.lease.end_s > now;
        leased || entry.offered_until_s > now || self.is_written(entry.lease.address)
    }

    /// What the boot protocols need to know of this address: the machine that has it, also by offer
    /// (a Pi 3 never sends REQUEST).
    pub fn binding(&self, address: Ipv4Addr) -> Option<AddressBinding> {
        let entry = self
            .entry(u32::from(address))
            .filter(|entry| entry.lease.state != LeaseRowState::Declined)?;
        let lease = &entry.lease;
        Some(AddressBinding {
            machine: Machine::from(lease),
            lease_end_s: lease.end_s.max(entry.offered_until_s),
        })
    }

    /// True where a lease in this network has not ended.
    pub fn is_leased(&self, network: Ipv4Network, now: ClockSeconds) -> bool {
        let runs = |lease: &Lease| lease.state == LeaseRowState::Bound && lease.end_s > now;
        let (first, last) = (u32::from(network.address), u32::from(network.broadcast()));
        // Search the smaller of the two: the addresses of the network, or the rows of the table.
        if ((last - first) as usize) < self.len() {
            return (first..=last)
                .any(|address| self.get(Ipv4Addr::from(address)).is_some_and(runs));
        }
        self.iter().any(|lease| network.contains(lease.address) && runs(lease))
    }

    /// Up to `rows` rows from the index `from` on, as an operator sees them, and the index of the
    /// next piece. A row that changes between two pieces may come twice or not at all.
    pub fn list_piece(
        &self,
        from: usize,
        rows: usize,
        now: ClockSeconds,
    ) -> (impl Iterator<Item = ListedAddress>, Option<usize>) {
        let (entries, next) = self.entries_from(from, rows);
        let listed = entries.map(move |entry| {
            ListedAddress::new(&entry.lease, entry.offered_until_s, entry.is_in_use, now)
        });
        (listed, next)
    }

    /// The same piece, as leases.
    pub fn lease_piece(
        &self,
        from: usize,
        rows: usize,
    ) -> (impl Iterator<Item = &Lease>, Option<usize>) {
        let (entries, next) = self.entries_from(from, rows);
        (entries.map(|entry| &entry.lease), next)
    }

    fn entries_from(
        &self,
        from: usize,
        rows: usize,
    ) -> (impl Iterator<Item = &LeaseTableEntry>, Option<usize>) {
        let to = from.saturating_add(rows).min(self.rows.len());
        let entries = self.rows.get(from..to).unwrap_or_default().iter().flatten();
        (entries, (to < self.rows.len()).then_some(to))
    }

    /// The machines that booted from the network at least once, with the time at which each was
    /// seen last.
    pub fn booted_machines(&self) -> impl Iterator<Item = (Mac, ClockSeconds)> {
        self.booted.seen.iter().map(|(mac, seen_s)| (*mac, *seen_s))
    }

    /// True for a machine whose firmware or loader ever had a lease, or has an offer now.
    pub(in crate::dhcp) fn has_booted(&self, mac: Mac) -> bool {
        self.booted.seen.contains_key(&mac)
            || self.leases_of(mac).filter_map(|lease| lease.firmware).any(is_boot_firmware)
    }

    /// The limits that declines put on machines, circuits and relays now.
    pub fn decline_limits(&self, now: ClockSeconds) -> Vec<DeclineLimit> {
        let machines = self
            .strikes
            .silenced_machines(now)
            .map(|(mac, until_s)| DeclineLimit { whom: DeclineScope::Machine(mac), until_s });
        let places = self
            .strikes
            .limited_circuits(now)
            .map(|(place, until_s)| DeclineLimit { whom: place.as_limit(), until_s });
        machines.chain(places).collect()
    }

    /// Forgets the declines of this machine, or (None) of all machines.
    pub fn pardon(&mut self, mac: Option<Mac>) {
        match mac {
            Some(mac) => self.strikes.pardon(mac),
            None => self.strikes = DeclineStrikes::default(),
        }
    }

    /// True where `LeaseChange::Free` may follow for the address: no lease of it is on its way to
    /// the store, and no machine has it now. `force`: a machine may have it.
    pub fn may_be_freed(&self, address: Ipv4Addr, force: bool, now: ClockSeconds) -> bool {
        let is_someones = self.entry(u32::from(address)).is_some_and(|entry| {
            entry.lease.state != LeaseRowState::Declined && self.is_occupied(entry, now)
        });
        !self.is_written(address) && (force || !is_someones)
    }

    /// How many addresses are in each state, inside and outside of pools.
    pub fn counts(&self) -> LeaseStateCounts {
        self.counts
    }

    /// How much of a subnet's pools is given.
    pub fn pool_use(&self, network: Ipv4Network) -> PoolUse {
        self.layout.pool_use(network)
    }

    /// Addresses that are held, remembered or declined.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// True where no address is held, remembered or declined.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// True while the machine has declined too many addresses to get one from a pool (D-27).
    pub(in crate::dhcp) fn is_silenced(&self, mac: Mac, now: ClockSeconds) -> bool {
        self.strikes.is_silenced(mac, now)
    }

    /// What a DECLINE of this machine would do now.
    pub(in crate::dhcp) fn weigh_decline(
        &self,
        mac: Mac,
        circuit: Circuit,
        now: ClockSeconds,
    ) -> DeclineVerdict {
        self.strikes.weigh(mac, circuit, now)
    }

    /// True while a lease of this address is on its way to the store, which would overtake any
    /// other change.
    pub fn is_written(&self, address: Ipv4Addr) -> bool {
        self.committing.contains_key(&u32::from(address))
    }

    /// True while the ACK to exactly this REQUEST waits for the store.
    pub(in crate::dhcp) fn is_committing(&self, address: Ipv4Addr, mac: Mac, xid: u32) -> bool {
        self.waiting.contains(&(u32::from(address), mac, xid))
    }

    /// How an address stands to a client.
    pub(in crate::dhcp) fn availability<'c>(
        &self,
        address: Ipv4Addr,
        client: impl Into<ClientIdentity<'c>>,
        now: ClockSeconds,
    ) -> AddressAvailability {
        let Some(entry) = self.entry(u32::from(address)) else { return AddressAvailability::Free };
        match entry.lease.state {
            LeaseRowState::Declined if entry.lease.end_s > now => AddressAvailability::Taken,
            LeaseRowState::Declined => AddressAvailability::Free,
            state if client.into().owns(&entry.lease) => AddressAvailability::Own(state),
            // Two machines have an unconfirmed offer of it: the first REQUEST gets it.
            _ if entry.contested && !self.is_written(address) => AddressAvailability::Free,
            _ if self.is_occupied(entry, now) => AddressAvailability::Taken,
            LeaseRowState::Offered => AddressAvailability::Free,
            _ => AddressAvailability::Remembered,
        }
    }

    /// The client's lease or offer in this network that counts (see `ClientIdentity::rank`).
    pub(in crate::dhcp) fn find_client_lease<'c>(
        &self,
        client: impl Into<ClientIdentity<'c>>,
        network: Ipv4Network,
        now: ClockSeconds,
    ) -> Option<&Lease> {
        let client = client.into();
        let own = self
            .leases_of(client.mac)
            .filter(|lease| network.contains(lease.address) && client.owns(lease));
        own.max_by_key(|lease| client.rank(lease, now))
    }

    /// True where the address is in a pool, not set aside, and not this host's.
    pub(in crate::dhcp) fn is_in_pool(&self, address: Ipv4Addr) -> bool {
        self.layout.may_give(u32::from(address))
    }
}
