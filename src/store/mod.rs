//! The durable store of leases: what it promises, SQLite behind it, and the thread that writes to
//! it in groups.
//!
//! RFC 2131 wants a lease on stable storage before its ACK leaves. A sync costs far more than a
//! row, so the ACKs that wait share one: whatever has come in while the last transaction was synced
//! goes into the next (group commit).

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

pub use backup::{BackupError, Restored, backup, copy_to_send, leases_in, restore};
pub use contract::{OddRow, Remembered, Rows, Store};
pub use copy::sync_directory_of;
pub use directory::{DATABASE, HISTORY, NoState, StateDirectory};
pub use error::StoreError;
pub use history::History;
pub use kept::{Following, Kept};
pub use odd_rows::leases_of_odd_rows;
pub use sqlite::SqliteStore;
pub use writer::{BATCH_CHANGES_MAX, NotQueued, Outcome, Owner, QUEUED_MAX, Ticket, Writer};
