//! A bad network, made up on the client's side: datagrams that are lost, doubled, overtaken or
//! late, the same for one seed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::limits::REORDER_HOLD;
use ringboot_protocol::model::random::Random;
use ringboot_protocol::tftp::Tick;

/// What happens to datagrams, each way. Shares are of 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    pub loss: f64,
    pub duplicate: f64,
    /// Held back for [`crate::limits::REORDER_HOLD`], so that what follows overtakes it.
    pub reorder: f64,
    /// Every datagram is so late: a round trip takes twice as much longer.
    pub delay: Duration,
}

impl Impairment {
    /// A network without troubles.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Datagrams on such a network. Everything sent is taken out again with [`Self::due`], at once or
/// later.
#[derive(Debug)]
pub(super) struct Impaired<T> {
    impairment: Impairment,
    random: Random,
    late: BinaryHeap<Reverse<Late<T>>>,
    sent: u64,
}

/// Ordered by when it is due; of one moment, what was sent first.
#[derive(Debug)]
struct Late<T> {
    due: Tick,
    number: u64,
    datagram: T,
}

impl<T: Clone> Impaired<T> {
    pub(crate) fn new(impairment: Impairment, seed: u64) -> Self {
        Self { impairment, random: Random::new(seed), late: BinaryHeap::new(), sent: 0 }
    }

    pub(crate) fn send(&mut self, now: Tick, datagram: T) {
        let Impairment { loss, duplicate, reorder, delay } = self.impairment;
        // Three dice for each datagram, whatever they show: one share changed leaves the others'
        // choices as they were.
        let [lost, doubled, overtaken] =
            [loss, duplicate, reorder].map(|share| self.happens(share));
        if lost {
            return;
        }
        let hold = if overtaken { REORDER_HOLD } else { Duration::ZERO };
        let due = now.saturating_add(nanoseconds(delay + hold));
        if doubled {
            self.hold(due, datagram.clone());
        }
        self.hold(due, datagram);
    }

    /// The next datagram that has arrived by now.
    pub(crate) fn due(&mut self, now: Tick) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.late.pop().map(|Reverse(late)| late.datagram)
    }

    /// When the next datagram is due.
    pub(crate) fn next(&self) -> Option<Tick> {
        self.late.peek().map(|Reverse(late)| late.due)
    }

    fn happens(&mut self, share: f64) -> bool {
        /// Numbers that a double holds exactly.
        const EXACT: u64 = 1 << 53;
        // Below 2^53 nothing is lost on the way to a double.
        (self.random.below(EXACT) as f64) < share * EXACT as f64
    }

    fn hold(&mut self, due: Tick, datagram: T) {
        self.sent += 1;
        self.late.push(Reverse(Late { due, number: self.sent, datagram }));
    }
}

fn nanoseconds(time: Duration) -> Tick {
    Tick::try_from(time.as_nanos()).unwrap_or(Tick::MAX)
}

impl<T> Ord for Late<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<T> PartialOrd for Late<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Late<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Late<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: u32 = 10_000;

    /// What arrives of `MANY` datagrams, sent one a microsecond, and when.
    fn arrivals(impairment: Impairment, seed: u64) -> Vec<(Tick, u32)> {
        let mut network = Impaired::new(impairment, seed);
        let mut arrived = Vec::new();
        for number in 0..MANY {
            let now = u64::from(number) * 1000;
            network.send(now, number);
            while let Some(datagram) = network.due(now) {
                arrived.push((now, datagram));
            }
        }
        while let Some(now) = network.next() {
            arrived.extend(network.due(now).map(|datagram| (now, datagram)));
        }
        arrived
    }

    #[test]
    fn a_network_without_troubles_brings_all_at_once_and_in_order() {
        let expected: Vec<_> = (0..MANY).map(|number| (u64::from(number) * 1000, number)).collect();
        assert_eq!(arrivals(Impairment::default(), 1), expected);
    }

    #[test]
    fn losses_and_doubles_are_as_many_as_asked_and_the_same_for_one_seed() {
        let lossy = Impairment { loss: 0.1, ..Impairment::default() };
        let arrived = arrivals(lossy, 1);
        assert!((8_800..9_200).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!(arrived, arrivals(lossy, 1));
        assert_ne!(arrived, arrivals(lossy, 2));
        let doubling = arrivals(Impairment { duplicate: 0.1, ..Impairment::default() }, 1);
        assert!((10_800..11_200).contains(&doubling.len()), "{}", doubling.len());
        assert!(arrivals(Impairment { loss: 1.0, ..Impairment::default() }, 1).is_empty());
    }

    #[test]
    fn what_is_held_back_is_overtaken_and_what_is_delayed_keeps_its_order() {
        let numbers = |impairment| {
            arrivals(impairment, 1).into_iter().map(|(_, number)| number).collect::<Vec<_>>()
        };
        let reordered = numbers(Impairment { reorder: 0.01, ..Impairment::default() });
        assert!(!reordered.is_sorted());
        assert_eq!(reordered.len(), MANY as usize);
        let delay = Duration::from_millis(5);
        assert!(numbers(Impairment { delay, ..Impairment::default() }).is_sorted());
        assert_eq!(arrivals(Impairment { delay, ..Impairment::default() }, 1)[0], (5_000_000, 0));
    }
}
