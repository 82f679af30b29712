//! The system calls that make a range of a mapping resident, keep it so and let it go, and the
//! limit on what is kept.

use std::fs;
use std::io;

use memmap2::{Advice, Mmap};

/// CAP_IPC_LOCK of capabilities(7): locked memory without limit.
const IPC_LOCK: u64 = 14;
/// CAP_SYS_RESOURCE: may raise the limit.
const SYS_RESOURCE: u64 = 24;

/// How a range of a mapping became resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockOutcome {
    /// It stays until it is unlocked.
    Locked,
    /// The kernel may take it away when memory is short, or had none for it yet: this process may
    /// not lock as much.
    Unlocked,
    /// Not all of it is there, because the file was cut short: a send from it gets EFAULT.
    Cut,
}

/// Reads a range into the page cache, maps it and locks it. Waits for the disk.
///
/// A file that is cut short is an error of the call and no SIGBUS, since the kernel touches the
/// pages and not this process.
pub(super) fn make_resident(map: &Mmap, start: usize, len: usize, may_lock: bool) -> LockOutcome {
    let Some(address) = address(map, start, len) else { return LockOutcome::Cut };
    if may_lock {
        // SAFETY: the range lies inside the mapping, which is borrowed; locking changes no byte of
        // it.
        if unsafe { libc::mlock(address, len) } == 0 {
            return LockOutcome::Locked;
        }
        // The call may have marked the range as locked and stopped half-way.
        unlock(map, start, len);
    }
    match map.advise_range(Advice::PopulateRead, start, len) {
        Ok(()) => LockOutcome::Unlocked,
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => LockOutcome::Cut,
        // Short of memory for the moment: whoever keeps pieces that are not locked tries again, and
        // `status` counts them.
        Err(_) => LockOutcome::Unlocked,
    }
}

/// Lets the kernel take a range away when it needs memory. What is cached stays cached until then.
pub(super) fn unlock(map: &Mmap, start: usize, len: usize) {
    if let Some(address) = address(map, start, len) {
        // SAFETY: the range lies inside the mapping, which is borrowed; unlocking changes no byte
        // of it.
        unsafe { libc::munlock(address, len) };
    }
}

fn address(map: &Mmap, start: usize, len: usize) -> Option<*const libc::c_void> {
    let end = start.checked_add(len)?;
    (end <= map.len()).then(|| map.as_ptr().wrapping_add(start).cast())
}

/// Raises the soft limit of RLIMIT_MEMLOCK to `bytes`, and the hard one too where that is allowed
/// (root, for now). The answer is what may be locked from now on, by a thread without capabilities.
pub fn raise_locked_memory(bytes: u64) -> io::Result<u64> {
    let now = limit()?;
    if now.rlim_cur >= bytes {
        return Ok(now.rlim_cur);
    }
    let set = |wanted: libc::rlimit| {
        // SAFETY: `wanted` is a whole rlimit that outlives the call, which only reads it.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const wanted) == 0 }
    };
    let wanted = libc::rlimit { rlim_cur: bytes, rlim_max: now.rlim_max.max(bytes) };
    if set(wanted) || set(libc::rlimit { rlim_cur: now.rlim_max, rlim_max: now.rlim_max }) {
        return Ok(limit()?.rlim_cur);
    }
    Err(io::Error::last_os_error())
}

/// Whether a server that this process starts may lock so many bytes: by its limit, or because it
/// may raise that (or need not).
pub fn may_lock(bytes: u64, stays_root: bool) -> bool {
    let capabilities =
        effective_capabilities(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let has = |number: u64| capabilities & (1 << number) != 0;
    has(SYS_RESOURCE)
        || stays_root && has(IPC_LOCK)
        || limit().is_ok_and(|limit| limit.rlim_max >= bytes)
}

fn limit() -> io::Result<libc::rlimit> {
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
fn effective_capabilities(status: &str) -> u64 {
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
        assert!(may_lock(before, false), "what the limit allows");
    }

    #[test]
    fn capabilities_are_read_as_the_kernel_writes_them() {
        assert_eq!(
            effective_capabilities("Name:\tx\nCapPrm:\t01\nCapEff:\t0000000000004000\n"),
            1 << IPC_LOCK
        );
        assert_eq!(effective_capabilities(""), 0);
    }

    #[test]
    fn a_file_cut_short_is_an_error_of_the_call_and_no_signal() {
        const LEN: usize = 1 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN as u64).unwrap();
        // SAFETY: the bytes of the mapping are never read here.
        let map = unsafe { MmapOptions::new().len(LEN).map(&file).unwrap() };
        for may_lock in [true, false] {
            assert_ne!(make_resident(&map, 0, LEN, may_lock), LockOutcome::Cut);
        }
        file.set_len(5000).unwrap();
        for may_lock in [true, false] {
            assert_eq!(make_resident(&map, 0, LEN, may_lock), LockOutcome::Cut);
        }
        assert_eq!(make_resident(&map, 0, LEN + 1, true), LockOutcome::Cut, "beyond the mapping");
    }
}
