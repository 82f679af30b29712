//! The pools of one configuration: which addresses are free, and in which order used ones are
//! given again when none is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;

use super::lease_record::ClockSeconds;
use super::pool::FreeMap;
use super::pool_use::PoolUse;
use super::subnet::Subnet;
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// Where a held address stands in the orders of a layout, with the time that sorts the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LayoutPlace {
    /// Between two places, while the row changes.
    #[default]
    Nowhere,
    /// In no order: a lease runs, or the store is writing one.
    Live,
    /// The lease is over.
    Ended(ClockSeconds),
    /// Offered until this time, and not confirmed by a REQUEST.
    Offered(ClockSeconds),
    /// Kept back until this time, after a DECLINE.
    Declined(ClockSeconds),
}

/// Pools and orders. The server builds a new layout beside the running table, fills it with the
/// rows of the table, and then swaps it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolLayout {
    /// Sorted by first address; they do not overlap.
    pools: Vec<FreeMap>,
    /// For each pool the index of the first pool of its subnet, which is the group of its orders.
    groups: Vec<usize>,
    /// Addresses that the pools never give: reservations, routers, boot servers, network and
    /// broadcast addresses.
    set_aside: HashSet<u32>,
    reserved: HashMap<u32, Mac>,
    /// Addresses of this host, which no client gets.
    own: HashSet<u32>,
    ended: ReuseOrder,
    offered: ReuseOrder,
    declined: ReuseOrder,
    /// Addresses in the orders, for each group.
    counts: Vec<OrderCounts>,
    /// Addresses of pools that are set aside or belong to this host, for each group.
    kept: Vec<usize>,
}

/// How many addresses of a subnet stand in each order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OrderCounts {
    ended: usize,
    offered: usize,
    declined: usize,
}

impl OrderCounts {
    fn count_mut(&mut self, spot: LayoutPlace) -> Option<&mut usize> {
        match spot {
            LayoutPlace::Nowhere | LayoutPlace::Live => None,
            LayoutPlace::Ended(_) => Some(&mut self.ended),
            LayoutPlace::Offered(_) => Some(&mut self.offered),
            LayoutPlace::Declined(_) => Some(&mut self.declined),
        }
    }
}

/// (group, time, address): the first of a group goes first.
type ReuseOrder = BTreeSet<(usize, ClockSeconds, u32)>;

impl PoolLayout {
    /// A layout in which all addresses of these subnets' pools are free.
    pub fn new(subnets: &[Subnet]) -> Self {
        let set_aside = collect_set_aside(subnets);
        let mut pools = build_free_maps(subnets);
        let mut networks: Vec<Ipv4Network> = subnets.iter().map(|subnet| subnet.network).collect();
        networks.sort_unstable_by_key(|network| u32::from(network.address));

        // Pools of one subnet are next to each other in the order of their addresses.
        let mut groups: Vec<usize> = Vec::with_capacity(pools.len());
        let mut before = None;
        for (index, pool) in pools.iter().enumerate() {
            let after =
                networks.partition_point(|network| u32::from(network.address) <= pool.first());
            let network = after.checked_sub(1);
            let same =
                before.filter(|(known, _)| *known == network).map_or(index, |(_, first)| first);
            before = Some((network, same));
            groups.push(same);
        }

        let (counts, mut kept) = (vec![OrderCounts::default(); pools.len()], vec![0; pools.len()]);
        for &address in &set_aside {
            if let Some(at) = find_pool(&pools, address) {
                pools[at].set(address, false);
                kept[groups[at]] += 1;
            }
        }
        Self {
            pools,
            groups,
            set_aside,
            counts,
            kept,
            reserved: map_reservations(subnets),
            ..Self::default()
        }
    }

    /// How many addresses clients can have, all pools and reservations together.
    pub(super) fn addresses(&self) -> usize {
        self.pools.iter().map(FreeMap::size).sum::<usize>() + self.reserved.len()
    }

    pub(super) fn is_reserved_for(&self, address: u32, mac: Mac) -> bool {
        self.reserved.get(&address) == Some(&mac)
    }

    /// True where the address is in a pool and may be given to any machine.
    pub(super) fn may_give(&self, address: u32) -> bool {
        find_pool(&self.pools, address).is_some() && !self.is_kept(address)
    }

    fn is_kept(&self, address: u32) -> bool {
        self.set_aside.contains(&address) || self.own.contains(&address)
    }

    /// Enters a held address into the order of its place; it is free no longer.
    pub(super) fn insert(&mut self, address: u32, spot: LayoutPlace) {
        let Some(pool) = find_pool(&self.pools, address) else { return };
        self.pools[pool].set(address, false);
        if self.is_kept(address) {
            return;
        }
        let group = self.groups[pool];
        if let Some((order, time)) = self.order_mut(spot)
            && order.insert((group, time, address))
            && let Some(count) = self.counts[group].count_mut(spot)
        {
            *count += 1;
        }
    }

