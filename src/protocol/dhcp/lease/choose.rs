//! The choice of an address for a client that has none.

use std::net::Ipv4Addr;

use super::table::LeaseTable;
use crate::dhcp::classify::hash_bytes;
use crate::dhcp::lease_record::{Circuit, ClockSeconds};
use crate::dhcp::limits::{OFFERS_CROWD, OFFERS_LOOKED_AT};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// The client that needs an address, and the subnet that the address must be in.
#[derive(Clone, Copy, Debug)]
pub(in crate::dhcp) struct AddressRequest<'a> {
    pub(in crate::dhcp) network: Ipv4Network,
    pub(in crate::dhcp) mac: Mac,
    pub(in crate::dhcp) circuit: Circuit,
    /// Spreads machines over the pool; the same seed gives the same address.
    pub(in crate::dhcp) seed: u64,
    /// Addresses of this host and of the relay: never chosen.
    pub(in crate::dhcp) ours: &'a [Ipv4Addr],
}

impl LeaseTable {
    /// An address for a machine that has none here. The first of: a free one, by a hash of the
    /// machine and the seed; the one whose lease ended first; the oldest unconfirmed offer; the one
    /// declined first. A circuit with too many unconfirmed offers gets its own oldest one, so that
    /// a flood takes nothing from others.
    pub(in crate::dhcp) fn choose_address(
        &self,
        request: &AddressRequest<'_>,
        now: ClockSeconds,
    ) -> Option<Ipv4Addr> {
        let AddressRequest { network, mac, circuit, seed, ours } = *request;
        let may_go = |address: &u32| {
            !self.committing.contains_key(address) && !ours.contains(&Ipv4Addr::from(*address))
        };

        // A circuit beyond its limit reuses its own offers.
        let offered = self.offers.counts.get(&circuit).copied().unwrap_or(0);
        if circuit.offers_max().is_some_and(|most| offered >= most) {
            let mut oldest = self
                .offers
                .iter_circuit(circuit)
                .filter(|address| network.contains(Ipv4Addr::from(*address)));
            if let Some(address) = oldest.find(may_go) {
                return Some(Ipv4Addr::from(address));
            }
        }

        let start = hash_bytes(&mac.0) ^ seed;
        if let Some(address) = self.layout.next_free(network, start, ours) {
            return Some(address);
        }
        self.choose_used(network, mac, may_go, now).map(Ipv4Addr::from)
    }

    /// An address that another client had, was offered or declined, where nothing is free.
    fn choose_used(
        &self,
        network: Ipv4Network,
        mac: Mac,
        may_go: impl Fn(&u32) -> bool,
        now: ClockSeconds,
    ) -> Option<u32> {
        let mut ended = self.layout.ended(network).filter(&may_go);
        if let Some(address) = ended
            .find(|address| self.entry(*address).is_some_and(|entry| !self.is_occupied(entry, now)))
        {
            return Some(address);
        }

        // A Pi's offer lapses late: a few may come before one that is old. In a crowd every offer
        // may be reused.
        let is_crowd = self.layout.offer_count(network) >= OFFERS_CROWD;
        let mut offered = self.layout.offered(network).take(OFFERS_LOOKED_AT).filter(&may_go);
        if let Some(address) = offered.find(|address| {
            self.entry(*address).is_some_and(|entry| is_crowd || entry.is_old_offer(now))
        }) {
            return Some(address);
        }

        // The client that declined an address would decline it again.
        let mut declined = self.layout.declined(network).filter(&may_go);
        declined.find(|address| self.entry(*address).is_some_and(|entry| entry.lease.mac != mac))
    }
}
