//! Leases as an operator sees them: the status of an address, its end, and the limits that declines
//! brought about.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

pub use super::lease_record::DeclineScope;
use super::lease_record::{ClockSeconds, Lease, LeaseRowState};
use crate::model::machine::{Firmware, Mac};
use crate::model::network::Ipv4Network;

/// The status of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressStatus {
    /// A lease runs.
    Bound,
    /// Offered, and not confirmed yet.
    Offered,
    /// The lease is over, and its machine gets the address again where it can.
    Ended,
    /// The machine released its lease, and gets the address again where it can.
    Released,
    /// Kept back: a machine declined it because another host uses it.
    Declined,
    /// Kept back: a host without a lease answered for it.
    InUse,
}

impl AddressStatus {
    /// Every status, in the order of the enum.
    pub const ALL: [Self; 6] =
        [Self::Bound, Self::Offered, Self::Ended, Self::Released, Self::Declined, Self::InUse];

    /// True where no machine gets the address.
    pub fn is_kept_back(self) -> bool {
        matches!(self, Self::Declined | Self::InUse)
    }

    /// True where a machine may be using it.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Bound | Self::Offered)
    }
}

impl fmt::Display for AddressStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bound => "bound",
            Self::Offered => "offered",
            Self::Ended => "ended",
            Self::Released => "released",
            Self::Declined => "declined",
            Self::InUse => "in-use",
        })
    }
}

impl FromStr for AddressStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|standing| standing.to_string() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(|standing| standing.to_string()).join(", ");
            format!("an address is one of {known}")
        })
    }
}

/// One address of the lease table, for a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The machine that has it, had it or declined it.
    pub mac: Mac,
    /// What the address is used for now.
    pub standing: AddressStatus,
    /// When the status ends or, for a lease that is over, ended. None: without end.
    pub until_s: Option<ClockSeconds>,
    /// What booted last on the machine that has or had it; None for an address that is kept back.
    pub firmware: Option<Firmware>,
    /// Host name of that machine.
    pub host_name: Option<String>,
}

impl ListedAddress {
    /// A row of the store, which keeps no offers.
    pub fn from_lease(lease: &Lease, now: ClockSeconds) -> Self {
        Self::new(lease, 0, false, now)
    }

    pub(super) fn new(
        lease: &Lease,
        offered_until_s: ClockSeconds,
        is_in_use: bool,
        now: ClockSeconds,
    ) -> Self {
        // The order matters: a lease in force hides an offer, and an offer hides a lease that is
        // over.
        let standing = match lease.state {
            LeaseRowState::Declined if is_in_use => AddressStatus::InUse,
            LeaseRowState::Declined => AddressStatus::Declined,
            LeaseRowState::Bound if lease.end_s > now => AddressStatus::Bound,
            _ if offered_until_s > now => AddressStatus::Offered,
            LeaseRowState::Released => AddressStatus::Released,
            LeaseRowState::Bound | LeaseRowState::Offered => AddressStatus::Ended,
        };
        let until_s =
            if standing == AddressStatus::Offered { offered_until_s } else { lease.end_s };

        // An address that is kept back shows the client that declined it, and not what booted there
        // before.
        Self {
            address: lease.address,
            mac: lease.mac,
            standing,
            until_s: (!lease.is_endless()).then_some(until_s),
            firmware: lease.firmware.filter(|_| !standing.is_kept_back()),
            host_name: lease.host_name.clone().filter(|_| !standing.is_kept_back()),
        }
    }
}

/// Which addresses to list; None selects all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFilter {
    /// This address only.
    pub address: Option<Ipv4Addr>,
    /// Addresses of this network.
    pub network: Option<Ipv4Network>,
    /// Addresses with this status.
    pub standing: Option<AddressStatus>,
    /// Addresses of this machine.
    pub mac: Option<Mac>,
    /// Addresses above this one: the next piece of a long list.
    pub after: Option<Ipv4Addr>,
}

impl LeaseFilter {
    /// True where every condition fits.
    pub fn matches(&self, listed: &ListedAddress) -> bool {
        self.address.is_none_or(|address| address == listed.address)
            && self.network.is_none_or(|network| network.contains(listed.address))
            && self.standing.is_none_or(|standing| standing == listed.standing)
            && self.mac.is_none_or(|mac| mac == listed.mac)
            && self.after.is_none_or(|after| listed.address > after)
    }
}

