//! The durable store of leases: what it promises, SQLite behind it, and the thread that writes to it in groups.
//!
//! RFC 2131 wants a lease on stable storage before its ACK leaves. A sync costs far more than a row, so the ACKs that wait
//! share one: whatever has come in while the last transaction was synced goes into the next (group commit).

mod backup;
mod directory;
mod history;
mod quirks;
mod sqlite;
mod writer;

pub use backup::{BackupError, Restored, backup, copy_to_send, leases_in, restore, sync_directory_of};
pub use directory::{DATABASE, NoState, StateDirectory};
pub use history::{HISTORY, History};
pub use sqlite::SqliteStore;
pub use writer::{BATCH_CHANGES_MAX, NotQueued, Outcome, QUEUED_MAX, Ticket, Writer};

use crate::dhcp::lease::{Change, Lease};

/// Where leases outlive the process. A trait, so that a test can hold a sync back, and for a shared database later.
pub trait Store: Send {
    /// Every row, at the start.
    fn load(&mut self) -> Result<Vec<Lease>, StoreError>;

    /// Makes these changes durable in this order, all or none; returns only after they are synced. Volatile ones are ignored.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// Why the store cannot be used, or did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: cannot open the lease database: {source}")]
    Open { path: String, source: rusqlite::Error },
    #[error("{path}: cannot make the lease database its owner's alone (mode 0600): {error}")]
    Private { path: String, error: std::io::Error },
    #[error("{path}: cannot open the history of machines: {reason}")]
    History { path: String, reason: String },
    #[error(
        "{path}: written by a newer ringboot (schema {found}, this one knows {known}); update ringboot or restore a backup"
    )]
    Newer { path: String, found: i64, known: i64 },
    #[error("lease of {address}: column {column} holds what no ringboot wrote; correct or delete the row")]
    Row { address: String, column: &'static str },
    #[error("{path}: copying the lease database: {error}")]
    Copy { path: String, error: String },
    #[error("lease database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// What a store that is not SQLite has to say.
    #[error("{0}")]
    Other(String),
}
