//! Leases in one SQLite file: WAL, synchronous=FULL, one row per address, readable with `sqlite3`
//! while ringboot runs.

use std::collections::HashMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, params};

use super::copy::copy_database;
use super::lease_store::OddRow;
use super::{LeaseStore, RememberedState, StoreError};
use crate::dhcp::lease::{BootTimes, ClockSeconds, Lease, LeaseChange, LeaseRowState};
use crate::dhcp::limits::MACHINES_MAX;
use crate::dhcp::other_servers::LookResult;
use crate::dhcp::subnet::OtherServer;
use crate::engine::clock;
use crate::model::lease_clock::ClockMark;
use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac, Uuid};

/// One migration per schema version; `user_version` counts the applied ones. Migrations are only
/// ever added.
const MIGRATIONS: [&str; 5] = [
    "
CREATE TABLE leases (
    address   TEXT PRIMARY KEY,     -- 192.168.4.26
    mac       TEXT NOT NULL,        -- 52:54:00:12:34:10
    client_id BLOB,                 -- option 61 where it is more than the hardware address
    uuid      BLOB,                 -- 16 octets in SMBIOS order
    role      TEXT,                 -- the program of the last boot stage
    arch      INTEGER,              -- its option 93
    host_name TEXT,
    state     TEXT NOT NULL CHECK (state IN ('bound', 'released', 'declined')),
    start_s   INTEGER NOT NULL,     -- unix seconds
    end_s     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE machines (             -- booted from the network once: served under clients = 'pxe' \
though their system is silent
    mac       TEXT PRIMARY KEY,
    seen_s    INTEGER NOT NULL      -- the last lease of their firmware or loader
) STRICT, WITHOUT ROWID;
INSERT INTO machines SELECT mac, max(start_s) FROM leases
    WHERE role <> 'system' OR arch IS NOT NULL GROUP BY mac;
CREATE TABLE other_servers (        -- what the last look for other DHCP servers found
    subnet    TEXT PRIMARY KEY,     -- 192.168.4.0/24
    looked_s  INTEGER NOT NULL,
    mac       TEXT,                 -- of the server that answered; NULL: nobody did
    address   TEXT
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE quirks (               -- what firmware cannot do although it asks for it
    subject   TEXT PRIMARY KEY,     -- 52:54:00:12:34:10, 52:54:00 or pxe+uefi-x64
    window    INTEGER,              -- blocks in a window at most; NULL: no limit
    blksize   INTEGER,              -- octets in a block
    http_rate INTEGER,              -- octets a second
    pinned    INTEGER NOT NULL,     -- 1: by an operator
    since_s   INTEGER NOT NULL,     -- unix seconds
    works_s   INTEGER,              -- the first success within the limit
    on_trial  INTEGER NOT NULL,     -- 1: old, and tried without
    class     TEXT,                 -- of the machine when it was learnt
    why       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE IF NOT EXISTS clock (                -- what the times of leases are told by: it \
stands still while nothing runs, and nobody sets it
    id        INTEGER PRIMARY KEY CHECK (id = 0),
    boot      TEXT NOT NULL,        -- /proc/sys/kernel/random/boot_id of the host
    ahead_s   INTEGER NOT NULL,     -- by how much the clock is ahead of the time since that boot
    seen_s    INTEGER NOT NULL,     -- it had come so far
    wall_s    INTEGER NOT NULL      -- what the wall clock said then, unix seconds
) STRICT;
",
    "
ALTER TABLE leases RENAME TO leases_by_address;
CREATE TABLE leases (               -- one row per address, the latest address last
    id        INTEGER PRIMARY KEY,  -- nothing refers to it
    address   TEXT NOT NULL,        -- 192.168.4.26
    mac       TEXT NOT NULL,        -- 52:54:00:12:34:10
    client_id BLOB,                 -- option 61 where it is more than the hardware address
    uuid      BLOB,                 -- 16 bytes in SMBIOS order
    role      TEXT,                 -- the program of the last boot stage
    arch      INTEGER,              -- its option 93
    host_name TEXT,
    state     TEXT NOT NULL CHECK (state IN ('bound', 'released', 'declined')),
    start_s   INTEGER NOT NULL,     -- seconds by the clock of the leases
    end_s     INTEGER NOT NULL
) STRICT;
INSERT INTO leases (address, mac, client_id, uuid, role, arch, host_name, state, start_s, end_s)
    SELECT address, mac, client_id, uuid, role, arch, host_name, state, start_s, end_s
    FROM leases_by_address;
DROP TABLE leases_by_address;
",
];

/// The first schema that keeps the results of looks for other servers.
const SCHEMA_WITH_LOOKS: i64 = 2;
/// The first schema that keeps the clock of the leases.
const SCHEMA_WITH_CLOCK: i64 = 4;
/// The first schema whose leases have numbers.
const SCHEMA_WITH_IDS: i64 = 5;

/// How long a commit waits for an operator's `sqlite3` that holds the file.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Memory for pages of the database, in KiB: enough for the 65,000 leases of a /16.
const CACHE_KIB: i64 = 16 << 10;

/// Pages that the log takes before a commit moves them into the database, 32 MiB: leases of a storm
/// meet on the same pages, so a longer log moves fewer of them, and stops commits less often.
const LOG_PAGES: i64 = 8192;

/// File mode: only the owner may read leases, because they show when people work.
const PRIVATE: u32 = 0o600;

/// A machine that has neither booted nor renewed a lease for this long, in seconds, is forgotten:
/// more than a year and a summer.
const MACHINE_REMEMBERED_S: ClockSeconds = 500 * 24 * 3600;

/// Rows of machines that are written between two counts of the table.
const MACHINES_WRITTEN: usize = 4096;

/// The lease database of one server.
#[derive(Debug)]
pub struct SqliteStore {
    pub(super) connection: Connection,
    /// Where the lease of each address is. None: the table was not read yet.
    places: Option<LeasePlaces>,
    /// Rows of machines written since the last count.
    machines_written: usize,
}

/// The row of each address in the table of leases. SQLite has no index of the addresses: each new
/// lease would dirty a page of it, which costs as much as all else about the lease.
#[derive(Debug)]
struct LeasePlaces {
    ids: HashMap<Ipv4Addr, i64>,
    /// The next new row. No number is given twice, not even after a transaction that failed: its
    /// addresses then have a number without a row, and get the row with their next lease.
    next: i64,
}

/// Numbers from here on only a hand can have written: no server gets so far.
const HAND_WRITTEN_ID: i64 = 1 << 62;

impl Default for LeasePlaces {
    fn default() -> Self {
        Self { ids: HashMap::new(), next: 1 }
    }
}

impl LeasePlaces {
    /// Reads where the leases are. Rows whose address cannot be read stay as they are.
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare("SELECT address, id FROM leases ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut places = Self::default();
        while let Some(row) = rows.next()? {
            places.note(read_row_address(row), row.get(1)?);
        }
        Ok(places)
    }

    /// Notes a row that was read. Returns false where a row before it has the address.
    fn note(&mut self, address: Option<Ipv4Addr>, id: i64) -> bool {
        if id < HAND_WRITTEN_ID {
            self.next = self.next.max(id + 1);
        }
        address.is_none_or(|address| *self.ids.entry(address).or_insert(id) == id)
    }

    /// The number of the row of this address, which a new address gets now.
    fn place(&mut self, address: Ipv4Addr) -> i64 {
        *self.ids.entry(address).or_insert_with(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// The number of the row of this address; None: it has none.
    fn find(&self, address: Ipv4Addr) -> Option<i64> {
        self.ids.get(&address).copied()
    }
}

impl SqliteStore {
    /// Opens or creates the database. Migrates an older schema, and keeps a copy of it beside the
    /// database; refuses a newer one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &MIGRATIONS)
    }

    fn open_with(path: &Path, migrations: &[&str]) -> Result<Self, StoreError> {
        let shown = || path.display().to_string();
        keep_private(path).map_err(|error| StoreError::Private { path: shown(), error })?;
        let mut connection = open_sqlite_connection(path)
            .map_err(|error| StoreError::Open { path: shown(), error })?;
        let found = read_schema_version(&connection)?;
        let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
        if found > known {
            return Err(StoreError::Newer { path: shown(), found, known });
        }
        if 0 < found && found < known {
            let kept = keep_older_schema(&connection, path, found)?;
            tracing::info!(
                "{}: schema {found} becomes {known}; the older one is in {}",
                shown(),
                kept.display()
            );
        }
        // A current database is not written to, so that it can be read on a full disk.
        if found < known {
            let transaction = connection.transaction()?;
            for step in migrations.iter().skip(usize::try_from(found).unwrap_or(0)) {
                transaction.execute_batch(step)?;
            }
            transaction.pragma_update(None, "user_version", known)?;
            transaction.commit()?;
        }
        Ok(Self { connection, places: None, machines_written: MACHINES_WRITTEN })
    }

    /// Hands over every lease of one moment, one at a time and unsorted, because there may be a
    /// million. Returns the rows that cannot be read.
    pub fn each_lease(&mut self, mut take: impl FnMut(Lease)) -> Result<Vec<OddRow>, StoreError> {
        // An older schema, which only a reader meets, has one row per address by its key.
        let has_ids = read_schema_version(&self.connection)? >= SCHEMA_WITH_IDS;
        let id = if has_ids { "id" } else { "NULL" };
        let mut statement =
            self.connection.prepare(&format!("SELECT {LEASE_COLUMNS}, {id} FROM leases"))?;
        let mut rows = statement.query([])?;
        let (mut odd, mut places) = (Vec::new(), LeasePlaces::default());
        while let Some(row) = rows.next()? {
            let id: Option<i64> = row.get(LEASE_COLUMN_COUNT)?;
            if let Some(id) = id
                && !places.note(read_row_address(row), id)
            {
                // A hand has written it. The lease of the first row stands.
                let why = format!("row {id} has the address of a row before it");
                odd.push(OddRow { address: None, why });
                continue;
            }
            match read_lease_row(row) {
                Ok(lease) => take(lease),
                Err(error) => {
                    odd.push(OddRow { address: read_row_address(row), why: error.to_string() });
                }
            }
        }

        self.places = has_ids.then_some(places);
        Ok(odd)
    }

    /// Checks that the file still is a database: reads a little from the disk, past SQLite's cache.
    pub(super) fn sniff(&self) -> Result<(), StoreError> {
        self.connection.execute_batch("PRAGMA shrink_memory")?;
        read_schema_version(&self.connection)?;
        let mut leases = self.connection.prepare_cached("SELECT address FROM leases LIMIT 1")?;
        leases.query([])?.next()?;
        Ok(())
    }

    /// Checks that the next commit can be kept: writes and syncs a transaction that changes
    /// nothing.
    pub(super) fn probe(&mut self) -> Result<(), StoreError> {
        let found = read_schema_version(&self.connection)?;
        let transaction = self.connection.transaction()?;
        transaction.pragma_update(None, "user_version", found)?;
        Ok(transaction.commit()?)
    }

    /// Fills an empty database from memory.
    pub(super) fn fill(
        &mut self,
        remembered: &RememberedState,
        mark: &ClockMark,
    ) -> Result<(), StoreError> {
        let places = self.places.insert(LeasePlaces::default());
        let transaction = self.connection.transaction()?;
        write_clock_mark(&transaction, mark)?;
        for (mac, seen_s) in &remembered.machines {
            let sql = "INSERT OR REPLACE INTO machines (mac, seen_s) VALUES (?1, ?2)";
            transaction
                .prepare_cached(sql)?
                .execute(params![mac.to_string(), clamp_seconds(*seen_s)])?;
        }

        // `write_lease_row` writes every row as bound; the others get their state after it.
        for lease in &remembered.leases {
            write_lease_row(&transaction, places, lease)?;
            let state = match lease.state {
                LeaseRowState::Bound | LeaseRowState::Offered => continue,
                LeaseRowState::Released => "released",
                LeaseRowState::Declined => "declined",
            };
            let sql = "UPDATE leases SET state = ?2 WHERE id = ?1";
            transaction
                .prepare_cached(sql)?
                .execute(params![places.place(lease.address), state])?;
        }
        Ok(transaction.commit()?)
    }
}

/// Keeps a copy of a database before its migration, such as `ringboot.db.schema-3.bak`, for a
/// return to the older version.
fn keep_older_schema(
    connection: &Connection,
    path: &Path,
    schema: i64,
) -> Result<PathBuf, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{schema}.bak"));
    let kept = PathBuf::from(name);
    // A copy from an earlier update is older than the database that is about to change.
    match fs::remove_file(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::Copy {
                path: kept.display().to_string(),
                error: error.to_string(),
            });
        }
        _ => {}
    }
    copy_database(connection, &kept)?;
    Ok(kept)
}

/// The number of migrations that a database has seen; 0: an empty file, or another program's
/// database.
pub(super) fn read_schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The schema version that this program writes.
pub(super) fn count_known_schemas() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The columns that [`read_lease_row`] parses.
const LEASE_COLUMNS: &str =
    "address, mac, client_id, uuid, role, arch, host_name, state, start_s, end_s";
/// How many they are.
const LEASE_COLUMN_COUNT: usize = 10;

/// Every lease of a database, by any connection.
pub(super) fn read_stored_leases(connection: &Connection) -> Result<Vec<Lease>, StoreError> {
    let mut statement = connection.prepare(&format!("SELECT {LEASE_COLUMNS} FROM leases"))?;
    let mut rows = statement.query([])?;
    let mut leases = Vec::new();
    while let Some(row) = rows.next()? {
        leases.push(read_lease_row(row)?);
    }
    Ok(leases)
}

impl LeaseStore for SqliteStore {
    fn load(&mut self) -> Result<Vec<Lease>, StoreError> {
        read_stored_leases(&self.connection)
    }

    fn commit(&mut self, changes: &[LeaseChange]) -> Result<(), StoreError> {
        self.commit_with(changes, None)
    }
}

impl SqliteStore {
    /// Commits changes together with the clock that their times refer to.
    pub(super) fn commit_with(
        &mut self,
        changes: &[LeaseChange],
        mark: Option<&ClockMark>,
    ) -> Result<(), StoreError> {
        if self.places.is_none() {
            self.places = Some(LeasePlaces::read(&self.connection)?);
        }
        let places = self.places.get_or_insert_default();
        let transaction = self.connection.transaction()?;

        // The count moves only with the commit: a transaction that fails has pruned nothing.
        let mut written = self.machines_written;
        for change in changes {
            write_change(&transaction, places, change)?;
            if let LeaseChange::Bind(lease) = change
                && lease.is_of_booting_machine()
            {
                written += 1;
                if written > MACHINES_WRITTEN {
                    prune_machines(
                        &transaction,
                        MACHINES_MAX,
                        lease.start_s.saturating_sub(MACHINE_REMEMBERED_S),
                    )?;
                    written = 0;
                }
            }
        }

        mark.map_or(Ok(()), |mark| write_clock_mark(&transaction, mark))?;
        transaction.commit()?;
        self.machines_written = written;
        Ok(())
    }

    /// The clock of the leases as it was kept last. None: the leases have wall clock times, from an
    /// older schema.
    pub fn mark(&self) -> Result<Option<ClockMark>, StoreError> {
        let sql = "SELECT boot, ahead_s, seen_s, wall_s FROM clock";
        let mark = self.connection.query_row(sql, [], |row| {
            let seen_s = ClockSeconds::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
            Ok(ClockMark { boot: row.get(0)?, ahead_s: row.get(1)?, seen_s, wall_s: row.get(3)? })
        });
        Ok(mark.optional()?)
    }

    /// The machines that booted from the network, with the time when each was last seen, the latest
    /// first.
    pub fn machines(&self) -> Result<BootTimes, StoreError> {
        let mut statement = self
            .connection
            .prepare("SELECT mac, seen_s FROM machines ORDER BY seen_s DESC LIMIT ?1")?;
        let most = i64::try_from(MACHINES_MAX).unwrap_or(i64::MAX);
        let rows = statement
            .query_map([most], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(parse_machine_row).collect())
    }

    /// As [`Self::each_lease`], for a database that a server may be writing to; it creates and
    /// changes nothing. Also returns the time by the clock of the leases.
    pub fn each_lease_in(
        database: &Path,
        take: impl FnMut(Lease),
    ) -> Result<(Vec<OddRow>, ClockSeconds), StoreError> {
        let mut store = Self::read_only(database)?;
        let has_clock = read_schema_version(&store.connection)? >= SCHEMA_WITH_CLOCK;
        let mark = if has_clock { store.mark()? } else { None };
        let now = clock::take_clock_mark(clock::take_clock_reading().resume(mark.as_ref())).seen_s;
        Ok((store.each_lease(take)?, now))
    }

    /// As [`Self::looks`], for a database that a server may be writing to, after an integrity check
    /// of the whole file; it creates and changes nothing.
    pub fn sound_looks_in(database: &Path) -> Result<Vec<LookResult>, StoreError> {
        let store = Self::read_only(database)?;
        let (found, known) = (read_schema_version(&store.connection)?, count_known_schemas());
        if found > known {
            return Err(StoreError::Newer { path: database.display().to_string(), found, known });
        }
        let said: String =
            store.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if said != "ok" {
            return Err(StoreError::Torn(said));
        }
        if found < SCHEMA_WITH_LOOKS { Ok(Vec::new()) } else { store.looks() }
    }

    /// Opens a database that a server may be writing to.
    pub(super) fn read_only(database: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags)
            .map_err(|error| StoreError::Open { path: database.display().to_string(), error })?;
        connection.busy_timeout(BUSY_WAIT)?;
        Ok(Self { connection, places: None, machines_written: 0 })
    }

    /// The last look for other servers on each subnet.
    pub fn looks(&self) -> Result<Vec<LookResult>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT subnet, looked_s, mac, address FROM other_servers")?;
        let rows = statement.query_map([], |row| {
            let (mac, address): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
            let server = mac.zip(address).and_then(|(mac, address)| {
                Some(OtherServer { mac: mac.parse().ok()?, address: address.parse().ok()? })
            });
            let looked_s = ClockSeconds::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
            Ok((row.get::<_, String>(0)?, looked_s, server))
        })?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(parse_look_row).collect())
    }

    /// Stores the result of a look, and replaces the one before.
    pub fn keep_look(&self, look: &LookResult) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO other_servers (subnet, looked_s, mac, address) VALUES \
                   (?1, ?2, ?3, ?4)";
        let values = params![
            look.network.to_string(),
            clamp_seconds(look.looked_s),
            look.server.map(|server| server.mac.to_string()),
            look.server.map(|server| server.address.to_string()),
        ];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// Gives the database and SQLite's files beside it mode 0600, whatever the umask: SQLite gives new
