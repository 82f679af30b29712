//! What a transfer returns: blocks to send, the effects of ACKs and timers, its costs.

use std::ops::Range;

/// The next packets to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextTransmit {
    /// The OACK, the reply to the options.
    Oack,
    /// A contiguous run of blocks: at most a window.
    Blocks(DataBlockRun),
}

/// A run of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataBlockRun {
    /// Number of the first block on the wire; the next ones follow modulo 65536 (T-24).
    pub first: u16,
    /// Number of blocks; at least 1.
    pub blocks: u32,
    /// Bytes in each block but the final one.
    pub block_size: u16,
    /// The range of the file; shorter than `blocks * block_size` if the run contains the final
    /// block.
    pub bytes: Range<u64>,
    /// The run contains the final block of the transfer.
    pub last: bool,
}

/// What an ACK led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckEffect {
    /// No effect: the ACK is stale, ahead of the blocks sent, or a duplicate (T-27, T-28).
    Nothing,
    /// There is something to send.
    Moved,
    /// The final block is acknowledged (T-29).
    Done,
}

/// What the timer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutEffect {
    /// The deadline is still ahead.
    Early,
    /// There are packets to retransmit.
    Again,
    /// The client never acknowledged the end of a transfer that was sent whole (T-29).
    LastAckMissing,
    /// The client is gone (T-42).
    GaveUp,
    /// The content stayed out of reach for too long.
    Stalled,
}

/// What a transfer has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferTally {
    /// Bytes of file content sent, retransmissions included.
    pub bytes_sent: u64,
    /// Blocks and OACKs sent again.
    pub retransmits: u64,
    /// Blocks that the client has acknowledged, counted without a gap from the first.
    pub acked_blocks: u64,
    /// How often the server halved the effective window (T-40).
    pub halvings: u32,
    /// The smallest effective window, in blocks: the burst that the client could receive.
    pub least_burst: u16,
    /// The client has answered at least once.
    pub confirmed: bool,
}
