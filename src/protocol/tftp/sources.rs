//! The limits of one source: transfers at once, requests a second, ERROR 5 a second. A source is an
//! address, and for IPv6 also its network (/64), since a single host owns all of it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use super::Tick;
use super::id::TransferId;
use super::limits::{RATE_PLACES, SECOND, SHARE_MAX, TransferLimits};
use crate::model::random::mix_bits;

/// Addresses and IPv6 networks with transfers or waiting requests. An entry lives no longer than
/// its sessions, so the table needs no sweep. A network's key is its first address, which no host
/// has.
#[derive(Debug, Default)]
pub(super) struct SourceTable {
    sources: HashMap<IpAddr, SourceEntry>,
}

#[derive(Debug, Default)]
struct SourceEntry {
    transfers: Vec<TransferId>,
    /// Waiting requests in the order of their arrival; some may have ended meanwhile.
    waiting: VecDeque<TransferId>,
}

impl SourceEntry {
    fn is_full(&self, limits: &TransferLimits) -> bool {
        self.transfers.len() >= usize::from(limits.transfers_per_address_max.max(1))
    }
}

impl SourceTable {
    /// Whether one more transfer of `address` may begin now without overtaking a waiting one.
    pub(super) fn has_room(&self, address: IpAddr, limits: &TransferLimits) -> bool {
        self.sources
            .get(&address)
            .is_none_or(|source| source.waiting.is_empty() && !source.is_full(limits))
    }

    /// Whether an address has as many transfers as it may have.
    pub(super) fn is_full(&self, address: IpAddr, limits: &TransferLimits) -> bool {
        self.sources.get(&address).is_some_and(|source| source.is_full(limits))
    }

    /// Whether an address, or its network, has its full share of the table.
    pub(super) fn has_its_share(&self, address: IpAddr, limits: &TransferLimits) -> bool {
        let (part, of) = SHARE_MAX;
        let most = (limits.transfers_max / of * part).max(1);
        [Some(address), find_source_network(address)].into_iter().flatten().any(|source| {
            self.sources.get(&source).is_some_and(|source| source.transfers.len() >= most)
        })
    }

    /// The transfers that count against the limit of this address.
    pub(super) fn list_transfers(&self, address: IpAddr) -> &[TransferId] {
        self.sources.get(&address).map_or(&[], |source| &source.transfers)
    }

    pub(super) fn count_transfer(&mut self, address: IpAddr, id: TransferId) {
        for source in [Some(address), find_source_network(address)].into_iter().flatten() {
            self.sources.entry(source).or_default().transfers.push(id);
        }
    }

    pub(super) fn uncount_transfer(&mut self, address: IpAddr, id: TransferId) {
        for source in [Some(address), find_source_network(address)].into_iter().flatten() {
            if let Some(source) = self.sources.get_mut(&source)
                && let Some(place) = source.transfers.iter().position(|counted| *counted == id)
            {
                source.transfers.swap_remove(place);
            }
            self.forget_if_idle(source);
        }
    }

    pub(super) fn push_waiting(&mut self, address: IpAddr, id: TransferId) {
        self.sources.entry(address).or_default().waiting.push_back(id);
    }

    /// The longest waiting request of `address` that still `lives`, if a transfer may begin.
    pub(super) fn next_waiting(
        &mut self,
        address: IpAddr,
        limits: &TransferLimits,
        lives: impl Fn(TransferId) -> bool,
    ) -> Option<TransferId> {
        let source = self.sources.get_mut(&address)?;
        while source.waiting.front().is_some_and(|id| !lives(*id)) {
            source.waiting.pop_front();
        }
        let next = source.waiting.front().copied();
        let room = !source.is_full(limits);
        self.forget_if_idle(address);
        next.filter(|_| room)
    }

    fn forget_if_idle(&mut self, address: IpAddr) {
        if self
            .sources
            .get(&address)
            .is_some_and(|source| source.transfers.is_empty() && source.waiting.is_empty())
        {
            self.sources.remove(&address);
        }
    }
}

/// The network (/64) of an IPv6 address, all of whose addresses one host may have.
pub(super) fn find_source_network(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(Ipv6Addr::from(u128::from(v6) >> 64 << 64).into()),
    }
}

