//! Offers that wait for a probe of their address: a host without a lease may use it (D-36).

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use super::limits::{
    CONFLICTS_MAX, CONFLICTS_PER_HOST_MAX, CONFLICTS_REMEMBERED_MS, CONFLICTS_WITHIN_MS,
    PROBES_MAX, PROVEN_MAX, PROVEN_MS,
};
use super::other_servers::MonotonicMillis;
use crate::model::machine::Mac;

/// The offers that wait, by address, and the addresses that probes found free or in use.
#[derive(Debug)]
pub struct ConflictProbes<T> {
    waiting: HashMap<Ipv4Addr, WaitingOffer<T>>,
    /// Every offer waits for the same time, so the first is due first. The number distinguishes an
    /// offer from a later one of the same address.
    due: VecDeque<(MonotonicMillis, Ipv4Addr, u64)>,
    next_number: u64,
    /// Addresses whose probe got no answer, and when: the next offer of such an address needs no
    /// probe.
    proven: HashMap<Ipv4Addr, MonotonicMillis>,
    /// Addresses that were in use, with the host that answered, where it is known; oldest first.
    found: VecDeque<(MonotonicMillis, Option<Mac>, Ipv4Addr)>,
    /// When too many conflicts were last reported.
    reported: Option<MonotonicMillis>,
}

#[derive(Debug)]
struct WaitingOffer<T> {
    number: u64,
    client: Mac,
    offer: T,
}

/// What the answer to a probe means.
#[derive(Debug, PartialEq, Eq)]
pub enum ProbeVerdict<T> {
    /// No offer of the address waits.
    Nothing,
    /// The client itself answers: the offer may leave.
    Free(T),
    /// Another host has the address.
    InUse(T),
    /// The host answers for more addresses than a host has, or there are too many conflicts in all:
    /// the offer may leave. True: report it, for the first time within the hour.
    Disbelieved(T, bool),
}

impl<T> Default for ConflictProbes<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            due: VecDeque::new(),
            next_number: 0,
            proven: HashMap::new(),
            found: VecDeque::new(),
            reported: None,
        }
    }
}

impl<T> ConflictProbes<T> {
    /// Holds an offer back until the probe is over. Err returns the offer where too many wait.
    pub fn hold_offer(
        &mut self,
        address: Ipv4Addr,
        client: Mac,
        offer: T,
        until: MonotonicMillis,
    ) -> Result<(), T> {
        if self.waiting.len() >= PROBES_MAX || self.due.len() >= 2 * PROBES_MAX {
            return Err(offer);
        }
        // Replaces another client's offer of this address, whose probe is under way.
        if let Some(waiting) = self.waiting.get_mut(&address) {
            (waiting.client, waiting.offer) = (client, offer);
            return Ok(());
        }
        let number = self.next_number;
        self.next_number += 1;
        self.waiting.insert(address, WaitingOffer { number, client, offer });
        self.due.push_back((until, address, number));
        Ok(())
    }

    /// True where a recent probe of this address got no answer.
    pub fn is_proven(&self, address: Ipv4Addr, now: MonotonicMillis) -> bool {
        self.proven.get(&address).is_some_and(|at| now.saturating_sub(*at) < PROVEN_MS)
    }

    /// True while an offer of this address waits.
    pub fn is_waiting(&self, address: Ipv4Addr) -> bool {
        self.waiting.contains_key(&address)
    }

    /// Replaces the waiting offer by the one to a retransmission of the same client, which leaves
    /// no later than the first would have. Err returns the offer where none of this client waits.
    pub fn replace_offer(&mut self, address: Ipv4Addr, client: Mac, offer: T) -> Result<(), T> {
        match self.waiting.get_mut(&address).filter(|waiting| waiting.client == client) {
            Some(waiting) => {
                waiting.offer = offer;
                Ok(())
            }
            None => Err(offer),
        }
    }

    /// The next offer whose wait is over without an answer.
    pub fn pop_due(&mut self, now: MonotonicMillis) -> Option<T> {
        while let Some(&(_, address, number)) = self.due.front().filter(|(until, ..)| now >= *until)
        {
            self.due.pop_front();
            if self.waiting.get(&address).is_some_and(|waiting| waiting.number == number) {
                if self.proven.len() >= PROVEN_MAX {
                    self.proven.clear();
                }
                self.proven.insert(address, now);
                return self.waiting.remove(&address).map(|waiting| waiting.offer);
            }
        }
        None
    }

