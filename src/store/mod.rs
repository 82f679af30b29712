//! The durable store of leases: what it promises, SQLite behind it, and the thread that writes to it in groups.
//!
//! RFC 2131 wants a lease on stable storage before its ACK leaves. A sync costs far more than a row, so the ACKs that wait
//! share one: whatever has come in while the last transaction was synced goes into the next (group commit).

mod backup;
mod directory;
mod history;
mod kept;
mod odd_rows;
mod quirks;
mod sqlite;
mod writer;

pub use backup::{BackupError, Restored, backup, copy_to_send, leases_in, restore, sync_directory_of};
pub use directory::{DATABASE, NoState, StateDirectory};
pub use history::{HISTORY, History};
pub use kept::{Following, Kept, Rows};
pub use odd_rows::leases_of_odd_rows;
pub use sqlite::{OddRow, SqliteStore};
pub use writer::{BATCH_CHANGES_MAX, NotQueued, Outcome, Owner, QUEUED_MAX, Ticket, Writer};

use std::path::{Path, PathBuf};

use crate::dhcp::lease::{BootTimes, Change, Lease};

/// Where leases outlive the process. A trait, so that a test can hold a sync back, and for a shared database later.
pub trait Store: Send {
    /// Every row, at the start.
    fn load(&mut self) -> Result<Vec<Lease>, StoreError>;

    /// Makes these changes durable in this order, all or none; returns only after they are synced. Volatile ones are ignored.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// Asked once a second, and after a commit has failed: whether the next commit will be kept where the next start looks for
    /// it. What is broken is mended where that can be done; rows that could not be read before are returned.
    fn look(&mut self, _recall: &mut dyn FnMut() -> Option<Remembered>) -> Result<Option<Rows>, StoreError> {
        Ok(None)
    }
}

/// All that memory knows and the store keeps, for a file that is written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    pub leases: Vec<Lease>,
    /// Machines that booted from the network, and when they were seen last.
    pub machines: BootTimes,
}

/// Why the store cannot be used, or did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: cannot open the lease database: {error}")]
    Open { path: String, error: rusqlite::Error },
    #[error("{path}: cannot make the lease database its owner's alone (mode 0600): {error}")]
    Private { path: String, error: std::io::Error },
    #[error("{path}: cannot open the history of machines: {reason}")]
    History { path: String, reason: String },
    #[error("{path}: the lease database was written by a newer ringboot (schema {found}, this one knows {known})")]
    Newer { path: String, found: i64, known: i64 },
    #[error("lease of {address}: column {column} holds what no ringboot wrote; correct or delete the row")]
    Row { address: String, column: &'static str },
    #[error("{0}")]
    State(#[from] NoState),
    #[error("{0}: it was removed or replaced while ringboot runs; leases are written anew from memory")]
    Gone(PathBuf),
    #[error("{path}: writing the lease database anew: {error}")]
    Anew { path: PathBuf, error: std::io::Error },
    #[error("the lease database is not open")]
    Closed,
    #[error("the thread of the lease database had a fault of its own; see the log")]
    Fault,
    #[error("{path}: copying the lease database: {error}")]
    Copy { path: String, error: String },
    #[error("lease database: {0}")]
    Sqlite(rusqlite::Error),
    #[error("{0}")]
    Torn(String),
    /// What a store that is not SQLite has to say.
    #[error("{0}")]
    Other(String),
}

/// Not a source: its sentence is in ours already.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl StoreError {
    /// One sentence on a database that cannot be read, and the way out.
    pub fn told(&self, database: &Path) -> (String, &'static str) {
        match self {
            Self::Newer { .. } => (
                self.to_string(),
                "start the newer ringboot again, or `ringboot restore` the copy that it left: ringboot.db.schema-N.bak",
            ),
            _ if self.is_torn() => (
                format!("the lease database {} is damaged ({})", database.display(), self.cause()),
                "`ringboot restore FILE` puts a backup in its place; or move it away, and machines keep their addresses by asking \
                 again",
            ),
            Self::State(_) => (self.to_string(), ""),
            _ => (self.to_string(), "see that the disk and the state directory can be read and written to"),
        }
    }

    /// SQLite's own words, where it has any.
    fn cause(&self) -> String {
        match self {
            Self::Sqlite(error) | Self::Open { error, .. } => error.to_string(),
            other => other.to_string(),
        }
    }

    /// It may be fine, but this process may not look.
    pub fn is_closed(&self) -> bool {
        let (Self::Sqlite(error) | Self::Open { error, .. }) = self else { return false };
        let closed = [rusqlite::ErrorCode::CannotOpen, rusqlite::ErrorCode::PermissionDenied];
        error.sqlite_error_code().is_some_and(|code| closed.contains(&code))
    }

    /// What is on the disk is no database any more: it can only be set aside.
    fn is_torn(&self) -> bool {
        if matches!(self, Self::Torn(_)) {
            return true;
        }
        let (Self::Sqlite(error) | Self::Open { error, .. }) = self else { return false };
        let torn = [rusqlite::ErrorCode::NotADatabase, rusqlite::ErrorCode::DatabaseCorrupt];
        error.sqlite_error_code().is_some_and(|code| torn.contains(&code))
    }
}
