//! What one configuration makes of addresses: its pools, what is free there, and in which order the
//! rest is given when nothing is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;

use super::lease_record::Time;
use super::pool::FreeMap;
use super::pool_use::PoolUse;
use super::subnet::Subnet;
use crate::model::machine::Mac;
use crate::model::network::Network;

/// Where a held address stands in the orders of a layout. The time is what the order goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Spot {
    /// On its way from one place to another.
    #[default]
    Nowhere,
    /// In no order: a lease runs, or is being written.
    Live,
    /// The lease is over.
    Ended(Time),
    /// Offered until then, and not confirmed.
    Offered(Time),
    /// Declined until then.
    Declined(Time),
}

/// Pools and orders. Built beside the running table, then filled with what is held, then put in the
/// place of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// By first address; they do not overlap.
    pools: Vec<FreeMap>,
    /// For each pool the first pool of its subnet: by this number orders are kept.
    groups: Vec<usize>,
    /// Given to one machine only, or to nobody.
    set_aside: HashSet<u32>,
    reserved: HashMap<u32, Mac>,
    /// Addresses of this host: given to nobody.
    own: HashSet<u32>,
    ended: Order,
    offered: Order,
    declined: Order,
    /// Addresses in the orders, for each group.
    counts: Vec<InOrders>,
    /// Addresses of pools that are set aside or this host's own, for each group.
    kept: Vec<usize>,
}

/// How many addresses of a subnet stand in each order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InOrders {
    ended: usize,
    offered: usize,
    declined: usize,
}

impl InOrders {
    fn of(&mut self, spot: Spot) -> Option<&mut usize> {
        match spot {
            Spot::Nowhere | Spot::Live => None,
            Spot::Ended(_) => Some(&mut self.ended),
            Spot::Offered(_) => Some(&mut self.offered),
            Spot::Declined(_) => Some(&mut self.declined),
        }
    }
}

/// (group, time, address): the first of a group goes first.
type Order = BTreeSet<(usize, Time, u32)>;

