//! The choice of an address for a client that has none.

use std::net::Ipv4Addr;

use super::table::LeaseTable;
use crate::dhcp::classify::hash_bytes;
use crate::dhcp::lease_record::{Circuit, ClockSeconds};
use crate::dhcp::limits::{OFFERS_CROWD, OFFERS_LOOKED_AT};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// Who wants an address, and of which subnet.
#[derive(Clone, Copy, Debug)]
pub(in crate::dhcp) struct AddressRequest<'a> {
    pub(in crate::dhcp) network: Ipv4Network,
    pub(in crate::dhcp) mac: Mac,
    pub(in crate::dhcp) circuit: Circuit,
    pub(in crate::dhcp) seed: u64,
    /// Addresses of this host.
    pub(in crate::dhcp) ours: &'a [Ipv4Addr],
}

impl LeaseTable {
    /// An address for a machine that has none here: free ones first, by a hash of the machine and
    /// the seed; then the one whose lease ended longest ago; then the one that was offered longest
    /// ago and not taken; then the one that was declined longest ago. Where too many offers went to
    /// the same place, the oldest of these: a flood eats its own. Never one of `ours`.
    pub(in crate::dhcp) fn choose(
        &self,
        wanted: &AddressRequest<'_>,
        now: ClockSeconds,
    ) -> Option<Ipv4Addr> {
        let AddressRequest { network, mac, circuit, seed, ours } = *wanted;
        let may_go = |address: &u32| {
            !self.committing.contains_key(address) && !ours.contains(&Ipv4Addr::from(*address))
        };
        let is_too_many =
            |most: usize| self.offers.counts.get(&circuit).is_some_and(|count| *count >= most);
        if circuit.offers_max().is_some_and(is_too_many) {
            let mut oldest = self
                .offers
                .from(circuit)
                .filter(|address| network.contains(Ipv4Addr::from(*address)));
            if let Some(address) = oldest.find(may_go) {
                return Some(Ipv4Addr::from(address));
            }
        }
        let start = hash_bytes(&mac.0) ^ seed;
        if let Some(address) = self.layout.next_free(network, start, ours) {
            return Some(address);
        }
        let is_over =
            |address: &u32| self.held(*address).is_some_and(|held| !self.is_occupied(held, now));
        let is_crowd = self.layout.offers(network) >= OFFERS_CROWD;
        let is_old = |address: &u32| {
            self.held(*address).is_some_and(|held| is_crowd || held.is_old_offer(now))
        };
        let is_anothers =
            |address: &u32| self.held(*address).is_some_and(|held| held.lease.mac != mac);
        let ended = self.layout.ended(network).filter(may_go).find(is_over);
        // A Pi's offer lapses late: a few may stand before one that is old.
        let offered =
            || self.layout.offered(network).take(OFFERS_LOOKED_AT).filter(may_go).find(is_old);
        let declined = || self.layout.declined(network).filter(may_go).find(is_anothers);
        ended.or_else(offered).or_else(declined).map(Ipv4Addr::from)
    }
}
