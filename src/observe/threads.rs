//! The list of threads of the process: whether each lives, since when it is busy with one task, and
//! how often a panic restarted it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The pause before a thread's work restarts after a panic: work that panics at once must not
/// occupy a core.
const RESTARTED_AFTER: Duration = Duration::from_millis(100);

/// A static, since threads belong to the process.
static ALL: Mutex<Vec<Arc<ThreadRecord>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct ThreadRecord {
    name: String,
    /// Milliseconds of [`process_age_ms`]; 0: the thread waits for work.
    busy_since_ms: AtomicU64,
    panics: AtomicU64,
    is_dead: AtomicBool,
}

/// The state of one thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadView {
    /// The name in `ps -L`, such as `rb-journal`.
    pub name: String,
    /// For how long the thread has been busy with one task; None while it waits for work.
    pub busy: Option<Duration>,
    /// How often a panic ended its work, after which it restarted.
    pub panics: u64,
    /// A panic ended the thread itself.
    pub is_dead: bool,
}

/// The record of a thread, owned by the thread. Its drop removes the thread from the list, or marks
/// it dead while a panic unwinds.
#[derive(Debug)]
pub struct WatchedThread(Arc<ThreadRecord>);

/// The record of a thread for a watchdog, which sees what the thread itself cannot report.
#[derive(Clone, Debug)]
pub struct ThreadObserver(Arc<ThreadRecord>);

/// The thread is busy with one task while this lives.
#[derive(Debug)]
pub struct BusyGuard<'a>(&'a ThreadRecord);

/// Adds the calling thread to the list.
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

/// Every watched thread, in the order of their start.
pub fn list_threads() -> Vec<ThreadView> {
    let now = process_age_ms();
    lock_threads().iter().map(|thread| thread.to_view(now)).collect()
}

impl ThreadRecord {
    fn to_view(&self, now_ms: u64) -> ThreadView {
        let since = self.busy_since_ms.load(Ordering::Relaxed);
        ThreadView {
            name: self.name.clone(),
            busy: (since > 0).then(|| Duration::from_millis(now_ms.saturating_sub(since))),
            panics: self.panics.load(Ordering::Relaxed),
            is_dead: self.is_dead.load(Ordering::Relaxed),
        }
    }
}

impl WatchedThread {
    /// Marks the thread busy until the guard is dropped.
    pub fn busy(&self) -> BusyGuard<'_> {
        self.0.busy_since_ms.store(process_age_ms(), Ordering::Relaxed);
        BusyGuard(&self.0)
    }

    /// A handle for the watchdog.
    pub fn observer(&self) -> ThreadObserver {
        ThreadObserver(Arc::clone(&self.0))
    }

    /// Runs the work until it returns; a panic restarts it.
    pub fn keep_running(&self, mut work: impl FnMut()) {
        while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
            self.note_panic();
            std::thread::sleep(RESTARTED_AFTER);
        }
    }

    /// Counts a panic that was caught.
    pub fn note_panic(&self) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
    }
}

impl ThreadObserver {
    /// Reports for how long the thread has been busy with one task. None: it makes progress.
    pub fn set_busy(&self, time: Option<Duration>) {
        let since = time.map_or(0, |time| {
            let busy_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            process_age_ms().saturating_sub(busy_ms).max(1)
        });
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

/// Milliseconds since the first call, and never 0.
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
        watched.observer().set_busy(Some(Duration::from_millis(0)));
        assert!(view(name).unwrap().busy.is_some());
        watched.observer().set_busy(None);
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
