//! Leases in one SQLite file: WAL, synchronous=FULL, one row per address, readable with `sqlite3` while ringboot runs.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, Transaction, params};

use super::backup::copy;
use super::{Store, StoreError};
use crate::boot::machine::{Arch, Firmware, Mac, Role, Uuid};
use crate::dhcp::lease::{Change, Lease, State, Time};
use crate::dhcp::limits::MACHINES_MAX;
use crate::dhcp::neighbours::Look;
use crate::dhcp::subnet::OtherServer;

/// One step per schema version; `user_version` counts those that were taken. Steps are only ever added.
const MIGRATIONS: [&str; 3] = [
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
CREATE TABLE machines (             -- booted from the network once: served under clients = 'pxe' though their system is silent
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
];

/// How long a commit waits for an operator's `sqlite3` that holds the file.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Leases name machines and people's habits: read and written by the owner alone.
const PRIVATE: u32 = 0o600;

/// The lease table of one box.
#[derive(Debug)]
pub struct SqliteStore {
    pub(super) connection: Connection,
}

impl SqliteStore {
    /// Opens or creates the database, brings its schema up to date (the older one is kept beside it), and refuses one from
    /// the future.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &MIGRATIONS)
    }

    fn open_with(path: &Path, migrations: &[&str]) -> Result<Self, StoreError> {
        let shown = || path.display().to_string();
        keep_private(path).map_err(|error| StoreError::Private { path: shown(), error })?;
        let mut connection = connect(path).map_err(|source| StoreError::Open { path: shown(), source })?;
        let found = schema_of(&connection)?;
        let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
        if found > known {
            return Err(StoreError::Newer { path: shown(), found, known });
        }
        if 0 < found && found < known {
            let kept = keep_older_schema(&connection, path, found)?;
            tracing::info!("{}: schema {found} becomes {known}; the older one is in {}", shown(), kept.display());
        }
        let transaction = connection.transaction()?;
        for step in migrations.iter().skip(usize::try_from(found).unwrap_or(0)) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()?;
        Ok(Self { connection })
    }
}

/// `ringboot.db.schema-3.bak`: the way back for whoever returns to the ringboot of before.
fn keep_older_schema(connection: &Connection, path: &Path, schema: i64) -> Result<PathBuf, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".schema-{schema}.bak"));
    let kept = PathBuf::from(name);
    // One of an earlier update is older than what is about to be changed.
    match fs::remove_file(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::Copy { path: kept.display().to_string(), error: error.to_string() });
        }
        _ => {}
    }
    copy(connection, &kept)?;
    Ok(kept)
}

