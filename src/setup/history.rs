//! The history of machines at a start: what an earlier run kept is read, and what happens from now
//! on is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::observe::journal::{JournalKeeper, MachineJournal};
use crate::observe::log::{JournalLoader, JournalMemory};
use crate::store::{HISTORY, HistoryDatabase};

/// The server's memory of machines. What an earlier run kept in `state` is read when the server
/// answers already. A history that cannot be kept stops no boot.
pub(super) fn memory(state: &Path) -> JournalMemory {
    let memory = JournalMemory::default();
    let path = state.join(HISTORY);
    let journal = Arc::clone(&memory.journal);
    let load: Option<JournalLoader> = match HistoryDatabase::open(&path) {
        Ok(mut history) => Some(Box::new(move |loaded| {
            let mut forgotten = Vec::new();
            let read = history
                .load(|kept| loaded.load_entry(kept, &mut forgotten))
                .and_then(|()| history.keep(&forgotten));
            if let Err(error) = read {
                tracing::warn!("`ringboot why` will know nothing of this run: {error}");
                return None;
            }
            Some(keeper(history, path, journal))
        })),
        Err(error) => {
            tracing::warn!("`ringboot why` will know nothing of this run: {error}");
            None
        }
    };
    JournalMemory { load, ..memory }
}

/// A file that was removed or replaced under the server is made anew, with all that is remembered.
fn keeper(
    mut history: HistoryDatabase,
    path: PathBuf,
    journal: Arc<MachineJournal>,
) -> JournalKeeper {
    let mut has_failed = false;
    Box::new(move |notes| {
        let kept = if history.is_in_place() {
            history.keep(notes)
        } else {
            HistoryDatabase::open(&path).and_then(|fresh| {
                history = fresh;
                history.keep(&journal.export_entries())
            })
        };
        // Said once: a full disk would be told every second.
        if let Err(error) = &kept
            && !has_failed
        {
            tracing::warn!("the history of machines is not kept: {error}");
        }
        has_failed = kept.is_err();
    })
}
