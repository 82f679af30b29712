//! Every number that bounds the TFTP room, with its unit and the reason for it.

use super::Tick;

/// One microsecond in ticks.
pub const MICROSECOND: Tick = 1000;
/// One millisecond in ticks.
pub const MILLISECOND: Tick = 1000 * MICROSECOND;
/// One second in ticks.
pub const SECOND: Tick = 1000 * MILLISECOND;

// --- packets ---

/// Longest request that the server parses, octets. RFC 2347 says 512, but pxelinux may send more
/// (two 256-octet name buffers); longer ones get ERROR 4 (T-5).
pub const REQUEST_BYTES_MAX: usize = 1500;
/// Longest text of an ERROR, octets, without its NUL (T-53: under 128).
pub const ERROR_TEXT_BYTES_MAX: usize = 127;

// --- options ---

/// Block size without an option, octets (RFC 1350).
pub const BLOCK_SIZE_DEFAULT: u16 = 512;
/// Smallest block size that may be negotiated, octets (RFC 2348).
pub const BLOCK_SIZE_MIN: u16 = 8;
/// Largest block size that may be negotiated, octets (RFC 2348).
pub const BLOCK_SIZE_MAX: u16 = 65464;
/// IPv4 (20) + UDP (8) + TFTP (4) headers, octets: what a block leaves of the MTU (T-17).
pub const OVERHEAD_V4: u16 = 32;
/// IPv6 (40) + UDP (8) + TFTP (4) headers, octets.
pub const OVERHEAD_V6: u16 = 52;
/// Ethernet's MTU, octets.
pub const MTU_DEFAULT: u16 = 1500;
/// Largest window granted without an override, blocks. U-Boot on virtio never finished with bursts
/// of 48 (T-20).
pub const WINDOW_DEFAULT_MAX: u16 = 32;
/// Largest window that block numbers can tell apart: distances are signed 16-bit (T-34). Larger
/// overrides are cut.
pub const WINDOW_MAX: u16 = 32767;

// --- timers of a transfer ---

/// First retransmission when the client asked for no `timeout` (T-41).
pub const RTO_BASE: Tick = SECOND;
/// The back-off stops here, unless the client asked for more (T-41).
pub const RTO_MAX: Tick = 8 * SECOND;
/// The longest interval, whatever the client's `timeout` (RFC 2349 allows 255 s): an earlier
/// retransmission does no harm, and a few must fit into [`STILL_MAX`].
pub const RTO_ASKED_MAX: Tick = 20 * SECOND;
/// Jitter around a retransmission, per cent each way: keeps 500 machines from resending in step
/// (T-41).
pub const RTO_JITTER_PERCENT: u64 = 10;
/// Transmissions without progress before the server gives up: 1+2+4+8+8+8+8 = 39 s (T-42).
pub const TRIES_MAX: u8 = 7;
/// The server gives up a transfer without progress for this long, however few tries its `timeout`
/// allowed (T-42).
pub const STILL_MAX: Tick = 60 * SECOND;
/// Transmissions before the first ACK: one and four retransmissions, so that a forged request gains
/// little (T-64).
pub const OFFERS_MAX: u8 = 5;
/// Whole windows that leave before the client acknowledges a block, retransmissions included: an
/// attacker who guesses a port can forge an ACK 0 for a victim. Then one block at a time leaves
/// (T-64). Not fewer: a client that drops back-to-back frames loses the end of its first window
/// silently, until the second retransmission leaves in shorter bursts.
pub const UNPROVEN_WINDOWS_MAX: u8 = 3;
/// How long an address gets no windows after a guess at its transfers (T-64).
pub const DISTRUST: Tick = 60 * SECOND;
/// Delay before a window restarts after an ACK that may answer a duplicate block; longer than any
/// round trip on a boot network.
pub const ECHO_GRACE: Tick = 50 * MILLISECOND;
/// Restarts by the timer after which the effective window is halved (T-40).
pub const RESTARTS_TO_HALVE: u8 = 2;
/// Windows in a row without a gap after which a halved window grows by one block (T-40).
pub const WINDOWS_TO_GROW: u8 = 32;
/// Pause per block of a burst, before the rest of the agreed window follows, once the effective
/// window is smaller than the agreed one: 4 blocks a millisecond, about 47 Mbit/s at 1468 bytes. A
/// polled driver such as U-Boot's, which drops what does not fit its receive ring, empties it
/// faster than this.
pub const BURST_BLOCK_PAUSE: Tick = 250 * MICROSECOND;
/// A transfer whose content stays out of reach for this long ends with ERROR 0.
pub const PARKED_MAX: Tick = 30 * SECOND;

// --- the order on a full link ---

