//! The limits of a TFTP core beyond those of the pure room.

use crate::images::COPY_FREE;
use crate::tftp::Tick;
use crate::tftp::limits::BLOCK_SIZE_DEFAULT;

/// How long a transfer waits when every worker is busy and the queue is full, in nanoseconds.
pub(super) const BUSY_PAUSE: Tick = 10_000_000;
/// How long a transfer waits when memory is too short for its content, in nanoseconds.
pub(super) const SECURE_PAUSE: Tick = 200_000_000;
/// Transfers without progress that one turn ends to make room for the files of others.
pub(super) const DISPLACED_AT_ONCE: usize = 16;
/// Clients that the core remembers as unable to take segmented sends. When the set is full the core
/// clears it, and learns them again.
pub(super) const UNSEGMENTED_MAX: usize = 4096;
/// Addresses of the server that get sending sockets of their own; a send from any other address
/// names its source in a control message.
pub(super) const SENDER_ADDRESSES_MAX: usize = 8;
/// Bytes that the transfer of a copy holds before its client's first ACK: one block without
/// options.
pub(super) const START_BYTES: usize = BLOCK_SIZE_DEFAULT as usize;
/// Longest file, in bytes, that a worker translates to netascii before the client's first ACK. The
/// translation may be twice as long.
pub(super) const TRANSLATED_AT_ONCE: u64 = COPY_FREE / 2;
