//! Copies a database into another file while a server writes to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::StoreError;

/// Writes a consistent copy into a new file, never over an existing one, and syncs the file and its
/// name. A failed copy is removed.
pub(super) fn copy_database(source: &Connection, target: &Path) -> Result<(), StoreError> {
    let failed = |error: String| StoreError::Copy { path: target.display().to_string(), error };
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target);
    let file = made.map_err(|error| failed(error.to_string()))?;
    fill_copy(source, target, &file).map_err(|error| {
        let _ = fs::remove_file(target);
        failed(error)
    })
}

/// Fills the new, empty file, and syncs it and its name.
fn fill_copy(source: &Connection, target: &Path, file: &File) -> Result<(), String> {
    let name = target.to_str().ok_or("the name is not UTF-8")?;
    source.execute("VACUUM INTO ?1", [name]).map_err(|error| error.to_string())?;
    file.sync_all().and_then(|()| sync_parent_directory(target)).map_err(|error| error.to_string())
}

/// Syncs the directory of a file, because the file's name is durable only with it.
pub fn sync_parent_directory(path: &Path) -> io::Result<()> {
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
