//! The journal thread: prints a line for each event of a machine, and remembers it in the journal.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use super::events::{EventWeight, JournalProgress, MachineEvent};
use super::journal::{JournalKeeper, MachineJournal};
use super::threads::{self, WatchedThread};

/// How long a change waits for the store: a power cut loses this much of the history, and no lease.
/// In a storm the rest waits some seconds longer.
const STORED_EVERY: Duration = Duration::from_secs(1);
/// Changes that go to the store in one batch, once in [`STORED_EVERY`]: a storm of machines gets
/// stored over some seconds, and takes little of the processor that answers it.
const BATCH_CHANGES_MAX: usize = 2048;
/// Events that the thread takes out of the queue at once.
const BATCH_EVENTS_MAX: usize = 1024;
/// How long the thread leaves the queue alone after it has found several events there: under load
/// a core then wakes it for hundreds of events at once, and not for each.
const GATHERED_FOR: Duration = Duration::from_millis(5);

/// Fills the journal from the store, and returns the keeper that writes later changes.
pub type JournalLoader = Box<dyn FnOnce(&MachineJournal) -> Option<JournalKeeper> + Send>;

/// Learns firmware quirks from an event. Called on the journal thread, which may wait for a disk.
pub type EventLearner = Box<dyn FnMut(&MachineEvent) + Send>;

/// What the journal thread does with an event besides printing it.
#[derive(Default)]
pub struct JournalMemory {
    /// The journal, shared with the threads that read it.
    pub journal: Arc<MachineJournal>,
    /// Writes changes to the store. None: the history ends with the process.
    pub keep: Option<JournalKeeper>,
    /// Reads the entries of an earlier process. Called once, before the first event.
    pub load: Option<JournalLoader>,
    /// Called with every event. None: the server learns no quirks.
    pub learn: Option<EventLearner>,
}

impl fmt::Debug for JournalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalMemory").field("journal", &self.journal).finish_non_exhaustive()
    }
}

/// Prints and remembers events until every sender is gone. A panic loses the event at which it
/// happened and the changes that were not stored yet.
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
    // When the waiting changes must be stored; None while none wait.
    let mut due: Option<Instant> = None;
    loop {
        let patience =
            due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
        let received = events.recv_timeout(patience);
        let busy = thread.busy();
        let is_over = matches!(received, Err(RecvTimeoutError::Disconnected));

        let (at_ms, mut count) = (unix_ms(), 0);
        for event in received.into_iter().chain(events.try_iter()).take(BATCH_EVENTS_MAX) {
            print_event(&event);
            // The guard counts the event also where a panic ends this block.
            let _counted = ProgressGuard(progress);
            if let Some(learn) = learn {
                learn(&event);
            }
            journal.record_event(event, at_ms);
            count += 1;
        }

        let is_due = due.is_some_and(|due| Instant::now() >= due);
        if is_due || is_over {
            let most = if is_over { usize::MAX } else { BATCH_CHANGES_MAX };
            let changes = journal.take_changes(most);
            if let Some(keep) = keep.as_mut().filter(|_| !changes.is_empty()) {
                keep(&changes);
            }
        }
        if is_over {
            return;
        }

        // The first change of a batch sets the time for all of them.
        if is_due || due.is_none() {
            due = journal.has_changes().then(|| Instant::now() + STORED_EVERY);
        }
        drop(busy);
        if count > 1 {
            std::thread::sleep(GATHERED_FOR);
        }
    }
}

/// Counts an event as remembered when it is dropped.
struct ProgressGuard<'a>(&'a JournalProgress);

impl Drop for ProgressGuard<'_> {
    fn drop(&mut self) {
        self.0.count_remembered();
    }
}

fn print_event(event: &MachineEvent) {
    let (who, stage) = (EventSubject(event), event.stage.as_str());
    match event.weight {
        EventWeight::Detail => tracing::debug!("{who} {stage}: {}", event.text),
        EventWeight::Step => tracing::info!("{who} {stage}: {}", event.text),
        EventWeight::Warning => tracing::warn!("{who} {stage}: {}", event.text),
    }
}

/// Whom an event is about, as a log line names it. Only a line that is printed gets formatted.
struct EventSubject<'a>(&'a MachineEvent);

impl fmt::Display for EventSubject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.mac, self.0.address) {
            (Some(mac), Some(address)) => write!(f, "{mac} {address}"),
            (Some(mac), None) => write!(f, "{mac}"),
            (None, Some(address)) => write!(f, "{}", address.to_canonical()),
            (None, None) => f.write_str("-"),
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
