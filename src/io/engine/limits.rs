//! Limits of the engine, each with its unit and what happens at the edge.

use std::time::Duration;

/// Entries of a core's submission queue; when it is full the batch so far is submitted and filling
/// goes on.
pub const SUBMISSIONS_MAX: u32 = 1024;
/// Entries of its completion queue: every send slot and every receive buffer may complete in one
/// batch.
pub const COMPLETIONS_MAX: u32 = 8192;
/// Receive buffers of a core; of a TFTP core `[tuning] receive-buffers`, whose default this is.
/// When they run out the multishot receive ends and is armed again; datagrams wait in the socket.
pub const RECEIVE_BUFFERS: u16 = 1024;
/// Bytes of one receive buffer: the ring's own header, an IPv6 address, control messages, and a
/// payload of up to 2,048 bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 2304;
/// Datagrams that one recvmmsg takes, where there is no ring.
pub const RECEIVE_BATCH: usize = 64;
/// Such batches that a turn takes from one socket before it looks at the others.
pub const RECEIVE_BATCHES_MAX: usize = 16;
/// Payload that is received whole where there is no ring; on a ring it is what
/// [`RECEIVE_BUFFER_BYTES`] leaves. Bytes.
pub const RECEIVED_BYTES_MAX: usize = 2048;
/// Sends that a core may have in the kernel at once; one more waits until a completion frees a
/// slot. More do not fit the processor's cache: 512 cost 2 to 3 % more a block, 64 gain nothing.
pub const SEND_SLOTS: usize = 128;
/// Sends that wait beside those until their sockets take more; a socket gets no more of them than
/// are left. What finds no place is dropped, and its sender is told.
pub const PARKED_SENDS_MAX: usize = 128;
/// Pause after the kernel had no memory for a request, before it is asked again.
pub const SHORTAGE_PAUSE: Duration = Duration::from_millis(1);
/// Segments of one send with UDP_SEGMENT (64 on older kernels, 128 on newer).
pub const SEGMENTS_MAX: u32 = 64;
/// Largest UDP payload over IPv4, header included in 65,535: above it sendmsg says EMSGSIZE. Bytes.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Largest datagram that is copied into a slot (OACK, ERROR, DHCP replies, small blocks). Bytes.
pub const COPIED_BYTES_MAX: usize = 2048;
/// Receive buffer that listening sockets ask for: a start of 500 machines overruns the default of
/// 212,992. Bytes.
pub const SOCKET_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
/// Send buffer that UDP sockets ask for: several windows of 64 blocks in flight. Bytes.
pub const SOCKET_SEND_BYTES: usize = 4 * 1024 * 1024;
/// Entries of the completion queue of a core's connections, the most that the kernel gives: each
/// connection may complete a receive and a wait for room in one batch.
pub const STREAM_COMPLETIONS_MAX: u32 = 64 * 1024;
/// Bytes that one connection sends before it is another's turn: about a millisecond of a core, and
/// what the send buffer of a socket grows to (net.ipv4.tcp_wmem). Steps of 1 MiB cost half as much
/// again per byte over a paced congestion control.
pub const STREAM_STEP_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes with which sends go on in one turn, before the core looks at what has come.
pub const STREAM_TURN_BYTES: u64 = 4 * 1024 * 1024;
/// Receive buffer of a connection: what a client can send ahead while nobody reads. Bytes.
pub const STREAM_INPUT_BYTES: usize = 64 * 1024;
/// Connections that one listener accepts in a turn where they are accepted one by one.
pub const ACCEPTS_PER_TURN: usize = 64;
/// How long accepting pauses when descriptors or memory are short.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A silent peer is probed after this time, so that a machine that lost power does not hold its
/// connection for ever.
pub const STREAM_KEEPALIVE: Duration = Duration::from_secs(30);
