//! Limits of the engine, each with its unit and what happens at the edge.

use std::time::Duration;

/// Entries of a core's submission queue; a full queue is submitted at once.
pub const SUBMISSIONS_MAX: u32 = 1024;
/// Entries of its completion queue: every send slot and every receive buffer may complete in one
/// batch.
pub const COMPLETIONS_MAX: u32 = 8192;
/// Receive buffers of a core, and the default of `[tuning] receive-buffers`, which sets those of
/// TFTP cores. When they run out, the multishot receive ends and the driver arms it again;
/// datagrams wait in the socket.
pub const RECEIVE_BUFFERS: u16 = 1024;
/// Bytes of one receive buffer: the ring's own header, an IPv6 address, control messages, and a
/// payload of up to 2,048 bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 2304;
/// Datagrams of one recvmmsg, without a ring.
pub const RECEIVE_BATCH: usize = 64;
/// Batches that a turn receives from one socket before it goes on to the others.
pub const RECEIVE_BATCHES_MAX: usize = 16;
/// Longest payload received whole without a ring, bytes; a ring receives what fits
/// [`RECEIVE_BUFFER_BYTES`].
pub const RECEIVED_BYTES_MAX: usize = 2048;
/// Sends of a core in the kernel at once; one more waits until a completion frees a slot. More
/// slots do not fit the processor's cache: 512 cost 2 to 3 % more per block, 64 gain nothing.
pub const SEND_SLOTS: usize = 128;
/// Additional sends that wait for room in their sockets; one socket may park no more than are left.
/// The driver drops a send without a place, and tells its sender.
pub const PARKED_SENDS_MAX: usize = 128;
/// Pause after the kernel had no memory for a call, before the next try.
pub const SHORTAGE_PAUSE: Duration = Duration::from_millis(1);
/// Segments of one send with UDP_SEGMENT (64 on older kernels, 128 on newer).
pub const SEGMENTS_MAX: u32 = 64;
/// Largest UDP payload over IPv4, bytes: 65,535 less the headers; sendmsg refuses more with
/// EMSGSIZE.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Largest datagram copied into a slot (OACK, ERROR, DHCP replies, small blocks), bytes.
pub const COPIED_BYTES_MAX: usize = 2048;
/// Receive buffer of listening sockets, bytes: a start of 500 machines overruns the default of
/// 212,992.
pub const SOCKET_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
/// Send buffer of UDP sockets, bytes: several windows of 64 blocks in flight.
pub const SOCKET_SEND_BYTES: usize = 4 * 1024 * 1024;
/// Entries of the completion queue of a core's connections, the most that the kernel grants: each
/// connection may complete a receive and a wait for room in one batch.
pub const STREAM_COMPLETIONS_MAX: u32 = 64 * 1024;
/// Bytes that one connection sends before the next one's turn: about a millisecond of a core, and
/// the largest send buffer of a socket (net.ipv4.tcp_wmem). Steps of 1 MiB cost half as much again
/// per byte with a paced congestion control.
pub const STREAM_STEP_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes that continued sends may take in one turn, before the core handles new events.
pub const STREAM_TURN_BYTES: u64 = 4 * 1024 * 1024;
/// Receive buffer of a connection, bytes: what a client can send while the core does not read.
pub const STREAM_INPUT_BYTES: usize = 64 * 1024;
/// Connections that one listener accepts in a turn without a multishot accept.
pub const ACCEPTS_PER_TURN: usize = 64;
/// How long a listener pauses when descriptors or memory are short.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The kernel probes a silent client after this time, so that a machine that lost power does not
/// keep its connection for ever.
pub const STREAM_KEEPALIVE: Duration = Duration::from_secs(30);
