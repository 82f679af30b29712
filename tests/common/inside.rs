//! Threads of the test's own inside a network namespace: sockets that they open are there.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::JoinHandle;

/// Runs this on a thread inside the namespace, to its end.
pub fn run<R: Send + 'static>(namespace: &str, work: impl FnOnce() -> R + Send + 'static) -> R {
    start(namespace, work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The same, without waiting for it.
pub fn start<R: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    let file = File::open(Path::new("/run/netns").join(namespace))
        .expect("a namespace that this test made");
    std::thread::spawn(move || {
        // SAFETY: setns takes a descriptor, which is open here, and changes the calling thread
        // alone.
        let answer = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(answer, 0, "entering a namespace: {}", std::io::Error::last_os_error());
        work()
    })
}
