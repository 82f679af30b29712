//! The lease database of a running server. If its files are removed, replaced or damaged, it is
//! opened again or written anew from memory.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::directory::{DATABASE, append_suffix, remove_file_if_present};
use super::lease_store::OddRow;
use super::lease_store::StoredRows;
use super::sqlite::SqliteStore;
use super::{
    LeaseStore, NoState, RememberedState, StateDirectory, StoreError, sync_parent_directory,
};
use crate::dhcp::lease::{ClockSeconds, Lease, LeaseChange};
use crate::engine::clock;
use crate::model::lease_clock::ClockMark;

/// The suffixes of the files of a database: the database itself, SQLite's log and its index.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// How often the store keeps the clock of the leases, in seconds: after a reboot, a lease may last
/// longer by this much.
const MARKED_EVERY_S: ClockSeconds = 60;

/// Most bytes that are read ahead; a million leases take a tenth of it.
const READ_AHEAD_BYTES_MAX: u64 = 1 << 30;

/// The database and its directory, owned by the writer's thread.
#[derive(Debug)]
pub struct KeptDatabase {
    path: PathBuf,
    /// None: the directory could not be locked yet.
    state: Option<StateDirectory>,
    /// None: the database could not be opened, or has failed and must be opened again.
    store: Option<SqliteStore>,
    files: DatabaseFiles,
    /// The database was read once. Until then memory has nothing that could be written anew.
    is_read: bool,
    /// The last commit has failed.
    has_failed: bool,
    /// The files under the path are not the ones that hold the commits.
    is_foreign: bool,
    /// As in [`StoredRows`].
    ahead_s: i64,
    /// The clock that was kept last. None: this run has not kept it yet, and keeps it with its
    /// first commit.
    marked_s: Option<ClockSeconds>,
    /// Counts how often the database was written anew, for [`FollowingStore`].
    anew: Arc<AtomicU64>,
}

impl KeptDatabase {
    /// Opens the database in this directory. After an inner error each check tries again; the outer
    /// error means that another server runs, and ends the start.
    pub fn open(path: &Path) -> Result<(Self, Result<StoredRows, StoreError>), StoreError> {
        let mut kept = Self {
            path: path.to_owned(),
            state: None,
            store: None,
            files: DatabaseFiles::default(),
            is_read: false,
            has_failed: false,
            is_foreign: false,
            ahead_s: 0,
            marked_s: None,
            anew: Arc::default(),
        };
        match kept.begin() {
            Err(error @ StoreError::State(NoState::InUse(_))) => Err(error),
            rows => Ok((kept, rows)),
        }
    }

    /// The path of the lease database.
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Another connection to the same database, for another thread.
    pub fn following(&self) -> FollowingStore {
        FollowingStore { database: self.database(), anew: Arc::clone(&self.anew), store: None }
    }

    fn begin(&mut self) -> Result<StoredRows, StoreError> {
        if self.state.is_none() {
            self.state = Some(StateDirectory::lock(&self.path)?);
            read_database_ahead(&self.database());
        }
        let store = SqliteStore::open(&self.database())?;
        let ahead_s = clock::take_clock_reading().resume(store.mark()?.as_ref());
        let rows = StoredRows {
            ahead_s,
            machines: store.machines()?,
            looks: store.looks()?,
            ..StoredRows::default()
        };
        self.files = DatabaseFiles::of(&self.database());
        (self.store, self.ahead_s) = (Some(store), ahead_s);
        Ok(rows)
    }

    /// Hands over every lease of the opened database, and returns the rows that cannot be read.
    /// After an error a later check reads everything again.
    pub fn each_lease(&mut self, take: impl FnMut(Lease)) -> Result<Vec<OddRow>, StoreError> {
        let odd = self.store.as_mut().ok_or(StoreError::Closed)?.each_lease(take)?;
        self.is_read = true;
        Ok(odd)
    }

