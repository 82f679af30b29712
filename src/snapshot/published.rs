//! The current generation, and the place where cores find it and control puts the next one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::Snapshot;
use super::bindings::AddressBindings;
use super::walks::LocalWalks;
use crate::boot::quirks::{ActiveLimits, QuirkAllowance};
use crate::model::machine::Machine;

/// A configuration as it was published, with the slots of its addresses.
#[derive(Debug, Default)]
pub struct PublishedGeneration {
    /// Counts from 1 in each run of the process.
    pub number: u64,
    /// The configuration.
    pub snapshot: Snapshot,
    /// The holder of each address, written by the DHCP core.
    pub bindings: AddressBindings,
}

/// The place where cores find the current generation, and control puts the next one.
#[derive(Debug)]
pub struct PublishedState {
    current: ArcSwap<PublishedGeneration>,
    /// The number of the generation that was prepared last; no other one gets it, even if this one
    /// is never published.
    number: AtomicU64,
    /// The walks that control runs now.
    pub walks: LocalWalks,
    /// The learnt and pinned limits of machines.
    limited: ArcSwap<ActiveLimits>,
    /// Replaced generations and limits. A core may still hold one: control frees it when no core
    /// does, so that a core never runs the expensive last drop.
    retired: Mutex<RetiredGenerations>,
}

#[derive(Debug, Default)]
struct RetiredGenerations {
    generations: Vec<Arc<PublishedGeneration>>,
    limited: Vec<Arc<ActiveLimits>>,
}

impl PublishedState {
    /// Publishes the configuration of the start as generation 1.
    pub fn new(snapshot: Snapshot) -> Arc<Self> {
        let bindings = AddressBindings::new(&snapshot.dhcp.subnets);
        let first = PublishedGeneration { number: 1, snapshot, bindings };
        Arc::new(Self {
            number: AtomicU64::new(first.number),
            current: ArcSwap::from_pointee(first),
            walks: LocalWalks::default(),
            limited: ArcSwap::default(),
            retired: Mutex::default(),
        })
    }

    /// The current generation, for the time of one request. It takes no lock, and touches no
    /// counter that other cores touch.
    pub fn load(&self) -> Guard<Arc<PublishedGeneration>> {
        self.current.load()
    }

    /// The current generation, for longer. Only control and the start call this.
    pub fn get(&self) -> Arc<PublishedGeneration> {
        self.current.load_full()
    }

    /// Makes the next generation without publishing it. Its binding slots are empty until the DHCP
    /// core has filled them.
    pub fn prepare(&self, snapshot: Snapshot) -> Arc<PublishedGeneration> {
        let bindings = AddressBindings::new(&snapshot.dhcp.subnets);
        Arc::new(PublishedGeneration {
            number: self.number.fetch_add(1, Ordering::Relaxed) + 1,
            snapshot,
            bindings,
        })
    }

    /// Publishes a generation: cores answer every new request from it, and finish running ones with
    /// the generation that they began with.
    pub fn publish(&self, next: Arc<PublishedGeneration>) {
        let previous = self.current.swap(next);
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).generations.push(previous);
    }

    /// Frees replaced generations that no core holds any more. Only control calls this.
    pub fn free_retired(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, free) = std::mem::take(&mut retired.generations)
            .into_iter()
            .partition(|generation: &Arc<PublishedGeneration>| Arc::strong_count(generation) > 1);
        retired.generations = held;
        // Dropping a large generation takes long, and a core may want to publish meanwhile.
        drop(retired);
        drop::<Vec<_>>(free);
    }

    /// Replaces the learnt and pinned limits of machines.
    pub fn limit(&self, limited: ActiveLimits) {
        let previous = self.limited.swap(Arc::new(limited));
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.limited.push(previous);
        retired.limited.retain(|limited| Arc::strong_count(limited) > 1);
    }

    /// The limits of this machine: pinned, configured or learnt. It takes no lock.
    pub fn allowance(&self, machine: &Machine) -> QuirkAllowance {
        self.limited.load().allowance(&self.load().snapshot.quirks, machine)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dhcp::policy::DhcpPolicy;

    fn snapshot_of_port(http_port: u16) -> Snapshot {
        Snapshot { dhcp: DhcpPolicy { http_port, ..DhcpPolicy::default() }, ..Snapshot::default() }
    }

    #[test]
    fn who_has_begun_with_a_generation_keeps_it_and_the_next_request_gets_the_next() {
        let published = PublishedState::new(snapshot_of_port(80));
        let begun = published.load();
        published.publish(published.prepare(snapshot_of_port(8080)));
        assert_eq!((begun.number, begun.snapshot.dhcp.http_port), (1, 80));
        let next = published.load();
        assert_eq!((next.number, next.snapshot.dhcp.http_port), (2, 8080));
    }

    #[test]
    fn a_generation_that_was_not_published_leaves_its_number_to_nobody() {
        let published = PublishedState::new(Snapshot::default());
        let withdrawn = published.prepare(Snapshot::default());
        let next = published.prepare(Snapshot::default());
        assert_eq!((withdrawn.number, next.number), (2, 3));
        published.publish(next);
        assert_eq!(published.load().number, 3);
        published.free_retired();
        assert!(published.retired.lock().unwrap().generations.is_empty());
    }
}
