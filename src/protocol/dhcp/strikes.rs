//! How many addresses were declined within an hour: by each machine, from each circuit, and in
//! all.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::lease_record::{Circuit, ClockSeconds};
use super::limits::{
    DECLINE_HOLD_S, DECLINES_IN_ALL_MAX, DECLINES_PER_CIRCUIT_MAX, DECLINES_PER_MACHINE_MAX,
    STRIKES_MAX,
};
use crate::model::machine::Mac;

/// What the server does about a DECLINE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeclineVerdict {
    /// Keep the address back. `last`: this machine may decline no other within the hour.
    KeepBack { last: bool },
    /// Ignore the DECLINE: the machine has declined too many addresses.
    Silenced,
    /// Ignore the DECLINE: too many came from the same circuit, or in all. `first`: this is the
    /// first above the limit.
    TooMany { first: bool },
}

/// Declines within the hour. Bounded: the oldest counts go first.
#[derive(Clone, Debug, Default)]
pub(super) struct DeclineStrikes {
    machines: HourlyTally<Mac>,
    circuits: HourlyTally<Circuit>,
    all: HourlyTally<()>,
}

impl DeclineStrikes {
    pub(super) fn add(&mut self, mac: Mac, circuit: Circuit, now: ClockSeconds) {
        self.machines.add(mac, now);
        self.circuits.add(circuit, now);
        self.all.add((), now);
    }

    /// Counts a decline from a row of the store, which does not keep the circuit.
    pub(super) fn recall(&mut self, mac: Mac, at: ClockSeconds) {
        self.machines.add(mac, at);
        self.all.add((), at);
    }

    pub(super) fn weigh(&self, mac: Mac, circuit: Circuit, now: ClockSeconds) -> DeclineVerdict {
        let by_machine = self.machines.count(&mac, now);
        let (from_there, in_all) = (self.circuits.count(&circuit, now), self.all.count(&(), now));
        if by_machine >= DECLINES_PER_MACHINE_MAX {
            return DeclineVerdict::Silenced;
        }
        if from_there >= DECLINES_PER_CIRCUIT_MAX || in_all >= DECLINES_IN_ALL_MAX {
            return DeclineVerdict::TooMany {
                first: from_there == DECLINES_PER_CIRCUIT_MAX || in_all == DECLINES_IN_ALL_MAX,
            };
        }
        DeclineVerdict::KeepBack { last: by_machine + 1 == DECLINES_PER_MACHINE_MAX }
    }

    /// Machines that get no address from the pools because of their declines, and until when.
    pub(super) fn silenced_machines(
        &self,
        now: ClockSeconds,
    ) -> impl Iterator<Item = (Mac, ClockSeconds)> {
        self.machines.keys_at_limit(DECLINES_PER_MACHINE_MAX, now)
    }

    /// Circuits whose further declines keep no address back, and until when.
    pub(super) fn limited_circuits(
        &self,
        now: ClockSeconds,
    ) -> impl Iterator<Item = (Circuit, ClockSeconds)> {
        self.circuits.keys_at_limit(DECLINES_PER_CIRCUIT_MAX, now)
    }

    /// Forgets the declines of this machine.
    pub(super) fn pardon(&mut self, mac: Mac) {
        self.machines.forget(&mac);
    }

    pub(super) fn is_silenced(&self, mac: Mac, now: ClockSeconds) -> bool {
        self.machines.count(&mac, now) >= DECLINES_PER_MACHINE_MAX
    }
}

/// Counts by key, each within an hour that begins with its first.
#[derive(Clone, Debug)]
struct HourlyTally<K> {
    counts: HashMap<K, (ClockSeconds, u32)>,
    /// (when the hour began, key): the first is the oldest.
    order: BTreeSet<(ClockSeconds, K)>,
}

impl<K> Default for HourlyTally<K> {
    fn default() -> Self {
        Self { counts: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> HourlyTally<K> {
    fn count(&self, key: &K, now: ClockSeconds) -> u32 {
        self.counts
            .get(key)
            .filter(|(since, _)| now < since.saturating_add(DECLINE_HOLD_S))
            .map_or(0, |(_, count)| *count)
    }

    fn add(&mut self, key: K, now: ClockSeconds) {
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

    fn keys_at_limit(
        &self,
        most: u32,
        now: ClockSeconds,
    ) -> impl Iterator<Item = (K, ClockSeconds)> {
        let keys = self.order.iter().filter(move |(_, key)| self.count(key, now) >= most);
        keys.map(move |(since, key)| (*key, since.saturating_add(DECLINE_HOLD_S)))
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
        let mut strikes = DeclineStrikes::default();
        for n in 1..=DECLINES_PER_MACHINE_MAX {
            let last = n == DECLINES_PER_MACHINE_MAX;
            assert_eq!(
                strikes.weigh(mac(1), Circuit::default(), 100),
                DeclineVerdict::KeepBack { last }
            );
            assert!(!strikes.is_silenced(mac(1), 100));
            strikes.add(mac(1), Circuit::default(), 100);
        }
        assert!(strikes.is_silenced(mac(1), 100) && !strikes.is_silenced(mac(2), 100));
        assert_eq!(strikes.weigh(mac(1), Circuit::default(), 100), DeclineVerdict::Silenced);
        let end = 100 + DECLINE_HOLD_S;
        assert!(strikes.is_silenced(mac(1), end - 1) && !strikes.is_silenced(mac(1), end));
        strikes.add(mac(1), Circuit::default(), end);
        assert_eq!(strikes.machines.count(&mac(1), end), 1, "a new hour");
    }

    #[test]
    fn one_place_has_a_limit_whatever_hardware_addresses_it_invents() {
        let mut strikes = DeclineStrikes::default();
        for n in 0..DECLINES_PER_CIRCUIT_MAX {
            strikes.add(mac(n), Circuit::default(), 1);
        }
        let verdict = |strikes: &DeclineStrikes| strikes.weigh(mac(9_999), Circuit::default(), 2);
        assert_eq!(verdict(&strikes), DeclineVerdict::TooMany { first: true });
        strikes.add(mac(9_998), Circuit::default(), 2);
        assert_eq!(verdict(&strikes), DeclineVerdict::TooMany { first: false });
    }

    #[test]
    fn counts_are_bounded_and_the_oldest_goes() {
        let mut tally = HourlyTally::default();
        let most = u32::try_from(STRIKES_MAX).unwrap_or(u32::MAX);
        for n in 0..most + 10 {
            tally.add(mac(n), u64::from(n));
        }
        assert_eq!((tally.counts.len(), tally.order.len()), (STRIKES_MAX, STRIKES_MAX));
        assert_eq!((tally.count(&mac(9), 10), tally.count(&mac(10), 10)), (0, 1));
    }

    #[test]
    fn what_the_store_knows_of_declines_counts() {
        let mut strikes = DeclineStrikes::default();
        (0..DECLINES_PER_MACHINE_MAX).for_each(|_| strikes.recall(mac(1), 50));
        assert!(strikes.is_silenced(mac(1), 51));
    }
}