    /// Takes an address out of its order. It becomes free only with `set_free`.
    pub(super) fn remove(&mut self, address: u32, spot: LayoutPlace) {
        let Some(group) = find_pool(&self.pools, address).map(|pool| self.groups[pool]) else {
            return;
        };
        if let Some((order, time)) = self.order_mut(spot)
            && order.remove(&(group, time, address))
            && let Some(count) = self.counts[group].count_mut(spot)
        {
            *count -= 1;
        }
    }

    /// Marks an address that no client has as free.
    pub(super) fn set_free(&mut self, address: u32) {
        if !self.is_kept(address)
            && let Some(pool) = find_pool(&self.pools, address)
        {
            self.pools[pool].set(address, true);
        }
    }

    fn order_mut(&mut self, spot: LayoutPlace) -> Option<(&mut ReuseOrder, ClockSeconds)> {
        match spot {
            LayoutPlace::Nowhere | LayoutPlace::Live => None,
            LayoutPlace::Ended(time) => Some((&mut self.ended, time)),
            LayoutPlace::Offered(time) => Some((&mut self.offered, time)),
            LayoutPlace::Declined(time) => Some((&mut self.declined, time)),
        }
    }

    /// Sets the addresses that this host has now. Returns those that changed: the table enters its
    /// rows for them again.
    pub(super) fn set_own(&mut self, own: HashSet<u32>) -> Vec<u32> {
        let before = std::mem::replace(&mut self.own, own);
        let changed: Vec<u32> = before.symmetric_difference(&self.own).copied().collect();
        for &address in &changed {
            let Some(pool) = find_pool(&self.pools, address) else { continue };
            let kept = self.is_kept(address);
            self.pools[pool].set(address, !kept);
            if !self.set_aside.contains(&address) {
                let count = &mut self.kept[self.groups[pool]];
                *count = if kept { *count + 1 } else { *count - 1 };
            }
        }
        changed
    }

    /// The first free address of this subnet at or after the place that `start` falls on, without
    /// those in `but`.
    pub(super) fn next_free(
        &self,
        network: Ipv4Network,
        start: u64,
        but: &[Ipv4Addr],
    ) -> Option<Ipv4Addr> {
        self.pools[self.pools_within(network)].iter().find_map(|pool| {
            let mut start = start;
            // A step for each address that `but` rules out, and one for the result.
            (0..=but.len()).find_map(|_| {
                let found = pool.next_free(start)?;
                start = u64::from(u32::from(found) - pool.first()) + 1;
                (!but.contains(&found)).then_some(found)
            })
        })
    }

    /// Addresses of this subnet whose lease is over, the one that ended first first.
    pub(super) fn ended(&self, network: Ipv4Network) -> impl Iterator<Item = u32> {
        self.iter_group(&self.ended, network)
    }

    /// Addresses with an unconfirmed offer, the one that lapses first first.
    pub(super) fn offered(&self, network: Ipv4Network) -> impl Iterator<Item = u32> {
        self.iter_group(&self.offered, network)
    }

    /// Declined addresses, the oldest first.
    pub(super) fn declined(&self, network: Ipv4Network) -> impl Iterator<Item = u32> {
        self.iter_group(&self.declined, network)
    }

    /// How many offers of this subnet are unconfirmed.
    pub(super) fn offer_count(&self, network: Ipv4Network) -> usize {
        self.counts.get(self.pools_within(network).start).map_or(0, |counts| counts.offered)
    }

    /// How much of this subnet's pools is given. The cost grows with the number of pools, not of
    /// addresses.
    pub fn pool_use(&self, network: Ipv4Network) -> PoolUse {
        let within = self.pools_within(network);
        let Some(counts) = self.counts.get(within.start).filter(|_| !within.is_empty()) else {
            return PoolUse::default();
        };
        let pools = &self.pools[within.clone()];
        let addresses =
            pools.iter().map(FreeMap::size).sum::<usize>().saturating_sub(self.kept[within.start]);
        let free = pools.iter().map(FreeMap::free_count).sum::<usize>();
        let OrderCounts { ended, offered, declined: kept_back } = *counts;
        let bound = addresses.saturating_sub(free + ended + offered + kept_back);
        PoolUse { addresses, free, bound, offered, ended, kept_back }
    }

