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
    /// Counts from 1 in each life of the process.
    pub number: u64,
    pub snapshot: Snapshot,
    pub bindings: AddressBindings,
}

/// The place where cores find the current generation, and control puts the next one.
#[derive(Debug)]
pub struct PublishedState {
    current: ArcSwap<PublishedGeneration>,
    /// Of the generation that was prepared last: none shares its number, published or not.
    number: AtomicU64,
    pub walks: LocalWalks,
    /// What machines showed that they cannot do.
    limited: ArcSwap<ActiveLimits>,
    /// What was replaced. A core may still hold one: control frees it when nobody does, so that a
    /// core never runs the last drop.
    retired: Mutex<RetiredGenerations>,
}

#[derive(Debug, Default)]
struct RetiredGenerations {
    generations: Vec<Arc<PublishedGeneration>>,
    limited: Vec<Arc<ActiveLimits>>,
}

impl PublishedState {
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

    /// The current generation, for the time of one request. No lock, no count that other cores
    /// touch.
    pub fn load(&self) -> Guard<Arc<PublishedGeneration>> {
        self.current.load()
    }

    /// The current generation, for longer. Control and start only.
    pub fn get(&self) -> Arc<PublishedGeneration> {
        self.current.load_full()
    }

    /// The next generation, not yet published: its slots are empty until the DHCP core has filled
    /// them.
    pub fn prepare(&self, snapshot: Snapshot) -> Arc<PublishedGeneration> {
        let bindings = AddressBindings::new(&snapshot.dhcp.subnets);
        Arc::new(PublishedGeneration {
            number: self.number.fetch_add(1, Ordering::Relaxed) + 1,
            snapshot,
            bindings,
        })
    }

    /// From now on every request is answered from this generation; what runs goes on with the one
    /// that it began with.
    pub fn publish(&self, next: Arc<PublishedGeneration>) {
        let previous = self.current.swap(next);
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).generations.push(previous);
    }

    /// Control alone: frees what was replaced and nobody holds any more.
    pub fn free_retired(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, free) = std::mem::take(&mut retired.generations)
            .into_iter()
            .partition(|generation: &Arc<PublishedGeneration>| Arc::strong_count(generation) > 1);
        retired.generations = held;
        // A large one takes its time, in which a core may want to publish.
        drop(retired);
        drop::<Vec<_>>(free);
    }

    /// From now on machines get no more than this.
    pub fn limit(&self, limited: ActiveLimits) {
        let previous = self.limited.swap(Arc::new(limited));
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.limited.push(previous);
        retired.limited.retain(|limited| Arc::strong_count(limited) > 1);
    }

    /// What this machine gets at most: pinned, configured, learnt. No lock.
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
