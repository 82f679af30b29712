//! Limits that a helper process puts on itself.

use std::io;

/// Limits the address space to `memory_bytes`, forbids core dumps, and ends this process when the
/// thread that started it ends. Ignores the SIGTERM that systemd sends to all processes of a
/// service.
pub fn confine_process(memory_bytes: u64) -> io::Result<()> {
    limit_resource(libc::RLIMIT_AS, memory_bytes)?;
    limit_resource(libc::RLIMIT_CORE, 0)?;
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

fn limit_resource(of: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
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
