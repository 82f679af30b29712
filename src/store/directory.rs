//! The state directory: its owner's alone, one process at a time, and every file in it known by
//! name.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

/// The history database in the state directory; SQLite's own files begin with its name.
pub const HISTORY: &str = "history.db";
/// The lease database; SQLite's own files, older schemas and what `restore` replaced begin with its
/// name.
pub const DATABASE: &str = "ringboot.db";
/// Held by the process that may write to the database.
const LOCK: &str = "lock";

/// Why the state directory is not ours to write to.
#[derive(Debug, thiserror::Error)]
pub enum NoState {
    #[error("making the state directory {0}: {1}. Name another with `state`")]
    Make(PathBuf, io::Error),
    #[error(
        "another ringboot runs with the state directory {0}: stop it, or name another directory \
         with `state`"
    )]
    InUse(PathBuf),
    #[error("locking {0}: {1}")]
    Lock(PathBuf, io::Error),
}

/// A state directory that no other process writes to for as long as this value lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Both are given back by the kernel when the process ends, however it ends. The directory's
    /// own lock cannot be removed as the file can; the file is what an older ringboot looks at.
    directory: File,
    lock: File,
}

impl StateDirectory {
    /// Makes the directory where it is missing (leases name machines and people's habits: for its
    /// owner alone) and locks it. Two servers on one database would each give away what the other
    /// has given.
    pub fn lock(path: &Path) -> Result<Self, NoState> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| NoState::Make(path.to_owned(), error))?;
        let directory = File::open(path).map_err(|error| NoState::Make(path.to_owned(), error))?;
        // A file server may have no locks for directories.
        if matches!(directory.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(NoState::InUse(path.to_owned()));
        }
        let lock = lock_file(path)?;
        Ok(Self { path: path.to_owned(), directory, lock })
    }

    /// Whether this is still the directory of that name, with our lock in it. A lock that was
    /// removed is made again; where another process has taken its place, the directory is not ours
    /// any more.
    pub(super) fn check(&mut self) -> Result<(), NoState> {
        if !is_same_file(&self.directory, std::fs::metadata(&self.path)) {
            *self = Self::lock(&self.path)?;
        } else if !is_same_file(&self.lock, std::fs::symlink_metadata(self.path.join(LOCK))) {
            self.lock = lock_file(&self.path)?;
            tracing::warn!("{} was removed: it is there again", self.path.join(LOCK).display());
        }
        Ok(())
    }

    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What root leaves here the server must be able to open: it belongs to the owner of the
    /// directory.
    pub(super) fn give_to_owner(&self, file: &Path) -> io::Result<()> {
        give_to_directory_owner(&self.path, file)
    }

    /// The same for every file of ringboot's in a state directory: SQLite lays files beside a
    /// database that is only read. Links and files with a second name are left alone.
    pub fn give_all_to_owner(path: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_str().is_some_and(Self::is_ours);
            let plain = |meta: std::fs::Metadata| meta.is_file() && meta.nlink() == 1;
            if is_ours && std::fs::symlink_metadata(entry.path()).is_ok_and(plain) {
                give_to_directory_owner(path, &entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether a file of this name in a state directory is one of ringboot's.
    pub fn is_ours(name: &str) -> bool {
        name == LOCK || name.starts_with(DATABASE) || name.starts_with(HISTORY)
    }
}

fn lock_file(directory: &Path) -> Result<File, NoState> {
    let file = directory.join(LOCK);
    let failed = |error| NoState::Lock(file.clone(), error);
    // Whoever owns the directory may have put a link here, for root to write through.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let lock = options.open(&file).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(NoState::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    give_to_directory_owner(directory, &file).map_err(failed)?;
    Ok(lock)
}

/// Whether what has the name now is that open file.
fn is_same_file(open: &File, named: io::Result<std::fs::Metadata>) -> bool {
    let same = |(open, named): (std::fs::Metadata, std::fs::Metadata)| {
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    };
    open.metadata().ok().zip(named.ok()).is_some_and(same)
}

fn give_to_directory_owner(directory: &Path, file: &Path) -> io::Result<()> {
    let (directory, now) = (std::fs::metadata(directory)?, std::fs::symlink_metadata(file)?);
    if (directory.uid(), directory.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    match lchown(file, Some(directory.uid()), Some(directory.gid())) {
        // Not root: what we make is ours, and the directory lets us.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        answer => answer,
    }
}
