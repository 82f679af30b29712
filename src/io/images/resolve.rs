//! Where a name leads: to a file under the root, to one of a package, or behind a link. The server
//! and `ringboot check` ask here, so that they cannot differ.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directories::DirectoryListing;
use super::fence::RootFence;
use super::hidden_names::is_hidden_name;
use super::path::{CleanPath, NameRefusal};
use super::reserve::DescriptorReserve;
use super::root::{ImageRoot, OpenedRoot, open_path_at};
use super::stat::{classify_name_refusal, is_directory_stat, is_regular_stat, stat_file};

/// Links of `/proc`, which lead to places without a name, are never followed.
const NO_MAGIC: u64 = libc::RESOLVE_NO_MAGICLINKS;

/// Looks names up in one root, within its fence.
#[derive(Debug)]
pub struct NameResolver {
    pub(super) root: ImageRoot,
    fence: RootFence,
    reserve: DescriptorReserve,
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameTarget {
    /// A file that is served, by its path without links.
    File(PathBuf),
    /// A directory, by its path without links.
    Directory(PathBuf),
}

impl NameResolver {
    /// Opens the root directory. An error also if nothing below it can be opened.
    pub fn open(root: &Path, fence: RootFence) -> io::Result<Self> {
        let root = ImageRoot::open(root, &fence)?;
        Ok(Self { root, fence, reserve: DescriptorReserve::new() })
    }

    /// The path of the root directory.
    pub(super) fn root_path(&self) -> &Path {
        self.root.path()
    }

    /// Looks a path up as a request for it does, and reads nothing. Waits for the disk.
    pub fn find_target(&self, path: &CleanPath) -> Result<NameTarget, NameRefusal> {
        let found = self.resolve_path(path, false)?;
        let stat = stat_file(&found)?;
        if is_directory_stat(&stat) {
            return Ok(NameTarget::Directory(read_descriptor_path(&found)?));
        }
        self.check_servable(&stat)?;
        let real = self.check_names(&found, &stat)?;
        Ok(NameTarget::File(real))
    }

    /// The one path that differs from this one in the case of its letters only (T-60). Waits for
    /// the disk.
    pub fn find_ignoring_case(&self, path: &CleanPath) -> Option<CleanPath> {
        find_folded_path(path, |directory| {
            let opened = self.resolve_path(directory, false).ok()?;
            DirectoryListing::read(&opened).ok().map(Arc::new)
        })
    }

    /// Opens exactly the file that `found` names, through its descriptor: no rename can put another
    /// file in its place. Waits for the disk: workers only.
    pub(super) fn open_regular(&self, found: &OwnedFd) -> Result<File, NameRefusal> {
        let stat = stat_file(found)?;
        self.check_servable(&stat)?;
        self.check_names(found, &stat)?;
        let name = format!("/proc/self/fd/{}", found.as_raw_fd());
        self.reserve.open(|| File::open(&name)).map_err(|error| classify_name_refusal(&error))
    }

    /// Refuses a file that is private under another name. Returns its path without links.
    fn check_names(&self, found: &OwnedFd, stat: &libc::stat) -> Result<PathBuf, NameRefusal> {
        let real = read_descriptor_path(found)?;
        let directory = real.parent().unwrap_or(&real);
        if self.fence.has_private_name(stat, directory) {
            return Err(NameRefusal::Private);
        }
        Ok(real)
    }

    /// Refuses a file that is not regular, or that not every user may read while the fence requires
    /// it.
    #[inline]
    pub(super) fn check_servable(&self, stat: &libc::stat) -> Result<(), NameRefusal> {
        if !is_regular_stat(stat) {
            return Err(NameRefusal::NotRegular);
        }
        let hidden = self.fence.only_world_readable && stat.st_mode & libc::S_IROTH == 0;
        if hidden { Err(NameRefusal::Unreadable) } else { Ok(()) }
    }