    fn iter_group<'a>(
        &self,
        order: &'a ReuseOrder,
        network: Ipv4Network,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let within = self.pools_within(network);
        // A subnet without a pool has no group: the range is empty.
        let group = if within.is_empty() { usize::MAX } else { within.start };
        order.range((group, 0, 0)..(group.saturating_add(1), 0, 0)).map(|(_, _, address)| *address)
    }

    fn pools_within(&self, network: Ipv4Network) -> Range<usize> {
        let first = u32::from(network.address);
        let last = u32::from(network.broadcast());
        let start = self.pools.partition_point(|pool| pool.first() < first);
        let end = self.pools.partition_point(|pool| pool.first() <= last);
        start..end
    }

    /// How many addresses are in an order; checks that the counts agree.
    #[cfg(test)]
    pub(super) fn count_ordered(&self) -> usize {
        let sum = |count: fn(&OrderCounts) -> usize| self.counts.iter().map(count).sum::<usize>();
        assert_eq!(sum(|counts| counts.offered), self.offered.len());
        assert_eq!(sum(|counts| counts.ended), self.ended.len());
        assert_eq!(sum(|counts| counts.declined), self.declined.len());
        self.ended.len() + self.offered.len() + self.declined.len()
    }
}

/// The pool that an address lies in.
fn find_pool(pools: &[FreeMap], address: u32) -> Option<usize> {
    let at = pools.partition_point(|pool| pool.first() <= address).checked_sub(1)?;
    pools.get(at).filter(|pool| pool.contains(address)).map(|_| at)
}

