//! Ends a child process with this process, whatever ends this one: SIGKILL runs no destructor.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The kernel sends the child SIGKILL when the thread that spawned it ends (prctl(2),
/// PR_SET_PDEATHSIG): spawn it from a thread that lives as long as the child should.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id().cast_signed();
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
    // allowed: prctl and getppid are, they take no pointer, and nothing here allocates or locks.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have died before the call: then no signal follows.
            if libc::getppid() == parent {
                Ok(())
            } else {
                Err(std::io::ErrorKind::NotConnected.into())
            }
        });
    }
}