    /// Returns an O_PATH descriptor for the path, in the root or borrowed from a package. It opens
    /// nothing for reading, so a FIFO or a device has no effect.
    pub(super) fn resolve_path(
        &self,
        path: &CleanPath,
        cached_only: bool,
    ) -> Result<OwnedFd, NameRefusal> {
        if !cached_only {
            self.root.follow_path(&self.fence);
        }
        let root = self.root.current();
        let name: &[u8] = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
        let plain = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
        let under_root = match self.open_path(&root, name, plain, cached_only) {
            // Without links the name is the place.
            Ok(_) if is_below_any(Path::new(OsStr::from_bytes(name)), &root.inside) => {
                Err(NameRefusal::Private)
            }
            Err(NameRefusal::OutsideRoot) => self.follow_link(&root, name, cached_only),
            found => found,
        };
        match (under_root, self.fence.borrowed.get(path)) {
            // The path comes from the list of loaders, never from a client: links in it belong to
            // the package.
            (Err(NameRefusal::NotFound), Some(borrowed)) => {
                self.open_path(&root, borrowed.as_os_str().as_bytes(), NO_MAGIC, cached_only)
            }
            (found, _) => found,
        }
    }

    /// Opens a name with a link in it (T-59). The kernel says where the descriptor leads in the
    /// end: into the root, or into a place that the operator allows. A rename cannot exchange what
    /// the descriptor holds.
    fn follow_link(
        &self,
        root: &OpenedRoot,
        name: &[u8],
        cached_only: bool,
    ) -> Result<OwnedFd, NameRefusal> {
        let found = self.open_path(root, name, NO_MAGIC, cached_only)?;
        let real = read_descriptor_path(&found)?;
        let of_root = read_descriptor_path(&root.directory)?;
        let in_root = real.strip_prefix(&of_root).ok();
        let allowed = self.fence.links.iter().find_map(|place| real.strip_prefix(place).ok());
        let Some(inner) = in_root.or(allowed) else { return Err(NameRefusal::OutsideRoot) };
        let is_inside = in_root.is_some_and(|inner| is_below_any(inner, &root.inside));
        if is_inside || is_below_any(&real, &root.private) {
            return Err(NameRefusal::Private);
        }
        // A link is no way around the names that the server hides.
        if inner.components().any(|part| is_hidden_name(part.as_os_str().as_bytes())) {
            return Err(NameRefusal::Hidden);
        }
        Ok(found)
    }

    fn open_path(
        &self,
        root: &OpenedRoot,
        name: &[u8],
        how_resolved: u64,
        cached_only: bool,
    ) -> Result<OwnedFd, NameRefusal> {
        let name = CString::new(name).map_err(|_| NameRefusal::ControlCharacter)?;
        let cached = if cached_only { libc::RESOLVE_CACHED } else { 0 };
        self.reserve
            .open(|| open_path_at(&root.directory, &name, how_resolved | cached))
            .map_err(|error| classify_name_refusal(&error))
    }
}

/// The one path that differs from this one in the case of its letters only; `list` reads a
/// directory.
pub(super) fn find_folded_path(
    path: &CleanPath,
    list: impl Fn(&CleanPath) -> Option<Arc<DirectoryListing>>,
) -> Option<CleanPath> {
    let mut real = CleanPath::root();
    for component in path.as_bytes().split(|&b| b == b'/') {
        let listing = list(&real)?;
        real = real.child(listing.ignoring_case(std::str::from_utf8(component).ok()?)?);
    }
    Some(real)
}

fn is_below_any(path: &Path, places: &[PathBuf]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// Where the kernel says that a descriptor leads now, or led before its file was replaced. It waits
/// for no disk.
fn read_descriptor_path(found: &OwnedFd) -> Result<PathBuf, NameRefusal> {
    const GONE: &[u8] = b" (deleted)";
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
        .map_err(|error| classify_name_refusal(&error))?;
    let mut bytes = shown.into_os_string().into_vec();
    if bytes.ends_with(GONE) {
        bytes.truncate(bytes.len() - GONE.len());
    }
    Ok(OsString::from_vec(bytes).into())
}