/// files the mode of the database.
fn keep_private(path: &Path) -> io::Result<()> {
    // Not through a link: root must not write where another user points.
    match OpenOptions::new()
        .create_new(true)
        .append(true)
        .mode(PRIVATE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
    {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match make_private(Path::new(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Changes the mode of this very file, and never of a link's target. The descriptor is opened with
/// O_PATH: closing it does not release SQLite's locks on a database of this process.
fn make_private(path: &Path) -> io::Result<()> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other(format!("{} is no plain file", path.display())));
    }
    if meta.permissions().mode() & 0o7777 == PRIVATE {
        return Ok(());
    }
    fs::set_permissions(
        format!("/proc/self/fd/{}", file.as_raw_fd()),
        Permissions::from_mode(PRIVATE),
    )
}

fn open_sqlite_connection(path: &Path) -> rusqlite::Result<Connection> {
    // The owner of the directory could have put a link in the place of the file, for root to write
    // through. SQLite refuses links anywhere in the path, so links in the path of the directory are
    // resolved here.
    let directory =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // If the directory cannot be resolved, SQLite cannot open the file and reports why.
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection =
        Connection::open_with_flags(directory.join(path.file_name().unwrap_or_default()), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    // FULL: in WAL mode SQLite syncs every commit, and not only every checkpoint. An ACK promises a
    // synced row.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES, |_| Ok(()))?;
    Ok(connection)
}

fn write_change(
    transaction: &Transaction<'_>,
    places: &mut LeasePlaces,
    change: &LeaseChange,
) -> rusqlite::Result<()> {
    match change {
        LeaseChange::Bind(lease) => write_lease_row(transaction, places, lease),
        LeaseChange::Release { address, mac, end_s } => {
            let sql = "UPDATE leases SET state = 'released', end_s = ?3 WHERE id = ?1 AND mac = ?2";
            let values = params![places.find(*address), mac.to_string(), clamp_seconds(*end_s)];
            transaction.prepare_cached(sql)?.execute(values).map(|_| ())
        }
        LeaseChange::Decline { address, mac, until_s } => {
            let sql = "INSERT INTO leases (id, address, mac, state, start_s, end_s) VALUES (?1, \
                       ?2, ?3, 'declined', ?4, ?4)
                ON CONFLICT (id) DO UPDATE SET mac = ?3, state = 'declined', end_s = ?4";
            let (id, address) = (places.place(*address), address.to_string());
            let values = params![id, address, mac.to_string(), clamp_seconds(*until_s)];
            transaction.prepare_cached(sql)?.execute(values).map(|_| ())
        }
        // The address keeps its number: the next lease of it gets the same place.
        LeaseChange::Free { address } => {
            let sql = "DELETE FROM leases WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute([places.find(*address)]).map(|_| ())
        }
        // These change memory alone (`LeaseChange::is_durable`).
        LeaseChange::Offer { .. } | LeaseChange::Struck { .. } | LeaseChange::Forget { .. } => {
            Ok(())
        }
    }
}

/// Bounds the table of machines, because one host can boot under any number of hardware addresses.
/// The rows that were seen longest ago go first; a machine with a lease is seen at each renewal.
fn prune_machines(
    transaction: &Transaction<'_>,
    most: usize,
    seen_after_s: ClockSeconds,
) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM machines WHERE seen_s < ?1", [clamp_seconds(seen_after_s)])?;
    let sql = "DELETE FROM machines WHERE mac IN
        (SELECT mac FROM machines ORDER BY seen_s LIMIT max(0, (SELECT count(*) FROM machines) - \
        ?1))";
    transaction.execute(sql, [i64::try_from(most).unwrap_or(i64::MAX)]).map(|_| ())
}

fn write_clock_mark(transaction: &Transaction<'_>, mark: &ClockMark) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO clock (id, boot, ahead_s, seen_s, wall_s) VALUES (0, ?1, ?2, \
               ?3, ?4)";
    let values = params![mark.boot, mark.ahead_s, clamp_seconds(mark.seen_s), mark.wall_s];
    transaction.prepare_cached(sql)?.execute(values).map(|_| ())
}

fn write_lease_row(
    transaction: &Transaction<'_>,
    places: &mut LeasePlaces,
    lease: &Lease,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO leases
        (id, address, mac, client_id, uuid, role, arch, host_name, state, start_s, end_s)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'bound', ?9, ?10)";
    let values = params![
        places.place(lease.address),
        lease.address.to_string(),
        lease.mac.to_string(),
        lease.client_id,
        lease.uuid.map(|uuid| uuid.0),
        lease.firmware.map(|firmware| role_name(firmware.role)),
        lease.firmware.and_then(|firmware| firmware.arch).map(Arch::number),
        lease.host_name,
        clamp_seconds(lease.start_s),
        clamp_seconds(lease.end_s),
    ];
    transaction.prepare_cached(sql)?.execute(values)?;

    // Renewals come here too: a machine with a lease is never among those seen longest ago.
    if lease.is_of_booting_machine() {
        // An older lease row of the same machine does not set its time back.
        let sql = "INSERT INTO machines (mac, seen_s) VALUES (?1, ?2)
            ON CONFLICT (mac) DO UPDATE SET seen_s = max(seen_s, excluded.seen_s)";
        transaction
            .prepare_cached(sql)?
            .execute(params![lease.mac.to_string(), clamp_seconds(lease.start_s)])?;
    }
    Ok(())
}

/// None: the row has no hardware address, and admits no machine.
fn parse_machine_row((mac, seen_s): (String, i64)) -> Option<(Mac, ClockSeconds)> {
    Some((mac.parse().ok()?, ClockSeconds::try_from(seen_s).unwrap_or(0)))
}

/// None: the row cannot be read, and counts as a look that never took place.
fn parse_look_row(
    (subnet, looked_s, server): (String, ClockSeconds, Option<OtherServer>),
) -> Option<LookResult> {
    Some(LookResult { network: subnet.parse().ok()?, looked_s, server })
}

/// Parses a row by the order of [`LEASE_COLUMNS`]. It reads text in SQLite's own memory, so
/// that a million rows cause no copies.
fn read_lease_row(row: &Row<'_>) -> Result<Lease, StoreError> {
    // Read first, because the errors below name the row by it.
    let address = read_row_text(row, 0)?.unwrap_or_default();
    let wrong = |column| StoreError::Row { address: address.to_owned(), column };
    let time = |place: usize, column| {
        let seconds: i64 = row.get(place)?;
        ClockSeconds::try_from(seconds).map_err(|_| wrong(column))
    };
    let role = read_row_text(row, 4)?
        .map(|name| find_role_named(name).ok_or_else(|| wrong("role")))
        .transpose()?;
    let arch: Option<u16> = row.get(5)?;

    Ok(Lease {
        address: address.parse::<Ipv4Addr>().map_err(|_| wrong("address"))?,
        mac: read_row_text(row, 1)?.unwrap_or_default().parse::<Mac>().map_err(|_| wrong("mac"))?,
        client_id: row.get(2)?,
        uuid: row.get::<_, Option<[u8; 16]>>(3)?.map(Uuid),
        firmware: role.map(|role| Firmware { role, arch: arch.map(Arch::from_number) }),
        host_name: row.get(6)?,
        state: match read_row_text(row, 7)?.unwrap_or_default() {
            "bound" => LeaseRowState::Bound,
            "released" => LeaseRowState::Released,
            "declined" => LeaseRowState::Declined,
            _ => return Err(wrong("state")),
        },
        start_s: time(8, "start_s")?,
        end_s: time(9, "end_s")?,
    })
}

/// The text of a column in SQLite's own memory; None: NULL.
fn read_row_text<'a>(row: &'a Row<'_>, place: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(row.get_ref(place)?.as_str_or_null()?)
}

