//! The leases of all machines, as servers acknowledged them: it finds an address that two machines
//! hold, and one of another network.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::failure::BootFailure;
use ringboot_protocol::model::network::Ipv4Network;

/// One for a whole fleet, whatever segments its machines are on.
#[derive(Debug, Default)]
pub(crate) struct AddressLedger {
    /// The networks of the segment; empty if they are unknown.
    networks: Vec<Ipv4Network>,
    book: RefCell<AddressBook>,
}

#[derive(Debug, Default)]
struct AddressBook {
    holders: HashMap<Ipv4Addr, AddressHolder>,
    /// The last lease of each machine.
    addresses: HashMap<u32, Ipv4Addr>,
    /// Machines whose address another machine got too.
    doubled: HashSet<u32>,
    /// Acknowledged leases, with the moments of the first and the last.
    acknowledged: u32,
    span: Option<(Instant, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct AddressHolder {
    /// Its number in the fleet.
    machine: u32,
    /// None means without end.
    until: Option<Instant>,
}

impl AddressLedger {
    pub(crate) fn new(networks: Vec<Ipv4Network>) -> Self {
        Self { networks, book: RefCell::default() }
    }

    /// A server has acknowledged this address. The machine gives up its former one; a lease whose
    /// time is over has no holder.
    pub(crate) fn record_lease(
        &self,
        machine: u32,
        address: Ipv4Addr,
        lease_s: Option<u32>,
        now: Instant,
    ) -> Result<(), BootFailure> {
        let mut book = self.book.borrow_mut();
        book.acknowledged += 1;
        book.span = Some((book.span.map_or(now, |(first, _)| first), now));
        let before = book.addresses.insert(machine, address).filter(|before| *before != address);
        if let Some(before) = before {
            book.release_address(machine, before);
        }

        // 0xffffffff seconds are a lease without end (RFC 2131 section 3.3).
        let until = lease_s.filter(|s| *s != u32::MAX).map(|s| now + Duration::from_secs(s.into()));
        let holder = book.holders.insert(address, AddressHolder { machine, until });

        // Neither machine is at fault, so both fail. The other one may have booted already:
        // `doubled` fails it at the end of the run.
        if let Some(other) = holder.filter(|holder| {
            holder.machine != machine && holder.until.is_none_or(|until| now < until)
        }) {
            book.doubled.extend([machine, other.machine]);
            return Err(BootFailure::AddressDoubled);
        }
        let networks = &self.networks;
        if networks.is_empty() || networks.iter().any(|network| network.contains(address)) {
            Ok(())
        } else {
            Err(BootFailure::AddressOutside)
        }
    }

    /// The machine has released this address.
    pub(super) fn record_release(&self, machine: u32, address: Ipv4Addr) {
        let mut book = self.book.borrow_mut();
        book.release_address(machine, address);
        if book.addresses.get(&machine) == Some(&address) {
            book.addresses.remove(&machine);
        }
    }

    /// Acknowledged leases a second, from the first to the last; 0 for fewer than two.
    pub(crate) fn rate(&self) -> f64 {
        let book = self.book.borrow();
        let span = book.span.map_or(Duration::ZERO, |(first, last)| last - first).as_secs_f64();
        if span > 0.0 { f64::from(book.acknowledged) / span } else { 0.0 }
    }

    /// Machines whose address another machine got while they held it, perhaps long after their ACK.
    pub(crate) fn list_doubled(&self) -> Vec<u32> {
        self.book.borrow().doubled.iter().copied().collect()
    }
}

impl AddressBook {
    fn release_address(&mut self, machine: u32, address: Ipv4Addr) {
        if self.holders.get(&address).is_some_and(|holder| holder.machine == machine) {
            self.holders.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: u32 = 1;
    const B: u32 = 2;
    const X: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const Y: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn an_address_given_twice_is_the_fault_of_neither_machine_and_fails_both() {
        let (ledger, now) = (AddressLedger::default(), Instant::now());
        assert_eq!(ledger.record_lease(A, X, Some(600), now), Ok(()));
        assert_eq!(ledger.record_lease(A, X, Some(600), now), Ok(()), "the same machine again");
        assert_eq!(ledger.record_lease(B, X, Some(600), now), Err(BootFailure::AddressDoubled));
        assert_eq!(ledger.list_doubled().len(), 2);
    }

    #[test]
    fn the_rate_is_that_of_the_acknowledgements() {
        let (ledger, now) = (AddressLedger::default(), Instant::now());
        assert!(ledger.rate().abs() < f64::EPSILON);
        for machine in 0..10u8 {
            let at = now + Duration::from_millis(u64::from(machine) * 100);
            ledger
                .record_lease(machine.into(), Ipv4Addr::new(10, 0, 0, machine), None, at)
                .unwrap();
        }
        assert!((ledger.rate() - 10.0 / 0.9).abs() < 0.01, "{}", ledger.rate());
    }

    #[test]
    fn an_address_given_back_given_up_or_run_out_may_be_given_again() {
        let (ledger, now) = (AddressLedger::default(), Instant::now());
        ledger.record_lease(A, X, Some(60), now).unwrap();
        ledger.record_lease(A, Y, None, now).unwrap();
        assert_eq!(ledger.record_lease(B, X, Some(60), now), Ok(()), "given up");
        ledger.record_release(A, Y);
        assert_eq!(ledger.record_lease(B, Y, Some(60), now), Ok(()), "given back");
        assert_eq!(
            ledger.record_lease(A, Y, Some(60), now + Duration::from_secs(60)),
            Ok(()),
            "run out"
        );
        assert!(ledger.list_doubled().is_empty());
    }

    #[test]
    fn an_address_of_another_network_is_seen_where_networks_are_known() {
        let now = Instant::now();
        let ledger = AddressLedger::new(vec![
            "10.0.0.0/24".parse().unwrap(),
            "10.0.9.0/24".parse().unwrap(),
        ]);
        assert_eq!(ledger.record_lease(A, Ipv4Addr::new(10, 0, 9, 1), None, now), Ok(()));
        assert_eq!(
            ledger.record_lease(B, Ipv4Addr::new(10, 0, 1, 1), None, now),
            Err(BootFailure::AddressOutside)
        );
        assert_eq!(
            AddressLedger::default().record_lease(B, Ipv4Addr::new(10, 0, 1, 1), None, now),
            Ok(())
        );
    }
}