/// A limit that declines brought about, and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclineLimit {
    /// The clients that it applies to.
    pub whom: DeclineScope,
    /// When the hour of the first counted decline is over.
    pub until_s: ClockSeconds,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dhcp::lease::{Circuit, LeaseChange, LeaseTable};
    use crate::dhcp::limits::{DECLINE_HOLD_S, DECLINES_PER_MACHINE_MAX, FOREVER_S, OFFER_HOLD_S};
    use crate::model::machine::Machine;

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 4, last)
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn lease(last: u8, end_s: ClockSeconds) -> Lease {
        Lease::new_bound(at(last), mac(last), end_s)
    }

    #[test]
    fn every_standing_is_told_and_named() {
        let mut leases = LeaseTable::new(&[]);
        leases
            .load((1..=5).map(|n| lease(n, 1000)).chain([lease(6, 50), lease(7, FOREVER_S)]), 100);
        let machine = |n| Machine { mac: mac(n), uuid: None, firmware: None };
        let circuit = Circuit::default();
        let offer = |n| LeaseChange::Offer {
            address: at(n),
            machine: machine(n),
            client_id: None,
            until_s: 100 + OFFER_HOLD_S,
            circuit,
        };
        leases.apply(
            &LeaseChange::Decline { address: at(2), mac: mac(2), until_s: 100 + DECLINE_HOLD_S },
            100,
        );
        leases.apply(&LeaseChange::Release { address: at(3), mac: mac(3), end_s: 100 }, 100);
        leases.keep_back(at(4), mac(4), 700, 100);
        leases.apply(&offer(8), 100);
        let told = |leases: &LeaseTable, now| {
            let mut all = Vec::new();
            let mut from = Some(0);
            while let Some(at) = from {
                let (some, next) = leases.list_piece(at, 3, now);
                all.extend(some);
                from = next;
            }
            all.sort_by_key(|listed: &ListedAddress| listed.address);
            all
        };
        let all = told(&leases, 100);
        let words: Vec<(u8, String, Option<ClockSeconds>)> =
            all.iter().map(|one| (one.mac.0[5], one.standing.to_string(), one.until_s)).collect();
        let expected = [
            (1, "bound", Some(1000)),
            (2, "declined", Some(100 + DECLINE_HOLD_S)),
            (3, "released", Some(100)),
            (4, "in-use", Some(700)),
            (5, "bound", Some(1000)),
            (6, "ended", Some(50)),
            (8, "offered", Some(100 + OFFER_HOLD_S)),
        ];
        let expected = expected.map(|(n, word, until_s)| (n, word.to_owned(), until_s));
        assert_eq!(words.iter().filter(|(n, ..)| *n != 7).cloned().collect::<Vec<_>>(), expected);
        for standing in AddressStatus::ALL {
            assert_eq!(standing.to_string().parse(), Ok(standing));
        }
        assert_eq!(
            AddressStatus::ALL.map(AddressStatus::is_live),
            [true, true, false, false, false, false]
        );
        assert_eq!(
            AddressStatus::ALL.map(AddressStatus::is_kept_back),
            [false, false, false, false, true, true]
        );
        assert!("free".parse::<AddressStatus>().unwrap_err().contains("bound, offered, ended"));
        let count =
            |filter: LeaseFilter| all.iter().filter(|listed| filter.matches(listed)).count();
        let every = LeaseFilter::default();
        for (filter, taken) in [
            (every, 8),
            (LeaseFilter { address: Some(at(3)), ..every }, 1),
            (LeaseFilter { mac: Some(mac(3)), ..every }, 1),
            (LeaseFilter { after: Some(at(6)), ..every }, 2),
            (LeaseFilter { standing: Some(AddressStatus::Bound), ..every }, 2),
            (LeaseFilter { standing: Some(AddressStatus::Bound), mac: Some(mac(5)), ..every }, 1),
            (LeaseFilter { standing: Some(AddressStatus::Bound), mac: Some(mac(3)), ..every }, 0),
            (LeaseFilter { network: Some("192.168.4.0/30".parse().unwrap()), ..every }, 3),
        ] {
            assert_eq!(count(filter), taken, "{filter:?}");
        }
        let freed = [1, 2, 3, 4, 6, 8].map(|n| {
            (leases.may_be_freed(at(n), false, 100), leases.may_be_freed(at(n), true, 100))
        });
        assert_eq!(
            freed,
            [(false, true), (true, true), (true, true), (true, true), (true, true), (false, true)]
        );
        leases.begin_commit(&[LeaseChange::Bind(Box::new(lease(6, 2000)))], 7, 100);
        assert!(!leases.may_be_freed(at(6), true, 100), "what is being written is not taken back");
    }

    #[test]
    fn who_is_limited_is_told_until_it_is_over_or_pardoned() {
        let mut leases = LeaseTable::new(&[]);
        let network = "10.0.0.0/8".parse().unwrap();
        let circuit = Circuit::new(network, Ipv4Addr::new(10, 0, 0, 1), Some(b"e1"));
        let struck = |n: u8| LeaseChange::Struck { address: at(1), mac: mac(n), circuit };
        (0..DECLINES_PER_MACHINE_MAX).for_each(|_| leases.apply(&struck(1), 100));
        let silenced =
            DeclineLimit { whom: DeclineScope::Machine(mac(1)), until_s: 100 + DECLINE_HOLD_S };
        assert_eq!(leases.decline_limits(200), [silenced]);
        (2..40).for_each(|n| leases.apply(&struck(n), 150));
        assert_eq!(
            leases.decline_limits(200),
            [silenced, DeclineLimit { whom: DeclineScope::Port, ..silenced }]
        );
        assert_eq!(leases.decline_limits(100 + DECLINE_HOLD_S), []);
        leases.pardon(Some(mac(1)));
        assert_eq!(leases.decline_limits(200).len(), 1);
        leases.pardon(None);
        assert_eq!(leases.decline_limits(200), []);
    }
}
