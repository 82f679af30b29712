//! The system calls that make a range of a mapping resident, lock and unlock it, and the limit on
//! locked memory.

use std::fs;
use std::io;

use memmap2::{Advice, Mmap};

/// CAP_IPC_LOCK of capabilities(7): locked memory without limit.
const IPC_LOCK: u64 = 14;
/// CAP_SYS_RESOURCE: may raise the limit.
const SYS_RESOURCE: u64 = 24;

/// How a range of a mapping became resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResidencyKind {
    /// Locked: the range stays until the server unlocks it.
    Locked,
    /// Not locked: this process may not lock as much, so the kernel may evict the range when memory
    /// is short, or had no memory for it.
    Unlocked,
    /// Not all of the range exists, because the file was truncated: a send from it gets EFAULT.
    Cut,
}

/// Reads a range into the page cache, maps it and locks it. Waits for the disk.
///
/// A truncated file is an error of the call and no SIGBUS, since the kernel touches the pages and
/// not this process.
pub(super) fn make_resident(map: &Mmap, start: usize, len: usize, may_lock: bool) -> ResidencyKind {
    let Some(address) = find_range_address(map, start, len) else { return ResidencyKind::Cut };
    if may_lock {
        // SAFETY: the range lies inside the mapping, which is borrowed; locking changes no byte of
        // it.
        if unsafe { libc::mlock(address, len) } == 0 {
            return ResidencyKind::Locked;
        }
        // The call may have locked a part of the range and failed then.
        unlock_range(map, start, len);
    }
    match map.advise_range(Advice::PopulateRead, start, len) {
        Ok(()) => ResidencyKind::Unlocked,
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => ResidencyKind::Cut,
        // Memory is short for the moment: the keeper of unlocked pieces tries again, and `status`
        // counts them.
        Err(_) => ResidencyKind::Unlocked,
    }
}

/// Allows the kernel to evict a range when it needs memory. The range stays in the page cache until
/// then.
pub(super) fn unlock_range(map: &Mmap, start: usize, len: usize) {
    if let Some(address) = find_range_address(map, start, len) {
        // SAFETY: the range lies inside the mapping, which is borrowed; unlocking changes no byte
        // of it.
        unsafe { libc::munlock(address, len) };
    }
}

fn find_range_address(map: &Mmap, start: usize, len: usize) -> Option<*const libc::c_void> {
    let end = start.checked_add(len)?;
    (end <= map.len()).then(|| map.as_ptr().wrapping_add(start).cast())
}

/// Raises the soft limit of RLIMIT_MEMLOCK to `bytes`, and the hard one if the process may. Returns
/// how many bytes a thread without capabilities may lock from now on.
pub fn raise_locked_memory(bytes: u64) -> io::Result<u64> {
    let now = read_memlock_limit()?;
    if now.rlim_cur >= bytes {
        return Ok(now.rlim_cur);
    }
    let wanted = libc::rlimit { rlim_cur: bytes, rlim_max: now.rlim_max.max(bytes) };
    let possible = libc::rlimit { rlim_cur: now.rlim_max, rlim_max: now.rlim_max };
    if set_memlock_limit(wanted) || set_memlock_limit(possible) {
        return Ok(read_memlock_limit()?.rlim_cur);
    }
    Err(io::Error::last_os_error())
}

/// Whether a server that this process starts may lock this many bytes: by its limit, or because it
/// may raise or ignore the limit.
pub fn may_lock_memory(bytes: u64, stays_root: bool) -> bool {
    let capabilities =
        read_effective_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let has = |number: u64| capabilities & (1 << number) != 0;
    has(SYS_RESOURCE)
        || stays_root && has(IPC_LOCK)
        || read_memlock_limit().is_ok_and(|limit| limit.rlim_max >= bytes)
}

fn set_memlock_limit(wanted: libc::rlimit) -> bool {
    // SAFETY: `wanted` is a whole rlimit that outlives the call, which only reads it.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const wanted) == 0 }
}

fn read_memlock_limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a whole rlimit that outlives the call, which writes it and keeps no
    // pointer to it.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0 {
        Ok(limit)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `CapEff:\t000001ffffffffff` of proc_pid_status(5).
fn read_effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use memmap2::MmapOptions;

    use super::*;

    #[test]
    fn the_limit_is_only_ever_raised() {
        let before = raise_locked_memory(0).unwrap();
        assert!(raise_locked_memory(before.saturating_add(1)).unwrap() >= before);
        assert!(raise_locked_memory(1).unwrap() >= before);
        assert!(may_lock_memory(before, false), "what the limit allows");
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            read_effective_capabilities("Name:\tx\nCapPrm:\t01\nCapEff:\t0000000000004000\n"),
            1 << IPC_LOCK
        );
        assert_eq!(read_effective_capabilities(""), 0);
    }

    #[test]
    fn a_file_cut_short_is_an_error_of_the_call_and_no_signal() {
        const LEN: usize = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN as u64).unwrap();
        // SAFETY: the bytes of the mapping are never read here.
        let map = unsafe { MmapOptions::new().len(LEN).map(&file).unwrap() };
        for may_lock in [true, false] {
            assert_ne!(make_resident(&map, 0, LEN, may_lock), ResidencyKind::Cut);
        }
        file.set_len(5000).unwrap();
        for may_lock in [true, false] {
            assert_eq!(make_resident(&map, 0, LEN, may_lock), ResidencyKind::Cut);
        }
        assert_eq!(make_resident(&map, 0, LEN + 1, true), ResidencyKind::Cut, "beyond the mapping");
    }
}
