//! The journal thread: one human line per machine and stage, and what is remembered of machines.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use super::events::{EventWeight, JournalProgress, MachineEvent};
use super::journal::{JournalChange, JournalKeeper, MachineJournal};
use super::threads::{self, WatchedThread};

/// How long an event may wait to be kept beyond the process; a power cut loses so much of the
/// history, and no lease.
const KEPT_EVERY: Duration = Duration::from_secs(1);
/// Notes in one batch at most: memory, and the time that one commit takes.
const BATCH_NOTES_MAX: usize = 4096;

/// Fills the journal with what was kept.
pub type JournalLoader = Box<dyn FnOnce(&MachineJournal) -> Option<JournalKeeper> + Send>;

/// Learns from an event.
pub type EventLearner = Box<dyn FnMut(&MachineEvent) + Send>;

/// Where the journal thread writes what it has printed.
#[derive(Default)]
pub struct JournalMemory {
    pub journal: Arc<MachineJournal>,
    /// None: the history ends with the process.
    pub keep: Option<JournalKeeper>,
    /// Reads what an earlier process kept, and says who keeps more. Called on the journal thread,
    /// before its first event.
    pub load: Option<JournalLoader>,
    /// Who learns from what happens; called on the journal thread, which may wait for a disk.
    pub learn: Option<EventLearner>,
}

impl fmt::Debug for JournalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalMemory").field("journal", &self.journal).finish_non_exhaustive()
    }
}

/// Prints and remembers events until every sender is gone. A panic loses the event that it met, and
/// what was not kept yet.
pub fn run_journal_thread(
    events: &Receiver<MachineEvent>,
    mut memory: JournalMemory,
    progress: &JournalProgress,
) {
    let thread = threads::watch_thread("rb-journal");
    thread.keep_running(|| {
        if let Some(load) = memory.load.take() {
            let _busy = thread.busy();
            memory.keep = load(&memory.journal);
        }
        print_until_closed(events, &mut memory, &thread, progress);
    });
}

fn print_until_closed(
    events: &Receiver<MachineEvent>,
    memory: &mut JournalMemory,
    thread: &WatchedThread,
    progress: &JournalProgress,
) {
    let JournalMemory { journal, keep, learn, .. } = memory;
    let mut notes: Vec<JournalChange> = Vec::new();
    let mut due: Option<Instant> = None;
    loop {
        let patience =
            due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        let received = events.recv_timeout(patience);
        let _busy = thread.busy();
        let is_over = matches!(received, Err(RecvTimeoutError::Disconnected));
        if let Ok(event) = &received {
            print_event(event);
            // Counted at the end, and where a panic ends it as well.
            let _noted = ProgressGuard(progress);
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

struct ProgressGuard<'a>(&'a JournalProgress);

impl Drop for ProgressGuard<'_> {
    fn drop(&mut self) {
        self.0.note();
    }
}

fn print_event(event: &MachineEvent) {
    let who = match (event.mac, event.address) {
        (Some(mac), Some(address)) => format!("{mac} {address}"),
        (Some(mac), None) => mac.to_string(),
        (None, Some(address)) => address.to_canonical().to_string(),
        (None, None) => "-".to_owned(),
    };
    let stage = event.stage.word();
    match event.weight {
        EventWeight::Detail => tracing::debug!("{who} {stage}: {}", event.text),
        EventWeight::Step => tracing::info!("{who} {stage}: {}", event.text),
        EventWeight::Warning => tracing::warn!("{who} {stage}: {}", event.text),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
