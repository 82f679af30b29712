//! Surveys the root: static menus whose default entry installs without asking, templates, and the
//! largest file.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::boot::names::MenuLoader;
use crate::boot::static_menu::{UnattendedEntry, detect_menu_loader, find_unattended_defaults};
use crate::images::{NameRefusal, NameResolver, NameTarget, clean_path_name, is_hidden_name};

/// Names that one survey reads: a mirror of packages has some hundred thousand.
pub const NAMES_MAX: usize = 400_000;
/// Files whose size one survey asks for. It asks for no size of a menu or a template.
const SIZES_MAX: usize = 50_000;
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
    /// part, and no directory before those above it.
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

/// Surveys the root, all directories of one level before the next. It follows links as `names` does
/// for a request, and skips what the server never serves. `ignore_case`: the server finds a name in
/// every case.
pub fn survey_root(root: &Path, names: &NameResolver, ignore_case: bool) -> RootSurvey {
    survey_within(root, names, ignore_case, NAMES_MAX)
}

/// The same for at most so many names.
fn survey_within(
    root: &Path,
    names: &NameResolver,
    ignore_case: bool,
    names_left: usize,
) -> RootSurvey {
    let mut survey = RootSurvey::default();
    let mut walk = RootWalk {
        survey: &mut survey,
        names,
        ignore_case,
        root,
        names_left,
        sizes_left: SIZES_MAX,
        seen: HashSet::new(),
        directories: VecDeque::new(),
    };
    walk.push_directory(PathBuf::new(), root, 0);
    while let Some((directory, depth)) = walk.directories.pop_front() {
        walk.visit_directory(&directory, depth);
    }
    survey.dangers.sort_by(|a, b| (&a.path, a.unattended.line).cmp(&(&b.path, b.unattended.line)));
    survey.templates.sort_unstable();
    survey
}

struct RootWalk<'r> {
    survey: &'r mut RootSurvey,
    names: &'r NameResolver,
    ignore_case: bool,
    root: &'r Path,
    names_left: usize,
    sizes_left: usize,
    /// Directories by device, inode and whether their name makes their files menus.
    seen: HashSet<(u64, u64, bool)>,
    /// Directories to visit, by their path under the root, with their depth.
    directories: VecDeque<(PathBuf, usize)>,
}

