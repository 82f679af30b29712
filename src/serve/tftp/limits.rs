//! The limits of a TFTP core beyond those of the pure room.

use crate::images::COPY_FREE;
use crate::tftp::Tick;
use crate::tftp::limits::BLOCK_SIZE_DEFAULT;

/// How long a transfer waits that found every worker busy and the queue full. Nanoseconds.
pub(super) const BUSY_PAUSE: Tick = 10_000_000;
/// How long a transfer waits that found too little memory for its content. Nanoseconds.
pub(super) const SECURE_PAUSE: Tick = 200_000_000;
/// Transfers without progress that end in one turn for the files of others.
pub(super) const DISPLACED_AT_ONCE: usize = 16;
/// Clients that are remembered for not taking segmented sends. Beyond it all are forgotten, and
/// found out again.
pub(super) const UNSEGMENTED_MAX: usize = 4096;
/// Addresses of the server that get sockets of their own to send from; what leaves from others
/// names its source in a control message.
pub(super) const SENDER_ADDRESSES_MAX: usize = 8;
/// Bytes that the transfer of a copy carries before its client has answered: a block without
/// options.
pub(super) const START_BYTES: usize = BLOCK_SIZE_DEFAULT as usize;
/// Bytes of a file that is translated before its client has answered: the copy may have twice as
/// many.
pub(super) const TRANSLATED_AT_ONCE: u64 = COPY_FREE / 2;