    fn read(&mut self) -> Result<StoredRows, StoreError> {
        let rows = self.begin()?;
        let mut leases = Vec::new();
        let odd = self.each_lease(|lease| leases.push(lease))?;
        Ok(StoredRows { leases, odd, ..rows })
    }

    /// The clock of the leases, if it is time to keep it again.
    fn due_mark(&self) -> Option<ClockMark> {
        let mark = clock::take_clock_mark(self.ahead_s);
        Some(mark).filter(|mark| {
            self.marked_s.is_none_or(|kept| kept.saturating_add(MARKED_EVERY_S) <= mark.seen_s)
        })
    }

    /// Opens the same files again: the kernel may have refused them only for a while.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.store = None;
        let mut store = SqliteStore::open(&self.database())?;
        store.probe()?;
        self.store = Some(store);
        Ok(())
    }

    /// Writes a new database from memory, sets the old files aside, and puts the new one in their
    /// place: completely, or not at all.
    fn write_anew(&mut self, remembered: &RememberedState) -> Result<(), StoreError> {
        let database = self.database();
        let fresh = append_suffix(&database, ".new");
        let failed = |error: io::Error| StoreError::Anew { path: database.clone(), error };
        self.store = None;
        for part in PARTS {
            remove_file_if_present(&append_suffix(&fresh, part)).map_err(failed)?;
        }

        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut store = SqliteStore::open(&fresh)?;
        let mark = clock::take_clock_mark(self.ahead_s);
        store.fill(remembered, &mark)?;
        // Closing the last connection moves the log into the file and removes the log.
        drop(store);
        fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed)?;
        if let Some(state) = &self.state {
            state.give_to_owner(&fresh).map_err(failed)?;
        }

        let aside = append_suffix(&database, &format!(".unsound-{now}"));
        // The log goes first: SQLite would replay a log that is left beside another database.
        for part in ["-wal", "-shm", ""] {
            match fs::rename(append_suffix(&database, part), append_suffix(&aside, part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        fs::rename(&fresh, &database)
            .and_then(|()| sync_parent_directory(&database))
            .map_err(failed)?;

        let mut store = SqliteStore::open(&database)?;
        store.probe()?;
        (self.store, self.files, self.is_foreign) =
            (Some(store), DatabaseFiles::of(&database), false);
        self.marked_s = Some(mark.seen_s);
        self.anew.fetch_add(1, Ordering::Release);
        tracing::warn!(
            "{}: written anew from memory, {} leases; what lay there is in {}",
            database.display(),
            remembered.leases.len(),
            aside.display()
        );
        Ok(())
    }
}

impl LeaseStore for KeptDatabase {
    fn load(&mut self) -> Result<Vec<Lease>, StoreError> {
        self.read().map(|rows| rows.leases)
    }

    fn commit(&mut self, changes: &[LeaseChange]) -> Result<(), StoreError> {
        let database = self.database();
        // Set first, so that a panic on the way counts as a failure too.
        self.has_failed = true;
        let mark = self.due_mark();
        let store = self.store.as_mut().ok_or(StoreError::Closed)?;
        // Checked after the sync: a commit into files that have lost their name does not survive.
        let committed =
            store.commit_with(changes, mark.as_ref()).and_then(|()| self.files.check(&database));
        self.has_failed = committed.is_err();
        if let Some(mark) = mark.filter(|_| committed.is_ok()) {
            self.marked_s = Some(mark.seen_s);
        }
        committed
    }

    fn look(
        &mut self,
        recall: &mut dyn FnMut() -> Option<RememberedState>,
    ) -> Result<Option<StoredRows>, StoreError> {
        // Before the first read memory knows no lease, so nothing may be written anew.
        if !self.is_read {
            return self.read().map(Some);
        }

        // Another server may own these files by now, so the lock is checked before anything is
        // written.
        let database = self.database();
        match &mut self.state {
            Some(state) => state.check()?,
            None => self.state = Some(StateDirectory::lock(&self.path)?),
        }

        // Commits into files that have lost their name do not survive, however sound they look.
        if !self.is_foreign && self.files.check(&database).is_err() {
            tracing::error!("{}", StoreError::Gone(database.clone()));
            self.is_foreign = true;
        }

        // Only a damaged file is replaced. Other errors may pass, such as a full disk: the next
        // look, a second later, opens the same file again.
        if !self.is_foreign {
            let sniffed = self.store.as_ref().filter(|_| !self.has_failed).map(SqliteStore::sniff);
            let mended = match sniffed {
                Some(Ok(())) => Ok(()),
                Some(Err(error)) if error.is_torn() => Err(error),
                Some(Err(_)) | None => self.reopen(),
            };
            match mended {
                Err(error) if error.is_torn() => {
                    tracing::error!("{}: {error}", database.display());
                    self.is_foreign = true;
                }
                answer => answer?,
            }
        }

        if self.is_foreign {
            let remembered = recall().ok_or(StoreError::Closed)?;
            self.write_anew(&remembered)?;
        }

        // An idle server keeps the clock too, so that no lease lasts much longer after a reboot.
        self.has_failed = false;
        if self.due_mark().is_some() {
            self.commit(&[])?;
        }
        Ok(None)
    }
}

/// The files that a connection has open, by device and inode. A log that SQLite makes later is
/// added when it is first seen.
#[derive(Debug, Default)]
pub(super) struct DatabaseFiles([Option<(u64, u64)>; 3]);

impl DatabaseFiles {
    pub(super) fn of(database: &Path) -> Self {
        Self(PARTS.map(|part| read_device_inode(&append_suffix(database, part))))
    }

    pub(super) fn check(&mut self, database: &Path) -> Result<(), StoreError> {
        for (part, known) in PARTS.iter().zip(&mut self.0) {
            let now = read_device_inode(&append_suffix(database, part));
            match known {
                Some(_) if *known != now => return Err(StoreError::Gone(database.to_owned())),
                Some(_) => {}
                None => *known = now,
            }
        }
        Ok(())
    }
}

fn read_device_inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// A second connection, which opens the database at its first use, and again after the database was
/// written anew.
#[derive(Debug)]
pub struct FollowingStore {
    database: PathBuf,
    anew: Arc<AtomicU64>,
    store: Option<(u64, SqliteStore)>,
}

impl FollowingStore {
    /// The connection, and whether it was opened by this call.
    pub fn store(&mut self) -> Result<(&mut SqliteStore, bool), StoreError> {
        let anew = self.anew.load(Ordering::Acquire);
        self.store.take_if(|(seen, _)| *seen != anew);
        let is_fresh = self.store.is_none();
        let store = match self.store.take() {
            Some((_, store)) => store,
            None => SqliteStore::open(&self.database)?,
        };
        Ok((&mut self.store.insert((anew, store)).1, is_fresh))
    }
}

/// Reads a database once from its first page to its last, so that SQLite, which reads pages in the
/// order of their keys, finds them in the page cache. Call it only before this process opens the
/// database: closing a file releases SQLite's locks on it. Errors are left for SQLite to report.
fn read_database_ahead(database: &Path) {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(database);
    if let Ok(file) = open
        && file.metadata().is_ok_and(|meta| meta.is_file())
    {
        let _ = io::copy(&mut file.take(READ_AHEAD_BYTES_MAX), &mut io::sink());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;
    use crate::dhcp::lease::LeaseRowState;
    use crate::model::machine::Mac;

    fn lease(last: u8, state: LeaseRowState) -> Lease {
        let (address, mac) = (Ipv4Addr::new(192, 168, 4, last), Mac([2, 0, 0, 0, 0, last]));
        Lease { state, start_s: 5, ..Lease::new_bound(address, mac, 9) }
    }

    fn bind(last: u8) -> [LeaseChange; 1] {
        [LeaseChange::Bind(Box::new(lease(last, LeaseRowState::Bound)))]
    }

    fn memory() -> RememberedState {
        let leases = vec![
            lease(1, LeaseRowState::Bound),
            lease(2, LeaseRowState::Released),
            lease(3, LeaseRowState::Declined),
        ];
        RememberedState { leases, machines: vec![(Mac([9; 6]), 7)] }
    }

    fn rows(path: &Path) -> Vec<Lease> {
        let mut leases = SqliteStore::open(&path.join(DATABASE)).unwrap().load().unwrap();
        leases.sort_by_key(|lease| lease.address);
        leases
    }

    /// Everything that may happen to the files of a running server.
    #[test]
    fn files_that_were_removed_replaced_or_torn_are_written_anew_from_memory() {
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 6] = [
            ("removed", |database| fs::remove_file(database).unwrap()),
            ("log removed", |database| fs::remove_file(append_suffix(database, "-wal")).unwrap()),
            ("all removed", |database| fs::remove_dir_all(database.parent().unwrap()).unwrap()),
            ("replaced", |database| {
                fs::write(append_suffix(database, ".other"), "x").unwrap();
                fs::rename(append_suffix(database, ".other"), database).unwrap();
            }),
            ("directory replaced", |database| {
                let directory = database.parent().unwrap();
                fs::rename(directory, directory.with_extension("old")).unwrap();
                fs::create_dir(directory).unwrap();
            }),
            ("torn", |database| {
                fs::write(database, vec![0x5a; 65_536]).unwrap();
                fs::write(append_suffix(database, "-wal"), vec![0x5a; 65_536]).unwrap();
            }),
        ];
        for (name, harm) in harms {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("state");
            let (mut kept, read) = KeptDatabase::open(&path).unwrap();
            read.unwrap();
            assert_eq!(kept.each_lease(|_| unreachable!()).unwrap(), []);
            kept.commit(&bind(1)).unwrap();
            let mut following = kept.following();
            assert!(following.store().unwrap().1);
            harm(&kept.database());
            // Torn pages may not be met by the commit; what has no name is met at once.
            let committed = kept.commit(&bind(4));
            assert!(committed.is_err() || name == "torn", "{name}");
            assert!(kept.look(&mut || Some(memory())).unwrap().is_none(), "{name}");
            assert!(following.store().unwrap().1, "{name}: the other connections are told");
            kept.commit(&bind(5)).unwrap();
            drop((kept, following));
            let found = rows(&path);
            let mut expected = memory().leases;
            expected.push(lease(5, LeaseRowState::Bound));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn no_lease_is_kept_without_the_clock_and_the_next_run_goes_on_by_it() {
        let scratch = tempfile::tempdir().unwrap();
        let marked =
            |kept: &KeptDatabase| SqliteStore::read_only(&kept.database()).unwrap().mark().unwrap();
        let (mut kept, read) = KeptDatabase::open(scratch.path()).unwrap();
        assert_eq!((read.unwrap().ahead_s, marked(&kept)), (kept.ahead_s, None));
        // A process whose clock had begun a year ago.
        kept.ahead_s -= 366 * 86_400;
        kept.commit(&bind(1)).unwrap();
        let first = marked(&kept).expect("the clock");
        assert_eq!(first.ahead_s, kept.ahead_s);
        kept.look(&mut || None).unwrap();
        kept.commit(&bind(2)).unwrap();
        assert_eq!(marked(&kept).as_ref(), Some(&first), "not with every lease");
        kept.marked_s = first.seen_s.checked_sub(MARKED_EVERY_S);
        kept.look(&mut || None).unwrap();
        assert_eq!(kept.marked_s, marked(&kept).map(|mark| mark.seen_s), "now and then");
        fs::remove_file(kept.database()).unwrap();
        kept.look(&mut || Some(memory())).unwrap();
        assert_eq!(
            marked(&kept).map(|mark| mark.ahead_s),
            Some(first.ahead_s),
            "and where all is written anew"
        );
        drop(kept);
        let (mut kept, read) = KeptDatabase::open(scratch.path()).unwrap();
        assert_eq!(read.unwrap().ahead_s, first.ahead_s);
        let another_boot = ClockMark { boot: "another".into(), seen_s: 1000, ..first };
        kept.store.as_mut().unwrap().commit_with(&[], Some(&another_boot)).unwrap();
        drop(kept);
        let (_kept, read) = KeptDatabase::open(scratch.path()).unwrap();
        let now_s = clock::take_clock_mark(read.unwrap().ahead_s).seen_s;
        assert!((1000..1010).contains(&now_s), "{now_s}");
    }

    #[test]
    fn without_memory_nothing_is_written_and_a_later_look_tries_again() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut kept, _) = KeptDatabase::open(scratch.path()).unwrap();
        kept.each_lease(|_| unreachable!()).unwrap();
        fs::remove_file(kept.database()).unwrap();
        assert!(kept.look(&mut || None).is_err());
        assert!(kept.commit(&bind(1)).is_err());
        kept.look(&mut || Some(memory())).unwrap();
        kept.commit(&bind(7)).unwrap();
    }

    #[test]
    fn a_database_that_cannot_be_read_at_the_start_is_read_when_it_can() {
        let scratch = tempfile::tempdir().unwrap();
        let database = scratch.path().join(DATABASE);
        fs::write(&database, vec![0x5a; 65_536]).unwrap();
        let (mut kept, read) = KeptDatabase::open(scratch.path()).unwrap();
        assert!(read.is_err());
        assert!(kept.look(&mut || Some(memory())).is_err(), "memory knows nothing yet");
        assert_eq!(fs::read(&database).unwrap().len(), 65_536, "and nothing is set aside");
        fs::remove_file(&database).unwrap();
        assert!(kept.look(&mut || None).unwrap().is_some());
        kept.commit(&bind(1)).unwrap();
        assert!(matches!(
            KeptDatabase::open(scratch.path()),
            Err(StoreError::State(NoState::InUse(_)))
        ));
    }

    #[test]
    fn a_removed_lock_lets_nobody_in() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut kept, _) = KeptDatabase::open(scratch.path()).unwrap();
        kept.each_lease(|_| unreachable!()).unwrap();
        fs::remove_file(scratch.path().join("lock")).unwrap();
        assert!(matches!(StateDirectory::lock(scratch.path()), Err(NoState::InUse(_))));
        kept.look(&mut || None).unwrap();
        assert!(scratch.path().join("lock").exists());
    }

    #[test]
    fn odd_rows_are_set_aside_and_told() {
        let scratch = tempfile::tempdir().unwrap();
        let (mut kept, _) = KeptDatabase::open(scratch.path()).unwrap();
        kept.commit(&[bind(1), bind(2), bind(3)].concat()).unwrap();
        drop(kept);
        let connection = rusqlite::Connection::open(scratch.path().join(DATABASE)).unwrap();
        let odd = "UPDATE leases SET mac = 'nobody' WHERE address = '192.168.4.1';
            UPDATE leases SET uuid = x'01' WHERE address = '192.168.4.2'";
        connection.execute_batch(odd).unwrap();
        drop(connection);
        let (mut kept, _) = KeptDatabase::open(scratch.path()).unwrap();
        let mut leases = Vec::new();
        let odd = kept.each_lease(|lease| leases.push(lease)).unwrap();
        assert_eq!(leases, [lease(3, LeaseRowState::Bound)]);
        let addresses: Vec<_> =
            odd.iter().filter_map(|row| row.address).map(|address| address.octets()[3]).collect();
        assert_eq!(addresses, [1, 2]);
    }
}
