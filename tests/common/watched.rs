//! A value that one thread fills and another waits on: how a test waits for evidence without ever
//! sleeping.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Text or packets that a reader thread collects until the source ends.
pub struct Watched<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    value: T,
    /// The source has ended: the value will not change again.
    ended: bool,
}

/// Why a wait found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The time limit passed.
    TimeOver,
    /// The source ended first: the process has gone.
    Ended,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for Watched<T> {
    fn default() -> Self {
        let state = Mutex::new(State { value: T::default(), ended: false });
        Self(Arc::new(Shared { state, changed: Condvar::new() }))
    }
}

impl<T> Watched<T> {
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.lock().value);
        self.0.changed.notify_all();
    }

    pub fn end(&self) {
        self.lock().ended = true;
        self.0.changed.notify_all();
    }

    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock().value)
    }

    /// The first thing that `find` sees, now or within `limit`.
    pub fn wait_for<R>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&T) -> Option<R>,
    ) -> Result<R, Missing> {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(found) = find(&state.value) {
                return Ok(found);
            }
            if state.ended {
                return Err(Missing::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Missing::TimeOver);
            }
            state =
                self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// True where the source ended within `limit`.
    pub fn wait_end(&self, limit: Duration) -> bool {
        self.wait_for(limit, |_| None::<()>) == Err(Missing::Ended)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a process or a serial line has written so far.
pub type Transcript = Watched<String>;

impl Transcript {
    /// Collects what `source` says, in a thread that ends with it; bytes that are no UTF-8 become
    /// U+FFFD.
    pub fn of(mut source: impl Read + Send + 'static) -> Self {
        let transcript = Self::default();
        let ours = transcript.clone();
        std::thread::spawn(move || {
            let mut chunk = [0u8; 4096];
            while let Ok(length @ 1..) = source.read(&mut chunk) {
                ours.update(|text| text.push_str(&String::from_utf8_lossy(&chunk[..length])));
            }
            ours.end();
        });
        transcript
    }

    pub fn text(&self) -> String {
        self.read(String::clone)
    }

    /// The first whole line that contains `pattern`; fails the test with the transcript's end where
    /// none comes.
    pub fn wait_line(&self, pattern: &str, limit: Duration) -> String {
        let line = |text: &String| {
            let whole = &text[..=text.rfind('\n')?];
            whole.lines().find(|line| line.contains(pattern)).map(str::to_owned)
        };
        self.wait_for(limit, line).unwrap_or_else(|missing| {
            panic!(
                "{missing:?}: waited {limit:?} for {pattern:?}; the last of what was written:\n{}",
                self.tail(40)
            )
        })
    }

    /// The last `lines` lines.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
