//! The plan of an HTTP core, and its counters.

use std::net::SocketAddr;
use std::time::Duration;

use crate::http::limits::{
    CHUNK_BYTES, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, DRAIN_BYTES_PER_SECOND_MIN,
    HEAD_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT, STALL_TIMEOUT, WAITING_MAX,
};
use crate::http::schedule::SLOTS;
use crate::images::CleanPath;
use crate::observe::counters::SharedCount;

/// The table `[http]` as the cores need it.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Directories that are listed, with everything below them. The root path covers the whole tree
    /// (H-28).
    pub index: Vec<CleanPath>,
    /// The name of the file that answers for its directory, such as `index.html`.
    pub index_file: Option<String>,
    /// Most connections of one client address; None: no limit (H-34).
    pub per_source: Option<usize>,
    /// Most connections of one core.
    pub connections: usize,
    /// Most connections of one core that wait for a place.
    pub waiting: usize,
    /// Bytes of a mapped file that one send hands to the kernel.
    pub chunk_bytes: u64,
    /// Large bodies that one core sends at full speed at a time; None: all of them.
    pub slots: Option<u16>,
    /// TCP congestion control of the connections; None: the system's default.
    pub congestion: Option<&'static str>,
    /// How long a connection may wait for its client.
    pub timeouts: HttpTimeouts,
}

/// How long a connection may wait for its client (H-33).
#[derive(Clone, Copy, Debug)]
pub struct HttpTimeouts {
    /// From the first byte of a head or body to its last.
    pub head: Duration,
    /// From the end of an answer to the first byte of the next request.
    pub idle: Duration,
    /// Longest time without progress of an answer.
    pub stall: Duration,
    /// From the last answer to the client's end of the connection.
    pub linger: Duration,
    /// Bytes a second that a client must take, measured over each `stall`.
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

/// The counters of one HTTP core.
#[derive(Debug, Default)]
pub struct HttpCounters {
    /// Connections accepted.
    pub connections: SharedCount,
    /// Requests read, malformed heads excluded.
    pub requests: SharedCount,
    /// Bytes of heads and bodies that the kernel has taken.
    pub bytes_sent: SharedCount,
    /// Requests answered 4xx or 5xx.
    pub refused_requests: SharedCount,
    /// Connections cut because the client was too slow (H-33).
    pub timed_out: SharedCount,
    /// Answers cut short because their file changed, or because the client disconnected.
    pub aborted: SharedCount,
    /// Connections that waited for a place (H-34).
    pub queued: SharedCount,
    /// Connections that found the queue full, or waited in vain (H-34).
    pub turned_away: SharedCount,
    /// Times that accept(2) failed although a client waited: no descriptor or no memory was left.
    pub accept_failed: SharedCount,
    /// Connections without progress that were closed for a client with fewer connections.
    pub given_up: SharedCount,
    /// Gauge: large bodies that are sent at full speed now (`http::schedule`).
    pub at_full_speed: SharedCount,
    /// Gauge: large bodies that wait for their turn (`http::schedule`).
    pub in_line: SharedCount,
    /// Events that the core did not log because there were too many in one second.
    pub events_left_out: SharedCount,
}
