//! Surveys the root: static menus whose default entry installs without asking, templates, and the
//! largest file.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::boot::static_menu::{UnattendedEntry, detect_menu_loader, find_unattended_defaults};

/// Names that one survey visits; a tree of packages has more, and no menus.
pub const NAMES_MAX: usize = 50_000;
/// Directories below the root: `debian-installer/amd64/pxelinux.cfg` is three.
pub const DEPTH_MAX: usize = 8;
/// Bytes of one menu that the survey reads.
pub const MENU_BYTES_MAX: u64 = 256 * 1024;

/// A menu whose default entry installs without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DangerousMenu {
    /// Its path under the root.
    pub path: PathBuf,
    /// The entry and its line.
    pub unattended: UnattendedEntry,
}

/// The result of a survey.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootSurvey {
    /// Sorted by path and line.
    pub dangers: Vec<DangerousMenu>,
    /// The root has more than [`NAMES_MAX`] names or [`DEPTH_MAX`] levels: the survey saw only a
    /// part.
    pub is_cut_short: bool,
    /// None: the root has no file.
    pub largest: Option<LargestFile>,
    /// The paths of templates under the root, with their suffix.
    pub templates: Vec<PathBuf>,
}

/// The largest file under the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargestFile {
    /// Its path under the root.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Surveys the root. It follows links that stay inside, and skips hidden names, which the server
/// never serves.
pub fn survey_root(root: &Path) -> RootSurvey {
    let Ok(root) = root.canonicalize() else { return RootSurvey::default() };
    let mut walk =
        RootWalk { survey: RootSurvey::default(), names: 0, seen: HashSet::new(), root: &root };
    walk.seen.extend(fs::metadata(&root).map(|found| (found.dev(), found.ino(), false)));
    walk.visit_directory(&root, 0);
    walk.survey
        .dangers
        .sort_by(|a, b| (&a.path, a.unattended.line).cmp(&(&b.path, b.unattended.line)));
    walk.survey
}

struct RootWalk<'r> {
    survey: RootSurvey,
    names: usize,
    /// Directories by device, inode and whether their name makes their files menus.
    seen: HashSet<(u64, u64, bool)>,
    root: &'r Path,
}

impl RootWalk<'_> {
    fn visit_directory(&mut self, directory: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(directory) else { return };
        let mut names: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).take(NAMES_MAX).collect();
        // read_dir has no order. A survey that is cut short must see the same part each time.
        names.sort_unstable();
        for path in names {
            self.names += 1;
            if self.names > NAMES_MAX {
                self.survey.is_cut_short = true;
                return;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let Ok(found) = fs::metadata(&path) else { continue };
            if found.is_dir() {
                // A link may lead back to a directory above, which ends here. The name
                // `pxelinux.cfg` makes the files of a directory menus, so under that name it is
                // visited once more.
                let id = (found.dev(), found.ino(), name == "pxelinux.cfg");
                if depth == DEPTH_MAX {
                    self.survey.is_cut_short = true;
                } else if self.is_inside(&path) && self.seen.insert(id) {
                    self.visit_directory(&path, depth + 1);
                }
            } else if found.is_file() {
                self.note_size(&path, found.len());
                self.visit_file(&path);
            }
        }
    }

    fn note_size(&mut self, path: &Path, bytes: u64) {
        let is_larger = self.survey.largest.as_ref().is_none_or(|largest| bytes > largest.bytes);
        if is_larger
            && self.is_inside(path)
            && let Ok(name) = path.strip_prefix(self.root)
        {
            self.survey.largest = Some(LargestFile { path: name.to_owned(), bytes });
        }
    }

    fn visit_file(&mut self, path: &Path) {
        let Ok(name) = path.strip_prefix(self.root) else { return };
        if name.extension() == Some(OsStr::new("j2")) && self.is_inside(path) {
            self.survey.templates.push(name.to_owned());
        }
        let Some(loader) = detect_menu_loader(&name.to_string_lossy()) else { return };
        let mut bytes = Vec::new();
        let read =
            fs::File::open(path).and_then(|file| file.take(MENU_BYTES_MAX).read_to_end(&mut bytes));
        if read.is_err() || !self.is_inside(path) {
            return;
        }
        let text = String::from_utf8_lossy(&bytes);
        let found = find_unattended_defaults(loader, &text).into_iter();
        self.survey
            .dangers
            .extend(found.map(|unattended| DangerousMenu { path: name.to_owned(), unattended }));
    }

    fn is_inside(&self, path: &Path) -> bool {
        path.canonicalize().is_ok_and(|real| real.starts_with(self.root))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    const DANGER: &str = "DEFAULT in\nLABEL in\n KERNEL k\n APPEND ks=x\n";

    #[test]
    fn menus_by_hand_are_found_wherever_a_client_could_ask_for_them() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("pxelinux.cfg")).unwrap();
        fs::create_dir_all(root.join("menus")).unwrap();
        fs::create_dir_all(scratch.path().join("outside")).unwrap();
        fs::write(root.join("pxelinux.cfg/default"), DANGER).unwrap();
        fs::write(root.join("pxelinux.cfg/.swp"), DANGER).unwrap();
        fs::write(root.join("menus/default"), DANGER).unwrap();
        fs::write(scratch.path().join("outside/default"), DANGER).unwrap();
        fs::create_dir(root.join("old")).unwrap();
        symlink("../menus", root.join("old/pxelinux.cfg")).unwrap();
        symlink(".", root.join("circle")).unwrap();
        fs::create_dir(root.join("new")).unwrap();
        symlink(scratch.path().join("outside"), root.join("new/pxelinux.cfg")).unwrap();
        let survey = survey_root(&root);
        let paths: Vec<String> =
            survey.dangers.iter().map(|d| d.path.to_string_lossy().into_owned()).collect();
        assert_eq!(paths, ["old/pxelinux.cfg/default", "pxelinux.cfg/default"]);
        assert_eq!((survey.dangers[0].unattended.line, survey.is_cut_short), (4, false));
    }

    #[test]
    fn a_walk_is_bounded() {
        let root = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..DEPTH_MAX + 2).map(|n| format!("d{n}")).collect();
        fs::create_dir_all(root.path().join(&deep)).unwrap();
        assert!(survey_root(root.path()).is_cut_short);
        assert_eq!(survey_root(Path::new("/nonexistent")), RootSurvey::default());
    }
}
