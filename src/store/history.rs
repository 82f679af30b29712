//! The history of machines in a SQLite file of its own, so that `ringboot why` knows it after a
//! restart.
//!
//! It is not in the lease database, because the commit of a lease must not wait for it, and it does
//! little harm if a power cut takes its last seconds.

use std::fs::OpenOptions;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Statement, params};

use super::StoreError;
use super::self_repair::DatabaseFiles;
use super::sqlite::{BUSY_WAIT, find_role_named, role_name};
use crate::model::machine::{Arch, Firmware, Mac};
use crate::observe::events::{EventKind, FileDenial, MachineStage, UnansweredReason};
use crate::observe::journal::{ENTRIES_MAX, JournalChange};
use crate::observe::timeline::JournalEntry;

/// The schema that this program writes. History of another schema is deleted, not migrated. 2: the
/// table is bounded by its bytes.
const SCHEMA: i64 = 2;

/// One row per entry; a machine's rows are a ring, so that the table is bounded by the journal's
/// limits.
const TABLE: &str = "
CREATE TABLE entries (
    mac     TEXT NOT NULL,     -- 52:54:00:12:34:10
    slot    INTEGER NOT NULL,  -- number modulo the ring's length
    number  INTEGER NOT NULL,  -- counts the machine's entries
    at_ms   INTEGER NOT NULL,  -- unix milliseconds
    address TEXT,
    stage   TEXT NOT NULL,
    kind    TEXT NOT NULL,
    name    TEXT,              -- of a file, a role, a server: what the kind needs
    detail  TEXT,
    value   INTEGER,
    text    TEXT NOT NULL,
    PRIMARY KEY (mac, slot)
) STRICT, WITHOUT ROWID;
";

/// The history database, open for writing or only for reading.
#[derive(Debug)]
pub struct HistoryDatabase {
    connection: Connection,
    path: PathBuf,
    files: DatabaseFiles,
}

impl HistoryDatabase {
    /// Opens or creates the database for the server. Only its owner can read it, because it names
    /// machines.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        drop(options.open(path).map_err(|error| refuse_history(path, error))?);
        let open = || Connection::open(path).map_err(|source| refuse_history(path, source));
        let mut connection = open()?;
        let found: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(|source| refuse_history(path, source))?;
        if found != 0 && found != SCHEMA {
            // Emptying a large table takes longer than a start may.
            drop(connection);
            for part in ["-wal", "-shm", ""] {
                let mut name = path.as_os_str().to_owned();
                name.push(part);
                let _ = std::fs::remove_file(name);
            }
            drop(options.open(path).map_err(|error| refuse_history(path, error))?);
            connection = open()?;
        }
        let mut history =
            Self { connection, path: path.to_owned(), files: DatabaseFiles::default() };
        history.prepare().map_err(|source| refuse_history(path, source))?;
        history.files = DatabaseFiles::of(path);
        Ok(history)
    }

    /// Opens the database for reading, while a server writes to it or after the server has ended.
    pub fn read_only(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|source| refuse_history(path, source))?;
        connection.busy_timeout(BUSY_WAIT)?;
        Ok(Self { connection, path: path.to_owned(), files: DatabaseFiles::default() })
    }

    /// Hands over every entry: machines by the time of their last entry, the entries of each in
    /// order. Entries that cannot be read are left out.
    pub fn load(&self, mut take: impl FnMut((Mac, u64, JournalEntry))) -> Result<(), StoreError> {
        let sql =
            "SELECT entries.* FROM entries JOIN (SELECT mac, max(at_ms) AS heard FROM entries \
             GROUP BY mac) USING (mac)
            ORDER BY heard, mac, number";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            read_history_entry(row)?.into_iter().for_each(&mut take);
        }
        Ok(())
    }

    /// The entries of one machine, oldest first.
    pub fn entries(&self, mac: Mac) -> Result<Vec<JournalEntry>, StoreError> {
        let mut statement =
            self.connection.prepare("SELECT * FROM entries WHERE mac = ?1 ORDER BY number")?;
        let rows = statement
            .query_map([mac.to_string()], read_history_entry)?
            .filter_map(Result::transpose);
        Ok(rows.map(|row| row.map(|(_, _, entry)| entry)).collect::<Result<_, _>>()?)
    }

    /// The machine that last used this address.
    pub fn find(&self, address: IpAddr) -> Result<Option<Mac>, StoreError> {
        let sql = "SELECT mac FROM entries WHERE address = ?1 ORDER BY at_ms DESC LIMIT 1";
        let address = address.to_canonical().to_string();
        let found: Option<String> =
            self.connection.query_row(sql, [address], |row| row.get(0)).optional()?;
        Ok(found.and_then(|mac| mac.parse().ok()))
    }

    /// Whether the open file is still the one that the next start will find.
    pub fn is_in_place(&mut self) -> bool {
        self.files.check(&self.path).is_ok()
    }

    /// Writes a batch in one transaction.
    pub fn keep(&mut self, notes: &[JournalChange]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        let mut forget = transaction.prepare_cached("DELETE FROM entries WHERE mac = ?1")?;
        let mut replace = transaction.prepare_cached(REPLACE)?;
        for note in notes {
            match note {
                JournalChange::Entry { mac, number, entry } => {
                    write_history_entry(&mut replace, *mac, *number, entry)?
                }
                JournalChange::Forgotten(mac) => {
                    forget.execute([mac.to_string()])?;
                }
            }
        }
        drop((forget, replace));
        Ok(transaction.commit()?)
    }

    fn prepare(&mut self) -> rusqlite::Result<()> {
        let connection = &mut self.connection;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // NORMAL: no sync for each commit. A power cut may take the last seconds, never the file.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // Earlier versions had one. Only `why` without a server looks for an address.
        connection.execute_batch("DROP INDEX IF EXISTS entries_by_address")?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found != SCHEMA {
            let transaction = connection.transaction()?;
            transaction.execute_batch("DROP TABLE IF EXISTS entries")?;
            transaction.execute_batch(TABLE)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
            transaction.commit()?;
        }
        Ok(())
    }
}

