//! The exceptions of the root: files below it that the server never serves, single files of
//! packages outside it that the server does serve, and places outside it into which links may lead.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::path::CleanPath;

/// The exceptions to "a name is the file of that name under the root".
#[derive(Clone, Debug, Default)]
pub struct RootFence {
    /// Files and directories that the server never serves (the configuration, the state), as
    /// absolute paths. A link in them may be switched: they are resolved when they are compared.
    pub private: Vec<PathBuf>,
    /// Single files outside the root, by the names under which the server serves them if the root
    /// has no such name: the loaders of installed packages. Read-only, and never a directory.
    pub borrowed: HashMap<CleanPath, PathBuf>,
    /// Directories outside the root into which a link under the root may lead, as absolute paths
    /// without links.
    pub links: Vec<PathBuf>,
    /// Serve only files that every user may read (mode o+r). For a process that runs as root, which
    /// no file mode stops.
    pub only_world_readable: bool,
}

impl RootFence {
    /// A fence around these private paths.
    pub fn from_private_paths(private: &[&Path]) -> Self {
        let absolute =
            |path: &&Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let private = private.iter().map(absolute).collect();
        Self { private, only_world_readable: runs_as_root(), ..Self::default() }
    }

    /// The private paths without links, as the kernel names them now.
    pub(super) fn resolve_private(&self) -> Vec<PathBuf> {
        self.private.iter().map(|path| resolve_links(path)).collect()
    }

    /// Whether a file is private under any of its names: it has hard links, or lies in a directory
    /// that is mounted twice. `directory`: where it lies. Asks the disk each time, because editors
    /// and SQLite replace old files by new ones. Waits for the disk: workers only.
    pub(super) fn has_private_name(&self, file: &libc::stat, directory: &Path) -> bool {
        let file_id = (file.st_dev, file.st_ino);
        let directory_id = fs::metadata(directory).ok().as_ref().map(identify);
        self.private.iter().any(|path| {
            let private_id = fs::metadata(path).ok().as_ref().map(identify);
            let is_named = private_id.is_some_and(|id| id == file_id || directory_id == Some(id));
            // Only a file with several names can also lie in a directory of another name.
            let is_within = || {
                let mut entries = fs::read_dir(path).into_iter().flatten().flatten();
                entries.any(|entry| entry.metadata().is_ok_and(|meta| identify(&meta) == file_id))
            };
            is_named || (file.st_nlink > 1 && is_within())
        })
    }
}

/// Device and inode.
fn identify(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Whether this process may read every file.
pub fn runs_as_root() -> bool {
    // `Uid: real effective saved files`, as numbers.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Resolves links in a path. Resolves only the parent of a path that does not exist yet (a state
/// directory before the first start).
pub fn resolve_links(path: &Path) -> PathBuf {
    if let Ok(canonical) = path.canonicalize() {
        return canonical;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => resolve_links(parent).join(name),
        _ => absolute,
    }
}
