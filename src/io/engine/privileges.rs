//! The system calls that look up a user and give up root; `guard` decides when, and which
//! capabilities to keep.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;

/// CAP_NET_BIND_SERVICE of capabilities(7): ports below 1024.
pub const NET_BIND_SERVICE: u32 = 10;
/// CAP_NET_RAW of capabilities(7): packet sockets, and sockets bound to an interface.
pub const NET_RAW: u32 = 13;

/// A user of the system, by its numbers in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessIds {
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
}

/// Buffer for one line of the user database, bytes; the C library refuses a longer line with
/// ERANGE.
const PASSWD_LINE_BYTES: usize = 16 * 1024;

/// Looks a user up by name, in the sources of nsswitch.conf. None: there is no such user.
pub fn find_user_ids(name: &str) -> io::Result<Option<ProcessIds>> {
    let name = CString::new(name)?;
    let mut buffer = vec![0; PASSWD_LINE_BYTES];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: the name is NUL-terminated, the buffer is as long as said, and all of them outlive
    // the call.
    let error = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            entry.as_mut_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    match (error, found.is_null()) {
        (0, false) => {
            // SAFETY: `found` is not null, so the call has filled `entry`; the two numbers point
            // into no buffer.
            let entry = unsafe { entry.assume_init_ref() };
            Ok(Some(ProcessIds { uid: entry.pw_uid, gid: entry.pw_gid }))
        }
        (0 | libc::ENOENT | libc::ESRCH, true) => Ok(None),
        (error, _) => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Whether this process runs as root now.
pub fn is_root() -> bool {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The user and group that this process has for files.
pub fn read_own_ids() -> ProcessIds {
    // SAFETY: both take nothing and cannot fail.
    unsafe { ProcessIds { uid: libc::geteuid(), gid: libc::getegid() } }
}

/// prctl(2) reads every argument as an unsigned long: each must be that wide, because the function
/// is variadic.
const LONG_0: libc::c_ulong = 0;
const LONG_1: libc::c_ulong = 1;

/// Forbids the calling thread, and every thread that it starts later, to gain rights by executing a
/// set-user-id program.
pub fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers only.
    check_privilege_call(unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, LONG_1, LONG_0, LONG_0, LONG_0)
    })
}

/// Numbers of capabilities to try; the kernel has fewer and refuses the rest (CAP_LAST_CAP is 40 in
/// Linux 5.9 to 6.17).
const CAPABILITIES_MAX: u32 = 64;

/// Limits the calling thread, and every thread that it starts later, to these capabilities, even if
/// it executes a program as root. The thread keeps its present capabilities until it becomes
/// another user.
pub fn limit_capabilities(kept: &[u32]) -> io::Result<()> {
    for number in (0..CAPABILITIES_MAX).filter(|number| !kept.contains(number)) {
        // SAFETY: PR_CAPBSET_READ takes numbers only.
        match unsafe {
            libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), LONG_0, LONG_0, LONG_0)
        } {
            0 => {}
            // SAFETY: PR_CAPBSET_DROP takes numbers only.
            1 => check_privilege_call(unsafe {
                libc::prctl(
                    libc::PR_CAPBSET_DROP,
                    libc::c_ulong::from(number),
                    LONG_0,
                    LONG_0,
                    LONG_0,
                )
            })?,
            // The kernel has no capability of this number, and none above it.
            _ => break,
        }
    }
    Ok(())
}

/// Makes every thread of the process this user, without supplementary groups (the C library signals
/// each thread). The calling thread, and threads that it starts later, keep `capabilities`; the
/// others keep none. This cannot be undone.
pub fn become_user(ids: ProcessIds, capabilities: &[u32]) -> io::Result<()> {
    let mut parent_death_signal: libc::c_int = 0;
    // SAFETY: PR_GET_PDEATHSIG writes one int to the address given.
    check_privilege_call(unsafe {
        libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut parent_death_signal)
    })?;
    // SAFETY: PR_SET_KEEPCAPS takes numbers only.
    check_privilege_call(unsafe {
        libc::prctl(libc::PR_SET_KEEPCAPS, LONG_1, LONG_0, LONG_0, LONG_0)
    })?;
    // SAFETY: a list of no groups is read nowhere.
    check_privilege_call(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: takes a number.
    check_privilege_call(unsafe { libc::setgid(ids.gid) })?;
    // SAFETY: takes a number.
    check_privilege_call(unsafe { libc::setuid(ids.uid) })?;
    set_capabilities(capabilities)?;
    // A change of user clears the death signal, and the parent that set it still wants this process
    // to end with it.
    let signal = libc::c_ulong::try_from(parent_death_signal).unwrap_or(0);
    // SAFETY: PR_SET_PDEATHSIG takes numbers only.
    check_privilege_call(unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, signal, LONG_0, LONG_0, LONG_0)
    })?;
    // SAFETY: takes a number.
    if unsafe { libc::setuid(0) } == 0 {
        return Err(io::Error::other("root could be regained"));
    }
    Ok(())
}

/// Drops all capabilities of the calling thread, and of threads that it starts later; a thread of
/// root stays as it is. If the kernel refuses, the thread keeps its capabilities.
pub fn give_up_capabilities() {
    if !is_root() {
        let _ = set_capabilities(&[]);
    }
}

/// `struct __user_cap_header_struct` of linux/capability.h.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    /// 0: the calling thread.
    pid: i32,
}

/// `struct __user_cap_data_struct`: 32 capabilities of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two data structures, capabilities 0 to 63.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

fn set_capabilities(kept: &[u32]) -> io::Result<()> {
    let low = kept.iter().filter(|&&number| number < 32).fold(0, |set, number| set | 1 << number);
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let data = [
        CapabilityData { effective: low, permitted: low, inheritable: 0 },
        CapabilityData::default(),
    ];
    // SAFETY: version 3 reads one header and two data structures, and both live across the call.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn check_privilege_call(answer: i32) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn users_are_found_by_name_and_a_stranger_is_none() {
        assert_eq!(find_user_ids("root").unwrap(), Some(ProcessIds { uid: 0, gid: 0 }));
        assert_eq!(find_user_ids("no-such-user-here").unwrap(), None);
        assert!(find_user_ids("a\0b").is_err());
    }
}
