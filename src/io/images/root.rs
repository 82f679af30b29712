//! The root directory: the server looks its path up repeatedly, and so follows a link or a
//! directory that was switched.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use super::fence::RootFence;
use super::limits::ROOT_LOOK;
use super::stat::stat_known_file;

#[derive(Debug)]
pub(super) struct ImageRoot {
    path: PathBuf,
    name: CString,
    opened: ArcSwap<OpenedRoot>,
    /// When the path was last looked up, in milliseconds since `began`.
    looked: AtomicU64,
    began: Instant,
}

/// The directory to which the path led at the last lookup.
#[derive(Debug)]
pub(super) struct OpenedRoot {
    pub(super) directory: OwnedFd,
    /// Device and inode.
    id: (u64, u64),
    /// The fence's private files, without links.
    pub(super) private: Vec<PathBuf>,
    /// Those of them that lie in this directory, by their paths under it: they stay private when
    /// the directory gets another name.
    pub(super) inside: Vec<PathBuf>,
}

impl ImageRoot {
    /// Opens the root. An error also if nothing below the root can be opened.
    pub(super) fn open(path: &Path, fence: &RootFence) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let opened = OpenedRoot::new(path, &name, fence)?;
        open_path_at(&opened.directory, c".", libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS)
            .map_err(explain_openat2_error)?;
        Ok(Self {
            path: path.to_path_buf(),
            name,
            opened: ArcSwap::from_pointee(opened),
            looked: AtomicU64::new(0),
            began: Instant::now(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn current(&self) -> Guard<Arc<OpenedRoot>> {
        self.opened.load()
    }

    /// Whether the path still leads to the same directory, by the kernel's caches, checked ten
    /// times a second. For cores: on false a worker must call [`Self::follow_path`].
    pub(super) fn is_known(&self) -> bool {
        if !self.is_due() {
            return true;
        }
        match open_with_identity(&self.name, libc::RESOLVE_CACHED) {
            Ok((_, id)) if id != self.current().id => return false,
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return false,
            // While the path leads nowhere, serve the old directory.
            _ => {}
        }
        self.has_looked();
        true
    }

    /// Opens the directory to which the path leads now. Waits for the disk: workers only.
    pub(super) fn follow_path(&self, fence: &RootFence) {
        if !self.is_due() {
            return;
        }
        if let Ok((_, id)) = open_with_identity(&self.name, 0)
            && id != self.current().id
            && let Ok(opened) = OpenedRoot::new(&self.path, &self.name, fence)
        {
            self.opened.store(Arc::new(opened));
            tracing::info!(
                "the root {} now leads to another directory; ringboot serves that one",
                self.path.display()
            );
        }
        self.has_looked();
    }

    fn is_due(&self) -> bool {
        let since = self.elapsed_ms().saturating_sub(self.looked.load(Ordering::Relaxed));
        u128::from(since) >= ROOT_LOOK.as_millis()
    }

    fn has_looked(&self) {
        self.looked.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl OpenedRoot {
    fn new(path: &Path, name: &CStr, fence: &RootFence) -> io::Result<Self> {
        let (directory, id) = open_with_identity(name, 0)?;
        let root = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let private = fence.resolve_private();
        let below = private.iter().filter_map(|path| path.strip_prefix(&root).ok());
        let inside = below.map(Path::to_path_buf).collect();
        Ok(Self { directory, id, private, inside })
    }
}

/// Opens a directory, and returns its device and inode too.
fn open_with_identity(name: &CStr, resolve: u64) -> io::Result<(OwnedFd, (u64, u64))> {
    let found = call_openat2(libc::AT_FDCWD, name, libc::O_DIRECTORY, resolve)?;
    let stat = stat_known_file(&found).map_err(|refusal| io::Error::other(refusal.to_string()))?;
    Ok((found, (stat.st_dev, stat.st_ino)))
}

/// Opens an O_PATH descriptor for `name` below `root`, by the rules `resolve` (RESOLVE_*).
pub(super) fn open_path_at(root: &OwnedFd, name: &CStr, resolve: u64) -> io::Result<OwnedFd> {
    call_openat2(root.as_raw_fd(), name, 0, resolve)
}

fn call_openat2(
    root: libc::c_int,
    name: &CStr,
    flags: libc::c_int,
    resolve: u64,
) -> io::Result<OwnedFd> {
    // SAFETY: open_how is a struct of three integers, for which all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC | flags) as u64;
    how.resolve = resolve;
    // SAFETY: `root` is open or AT_FDCWD, `name` is NUL-terminated, `how` and its size describe one
    // open_how.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root,
            name.as_ptr(),
            std::ptr::from_ref(&how),
            size_of::<libc::open_how>(),
        )
    };
    match i32::try_from(answer) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Adds the likely cause: a sandbox forbids openat2 altogether, since it cannot inspect its
/// argument, and then the server could serve no file.
fn explain_openat2_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM) => io::Error::new(
            error.kind(),
            format!(
                "a sandbox refuses openat2 (systemd: RestrictSUIDSGID=yes, or a SystemCallFilter \
                 without it): {error}"
            ),
        ),
        _ => error,
    }
}
