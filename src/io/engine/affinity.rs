//! Which processors this process may use, and pinning a thread to one of them: never outside the
//! inherited mask.

use std::io;

/// The processors of the mask that this process was started with, in order (taskset, cpuset,
/// CPUAffinity=).
pub fn list_allowed_processors() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is an array of integers, for which all zeros is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the size is that of `set`, which the kernel fills.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(1024);
    // SAFETY: CPU_ISSET reads one bit of the set, below CPU_SETSIZE.
    Ok((0..most).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Pins the calling thread to these processors, which must come from [`list_allowed_processors`].
pub fn pin_to_processors(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: as above; CPU_SET writes one bit below CPU_SETSIZE, as `allowed` gives no larger
    // number.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
        set
    };
    // SAFETY: the size is that of `set`, which the kernel reads.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
