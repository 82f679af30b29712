//! The journal thread: one human line per machine and stage, and what is remembered of machines.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use super::events::{Event, Progress, Weight};
use super::journal::{Journal, Keep, Note};
use super::threads::{self, Watched};

/// How long an event may wait to be kept beyond the process; a power cut loses so much of the
/// history, and no lease.
const KEPT_EVERY: Duration = Duration::from_secs(1);
/// Notes in one batch at most: memory, and the time that one commit takes.
const BATCH_NOTES_MAX: usize = 4096;

/// Fills the journal with what was kept.
pub type Load = Box<dyn FnOnce(&Journal) -> Option<Keep> + Send>;

/// Learns from an event.
pub type Learn = Box<dyn FnMut(&Event) + Send>;

/// Where the journal thread writes what it has printed.
#[derive(Default)]
pub struct Memory {
    pub journal: Arc<Journal>,
    /// None: the history ends with the process.
    pub keep: Option<Keep>,
    /// Reads what an earlier process kept, and says who keeps more. Called on the journal thread,
    /// before its first event.
    pub load: Option<Load>,
    /// Who learns from what happens; called on the journal thread, which may wait for a disk.
    pub learn: Option<Learn>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("journal", &self.journal).finish_non_exhaustive()
    }
}

/// Prints and remembers events until every sender is gone. A panic loses the event that it met, and
/// what was not kept yet.
pub fn print_all(events: &Receiver<Event>, mut memory: Memory, progress: &Progress) {
    let thread = threads::watch("rb-journal");
    thread.keep_running(|| {
        if let Some(load) = memory.load.take() {
            let _busy = thread.busy();
            memory.keep = load(&memory.journal);
        }
        print_until_over(events, &mut memory, &thread, progress);
    });
}

fn print_until_over(
    events: &Receiver<Event>,
    memory: &mut Memory,
    thread: &Watched,
    progress: &Progress,
) {
    let Memory { journal, keep, learn, .. } = memory;
    let mut notes: Vec<Note> = Vec::new();
    let mut due: Option<Instant> = None;
    loop {
        let patience =
            due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        let received = events.recv_timeout(patience);
        let _busy = thread.busy();
        let is_over = matches!(received, Err(RecvTimeoutError::Disconnected));
        if let Ok(event) = &received {
            print(event);
            // Counted at the end, and where a panic ends it as well.
            let _noted = Noted(progress);
            journal.add(event, unix_ms(), &mut notes);
            if let Some(learn) = learn {
                learn(event);
            }
        }
        let is_due = due.is_some_and(|due| Instant::now() >= due) || notes.len() >= BATCH_NOTES_MAX;
        if is_due || is_over {
            if let Some(keep) = keep.as_mut().filter(|_| !notes.is_empty()) {
                keep(&notes);
            }
            notes.clear();
        }
        if is_over {
            return;
        }
        due = (!notes.is_empty())
            .then(|| due.filter(|_| !is_due).unwrap_or_else(|| Instant::now() + KEPT_EVERY));
    }
}

struct Noted<'a>(&'a Progress);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.note();
    }
}

fn print(event: &Event) {
    let who = match (event.mac, event.address) {
        (Some(mac), Some(address)) => format!("{mac} {address}"),
        (Some(mac), None) => mac.to_string(),
        (None, Some(address)) => address.to_canonical().to_string(),
        (None, None) => "-".to_owned(),
    };
    let stage = event.stage.word();
    match event.weight {
        Weight::Detail => tracing::debug!("{who} {stage}: {}", event.text),
        Weight::Step => tracing::info!("{who} {stage}: {}", event.text),
        Weight::Warning => tracing::warn!("{who} {stage}: {}", event.text),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
