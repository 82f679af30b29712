//! Limits of HTTP, each with its unit and what happens at the edge.

use std::time::Duration;

/// Longest request line, bytes, method and version included; a longer one gets 414 (H-32).
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all header lines of a request together; more get 431 (H-32).
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request; more get 431 (H-32).
pub const HEADERS_MAX: usize = 64;
/// Largest body of a request, bytes, which the server discards; a larger one gets 413 and the end
/// of the connection (H-32).
pub const REQUEST_BODY_BYTES_MAX: u64 = 64 * 1024;
/// Parts of a multipart response after merging overlaps; a request for more gets the whole file
/// (H-18). librepo begins with 255 ranges, zsync has 20.
pub const PARTS_MAX: usize = 256;
/// Parts in any order or with overlaps; a client that asks for more of them names them from the
/// first byte to the last (H-18).
pub const UNORDERED_PARTS_MAX: usize = 8;
/// Names in a directory listing; the page says if it omits the rest.
pub const LISTING_NAMES_MAX: usize = 10_000;

/// From the first byte of a request to the end of its head; then the server closes the connection
/// (H-33).
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of a response to the first byte of the next request; then the server closes the
/// connection (H-9, H-33).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take no byte of a response; then the server closes the connection (H-33).
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The least rate of a client over each [`STALL_TIMEOUT`] of a response, bytes a second; the server
/// closes a slower connection (H-33). Low, because a client that writes to flash may pause for tens
/// of seconds.
pub const DRAIN_BYTES_PER_SECOND_MIN: u64 = 1024;
/// How long the server discards the input of a client after its last response, so that the client
/// sees the response and not a reset.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before the server checks again whether a client has acknowledged all bytes; plus a
/// nanosecond for each missing byte, about its time on a fast network. Each check in vain doubles
/// the pause.
pub const ACKNOWLEDGE_PAUSE: Duration = Duration::from_micros(300);
/// The longest pause between two such checks.
pub const ACKNOWLEDGE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long a response may wait for a busy disk before the client gets 503 (H-10: EDK2 gives up
/// after 5 s).
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause between two attempts to submit a job to busy workers.
pub const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Connections of one client address; more wait (H-34). The default of `[http] per-source`.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 32;
/// Limit of one IPv6 network (/64), as a multiple of [`CONNECTIONS_PER_ADDRESS_MAX`]: one machine
/// may have any number of addresses in it.
pub const NETWORK_SHARES: usize = 8;
/// All connections together; more wait (H-34). The default of `[http] connections`.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections of one core that wait for room; one more takes the place of a connection of the
/// source with the most, or is refused (H-14, H-34).
pub const WAITING_MAX: usize = 1024;
/// File descriptors reserved for files and all other uses; half of the limit if the process may
/// have few.
pub const DESCRIPTORS_ELSEWHERE: u64 = 8192;
/// Clients that one turn refuses while no descriptor is free.
pub const AWAY_PER_TURN_MAX: usize = 64;
/// Connections of one core that get a 503 at the same time; the server closes others without a
/// reply.
pub const REFUSALS_MAX: usize = 64;
/// How long a connection waits for room at most.
pub const WAITING_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection must be idle, or without progress, before the server may close it for a
/// source with fewer.
pub const STILL_MIN: Duration = Duration::from_secs(1);
/// The same for a connection with a response in progress: its client may pause.
pub const STILL_SENDING_MIN: Duration = Duration::from_secs(5);
/// Number of connections from which on the server may close a source's idle ones at any time: a
/// source that keeps so many busy with small requests takes the room of others too.
pub const CROWD_SHARE: usize = 8;
/// How often the server closes connections while all are in use.
pub const GIVE_UP_PAUSE: Duration = Duration::from_millis(50);
/// Connections that it closes at a time.
pub const GIVE_UP_MAX: usize = 64;
/// Retry-After for iPXE, in seconds, while the server has no room (H-14).
pub const RETRY_AFTER_SECONDS: u32 = 5;

/// Bytes of a mapped body passed to the kernel at a time. The default of `[tuning] http-chunk`.
pub const CHUNK_BYTES: u64 = 4 * 1024 * 1024;
/// Last bytes of a mapped body, which the server holds back until the kernel has taken all others
/// and the file is unchanged (H-12). More than a segment of an Ethernet packet: a client that has
/// these bytes beside the last page acknowledges at once (RFC 1122 section 4.2.3.2).
pub const TAIL_BYTES: u64 = 2 * 1024;
/// An answer of at most so many bytes of a mapped file is a copy: pages by reference would save
/// less than the wait for the client's acknowledgement costs.
pub const COPIED_ANSWER_BYTES_MAX: u64 = 32 * 1024;
const _: () = assert!(2 * TAIL_BYTES <= COPIED_ANSWER_BYTES_MAX);
const _: () = assert!(TAIL_BYTES < CHUNK_BYTES);