/// Limits how often an event may happen for one address: a token bucket (GCRA), in a table of fixed
/// size.
///
/// Two addresses in one place share its rate. That can only slow them down, and a flood of forged
/// addresses does not grow the table.
#[derive(Debug)]
pub(super) struct RateBuckets {
    /// When each place is idle again.
    idle_at: Box<[Tick]>,
    /// Time that one event costs.
    interval: Tick,
    /// Time that a place may be ahead.
    burst: Tick,
    seed: u64,
}

impl RateBuckets {
    pub(super) fn new(interval: Tick, burst: u32, seed: u64) -> Self {
        let burst = interval * Tick::from(burst.max(1) - 1);
        Self { idle_at: vec![0; RATE_PLACES].into(), interval, burst, seed }
    }

    pub(super) fn per_second(rate: u32, burst: u32, seed: u64) -> Self {
        Self::new(SECOND / Tick::from(rate.max(1)), burst, seed)
    }

    /// Counts one event if it may happen now; otherwise returns when it may.
    pub(super) fn take_token(&mut self, now: Tick, address: IpAddr) -> Result<(), Tick> {
        let place = find_rate_place(address, self.seed, self.idle_at.len());
        let idle_at = &mut self.idle_at[place];
        let free_at = idle_at.saturating_sub(self.burst);
        if free_at > now {
            return Err(free_at);
        }
        *idle_at = (*idle_at).max(now) + self.interval;
        Ok(())
    }
}

/// A place below `places` for an address: keyed, so that an attacker cannot aim at another
/// address's place.
pub(super) fn find_rate_place(address: IpAddr, seed: u64, places: usize) -> usize {
    let number = match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    #[allow(clippy::cast_possible_truncation)] // each half is taken on purpose
    let (high, low) = ((number >> 64) as u64, number as u64);
    let hash = mix_bits(mix_bits(seed ^ high).wrapping_add(low));
    usize::try_from(hash % places.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn t65_a_source_is_known_by_all_that_it_has_and_forgotten_with_the_last_of_it() {
        let limits = TransferLimits {
            transfers_per_address_max: 2,
            transfers_max: 8,
            ..TransferLimits::default()
        };
        for address in [IpAddr::from([192, 168, 4, 1]), Ipv6Addr::LOCALHOST.into()] {
            let mut sources = SourceTable::default();
            (0..7).for_each(|n| sources.count_transfer(address, TransferId::from_token(n)));
            assert!(sources.has_its_share(address, &limits));
            for transfers in (0..7).rev() {
                sources.uncount_transfer(address, TransferId::from_token(transfers as u64));
                assert_eq!(sources.list_transfers(address).len(), transfers);
                assert_eq!(sources.has_its_share(address, &limits), transfers >= 6, "{transfers}");
                assert_eq!(sources.has_room(address, &limits), transfers < 2, "{transfers}");
            }
            assert!(sources.sources.is_empty(), "{:?}", sources.sources);
        }
        let mut sources = SourceTable::default();
        let (address, id) = (IpAddr::from([192, 168, 4, 1]), TransferId::from_token(7));
        sources.push_waiting(address, id);
        assert_eq!(
            (sources.has_room(address, &limits), sources.next_waiting(address, &limits, |_| true)),
            (false, Some(id))
        );
        sources.count_transfer(address, id);
        assert_eq!(sources.next_waiting(address, &limits, |_| false), None, "it has begun");
        assert!(sources.has_room(address, &limits));
        sources.uncount_transfer(address, id);
        assert!(sources.sources.is_empty());
    }

    #[test]
    fn t65_addresses_spread_over_all_places_whichever_of_their_octets_differ() {
        let spread = |address: &dyn Fn(u8) -> IpAddr| {
            (0..=255).map(|n| find_rate_place(address(n), 7, 1 << 16)).collect::<HashSet<_>>().len()
        };
        for octet in 0..16 {
            let v6 = |n| {
                let mut octets = [0x20; 16];
                octets[octet] = n;
                Ipv6Addr::from(octets).into()
            };
            assert!(spread(&v6) > 250, "octet {octet} of IPv6");
            let v4 = |n| {
                let mut octets = [10; 4];
                octets[octet % 4] = n;
                Ipv4Addr::from(octets).into()
            };
            assert!(spread(&v4) > 250, "octet {} of IPv4", octet % 4);
        }
    }
}
