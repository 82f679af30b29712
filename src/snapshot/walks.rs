//! Local walks of a boot chain: which loopback addresses are answered as which machine, and until
//! when.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use crate::model::machine::Machine;

/// A local walk of a machine's boot chain: requests from a loopback address are answered as that
/// machine's would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalWalk {
    /// Of 127.0.0.0/8: a packet from the network never has it.
    pub source: Ipv4Addr,
    /// The address that the machine would have.
    pub stands_for: Ipv4Addr,
    /// None: nobody knows the machine by its address, as without DHCP.
    pub machine: Option<Machine>,
    pub until: Instant,
}

/// The walks that go on now, given by control and read by boot cores without a lock. No walk writes
/// a binding.
#[derive(Debug, Default)]
pub struct LocalWalks(ArcSwap<WalksNow>);

/// Walks, and how often they have changed.
#[derive(Clone, Debug, Default)]
pub struct WalksNow {
    pub number: u64,
    pub all: Vec<LocalWalk>,
}

impl LocalWalks {
    pub fn load(&self) -> Guard<Arc<WalksNow>> {
        self.0.load()
    }

    /// The walk from this address that goes on at `now`.
    pub fn from(&self, source: IpAddr, now: impl FnOnce() -> Instant) -> Option<LocalWalk> {
        let IpAddr::V4(source) = source.to_canonical() else { return None };
        if !source.is_loopback() {
            return None;
        }
        let walk = self.load().all.iter().find(|walk| walk.source == source).copied()?;
        (walk.until > now()).then_some(walk)
    }

    /// Control alone: what is over goes, and this one is added.
    pub fn begin(&self, walk: LocalWalk, now: Instant) {
        self.change(|all| {
            all.retain(|one| one.until > now && one.source != walk.source);
            all.push(walk);
        });
    }

    /// Control alone. True where there was one.
    pub fn end(&self, source: Ipv4Addr) -> bool {
        let was_there = self.load().all.iter().any(|walk| walk.source == source);
        self.change(|all| all.retain(|walk| walk.source != source));
        was_there
    }

    fn change(&self, mut change: impl FnMut(&mut Vec<LocalWalk>)) {
        self.0.rcu(|now| {
            let mut next = WalksNow { number: now.number + 1, all: now.all.clone() };
            change(&mut next.all);
            next
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_walk_is_of_this_box_and_of_its_time() {
        let walks = LocalWalks::default();
        let now = Instant::now();
        let until = now + std::time::Duration::from_secs(60);
        let (source, outside) = (Ipv4Addr::new(127, 200, 3, 4), Ipv4Addr::new(10, 0, 0, 9));
        for source in [source, outside] {
            walks.begin(LocalWalk { source, stands_for: outside, machine: None, until }, now);
        }
        assert_eq!(walks.from(source.into(), || now).unwrap().stands_for, outside);
        assert_eq!(walks.from(source.into(), || until), None, "over");
        assert_eq!(walks.from(outside.into(), || now), None, "no address of the network walks");
        let number = walks.load().number;
        assert!(walks.end(source) && !walks.end(source));
        assert!(walks.load().number > number && walks.from(source.into(), || now).is_none());
    }
}
