//! A copy of a database into another file, while it is written to.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// Writes a consistent copy into a new file (never over one that is there) and syncs it with its
/// name. A copy that fails is removed again.
pub(super) fn copy_database(source: &Connection, target: &Path) -> Result<(), StoreError> {
    let failed = |error: String| StoreError::Copy { path: target.display().to_string(), error };
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
    let file = made.map_err(|error| failed(error.to_string()))?;
    let copied = target
        .to_str()
        .ok_or_else(|| "the name is not UTF-8".to_owned())
        .and_then(|name| {
            source.execute("VACUUM INTO ?1", [name]).map_err(|error| error.to_string())
        })
        .and_then(|_| {
            file.sync_all()
                .and_then(|()| sync_parent_directory(target))
                .map_err(|error| error.to_string())
        });
    copied.map_err(|error| {
        let _ = fs::remove_file(target);
        failed(error)
    })
}

/// A name is durable when its directory is.
pub fn sync_parent_directory(path: &Path) -> io::Result<()> {
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
