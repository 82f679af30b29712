//! How another thread hands something to a core that may be asleep in its ring: a queue and an
//! eventfd.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The sending end: any thread, any number of clones. Senders are bounded by what the core itself
/// has asked for.
#[derive(Debug)]
pub struct Letters<T> {
    queue: Sender<T>,
    bell: Bell,
}

impl<T> Clone for Letters<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> Letters<T> {
    /// Delivers and wakes the core. A core that has ended receives nothing more.
    pub fn send(&self, letter: T) {
        if self.queue.send(letter).is_ok() {
            self.bell.ring();
        }
    }
}

/// Wakes a core without a letter (for shutdown).
#[derive(Clone, Debug)]
pub struct Bell(Arc<OwnedFd>);

impl Bell {
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // It would wait where the counter is full, which takes 2^64 - 2 rings that nobody has
        // heard. (It is no descriptor that never waits: a ring's read of such a one ends at once.)
        // SAFETY: the descriptor is an open eventfd, and eight bytes are read from `one`.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes the ringing away, so that the bell can be waited for again.
    pub(super) fn silence(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the descriptor is an open eventfd that has rung, and eight bytes are written to
        // `count`.
        let _ = unsafe { libc::read(self.fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// Whether [`Self::silence`] would find something to take away, and so would not wait.
    pub(super) fn is_ringing(&self) -> bool {
        let mut watched = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes one element, which lives across the call.
        unsafe { libc::poll(&raw mut watched, 1, 0) > 0 }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The core's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Receiver<T>,
    bell: Bell,
}

impl<T> Mailbox<T> {
    /// A mailbox and its sending end.
    pub fn new() -> io::Result<(Letters<T>, Self)> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let bell = Bell(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }));
        let (sender, receiver) = channel();
        Ok((Letters { queue: sender, bell: bell.clone() }, Self { queue: receiver, bell }))
    }

    /// The next letter, if there is one.
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub(super) fn fd(&self) -> RawFd {
        self.bell.fd()
    }
}
