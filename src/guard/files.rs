//! Gives the files of the state directory to the unprivileged user, so that it can open them at the
//! next start.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use crate::engine::privileges::ProcessIds;

/// Gives a directory and the files in it to a user. It works by path, because closing another
/// descriptor of a database would release SQLite's locks.
///
/// `is_ours` selects the files by name. A directory with any other file in it is shared, as
/// `/var/lib` is: it keeps its owner, and the function returns false. Links are not followed, and a
/// file with a second name is left alone, so that nobody who could write to the directory before is
/// given another user's file.
pub fn give_directory(
    directory: &Path,
    to: ProcessIds,
    is_ours: impl Fn(&str) -> bool,
) -> io::Result<bool> {
    let mut all_ours = true;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&is_ours) {
            all_ours = false;
            continue;
        }
        let meta = fs::symlink_metadata(entry.path())?;
        if meta.is_file() && meta.nlink() == 1 {
            give_file(&entry.path(), &meta, to)?;
        }
    }

    // The directory comes last: until then its new owner cannot put a link in the place of a file
    // that was just checked.
    let meta = fs::symlink_metadata(directory)?;
    if all_ours {
        give_file(directory, &meta, to)?;
    }
    Ok(all_ours || meta.uid() == to.uid)
}

fn give_file(path: &Path, meta: &fs::Metadata, to: ProcessIds) -> io::Result<()> {
    if (meta.uid(), meta.gid()) == (to.uid, to.gid) {
        return Ok(());
    }
    lchown(path, Some(to.uid), Some(to.gid))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::engine::privileges::is_root;

    const TO: ProcessIds = ProcessIds { uid: 12_345, gid: 12_346 };

    fn owner(path: &Path) -> (u32, u32) {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.uid(), meta.gid())
    }

    #[test]
    fn our_files_and_a_directory_of_our_own_change_hands_and_nothing_behind_a_link() {
        assert!(
            is_root(),
            "only root may give files away: run this test as root, as tests/run.sh does"
        );
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "x").unwrap();
        fs::write(path("db"), "x").unwrap();
        symlink(&secret, path("db-link")).unwrap();
        fs::hard_link(&secret, path("db-second-name")).unwrap();
        let ours = |name: &str| name.starts_with("db");
        assert!(give_directory(directory.path(), TO, ours).unwrap());
        assert_eq!(owner(&path("db")), (TO.uid, TO.gid));
        assert_eq!(owner(directory.path()), (TO.uid, TO.gid));
        assert_eq!(owner(&secret), (0, 0));
        assert_eq!(owner(&path("db-link")), (0, 0));
    }

    #[test]
    fn a_directory_that_others_use_keeps_its_owner() {
        assert!(
            is_root(),
            "only root may give files away: run this test as root, as tests/run.sh does"
        );
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("db"), "x").unwrap();
        fs::create_dir(path("somebody")).unwrap();
        assert!(
            !give_directory(directory.path(), TO, |name| name == "db").unwrap(),
            "and it is said"
        );
        assert_eq!(owner(&path("db")), (TO.uid, TO.gid));
        assert_eq!(owner(directory.path()), (0, 0));
        assert_eq!(owner(&path("somebody")), (0, 0));
    }
}
