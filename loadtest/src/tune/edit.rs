//! Writes numbers into a configuration file and keeps every other byte of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use ringboot::config::Config;
use toml::de::{DeTable, DeValue};

/// `key = value` of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SettingEntry {
    pub(super) table: &'static str,
    pub(super) key: &'static str,
    pub(super) value: u64,
}

/// The change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SettingChange {
    pub(super) entry: SettingEntry,
    /// The old value as written in the file; None: the file had none.
    pub(super) old: Option<String>,
}

/// The text with these entries, and the entries that changed. `path` names the file in errors.
pub(super) fn edit_entries(
    path: &str,
    text: &str,
    entries: &[SettingEntry],
) -> anyhow::Result<(String, Vec<SettingChange>)> {
    Config::parse(path, text)
        .map_err(|problems| anyhow!("the configuration is wrong\n{problems}"))?;
    let (mut out, mut changes) = (text.to_owned(), Vec::new());
    for entry in entries {
        // Parse again for each entry: the previous one has moved the rest of the text.
        let (at, new, old) = find_entry_place(&out, entry).ok_or_else(|| {
            let (table, key) = (entry.table, entry.key);
            anyhow!(
                "{path}: no place for {key} in the table {table}: write it as [{table}] with a \
                     line for each key"
            )
        })?;
        if old.as_ref().is_none_or(|old| *old != entry.value.to_string()) {
            out.replace_range(at, &new);
            changes.push(SettingChange { entry: *entry, old });
        }
    }
    let done = Config::parse(path, &out)
        .map_err(|problems| anyhow!("not written, because the file would be wrong:\n{problems}"));
    done.map(|_| (out, changes))
}

/// The place of an entry, the text to write there, and the old value.
fn find_entry_place(
    text: &str,
    entry: &SettingEntry,
) -> Option<(Range<usize>, String, Option<String>)> {
    let SettingEntry { table, key, value } = entry;
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let root = DeTable::parse(text).ok()?.into_inner();
    let Some(found) = root.get(*table) else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { line_end };
        let new = format!("{gap}{line_end}[{table}]{line_end}{key} = {value}{line_end}");
        return Some((text.len()..text.len(), new, None));
    };
    let DeValue::Table(keys) = found.get_ref() else { return None };
    if let Some(old) = keys.get(*key) {
        return Some((old.span(), value.to_string(), Some(text.get(old.span())?.to_owned())));
    }

    // An inline table and dotted keys have no header line below which an entry could stand.
    let header = found.span();
    if !text.get(header.clone())?.starts_with('[') {
        return None;
    }

    // The comment above `#key = ...` explains the key, so the entry belongs there. Else it comes
    // first in its table.
    let at = find_comment_end(text, header.end, key)
        .or_else(|| Some(find_next_line(text, header.end)))?;
    let gap = if text.get(..at)?.ends_with('\n') { "" } else { line_end };
    Some((at..at, format!("{gap}{key} = {value}{line_end}"), None))
}

/// The end of the line `#key = ...` in the table whose header ends here: the comment above that
/// line explains the key.
fn find_comment_end(text: &str, header_end: usize, key: &str) -> Option<usize> {
    let mut at = find_next_line(text, header_end);
    while at < text.len() {
        let end = find_next_line(text, at);
        let line = text.get(at..end)?.trim();
        let plain = line.trim_start_matches(['#', ' ']);
        if line.starts_with('[') || line.starts_with('#') && plain.starts_with('[') {
            return None;
        }
        if line.starts_with('#')
            && plain.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        {
            return Some(end);
        }
        at = end;
    }
    None
}

/// The beginning of the next line.
fn find_next_line(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |length| at + length + 1)
}

/// Replaces the file in one step, keeps owner and mode, and returns the name of a copy of the old
/// file.
pub(super) fn replace_config_file(
    file: &Path,
    old: &str,
    new: &str,
    stamp: &str,
) -> anyhow::Result<PathBuf> {
    // Replace the target of a link, not the link.
    let file = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
    let shown = file.display();
    let now = fs::read_to_string(&file).with_context(|| format!("cannot read {shown}"))?;
    ensure!(now == old, "{shown} has changed during the search: it is not written");
    let backup = append_file_ending(&file, &format!(".{stamp}"));
    let fresh = append_file_ending(&file, ".new");
    let like = fs::metadata(&file).with_context(|| format!("cannot look at {shown}"))?;
    write_file_like(&backup, old, &like)
        .with_context(|| format!("cannot write {}", backup.display()))?;
    let written = write_file_like(&fresh, new, &like).and_then(|()| fs::rename(&fresh, &file));
    if written.is_err() {
        // The old file is untouched: remove the unfinished new one.
        let _ = fs::remove_file(&fresh);
    }
    written.with_context(|| format!("cannot replace {shown}"))?;
    Ok(backup)
}

fn append_file_ending(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file.as_os_str());
    name.push(ending);
    PathBuf::from(name)
}

