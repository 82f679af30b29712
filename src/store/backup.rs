//! Copies of the lease database: a backup while the server runs, and the restore of one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::copy::{copy_database, sync_parent_directory};
use super::directory::{append_suffix, remove_file_if_present};
use super::sqlite::{count_known_schemas, read_schema_version, read_stored_leases};
use super::{StateDirectory, StoreError};

/// Why a backup or a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The state directory has no lease database.
    #[error(
        "there is no lease database {0}: is the server's `state` another directory, or has it \
         never served DHCP?"
    )]
    NoDatabase(PathBuf),
    /// The target of the backup exists; it is never overwritten.
    #[error("{0} exists: name a file that does not")]
    Exists(PathBuf),
    /// An earlier restore has kept a database under the name that this one needs.
    #[error(
        "{0} exists: an earlier restore has kept the database of before it there; move it away \
         first"
    )]
    KeptBefore(PathBuf),
    /// The file is damaged, or no lease database.
    #[error("{path}: this is no sound lease database: {reason}")]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What SQLite's integrity check or a row has shown.
        reason: String,
    },
    /// A file operation failed.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// The store itself failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of `restore`.
#[derive(Debug)]
pub struct RestoredBackup {
    /// Leases in the database that is now in place.
    pub leases: usize,
    /// Where the replaced database is kept; None: there was none.
    pub kept: Option<PathBuf>,
}

