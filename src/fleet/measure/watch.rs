//! Looks at a running fleet from inside, a few times a second: throughput over time, and how busy
//! its thread is.

use std::cell::{Cell, RefCell};
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::line::Protocol;
use super::progress::Progress;
use super::series::Series;
use super::silence::{Listener, Silence};
use crate::limits::LISTEN_PAUSE;

/// From the start of a run to its end, on the fleet's own thread.
#[derive(Debug)]
pub(crate) struct Watch {
    sight: Rc<Sight>,
    looking: [JoinHandle<()>; 2],
}

/// What was seen from the start of a run to its end.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Counts over time.
    pub(crate) series: Series,
    /// What became of the fleet's own thread's time.
    pub(crate) spent: ThreadTime,
    /// The longest silence of each protocol, in the order of [`Protocol::ALL`].
    pub(super) silences: [Silence; Protocol::ALL.len()],
    /// How late the fleet came to look at most: its program was stopped, or its thread kept busy.
    pub(super) away_max: Duration,
}

#[derive(Debug)]
struct Sight {
    started: Instant,
    before: ThreadTime,
    progress: Arc<Progress>,
    series: RefCell<Series>,
    listeners: RefCell<[Listener; Protocol::ALL.len()]>,
    away_max: Cell<Duration>,
}

impl Watch {
    pub(crate) fn begin(started: Instant, progress: &Arc<Progress>) -> Self {
        let sight = Rc::new(Sight {
            started,
            before: ThreadTime::now(),
            progress: Arc::clone(progress),
            series: RefCell::default(),
            listeners: RefCell::default(),
            away_max: Cell::default(),
        });
        let looking =
            [spawn_local(Rc::clone(&sight).look_on()), spawn_local(Rc::clone(&sight).listen())];
        Self { looking, sight }
    }

    pub(crate) fn end(self) -> Seen {
        self.looking.iter().for_each(JoinHandle::abort);
        self.sight.look();
        Seen {
            series: self.sight.series.take(),
            spent: self.sight.spent(),
            silences: self.sight.listeners.borrow().each_ref().map(Listener::longest),
            away_max: self.sight.away_max.get(),
        }
    }
}

impl Sight {
    async fn look_on(self: Rc<Self>) {
        let mut width = self.series.borrow().width();
        let mut ticks = interval(width);
        // The first tick comes at once: nothing has happened yet.
        ticks.tick().await;
        loop {
            // A look that came late makes its bucket longer, not the next one shorter.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            self.look();
            let now = self.series.borrow().width();
            if now != width {
                width = now;
                ticks = interval(width);
                ticks.tick().await;
            }
        }
    }

    /// Listens to all protocols; never ends.
    async fn listen(self: Rc<Self>) {
        let mut before = Instant::now();
        loop {
            sleep(LISTEN_PAUSE).await;
            let now = Instant::now();
            let away = (now - before).saturating_sub(2 * LISTEN_PAUSE);
            before = now;
            self.away_max.set(self.away_max.get().max(away));
            for (listener, protocol) in self.listeners.borrow_mut().iter_mut().zip(Protocol::ALL) {
                listener.look(now - self.started, away, self.progress.line(protocol));
            }
        }
    }

    fn look(&self) {
        self.series.borrow_mut().add(self.started.elapsed(), &self.progress, self.spent().busy);
    }

    fn spent(&self) -> ThreadTime {
        let now = ThreadTime::now();
        ThreadTime {
            busy: now.busy.saturating_sub(self.before.busy),
            waiting: now.waiting.saturating_sub(self.before.waiting),
        }
    }
}

/// What a thread did that was not sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadTime {
    /// On a processor.
    pub(crate) busy: Duration,
    /// Ready, while somebody else had the processor.
    pub(crate) waiting: Duration,
}

impl ThreadTime {
    /// The first two fields of this thread's schedstat, nanoseconds. Zero where the kernel does not
    /// tell.
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
        let progress = Arc::new(Progress::default());
        let Seen { series, spent, .. } = LocalSet::new().block_on(&runtime, async {
            let started = Instant::now();
            let watch = Watch::begin(started, &progress);
            progress.add_octets(5);
            // Work until the first look has been taken.
            while watch.sight.series.borrow().buckets().is_empty() {
                yield_now().await;
            }
            progress.add_octets(6);
            watch.end()
        });
        assert!(spent.busy > Duration::ZERO, "{spent:?}");
        let octets: Vec<u64> = series.buckets().iter().map(|bucket| bucket.octets).collect();
        assert_eq!(octets.iter().sum::<u64>(), 11, "{octets:?}");
        assert!(octets.len() >= 2, "{octets:?}");
    }
}
