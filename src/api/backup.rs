//! A copy of the lease database for whoever asks.

use std::path::Path;

use http::StatusCode;

use super::admin_socket::{Answer, Download};
use crate::store::{self, BackupError};

/// The media type of a SQLite database (IANA).
const SQLITE: &str = "application/vnd.sqlite3";

/// The lease database as it is at this moment.
pub fn backup(database: Option<&Path>) -> Result<Download, Answer> {
    let Some(database) = database else {
        let detail = "a server of `--root` answers no DHCP, and has no leases";
        return Err(Answer::problem(StatusCode::NOT_FOUND, "no lease database", detail));
    };
    match store::copy_to_send(database) {
        Ok(file) => Ok(Download { file, media_type: SQLITE }),
        Err(error @ BackupError::NoDatabase(_)) => {
            Err(Answer::problem(StatusCode::NOT_FOUND, "no lease database", &error.to_string()))
        }
        Err(error) => {
            Err(Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "no backup", &error.to_string()))
        }
    }
}
