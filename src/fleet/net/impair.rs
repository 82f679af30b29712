//! A bad network, simulated on the client's side: datagrams that are lost, duplicated, reordered or
//! delayed, the same for the same seed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::limits::REORDER_HOLD;
use ringboot_protocol::model::random::SeededRandom;
use ringboot_protocol::tftp::Tick;

/// The impairments of datagrams, each way. Shares are of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NetworkImpairment {
    /// Datagrams that get lost.
    pub loss: f64,
    /// Datagrams that arrive twice.
    pub duplicate: f64,
    /// Delayed by [`crate::limits::REORDER_HOLD`], so that later ones overtake it.
    pub reorder: f64,
    /// The delay of every datagram; a round trip takes twice as much.
    pub delay: Duration,
}

impl NetworkImpairment {
    /// A network without impairments.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Datagrams on such a network. [`Self::pop_due`] returns each sent one, at once or later.
#[derive(Debug)]
pub(super) struct ImpairedQueue<T> {
    impairment: NetworkImpairment,
    random: SeededRandom,
    late: BinaryHeap<Reverse<LateDatagram<T>>>,
    sent: u64,
}

/// Ordered by the time when it is due; at the same moment, in the order of sending.
#[derive(Debug)]
struct LateDatagram<T> {
    due: Tick,
    number: u64,
    datagram: T,
}

impl<T: Clone> ImpairedQueue<T> {
    pub(crate) fn new(impairment: NetworkImpairment, seed: u64) -> Self {
        Self { impairment, random: SeededRandom::new(seed), late: BinaryHeap::new(), sent: 0 }
    }

    pub(crate) fn send(&mut self, now: Tick, datagram: T) {
        let NetworkImpairment { loss, duplicate, reorder, delay } = self.impairment;
        // Draw three numbers for each datagram in any case: then a change of one share leaves the
        // choices of the others the same.
        let [lost, doubled, overtaken] =
            [loss, duplicate, reorder].map(|share| self.draw_event(share));
        if lost {
            return;
        }
        let hold = if overtaken { REORDER_HOLD } else { Duration::ZERO };
        let due = now.saturating_add(count_nanoseconds(delay + hold));
        if doubled {
            self.push_delayed(due, datagram.clone());
        }
        self.push_delayed(due, datagram);
    }

    /// The next datagram that has arrived by now.
    pub(crate) fn pop_due(&mut self, now: Tick) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.late.pop().map(|Reverse(late)| late.datagram)
    }

    /// When the next datagram is due.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.late.peek().map(|Reverse(late)| late.due)
    }

    fn draw_event(&mut self, share: f64) -> bool {
        /// A double holds these numbers exactly.
        const EXACT: u64 = 1 << 53;
        // A double holds numbers below 2^53 exactly.
        (self.random.below(EXACT) as f64) < share * EXACT as f64
    }

    fn push_delayed(&mut self, due: Tick, datagram: T) {
        self.sent += 1;
        self.late.push(Reverse(LateDatagram { due, number: self.sent, datagram }));
    }
}

fn count_nanoseconds(time: Duration) -> Tick {
    Tick::try_from(time.as_nanos()).unwrap_or(Tick::MAX)
}

impl<T> Ord for LateDatagram<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<T> PartialOrd for LateDatagram<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for LateDatagram<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for LateDatagram<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u32 = 10_000;

    /// The arrivals of `MANY` datagrams, sent one a microsecond.
    fn arrivals(impairment: NetworkImpairment, seed: u64) -> Vec<(Tick, u32)> {
        let mut network = ImpairedQueue::new(impairment, seed);
        let mut arrived = Vec::new();
        for number in 0..MANY {
            let now = u64::from(number) * 1000;
            network.send(now, number);
            while let Some(datagram) = network.pop_due(now) {
                arrived.push((now, datagram));
            }
        }
        while let Some(now) = network.next() {
            arrived.extend(network.pop_due(now).map(|datagram| (now, datagram)));
        }
        arrived
    }

    #[test]
    fn a_network_without_troubles_brings_all_at_once_and_in_order() {
        let expected: Vec<_> = (0..MANY).map(|number| (u64::from(number) * 1000, number)).collect();
        assert_eq!(arrivals(NetworkImpairment::default(), 1), expected);
    }

    #[test]
    fn losses_and_doubles_are_as_many_as_asked_and_the_same_for_one_seed() {
        let lossy = NetworkImpairment { loss: 0.1, ..NetworkImpairment::default() };
        let arrived = arrivals(lossy, 1);
        assert!((8_800..9_200).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!(arrived, arrivals(lossy, 1));
        assert_ne!(arrived, arrivals(lossy, 2));
        let doubling =
            arrivals(NetworkImpairment { duplicate: 0.1, ..NetworkImpairment::default() }, 1);
        assert!((10_800..11_200).contains(&doubling.len()), "{}", doubling.len());
        assert!(
            arrivals(NetworkImpairment { loss: 1.0, ..NetworkImpairment::default() }, 1).is_empty()
        );
    }

    #[test]
    fn what_is_held_back_is_overtaken_and_what_is_delayed_keeps_its_order() {
        let numbers = |impairment| {
            arrivals(impairment, 1).into_iter().map(|(_, number)| number).collect::<Vec<_>>()
        };
        let reordered =
            numbers(NetworkImpairment { reorder: 0.01, ..NetworkImpairment::default() });
        assert!(!reordered.is_sorted());
        assert_eq!(reordered.len(), MANY as usize);
        let delay = Duration::from_millis(5);
        assert!(numbers(NetworkImpairment { delay, ..NetworkImpairment::default() }).is_sorted());
        assert_eq!(
            arrivals(NetworkImpairment { delay, ..NetworkImpairment::default() }, 1)[0],
            (5_000_000, 0)
        );
    }
}