/// A map for each pool, sorted by address, with overlaps cut off.
fn build_free_maps(subnets: &[Subnet]) -> Vec<FreeMap> {
    let mut ranges: Vec<(u32, u32)> = subnets
        .iter()
        .flat_map(|s| &s.pools)
        .map(|pool| (u32::from(pool.first), u32::from(pool.last)))
        .collect();
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

fn map_reservations(subnets: &[Subnet]) -> HashMap<u32, Mac> {
    subnets.iter().flat_map(|s| &s.reservations).map(|r| (u32::from(r.address), r.mac)).collect()
}

/// Addresses that no pool gives (see `PoolLayout::set_aside`).
fn collect_set_aside(subnets: &[Subnet]) -> HashSet<u32> {
    subnets.iter().flat_map(list_set_aside).map(u32::from).collect()
}

fn list_set_aside(subnet: &Subnet) -> Vec<Ipv4Addr> {
    let mut aside: Vec<Ipv4Addr> = subnet.reservations.iter().map(|r| r.address).collect();
    aside.extend(subnet.routers.iter().chain(&subnet.next_server));
    if subnet.network.prefix < 31 {
        aside.extend([subnet.network.address, subnet.network.broadcast()]);
    }
    aside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::subnet::{AddressPool, Reservation};
    use crate::dhcp::testing::{relayed_subnet, subnet};

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 4, last)
    }

    fn with_pools(pools: &[(u8, u8)]) -> Subnet {
        let pools = pools
            .iter()
            .map(|(first, last)| AddressPool { first: at(*first), last: at(*last) })
            .collect();
        Subnet { pools, ..subnet() }
    }

    #[test]
    fn pools_of_one_subnet_share_their_orders_and_no_others() {
        let two = with_pools(&[(10, 12), (20, 22)]);
        let mut layout = PoolLayout::new(&[relayed_subnet(), two.clone()]);
        for (address, time) in [(at(21), 5), (at(11), 9), (Ipv4Addr::new(10, 7, 0, 60), 1)] {
            layout.insert(u32::from(address), LayoutPlace::Ended(time));
        }
        assert_eq!(layout.ended(two.network).collect::<Vec<_>>(), [at(21), at(11)].map(u32::from));
        assert_eq!(layout.ended(relayed_subnet().network).count(), 1);
        let nowhere = Ipv4Network { address: Ipv4Addr::new(10, 9, 0, 0), prefix: 24 };
        assert_eq!((layout.ended(nowhere).count(), layout.offer_count(nowhere)), (0, 0));
        assert_eq!(layout.pool_use(nowhere), PoolUse::default());
        layout.insert(u32::from(at(12)), LayoutPlace::Offered(3));
        layout.insert(u32::from(at(22)), LayoutPlace::Offered(2));
        assert_eq!(
            (layout.offer_count(two.network), layout.offered(two.network).next()),
            (2, Some(u32::from(at(22))))
        );
        layout.remove(u32::from(at(22)), LayoutPlace::Offered(2));
        assert_eq!(layout.offer_count(two.network), 1);
    }

    #[test]
    fn how_much_of_a_subnet_is_given_is_counted_and_what_nobody_gets_is_no_part_of_it() {
        let reserve = |last| Reservation {
            mac: Mac([2, 0, 0, 0, 0, last]),
            address: at(last),
            hostname: None,
        };
        let two = Subnet {
            reservations: vec![reserve(11), reserve(99)].into(),
            ..with_pools(&[(10, 12), (20, 22)])
        };
        let mut layout = PoolLayout::new(&[relayed_subnet(), two.clone()]);
        let all = PoolUse { addresses: 5, free: 5, ..PoolUse::default() };
        assert_eq!(layout.pool_use(two.network), all, "a reservation is one machine's");
        for (last, spot) in [
            (10, LayoutPlace::Live),
            (12, LayoutPlace::Offered(9)),
            (20, LayoutPlace::Ended(3)),
            (21, LayoutPlace::Declined(9)),
        ] {
            layout.insert(u32::from(at(last)), spot);
            layout.insert(u32::from(at(last)), spot);
        }
        layout.insert(u32::from(at(11)), LayoutPlace::Live);
        let used = PoolUse { addresses: 5, free: 1, bound: 1, offered: 1, ended: 1, kept_back: 1 };
        assert_eq!(layout.pool_use(two.network), used);
        // The server gets an address of its own pool, one that is set aside, and one that is
        // leased; then they go.
        layout.set_own([22, 11, 10].map(at).map(u32::from).into());
        assert_eq!(
            layout.pool_use(two.network),
            PoolUse { addresses: 3, free: 0, bound: 0, ..used }
        );
        layout.set_own(HashSet::new());
        layout.insert(u32::from(at(10)), LayoutPlace::Live);
        assert_eq!(layout.pool_use(two.network), used);
        assert_eq!(
            layout.pool_use(relayed_subnet().network),
            PoolUse { addresses: 50, free: 50, ..PoolUse::default() }
        );
    }

    /// Each address that may not be given is stepped over, wherever the search begins and however
    /// many there are.
    #[test]
    fn what_is_passed_over_hides_nothing_that_is_free() {
        let subnet = with_pools(&[(10, 40)]);
        let own: Vec<Ipv4Addr> = (10..40).map(at).collect();
        let mut layout = PoolLayout::new(std::slice::from_ref(&subnet));
        for start in 0..100 {
            assert_eq!(layout.next_free(subnet.network, start, &own), Some(at(40)), "from {start}");
        }
        layout.set_own(own.iter().copied().map(u32::from).collect());
        for start in 0..100 {
            assert_eq!(layout.next_free(subnet.network, start, &[]), Some(at(40)), "from {start}");
        }
        assert!(!layout.may_give(u32::from(at(20))));
        layout.set_own(HashSet::new());
        assert!(layout.may_give(u32::from(at(20))));
        assert_eq!(layout.next_free(subnet.network, 10, &[]), Some(at(20)));
    }

    /// RFC 3021: a network of two addresses has neither a name nor a broadcast address of its own.
    #[test]
    fn network_and_broadcast_address_are_given_only_where_a_network_has_none() {
        for (prefix, given) in [(24, 1..=6), (29, 1..=6), (30, 1..=2), (31, 0..=1), (32, 0..=0)] {
            let network = Ipv4Network { address: at(0), prefix };
            let pools = vec![AddressPool { first: at(0), last: at(7) }];
            let layout =
                PoolLayout::new(&[Subnet { network, pools, routers: Vec::new(), ..subnet() }]);
            let kept = [network.address, network.broadcast()]
                .map(|address| !layout.may_give(u32::from(address)));
            assert_eq!(kept, [prefix < 31; 2], "/{prefix}");
            assert!(given.map(at).all(|address| layout.may_give(u32::from(address))), "/{prefix}");
        }
    }

    #[test]
    fn as_many_addresses_can_be_held_as_pools_and_reservations_have() {
        let reserve = |last| Reservation {
            mac: Mac([2, 0, 0, 0, 0, last]),
            address: at(last),
            hostname: None,
        };
        let two = Subnet {
            reservations: vec![reserve(2), reserve(3)].into(),
            ..with_pools(&[(10, 12), (20, 23)])
        };
        assert_eq!(PoolLayout::new(&[two, relayed_subnet()]).addresses(), 3 + 4 + 2 + 50);
        assert_eq!(PoolLayout::new(&[]).addresses(), 0);
    }

    #[test]
    fn an_address_is_found_in_one_of_many_pools() {
        let pools: Vec<(u8, u8)> = (0..80).map(|n| (3 * n, 3 * n + 1)).collect();
        let subnet = with_pools(&pools);
        let layout = PoolLayout::new(std::slice::from_ref(&subnet));
        for last in 2..240 {
            assert_eq!(layout.may_give(u32::from(at(last))), last % 3 != 2, "{last}");
        }
    }
}
