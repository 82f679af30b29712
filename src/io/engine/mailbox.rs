//! Passes values from other threads to a core that may sleep in its ring: a queue and an eventfd.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The sending end, for any thread, with any number of clones. The queue needs no bound: workers
/// send only replies that the core requested.
#[derive(Debug)]
pub struct MailboxSender<T> {
    queue: Sender<T>,
    bell: MailboxBell,
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

impl<T> MailboxSender<T> {
    /// Sends a letter and wakes the core. A core that has ended receives nothing more.
    pub fn send(&self, letter: T) {
        if self.queue.send(letter).is_ok() {
            self.bell.ring();
        }
    }
}

/// Wakes a core without a letter (for shutdown).
#[derive(Clone, Debug)]
pub struct MailboxBell(Arc<OwnedFd>);

impl MailboxBell {
    /// Wakes the core.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // The write would block on a full counter, which takes 2^64 - 2 unheard rings. (The
        // descriptor must be a blocking one: a ring's read of a non-blocking one ends at once.)
        // SAFETY: the descriptor is an open eventfd, and eight bytes are read from `one`.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Resets the bell, so that the core can wait for it again.
    pub(super) fn silence(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the descriptor is an open eventfd that has rung, and eight bytes are written to
        // `count`.
        let _ = unsafe { libc::read(self.fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// Whether the bell has rung, so that [`Self::silence`] would not block.
    pub(super) fn is_ringing(&self) -> bool {
        let mut watched = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes one element, which lives across the call.
        unsafe { libc::poll(&raw mut watched, 1, 0) > 0 }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The receiving end, for the core.
#[derive(Debug)]
pub struct CoreMailbox<T> {
    queue: Receiver<T>,
    bell: MailboxBell,
}

impl<T> CoreMailbox<T> {
    /// A mailbox and its sending end.
    pub fn new() -> io::Result<(MailboxSender<T>, Self)> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let bell = MailboxBell(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }));
        let (sender, receiver) = channel();
        Ok((MailboxSender { queue: sender, bell: bell.clone() }, Self { queue: receiver, bell }))
    }

    /// The next letter, if there is one.
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// A bell that wakes this core.
    pub fn bell(&self) -> MailboxBell {
        self.bell.clone()
    }

    pub(super) fn fd(&self) -> RawFd {
        self.bell.fd()
    }
}
