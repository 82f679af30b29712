//! When connections are worth a look (H-33): a heap that is put right when it rings, not each time that something moves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// One entry that counts for each place of a connection. A connection whose time comes later than the entry of its place says is
/// looked at in vain once, and then set anew; so one that is closed takes nothing out, and its place inherits the entry.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
    /// The entry that counts, by place.
    set: Vec<Option<Instant>>,
}

impl Alarms {
    /// The connection of this place is to be looked at then at the latest.
    pub(super) fn set(&mut self, at: Instant, place: usize) {
        if place >= self.set.len() {
            self.set.resize(place + 1, None);
        }
        let before = &mut self.set[place];
        if before.is_none_or(|before| at < before) {
            *before = Some(at);
            self.heap.push(Reverse((at, place)));
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A place whose time has come.
    pub(super) fn ring(&mut self, now: Instant) -> Option<usize> {
        loop {
            self.heap.peek().filter(|Reverse((at, _))| *at <= now)?;
            let Reverse((at, place)) = self.heap.pop()?;
            let counts = self.set.get_mut(place)?;
            if *counts == Some(at) {
                *counts = None;
                return Some(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn h33_each_place_rings_at_its_earliest_time_and_has_one_entry_for_all_its_connections() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut alarms = Alarms::default();
        for second in 15..100 {
            alarms.set(at(second), 3);
        }
        assert_eq!(alarms.heap.len(), 1);
        alarms.set(at(10), 3);
        alarms.set(at(12), 0);
        assert_eq!((alarms.next(), alarms.ring(at(9))), (Some(at(10)), None));
        assert_eq!([alarms.ring(at(20)), alarms.ring(at(20)), alarms.ring(at(20))], [Some(3), Some(0), None]);
        alarms.set(at(25), 3);
        assert_eq!(alarms.ring(at(25)), Some(3));
    }
}
