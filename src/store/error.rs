//! Why the store cannot be used, and the way out.

use std::path::{Path, PathBuf};

use super::directory::NoState;

/// Why the store cannot be used, or did not take a batch.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: cannot open the lease database: {error}")]
    Open { path: String, error: rusqlite::Error },
    #[error("{path}: cannot make the lease database its owner's alone (mode 0600): {error}")]
    Private { path: String, error: std::io::Error },
    #[error("{path}: cannot open the history of machines: {reason}")]
    History { path: String, reason: String },
    #[error(
        "{path}: the lease database was written by a newer ringboot (schema {found}, this one \
         knows {known})"
    )]
    Newer { path: String, found: i64, known: i64 },
    #[error(
        "lease of {address}: column {column} holds what no ringboot wrote; correct or delete the \
         row"
    )]
    Row { address: String, column: &'static str },
    #[error("{0}")]
    State(#[from] NoState),
    #[error(
        "{0}: it was removed or replaced while ringboot runs; leases are written anew from memory"
    )]
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
    pub(super) fn is_torn(&self) -> bool {
        if matches!(self, Self::Torn(_)) {
            return true;
        }
        let (Self::Sqlite(error) | Self::Open { error, .. }) = self else { return false };
        let torn = [rusqlite::ErrorCode::NotADatabase, rusqlite::ErrorCode::DatabaseCorrupt];
        error.sqlite_error_code().is_some_and(|code| torn.contains(&code))
    }
}
