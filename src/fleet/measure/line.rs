//! What a fleet asks and hears by one protocol, counted so that another thread can read it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What a server is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Dhcp,
    Tftp,
    Http,
}

/// What is asked and heard by one protocol, by all machines together.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Requests whose answers have not come, in whole or in part.
    waiting: AtomicU32,
    /// Receives that brought something.
    heard: AtomicU64,
    /// Somebody listens: a connection was accepted, perhaps by the kernel of a server that stands
    /// still.
    met: AtomicBool,
    /// Milliseconds for which nothing has come by now, although something was waited for.
    silent_ms: AtomicU64,
    /// Where a host has said that nobody listens, and how.
    nobody: OnceLock<Nobody>,
}

/// A place at which nobody answers, as the network has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nobody {
    pub(crate) at: SocketAddr,
    pub(crate) why: &'static str,
}

/// A request whose answer is waited for, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Asked<'a>(&'a Line);

impl<'a> Asked<'a> {
    pub(crate) fn of(line: &'a Line) -> Self {
        line.asks();
        Self(line)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.asks_no_more();
    }
}

impl Line {
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(crate) fn asks(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn asks_no_more(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Only the fleet's own thread does this, so that it costs a packet next to nothing.
    pub(crate) fn hears(&self) {
        self.heard.store(self.heard() + 1, Ordering::Relaxed);
    }

    pub(crate) fn is_met(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    /// For how long nothing has come by now, although something was waited for.
    pub(crate) fn silent(&self) -> Duration {
        Duration::from_millis(self.silent_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_silent(&self, lasted: Duration) {
        self.silent_ms
            .store(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The network has said that nobody listens there; its first word is kept.
    pub(crate) fn comes_to(&self, nobody: Nobody) {
        let _ = self.nobody.set(nobody);
    }

    /// Where nobody is, as far as is known: not where anything was ever heard or met.
    pub(crate) fn nobody(&self) -> Option<Nobody> {
        self.nobody
            .get()
            .copied()
            .filter(|_| self.heard() == 0 && !self.met.load(Ordering::Relaxed))
    }
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Dhcp, Self::Tftp, Self::Http];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhcp => "DHCP",
            Self::Tftp => "TFTP",
            Self::Http => "HTTP",
        }
    }
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing answers at {} ({})", self.at, self.why)
    }
}
