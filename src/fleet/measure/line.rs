//! The requests and answers of a fleet by one protocol, counted so that another thread can read
//! them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskedProtocol {
    /// DISCOVER and REQUEST.
    Dhcp,
    /// Read requests, and their transfers.
    Tftp,
    /// GET and HEAD, and their bodies.
    Http,
}

/// The requests and answers of all machines by one protocol.
#[derive(Debug, Default)]
pub(crate) struct ProtocolLine {
    /// Requests whose answers have not arrived, in whole or in part.
    waiting: AtomicU32,
    /// Receives with at least one byte.
    heard: AtomicU64,
    /// A server listens: it accepted a connection, or the kernel of a stalled one did.
    met: AtomicBool,
    /// Milliseconds without an answer until now, although a request waited.
    silent_ms: AtomicU64,
    /// The address at which no server listens, with the network's message.
    nobody: OnceLock<NobodyThere>,
}

/// An address at which no server listens, by the network's own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NobodyThere {
    pub(crate) at: SocketAddr,
    pub(crate) why: &'static str,
}

/// A request that waits for its answer while this value lives.
#[derive(Debug)]
pub(crate) struct PendingRequest<'a>(&'a ProtocolLine);

impl<'a> PendingRequest<'a> {
    pub(crate) fn new(line: &'a ProtocolLine) -> Self {
        line.note_request();
        Self(line)
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.0.note_request_end();
    }
}

impl ProtocolLine {
    pub(crate) fn count_waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn count_answers(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(crate) fn note_request(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_request_end(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Only the fleet's own thread writes, so a packet costs next to nothing.
    pub(crate) fn note_answer(&self) {
        self.heard.store(self.count_answers() + 1, Ordering::Relaxed);
    }

    pub(crate) fn is_met(&self) {
        self.met.store(true, Ordering::Relaxed);
    }

    /// The time without an answer until now, although a request waited.
    pub(crate) fn measure_silence(&self) -> Duration {
        Duration::from_millis(self.silent_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_silent(&self, lasted: Duration) {
        self.silent_ms
            .store(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The network reports that no server listens there; the first message counts.
    pub(crate) fn note_absent_server(&self, nobody: NobodyThere) {
        let _ = self.nobody.set(nobody);
    }

    /// The address without a server; None if a server has ever answered or accepted a connection.
    pub(crate) fn find_absent_server(&self) -> Option<NobodyThere> {
        self.nobody
            .get()
            .copied()
            .filter(|_| self.count_answers() == 0 && !self.met.load(Ordering::Relaxed))
    }
}

impl AskedProtocol {
    /// The order of arrays with an element for each protocol.
    pub const ALL: [Self; 3] = [Self::Dhcp, Self::Tftp, Self::Http];

    /// The protocol as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dhcp => "DHCP",
            Self::Tftp => "TFTP",
            Self::Http => "HTTP",
        }
    }
}

impl fmt::Display for NobodyThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing answers at {} ({})", self.at, self.why)
    }
}
