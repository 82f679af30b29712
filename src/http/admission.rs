//! Who may have a connection now, who waits, who is refused (H-34). Addresses in, decisions out; holds what waits, whatever it is.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::limits::WAITING_MAX;

/// The connections of one core, counted by client address, and those that wait for room.
#[derive(Debug)]
pub struct Admission<T> {
    per_address_max: Option<usize>,
    running_max: usize,
    running: usize,
    by_address: HashMap<IpAddr, usize>,
    waiting: VecDeque<(IpAddr, T)>,
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<T> {
    /// Serve it, and call [`Admission::leave`] when it ends.
    Start(T),
    /// It is kept; a later [`Admission::leave`] hands it out.
    Waits,
    /// There is no room to wait either.
    Refuse(T),
}

impl<T> Admission<T> {
    /// Without `per_address_max` only the total counts. Loopback is never limited by address.
    pub fn new(per_address_max: Option<usize>, running_max: usize) -> Self {
        Self { per_address_max, running_max, running: 0, by_address: HashMap::new(), waiting: VecDeque::new() }
    }

    pub fn arrive(&mut self, address: IpAddr, connection: T) -> Arrival<T> {
        if self.has_room(address) {
            self.start(address);
            Arrival::Start(connection)
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((address, connection));
            Arrival::Waits
        } else {
            Arrival::Refuse(connection)
        }
    }

    /// A connection has ended: the longest waiting one that has room now, to be served.
    pub fn leave(&mut self, address: IpAddr) -> Option<(IpAddr, T)> {
        self.running = self.running.saturating_sub(1);
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        let next = self.waiting.iter().position(|(address, _)| self.has_room(*address))?;
        let (address, connection) = self.waiting.remove(next)?;
        self.start(address);
        Some((address, connection))
    }

    /// Gives back all that wait: nothing new is served any more.
    pub fn close(&mut self) -> Vec<T> {
        std::mem::take(&mut self.waiting).into_iter().map(|(_, connection)| connection).collect()
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn start(&mut self, address: IpAddr) {
        self.running += 1;
        *self.by_address.entry(address).or_default() += 1;
    }

    fn has_room(&self, address: IpAddr) -> bool {
        let limit = self.per_address_max.filter(|_| !address.to_canonical().is_loopback());
        let mine = self.by_address.get(&address).copied().unwrap_or(0);
        self.running < self.running_max && limit.is_none_or(|limit| mine < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX};
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 4, 10));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 4, 11));

    #[test]
    fn h34_the_33rd_connection_of_an_address_waits_and_others_do_not() {
        let mut admission = Admission::new(Some(CONNECTIONS_PER_ADDRESS_MAX), CONNECTIONS_MAX);
        for n in 0..CONNECTIONS_PER_ADDRESS_MAX {
            assert_eq!(admission.arrive(A, n), Arrival::Start(n));
        }
        assert_eq!(admission.arrive(A, 100), Arrival::Waits);
        assert_eq!(admission.arrive(B, 200), Arrival::Start(200));
        assert_eq!(admission.leave(B), None, "room for B is no room for A");
        assert_eq!(admission.leave(A), Some((A, 100)));
        assert_eq!(admission.leave(A), None);
    }

    #[test]
    fn h34_loopback_and_a_server_without_limits_are_bound_by_the_total_alone() {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        for (limit, address) in [(Some(1), v4), (Some(1), v6), (None, A)] {
            let mut admission = Admission::new(limit, CONNECTIONS_MAX);
            for n in 0..CONNECTIONS_MAX {
                assert_eq!(admission.arrive(address, n), Arrival::Start(n));
            }
            assert_eq!(admission.arrive(address, 0), Arrival::Waits);
        }
    }

    #[test]
    fn h14_the_queue_is_bounded_and_beyond_it_connections_are_refused() {
        let mut admission = Admission::new(Some(CONNECTIONS_PER_ADDRESS_MAX), CONNECTIONS_MAX);
        for n in 0..CONNECTIONS_PER_ADDRESS_MAX + WAITING_MAX {
            assert!(!matches!(admission.arrive(A, n), Arrival::Refuse(_)));
        }
        assert_eq!(admission.arrive(A, 7), Arrival::Refuse(7));
        assert_eq!(admission.waiting(), WAITING_MAX);
        assert_eq!(admission.close().len(), WAITING_MAX);
        assert_eq!(admission.leave(A), None);
    }
}