    /// When the next offer is due; None: no offer waits.
    pub fn next_due_ms(&self) -> Option<MonotonicMillis> {
        self.due.front().map(|(until, ..)| *until)
    }

    /// Records that a host answered for this address. Its hardware address is known only on
    /// directly connected segments.
    pub fn record_answer(
        &mut self,
        address: Ipv4Addr,
        host: Option<Mac>,
        now: MonotonicMillis,
    ) -> ProbeVerdict<T> {
        let Some(WaitingOffer { client, offer, .. }) = self.waiting.remove(&address) else {
            return ProbeVerdict::Nothing;
        };
        if host == Some(client) {
            return ProbeVerdict::Free(offer);
        }
        let since = |at: MonotonicMillis| now.saturating_sub(at);
        self.found.retain(|(at, ..)| since(*at) < CONFLICTS_REMEMBERED_MS);

        // A router with proxy ARP answers for every address, and so may an attacker: neither must
        // stop the offers.
        let by_host = self
            .found
            .iter()
            .filter(|(_, by, of)| host.is_some() && *by == host && *of != address)
            .count();
        let of_late = self.found.iter().filter(|(at, ..)| since(*at) < CONFLICTS_WITHIN_MS).count();
        if by_host >= CONFLICTS_PER_HOST_MAX || of_late >= CONFLICTS_MAX {
            let is_first = self.reported.is_none_or(|at| since(at) >= CONFLICTS_REMEMBERED_MS);
            self.reported = self.reported.filter(|_| !is_first).or(Some(now));
            return ProbeVerdict::Disbelieved(offer, is_first);
        }
        self.found.push_back((now, host, address));
        ProbeVerdict::InUse(offer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation)]
    use super::*;

    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const HOST: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 4, last)
    }

    #[test]
    fn d36_an_offer_waits_for_its_time_and_then_leaves() {
        let mut probes = ConflictProbes::default();
        assert_eq!(probes.hold_offer(at(10), CLIENT, "first", 200), Ok(()));
        assert!(probes.is_waiting(at(10)) && !probes.is_waiting(at(11)));
        assert_eq!((probes.next_due_ms(), probes.pop_due(199)), (Some(200), None));
        assert_eq!(probes.replace_offer(at(10), CLIENT, "later"), Ok(()));
        assert_eq!(probes.replace_offer(at(11), CLIENT, "none waits"), Err("none waits"));
        assert_eq!(probes.replace_offer(at(10), HOST, "not its own"), Err("not its own"));
        assert_eq!(
            (probes.pop_due(200), probes.pop_due(200), probes.next_due_ms()),
            (Some("later"), None, None)
        );
        assert!(!probes.is_waiting(at(10)));
        assert_eq!(
            probes.record_answer(at(10), Some(HOST), 201),
            ProbeVerdict::Nothing,
            "too late"
        );
    }

    #[test]
    fn d36_what_another_host_answers_for_is_in_use_and_what_the_client_answers_for_is_its_own() {
        let mut probes = ConflictProbes::default();
        for (last, host) in [(10, Some(HOST)), (11, Some(CLIENT)), (12, None)] {
            probes.hold_offer(at(last), CLIENT, last, 200).unwrap_or_default();
            let ruling = probes.record_answer(at(last), host, 20);
            assert_eq!(
                ruling,
                if last == 11 { ProbeVerdict::Free(last) } else { ProbeVerdict::InUse(last) }
            );
        }
        // The same address again, for another client: its first time is not the second's.
        probes.hold_offer(at(10), CLIENT, 20, 1200).unwrap_or_default();
        assert_eq!(
            (probes.pop_due(200), probes.pop_due(1199), probes.pop_due(1200)),
            (None, None, Some(20))
        );
    }

    /// A flood of clients that take one pool after the other.
    #[test]
    fn d36_an_address_is_asked_about_once_a_minute_whoever_is_offered_it() {
        let mut probes = ConflictProbes::default();
        assert_eq!(probes.hold_offer(at(10), CLIENT, "first", 200), Ok(()));
        assert_eq!(probes.hold_offer(at(10), HOST, "taken over", 300), Ok(()));
        assert_eq!(
            (probes.pop_due(200), probes.pop_due(300)),
            (Some("taken over"), None),
            "no later than the question was asked for"
        );
        assert!(
            probes.is_proven(at(10), 200 + PROVEN_MS - 1)
                && !probes.is_proven(at(10), 200 + PROVEN_MS)
        );
        assert!(!probes.is_proven(at(11), 200));
        assert_eq!(probes.hold_offer(at(11), CLIENT, "another", 400), Ok(()));
        assert_eq!(probes.pop_due(400), Some("another"));
        assert!(
            [10, 11].iter().all(|last| probes.is_proven(at(*last), 400)),
            "one makes no other forgotten"
        );
    }

    #[test]
    fn a_host_that_answers_for_everybody_is_not_believed_for_long() {
        let mut probes = ConflictProbes::default();
        let mut ask = |last: u8, host, now| {
            probes.hold_offer(at(last), CLIENT, (), now + 200).unwrap_or_default();
            probes.record_answer(at(last), host, now)
        };
        for last in 0..CONFLICTS_PER_HOST_MAX as u8 {
            assert_eq!(ask(last, Some(HOST), 0), ProbeVerdict::InUse(()));
        }
        assert_eq!(ask(100, Some(HOST), 1), ProbeVerdict::Disbelieved((), true), "said once");
        assert_eq!(ask(101, Some(HOST), 1), ProbeVerdict::Disbelieved((), false));
        assert_eq!(ask(102, Some(Mac([7; 6])), 1), ProbeVerdict::InUse(()), "another host");
        assert_eq!(
            ask(103, Some(HOST), CONFLICTS_REMEMBERED_MS - 1),
            ProbeVerdict::Disbelieved((), false)
        );
        assert_eq!(
            ask(104, Some(HOST), CONFLICTS_REMEMBERED_MS),
            ProbeVerdict::InUse(()),
            "an hour later"
        );
    }

    #[test]
    fn a_host_that_goes_on_answering_for_everybody_is_told_of_once_an_hour() {
        let mut probes = ConflictProbes::default();
        let every_10_s = (0..3 * CONFLICTS_REMEMBERED_MS).step_by(10_000);
        let told = every_10_s.filter(|now| {
            let address = Ipv4Addr::from(*now as u32);
            probes.hold_offer(address, CLIENT, (), now + 200).unwrap_or_default();
            probes.record_answer(address, Some(HOST), *now) == ProbeVerdict::Disbelieved((), true)
        });
        assert_eq!(told.count(), 3);
    }

    #[test]
    fn however_many_hosts_answer_most_offers_leave() {
        let mut probes = ConflictProbes::default();
        let mut in_use = 0;
        for n in 0..200u8 {
            probes.hold_offer(at(n), CLIENT, (), 200).unwrap_or_default();
            in_use += usize::from(
                probes.record_answer(at(n), Some(Mac([2, 0, 0, 0, 1, n])), 10)
                    == ProbeVerdict::InUse(()),
            );
        }
        assert_eq!(in_use, CONFLICTS_MAX);
        for (after_ms, is_believed) in
            [(CONFLICTS_WITHIN_MS - 1, false), (CONFLICTS_WITHIN_MS, true)]
        {
            probes.hold_offer(at(201), CLIENT, (), 200).unwrap_or_default();
            let ruling = probes.record_answer(at(201), Some(HOST), 10 + after_ms);
            assert_eq!(ruling == ProbeVerdict::InUse(()), is_believed, "{after_ms} ms later");
        }
    }

    #[test]
    fn with_too_many_waiting_an_offer_leaves_at_once() {
        let mut probes = ConflictProbes::default();
        let address = |n: usize| Ipv4Addr::from(n as u32);
        for n in 0..PROBES_MAX {
            assert_eq!(probes.hold_offer(address(n), CLIENT, n, 200), Ok(()));
        }
        assert_eq!(
            probes.hold_offer(address(PROBES_MAX), CLIENT, PROBES_MAX, 200),
            Err(PROBES_MAX)
        );
        // One that was answered for waits no more, and its time is still to come.
        let mut probes = ConflictProbes::default();
        for n in 0..2 * PROBES_MAX {
            assert_eq!(probes.hold_offer(address(n), CLIENT, n, 200), Ok(()));
            assert_eq!(probes.record_answer(address(n), Some(CLIENT), 1), ProbeVerdict::Free(n));
        }
        assert_eq!(probes.hold_offer(address(0), CLIENT, 0, 200), Err(0));
    }
}
