//! Unconfirmed offers, counted by the circuit that they went to.

use std::collections::{BTreeSet, HashMap};

use crate::dhcp::lease_record::{Circuit, ClockSeconds};

/// Unconfirmed offers by circuit. Offers to a directly connected segment are not counted.
#[derive(Clone, Debug, Default)]
pub(super) struct OffersByCircuit {
    /// The circuit of each address that was offered behind a relay.
    pub(super) circuits: HashMap<u32, Circuit>,
    /// Unconfirmed offers of each circuit.
    pub(super) counts: HashMap<Circuit, usize>,
    /// The offer that lapses first is the first of its circuit.
    pub(super) order: BTreeSet<(Circuit, ClockSeconds, u32)>,
}

impl OffersByCircuit {
    /// Counts the offer of this address, if it went to a circuit.
    pub(super) fn insert(&mut self, address: u32, until_s: ClockSeconds) {
        if let Some(&circuit) = self.circuits.get(&address)
            && self.order.insert((circuit, until_s, address))
        {
            *self.counts.entry(circuit).or_default() += 1;
        }
    }

    /// Stops counting the offer of this address.
    pub(super) fn remove(&mut self, address: u32, until_s: ClockSeconds) {
        if let Some(&circuit) = self.circuits.get(&address)
            && self.order.remove(&(circuit, until_s, address))
            && let Some(count) = self.counts.get_mut(&circuit)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&circuit);
            }
        }
    }

    /// Addresses offered to this circuit, the one that lapses first first.
    pub(super) fn iter_circuit(&self, circuit: Circuit) -> impl Iterator<Item = u32> {
        let offers = self.order.range((circuit, 0, 0)..);
        offers.take_while(move |(other, ..)| *other == circuit).map(|(_, _, address)| *address)
    }
}