/// How long a transfer waits for its turn on a full link, unless its client says how patient it is:
/// PXELINUX repeats its ACK after 110 ms, iPXE after 250 ms (T-44).
pub const HELD_LOCKSTEP_MAX: Tick = 100 * MILLISECOND;
/// How long a transfer with windows or with a `timeout` of 4 s or more waits: clients that ask for
/// either have timers of 4 s and more (T-44).
pub const HELD_MAX: Tick = SECOND;
/// Links that a core keeps in order; transfers on further ones never wait.
pub const ORDERED_LINKS_MAX: usize = 16;
/// The queue of a link is observed for this long before the judgement changes.
pub const BACKLOG_WINDOW: Tick = 50 * MILLISECOND;
/// Pause between two looks at the queue of a link that is not full.
pub const BACKLOG_LOOK_IDLE: Tick = 5 * MILLISECOND;
/// Pause between two looks at the queue of a full link, short beside the queue's own length.
pub const BACKLOG_LOOK_FULL: Tick = 250 * MICROSECOND;
/// A shorter queue is no sign of a full link, bytes as the kernel counts them: 14 blocks of an
/// Ethernet frame, which the kernel counts as 2304 bytes each.
pub const BACKLOG_MIN: u64 = 32 * 1024;
/// The shortest and the longest queue that the server keeps on a full link, in quarters of a
/// millisecond of the link: half a millisecond is twice the pause between two looks.
pub const BACKLOG_REACH: (u64, u64) = (2, 64);
/// The queue that the server keeps on a slow link, bytes as the kernel counts them: 4 blocks.
pub const BACKLOG_KEPT_MIN: u64 = 4 * 2304;
/// A queue that was empty for more than this share of a window is too short, per cent.
pub const BACKLOG_IDLE_PERCENT: u64 = 5;
/// Windows in a row in which half of the queue would have been enough, before it becomes shorter.
pub const BACKLOG_CALM_WINDOWS: u32 = 4;

// --- sessions ---

/// The engine's answer to `Open` must come within this, else ERROR 0: no firmware waits longer.
pub const OPENING_MAX: Tick = 30 * SECOND;
/// The server forgets a request that has waited this long without a repetition: its client has
/// given up.
pub const WAITING_MAX: Tick = 10 * SECOND;
/// A finished session keeps its key for this many base timeouts, to swallow late ACKs (T-32: at
/// least 2).
pub const QUIET_TIMEOUTS: u64 = 2;
/// In a full table a confirmed transfer makes room after this long without progress: the server
/// retransmits a lost packet sooner than this (T-65).
pub const STILL_MIN: Tick = 2 * SECOND;
/// The share (part, of) of the table for one source without a limit by address, and for one IPv6
/// network (/64) in any case, since a single host owns all of its addresses (T-65).
pub const SHARE_MAX: (usize, usize) = (3, 4);
/// Rate of an IPv6 network, as a multiple of a single address's rate.
pub const NETWORK_RATE: u32 = 16;
/// A repeated request so soon after an ACK is a copy made by the network, or has crossed the
/// server's first reply; it does not end the transfer (T-50). No client restarts so fast from the
/// same port.
pub const REQUEST_COPY_GRACE: Tick = 100 * MILLISECOND;
/// At most one ERROR 5 per source address in this time (T-48).
pub const WRONG_TID_INTERVAL: Tick = SECOND;
/// Places of a rate table, by a hash of the source address. The table does not grow: two addresses
/// in one place share its rate.
pub const RATE_PLACES: usize = 16_384;
/// Replies to datagrams without a session that wait for the engine; the table drops and counts one
/// more.
pub const REPLIES_QUEUED_MAX: usize = 1024;
/// TID sockets of one core (T-46).
pub const TIDS_DEFAULT: u16 = 16;
/// Largest file translated for netascii, bytes: the translation stays in memory (T-8).
pub const NETASCII_BYTES_MAX: usize = 16 << 20;

/// The limits of one core. The configuration can set each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Transfers at once. One more takes the place of the confirmed one that made no progress for
    /// the longest time; if none stands still, the table drops and counts the request, and its
    /// client asks again.
    pub transfers_max: usize,
    /// Transfers at once of one address; one more waits (T-65).
    pub transfers_per_address_max: u16,
    /// Transfers before their first ACK; one more ends the oldest, since a real client would have
    /// answered (T-65).
    pub unconfirmed_max: usize,
    /// Waiting requests; the table drops and counts one more (T-65).
    pub waiting_max: usize,
    /// Ended sessions that still swallow late ACKs; one more removes the oldest.
    pub quiet_max: usize,
    /// Requests a second of one address; a faster one waits (T-65).
    pub requests_per_second_max: u32,
    /// Requests of one address in a burst. A boot loader asks for some dozens of names at once.
    pub requests_burst_max: u32,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self {
            transfers_max: 16_384,
            transfers_per_address_max: 8,
            unconfirmed_max: 4096,
            waiting_max: 1024,
            quiet_max: 16_384,
            requests_per_second_max: 100,
            requests_burst_max: 200,
        }
    }
}
