//! Network namespaces that have no name: they end with the last thread, process or descriptor that
//! holds them, whatever ends those.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

/// The calling thread's own namespace.
const OF_THREAD: &str = "/proc/thread-self/ns/net";

/// A network namespace; the kernel removes it, with its interfaces, when this value is dropped and
/// no thread is inside.
#[derive(Debug)]
pub struct NetworkNamespace(File);

impl NetworkNamespace {
    /// Makes a namespace with nothing but a loopback interface that is down. The calling thread
    /// stays where it is. Needs CAP_SYS_ADMIN.
    pub fn make() -> io::Result<Self> {
        // Only a thread can enter a new namespace, and this one ends at once.
        let made = thread::spawn(|| {
            // SAFETY: takes a flag and no pointer, and changes this thread alone.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(io::Error::last_os_error());
            }
            File::open(OF_THREAD)
        });
        let joined = made.join().map_err(|_| io::Error::other("a thread panicked"))?;
        joined.map(Self)
    }

    /// Moves the calling thread into this namespace, and with it the threads and processes that it
    /// starts from now on. Sockets that are open stay where they were made.
    pub fn enter(&self) -> io::Result<()> {
        enter_by_descriptor(self.0.as_raw_fd())
    }

    /// Makes the process that `command` starts begin inside. This value must live until then.
    pub fn contain_process(&self, command: &mut Command) {
        let descriptor = self.0.as_raw_fd();
        // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
        // allowed: setns is one, it takes no pointer, and nothing here allocates or locks. The
        // child has a copy of the descriptor until its exec.
        unsafe {
            command.pre_exec(move || enter_by_descriptor(descriptor));
        }
    }

    /// A path by which other processes find this namespace, for `ip link set ... netns PATH`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }
}

fn enter_by_descriptor(descriptor: i32) -> io::Result<()> {
    // SAFETY: takes a descriptor and no pointer; the kernel refuses one that is no namespace.
    match unsafe { libc::setns(descriptor, libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
