//! Why the store cannot be used, and what the operator can do.

use std::path::{Path, PathBuf};

use super::directory::NoState;

/// Why the store cannot be used, or did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite cannot open the lease database.
    #[error("{path}: cannot open the lease database: {error}")]
    Open {
        /// The database.
        path: String,
        /// SQLite's error.
        error: rusqlite::Error,
    },
    /// The files of the database cannot get mode 0600.
    #[error("{path}: cannot make the lease database its owner's alone (mode 0600): {error}")]
    Private {
        /// The database.
        path: String,
        /// What the kernel answered.
        error: std::io::Error,
    },
    /// The history database cannot be opened.
    #[error("{path}: cannot open the history of machines: {reason}")]
    History {
        /// The database.
        path: String,
        /// SQLite's or the kernel's error.
        reason: String,
    },
    /// The database has a schema that this version does not know.
    #[error(
        "{path}: the lease database was written by a newer ringboot (schema {found}, this one \
         knows {known})"
    )]
    Newer {
        /// The database.
        path: String,
        /// Its schema version.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// A row of the lease table that ringboot cannot have written.
    #[error(
        "lease of {address}: column {column} holds what no ringboot wrote; correct or delete the \
         row"
    )]
    Row {
        /// The address of the row, as text.
        address: String,
        /// The first column that is wrong.
        column: &'static str,
    },
    /// The state directory cannot be used.
    #[error("{0}")]
    State(#[from] NoState),
    /// The file of the database is no longer the one that is open.
    #[error(
        "{0}: it was removed or replaced while ringboot runs; leases are written anew from memory"
    )]
    Gone(PathBuf),
    /// A new database could not be written from memory.
    #[error("{path}: writing the lease database anew: {error}")]
    Anew {
        /// The database.
        path: PathBuf,
        /// What the kernel answered.
        error: std::io::Error,
    },
    /// An earlier error has closed the database; the next look opens it again.
    #[error("the lease database is not open")]
    Closed,
    /// The writer's thread panicked during this work.
    #[error("the thread of the lease database had a fault of its own; see the log")]
    Fault,
    /// A copy of the database could not be made.
    #[error("{path}: copying the lease database: {error}")]
    Copy {
        /// The copy.
        path: String,
        /// SQLite's or the kernel's error.
        error: String,
    },
    /// SQLite refused a statement.
    #[error("lease database: {0}")]
    Sqlite(rusqlite::Error),
    /// The file is damaged.
    #[error("{0}")]
    Torn(String),
    /// The error of a store that is not SQLite, such as one of a test.
    #[error("{0}")]
    Other(String),
}

/// Not `#[from]`: our sentence quotes SQLite's, so it must not be a source as well.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl StoreError {
    /// One sentence about a database that cannot be read, and what the operator can do.
    pub fn told(&self, database: &Path) -> (String, &'static str) {
        match self {
            Self::Newer { .. } => (
                self.to_string(),
                "start the newer ringboot again, or `ringboot restore` the copy that it left: \
                 ringboot.db.schema-N.bak",
            ),
            _ if self.is_torn() => (
                format!("the lease database {} is damaged ({})", database.display(), self.cause()),
                "`ringboot restore FILE` puts a backup in its place; or move it away, and machines \
                 keep their addresses by asking \
                 again",
            ),
            Self::State(_) => (self.to_string(), ""),
            _ => (
                self.to_string(),
                "see that the disk and the state directory can be read and written to",
            ),
        }
    }

    /// SQLite's own message, where there is one.
    fn cause(&self) -> String {
        match self {
            Self::Sqlite(error) | Self::Open { error, .. } => error.to_string(),
            other => other.to_string(),
        }
    }

    /// The database may be sound, but this process has no permission to open it.
    pub fn is_closed(&self) -> bool {
        let (Self::Sqlite(error) | Self::Open { error, .. }) = self else { return false };
        let closed = [rusqlite::ErrorCode::CannotOpen, rusqlite::ErrorCode::PermissionDenied];
        error.sqlite_error_code().is_some_and(|code| closed.contains(&code))
    }

    /// The file is no longer a database: it can only be set aside.
    pub(super) fn is_torn(&self) -> bool {
        if matches!(self, Self::Torn(_)) {
            return true;
        }
        let (Self::Sqlite(error) | Self::Open { error, .. }) = self else { return false };
        let torn = [rusqlite::ErrorCode::NotADatabase, rusqlite::ErrorCode::DatabaseCorrupt];
        error.sqlite_error_code().is_some_and(|code| torn.contains(&code))
    }
}
