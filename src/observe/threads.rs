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
static ALL: Mutex<Vec<Arc<Thread>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Thread {
    name: String,
    /// Milliseconds of [`now_ms`]; 0: it waits for work.
    busy_since_ms: AtomicU64,
    panics: AtomicU64,
    is_dead: AtomicBool,
}

/// A thread as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
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
pub struct Watched(Arc<Thread>);

/// Another thread's end: it tells what the thread itself cannot.
#[derive(Clone, Debug)]
pub struct Observer(Arc<Thread>);

/// While this lives the thread works at one thing.
#[derive(Debug)]
pub struct Busy<'a>(&'a Thread);

/// Enters a thread into the list.
pub fn watch(name: &str) -> Watched {
    let thread = Arc::new(Thread {
        name: name.to_owned(),
        busy_since_ms: AtomicU64::new(0),
        panics: AtomicU64::new(0),
        is_dead: AtomicBool::new(false),
    });
    list().push(Arc::clone(&thread));
    Watched(thread)
}

/// Every thread that is watched, in the order of their start.
pub fn all() -> Vec<View> {
    let now = now_ms();
    let view = |thread: &Arc<Thread>| {
        let since = thread.busy_since_ms.load(Ordering::Relaxed);
        View {
            name: thread.name.clone(),
            busy: (since > 0).then(|| Duration::from_millis(now.saturating_sub(since))),
            panics: thread.panics.load(Ordering::Relaxed),
            is_dead: thread.is_dead.load(Ordering::Relaxed),
        }
    };
    list().iter().map(view).collect()
}

impl Watched {
    pub fn busy(&self) -> Busy<'_> {
        self.0.busy_since_ms.store(now_ms(), Ordering::Relaxed);
        Busy(&self.0)
    }

    /// For whoever judges the thread from outside.
    pub fn observer(&self) -> Observer {
        Observer(Arc::clone(&self.0))
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

impl Observer {
    /// The thread has been at one thing for so long. None: it goes on.
    pub fn found_busy(&self, time: Option<Duration>) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let since = time.map_or(0, |time| now_ms().saturating_sub(ms(time)).max(1));
        self.0.busy_since_ms.store(since, Ordering::Relaxed);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_dead.store(true, Ordering::Relaxed);
        } else {
            list().retain(|thread| !Arc::ptr_eq(thread, &self.0));
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy_since_ms.store(0, Ordering::Relaxed);
    }
}

fn list() -> MutexGuard<'static, Vec<Arc<Thread>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Since the first call, and never 0.
fn now_ms() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGUN.get_or_init(Instant::now).elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn view(name: &str) -> Option<View> {
        all().into_iter().find(|view| view.name == name)
    }

    #[test]
    fn a_thread_is_listed_while_it_lives_and_as_dead_when_a_panic_has_ended_it() {
        let (watched, name) = (watch("test-listed"), "test-listed");
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
            let _watched = watch("test-dead");
            panic!("of this test");
        });
        assert!(thread.join().is_err() && view("test-dead").unwrap().is_dead);
    }

    #[test]
    fn work_that_panics_is_begun_again_and_counted() {
        let (watched, mut times) = (watch("test-again"), 0);
        watched.keep_running(|| {
            times += 1;
            assert!(times == 3, "of this test");
        });
        assert_eq!((times, view("test-again").unwrap().panics), (3, 2));
    }
}
