//! Limits of the engine, each with its unit and what happens at the edge.

/// Entries of a core's submission queue; when it is full the batch so far is submitted and filling goes on.
pub const SUBMISSIONS_MAX: u32 = 1024;
/// Entries of its completion queue: every send slot and every receive buffer may complete in one batch.
pub const COMPLETIONS_MAX: u32 = 8192;
/// Receive buffers of a core. When they run out the multishot receive ends and is armed again; datagrams wait in the socket.
pub const RECEIVE_BUFFERS: u16 = 1024;
/// Bytes of one receive buffer: the ring's own header, an IPv6 address, control messages, and a payload of up to 2,048 bytes.
pub const RECEIVE_BUFFER_BYTES: usize = 2304;
/// Datagrams that one recvmmsg takes, where there is no ring.
pub const RECEIVE_BATCH: usize = 64;
/// Such batches that a turn takes from one socket before it looks at the others.
pub const RECEIVE_BATCHES_MAX: usize = 16;
/// Payload that is received whole where there is no ring; on a ring it is what [`RECEIVE_BUFFER_BYTES`] leaves. Bytes.
pub const RECEIVED_BYTES_MAX: usize = 2048;
/// Sends that a core may have in the kernel at once; one more waits until a completion frees a slot. More do not fit the
/// processor's cache: 512 cost 2 to 3 % more a block, 64 gain nothing.
pub const SEND_SLOTS: usize = 128;
/// Segments of one send with UDP_SEGMENT (64 on older kernels, 128 on newer).
pub const SEGMENTS_MAX: u32 = 64;
/// Largest UDP payload over IPv4, header included in 65,535: above it sendmsg says EMSGSIZE. Bytes.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Largest datagram that is copied into a slot (OACK, ERROR, DHCP replies, small blocks). Bytes.
pub const COPIED_BYTES_MAX: usize = 2048;
/// Receive buffer that listening sockets ask for: a start of 500 machines overruns the default of 212,992. Bytes.
pub const SOCKET_RECEIVE_BYTES: usize = 8 * 1024 * 1024;
/// Send buffer that UDP sockets ask for: several windows of 64 blocks in flight. Bytes.
pub const SOCKET_SEND_BYTES: usize = 4 * 1024 * 1024;