impl RootWalk<'_> {
    fn visit_directory(&mut self, directory: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(self.root.join(directory)) else { return };
        // However many names a directory has, half of what is left remains for the others.
        let share = self.names_left / 2;
        let mut found: Vec<(OsString, Option<FileType>)> = entries
            .flatten()
            .take(share + 1)
            .map(|entry| (entry.file_name(), entry.file_type().ok()))
            .collect();
        if found.len() > share {
            self.survey.is_cut_short = true;
        }
        self.names_left -= found.len().min(share);

        // read_dir has no order. A survey that is cut short must see the same part each time.
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in found.into_iter().filter(|(name, _)| !is_hidden_name(name.as_bytes())) {
            let path = directory.join(name);
            match kind {
                Some(kind) if kind.is_dir() => {
                    let real = self.root.join(&path);
                    self.push_directory(path, &real, depth + 1);
                }
                Some(kind) if kind.is_file() => self.visit_file(path),
                Some(kind) if !kind.is_symlink() => {}
                _ => match self.find_target(&path) {
                    Ok(NameTarget::Directory(real)) => {
                        self.push_directory(path, &real, depth + 1);
                    }
                    _ => self.visit_file(path),
                },
            }
        }
    }

    /// Keeps a directory for a later visit. A link may lead back to a directory above, which ends
    /// here. The name `pxelinux.cfg` makes the files of a directory menus, so under that name it is
    /// visited once more.
    fn push_directory(&mut self, path: PathBuf, real: &Path, depth: usize) {
        let Ok(found) = fs::metadata(real) else { return };
        let is_of_menus = path.file_name().is_some_and(|name| self.fold(name) == "pxelinux.cfg");
        if depth > DEPTH_MAX {
            self.survey.is_cut_short = true;
        } else if self.seen.insert((found.dev(), found.ino(), is_of_menus)) {
            self.directories.push_back((path, depth));
        }
    }

    fn visit_file(&mut self, path: PathBuf) {
        let is_template = path.extension() == Some(OsStr::new("j2"));
        let loader = detect_menu_loader(&self.fold(path.as_os_str()));
        if (is_template || loader.is_some()) && !self.is_served(&path) {
            return;
        }
        if let Some(loader) = loader {
            self.read_menu(&path, loader);
        }
        if is_template {
            self.survey.templates.push(path);
        } else if loader.is_none() && self.sizes_left > 0 {
            self.sizes_left -= 1;
            self.note_size(path);
        }
    }

    fn read_menu(&mut self, path: &Path, loader: MenuLoader) {
        let mut bytes = Vec::new();
        let read = fs::File::open(self.root.join(path))
            .and_then(|file| file.take(MENU_BYTES_MAX).read_to_end(&mut bytes));
        if read.is_ok() {
            let text = String::from_utf8_lossy(&bytes);
            let found = find_unattended_defaults(loader, &text).into_iter();
            self.survey.dangers.extend(
                found.map(|unattended| DangerousMenu { path: path.to_owned(), unattended }),
            );
        }
    }

    fn note_size(&mut self, path: PathBuf) {
        let Ok(found) = fs::metadata(self.root.join(&path)) else { return };
        let is_larger =
            self.survey.largest.as_ref().is_none_or(|largest| found.len() > largest.bytes);
        if is_larger && self.is_served(&path) {
            self.survey.largest = Some(LargestFile { path, bytes: found.len() });
        }
    }

    /// A name as requests may spell it.
    fn fold<'n>(&self, name: &'n OsStr) -> Cow<'n, str> {
        let shown = name.to_string_lossy();
        if self.ignore_case { shown.to_lowercase().into() } else { shown }
    }

    /// Whether a request for this path gets the file, now or when its mode is corrected.
    fn is_served(&self, path: &Path) -> bool {
        matches!(self.find_target(path), Ok(NameTarget::File(_)) | Err(NameRefusal::Unreadable))
    }

    /// Where a request for this path leads.
    fn find_target(&self, path: &Path) -> Result<NameTarget, NameRefusal> {
        self.names.find_target(&clean_path_name(path.as_os_str().as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::images::RootFence;

    fn survey(root: &Path) -> RootSurvey {
        survey_root(root, &NameResolver::open(root, RootFence::default()).unwrap(), false)
    }

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
        let survey = survey(&root);
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
        assert!(survey(root.path()).is_cut_short);
    }

    /// A mirror of packages comes before `pxelinux.cfg` in the alphabet, and is deeper.
    #[test]
    fn k7_a_menu_is_found_beside_a_mirror() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, DANGER).unwrap();
        };
        for package in 0..60 {
            for file in 0..1_000 {
                put(&format!("debian/pool/main/{package}/{file}.deb"));
            }
        }
        put("debian/dists/installer-amd64/images/netboot/pxelinux.cfg/default");
        put("pxelinux.cfg/default");
        let found = survey(root.path());
        assert_eq!((found.dangers.len(), found.is_cut_short), (2, false));
    }

    #[test]
    fn k7_a_directory_with_very_many_names_leaves_room_for_the_others() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("apool")).unwrap();
        fs::create_dir_all(root.path().join("pxelinux.cfg")).unwrap();
        fs::write(root.path().join("pxelinux.cfg/default"), DANGER).unwrap();
        let names = NameResolver::open(root.path(), RootFence::default()).unwrap();
        for file in 0..300 {
            fs::write(root.path().join(format!("apool/{file}.deb")), b"").unwrap();
        }
        let found = survey_within(root.path(), &names, false, 200);
        assert_eq!((found.dangers.len(), found.is_cut_short), (1, true));
    }

    #[test]
    fn k7_a_server_that_ignores_case_serves_menus_in_every_case() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("PXELINUX.CFG")).unwrap();
        fs::write(root.path().join("PXELINUX.CFG/default"), DANGER).unwrap();
        let names = NameResolver::open(root.path(), RootFence::default()).unwrap();
        assert_eq!(survey_root(root.path(), &names, true).dangers.len(), 1);
        assert_eq!(survey_root(root.path(), &names, false).dangers.len(), 0);
    }

    #[test]
    fn k2_menus_behind_links_that_the_server_follows_are_read() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("menus")).unwrap();
        fs::create_dir_all(scratch.path().join("outside")).unwrap();
        fs::write(root.join("menus/default"), DANGER).unwrap();
        fs::write(scratch.path().join("outside/default"), DANGER).unwrap();
        // An absolute link that ends inside, and one to a place outside.
        symlink(root.join("menus"), root.join("pxelinux.cfg")).unwrap();
        fs::create_dir(root.join("new")).unwrap();
        symlink(scratch.path().join("outside"), root.join("new/pxelinux.cfg")).unwrap();
        let paths = |found: RootSurvey| {
            found.dangers.into_iter().map(|danger| danger.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(survey(&root)), [Path::new("pxelinux.cfg/default")]);
        let fence =
            RootFence { links: vec![scratch.path().join("outside")], ..RootFence::default() };
        let names = NameResolver::open(&root, fence).unwrap();
        assert_eq!(
            paths(survey_root(&root, &names, false)),
            [Path::new("new/pxelinux.cfg/default"), Path::new("pxelinux.cfg/default")]
        );
    }
}
