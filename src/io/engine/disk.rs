//! Free space of a disk, and the rights of this process in a directory.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The space of a file system (statvfs(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that an unprivileged user may still write.
    pub free: u64,
    /// Size of the file system, bytes.
    pub total: u64,
    /// Files that can still be created. A file system without a count reports 0 of 0.
    pub files_free: u64,
    /// Files that the file system can have at all.
    pub files_total: u64,
    /// The file system is mounted read-only.
    pub is_read_only: bool,
}

/// Reads the space of the file system of a file or directory.
pub fn read_disk_space(path: &Path) -> io::Result<DiskSpace> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is NUL-terminated, and the kernel writes one whole statvfs to the address
    // given.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, and so has filled it.
    let found = unsafe { found.assume_init() };
    Ok(DiskSpace {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        files_free: found.f_favail,
        files_total: found.f_files,
        is_read_only: found.f_flag & libc::ST_RDONLY != 0,
    })
}

/// Whether this process may read, write and search a directory, or read and write a file.
pub fn may_change_path(path: &Path) -> bool {
    let rights =
        if path.is_dir() { libc::R_OK | libc::W_OK | libc::X_OK } else { libc::R_OK | libc::W_OK };
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path is NUL-terminated; the call writes nothing.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), rights, libc::AT_EACCESS) == 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_has_room_and_what_is_not_there_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let found = read_disk_space(directory.path()).unwrap();
        assert!(found.free > 0 && found.free <= found.total && !found.is_read_only, "{found:?}");
        assert!(read_disk_space(Path::new("/nonexistent")).is_err());
        assert!(may_change_path(directory.path()) && !may_change_path(Path::new("/nonexistent")));
        assert!(read_disk_space(Path::new("/proc")).unwrap().total == 0);
    }
}