fn refuse_history(path: &Path, reason: impl std::fmt::Display) -> StoreError {
    StoreError::History { path: path.display().to_string(), reason: reason.to_string() }
}

/// The columns that store the kind of an entry.
#[derive(Debug, Default, PartialEq, Eq)]
struct KindColumns {
    kind: String,
    name: Option<String>,
    detail: Option<String>,
    value: Option<i64>,
}

impl KindColumns {
    fn new(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }

    fn with_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    fn with_firmware(self, to: Firmware) -> Self {
        Self {
            name: role_name(to.role).map(str::to_owned),
            value: to.arch.map(|arch| arch.number().into()),
            ..self
        }
    }
}

/// The slot is part of the key: an entry replaces the one that is a whole ring older.
const REPLACE: &str =
    "INSERT OR REPLACE INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

fn write_history_entry(
    replace: &mut Statement<'_>,
    mac: Mac,
    number: u64,
    entry: &JournalEntry,
) -> rusqlite::Result<()> {
    let KindColumns { kind, name, detail, value } = split_kind_columns(&entry.kind);
    let values = params![
        mac.to_string(),
        clamp_history_integer(number % ENTRIES_MAX as u64),
        clamp_history_integer(number),
        clamp_history_integer(entry.at_ms),
        entry.address.map(|address| address.to_canonical().to_string()),
        entry.stage.as_str(),
        kind,
        name,
        detail,
        value,
        entry.text,
    ];
    replace.execute(values).map(|_| ())
}

/// The entry of a row; None: another version wrote it.
fn read_history_entry(row: &Row<'_>) -> rusqlite::Result<Option<(Mac, u64, JournalEntry)>> {
    // A column that SQLite cannot give is an error. A value that this version does not know only
    // leaves its entry out.
    Ok(HistoryRow::read(row)?.parse())
}

/// The columns of an entry as SQLite gives them.
struct HistoryRow {
    mac: String,
    stage: String,
    address: Option<String>,
    kind: KindColumns,
    number: i64,
    at_ms: i64,
    text: String,
}

impl HistoryRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            mac: row.get("mac")?,
            stage: row.get("stage")?,
            address: row.get("address")?,
            kind: KindColumns {
                kind: row.get("kind")?,
                name: row.get("name")?,
                detail: row.get("detail")?,
                value: row.get("value")?,
            },
            number: row.get("number")?,
            at_ms: row.get("at_ms")?,
            text: row.get("text")?,
        })
    }

    fn parse(self) -> Option<(Mac, u64, JournalEntry)> {
        let entry = JournalEntry {
            at_ms: u64::try_from(self.at_ms).ok()?,
            address: self.address.and_then(|address| address.parse().ok()),
            stage: MachineStage::ALL.into_iter().find(|known| known.as_str() == self.stage)?,
            kind: join_kind_columns(self.kind)?,
            text: self.text,
        };
        Some((self.mac.parse().ok()?, u64::try_from(self.number).ok()?, entry))
    }
}

