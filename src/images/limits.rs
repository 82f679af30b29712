//! Limits of the image room, each with its unit and what happens at the edge.

use std::time::Duration;

/// Files up to this size (bytes) are read whole; larger ones are mapped. One mapping costs more than such a copy.
pub const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Mappings kept at once; above it the least recently used one without a user goes (vm.max_map_count is 65,530).
pub const MAPPINGS_MAX: usize = 4096;
/// Bytes that are made resident at a time, and the unit of the residency map.
pub const PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// The share of memory (part, of) that boot images hold where `[tuning] image-memory` says nothing: the rest is for the kernel's
/// buffers, for other programs, and for files that are read once.
pub const MEMORY_SHARE: (u64, u64) = (1, 2);
/// The largest share (part, of) that they can be given. What is asked for beyond it is not given.
pub const MEMORY_SHARE_MAX: (u64, u64) = (3, 4);
/// The smallest `[tuning] image-memory`, bytes: a range that is sent at once may touch two pieces.
pub const MEMORY_MIN: u64 = 2 * PIECE_BYTES;
/// Budgets below this (bytes) are not spent on pieces that nobody has asked for yet.
pub const AHEAD_BUDGET_MIN: u64 = 16 * PIECE_BYTES;
/// How long a piece that was made resident stays at least. Who waits for it has this time to send from it, and pieces that
/// many transfers fight for are read so many times a second at most.
pub const PIECE_HELD: Duration = Duration::from_millis(50);
/// How long a piece stays that nobody has used yet; whoever asked for it has gone away, or its core stands still.
pub const PIECE_AWAITED: Duration = Duration::from_secs(1);
/// Where locking is forbidden: how often pieces in use are read again, and others are forgotten.
pub const UNLOCKED_CHECKED: Duration = Duration::from_secs(1);
/// Files that are read whole whatever their size (netascii, templates): larger ones are refused. Bytes.
pub const WHOLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Questions that may wait for a worker, of each kind; one more is refused as busy and the client asks again.
pub const QUESTIONS_QUEUED_MAX: usize = 4096;
/// Worker threads of each kind: few, since they wait for disks and not for processors.
pub const WORKERS: usize = 4;
/// Longest path (bytes) that is looked up; longer names do not exist (PATH_MAX less the root's own share).
pub const PATH_BYTES_MAX: usize = 2048;
