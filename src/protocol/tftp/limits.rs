//! Every number that bounds the TFTP room, with its unit and the reason for it.

use super::Tick;

pub const MICROSECOND: Tick = 1000;
pub const MILLISECOND: Tick = 1000 * MICROSECOND;
pub const SECOND: Tick = 1000 * MILLISECOND;

// --- packets ---

/// Longest request read, octets. RFC 2347 says 512, but pxelinux may send more (two 256-octet name
/// buffers); longer ones get ERROR 4 (T-5).
pub const REQUEST_OCTETS_MAX: usize = 1500;
/// Longest text of an ERROR, octets, without its NUL (T-53: under 128).
pub const ERROR_TEXT_OCTETS_MAX: usize = 127;

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
/// The longest interval that a client gets by asking, whatever its `timeout` (RFC 2349 allows 255
/// s): what is sent again sooner than it asked harms nobody, and it must be sent again a few times
/// within [`STILL_MAX`].
pub const RTO_ASKED_MAX: Tick = 20 * SECOND;
/// Jitter around a retransmission, per cent each way: keeps 500 machines from resending in step
/// (T-41).
pub const RTO_JITTER_PERCENT: u64 = 10;
/// Transmissions without progress before the transfer is given up: 1+2+4+8+8+8+8 = 39 s (T-42).
pub const TRIES_MAX: u8 = 7;
/// A transfer that has not moved on for so long is given up, however few tries its `timeout` has
/// left room for (T-42).
pub const STILL_MAX: Tick = 60 * SECOND;
/// Transmissions before the first ACK: one and four repeats, so that a forged request is worth
/// little (T-64).
pub const OFFERS_MAX: u8 = 5;
/// Whole windows that leave before any block is acknowledged, repeats included: whoever guesses a
/// port can forge an ACK 0 for a victim. What is sent beyond them is one block at a time (T-64).
/// Not fewer: of the first window of a client that drops frames which come back to back the end is
/// lost in silence, until the second repeat leaves in shorter bursts.
pub const UNPROVEN_WINDOWS_MAX: u8 = 3;
/// An address at whose transfers somebody has guessed is given no windows for so long (T-64).
pub const DISTRUST: Tick = 60 * SECOND;
/// An ACK that may be the echo of a block we sent twice pulls the timer in to this instead of
/// restarting the window at once; longer than any round trip on a boot network.
pub const ECHO_GRACE: Tick = 50 * MILLISECOND;
/// Restarts by the timer after which the effective window is halved (T-40).
pub const RESTARTS_TO_HALVE: u8 = 2;
/// Windows in a row without a gap after which a halved window grows by one block (T-40).
pub const WINDOWS_TO_GROW: u8 = 32;
/// Pause for each block of a burst once the effective window is smaller than the agreed one, before
/// the rest of the agreed window follows: 4 blocks a millisecond, about 47 Mbit/s at 1468 octets. A
/// polled driver such as U-Boot's, which drops what does not fit its receive ring, empties it
/// faster than this.
pub const BURST_BLOCK_PAUSE: Tick = 250 * MICROSECOND;
/// A transfer whose content stays out of reach for so long ends with ERROR 0.
pub const PARKED_MAX: Tick = 30 * SECOND;

// --- sessions ---

/// The engine's answer to `Open` must come within this, else ERROR 0: no firmware waits longer.
pub const OPENING_MAX: Tick = 30 * SECOND;
/// A request that has waited so long in the queue without being repeated is forgotten: its client
/// has given up.
pub const WAITING_MAX: Tick = 10 * SECOND;
/// A finished session keeps its key for this many base timeouts, to swallow late ACKs (T-32: at
/// least 2).
pub const QUIET_TIMEOUTS: u64 = 2;
/// In a full table a confirmed transfer makes room if its client has not moved it on for so long: a
/// packet that was lost is sent again sooner than this (T-65).
pub const STILL_MIN: Tick = 2 * SECOND;
/// The share (part, of) of the table that one source may have where no limit by address applies,
/// and that one IPv6 network (/64) may have in any case, since a single host owns all of its
/// addresses (T-65).
pub const SHARE_MAX: (usize, usize) = (3, 4);
/// An IPv6 network may ask so many times as often as a single address.
pub const NETWORK_RATE: u32 = 16;
/// The same request from the same endpoint so soon after an ACK is a copy made by the network, or
/// has crossed our first answer on its way; it does not end the transfer (T-50). No client begins
/// anew so fast from the same port.
pub const REQUEST_COPY_GRACE: Tick = 100 * MILLISECOND;
/// At most one ERROR 5 per source address in this time (T-48).
pub const WRONG_TID_INTERVAL: Tick = SECOND;
/// Source addresses that are told apart when rates are kept. A fixed table, no growth: two
/// addresses that fall into one place share its rate.
pub const RATE_PLACES: usize = 16_384;
/// Answers to datagrams without a session that wait for the engine; one more is dropped and
/// counted.
pub const REPLIES_QUEUED_MAX: usize = 1024;
/// TID sockets of one core (T-46).
pub const TIDS_DEFAULT: u16 = 16;
/// Largest file translated for netascii, octets: it is held in memory (T-8).
pub const NETASCII_OCTETS_MAX: usize = 16 << 20;

/// What one core bears. All of it can be configured; what happens at each edge is said with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transfers at once. One more takes the place of the confirmed one that has stood still
    /// longest; where none has, it is dropped and counted, and its client asks again.
    pub transfers_max: usize,
    /// Transfers at once of one address; one more waits (T-65).
    pub transfers_per_address_max: u16,
    /// Transfers before their first ACK; one more ends the oldest of them, as only a forger leaves
    /// it so (T-65).
    pub unconfirmed_max: usize,
    /// Requests that wait; one more is dropped and counted (T-65).
    pub waiting_max: usize,
    /// Finished sessions that still swallow late ACKs; one more forgets the oldest.
    pub quiet_max: usize,
    /// Requests a second of one address; a faster one waits (T-65).
    pub requests_per_second_max: u32,
    /// Requests of one address that may come at once. A boot asks for some dozens of names in a
    /// burst.
    pub requests_burst_max: u32,
}

impl Default for Limits {
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