fn write_file_like(path: &Path, text: &str, like: &fs::Metadata) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.set_permissions(like.permissions())?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        chown(path, Some(like.uid()), Some(like.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const SPIN: SettingEntry = SettingEntry { table: "tuning", key: "spin-us", value: 7 };
    const WINDOW: SettingEntry = SettingEntry { table: "tftp", key: "windowsize-max", value: 8 };
    const WORKERS: SettingEntry = SettingEntry { table: "server", key: "workers", value: 3 };
    const SHIPPED: &str = include_str!("../../../config/ringboot.toml");

    fn put(text: &str, entries: &[SettingEntry]) -> String {
        edit_entries("x.toml", text, entries).unwrap().0
    }

    /// The lines that one text has more than the other, whose lines it has all, in their order.
    fn added<'a>(old: &str, new: &'a str) -> Vec<&'a str> {
        let mut rest = old.split_inclusive('\n').peekable();
        let added =
            new.split_inclusive('\n').filter(|line| rest.next_if_eq(line).is_none()).collect();
        assert_eq!(rest.next(), None, "lines are missing");
        added
    }

    #[test]
    fn the_shipped_file_gets_each_key_below_its_explanation_and_keeps_every_line() {
        let entries = [WORKERS, WINDOW, SPIN];
        let (new, changes) = edit_entries("x.toml", SHIPPED, &entries).unwrap();
        assert_eq!(
            added(SHIPPED, &new),
            ["workers = 3\n", "windowsize-max = 8\n", "spin-us = 7\n"]
        );
        for lines in [
            "#workers = 2\nworkers = 3\n",
            "#windowsize-max = 32\nwindowsize-max = 8\n",
            "#spin-us = 50\nspin-us = 7\n",
        ] {
            assert!(new.contains(lines), "{lines}");
        }
        assert_eq!(changes, entries.map(|entry| SettingChange { entry, old: None }));
        assert_eq!(
            edit_entries("x.toml", &new, &entries).unwrap(),
            (new, Vec::new()),
            "again changes nothing"
        );
    }

    #[test]
    fn a_value_is_replaced_where_it_stands_however_it_is_written() {
        for (old, new) in [
            (
                "root = \"/a\"\n[tuning]\nspin-us  =  0x32 # why\n",
                "root = \"/a\"\n[tuning]\nspin-us  =  7 # why\n",
            ),
            (
                "root = \"/a\"\ntuning = { spin-us = 1_0, tid-sockets = 2 }",
                "root = \"/a\"\ntuning = { spin-us = 7, tid-sockets = 2 }",
            ),
            ("tuning.spin-us = 50\r\nroot = \"/a\"\r\n", "tuning.spin-us = 7\r\nroot = \"/a\"\r\n"),
        ] {
            assert_eq!(put(old, &[SPIN]), new);
        }
        let (_, changes) =
            edit_entries("x.toml", "root = \"/a\"\n[tuning]\nspin-us = 50\n", &[SPIN]).unwrap();
        assert_eq!(changes, [SettingChange { entry: SPIN, old: Some("50".to_owned()) }]);
    }

    #[test]
    fn a_key_that_is_missing_goes_into_its_table_or_into_a_new_one_at_the_end() {
        for (old, new) in [
            ("root = \"/a\"", "root = \"/a\"\n\n[tuning]\nspin-us = 7\n"),
            ("root = \"/a\"\r\n", "root = \"/a\"\r\n\r\n[tuning]\r\nspin-us = 7\r\n"),
            ("root = \"/a\"\n[tuning]", "root = \"/a\"\n[tuning]\nspin-us = 7\n"),
            (
                "root = \"/a\"\n [tuning] # these\ntid-sockets = 2\n",
                "root = \"/a\"\n [tuning] # these\nspin-us = 7\ntid-sockets = 2\n",
            ),
            // The comment of another table is not its own.
            (
                "root = \"/a\"\n[tuning]\n[log]\n#spin-us = 3\n",
                "root = \"/a\"\n[tuning]\nspin-us = 7\n[log]\n#spin-us = 3\n",
            ),
        ] {
            assert_eq!(put(old, &[SPIN]), new);
        }
        let rules =
            "root = \"/a\"\n[[tftp.client]]\nmac = \"52:54:00:12:34:10\"\nwindowsize-max = 1\n";
        let of_rule = "root = \"/a\"\n[tftp]\n#[[tftp.client]]\n#windowsize-max = 4\n";
        assert_eq!(
            put(of_rule, &[WINDOW]),
            of_rule.replacen("[tftp]\n", "[tftp]\nwindowsize-max = 8\n", 1)
        );
        let said = edit_entries("x.toml", rules, &[WINDOW]).unwrap_err().to_string();
        assert!(
            said.contains("no place for windowsize-max in the table tftp: write it as [tftp]"),
            "{said}"
        );
        let inline =
            edit_entries("x.toml", "root = \"/a\"\ntuning = { tid-sockets = 2 }\n", &[SPIN])
                .unwrap_err();
        assert!(inline.to_string().contains("no place for spin-us"), "{inline}");
    }

    #[test]
    fn a_file_that_is_not_right_is_refused_with_the_place() {
        for (text, place) in [
            ("root = \"/a\"\n[tuning\n", "x.toml:2:8: "),
            ("root = \"/a\"\n[tuning]\nspin = 1\n", "x.toml:3:1: "),
        ] {
            let said = edit_entries("x.toml", text, &[SPIN]).unwrap_err().to_string();
            assert!(said.contains(place), "{said}");
        }
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_through_a_link_and_the_old_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("x.toml"), directory.path().join("link.toml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("x.toml", &link).unwrap();
        let backup = replace_config_file(&link, "old", "new", "stamp").unwrap();
        assert!(link.is_symlink());
        assert_eq!(
            (fs::read_to_string(&file).unwrap(), fs::read_to_string(&backup).unwrap()),
            ("new".into(), "old".into())
        );
        assert!(backup.ends_with("x.toml.stamp"), "{backup:?}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        let changed = replace_config_file(&file, "old", "newer", "stamp2").unwrap_err().to_string();
        assert!(changed.contains("has changed during the search"), "{changed}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }
}
