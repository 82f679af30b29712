//! How much of a subnet's pools is given, and when to log it: at 80 %, when no address is left, and
//! when there is room again; once for each crossing.

use std::collections::HashMap;
use std::fmt;

use super::lease_record::ClockSeconds;
use crate::model::network::Ipv4Network;

/// Percent of its addresses from which on a pool is nearly full.
const NEARLY_FULL_PERCENT: usize = 80;
/// Percent below which a nearly full pool is so no longer: a gap keeps the log quiet.
const ROOM_AGAIN_PERCENT: usize = 70;
/// Percent below which a pool that was full has room again.
const FULL_NO_LONGER_PERCENT: usize = 90;

/// Addresses by state, inside and outside of pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseStateCounts {
    /// A lease runs, or waits for the store.
    pub bound: usize,
    /// An OFFER is not confirmed yet.
    pub offered: usize,
    /// The lease has ended or was released, and the address is remembered for its machine.
    pub ended: usize,
    /// Declined, or found in use.
    pub kept_back: usize,
}

impl LeaseStateCounts {
    /// All addresses that are in a state.
    pub fn total(&self) -> usize {
        self.bound + self.offered + self.ended + self.kept_back
    }
}

/// The addresses of a subnet's pools that any machine may get, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// All of them, in every state.
    pub addresses: usize,
    /// No client has or had them.
    pub free: usize,
    /// A lease runs, or waits for the store.
    pub bound: usize,
    /// An OFFER is not confirmed yet.
    pub offered: usize,
    /// Remembered for a machine whose lease is over; another machine gets them where none is free.
    pub ended: usize,
    /// Declined, or found in use.
    pub kept_back: usize,
}

impl PoolUse {
    /// Addresses with a lease or an offer.
    pub fn given(&self) -> usize {
        self.bound + self.offered
    }

    /// Addresses that a further machine can get.
    fn available(&self) -> usize {
        self.free + self.ended
    }

    /// True where a further machine gets no address.
    pub fn is_full(&self) -> bool {
        self.addresses > 0 && self.available() == 0
    }

    /// Percent of the addresses that a further machine cannot get.
    fn used_percent(&self) -> usize {
        (self.addresses - self.available().min(self.addresses)) * 100 / self.addresses.max(1)
    }

    /// True from `NEARLY_FULL_PERCENT` on.
    pub fn is_nearly_full(&self) -> bool {
        self.addresses > 0 && self.used_percent() >= NEARLY_FULL_PERCENT
    }
}

/// "82 of 100 addresses given, 3 kept back"
impl fmt::Display for PoolUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} addresses given", self.given(), self.addresses)?;
        match self.kept_back {
            0 => Ok(()),
            kept_back => write!(f, ", {kept_back} kept back"),
        }
    }
}

/// The pools of a subnet, for the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// The network of the subnet.
    pub network: Ipv4Network,
    /// How much of the pools is given.
    pub used: PoolUse,
    /// Since when no address is left; None where one is left.
    pub full_since_s: Option<ClockSeconds>,
}

/// A change of a pool that is worth a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolCrossing {
    /// At least 80 % of the addresses are used.
    NearlyFull,
    /// No address is left.
    Full,
    /// A full pool has an address again.
    RoomAgain,
}

impl PoolCrossing {
    /// The sentence for the log.
    pub fn sentence(self, network: Ipv4Network, used: &PoolUse) -> String {
        match self {
            Self::NearlyFull => format!("the pools of subnet {network} are nearly full: {used}"),
            Self::Full => format!(
                "the pools of subnet {network} are FULL: {used}, and further machines get none. \
                 Enlarge `pools`, or shorten `default-lease-time`; `ringboot lease list` shows who \
                 has them"
            ),
            Self::RoomAgain => format!("the pools of subnet {network} have room again: {used}"),
        }
    }
}

/// The crossings that were logged for each subnet.
#[derive(Debug, Default)]
pub struct PoolWatch(HashMap<Ipv4Network, PoolWarnings>);

#[derive(Debug, Default)]
struct PoolWarnings {
    has_logged_nearly: bool,
    has_logged_full: bool,
    full_since_s: Option<ClockSeconds>,
}

impl PoolWatch {
    /// The state of these subnets' pools, and the crossings to log. A subnet that is missing here
    /// is forgotten.
    pub fn update(
        &mut self,
        pools: impl IntoIterator<Item = (Ipv4Network, PoolUse)>,
        now: ClockSeconds,
    ) -> (Vec<PoolReport>, Vec<(Ipv4Network, PoolUse, PoolCrossing)>) {
        let mut before = std::mem::take(&mut self.0);
        let (mut reports, mut crossings) = (Vec::new(), Vec::new());
        for (network, used) in pools {
            let mut watched = before.remove(&network).unwrap_or_default();
            crossings.extend(
                watched.find_crossing(&used, now).map(|crossing| (network, used, crossing)),
            );
            reports.push(PoolReport { network, used, full_since_s: watched.full_since_s });
            self.0.insert(network, watched);
        }
        (reports, crossings)
    }
}