/// The address of a lease row that cannot be read, where the row has one.
fn read_row_address(row: &Row<'_>) -> Option<Ipv4Addr> {
    row.get_ref(0).ok()?.as_str().ok()?.parse().ok()
}

const ROLES: [(FirmwareRole, &str); 6] = [
    (FirmwareRole::Pxe, "pxe"),
    (FirmwareRole::HttpBoot, "http-boot"),
    (FirmwareRole::Ipxe, "ipxe"),
    (FirmwareRole::RaspberryPi, "raspberry-pi"),
    (FirmwareRole::UBoot, "u-boot"),
    (FirmwareRole::System, "system"),
];

pub(super) fn role_name(role: FirmwareRole) -> Option<&'static str> {
    ROLES.iter().find(|(known, _)| *known == role).map(|(_, name)| *name)
}

pub(super) fn find_role_named(name: &str) -> Option<FirmwareRole> {
    ROLES.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
}

/// The time as SQLite stores it; an infinite lease becomes the largest integer.
fn clamp_seconds(time: ClockSeconds) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::dhcp::limits::FOREVER_S;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 4, last)
    }

    fn lease(last: u8) -> Lease {
        Lease {
            address: address(last),
            mac: Mac([2, 0, 0, 0, 0, last]),
            client_id: Some(vec![255, 1, 2]),
            uuid: Some(Uuid([last; 16])),
            firmware: Some(Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiArm64) }),
            host_name: Some("node-1".into()),
            state: LeaseRowState::Bound,
            start_s: 1000,
            end_s: 1600,
        }
    }

    fn bare(last: u8) -> Lease {
        Lease { client_id: None, uuid: None, firmware: None, host_name: None, ..lease(last) }
    }

    fn bind(lease: Lease) -> LeaseChange {
        LeaseChange::Bind(Box::new(lease))
    }

    fn rows(store: &mut SqliteStore) -> Vec<Lease> {
        let mut rows = store.load().unwrap();
        rows.sort_by_key(|lease| lease.address);
        rows
    }

    #[test]
    fn rows_survive_a_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ringboot.db");
        let forever = Lease { end_s: FOREVER_S, ..bare(11) };
        let mut all_roles: Vec<Lease> = Vec::new();
        for (n, (role, _)) in ROLES.iter().enumerate() {
            let arch = [None, Some(Arch::Bios), Some(Arch::UefiX64), Some(Arch::Other(22))][n % 4];
            all_roles.push(Lease {
                firmware: Some(Firmware { role: *role, arch }),
                ..lease(20 + n as u8)
            });
        }
        let mut expected = vec![lease(10), forever];
        expected.extend(all_roles);
        {
            let mut store = SqliteStore::open(&path).unwrap();
            let changes: Vec<LeaseChange> = expected.iter().cloned().map(bind).collect();
            store.commit(&changes).unwrap();
        }
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(rows(&mut store), expected);
    }

    #[test]
    fn the_clock_is_kept_with_the_leases_and_an_older_schema_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(SqliteStore::open_with(&path, &MIGRATIONS[..3]).unwrap());
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.mark().unwrap(), None);
        store.commit(&[bind(bare(10))]).unwrap();
        assert_eq!(store.mark().unwrap(), None);
        for seen_s in [7, 9] {
            let mark = ClockMark { boot: "b".into(), ahead_s: -3, seen_s, wall_s: -1 };
            store.commit_with(&[bind(bare(11))], Some(&mark)).unwrap();
            drop(store);
            store = SqliteStore::open(&path).unwrap();
            assert_eq!(store.mark().unwrap(), Some(mark));
        }
        assert_eq!(rows(&mut store), [bare(10), bare(11)]);
    }

    #[test]
    fn no_link_beside_the_database_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("db"), directory.path().join("victim"));
        fs::write(&victim, "x").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o644)).unwrap();
        for ending in ["", "-wal", "-shm"] {
            let link = directory.path().join(format!("db{ending}"));
            std::os::unix::fs::symlink(&victim, &link).unwrap();
            assert!(SqliteStore::open(&path).is_err(), "{ending}");
            assert_eq!(
                fs::metadata(&victim).unwrap().permissions().mode() & 0o777,
                0o644,
                "{ending}"
            );
            fs::remove_file(&link).unwrap();
        }
        fs::remove_file(&path).unwrap_or_default();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        SqliteStore::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
    }

    #[test]
    fn machines_that_booted_are_remembered_when_another_has_their_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        let system = |lease: Lease| Lease {
            firmware: Some(Firmware { role: FirmwareRole::System, arch: None }),
            ..lease
        };
        let newcomer = system(Lease { mac: Mac([4; 6]), ..lease(10) });
        store.commit(&[bind(lease(10)), bind(newcomer), bind(system(lease(11)))]).unwrap();
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.machines().unwrap(), [(lease(10).mac, 1000)], "firmware alone counts");
    }

    #[test]
    fn an_older_lease_row_does_not_set_back_when_its_machine_was_seen() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&directory.path().join("db")).unwrap();
        let older = Lease { address: address(12), start_s: 400, ..lease(10) };
        store.commit(&[bind(lease(10)), bind(older)]).unwrap();
        assert_eq!(store.machines().unwrap(), [(lease(10).mac, 1000)]);
    }

    #[test]
    fn machines_of_an_older_schema_are_remembered_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(SqliteStore::open_with(&path, &MIGRATIONS[..1]).unwrap());
        let insert = "INSERT INTO leases (address, mac, role, arch, state, start_s, end_s) VALUES
            ('192.168.4.10', '02:00:00:00:00:0a', 'pxe', 0, 'bound', 5, 9),
            ('192.168.4.11', '02:00:00:00:00:0b', 'system', NULL, 'bound', 5, 9),
            ('192.168.4.12', '02:00:00:00:00:0c', NULL, NULL, 'declined', 5, 9)";
        Connection::open(&path).unwrap().execute_batch(insert).unwrap();
        assert_eq!(SqliteStore::open(&path).unwrap().machines().unwrap(), [(lease(10).mac, 5)]);
    }

    #[test]
    fn the_last_look_for_other_servers_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let network = "192.168.4.0/24".parse().unwrap();
        let server = OtherServer { mac: Mac([2; 6]), address: address(2) };
        let found = LookResult { network, looked_s: 7, server: Some(server) };
        let nobody = LookResult { looked_s: 9, server: None, ..found };
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.looks().unwrap(), []);
        store.keep_look(&nobody).unwrap();
        store.keep_look(&found).unwrap();
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.looks().unwrap(), [found]);
        assert_eq!(SqliteStore::sound_looks_in(&path).unwrap(), [found], "beside the server");
        store.keep_look(&nobody).unwrap();
        assert_eq!(store.looks().unwrap(), [nobody]);
    }

    #[test]
    fn one_row_per_address_and_only_its_holder_releases_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&directory.path().join("db")).unwrap();
        let renewed = Lease { end_s: 2000, ..lease(10) };
        store.commit(&[bind(lease(10)), bind(renewed.clone())]).unwrap();
        let stranger = LeaseChange::Release { address: address(10), mac: Mac([9; 6]), end_s: 1 };
        store.commit(&[stranger]).unwrap();
        assert_eq!(rows(&mut store).first(), Some(&renewed));
        let release = LeaseChange::Release { address: address(10), mac: renewed.mac, end_s: 1700 };
        let decline =
            LeaseChange::Decline { address: address(11), mac: renewed.mac, until_s: 9000 };
        let volatile = LeaseChange::Forget { address: address(10), mac: renewed.mac };
        store.commit(&[release, decline, volatile]).unwrap();
        let rows = rows(&mut store);
        assert_eq!(rows[0], Lease { state: LeaseRowState::Released, end_s: 1700, ..renewed });
        assert_eq!((rows[1].state, rows[1].end_s), (LeaseRowState::Declined, 9000));
    }

    /// The addresses in the order of their rows.
    fn places(store: &SqliteStore) -> Vec<(i64, String)> {
        let mut statement =
            store.connection.prepare("SELECT id, address FROM leases ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(|row| row.unwrap()).collect()
    }

    fn place(id: i64, last: u8) -> (i64, String) {
        (id, address(last).to_string())
    }

    #[test]
    fn a_new_address_gets_the_next_row_and_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[bind(lease(40)), bind(lease(20)), bind(lease(30))]).unwrap();
        store.commit(&[bind(lease(30)), bind(lease(40))]).unwrap();
        let three = [place(1, 40), place(2, 20), place(3, 30)];
        assert_eq!(places(&store), three);
        drop(store);
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[bind(lease(20)), bind(lease(10))]).unwrap();
        let four = [&three[..], &[place(4, 10)]].concat();
        assert_eq!(places(&store), four, "found in the table, before anybody read it");
        let free = |last| LeaseChange::Free { address: address(last) };
        store.commit(&[free(20), free(99), bind(lease(50))]).unwrap();
        assert_eq!(places(&store), [place(1, 40), place(3, 30), place(4, 10), place(5, 50)]);
        store.commit(&[bind(lease(20))]).unwrap();
        assert_eq!(places(&store)[1], place(2, 20), "where it was");
    }

    #[test]
    fn after_a_transaction_that_failed_each_address_has_one_row() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[bind(lease(1))]).unwrap();
        store
            .connection
            .execute_batch(
                "CREATE TEMP TRIGGER refuse BEFORE INSERT ON leases WHEN NEW.mac LIKE '%0d'
                 BEGIN SELECT RAISE(ABORT, 'full'); END",
            )
            .unwrap();
        store.commit(&[bind(lease(12)), bind(lease(13))]).unwrap_err();
        store.connection.execute_batch("DROP TRIGGER refuse").unwrap();
        store.commit(&[bind(lease(14)), bind(lease(13)), bind(lease(12))]).unwrap();
        let given: Vec<String> = places(&store).into_iter().map(|(_, address)| address).collect();
        assert_eq!(given, [1, 12, 13, 14].map(|last| address(last).to_string()));
        assert_eq!(rows(&mut store), [1, 12, 13, 14].map(lease));
    }

    #[test]
    fn a_second_row_of_an_address_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[bind(lease(10)), bind(lease(11))]).unwrap();
        let copy = "INSERT INTO leases (address, mac, state, start_s, end_s)
            SELECT address, 'x', state, start_s, end_s FROM leases WHERE id = 1";
        store.connection.execute(copy, []).unwrap();
        drop(store);
        let (mut store, mut leases) = (SqliteStore::open(&path).unwrap(), Vec::new());
        let odd = store.each_lease(|lease| leases.push(lease)).unwrap();
        assert_eq!(leases, [lease(10), lease(11)]);
        let why = "row 3 has the address of a row before it".to_owned();
        assert_eq!(odd, [OddRow { address: None, why }]);
        let renewed = Lease { end_s: 2000, ..lease(10) };
        store.commit(&[bind(renewed.clone()), bind(lease(12))]).unwrap();
        assert_eq!(places(&store)[2..], [place(3, 10), place(4, 12)], "nothing is overwritten");
        leases.clear();
        store.each_lease(|lease| leases.push(lease)).unwrap();
        assert_eq!(leases, [renewed, lease(11), lease(12)]);
    }

    #[test]
    fn leases_that_had_their_address_as_a_key_are_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(SqliteStore::open_with(&path, &MIGRATIONS[..4]).unwrap());
        let insert = "INSERT INTO leases VALUES ('192.168.4.10', '02:00:00:00:00:0a', x'ff0102',
            x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', 'ipxe', 11, 'node-1', 'bound', 1000, 1600)";
        Connection::open(&path).unwrap().execute(insert, []).unwrap();
        let read = |leases: &mut Vec<Lease>| {
            SqliteStore::each_lease_in(&path, |lease| leases.push(lease)).unwrap()
        };
        let mut before = Vec::new();
        assert_eq!(read(&mut before).0, [], "a command reads the older schema too");
        assert_eq!(before, [lease(10)]);
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(rows(&mut store), before);
        store.commit(&[bind(lease(9)), bind(before[0].clone())]).unwrap();
        assert_eq!(places(&store), [place(1, 10), place(2, 9)]);
    }

    #[test]
    fn the_database_and_its_companions_are_the_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[bind(bare(10))]).unwrap();
        for name in ["db", "db-wal", "db-shm"] {
            let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_batch_is_one_transaction() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        let refuse =
            "CREATE TRIGGER refuse BEFORE INSERT ON leases WHEN NEW.address = '192.168.4.13'
            BEGIN SELECT RAISE(ABORT, 'full'); END";
        Connection::open(&path).unwrap().execute_batch(refuse).unwrap();
        assert!(store.commit(&[bind(lease(12)), bind(lease(13)), bind(lease(14))]).is_err());
        assert_eq!(rows(&mut store), [], "nothing of a batch that failed");
        store.commit(&[bind(lease(12)), bind(lease(14))]).unwrap();
        assert_eq!(rows(&mut store).len(), 2, "and the next one is fine");
    }

    #[test]
    fn of_machines_the_freshest_are_kept_and_none_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&directory.path().join("db")).unwrap();
        let more = MACHINES_MAX + 500;
        let sql = "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n LIMIT ?1)
            INSERT INTO machines SELECT format('03:00:00:%02x:%02x:%02x', n >> 16, n >> 8 & 255, n \
            & 255), ?2 + n % 7000 FROM n";
        let now = 2 * MACHINE_REMEMBERED_S;
        store.connection.execute(sql, [i64::try_from(more).unwrap(), clamp_seconds(now)]).unwrap();
        let sql =
            "INSERT INTO machines VALUES ('05:00:00:00:00:00', ?1), ('05:00:00:00:00:01', ?2)";
        store
            .connection
            .execute(sql, [clamp_seconds(now / 2 - 1), clamp_seconds(now / 2 + 9000)])
            .unwrap();
        let number = |store: &SqliteStore, sql: &str| -> u64 {
            store.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
        };
        let count = |store: &SqliteStore| number(store, "SELECT count(*) FROM machines");
        // One that has a lease renews it.
        store
            .commit(&[bind(Lease { start_s: now + 8000, end_s: now + 9000, ..lease(10) })])
            .unwrap();
        assert_eq!(count(&store), MACHINES_MAX as u64);
        let oldest = number(&store, "SELECT min(seen_s) FROM machines");
        assert!(oldest > now + 40, "{oldest}: those that were seen longest ago have gone");
        let own = "SELECT seen_s FROM machines WHERE mac = '02:00:00:00:00:0a'";
        assert_eq!(number(&store, own), now + 8000);
        let later = |n: u64| Lease {
            start_s: now + 9000 + MACHINE_REMEMBERED_S,
            ..lease(10 + (n % 9) as u8)
        };
        store
            .commit(&(0..=MACHINES_WRITTEN as u64).map(|n| bind(later(n))).collect::<Vec<_>>())
            .unwrap();
        assert_eq!(count(&store), 9, "the others were not seen for too long");
    }

    #[test]
    fn commits_are_synced_each() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("db")).unwrap();
        let pragma = |name: &str| -> String {
            let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            store.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!((pragma("journal_mode").as_str(), pragma("synchronous").as_str()), ("wal", "2"));
    }

    #[test]
    fn a_newer_schema_is_refused_and_an_odd_row_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[bind(bare(10))]).unwrap();
        store.connection.execute("UPDATE leases SET mac = 'x'", []).unwrap();
        let said = store.load().unwrap_err().to_string();
        assert!(said.contains("192.168.4.10") && said.contains("mac"), "{said}");
        store.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        let said = SqliteStore::open(&path).unwrap_err().to_string();
        assert!(said.contains("newer ringboot") && said.contains("99"), "{said}");
        let nowhere = SqliteStore::open(Path::new("/nonexistent/db")).unwrap_err().to_string();
        assert!(nowhere.starts_with("/nonexistent/db:"), "{nowhere}");
    }

    #[test]
    fn an_older_schema_is_kept_beside_before_it_is_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "CREATE TABLE leases (address TEXT PRIMARY KEY, mac TEXT NOT NULL, state TEXT NOT \
             NULL, start_s INTEGER, end_s
             INTEGER); INSERT INTO leases VALUES ('192.168.4.10', '52:54:00:00:00:0a', 'bound', 1, \
             2); PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        let steps = [
            "SELECT this step was taken long ago",
            "ALTER TABLE leases ADD COLUMN client_id BLOB; ALTER TABLE leases ADD COLUMN uuid \
             BLOB;",
            "ALTER TABLE leases ADD COLUMN role TEXT; ALTER TABLE leases ADD COLUMN arch INTEGER;
             ALTER TABLE leases ADD COLUMN host_name TEXT;",
        ];
        let mut store = SqliteStore::open_with(&path, &steps).unwrap();
        assert_eq!(rows(&mut store).len(), 1, "the lease has come along");
        assert_eq!(read_schema_version(&store.connection).unwrap(), 3);
        let columns = |connection: &Connection| {
            connection.prepare("SELECT * FROM leases").unwrap().column_count()
        };
        assert_eq!(columns(&store.connection), 10);
        let kept = Connection::open(directory.path().join("db.schema-1.bak")).unwrap();
        assert_eq!((read_schema_version(&kept).unwrap(), columns(&kept)), (1, 5));
        let mode =
            fs::metadata(directory.path().join("db.schema-1.bak")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        drop(store);
        SqliteStore::open_with(&path, &steps).unwrap();
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            2,
            "nothing to change, nothing to keep"
        );
    }

    #[test]
    fn a_step_that_fails_leaves_the_older_schema_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(SqliteStore::open(&path).unwrap());
        let broken = "ALTER TABLE leases ADD COLUMN more TEXT; SELECT no such thing";
        let steps = [&MIGRATIONS[..], &[broken]].concat();
        assert!(SqliteStore::open_with(&path, &steps).is_err());
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(read_schema_version(&store.connection).unwrap(), count_known_schemas());
    }

    #[test]
    fn a_link_in_the_place_of_the_database_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::os::unix::fs::symlink(&target, directory.path().join("db")).unwrap();
        assert!(SqliteStore::open(&directory.path().join("db")).is_err());
        assert!(!target.exists());
    }
}
