//! The durable store of leases: its contract, SQLite behind it, and the thread that commits in
//! groups.
//!
//! RFC 2131 wants a lease on stable storage before its ACK leaves. A sync costs far more than a
//! row, so waiting ACKs share one: all changes that arrive during the sync of one transaction go
//! into the next one (group commit).

mod backup;
mod copy;
mod directory;
mod error;
mod history;
mod lease_store;
mod odd_rows;
mod quirks;
mod self_repair;
mod sqlite;
mod writer;

pub use backup::{
    BackupError, RestoredBackup, backup_database, copy_to_send, count_backup_leases,
    restore_database,
};
pub use copy::sync_parent_directory;
pub use directory::{DATABASE, HISTORY, NoState, StateDirectory};
pub use error::StoreError;
pub use history::HistoryDatabase;
pub use lease_store::{LeaseStore, OddRow, RememberedState, StoredRows};
pub use odd_rows::recover_odd_leases;
pub use self_repair::{FollowingStore, KeptDatabase};
pub use sqlite::SqliteStore;
pub use writer::{
    BATCH_CHANGES_MAX, BatchOutcome, NotQueued, QUEUED_MAX, StoreWriter, WorkTicket, WriterOwner,
};
