//! When a connection must be looked at (H-33): one alarm for each slot, which is corrected when it
//! rings and not each time that the connection makes progress.

use std::collections::BTreeSet;
use std::time::Instant;

/// One alarm for each slot of the connection table. If the connection's time is later than the
/// alarm, the core looks once in vain and sets the alarm again. So closing a connection removes
/// nothing here: the next connection in its slot inherits the alarm.
#[derive(Debug, Default)]
pub(super) struct ConnectionAlarms {
    by_time: BTreeSet<(Instant, usize)>,
    by_place: Vec<Option<Instant>>,
}

impl ConnectionAlarms {
    /// Sets the latest time at which the core looks at the connection in this slot.
    pub(super) fn set(&mut self, at: Instant, place: usize) {
        if place >= self.by_place.len() {
            self.by_place.resize(place + 1, None);
        }
        let before = &mut self.by_place[place];
        if before.is_none_or(|before| at < before) {
            if let Some(before) = before.replace(at) {
                self.by_time.remove(&(before, place));
            }
            self.by_time.insert((at, place));
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes a slot whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        self.by_time.first().filter(|(at, _)| *at <= now)?;
        let (_, place) = self.by_time.pop_first()?;
        self.by_place[place] = None;
        Some(place)
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
        let mut alarms = ConnectionAlarms::default();
        for second in 15..100 {
            alarms.set(at(second), 3);
        }
        for second in (10..15).rev() {
            alarms.set(at(second), 3);
        }
        assert_eq!(alarms.by_time.len(), 1);
        alarms.set(at(12), 0);
        assert_eq!((alarms.next_due(), alarms.pop_due(at(9))), (Some(at(10)), None));
        assert_eq!(
            [alarms.pop_due(at(20)), alarms.pop_due(at(20)), alarms.pop_due(at(20))],
            [Some(3), Some(0), None]
        );
        alarms.set(at(25), 3);
        assert_eq!(alarms.pop_due(at(25)), Some(3));
    }
}
