//! Metadata of a file, from the kernel's cache or from the disk, and the refusal for each system
//! error.

use std::io;
use std::os::fd::AsRawFd;

use super::path::NameRefusal;

/// The metadata in the kernel's cache, without a request to a file server. For cores.
pub(super) fn stat_known_file(file: &impl AsRawFd) -> Result<libc::stat, NameRefusal> {
    const WANTED: libc::c_uint = libc::STATX_BASIC_STATS;
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    let mut found = std::mem::MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the descriptor is open while `file` is borrowed, the path is NUL-terminated, `found`
    // has room for one struct statx.
    let answer =
        unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, WANTED, found.as_mut_ptr()) };
    if answer != 0 {
        return Err(classify_name_refusal(&io::Error::last_os_error()));
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

/// The metadata from the file system. Waits for a disk or a file server: workers only.
pub(super) fn stat_file(file: &impl AsRawFd) -> Result<libc::stat, NameRefusal> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the descriptor is open while `file` is borrowed, and `stat` has room for one struct
    // stat.
    let answer = unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) };
    if answer != 0 {
        return Err(classify_name_refusal(&io::Error::last_os_error()));
    }
    // SAFETY: fstat returned 0, so it filled the whole struct.
    Ok(unsafe { stat.assume_init() })
}

#[inline]
pub(super) fn is_directory_stat(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

#[inline]
pub(super) fn is_regular_stat(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

pub(super) fn classify_name_refusal(error: &io::Error) -> NameRefusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => NameRefusal::Busy,
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => NameRefusal::NotFound,
        Some(libc::EXDEV | libc::ELOOP) => NameRefusal::OutsideRoot,
        Some(libc::EACCES | libc::EPERM) => NameRefusal::Unreadable,
        Some(libc::EMFILE | libc::ENFILE) => NameRefusal::TooMany,
        _ => NameRefusal::ReadFailed,
    }
}
