//! How often addresses were declined within an hour: by one machine, from one place, and in all.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::lease_record::{Circuit, Time};
use super::limits::{
    DECLINE_HOLD_S, DECLINES_IN_ALL_MAX, DECLINES_PER_CIRCUIT_MAX, DECLINES_PER_MACHINE_MAX,
    STRIKES_MAX,
};
use crate::model::machine::Mac;

/// What becomes of a DECLINE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The address is kept back. True: it is the last that this machine may decline within the
    /// hour.
    KeepBack { last: bool },
    /// The machine has declined too many: its word counts no more.
    Silenced,
    /// Too many come from the same place, or in all. True: this is the first one too many.
    TooMany { first: bool },
}

/// Bounded: what is counted longest goes first.
#[derive(Clone, Debug, Default)]
pub(super) struct Strikes {
    machines: Tally<Mac>,
    circuits: Tally<Circuit>,
    all: Tally<()>,
}

impl Strikes {
    pub(super) fn add(&mut self, mac: Mac, circuit: Circuit, now: Time) {
        self.machines.add(mac, now);
        self.circuits.add(circuit, now);
        self.all.add((), now);
    }

    /// A row of the store says that the machine declined then; from where is not kept.
    pub(super) fn recall(&mut self, mac: Mac, at: Time) {
        self.machines.add(mac, at);
        self.all.add((), at);
    }

    pub(super) fn verdict(&self, mac: Mac, circuit: Circuit, now: Time) -> Verdict {
        let by_machine = self.machines.count(&mac, now);
        let (from_there, in_all) = (self.circuits.count(&circuit, now), self.all.count(&(), now));
        if by_machine >= DECLINES_PER_MACHINE_MAX {
            return Verdict::Silenced;
        }
        if from_there >= DECLINES_PER_CIRCUIT_MAX || in_all >= DECLINES_IN_ALL_MAX {
            return Verdict::TooMany {
                first: from_there == DECLINES_PER_CIRCUIT_MAX || in_all == DECLINES_IN_ALL_MAX,
            };
        }
        Verdict::KeepBack { last: by_machine + 1 == DECLINES_PER_MACHINE_MAX }
    }

    /// Machines that get no address from the pools for what they declined, and until when.
    pub(super) fn silenced(&self, now: Time) -> impl Iterator<Item = (Mac, Time)> {
        self.machines.reached(DECLINES_PER_MACHINE_MAX, now)
    }

    /// Places from which no further decline keeps an address back, and until when.
    pub(super) fn bounded(&self, now: Time) -> impl Iterator<Item = (Circuit, Time)> {
        self.circuits.reached(DECLINES_PER_CIRCUIT_MAX, now)
    }

    /// What this machine declined counts no more.
    pub(super) fn pardon(&mut self, mac: Mac) {
        self.machines.forget(&mac);
    }

    pub(super) fn is_silenced(&self, mac: Mac, now: Time) -> bool {
        self.machines.count(&mac, now) >= DECLINES_PER_MACHINE_MAX
    }
}

/// Counts within an hour that begins with the first.
#[derive(Clone, Debug)]
struct Tally<K> {
    counts: HashMap<K, (Time, u32)>,
    /// (when the hour began, whose): the first is the oldest.
    order: BTreeSet<(Time, K)>,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self { counts: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Tally<K> {
    fn count(&self, key: &K, now: Time) -> u32 {
        self.counts
            .get(key)
            .filter(|(since, _)| now < since.saturating_add(DECLINE_HOLD_S))
            .map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, key: K, now: Time) {
        if self.count(&key, now) > 0 {
            if let Some((_, count)) = self.counts.get_mut(&key) {
                *count = count.saturating_add(1);
            }
            return;
        }
        self.forget(&key);
        if self.counts.len() >= STRIKES_MAX
            && let Some((_, oldest)) = self.order.first().copied()
        {
            self.forget(&oldest);
        }
        self.counts.insert(key, (now, 1));
        self.order.insert((now, key));
    }

    fn reached(&self, most: u32, now: Time) -> impl Iterator<Item = (K, Time)> {
        let over_s = |since: Time| since.saturating_add(DECLINE_HOLD_S);
        let keys = self.order.iter().filter(move |(_, key)| self.count(key, now) >= most);
        keys.map(move |(since, key)| (*key, over_s(*since)))
    }

    fn forget(&mut self, key: &K) -> bool {
        let Some((since, _)) = self.counts.remove(key) else { return false };
        self.order.remove(&(since, *key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u32) -> Mac {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn a_machine_has_a_few_an_hour_and_is_then_silent_until_the_hour_is_over() {
        let mut strikes = Strikes::default();
        for n in 1..=DECLINES_PER_MACHINE_MAX {
            let last = n == DECLINES_PER_MACHINE_MAX;
            assert_eq!(
                strikes.verdict(mac(1), Circuit::default(), 100),
                Verdict::KeepBack { last }
            );
            assert!(!strikes.is_silenced(mac(1), 100));
            strikes.add(mac(1), Circuit::default(), 100);
        }
        assert!(strikes.is_silenced(mac(1), 100) && !strikes.is_silenced(mac(2), 100));
        assert_eq!(strikes.verdict(mac(1), Circuit::default(), 100), Verdict::Silenced);
        let end = 100 + DECLINE_HOLD_S;
        assert!(strikes.is_silenced(mac(1), end - 1) && !strikes.is_silenced(mac(1), end));
        strikes.add(mac(1), Circuit::default(), end);
        assert_eq!(strikes.machines.count(&mac(1), end), 1, "a new hour");
    }

    #[test]
    fn one_place_has_a_limit_whatever_hardware_addresses_it_invents() {
        let mut strikes = Strikes::default();
        for n in 0..DECLINES_PER_CIRCUIT_MAX {
            strikes.add(mac(n), Circuit::default(), 1);
        }
        let verdict = |strikes: &Strikes| strikes.verdict(mac(9_999), Circuit::default(), 2);
        assert_eq!(verdict(&strikes), Verdict::TooMany { first: true });
        strikes.add(mac(9_998), Circuit::default(), 2);
        assert_eq!(verdict(&strikes), Verdict::TooMany { first: false });
    }

    #[test]
    fn counts_are_bounded_and_the_oldest_goes() {
        let mut tally = Tally::default();
        let most = u32::try_from(STRIKES_MAX).unwrap_or(u32::MAX);
        for n in 0..most + 10 {
            tally.add(mac(n), u64::from(n));
        }
        assert_eq!((tally.counts.len(), tally.order.len()), (STRIKES_MAX, STRIKES_MAX));
        assert_eq!((tally.count(&mac(9), 10), tally.count(&mac(10), 10)), (0, 1));
    }

    #[test]
    fn what_the_store_knows_of_declines_counts() {
        let mut strikes = Strikes::default();
        (0..DECLINES_PER_MACHINE_MAX).for_each(|_| strikes.recall(mac(1), 50));
        assert!(strikes.is_silenced(mac(1), 51));
    }
}
