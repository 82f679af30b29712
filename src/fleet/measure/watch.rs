//! Watches a running fleet from inside, a few times a second: throughput over time, and the load of
//! its thread.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::line::AskedProtocol;
use super::progress::FleetProgress;
use super::series::CountSeries;
use super::silence::{LongestSilence, SilenceListener};
use crate::limits::LISTEN_PAUSE;

/// Measures from the start of a run to its end, on the fleet's own thread.
#[derive(Debug)]
pub(crate) struct FleetWatch {
    sight: Rc<WatchRecord>,
    looking: [JoinHandle<()>; 2],
}

/// The measurements of a whole run.
#[derive(Debug)]
pub(crate) struct WatchedRun {
    /// Counts over time.
    pub(crate) series: CountSeries,
    /// The time of the fleet's own thread.
    pub(crate) spent: ThreadTime,
    /// The longest silence of each protocol, in the order of [`AskedProtocol::ALL`].
    pub(super) silences: [LongestSilence; AskedProtocol::ALL.len()],
    /// The greatest delay of a check: the program was stopped, or its thread was busy.
    pub(super) away_max: Duration,
}

#[derive(Debug)]
struct WatchRecord {
    started: Instant,
    before: ThreadTime,
    progress: Arc<FleetProgress>,
    series: RefCell<CountSeries>,
    listeners: RefCell<[SilenceListener; AskedProtocol::ALL.len()]>,
    away_max: Cell<Duration>,
}

impl FleetWatch {
    pub(crate) fn begin(started: Instant, progress: &Arc<FleetProgress>) -> Self {
        let sight = Rc::new(WatchRecord {
            started,
            before: ThreadTime::now(),
            progress: Arc::clone(progress),
            series: RefCell::default(),
            listeners: RefCell::default(),
            away_max: Cell::default(),
        });
        let looking = [
            spawn_local(Rc::clone(&sight).watch_series()),
            spawn_local(Rc::clone(&sight).listen()),
        ];
        Self { looking, sight }
    }

    pub(crate) fn end(self) -> WatchedRun {
        self.looking.iter().for_each(JoinHandle::abort);
        self.sight.add_bucket();
        WatchedRun {
            series: self.sight.series.take(),
            spent: self.sight.measure_spent(),
            silences: self.sight.listeners.borrow().each_ref().map(SilenceListener::longest),
            away_max: self.sight.away_max.get(),
        }
    }
}

impl WatchRecord {
    async fn watch_series(self: Rc<Self>) {
        let mut width = self.series.borrow().width();
        let mut ticks = interval(width);
        // The first tick is at once and counts nothing.
        ticks.tick().await;
        loop {
            // A late check makes its bucket longer, not the next one shorter.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            self.add_bucket();
            let now = self.series.borrow().width();
            if now != width {
                width = now;
                ticks = interval(width);
                ticks.tick().await;
            }
        }
    }

    /// Watches all protocols; never ends.
    async fn listen(self: Rc<Self>) {
        let mut before = Instant::now();
        loop {
            sleep(LISTEN_PAUSE).await;
            let now = Instant::now();
            let away = (now - before).saturating_sub(2 * LISTEN_PAUSE);
            before = now;
            self.away_max.set(self.away_max.get().max(away));
            for (listener, protocol) in
                self.listeners.borrow_mut().iter_mut().zip(AskedProtocol::ALL)
            {
                listener.check_line(now - self.started, away, self.progress.line(protocol));
            }
        }
    }

    fn add_bucket(&self) {
        self.series.borrow_mut().add(
            self.started.elapsed(),
            &self.progress,
            self.measure_spent().busy,
        );
    }

    fn measure_spent(&self) -> ThreadTime {
        let now = ThreadTime::now();
        ThreadTime {
            busy: now.busy.saturating_sub(self.before.busy),
            waiting: now.waiting.saturating_sub(self.before.waiting),
        }
    }
}

/// The time in which a thread did not sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadTime {
    /// On a processor.
    pub(crate) busy: Duration,
    /// Ready, while another program had the processor.
    pub(crate) waiting: Duration,
}

impl ThreadTime {
    /// The first two fields of this thread's schedstat, nanoseconds. Zero if the kernel does not
    /// have it.
    fn now() -> Self {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut fields =
            text.split_whitespace().map(|field| Duration::from_nanos(field.parse().unwrap_or(0)));
        Self { busy: fields.next().unwrap_or_default(), waiting: fields.next().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::task::{LocalSet, yield_now};

    use super::*;

    #[test]
    fn a_watch_sees_octets_over_time_and_the_work_of_its_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let progress = Arc::new(FleetProgress::default());
        let WatchedRun { series, spent, .. } = LocalSet::new().block_on(&runtime, async {
            let started = Instant::now();
            let watch = FleetWatch::begin(started, &progress);
            progress.add_bytes(5);
            // Work until the first check.
            while watch.sight.series.borrow().buckets().is_empty() {
                yield_now().await;
            }
            progress.add_bytes(6);
            watch.end()
        });
        assert!(spent.busy > Duration::ZERO, "{spent:?}");
        let octets: Vec<u64> = series.buckets().iter().map(|bucket| bucket.octets).collect();
        assert_eq!(octets.iter().sum::<u64>(), 11, "{octets:?}");
        assert!(octets.len() >= 2, "{octets:?}");
    }
}