impl Layout {
    /// All addresses of these subnets' pools are free.
    pub fn new(subnets: &[Subnet]) -> Self {
        let set_aside = set_aside(subnets);
        let mut pools = pools(subnets);
        let mut networks: Vec<Network> = subnets.iter().map(|subnet| subnet.network).collect();
        networks.sort_unstable_by_key(|network| u32::from(network.address));
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
        let (counts, mut kept) = (vec![InOrders::default(); pools.len()], vec![0; pools.len()]);
        for &address in &set_aside {
            if let Some(at) = find(&pools, address) {
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
            reserved: reserved(subnets),
            ..Self::default()
        }
    }

    /// How many addresses can be held, all pools and reservations together.
    pub(super) fn addresses(&self) -> usize {
        self.pools.iter().map(FreeMap::size).sum::<usize>() + self.reserved.len()
    }

    pub(super) fn is_reserved_for(&self, address: u32, mac: Mac) -> bool {
        self.reserved.get(&address) == Some(&mac)
    }

    /// True where the address is in a pool and may be given to any machine.
    pub(super) fn gives(&self, address: u32) -> bool {
        find(&self.pools, address).is_some() && !self.is_kept(address)
    }

    fn is_kept(&self, address: u32) -> bool {
        self.set_aside.contains(&address) || self.own.contains(&address)
    }

    /// The address is held by somebody, and stands there.
    pub(super) fn put(&mut self, address: u32, spot: Spot) {
        let Some(pool) = find(&self.pools, address) else { return };
        self.pools[pool].set(address, false);
        if self.is_kept(address) {
            return;
        }
        let group = self.groups[pool];
        if let Some((order, time)) = self.order(spot)
            && order.insert((group, time, address))
            && let Some(count) = self.counts[group].of(spot)
        {
            *count += 1;
        }
    }

    /// The address stands there no longer. It is not free before `free`.
    pub(super) fn take(&mut self, address: u32, spot: Spot) {
        let Some(group) = find(&self.pools, address).map(|pool| self.groups[pool]) else { return };
        if let Some((order, time)) = self.order(spot)
            && order.remove(&(group, time, address))
            && let Some(count) = self.counts[group].of(spot)
        {
            *count -= 1;
        }
    }

    /// Nobody holds the address.
    pub(super) fn free(&mut self, address: u32) {
        if !self.is_kept(address)
            && let Some(pool) = find(&self.pools, address)
        {
            self.pools[pool].set(address, true);
        }
    }

    fn order(&mut self, spot: Spot) -> Option<(&mut Order, Time)> {
        match spot {
            Spot::Nowhere | Spot::Live => None,
            Spot::Ended(time) => Some((&mut self.ended, time)),
            Spot::Offered(time) => Some((&mut self.offered, time)),
            Spot::Declined(time) => Some((&mut self.declined, time)),
        }
    }

    /// Addresses that this host has now. Those that came and those that went, for `put` and `free`
    /// of what the table knows.
    pub(super) fn own(&mut self, own: HashSet<u32>) -> Vec<u32> {
        let before = std::mem::replace(&mut self.own, own);
        let changed: Vec<u32> = before.symmetric_difference(&self.own).copied().collect();
        for &address in &changed {
            let Some(pool) = find(&self.pools, address) else { continue };
            let kept = self.is_kept(address);
            self.pools[pool].set(address, !kept);
            if !self.set_aside.contains(&address) {
                let count = &mut self.kept[self.groups[pool]];
                *count = if kept { *count + 1 } else { *count - 1 };
            }
        }
        changed
    }

    /// A free address of this subnet at or after where `start` falls, other than these.
    pub(super) fn next_free(
        &self,
        network: Network,
        start: u64,
        but: &[Ipv4Addr],
    ) -> Option<Ipv4Addr> {
        self.pools[self.within(network)].iter().find_map(|pool| {
            let mut start = start;
            // One step for each address that is passed over, and one for the address that is found.
            (0..=but.len()).find_map(|_| {
                let found = pool.next(start)?;
                start = u64::from(u32::from(found) - pool.first()) + 1;
                (!but.contains(&found)).then_some(found)
            })
        })
    }

    /// Addresses of this subnet whose lease is over, the one that ended first goes first.
    pub(super) fn ended(&self, network: Network) -> impl Iterator<Item = u32> {
        self.of_group(&self.ended, network)
    }

    /// Offers that nobody has confirmed, the one that lapses first goes first.
    pub(super) fn offered(&self, network: Network) -> impl Iterator<Item = u32> {
        self.of_group(&self.offered, network)
    }

    /// Declined addresses, the oldest first.
    pub(super) fn declined(&self, network: Network) -> impl Iterator<Item = u32> {
        self.of_group(&self.declined, network)
    }

    /// How many offers of this subnet nobody has confirmed.
    pub(super) fn offers(&self, network: Network) -> usize {
        self.counts.get(self.within(network).start).map_or(0, |counts| counts.offered)
    }

    /// How much of this subnet's pools is given. Costs what its pools are, not its addresses.
    pub fn used(&self, network: Network) -> PoolUse {
        let within = self.within(network);
        let Some(counts) = self.counts.get(within.start).filter(|_| !within.is_empty()) else {
            return PoolUse::default();
        };
        let pools = &self.pools[within.clone()];
        let addresses =
            pools.iter().map(FreeMap::size).sum::<usize>().saturating_sub(self.kept[within.start]);
        let free = pools.iter().map(FreeMap::free).sum::<usize>();
        let InOrders { ended, offered, declined: kept_back } = *counts;
        let bound = addresses.saturating_sub(free + ended + offered + kept_back);
        PoolUse { addresses, free, bound, offered, ended, kept_back }
    }

    fn of_group<'a>(
        &self,
        order: &'a Order,
        network: Network,
    ) -> impl Iterator<Item = u32> + use<'a> {
        let within = self.within(network);
        // Without a pool there is no group, and so an empty range.
        let group = if within.is_empty() { usize::MAX } else { within.start };
        order.range((group, 0, 0)..(group.saturating_add(1), 0, 0)).map(|(_, _, address)| *address)
    }

    fn within(&self, network: Network) -> Range<usize> {
        let first = u32::from(network.address);
        let last = u32::from(network.broadcast());
        let start = self.pools.partition_point(|pool| pool.first() < first);
        let end = self.pools.partition_point(|pool| pool.first() <= last);
        start..end
    }

    /// Every index is where its address belongs, for tests.
    #[cfg(test)]
    pub(super) fn in_orders(&self) -> usize {
        let sum = |count: fn(&InOrders) -> usize| self.counts.iter().map(count).sum::<usize>();
        assert_eq!(sum(|counts| counts.offered), self.offered.len());
        assert_eq!(sum(|counts| counts.ended), self.ended.len());
        assert_eq!(sum(|counts| counts.declined), self.declined.len());
        self.ended.len() + self.offered.len() + self.declined.len()
    }
}

/// The pool that an address lies in.
fn find(pools: &[FreeMap], address: u32) -> Option<usize> {
    let at = pools.partition_point(|pool| pool.first() <= address).checked_sub(1)?;
    pools.get(at).filter(|pool| pool.contains(address)).map(|_| at)
}

