//! Limits of the image room, each with its unit and what happens at the edge.

use std::time::Duration;

/// Files up to this size (bytes) are read whole; larger ones are mapped. One mapping costs more
/// than such a copy.
pub const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Mappings kept at once, each with a descriptor; above it the least recently used one without a
/// user goes (vm.max_map_count is 65,530). Fewer where the process may not open as many files.
pub const MAPPINGS_MAX: usize = 4096;
/// Bytes that are made resident at a time, and the unit of the residency map.
pub const PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// The share of memory (part, of) that boot images hold where `[tuning] image-memory` says nothing:
/// the rest is for the kernel's buffers, for other programs, and for files that are read once.
pub const MEMORY_SHARE: (u64, u64) = (1, 2);
/// The largest share (part, of) that they can be given. What is asked for beyond it is not given.
pub const MEMORY_SHARE_MAX: (u64, u64) = (3, 4);
/// The smallest `[tuning] image-memory`, bytes: a range that is sent at once may touch two pieces.
pub const MEMORY_MIN: u64 = 2 * PIECE_BYTES;
/// Budgets below this (bytes) are not spent on pieces that nobody has asked for yet.
pub const AHEAD_BUDGET_MIN: u64 = 16 * PIECE_BYTES;
/// How long a piece that was made resident stays at least. Who waits for it has this time to send
/// from it, and pieces that many transfers fight for are read so many times a second at most.
pub const PIECE_HELD: Duration = Duration::from_millis(50);
/// A piece that was used more than once is kept before others until so many times the budget has
/// been read since its last use.
pub const DEMAND_ROUNDS: u64 = 4;
/// How long a piece stays that nobody has used yet; whoever asked for it has gone away, or its core
/// stands still.
pub const PIECE_AWAITED: Duration = Duration::from_secs(1);
/// Where locking is forbidden: how often pieces in use are read again, and others are forgotten.
pub const UNLOCKED_CHECKED: Duration = Duration::from_secs(1);
/// Memory (bytes) that small files keep while nobody asks for them; beyond it those that were asked
/// for least lately go.
pub const SMALL_FILES_KEPT: u64 = 64 * 1024 * 1024;
/// The share of memory (part, of) that copies may take: rendered texts, and files translated for
/// netascii. Within these bounds, bytes; the largest copy is 32 MiB.
pub const COPIES_SHARE: (u64, u64) = (1, 16);
pub const COPIES_MEMORY_MIN: u64 = 64 * 1024 * 1024;
pub const COPIES_MEMORY_MAX: u64 = 1024 * 1024 * 1024;
/// The share (part, of) of that which the copies of one address may take.
pub const COPIES_OF_ONE: (u64, u64) = (1, 2);
/// Copies up to this size (bytes) do not count: a menu, most answer files.
pub const COPY_FREE: u64 = 16 * 1024;
/// Files that are read whole whatever their size (netascii, templates): larger ones are refused.
/// Bytes.
pub const WHOLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Questions that may wait for a worker, of each kind; one more is refused as busy and the client
/// asks again.
pub const QUESTIONS_QUEUED_MAX: usize = 4096;
/// Of these, how many one source may have.
pub const JOBS_OF_ONE_MAX: usize = 512;
/// Worker threads of each kind that work at a time: few, since they wait for disks and not for
/// processors.
pub const WORKERS: usize = 4;
/// A look that takes longer waits for something that may never come: it does not count as work, and
/// another thread takes over.
pub const LOOK_STUCK: Duration = Duration::from_secs(2);
/// The same for what takes longer by nature; a template has 5 seconds.
pub const MAKE_STUCK: Duration = Duration::from_secs(7);
/// With so many threads stuck under one directory of the root, no other goes there.
pub const STUCK_IN_ONE_PLACE: usize = 2;
/// How long a question waits to go there before it is refused as busy.
pub const DEAD_WAIT: Duration = Duration::from_secs(10);
/// Threads of one kind, stuck ones counted.
pub const THREADS_MAX: usize = 32;
/// The niceness of what takes long (templates, listings): it runs on the processors of the boot
/// cores.
pub const MAKERS_NICE: i32 = 10;
/// How often the path of the root is looked up: it may be a link that is switched.
pub const ROOT_LOOK: Duration = Duration::from_millis(100);
/// How long a core trusts what a worker was told by a file server.
pub const REMOTE_TRUSTED: Duration = Duration::from_secs(1);
/// Directories whose names are kept, and the names of all of them.
pub const DIRECTORIES_MAX: usize = 64;
pub const NAMES_KEPT_MAX: usize = 500_000;
/// Longest path (bytes) that is looked up; longer names do not exist (PATH_MAX less the root's own
/// share).
pub const PATH_BYTES_MAX: usize = 2048;
