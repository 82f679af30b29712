//! Local walks of a boot chain: which loopback addresses the server answers as which machine, and
//! until when.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use crate::model::machine::Machine;

/// A local walk of a machine's boot chain: the server answers requests from a loopback address as
/// if the machine had sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalWalk {
    /// An address in 127.0.0.0/8, which no packet from the network has.
    pub source: Ipv4Addr,
    /// The address that the machine would have.
    pub stands_for: Ipv4Addr,
    /// None: the server does not know the machine of this address, as without DHCP.
    pub machine: Option<Machine>,
    /// When the walk ends by itself.
    pub until: Instant,
}

/// The running walks, which control writes and boot cores read without a lock. A walk never writes
/// a binding.
#[derive(Debug, Default)]
pub struct LocalWalks(ArcSwap<WalksNow>);

/// The running walks at one moment.
#[derive(Clone, Debug, Default)]
pub struct WalksNow {
    /// Counts the changes of the list.
    pub number: u64,
    /// The walks, those that have just run out included.
    pub all: Vec<LocalWalk>,
}

impl LocalWalks {
    /// The walks, without a lock.
    pub fn load(&self) -> Guard<Arc<WalksNow>> {
        self.0.load()
    }

    /// The walk from this address that still runs at `now`.
    pub fn from(&self, source: IpAddr, now: impl FnOnce() -> Instant) -> Option<LocalWalk> {
        let IpAddr::V4(source) = source.to_canonical() else { return None };
        if !source.is_loopback() {
            return None;
        }
        let walk = self.load().all.iter().find(|walk| walk.source == source).copied()?;
        (walk.until > now()).then_some(walk)
    }

    /// Adds a walk, and removes those that are over. Only control calls this.
    pub fn begin(&self, walk: LocalWalk, now: Instant) {
        self.change(|all| {
            all.retain(|one| one.until > now && one.source != walk.source);
            all.push(walk);
        });
    }

    /// Ends a walk; false: there was none. Only control calls this.
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