fn clamp_history_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn split_kind_columns(kind: &EventKind) -> KindColumns {
    match kind {
        EventKind::Offered { to } => KindColumns::new("offered").with_firmware(*to),
        EventKind::Leased { to, twin } => KindColumns {
            detail: twin.then(|| "twin".to_owned()),
            ..KindColumns::new("leased").with_firmware(*to)
        },
        EventKind::NoLoader { to, why } => KindColumns {
            detail: Some(why.clone()),
            ..KindColumns::new("no-loader").with_firmware(*to)
        },
        EventKind::Renewed => KindColumns::new("renewed"),
        EventKind::Nak => KindColumns::new("nak"),
        EventKind::NoAddressFree => KindColumns::new("no-address-free"),
        EventKind::OtherServer { server } => {
            KindColumns::new("other-server").with_name(&server.to_string())
        }
        EventKind::Declined => KindColumns::new("declined"),
        EventKind::Released => KindColumns::new("released"),
        EventKind::Unanswered { why, about, other } => {
            let other =
                other.map_or_else(String::new, |(address, mac)| format!(" {address} {mac}"));
            KindColumns {
                detail: Some(format!("{}{other}", why.as_str())),
                ..KindColumns::new("unanswered").with_name(about)
            }
        }
        EventKind::Conflict => KindColumns::new("conflict"),
        EventKind::PoolFills => KindColumns::new("pool-fills"),
        EventKind::PoolHasRoom => KindColumns::new("pool-has-room"),
        EventKind::SizeProbe => KindColumns::new("size-probe"),
        EventKind::Sent { name, bytes } => KindColumns {
            value: Some(clamp_history_integer(*bytes)),
            ..KindColumns::new("sent").with_name(name)
        },
        EventKind::Missing { name, rule } => {
            KindColumns { detail: rule.clone(), ..KindColumns::new("missing").with_name(name) }
        }
        EventKind::Denied { name, why } => KindColumns {
            detail: Some(why.as_str().to_owned()),
            ..KindColumns::new("denied").with_name(name)
        },
        EventKind::TemplateFailed => KindColumns::new("template-failed"),
        EventKind::WriteRefused => KindColumns::new("write-refused"),
        EventKind::BadRequest => KindColumns::new("bad-request"),
        EventKind::Stalled { name, block } => KindColumns {
            value: Some(clamp_history_integer(*block)),
            ..KindColumns::new("stalled").with_name(name)
        },
        EventKind::ClientAborted { name, code } => KindColumns {
            value: Some((*code).into()),
            ..KindColumns::new("client-aborted").with_name(name)
        },
        EventKind::Changed { name } => KindColumns::new("changed").with_name(name),
        EventKind::Forged { name } => KindColumns::new("forged").with_name(name),
        EventKind::TooSlow => KindColumns::new("too-slow"),
        EventKind::Failed => KindColumns::new("failed"),
        EventKind::Short => KindColumns::new("short"),
        EventKind::Other => KindColumns::new("other"),
    }
}

fn join_kind_columns(columns: KindColumns) -> Option<EventKind> {
    let KindColumns { kind, name, detail, value } = columns;
    let number = value.and_then(|value| u64::try_from(value).ok());
    Some(match (kind.as_str(), name) {
        ("offered", Some(role)) => EventKind::Offered { to: join_firmware(&role, value)? },
        ("leased", Some(role)) => {
            EventKind::Leased { to: join_firmware(&role, value)?, twin: detail.is_some() }
        }
        ("no-loader", Some(role)) => {
            EventKind::NoLoader { to: join_firmware(&role, value)?, why: detail? }
        }
        ("renewed", _) => EventKind::Renewed,
        ("nak", _) => EventKind::Nak,
        ("no-address-free", _) => EventKind::NoAddressFree,
        ("other-server", Some(server)) => EventKind::OtherServer { server: server.parse().ok()? },
        ("declined", _) => EventKind::Declined,
        ("released", _) => EventKind::Released,
        ("unanswered", Some(about)) => {
            let detail = detail?;
            let mut words = detail.split(' ');
            let why = UnansweredReason::parse(words.next()?)?;
            let other = words.next().zip(words.next());
            let other =
                other.map(|(address, mac)| Some((address.parse().ok()?, mac.parse().ok()?)));
            EventKind::Unanswered { why, about, other: other.flatten() }
        }
        ("conflict", _) => EventKind::Conflict,
        ("pool-fills", _) => EventKind::PoolFills,
        ("pool-has-room", _) => EventKind::PoolHasRoom,
        ("size-probe", _) => EventKind::SizeProbe,
        ("sent", Some(name)) => EventKind::Sent { name, bytes: number? },
        ("missing", Some(name)) => EventKind::Missing { name, rule: detail },
        ("denied", Some(name)) => EventKind::Denied { name, why: FileDenial::parse(&detail?)? },
        ("template-failed", _) => EventKind::TemplateFailed,
        ("write-refused", _) => EventKind::WriteRefused,
        ("bad-request", _) => EventKind::BadRequest,
        ("stalled", Some(name)) => EventKind::Stalled { name, block: number? },
        ("client-aborted", Some(name)) => {
            EventKind::ClientAborted { name, code: u16::try_from(number?).ok()? }
        }
        ("changed", Some(name)) => EventKind::Changed { name },
        ("forged", Some(name)) => EventKind::Forged { name },
        ("too-slow", _) => EventKind::TooSlow,
        ("failed", _) => EventKind::Failed,
        ("short", _) => EventKind::Short,
        ("other", _) => EventKind::Other,
        _ => return None,
    })
}

