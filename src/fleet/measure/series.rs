//! The course of a run: bytes, boots and failures in a bounded number of buckets, whatever the
//! length of the run.

use std::time::Duration;

use super::progress::FleetProgress;
use crate::limits::{SERIES_BUCKETS_MAX, SERIES_WIDTH};

/// Counts over time. When all buckets are in use, neighbours are joined: half as many, each twice
/// as wide.
#[derive(Clone, Debug)]
pub struct CountSeries {
    buckets: Vec<SeriesBucket>,
    width: Duration,
    /// The sums of all buckets.
    seen: SeriesBucket,
}

/// The counts since the end of the previous bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesBucket {
    /// Its end, since the run began.
    pub end: Duration,
    /// Bytes of files received.
    pub octets: u64,
    /// Machines that finished all their steps.
    pub booted: u32,
    /// Machines that gave up.
    pub failed: u32,
    /// Processor time of the fleet's own thread.
    pub busy: Duration,
}

impl Default for CountSeries {
    fn default() -> Self {
        Self { buckets: Vec::new(), width: SERIES_WIDTH, seen: SeriesBucket::default() }
    }
}

impl CountSeries {
    /// The buckets in the order of time.
    pub fn buckets(&self) -> &[SeriesBucket] {
        &self.buckets
    }

    /// The present width of a bucket; the last one may be shorter, and on a busy machine each is a
    /// little longer.
    pub fn width(&self) -> Duration {
        self.width
    }

    /// Adds the counts up to `end`; `busy` is the thread's processor time since the run began.
    pub(crate) fn add(&mut self, end: Duration, progress: &FleetProgress, busy: Duration) {
        let now = SeriesBucket {
            end,
            octets: progress.octets(),
            booted: progress.booted(),
            failed: progress.failed(),
            busy,
        };
        self.buckets.push(SeriesBucket {
            end,
            octets: now.octets.saturating_sub(self.seen.octets),
            booted: now.booted.saturating_sub(self.seen.booted),
            failed: now.failed.saturating_sub(self.seen.failed),
            busy: busy.saturating_sub(self.seen.busy),
        });
        self.seen = now;
        if self.buckets.len() >= SERIES_BUCKETS_MAX {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.buckets = self
            .buckets
            .chunks(2)
            .filter_map(|pair| pair.iter().copied().reduce(SeriesBucket::merge_later))
            .collect();
        self.width *= 2;
    }
}

impl SeriesBucket {
    fn merge_later(self, later: Self) -> Self {
        Self {
            end: later.end,
            octets: self.octets + later.octets,
            booted: self.booted + later.booted,
            failed: self.failed + later.failed,
            busy: self.busy + later.busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_wider_buckets_and_loses_nothing() {
        let progress = FleetProgress::default();
        let mut series = CountSeries::default();
        let ticks = 10 * u32::try_from(SERIES_BUCKETS_MAX).unwrap_or(0) + 1;
        for tick in 1..=ticks {
            progress.add_bytes(7);
            progress.add_machine(tick % 10 != 0);
            series.add(SERIES_WIDTH * tick, &progress, SERIES_WIDTH * tick / 2);
        }
        assert!(series.buckets().len() < SERIES_BUCKETS_MAX);
        assert!(series.width() >= SERIES_WIDTH * 8, "{:?}", series.width());
        let sums =
            series.buckets().iter().copied().reduce(SeriesBucket::merge_later).unwrap_or_default();
        assert_eq!(
            (sums.octets, sums.booted, sums.failed),
            (7 * u64::from(ticks), ticks - ticks / 10, ticks / 10)
        );
        assert_eq!((sums.end, sums.busy), (SERIES_WIDTH * ticks, SERIES_WIDTH * ticks / 2));
        assert!(series.buckets().is_sorted_by_key(|bucket| bucket.end));
    }
}
