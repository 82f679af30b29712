//! Limits of the image room, each with its unit and what happens at the edge.

use std::time::Duration;

/// Files up to this size (bytes) are read whole; larger ones are mapped. One mapping costs more
/// than such a copy.
pub const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Mappings kept at once, each with a descriptor; one more drops the least recently used one
/// without a user (vm.max_map_count is 65,530). Fewer if the process may not open as many files.
pub const MAPPINGS_MAX: usize = 4096;
/// Bytes that become resident at a time, and the unit of the residency map.
pub const PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// The share of memory (part, of) for boot images without `[tuning] image-memory`: the rest is for
/// the kernel's buffers, other programs, and files that are read once.
pub const MEMORY_SHARE: (u64, u64) = (1, 2);
/// The largest share (part, of) that the configuration can give them; a larger value is cut to it.
pub const MEMORY_SHARE_MAX: (u64, u64) = (3, 4);
/// The smallest `[tuning] image-memory`, bytes: a range that leaves at once may touch two pieces.
pub const MEMORY_MIN: u64 = 2 * PIECE_BYTES;
/// With a budget below this (bytes) the server reads no piece ahead of need.
pub const AHEAD_BUDGET_MIN: u64 = 16 * PIECE_BYTES;
/// How long a piece stays resident at least. The transfer that waits for it has this time to send
/// from it, and the disk reads a contested piece 20 times a second at most.
pub const PIECE_HELD: Duration = Duration::from_millis(50);
/// A piece with more than one use has precedence until workers have read this many times the budget
/// since its last use.
pub const DEMAND_ROUNDS: u64 = 4;
/// How long an unused piece stays; after that its transfer has ended, or its core stands still.
pub const PIECE_AWAITED: Duration = Duration::from_secs(1);
/// If the process may not lock memory: how often the keeper reads pieces in use again and drops the
/// others.
pub const UNLOCKED_CHECKED: Duration = Duration::from_secs(1);
/// Memory (bytes) that unused small files may occupy; beyond it the least recently used ones are
/// dropped.
pub const SMALL_FILES_KEPT: u64 = 64 * 1024 * 1024;
/// The share of memory (part, of) that copies may take: rendered texts, and files translated for
/// netascii. The next two limits bound it; the largest copy is 32 MiB.
pub const COPIES_SHARE: (u64, u64) = (1, 16);
/// Smallest budget for copies, bytes.
pub const COPIES_MEMORY_MIN: u64 = 64 * 1024 * 1024;
/// Largest budget for copies, bytes.
pub const COPIES_MEMORY_MAX: u64 = 1024 * 1024 * 1024;
/// The share (part, of) of this budget that the copies of one address may take.
pub const COPIES_OF_ONE: (u64, u64) = (1, 2);
/// Copies up to this size (bytes) do not count: a menu, most answer files.
pub const COPY_FREE: u64 = 16 * 1024;
/// Longest file that the server reads whole (netascii, templates), bytes: it refuses longer ones.
pub const WHOLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Jobs of each kind that may wait for a worker; one more is refused as busy, and the client asks
/// again.
pub const QUESTIONS_QUEUED_MAX: usize = 4096;
/// Waiting jobs of one source.
pub const JOBS_OF_ONE_MAX: usize = 512;
/// Worker threads of each kind that work at the same time: few, since they wait for disks and not
/// for processors.
pub const WORKERS: usize = 4;
/// A lookup that takes longer counts as stuck and no longer as work, and another thread takes over.
pub const LOOK_STUCK: Duration = Duration::from_secs(2);
/// The same for slow jobs; a template has 5 seconds.
pub const MAKE_STUCK: Duration = Duration::from_secs(7);
/// With this many threads stuck under one directory of the root, no other job begins there.
pub const STUCK_IN_ONE_PLACE: usize = 2;
/// How long a job waits for such a directory before it is refused as busy.
pub const DEAD_WAIT: Duration = Duration::from_secs(10);
/// Threads of one kind, stuck ones included.
pub const THREADS_MAX: usize = 32;
/// The niceness of slow jobs (templates, listings), which share processors with the boot cores.
pub const MAKERS_NICE: i32 = 10;
/// How often the server looks the root's path up: it may be a link that an operator switches.
pub const ROOT_LOOK: Duration = Duration::from_millis(100);
/// How long a core trusts metadata that a worker got from a file server.
pub const REMOTE_TRUSTED: Duration = Duration::from_secs(1);
/// Directories whose listings are kept.
pub const DIRECTORIES_MAX: usize = 64;
/// Names in all kept listings together.
pub const NAMES_KEPT_MAX: usize = 500_000;
/// Longest path that the server looks up, bytes: PATH_MAX less the root's own share; it answers
/// longer names as not found.
pub const PATH_BYTES_MAX: usize = 2048;