fn join_firmware(role: &str, arch: Option<i64>) -> Option<Firmware> {
    let arch = match arch {
        Some(number) => Some(Arch::from_number(u16::try_from(number).ok()?)),
        None => None,
    };
    Some(Firmware { role: find_role_named(role)?, arch })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::model::machine::FirmwareRole;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]);

    fn entry(at_ms: u64, kind: EventKind) -> JournalEntry {
        JournalEntry {
            at_ms,
            address: Some(IpAddr::from([192, 168, 4, 26])),
            stage: MachineStage::File,
            kind,
            text: "why".into(),
        }
    }

    fn note(number: u64, kind: EventKind) -> JournalChange {
        JournalChange::Entry { mac: MAC, number, entry: entry(1000 + number, kind) }
    }

    fn count(history: &HistoryDatabase) -> usize {
        let mut count = 0;
        history.load(|_| count += 1).unwrap();
        count
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let to = Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiArm64) };
        let name = || "a/b c".to_owned();
        let kinds = [
            EventKind::Offered { to },
            EventKind::Leased {
                to: Firmware { role: FirmwareRole::System, arch: None },
                twin: false,
            },
            EventKind::Leased { to, twin: true },
            EventKind::NoLoader { to, why: "because".into() },
            EventKind::Renewed,
            EventKind::Nak,
            EventKind::NoAddressFree,
            EventKind::OtherServer { server: [10, 0, 0, 1].into() },
            EventKind::Declined,
            EventKind::Released,
            EventKind::Unanswered {
                why: UnansweredReason::NotPxe,
                about: "192.168.4.0/24".into(),
                other: None,
            },
            EventKind::Unanswered { why: UnansweredReason::Odd, about: String::new(), other: None },
            EventKind::Unanswered {
                why: UnansweredReason::OtherServer,
                about: "192.168.4.0/24".into(),
                other: Some(([10, 0, 0, 1].into(), MAC)),
            },
            EventKind::Conflict,
            EventKind::PoolFills,
            EventKind::PoolHasRoom,
            EventKind::SizeProbe,
            EventKind::Sent { name: name(), bytes: 1 << 40 },
            EventKind::Missing { name: name(), rule: None },
            EventKind::Missing { name: name(), rule: Some("[boot] bios".into()) },
            EventKind::Denied { name: name(), why: FileDenial::OutsideRoot },
            EventKind::TemplateFailed,
            EventKind::WriteRefused,
            EventKind::BadRequest,
            EventKind::Forged { name: name() },
            EventKind::Short,
            EventKind::Stalled { name: name(), block: 70_000 },
            EventKind::ClientAborted { name: name(), code: 8 },
            EventKind::Changed { name: name() },
            EventKind::TooSlow,
            EventKind::Failed,
            EventKind::Other,
        ];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        let mut history = HistoryDatabase::open(&path).unwrap();
        let notes: Vec<JournalChange> =
            kinds.iter().cloned().zip(0..).map(|(kind, number)| note(number, kind)).collect();
        history.keep(&notes).unwrap();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let read: Vec<EventKind> =
            history.entries(MAC).unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(read, kinds);
        let beside = HistoryDatabase::read_only(&path).unwrap();
        assert_eq!(beside.entries(MAC).unwrap()[0], entry(1000, EventKind::Offered { to }));
        assert_eq!(beside.find(IpAddr::from([192, 168, 4, 26])).unwrap(), Some(MAC));
        assert_eq!(beside.find(IpAddr::from([192, 168, 4, 27])).unwrap(), None);
    }

    #[test]
    fn a_machine_has_64_rows_and_a_forgotten_one_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        let mut history = HistoryDatabase::open(&path).unwrap();
        let notes: Vec<JournalChange> =
            (0..100).map(|number| note(number, EventKind::Nak)).collect();
        history.keep(&notes).unwrap();
        drop(history);
        let mut history = HistoryDatabase::open(&path).unwrap();
        let mut numbers = Vec::new();
        history.load(|(_, number, _)| numbers.push(number)).unwrap();
        assert_eq!(numbers, (36..100).collect::<Vec<_>>());
        history.keep(&[JournalChange::Forgotten(MAC)]).unwrap();
        assert_eq!(count(&history), 0);
    }

    #[test]
    fn history_of_another_version_is_thrown_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.db");
        let mut history = HistoryDatabase::open(&path).unwrap();
        history.keep(&[note(0, EventKind::Nak)]).unwrap();
        history.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(history);
        assert_eq!(count(&HistoryDatabase::open(&path).unwrap()), 0);
    }
}
