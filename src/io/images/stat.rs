//! What the kernel knows of a file, and how its errors are told.

use std::io;
use std::os::fd::AsRawFd;

use super::path::Refusal;

/// What the kernel knows, without a question to a file server. For cores.
pub(super) fn known_stat(file: &impl AsRawFd) -> Result<libc::stat, Refusal> {
    const WANTED: libc::c_uint = libc::STATX_BASIC_STATS;
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let mut found = std::mem::MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the descriptor is open while `file` is borrowed, the path is NUL-terminated, `found`
    // has room for one struct statx.
    let answer =
        unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, WANTED, found.as_mut_ptr()) };
    if answer != 0 {
        return Err(refusal(&io::Error::last_os_error()));
    }
    // SAFETY: statx returned 0, so it filled the whole struct.
    let found = unsafe { found.assume_init() };
    // SAFETY: a struct of integers, for which all zeros is a valid value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    stat.st_dev = libc::makedev(found.stx_dev_major, found.stx_dev_minor);
    stat.st_ino = found.stx_ino;
    stat.st_mode = libc::mode_t::from(found.stx_mode);
    stat.st_nlink = found.stx_nlink.into();
    stat.st_size = i64::try_from(found.stx_size).unwrap_or(i64::MAX);
    (stat.st_mtime, stat.st_mtime_nsec) = (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec.into());
    (stat.st_ctime, stat.st_ctime_nsec) = (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec.into());
    Ok(stat)
}

pub(super) fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Refusal::Busy,
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => Refusal::NotFound,
        Some(libc::EXDEV | libc::ELOOP) => Refusal::OutsideRoot,
        Some(libc::EACCES | libc::EPERM) => Refusal::Unreadable,
        Some(libc::EMFILE | libc::ENFILE) => Refusal::TooMany,
        _ => Refusal::ReadFailed,
    }
}
