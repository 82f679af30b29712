//! Limits of the image room, each with its unit and what happens at the edge.

/// Files up to this size (bytes) are read whole; larger ones are mapped. One mapping costs more than such a copy.
pub const INLINE_BYTES_MAX: u64 = 64 * 1024;
/// Mappings kept at once; above it the least recently used one without a user goes (vm.max_map_count is 65,530).
pub const MAPPINGS_MAX: usize = 4096;
/// Bytes that are made resident at a time, and the unit of the residency map.
pub const PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// Files that are read whole whatever their size (netascii, templates): larger ones are refused. Bytes.
pub const WHOLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Questions that may wait for a worker; one more is refused as busy and the client asks again.
pub const QUESTIONS_QUEUED_MAX: usize = 4096;
/// Worker threads: few, since they wait for disks and not for processors.
pub const WORKERS: usize = 4;
/// Longest path (bytes) that is looked up; longer names do not exist (PATH_MAX less the root's own share).
pub const PATH_BYTES_MAX: usize = 2048;