/// Copies a database that a server may be writing to into a new file that only its owner can read.
/// Syncs the copy, reads it back, and returns how many leases it holds.
pub fn backup_database(database: &Path, target: &Path) -> Result<usize, BackupError> {
    if !database.exists() {
        return Err(BackupError::NoDatabase(database.to_owned()));
    }
    let source = open_read_only(database)?;
    match copy_database(&source, target)
        .map_err(BackupError::from)
        .and_then(|()| count_backup_leases(target))
    {
        Ok(leases) => Ok(leases),
        Err(BackupError::Store(StoreError::Copy { .. })) if target.exists() => {
            Err(BackupError::Exists(target.to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// Copies a database for a client of the admin socket. The copy has no name any more: the kernel
/// frees it when it is closed, and a crash leaves at most one. Calls must not overlap.
pub fn copy_to_send(database: &Path) -> Result<File, BackupError> {
    if !database.exists() {
        return Err(BackupError::NoDatabase(database.to_owned()));
    }
    let sending = append_suffix(database, ".sending");
    remove_file_if_present(&sending).map_err(fail_at(&sending))?;
    copy_database(&open_copy_connection(database)?, &sending)?;
    let file = File::open(&sending).map_err(fail_at(&sending))?;
    fs::remove_file(&sending).map_err(fail_at(&sending))?;
    Ok(file)
}

/// Puts a backup in the place of the database, while no server runs. The replaced database is kept
/// beside it.
pub fn restore_database(
    state: &StateDirectory,
    source: &Path,
) -> Result<RestoredBackup, BackupError> {
    let database = state.database();
    let fresh = append_suffix(&database, ".restoring");
    let kept = append_suffix(&database, ".before-restore");
    if kept.exists() {
        return Err(BackupError::KeptBefore(kept));
    }

    // An interrupted restore may have left this file, which no server has ever used.
    remove_file_if_present(&fresh).map_err(fail_at(&fresh))?;
    count_backup_leases(source)?;
    copy_database(&open_read_only(source)?, &fresh)?;
    let leases = count_backup_leases(&fresh)?;
    state.give_to_owner(&fresh).map_err(fail_at(&fresh))?;

    let replaces = database.exists();
    // The log goes first: SQLite would replay a log that is left beside another database.
    for part in ["-wal", "-shm", ""] {
        let (from, to) = (append_suffix(&database, part), append_suffix(&kept, part));
        if from.exists() {
            fs::rename(&from, &to).map_err(fail_at(&from))?;
        }
    }
    sync_parent_directory(&database).map_err(fail_at(&database))?;
    fs::rename(&fresh, &database).map_err(fail_at(&fresh))?;
    sync_parent_directory(&database).map_err(fail_at(&database))?;
    Ok(RestoredBackup { leases, kept: replaces.then_some(kept) })
}

/// Names the file at which an operation failed.
fn fail_at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    |error| BackupError::File(path.to_owned(), error)
}

/// Reads a database from its first page to its last row, and returns how many leases it holds.
pub fn count_backup_leases(path: &Path) -> Result<usize, BackupError> {
    let unsound = |reason: String| BackupError::Unsound { path: path.to_owned(), reason };
    let connection = open_read_only(path)?;
    let verdict: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| unsound(error.to_string()))?;
    if verdict != "ok" {
        return Err(unsound(verdict));
    }
    match read_schema_version(&connection).map_err(StoreError::from)? {
        0 => Err(unsound("no ringboot wrote it".to_owned())),
        found if found > count_known_schemas() => Err(StoreError::Newer {
            path: path.display().to_string(),
            found,
            known: count_known_schemas(),
        }
        .into()),
        // The server migrates an older schema; here its rows are only counted.
        found if found < count_known_schemas() => {
            let count =
                connection.query_row("SELECT count(*) FROM leases", [], |row| row.get::<_, i64>(0));
            let count = count.map_err(|error| unsound(error.to_string()))?;
            Ok(usize::try_from(count).unwrap_or(0))
        }
        _ => read_stored_leases(&connection)
            .map(|leases| leases.len())
            .map_err(|error| unsound(error.to_string())),
    }
}

fn open_read_only(path: &Path) -> Result<Connection, BackupError> {
    if let Err(error) = File::open(path) {
        return Err(BackupError::File(path.to_owned(), error));
    }
    open_copy_connection(path)
}

/// Opens only SQLite's connection: in the server's process, closing a second descriptor would
/// release SQLite's locks on the database (fcntl(2), record locks).
fn open_copy_connection(path: &Path) -> Result<Connection, BackupError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |error| StoreError::Open { path: path.display().to_string(), error };
    let connection = Connection::open_with_flags(path, flags).map_err(open)?;
    connection.busy_timeout(super::sqlite::BUSY_WAIT).map_err(open)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};

    use super::super::{DATABASE, LeaseStore, SqliteStore};
    use super::*;
    use crate::dhcp::lease::{Lease, LeaseChange};
    use crate::model::machine::Mac;

    fn bind(last: u8) -> LeaseChange {
        let (address, mac) = (Ipv4Addr::new(192, 168, 4, last), Mac([2, 0, 0, 0, 0, last]));
        LeaseChange::Bind(Box::new(Lease { start_s: 1000, ..Lease::new_bound(address, mac, 1600) }))
    }

    struct World {
        directory: tempfile::TempDir,
    }

    impl World {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }
        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }
        fn database(&self) -> PathBuf {
            self.path("state").join(DATABASE)
        }
        fn state(&self) -> StateDirectory {
            StateDirectory::lock(&self.path("state")).unwrap()
        }
        fn store(&self) -> SqliteStore {
            drop(self.state());
            SqliteStore::open(&self.database()).unwrap()
        }
        fn addresses(&self) -> Vec<u8> {
            let mut store = SqliteStore::open(&self.database()).unwrap();
            let mut last: Vec<u8> =
                store.load().unwrap().iter().map(|lease| lease.address.octets()[3]).collect();
            last.sort_unstable();
            last
        }
    }

    #[test]
    fn a_backup_is_made_while_the_store_is_written_to_and_is_never_written_over() {
        let world = World::new();
        let mut store = world.store();
        store.commit(&[bind(1), bind(2)]).unwrap();
        let target = world.path("copy");
        assert_eq!(backup_database(&world.database(), &target).unwrap(), 2);
        store.commit(&[bind(3)]).unwrap();
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        let said = backup_database(&world.database(), &target).unwrap_err().to_string();
        assert!(said.contains("exists: name a file"), "{said}");
        assert_eq!(count_backup_leases(&target).unwrap(), 2, "and it is as it was");
        let said =
            backup_database(&world.path("nothing"), &world.path("copy2")).unwrap_err().to_string();
        assert!(
            said.contains("there is no lease database") && !world.path("copy2").exists(),
            "{said}"
        );
        assert!(backup_database(&world.database(), &world.path("no/such/directory")).is_err());
    }

    #[test]
    fn a_copy_to_send_is_whole_and_leaves_no_name_behind() {
        let world = World::new();
        let mut store = world.store();
        store.commit(&[bind(1), bind(2)]).unwrap();
        fs::write(append_suffix(&world.database(), ".sending"), "of a server that was killed")
            .unwrap();
        let mut sent = copy_to_send(&world.database()).unwrap();
        store.commit(&[bind(3)]).unwrap();
        assert!(!append_suffix(&world.database(), ".sending").exists());
        let mut target = File::create(world.path("copy")).unwrap();
        io::copy(&mut sent, &mut target).unwrap();
        assert_eq!(count_backup_leases(&world.path("copy")).unwrap(), 2);
        assert!(matches!(copy_to_send(&world.path("nothing")), Err(BackupError::NoDatabase(_))));
    }

    #[test]
    fn a_restore_brings_the_leases_of_the_backup_back_and_keeps_what_was_there() {
        let world = World::new();
        let mut store = world.store();
        store.commit(&[bind(1), bind(2)]).unwrap();
        backup_database(&world.database(), &world.path("copy")).unwrap();
        store.commit(&[bind(3)]).unwrap();
        // As after a power cut: the last commits are in the log beside the database.
        assert!(append_suffix(&world.database(), "-wal").exists());
        let restored = restore_database(&world.state(), &world.path("copy")).unwrap();
        drop(store);
        assert_eq!((restored.leases, world.addresses()), (2, vec![1, 2]));
        let kept = restored.kept.unwrap();
        assert_eq!(count_backup_leases(&kept).unwrap(), 3, "log included");
        let said = restore_database(&world.state(), &world.path("copy")).unwrap_err().to_string();
        assert!(said.contains("before-restore exists"), "{said}");
    }

    #[test]
    fn a_restore_to_a_new_box_needs_no_database_there() {
        let world = World::new();
        world.store().commit(&[bind(7)]).unwrap();
        backup_database(&world.database(), &world.path("copy")).unwrap();
        fs::remove_dir_all(world.path("state")).unwrap();
        let restored = restore_database(&world.state(), &world.path("copy")).unwrap();
        assert!(restored.kept.is_none());
        assert_eq!(world.addresses(), [7]);
    }

    #[test]
    fn what_is_no_sound_database_of_ours_is_refused_and_nothing_is_touched() {
        let world = World::new();
        world.store().commit(&[bind(1)]).unwrap();
        let copy = world.path("copy");
        backup_database(&world.database(), &copy).unwrap();
        let refused = |name: &str, words: &str| {
            let said = restore_database(&world.state(), &world.path(name)).unwrap_err().to_string();
            assert!(said.contains(words), "{name}: {said}");
            assert_eq!(world.addresses(), [1]);
            assert!(!append_suffix(&world.database(), ".before-restore").exists());
        };
        refused("missing", "No such file");
        fs::write(world.path("text"), "leases? none.").unwrap();
        refused("text", "no sound lease database");
        Connection::open(world.path("foreign"))
            .unwrap()
            .execute_batch("CREATE TABLE a (b)")
            .unwrap();
        refused("foreign", "no ringboot wrote it");
        let mut torn = fs::read(&copy).unwrap();
        let half = torn.len() / 2;
        torn[half..].fill(0x5a);
        fs::write(world.path("torn"), torn).unwrap();
        refused("torn", "no sound lease database");
        Connection::open(&copy).unwrap().pragma_update(None, "user_version", 99).unwrap();
        refused("copy", "newer ringboot");
    }

    #[test]
    fn what_root_restores_belongs_to_the_owner_of_the_state_directory() {
        let world = World::new();
        world.store().commit(&[bind(1)]).unwrap();
        backup_database(&world.database(), &world.path("copy")).unwrap();
        let state = world.path("state");
        fs::remove_file(state.join("lock")).unwrap();
        lchown(&state, Some(12_345), Some(12_346)).unwrap();
        restore_database(&world.state(), &world.path("copy")).unwrap();
        for name in ["lock", DATABASE] {
            let meta = fs::metadata(state.join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (12_345, 12_346), "{name}");
        }
    }
}
