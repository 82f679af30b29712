//! Limits of HTTP, each with its unit and what happens at the edge.

use std::time::Duration;

/// Longest request line in bytes, method and version included; a longer one is answered 414 (H-32).
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all header lines of a request together; more is answered 431 (H-32).
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request; more is answered 431 (H-32).
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request's body that are read and thrown away; a larger one is answered 413 and the
/// connection closed (H-32).
pub const REQUEST_BODY_BYTES_MAX: u64 = 64 * 1024;
/// Parts of a multipart answer after overlaps are merged; a request for more gets the whole file
/// (H-18).
pub const PARTS_MAX: usize = 8;
/// Names in a directory listing; the rest is left out and the listing says so.
pub const LISTING_NAMES_MAX: usize = 10_000;

/// From the first byte of a request to the end of its head; a slower client is cut off (H-33).
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of an answer to the first byte of the next request; then the connection is closed
/// (H-9, H-33).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Without any byte taken by the client while an answer is being sent; then the connection is cut
/// (H-33).
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The least that a client takes in each [`STALL_TIMEOUT`] of an answer, in bytes a second; less is
/// cut (H-33). Low, because a client that writes what it gets to flash may rest for tens of
/// seconds.
pub const DRAIN_BYTES_PER_SECOND_MIN: u64 = 1024;
/// How long the input of a client that has got its last answer is read and thrown away, so that it
/// sees the answer and not a reset.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How soon there is another look at a client that has not acknowledged what it was sent; a
/// nanosecond is added for each byte that it has not, about its time on a fast network. Each look
/// in vain doubles the pause.
pub const ACKNOWLEDGE_PAUSE: Duration = Duration::from_micros(300);
/// The longest pause between two such looks.
pub const ACKNOWLEDGE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long an answer may wait for a busy disk before the client is told 503 (H-10: EDK2 gives up
/// after 5 s).
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause between two attempts to hand work to the busy workers.
pub const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Connections of one client address; more wait (H-34). The default of `[http] per-source`.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 32;
/// Addresses of one IPv6 network (/64) that may have as many at a time: one machine may have any
/// number of addresses in it.
pub const NETWORK_SHARES: usize = 8;
/// Connections in all; more wait (H-34). The default of `[http] connections`.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections of one core that wait for room; one more takes the place of one of the source that
/// has most of them, or is refused (H-14, H-34).
pub const WAITING_MAX: usize = 1024;
/// Descriptors that are left for files, and for all else; where a process may have few of them,
/// half of those.
pub const DESCRIPTORS_ELSEWHERE: u64 = 8192;
/// Clients that one turn sends away where no descriptor is free.
pub const AWAY_PER_TURN_MAX: usize = 64;
/// Connections of one core that are being told 503 at a time; others are closed without a word.
pub const REFUSALS_MAX: usize = 64;
/// How long a connection waits for room, at most.
pub const WAITING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection has asked nothing, or got on with nothing, before it may be given up for
/// one of a source that has less.
pub const STILL_MIN: Duration = Duration::from_secs(1);
/// The same for one that takes an answer: it may rest for a while.
pub const STILL_SENDING_MIN: Duration = Duration::from_secs(5);
/// Connections of a source of which those that ask nothing at the moment may be given up at any
/// time: whoever keeps so many busy with small requests takes the room of others as well.
pub const CROWD_SHARE: usize = 8;
/// Where all connections are taken, how often some are given up, and how many at a time.
pub const GIVE_UP_PAUSE: Duration = Duration::from_millis(50);
pub const GIVE_UP_MAX: usize = 64;
/// What iPXE is told to wait, in seconds, when there is no room (H-14).
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Bytes of a mapped body that go to the kernel at a time. The default of `[tuning] http-chunk`.
pub const CHUNK_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes of a mapped body that are held back until everything before them has been taken and the
/// file was seen unchanged (H-12).
pub const TAIL_BYTES: u64 = 16 * 1024;
const _: () = assert!(TAIL_BYTES < CHUNK_BYTES);