/// Ranges of all pools, sorted, overlaps cut off.
fn pools(subnets: &[Subnet]) -> Vec<FreeMap> {
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

fn reserved(subnets: &[Subnet]) -> HashMap<u32, Mac> {
    subnets.iter().flat_map(|s| &s.reservations).map(|r| (u32::from(r.address), r.mac)).collect()
}

/// Addresses that no pool may give: reservations, routers, boot servers, network and broadcast
/// addresses.
fn set_aside(subnets: &[Subnet]) -> HashSet<u32> {
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
    use super::*;
    use crate::dhcp::subnet::{Pool, Reservation};
    use crate::dhcp::testing::{relayed_subnet, subnet};

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 4, last)
    }

    fn with_pools(pools: &[(u8, u8)]) -> Subnet {
        let pools =
            pools.iter().map(|(first, last)| Pool { first: at(*first), last: at(*last) }).collect();
        Subnet { pools, ..subnet() }
    }

    #[test]
    fn pools_of_one_subnet_share_their_orders_and_no_others() {
        let two = with_pools(&[(10, 12), (20, 22)]);
        let mut layout = Layout::new(&[relayed_subnet(), two.clone()]);
        for (address, time) in [(at(21), 5), (at(11), 9), (Ipv4Addr::new(10, 7, 0, 60), 1)] {
            layout.put(u32::from(address), Spot::Ended(time));
        }
        assert_eq!(layout.ended(two.network).collect::<Vec<_>>(), [at(21), at(11)].map(u32::from));
        assert_eq!(layout.ended(relayed_subnet().network).count(), 1);
        let nowhere = Network { address: Ipv4Addr::new(10, 9, 0, 0), prefix: 24 };
        assert_eq!((layout.ended(nowhere).count(), layout.offers(nowhere)), (0, 0));
        assert_eq!(layout.used(nowhere), PoolUse::default());
        layout.put(u32::from(at(12)), Spot::Offered(3));
        layout.put(u32::from(at(22)), Spot::Offered(2));
        assert_eq!(
            (layout.offers(two.network), layout.offered(two.network).next()),
            (2, Some(u32::from(at(22))))
        );
        layout.take(u32::from(at(22)), Spot::Offered(2));
        assert_eq!(layout.offers(two.network), 1);
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
        let mut layout = Layout::new(&[relayed_subnet(), two.clone()]);
        let all = PoolUse { addresses: 5, free: 5, ..PoolUse::default() };
        assert_eq!(layout.used(two.network), all, "a reservation is one machine's");
        for (last, spot) in [
            (10, Spot::Live),
            (12, Spot::Offered(9)),
            (20, Spot::Ended(3)),
            (21, Spot::Declined(9)),
        ] {
            layout.put(u32::from(at(last)), spot);
            layout.put(u32::from(at(last)), spot);
        }
        layout.put(u32::from(at(11)), Spot::Live);
        let used = PoolUse { addresses: 5, free: 1, bound: 1, offered: 1, ended: 1, kept_back: 1 };
        assert_eq!(layout.used(two.network), used);
        // The server gets an address of its own pool, one that is set aside, and one that is
        // leased; then they go.
        layout.own([22, 11, 10].map(at).map(u32::from).into());
        assert_eq!(layout.used(two.network), PoolUse { addresses: 3, free: 0, bound: 0, ..used });
        layout.own(HashSet::new());
        layout.put(u32::from(at(10)), Spot::Live);
        assert_eq!(layout.used(two.network), used);
        assert_eq!(
            layout.used(relayed_subnet().network),
            PoolUse { addresses: 50, free: 50, ..PoolUse::default() }
        );
    }

    /// Each address that may not be given is stepped over, wherever the search begins and however
    /// many there are.
    #[test]
    fn what_is_passed_over_hides_nothing_that_is_free() {
        let subnet = with_pools(&[(10, 40)]);
        let own: Vec<Ipv4Addr> = (10..40).map(at).collect();
        let mut layout = Layout::new(std::slice::from_ref(&subnet));
        for start in 0..100 {
            assert_eq!(layout.next_free(subnet.network, start, &own), Some(at(40)), "from {start}");
        }
        layout.own(own.iter().copied().map(u32::from).collect());
        for start in 0..100 {
            assert_eq!(layout.next_free(subnet.network, start, &[]), Some(at(40)), "from {start}");
        }
        assert!(!layout.gives(u32::from(at(20))));
        layout.own(HashSet::new());
        assert!(layout.gives(u32::from(at(20))));
        assert_eq!(layout.next_free(subnet.network, 10, &[]), Some(at(20)));
    }

    /// RFC 3021: a network of two addresses has neither a name nor a broadcast address of its own.
    #[test]
    fn network_and_broadcast_address_are_given_only_where_a_network_has_none() {
        for (prefix, given) in [(24, 1..=6), (29, 1..=6), (30, 1..=2), (31, 0..=1), (32, 0..=0)] {
            let network = Network { address: at(0), prefix };
            let pools = vec![Pool { first: at(0), last: at(7) }];
            let layout = Layout::new(&[Subnet { network, pools, routers: Vec::new(), ..subnet() }]);
            let kept = [network.address, network.broadcast()]
                .map(|address| !layout.gives(u32::from(address)));
            assert_eq!(kept, [prefix < 31; 2], "/{prefix}");
            assert!(given.map(at).all(|address| layout.gives(u32::from(address))), "/{prefix}");
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
        assert_eq!(Layout::new(&[two, relayed_subnet()]).addresses(), 3 + 4 + 2 + 50);
        assert_eq!(Layout::new(&[]).addresses(), 0);
    }

    #[test]
    fn an_address_is_found_in_one_of_many_pools() {
        let pools: Vec<(u8, u8)> = (0..80).map(|n| (3 * n, 3 * n + 1)).collect();
        let subnet = with_pools(&pools);
        let layout = Layout::new(std::slice::from_ref(&subnet));
        for last in 2..240 {
            assert_eq!(layout.gives(u32::from(at(last))), last % 3 != 2, "{last}");
        }
    }
}
