//! What a transfer hands out: blocks to send, the effects of ACKs and timers, its costs.

use std::ops::Range;

/// What leaves next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextTransmit {
    /// The answer to the options.
    Oack,
    /// A contiguous run of blocks: at most a window.
    Blocks(DataBlockRun),
}

/// A run of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataBlockRun {
    /// Number of the first block on the wire; the next ones follow modulo 65536 (T-24).
    pub first: u16,
    /// How many; at least 1.
    pub blocks: u32,
    /// Octets in each block but the final one.
    pub block_size: u16,
    /// The bytes of the file; shorter than `blocks * block_size` if the final block is in it.
    pub bytes: Range<u64>,
    /// The final block of the transfer is in it.
    pub last: bool,
}

/// What an ACK led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckEffect {
    /// Nothing: stale, ahead, or known (T-27, T-28).
    Nothing,
    /// There is something to send.
    Moved,
    /// The final block is acknowledged (T-29).
    Done,
}

/// What the timer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutEffect {
    /// It had not come yet.
    Early,
    /// There is something to send again.
    Again,
    /// The client never acknowledged the end of a transfer that was sent whole (T-29).
    LastAckMissing,
    /// The client is gone (T-42).
    GaveUp,
    /// The content did not come within reach in time.
    Stalled,
}

/// What a transfer has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferTally {
    /// Octets of file content sent, repeats included.
    pub bytes_sent: u64,
    /// Blocks and OACKs sent again.
    pub retransmits: u64,
    /// Blocks that the client has acknowledged, without a gap from the first.
    pub acked_blocks: u64,
    /// How often the effective window was halved (T-40).
    pub halvings: u32,
    /// The smallest effective window, blocks: what the client could take.
    pub least_burst: u16,
    /// The client has answered at least once.
    pub confirmed: bool,
}
