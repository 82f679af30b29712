//! Decides which connections begin, wait or are refused (H-34), and keeps those that wait.
//!
//! Sources share the room: a source is an IPv4 address, or the /64 network of an IPv6 address, in
//! which one machine may have any number of addresses. The connection that waits longest begins
//! first. But if the total is exhausted, the source with the fewest connections comes first; and if
//! the queue is full, the source with the most entries makes room.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use super::limits::{NETWORK_SHARES, REFUSALS_MAX, WAITING_MAX};

/// The connections of one core, counted by client address, and the waiting ones.
#[derive(Debug)]
pub struct ConnectionAdmission<T> {
    per_address_max: Option<usize>,
    running_max: usize,
    waiting_max: usize,
    running: usize,
    /// By address; IPv6 also by network.
    counts: HashMap<IpAddr, SourceCounts>,
    waiting: VecDeque<(IpAddr, T)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SourceCounts {
    running: usize,
    /// Counted by source alone.
    waiting: usize,
}

/// Divides a core's file descriptors into connections that it serves and connections that wait. A
/// client that the core cannot accept gets no reply; a waiting one gets its response or a 503.
pub fn divide_connections(descriptors: usize, running_max: usize) -> (usize, usize) {
    let waiting = WAITING_MAX.min(descriptors / 8).max(1);
    let refusals = REFUSALS_MAX.min(descriptors / 8);
    (running_max.min(descriptors.saturating_sub(waiting + refusals)).max(1), waiting)
}

/// The decision on a new connection.
#[derive(Debug, PartialEq, Eq)]
pub enum AdmissionOutcome<T> {
    /// Serve it, and call [`ConnectionAdmission::leave`] when it ends.
    Start(T),
    /// The connection waits; a later [`ConnectionAdmission::leave`] returns it, unless
    /// [`ConnectionAdmission::remove_waiting`] removes it.
    Waits,
    /// The connection waits in the place of this one: refuse this one.
    WaitsInPlaceOf(T),
    /// The queue has no room: refuse the connection.
    Refuse(T),
}

/// The source of an address. A network is written as its first address, which no machine has.
pub fn find_address_source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

impl<T: PartialEq> ConnectionAdmission<T> {
    /// Without `per_address_max` only the total counts. Loopback has no limit by address.
    pub fn new(per_address_max: Option<usize>, running_max: usize) -> Self {
        Self {
            per_address_max,
            running_max,
            waiting_max: WAITING_MAX,
            running: 0,
            counts: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Sets how many connections may wait.
    #[must_use]
    pub fn with_waiting(self, waiting_max: usize) -> Self {
        Self { waiting_max, ..self }
    }

    /// Decides on a new connection.
    pub fn arrive(&mut self, address: IpAddr, connection: T) -> AdmissionOutcome<T> {
        if self.has_room(address) {
            self.start(address);
            return AdmissionOutcome::Start(connection);
        }
        let displaced = if self.waiting.len() < self.waiting_max {
            None
        } else {
            match self.displace(address) {
                Some(displaced) => Some(displaced),
                None => return AdmissionOutcome::Refuse(connection),
            }
        };
        self.counts.entry(find_address_source(address)).or_default().waiting += 1;
        self.waiting.push_back((address, connection));
        displaced.map_or(AdmissionOutcome::Waits, AdmissionOutcome::WaitsInPlaceOf)
    }

    /// Counts a connection that has ended, and returns the waiting one that begins in its place.
    pub fn leave(&mut self, address: IpAddr) -> Option<(IpAddr, T)> {
        let was_full = self.running >= self.running_max;
        self.running = self.running.saturating_sub(1);
        self.uncount(address, |counts| counts.running -= 1);
        let next = if was_full {
            self.find_neediest()
        } else {
            self.next_of(find_address_source(address))
        }?;
        let (address, connection) = self.take(next)?;
        self.start(address);
        Some((address, connection))
    }

    /// Removes a waiting connection that has ended or that the server gives up.
    pub fn remove_waiting(&mut self, connection: &T) {
        if let Some(place) = self.waiting.iter().position(|(_, waiting)| waiting == connection) {
            self.take(place);
        }
    }

    /// Returns all waiting connections; the server begins no new ones.
    pub fn close(&mut self) -> Vec<T> {
        self.counts.retain(|_, counts| {
            counts.waiting = 0;
            counts.running > 0
        });
        std::mem::take(&mut self.waiting).into_iter().map(|(_, connection)| connection).collect()
    }

    /// Connections that run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Connections that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Connections that the source of this address has.
    pub fn share(&self, address: IpAddr) -> usize {
        self.counts.get(&find_address_source(address)).map_or(0, |counts| counts.running)
    }

    /// While the total is exhausted: the number of connections of that waiting source which has the
    /// fewest.
    pub fn least_share_in_need(&self) -> Option<usize> {
        if self.running < self.running_max {
            return None;
        }
        let in_bounds = self.waiting.iter().filter(|(address, _)| self.is_in_bounds(*address));
        in_bounds.map(|(address, _)| self.share(*address)).min()
    }

    fn start(&mut self, address: IpAddr) {
        self.running += 1;
        for key in list_count_keys(address) {
            self.counts.entry(key).or_default().running += 1;
        }
    }

    fn uncount(&mut self, address: IpAddr, take: impl Fn(&mut SourceCounts)) {
        for key in list_count_keys(address) {
            if let Some(counts) = self.counts.get_mut(&key) {
                take(counts);
                self.forget_if_empty(key);
            }
        }
    }

    fn forget_if_empty(&mut self, key: IpAddr) {
        if self.counts.get(&key).is_some_and(|counts| counts.running + counts.waiting == 0) {
            self.counts.remove(&key);
        }
    }

    fn take(&mut self, place: usize) -> Option<(IpAddr, T)> {
        let (address, connection) = self.waiting.remove(place)?;
        let source = find_address_source(address);
        if let Some(counts) = self.counts.get_mut(&source) {
            counts.waiting -= 1;
            self.forget_if_empty(source);
        }
        Some((address, connection))
    }

    fn has_room(&self, address: IpAddr) -> bool {
        self.running < self.running_max && self.is_in_bounds(address)
    }

    /// Whether the address and its network are below their limits.
    fn is_in_bounds(&self, address: IpAddr) -> bool {
        let limit = self.per_address_max.filter(|_| !address.to_canonical().is_loopback());
        let has_less = |key, most| self.counts.get(&key).is_none_or(|counts| counts.running < most);
        limit.is_none_or(|limit| {
            let [own, network] = [address.to_canonical(), find_address_source(address)];
            has_less(own, limit)
                && (own == network || has_less(network, limit.saturating_mul(NETWORK_SHARES)))
        })
    }

    /// After the total was exhausted: of the waiting connections that have room, the first one of
    /// the source with the fewest connections.
    fn find_neediest(&self) -> Option<usize> {
        let with_room =
            self.waiting.iter().enumerate().filter(|(_, (address, _))| self.has_room(*address));
        with_room.min_by_key(|(_, (address, _))| self.share(*address)).map(|(place, _)| place)
    }

    /// The first waiting connection of the same source: no other source gained room.
    fn next_of(&self, of: IpAddr) -> Option<usize> {
        self.counts.get(&of).filter(|counts| counts.waiting > 0)?;
        self.waiting
            .iter()
            .position(|(address, _)| find_address_source(*address) == of && self.has_room(*address))
    }

    /// Removes the last connection of the source with the most entries in the queue, if the
    /// newcomer's source would have fewer.
    fn displace(&mut self, newcomer: IpAddr) -> Option<T> {
        let waiting = |address| {
            self.counts.get(&find_address_source(address)).map_or(0, |counts| counts.waiting)
        };
        // `max_by_key` returns the last of equal entries.
        let (place, most) = self
            .waiting
            .iter()
            .enumerate()
            .map(|(place, (address, _))| (place, waiting(*address)))
            .max_by_key(|(_, n)| *n)?;
        (most > waiting(newcomer) + 1)
            .then(|| self.take(place).map(|(_, connection)| connection))?
    }
}

/// The address, and its network where that differs.
fn list_count_keys(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let (own, network) = (address.to_canonical(), find_address_source(address));
    std::iter::once(own).chain((own != network).then_some(network))
}
