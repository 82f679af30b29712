//! The history of machines: loaded from an earlier run at the start, and kept from then on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::observe::journal::{JournalKeeper, MachineJournal};
use crate::observe::log::{JournalLoader, JournalMemory};
use crate::store::{HISTORY, HistoryDatabase};

/// The server's memory of machines. The journal's thread loads the history in `state` while the
/// server already answers. A history that cannot be kept stops no boot.
pub(super) fn memory(state: &Path) -> JournalMemory {
    let memory = JournalMemory::default();
    let path = state.join(HISTORY);
    let journal = Arc::clone(&memory.journal);
    let load: Option<JournalLoader> = match HistoryDatabase::open(&path) {
        Ok(mut history) => Some(Box::new(move |loaded| {
            // The file forgets the machines that no longer fit into memory, and so keeps to the
            // same limits.
            let read = history
                .load(|kept| loaded.load_entry(kept))
                .and_then(|()| history.keep(&loaded.take_changes(usize::MAX)));
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

/// Keeps changes in the history database. If the file was removed or replaced, a new one gets
/// everything that is remembered.
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
        // Logged once: a full disk would cause a line every second.
        if let Err(error) = &kept
            && !has_failed
        {
            tracing::warn!("the history of machines is not kept: {error}");
        }
        has_failed = kept.is_err();
    })
}
