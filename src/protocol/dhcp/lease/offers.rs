//! Unconfirmed offers, counted by the circuit that they went to.

use std::collections::{BTreeSet, HashMap};

use crate::dhcp::lease_record::{Circuit, ClockSeconds};

/// Unconfirmed offers by where they went; those on segments of ours are not counted.
#[derive(Clone, Debug, Default)]
pub(super) struct OffersByCircuit {
    pub(super) of: HashMap<u32, Circuit>,
    pub(super) counts: HashMap<Circuit, usize>,
    /// The one that lapses first is the first of its circuit.
    pub(super) order: BTreeSet<(Circuit, ClockSeconds, u32)>,
}

impl OffersByCircuit {
    pub(super) fn put(&mut self, address: u32, until_s: ClockSeconds) {
        if let Some(&circuit) = self.of.get(&address)
            && self.order.insert((circuit, until_s, address))
        {
            *self.counts.entry(circuit).or_default() += 1;
        }
    }

    pub(super) fn take(&mut self, address: u32, until_s: ClockSeconds) {
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

    pub(super) fn from(&self, circuit: Circuit) -> impl Iterator<Item = u32> {
        let all = self.order.range((circuit, 0, 0)..);
        all.take_while(move |(from, ..)| *from == circuit).map(|(_, _, address)| *address)
    }
}
