//! What the configuration says of HTTP, and what a core counts.

use std::net::SocketAddr;
use std::time::Duration;

use crate::http::limits::{
    CHUNK_BYTES, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, DRAIN_BYTES_PER_SECOND_MIN,
    HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT, STALL_TIMEOUT, WAITING_MAX,
};
use crate::http::schedule::SLOTS;
use crate::images::CleanPath;
use crate::observe::counters::SharedCount;

/// What the configuration says of HTTP.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    pub listen: Vec<SocketAddr>,
    /// Directories that are listed, with everything below them. The root path covers the whole tree
    /// (H-28).
    pub index: Vec<CleanPath>,
    /// The file that answers for its directory.
    pub index_file: Option<String>,
    /// Connections of one client address; None = no limit (H-34).
    pub per_source: Option<usize>,
    /// Connections of one core.
    pub connections: usize,
    /// Connections of one core that may wait for a place.
    pub waiting: usize,
    /// Bytes of a mapped file that go to the kernel at a time.
    pub chunk_bytes: u64,
    /// Large bodies that are sent at full speed at a time; None = all of them.
    pub slots: Option<u16>,
    /// Congestion control of the connections; None = the system's.
    pub congestion: Option<&'static str>,
    pub timeouts: HttpTimeouts,
}

/// The times of H-33.
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
    pub linger: Duration,
    /// Bytes a second that a client takes at least, measured over each `stall`.
    pub drain_rate_min: u64,
}

impl HttpTimeouts {
    /// Bytes that a client must take in each `stall`.
    pub(super) fn taken_min(&self) -> u64 {
        self.drain_rate_min * self.stall.as_secs().max(1)
    }
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            head: HEAD_TIMEOUT,
            idle: IDLE_TIMEOUT,
            stall: STALL_TIMEOUT,
            linger: LINGER_TIMEOUT,
            drain_rate_min: DRAIN_BYTES_PER_SECOND_MIN,
        }
    }
}

impl Default for HttpPlan {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            index: Vec::new(),
            index_file: None,
            per_source: Some(CONNECTIONS_PER_ADDRESS_MAX),
            connections: CONNECTIONS_MAX,
            waiting: WAITING_MAX,
            chunk_bytes: CHUNK_BYTES,
            slots: Some(SLOTS),
            congestion: None,
            timeouts: HttpTimeouts::default(),
        }
    }
}

impl HttpPlan {
    /// Whether a directory or one above it is listed.
    pub(super) fn is_listed(&self, directory: &CleanPath) -> bool {
        let directory = directory.as_bytes();
        self.index.iter().any(|listed| {
            let rest = directory.strip_prefix(listed.as_bytes());
            rest.is_some_and(|rest| {
                listed.as_bytes().is_empty() || rest.is_empty() || rest.starts_with(b"/")
            })
        })
    }
}

/// What one core counts.
#[derive(Debug, Default)]
pub struct HttpCounters {
    pub connections: SharedCount,
    pub requests: SharedCount,
    /// Bytes of heads and bodies that the kernel has taken.
    pub bytes_sent: SharedCount,
    /// Requests answered 4xx or 5xx.
    pub refused_requests: SharedCount,
    /// Connections cut because the client was too slow (H-33).
    pub timed_out: SharedCount,
    /// Answers cut short because their file changed, or because the client went away.
    pub aborted: SharedCount,
    /// Connections that waited for a place, and those that found the queue full (H-34).
    pub queued: SharedCount,
    pub turned_away: SharedCount,
    /// Times that accept(2) failed although a client waited: no descriptor or no memory was left.
    pub accept_failed: SharedCount,
    /// Connections without progress that were closed for a client that has fewer connections.
    pub given_up: SharedCount,
    /// Large bodies that are sent at full speed now, and those that wait for their turn
    /// (`http::schedule`).
    pub at_full_speed: SharedCount,
    pub in_line: SharedCount,
    /// Events that were not logged because there were too many in one second.
    pub events_left_out: SharedCount,
}
