//! Limits that a helper process puts on itself.

use std::io;

/// No more than so many bytes of address space, no core dump, and an end when the thread that
/// started this process ends, but not by the SIGTERM that all processes of a service are sent.
pub fn confine(memory_bytes: u64) -> io::Result<()> {
    limit(libc::RLIMIT_AS, memory_bytes)?;
    limit(libc::RLIMIT_CORE, 0)?;
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    let signal = libc::c_ulong::from(libc::SIGKILL.unsigned_abs());
    // SAFETY: PR_SET_PDEATHSIG takes a number and no pointer.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn limit(of: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a whole rlimit that outlives the call, which writes it and keeps no
    // pointer to it.
    if unsafe { libc::getrlimit(of, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_max = limit.rlim_max.min(most);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a whole rlimit that outlives the call, which only reads it.
    if unsafe { libc::setrlimit(of, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