impl PoolWarnings {
    fn find_crossing(&mut self, used: &PoolUse, now: ClockSeconds) -> Option<PoolCrossing> {
        self.full_since_s = if used.is_full() { self.full_since_s.or(Some(now)) } else { None };
        if used.is_full() {
            self.has_logged_nearly = true;
            return (!std::mem::replace(&mut self.has_logged_full, true))
                .then_some(PoolCrossing::Full);
        }
        let percent = used.used_percent();
        self.has_logged_nearly &= percent >= ROOM_AGAIN_PERCENT;
        if self.has_logged_full && percent < FULL_NO_LONGER_PERCENT {
            self.has_logged_full = false;
            return Some(PoolCrossing::RoomAgain);
        }
        let is_news = used.is_nearly_full() && !self.has_logged_nearly;
        self.has_logged_nearly |= is_news;
        is_news.then_some(PoolCrossing::NearlyFull)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of_100(bound: usize) -> PoolUse {
        PoolUse { addresses: 100, bound, free: 100 - bound, ..PoolUse::default() }
    }

    fn network() -> Ipv4Network {
        "10.0.7.0/24".parse().unwrap()
    }

    /// The crossings while these numbers of 100 addresses are given, one a second.
    fn said(given: &[usize]) -> Vec<(usize, PoolCrossing)> {
        let mut watch = PoolWatch::default();
        let one = |(at, bound): (usize, &usize)| {
            let (_, said) = watch.update([(network(), of_100(*bound))], at as ClockSeconds);
            said.into_iter().map(move |(_, _, crossing)| (at, crossing)).collect::<Vec<_>>()
        };
        given.iter().enumerate().flat_map(one).collect()
    }

    #[test]
    fn each_crossing_is_said_once_and_wavering_says_nothing() {
        use PoolCrossing::{Full, NearlyFull, RoomAgain};
        assert_eq!(said(&[0, 79, 80, 81, 79, 80, 99]), [(2, NearlyFull)]);
        assert_eq!(said(&[80, 69, 80]), [(0, NearlyFull), (2, NearlyFull)]);
        assert_eq!(said(&[100, 99, 100, 95, 100]), [(0, Full)]);
        assert_eq!(said(&[100, 89, 100]), [(0, Full), (1, RoomAgain), (2, Full)]);
        assert_eq!(
            said(&[85, 100, 85, 60, 90]),
            [(0, NearlyFull), (1, Full), (2, RoomAgain), (4, NearlyFull)]
        );
    }

    #[test]
    fn a_full_pool_tells_since_when_and_one_that_nobody_serves_any_more_is_forgotten() {
        let mut watch = PoolWatch::default();
        let full_since = |watch: &mut PoolWatch, bound, now| {
            watch.update([(network(), of_100(bound))], now).0[0].full_since_s
        };
        assert_eq!(
            [1, 2, 3].map(|now| full_since(&mut watch, if now > 1 { 100 } else { 9 }, now)),
            [None, Some(2), Some(2)]
        );
        assert_eq!(
            (full_since(&mut watch, 99, 4), full_since(&mut watch, 100, 5)),
            (None, Some(5))
        );
        watch.update([], 6);
        assert_eq!(
            watch.update([(network(), of_100(100))], 7).1.len(),
            1,
            "it is said of a new one"
        );
    }

    #[test]
    fn what_another_machine_had_is_left_and_what_is_kept_back_is_not() {
        let pool = PoolUse { addresses: 4, bound: 2, offered: 1, ended: 1, ..PoolUse::default() };
        assert!(!pool.is_full() && !pool.is_nearly_full());
        assert_eq!(pool.to_string(), "3 of 4 addresses given");
        let pool = PoolUse { addresses: 4, bound: 3, kept_back: 1, ..PoolUse::default() };
        assert!(pool.is_full() && pool.is_nearly_full());
        let said = PoolCrossing::Full.sentence(network(), &pool);
        assert!(
            said.contains("10.0.7.0/24 are FULL: 3 of 4 addresses given, 1 kept back"),
            "{said}"
        );
        assert!(
            !PoolUse::default().is_full() && !PoolUse::default().is_nearly_full(),
            "no pool is no full pool"
        );
    }
}