/// Counts the migrations that a database has seen; 0: an empty file, or somebody else's database.
pub(super) fn schema_of(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// The schema that this ringboot writes.
pub(super) fn schema_known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Every lease of a database, of whatever connection.
pub(super) fn leases(connection: &Connection) -> Result<Vec<Lease>, StoreError> {
    let mut statement = connection.prepare("SELECT * FROM leases ORDER BY start_s")?;
    let mut rows = statement.query([])?;
    let mut leases = Vec::new();
    while let Some(row) = rows.next()? {
        leases.push(read(row)?);
    }
    Ok(leases)
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Vec<Lease>, StoreError> {
        leases(&self.connection)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for change in changes {
            write(&transaction, change)?;
        }
        Ok(transaction.commit()?)
    }
}

impl SqliteStore {
    /// The machines that booted from the network, the freshest first.
    pub fn machines(&self) -> Result<Vec<Mac>, StoreError> {
        let mut statement = self.connection.prepare("SELECT mac FROM machines ORDER BY seen_s DESC LIMIT ?1")?;
        let rows =
            statement.query_map([i64::try_from(MACHINES_MAX).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
        // A row that is no hardware address admits nobody.
        Ok(rows.collect::<Result<Vec<_>, _>>()?.iter().filter_map(|mac| mac.parse().ok()).collect())
    }

    /// The same of a database that a server may be writing to: nothing is created or changed.
    pub fn looks_in(database: &Path) -> Result<Vec<Look>, StoreError> {
        Self::read_only(database)?.looks()
    }

    /// Opens a database that a server may be writing to.
    pub(super) fn read_only(database: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: database.display().to_string(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags).map_err(open)?;
        connection.busy_timeout(BUSY_WAIT)?;
        Ok(Self { connection })
    }

    /// What the last look at each subnet found.
    pub fn looks(&self) -> Result<Vec<Look>, StoreError> {
        let mut statement = self.connection.prepare("SELECT subnet, looked_s, mac, address FROM other_servers")?;
        let rows = statement.query_map([], |row| {
            let (mac, address): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
            let server = mac.zip(address).and_then(|(mac, address)| {
                Some(OtherServer { mac: mac.parse().ok()?, address: address.parse().ok()? })
            });
            let looked_s = Time::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
            Ok((row.get::<_, String>(0)?, looked_s, server))
        })?;
        // A row that is not understood is a look that did not take place.
        let look = |(subnet, looked_s, server): (String, Time, _)| {
            Some(Look { network: subnet.parse().ok()?, looked_s, server })
        };
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(look).collect())
    }

    /// Keeps what a look found, in the place of the one before.
    pub fn keep_look(&self, look: &Look) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO other_servers (subnet, looked_s, mac, address) VALUES (?1, ?2, ?3, ?4)";
        let values = params![
            look.network.to_string(),
            seconds(look.looked_s),
            look.server.map(|server| server.mac.to_string()),
            look.server.map(|server| server.address.to_string()),
        ];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// The database and what SQLite lays beside it are their owner's alone, whatever the umask: SQLite gives the files that it
/// makes the mode of the database.
fn keep_private(path: &Path) -> io::Result<()> {
    // A link in its place is not followed: root must not write where somebody else points.
    OpenOptions::new().create(true).append(true).mode(PRIVATE).custom_flags(libc::O_NOFOLLOW).open(path)?;
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match fs::set_permissions(&name, Permissions::from_mode(PRIVATE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Whoever owns the directory may have put a link in the place of the file, for root to write through. SQLite refuses a
    // link anywhere in the name, so those on the way to the directory are resolved here.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What cannot be resolved cannot be opened either, and SQLite says why.
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(directory.join(path.file_name().unwrap_or_default()), flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    // FULL: in WAL mode every commit is synced, not only every checkpoint. An ACK stands for a synced row.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Bind(lease) => bind(transaction, lease),
        Change::Release { address, mac, end_s } => {
            let sql = "UPDATE leases SET state = 'released', end_s = ?3 WHERE address = ?1 AND mac = ?2";
            let values = params![address.to_string(), mac.to_string(), seconds(*end_s)];
            transaction.prepare_cached(sql)?.execute(values).map(|_| ())
        }
        Change::Decline { address, mac, until_s } => {
            let sql = "INSERT INTO leases (address, mac, state, start_s, end_s) VALUES (?1, ?2, 'declined', ?3, ?3)
                ON CONFLICT (address) DO UPDATE SET mac = ?2, state = 'declined', end_s = ?3";
            let values = params![address.to_string(), mac.to_string(), seconds(*until_s)];
            transaction.prepare_cached(sql)?.execute(values).map(|_| ())
        }
        Change::Offer { .. } | Change::Forget { .. } => Ok(()),
    }
}

fn bind(transaction: &Transaction<'_>, lease: &Lease) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO leases
        (address, mac, client_id, uuid, role, arch, host_name, state, start_s, end_s)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'bound', ?8, ?9)";
    let values = params![
        lease.address.to_string(),
        lease.mac.to_string(),
        lease.client_id,
        lease.uuid.map(|uuid| uuid.0),
        lease.firmware.map(|firmware| role_name(firmware.role)),
        lease.firmware.and_then(|firmware| firmware.arch).map(Arch::number),
        lease.host_name,
        seconds(lease.start_s),
        seconds(lease.end_s),
    ];
    transaction.prepare_cached(sql)?.execute(values)?;
    if lease.is_of_booting_machine() {
        let sql = "INSERT OR REPLACE INTO machines (mac, seen_s) VALUES (?1, ?2)";
        transaction.prepare_cached(sql)?.execute(params![lease.mac.to_string(), seconds(lease.start_s)])?;
    }
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Lease, StoreError> {
    let address: String = row.get("address")?;
    let wrong = |column| StoreError::Row { address: address.clone(), column };
    let time = |column: &'static str| {
        let seconds: i64 = row.get(column)?;
        Time::try_from(seconds).map_err(|_| wrong(column))
    };
    let state: String = row.get("state")?;
    let role: Option<String> = row.get("role")?;
    let arch: Option<u16> = row.get("arch")?;
    let role = role.map(|name| role_named(&name).ok_or_else(|| wrong("role"))).transpose()?;
    Ok(Lease {
        address: address.parse::<Ipv4Addr>().map_err(|_| wrong("address"))?,
        mac: row.get::<_, String>("mac")?.parse::<Mac>().map_err(|_| wrong("mac"))?,
        client_id: row.get("client_id")?,
        uuid: row.get::<_, Option<[u8; 16]>>("uuid")?.map(Uuid),
        firmware: role.map(|role| Firmware { role, arch: arch.map(Arch::from_number) }),
        host_name: row.get("host_name")?,
        state: match state.as_str() {
            "bound" => State::Bound,
            "released" => State::Released,
            "declined" => State::Declined,
            _ => return Err(wrong("state")),
        },
        start_s: time("start_s")?,
        end_s: time("end_s")?,
    })
}

const ROLES: [(Role, &str); 6] = [
    (Role::Pxe, "pxe"),
    (Role::HttpBoot, "http-boot"),
    (Role::Ipxe, "ipxe"),
    (Role::RaspberryPi, "raspberry-pi"),
    (Role::UBoot, "u-boot"),
    (Role::System, "system"),
];

pub(super) fn role_name(role: Role) -> Option<&'static str> {
    ROLES.iter().find(|(known, _)| *known == role).map(|(_, name)| *name)
}

pub(super) fn role_named(name: &str) -> Option<Role> {
    ROLES.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
}

/// A lease without end is the largest time that SQLite can hold.
fn seconds(time: Time) -> i64 {
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
            firmware: Some(Firmware { role: Role::Ipxe, arch: Some(Arch::UefiArm64) }),
            host_name: Some("node-1".into()),
            state: State::Bound,
            start_s: 1000,
            end_s: 1600,
        }
    }

    fn bare(last: u8) -> Lease {
        Lease { client_id: None, uuid: None, firmware: None, host_name: None, ..lease(last) }
    }

    fn bind(lease: Lease) -> Change {
        Change::Bind(Box::new(lease))
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
            all_roles.push(Lease { firmware: Some(Firmware { role: *role, arch }), ..lease(20 + n as u8) });
        }
        let mut expected = vec![lease(10), forever];
        expected.extend(all_roles);
        {
            let mut store = SqliteStore::open(&path).unwrap();
            let changes: Vec<Change> = expected.iter().cloned().map(bind).collect();
            store.commit(&changes).unwrap();
        }
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(rows(&mut store), expected);
    }

    #[test]
    fn machines_that_booted_are_remembered_when_another_has_their_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        let system = |lease: Lease| Lease { firmware: Some(Firmware { role: Role::System, arch: None }), ..lease };
        let newcomer = system(Lease { mac: Mac([4; 6]), ..lease(10) });
        store.commit(&[bind(lease(10)), bind(newcomer), bind(system(lease(11)))]).unwrap();
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.machines().unwrap(), [lease(10).mac], "firmware alone counts");
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
        assert_eq!(SqliteStore::open(&path).unwrap().machines().unwrap(), [lease(10).mac]);
    }

    #[test]
    fn the_last_look_for_other_servers_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let network = "192.168.4.0/24".parse().unwrap();
        let server = OtherServer { mac: Mac([2; 6]), address: address(2) };
        let found = Look { network, looked_s: 7, server: Some(server) };
        let nobody = Look { looked_s: 9, server: None, ..found };
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.looks().unwrap(), []);
        store.keep_look(&nobody).unwrap();
        store.keep_look(&found).unwrap();
        drop(store);
        let store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.looks().unwrap(), [found]);
        assert_eq!(SqliteStore::looks_in(&path).unwrap(), [found], "beside the server");
        store.keep_look(&nobody).unwrap();
        assert_eq!(store.looks().unwrap(), [nobody]);
    }

    #[test]
    fn one_row_per_address_and_only_its_holder_releases_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&directory.path().join("db")).unwrap();
        let renewed = Lease { end_s: 2000, ..lease(10) };
        store.commit(&[bind(lease(10)), bind(renewed.clone())]).unwrap();
        let stranger = Change::Release { address: address(10), mac: Mac([9; 6]), end_s: 1 };
        store.commit(&[stranger]).unwrap();
        assert_eq!(rows(&mut store).first(), Some(&renewed));
        let release = Change::Release { address: address(10), mac: renewed.mac, end_s: 1700 };
        let decline = Change::Decline { address: address(11), mac: renewed.mac, until_s: 9000 };
        let volatile = Change::Forget { address: address(10), mac: renewed.mac };
        store.commit(&[release, decline, volatile]).unwrap();
        let rows = rows(&mut store);
        assert_eq!(rows[0], Lease { state: State::Released, end_s: 1700, ..renewed });
        assert_eq!((rows[1].state, rows[1].end_s), (State::Declined, 9000));
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
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON leases WHEN NEW.address = '192.168.4.13'
            BEGIN SELECT RAISE(ABORT, 'full'); END";
        Connection::open(&path).unwrap().execute_batch(refuse).unwrap();
        assert!(store.commit(&[bind(lease(12)), bind(lease(13)), bind(lease(14))]).is_err());
        assert_eq!(rows(&mut store), [], "nothing of a batch that failed");
        store.commit(&[bind(lease(12)), bind(lease(14))]).unwrap();
        assert_eq!(rows(&mut store).len(), 2, "and the next one is fine");
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
            "CREATE TABLE leases (address TEXT PRIMARY KEY, mac TEXT NOT NULL, state TEXT NOT NULL, start_s INTEGER, end_s
             INTEGER); INSERT INTO leases VALUES ('192.168.4.10', '52:54:00:00:00:0a', 'bound', 1, 2); PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        let steps = [
            "SELECT this step was taken long ago",
            "ALTER TABLE leases ADD COLUMN client_id BLOB; ALTER TABLE leases ADD COLUMN uuid BLOB;",
            "ALTER TABLE leases ADD COLUMN role TEXT; ALTER TABLE leases ADD COLUMN arch INTEGER;
             ALTER TABLE leases ADD COLUMN host_name TEXT;",
        ];
        let mut store = SqliteStore::open_with(&path, &steps).unwrap();
        assert_eq!(rows(&mut store).len(), 1, "the lease has come along");
        assert_eq!(schema_of(&store.connection).unwrap(), 3);
        let columns = |connection: &Connection| connection.prepare("SELECT * FROM leases").unwrap().column_count();
        assert_eq!(columns(&store.connection), 10);
        let kept = Connection::open(directory.path().join("db.schema-1.bak")).unwrap();
        assert_eq!((schema_of(&kept).unwrap(), columns(&kept)), (1, 5));
        let mode = fs::metadata(directory.path().join("db.schema-1.bak")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        drop(store);
        SqliteStore::open_with(&path, &steps).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing to change, nothing to keep");
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
        assert_eq!(schema_of(&store.connection).unwrap(), schema_known());
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
