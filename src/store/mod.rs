//! The durable store of leases: its contract, SQLite behind it, and the thread that commits in
//! groups.
//!
//! RFC 2131 wants a lease on stable storage before its ACK leaves. A sync costs far more than a
//! row, so waiting ACKs share one: all changes that arrive during the sync of one transaction go
//! into the next one (group commit).

mod backup;
mod contract;
mod copy;
mod directory;
mod error;
mod history;
mod kept;
mod odd_rows;
mod quirks;
mod sqlite;
mod writer;

pub use backup::{
    BackupError, RestoredBackup, backup_database, copy_to_send, count_backup_leases,
    restore_database,
};
pub use contract::{LeaseStore, OddRow, RememberedState, StoredRows};
pub use copy::sync_parent_directory;
pub use directory::{DATABASE, HISTORY, NoState, StateDirectory};
pub use error::StoreError;
pub use history::HistoryDatabase;
pub use kept::{FollowingStore, KeptDatabase};
pub use odd_rows::recover_odd_leases;
pub use sqlite::SqliteStore;
pub use writer::{
    BATCH_CHANGES_MAX, BatchOutcome, NotQueued, QUEUED_MAX, StoreWriter, WorkTicket, WriterOwner,
};
