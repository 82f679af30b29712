//! Every thread of the process by name: whether it lives, since when it works at one thing, how
//! often it was begun again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Before a thread's work is begun again after a panic: one that panics at once must not take a
/// processor.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Threads are the process's, and so is the list of them.
static ALL: Mutex<Vec<Arc<ThreadRecord>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct ThreadRecord {
    name: String,
    /// Milliseconds of [`now_ms`]; 0: it waits for work.
    busy_since_ms: AtomicU64,
    panics: AtomicU64,
    is_dead: AtomicBool,
}

/// A thread as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadView {
    pub name: String,
    /// For how long it has worked at one thing.
    pub busy: Option<Duration>,
    /// How often its work ended by a panic and was begun again.
    pub panics: u64,
    /// It ended by a panic.
    pub is_dead: bool,
}

/// A thread's own end. Dropped at its end: it leaves the list, or stays there as dead where a panic
/// has ended it.
#[derive(Debug)]
pub struct WatchedThread(Arc<ThreadRecord>);

/// Another thread's end: it tells what the thread itself cannot.
#[derive(Clone, Debug)]
pub struct ThreadObserver(Arc<ThreadRecord>);

/// While this lives the thread works at one thing.
#[derive(Debug)]
pub struct BusyGuard<'a>(&'a ThreadRecord);

/// Enters a thread into the list.
pub fn watch_thread(name: &str) -> WatchedThread {
    let thread = Arc::new(ThreadRecord {
        name: name.to_owned(),
        busy_since_ms: AtomicU64::new(0),
        panics: AtomicU64::new(0),
        is_dead: AtomicBool::new(false),
    });
    lock_threads().push(Arc::clone(&thread));
    WatchedThread(thread)
}

/// Every thread that is watched, in the order of their start.
pub fn list_threads() -> Vec<ThreadView> {
    let now = process_age_ms();
    let view = |thread: &Arc<ThreadRecord>| {
        let since = thread.busy_since_ms.load(Ordering::Relaxed);
        ThreadView {
            name: thread.name.clone(),
            busy: (since > 0).then(|| Duration::from_millis(now.saturating_sub(since))),
            panics: thread.panics.load(Ordering::Relaxed),
            is_dead: thread.is_dead.load(Ordering::Relaxed),
        }
    };
    lock_threads().iter().map(view).collect()
}

impl WatchedThread {
    pub fn busy(&self) -> BusyGuard<'_> {
        self.0.busy_since_ms.store(process_age_ms(), Ordering::Relaxed);
        BusyGuard(&self.0)
    }

    /// For whoever judges the thread from outside.
    pub fn observer(&self) -> ThreadObserver {
        ThreadObserver(Arc::clone(&self.0))
    }

    /// Runs a thread's work to its end, again and again where a panic ends it.
    pub fn keep_running(&self, mut work: impl FnMut()) {
        while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
            self.note_panic();
            std::thread::sleep(AGAIN_AFTER);
        }
    }

    /// Counts a panic that was caught.
    pub fn note_panic(&self) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
    }
}

impl ThreadObserver {
    /// The thread has been at one thing for so long. None: it goes on.
    pub fn found_busy(&self, time: Option<Duration>) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let since = time.map_or(0, |time| process_age_ms().saturating_sub(ms(time)).max(1));
        self.0.busy_since_ms.store(since, Ordering::Relaxed);
    }
}

impl Drop for WatchedThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_dead.store(true, Ordering::Relaxed);
        } else {
            lock_threads().retain(|thread| !Arc::ptr_eq(thread, &self.0));
        }
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.busy_since_ms.store(0, Ordering::Relaxed);
    }
}

fn lock_threads() -> MutexGuard<'static, Vec<Arc<ThreadRecord>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Since the first call, and never 0.
fn process_age_ms() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGUN.get_or_init(Instant::now).elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn view(name: &str) -> Option<ThreadView> {
        list_threads().into_iter().find(|view| view.name == name)
    }

    #[test]
    fn a_thread_is_listed_while_it_lives_and_as_dead_when_a_panic_has_ended_it() {
        let (watched, name) = (watch_thread("test-listed"), "test-listed");
        assert_eq!(view(name).unwrap().busy, None);
        let busy = watched.busy();
        assert!(view(name).unwrap().busy.is_some());
        drop(busy);
        watched.observer().found_busy(Some(Duration::from_millis(0)));
        assert!(view(name).unwrap().busy.is_some());
        watched.observer().found_busy(None);
        assert_eq!(view(name).unwrap().busy, None);
        drop(watched);
        assert_eq!(view(name), None);
        let thread = std::thread::spawn(|| {
            let _watched = watch_thread("test-dead");
            panic!("of this test");
        });
        assert!(thread.join().is_err() && view("test-dead").unwrap().is_dead);
    }

    #[test]
    fn work_that_panics_is_begun_again_and_counted() {
        let (watched, mut times) = (watch_thread("test-again"), 0);
        watched.keep_running(|| {
            times += 1;
            assert!(times == 3, "of this test");
        });
        assert_eq!((times, view("test-again").unwrap().panics), (3, 2));
    }
}
