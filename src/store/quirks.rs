//! The quirks of firmware in the lease database. They are kept as durably as leases, because a
//! machine may not boot without them.

use std::num::NonZeroU64;
use std::path::Path;

use rusqlite::{Row, params};

use super::StoreError;
use super::sqlite::{SqliteStore, read_schema_version};
use crate::boot::quirks::{FirmwareQuirk, QuirkAllowance, QuirkChange, format_class, parse_class};

/// The schema that brought the table.
const SCHEMA_WITH_QUIRKS: i64 = 3;

impl SqliteStore {
    /// All quirks. A row that cannot be read limits no machine.
    pub fn quirks(&self) -> Result<Vec<FirmwareQuirk>, StoreError> {
        let mut statement = self.connection.prepare("SELECT * FROM quirks ORDER BY subject")?;
        let rows = statement.query_map([], read_quirk_row)?.filter_map(Result::transpose);
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All quirks of a database that a server may be writing to. A database of an older version has
    /// none.
    pub fn quirks_in(database: &Path) -> Result<Vec<FirmwareQuirk>, StoreError> {
        let store = Self::read_only(database)?;
        if read_schema_version(&store.connection)? < SCHEMA_WITH_QUIRKS {
            Ok(Vec::new())
        } else {
            store.quirks()
        }
    }

    /// Stores changes, all or none.
    pub fn keep_quirks(&mut self, changes: &[QuirkChange]) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        for change in changes {
            match change {
                QuirkChange::Put(quirk) => {
                    let sql = "INSERT OR REPLACE INTO quirks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, \
                               ?8, ?9, ?10)";
                    let QuirkAllowance { window, blksize, http_rate } = quirk.allowance;
                    let values = params![
                        quirk.subject.to_string(),
                        window,
                        blksize,
                        http_rate.map(|rate| clamp_quirk_integer(rate.get())),
                        quirk.pinned,
                        clamp_quirk_integer(quirk.since_s),
                        quirk.works_s.map(clamp_quirk_integer),
                        quirk.on_trial,
                        quirk.class.map(format_class),
                        quirk.why,
                    ];
                    transaction.prepare_cached(sql)?.execute(values)?;
                }
                QuirkChange::Gone(subject) => {
                    let sql = "DELETE FROM quirks WHERE subject = ?1";
                    transaction.prepare_cached(sql)?.execute([subject.to_string()])?;
                }
            }
        }
        Ok(transaction.commit()?)
    }
}

fn read_quirk_row(row: &Row<'_>) -> rusqlite::Result<Option<FirmwareQuirk>> {
    let subject: Option<String> = row.get("subject")?;
    let class: Option<String> = row.get("class")?;
    let why: Option<String> = row.get("why")?;
    // A newer version may have written a subject that this one cannot parse: its row is skipped.
    let Some(subject) = subject.and_then(|subject| subject.parse().ok()) else { return Ok(None) };
    let allowance = QuirkAllowance {
        window: read_number(row, "window")?,
        blksize: read_number(row, "blksize")?,
        http_rate: read_number(row, "http_rate")?.and_then(NonZeroU64::new),
    };
    Ok(Some(FirmwareQuirk {
        subject,
        allowance,
        pinned: row.get("pinned")?,
        since_s: read_number(row, "since_s")?.unwrap_or(0),
        works_s: read_number(row, "works_s")?,
        on_trial: row.get("on_trial")?,
        class: class.and_then(|class| parse_class(&class)),
        why: why.unwrap_or_default(),
    }))
}

/// The number of a column; None for NULL, and for a number that the type cannot hold.
fn read_number<T: TryFrom<i64>>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let number: Option<i64> = row.get(column)?;
    Ok(number.and_then(|number| T::try_from(number).ok()))
}

fn clamp_quirk_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quirks_are_kept_changed_and_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let quirk = |subject: &str, window| FirmwareQuirk {
            subject: subject.parse().unwrap(),
            allowance: QuirkAllowance {
                window,
                blksize: Some(1024),
                http_rate: NonZeroU64::new(625_000),
            },
            pinned: false,
            since_s: 7,
            works_s: Some(9),
            on_trial: true,
            class: parse_class("pxe+uefi-x64"),
            why: "two transfers failed".into(),
        };
        let (one, other) = (quirk("52:54:00:12:34:10", Some(1)), quirk("u-boot", None));
        let mut store = SqliteStore::open(&path).unwrap();
        store
            .keep_quirks(&[
                QuirkChange::Put(quirk("u-boot", Some(4))),
                QuirkChange::Put(one.clone()),
            ])
            .unwrap();
        store.keep_quirks(&[QuirkChange::Put(other.clone())]).unwrap();
        drop(store);
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.quirks().unwrap(), [one.clone(), other.clone()]);
        assert_eq!(SqliteStore::quirks_in(&path).unwrap().len(), 2, "beside the server");
        store.keep_quirks(&[QuirkChange::Gone(one.subject)]).unwrap();
        store
            .connection
            .execute("UPDATE quirks SET class = 'x' WHERE subject = 'u-boot'", [])
            .unwrap();
        assert_eq!(store.quirks().unwrap(), [FirmwareQuirk { class: None, ..other }]);
        store.connection.execute("UPDATE quirks SET subject = 'nobody'", []).unwrap();
        assert_eq!(store.quirks().unwrap(), [], "a row that is not understood limits nobody");
    }

    #[test]
    fn a_database_of_an_older_ringboot_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        drop(SqliteStore::open(&path).unwrap());
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("DROP TABLE quirks; PRAGMA user_version = 2").unwrap();
        drop(connection);
        assert_eq!(SqliteStore::quirks_in(&path).unwrap(), []);
        assert_eq!(
            SqliteStore::open(&path).unwrap().quirks().unwrap(),
            [],
            "and gets the table when it is opened"
        );
        assert!(directory.path().join("db.schema-2.bak").exists());
    }
}
