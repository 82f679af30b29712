//! The state directory: only its owner can read it, one process at a time writes to it, and every
//! file in it is known by name.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

/// The history database in the state directory; SQLite's own files begin with its name.
pub const HISTORY: &str = "history.db";
/// The lease database; SQLite's own files, older schemas and databases that `restore` replaced
/// begin with its name.
pub const DATABASE: &str = "ringboot.db";
/// The lock file of the process that may write to the database.
const LOCK: &str = "lock";

/// Why this process cannot write to the state directory.
#[derive(Debug, thiserror::Error)]
pub enum NoState {
    /// The directory could not be created or opened.
    #[error("making the state directory {0}: {1}. Name another with `state`")]
    Make(PathBuf, io::Error),
    /// Another process holds the lock.
    #[error(
        "another ringboot runs with the state directory {0}: stop it, or name another directory \
         with `state`"
    )]
    InUse(PathBuf),
    /// The lock file could not be made or locked.
    #[error("locking {0}: {1}")]
    Lock(PathBuf, io::Error),
}

/// A state directory that no other process writes to for as long as this value lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// The kernel releases both locks when the process ends, however it ends. Unlike the lock file,
    /// the lock on the directory itself cannot be removed; older versions check only the file.
    directory: File,
    lock: File,
}

impl StateDirectory {
    /// Makes the directory if it is missing and locks it. Only its owner may read it, because
    /// leases show when people work. Two servers on one database would give one address to two
    /// clients.
    pub fn lock(path: &Path) -> Result<Self, NoState> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| NoState::Make(path.to_owned(), error))?;
        let directory = File::open(path).map_err(|error| NoState::Make(path.to_owned(), error))?;
        // Any other error is ignored: a file server may not support locks on directories.
        if matches!(directory.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(NoState::InUse(path.to_owned()));
        }
        let lock = lock_file(path)?;
        Ok(Self { path: path.to_owned(), directory, lock })
    }

    /// Checks that the path still names this directory, with this process's lock in it. A removed
    /// lock is made again; if another process has locked the directory meanwhile, that is an error.
    pub(super) fn check(&mut self) -> Result<(), NoState> {
        if !is_same_file(&self.directory, std::fs::metadata(&self.path)) {
            *self = Self::lock(&self.path)?;
        } else if !is_same_file(&self.lock, std::fs::symlink_metadata(self.path.join(LOCK))) {
            self.lock = lock_file(&self.path)?;
            tracing::warn!("{} was removed: it is there again", self.path.join(LOCK).display());
        }
        Ok(())
    }

    /// The path of the lease database.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives a file that root has made to the owner of the directory, so that the server can open
    /// it.
    pub(super) fn give_to_owner(&self, file: &Path) -> io::Result<()> {
        give_to_directory_owner(&self.path, file)
    }

    /// Gives every file of ringboot in a state directory to its owner: SQLite makes files even
    /// beside a database that is only read. Links and files with a second name are left alone.
    pub fn give_all_to_owner(path: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_str().is_some_and(Self::is_ours);
            if is_ours && is_single_file(&entry.path()) {
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

/// The path with a suffix at its end, for the files beside a database.
pub(super) fn append_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a file; a file that does not exist is no error.
pub(super) fn remove_file_if_present(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

fn lock_file(directory: &Path) -> Result<File, NoState> {
    let file = directory.join(LOCK);
    let failed = |error| NoState::Lock(file.clone(), error);
    // The owner of the directory could have put a link here, for root to write through.
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

/// Whether the name still leads to the open file.
fn is_same_file(open: &File, named: io::Result<std::fs::Metadata>) -> bool {
    match (open.metadata(), named) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Whether the path is a regular file without a second name.
fn is_single_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.nlink() == 1)
}

fn give_to_directory_owner(directory: &Path, file: &Path) -> io::Result<()> {
    let (directory, now) = (std::fs::metadata(directory)?, std::fs::symlink_metadata(file)?);
    if (directory.uid(), directory.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    match lchown(file, Some(directory.uid()), Some(directory.gid())) {
        // Not root: files of this user serve as well, since the directory let it make them.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        answer => answer,
    }
}
