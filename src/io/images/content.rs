//! The contents that clients get: a few bytes in memory, or a mapped file with some pieces in
//! memory.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::copies::CopyShare;
use super::limits::{AHEAD_BUDGET_MIN, PIECE_BYTES, WHOLE_BYTES_MAX};
use super::mapped::MappedFile;
use super::memory::ImageMemory;
use super::path::NameRefusal;
use super::stat::stat_known_file;

/// The metadata of a content, for the rooms that only decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentMeta {
    /// Length, bytes.
    pub len: u64,
    /// The ETag: strong, and quoted (H-23).
    pub etag: String,
    /// When the file last changed, or when the server rendered the text.
    pub mtime: SystemTime,
    /// `mtime` as an HTTP date, formatted once and not for every request.
    pub last_modified: String,
}

impl ContentMeta {
    fn new(len: u64, etag: String, mtime: SystemTime) -> Self {
        Self {
            len,
            etag,
            mtime,
            last_modified: httpdate::fmt_http_date(mtime.max(SystemTime::UNIX_EPOCH)),
        }
    }
}

/// A version of a file, or a rendered text. Cheap to clone; a transfer keeps one version to its end
/// (T-31).
#[derive(Clone, Debug)]
pub struct ServedContent(Arc<ContentBody>);

/// A weak reference: finds a content again while a strong reference exists.
#[derive(Clone, Debug)]
pub struct WeakServedContent(Weak<ContentBody>);

impl WeakServedContent {
    /// The content, if a strong reference still exists.
    pub fn upgrade(&self) -> Option<ServedContent> {
        self.0.upgrade().map(ServedContent)
    }
}

#[derive(Debug)]
pub(super) struct ContentBody {
    meta: ContentMeta,
    kind: ContentBytes,
    /// None: the server made the content, and did not read it from a file.
    identity: Option<FileIdentity>,
    /// Coarse clock of the last use, for the least-recently-used order of mappings.
    pub(super) used: AtomicU64,
    /// The copy's share of the budget for copies.
    _share: Option<CopyShare>,
}

#[derive(Debug)]
enum ContentBytes {
    Inline(Bytes),
    Mapped(Arc<MappedFile>, Arc<ImageMemory>),
}

impl Drop for ContentBody {
    /// The last reference may be a core's, and a core never unmaps gigabytes: a worker does.
    fn drop(&mut self) {
        if let ContentBytes::Mapped(mapped, memory) = &self.kind {
            memory.lay_out(mapped);
        }
    }
}

/// Identifies a version of a file: two lookups with equal identities share a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileIdentity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) len: u64,
    pub(super) mtime_ns: i128,
    pub(super) ctime_ns: i128,
}

impl FileIdentity {
    pub(super) fn from_stat(stat: &libc::stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: count_nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: count_nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    fn etag(&self) -> String {
        // Include the time of the last status change: a program that overwrites a file may reset
        // its modification time.
        format!("\"{:x}-{:x}-{:x}-{:x}\"", self.inode, self.len, self.mtime_ns, self.ctime_ns)
    }

    fn mtime(&self) -> SystemTime {
        u64::try_from(self.mtime_ns)
            .map_or(SystemTime::UNIX_EPOCH, |ns| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns))
    }
}

fn count_nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// The bytes that a worker must make resident before a core sends a range: every piece that the
/// range touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryPiece {
    first: u64,
    /// The byte after the last one.
    end: u64,
}

impl ServedContent {
    /// A text made for one request, or translated from a file: no file has these bytes.
    pub fn copy_of(
        bytes: Bytes,
        etag: String,
        mtime: SystemTime,
        share: Option<CopyShare>,
    ) -> Self {
        Self::in_memory(bytes, etag, mtime, None, share)
    }

    /// A rendered text: its ETag is a hash of its bytes (H-23).
    pub fn rendered(text: String, now: SystemTime, share: Option<CopyShare>) -> Self {
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        let etag = format!("\"r{hash:x}-{:x}\"", text.len());
        Self::copy_of(Bytes::from(text), etag, now, share)
    }

    pub(super) fn small_file(bytes: Bytes, identity: &FileIdentity) -> Self {
        Self::in_memory(bytes, identity.etag(), identity.mtime(), Some(*identity), None)
    }

    fn in_memory(
        bytes: Bytes,
        etag: String,
        mtime: SystemTime,
        identity: Option<FileIdentity>,
        share: Option<CopyShare>,
    ) -> Self {
        let meta = ContentMeta::new(bytes.len() as u64, etag, mtime);
        Self(Arc::new(ContentBody {
            meta,
            kind: ContentBytes::Inline(bytes),
            identity,
            used: AtomicU64::new(0),
            _share: share,
        }))
    }

    pub(super) fn map(
        file: File,
        identity: FileIdentity,
        memory: &Arc<ImageMemory>,
    ) -> std::io::Result<Self> {
        let mapped = MappedFile::new(file, identity.len)?;
        // Take the identity again now that inotify watches the file: no event reports an earlier
        // change. Refuse a file that was truncated meanwhile.
        let now = mapped
            .stat()
            .map(|stat| FileIdentity::from_stat(&stat))
            .filter(|now| now.len == identity.len);
        let identity = now.unwrap_or(identity);
        let meta = ContentMeta::new(identity.len, identity.etag(), identity.mtime());
        let kind = ContentBytes::Mapped(mapped, Arc::clone(memory));
        Ok(Self(Arc::new(ContentBody {
            meta,
            kind,
            identity: Some(identity),
            used: AtomicU64::new(0),
            _share: None,
        })))
    }

    /// Whether the mapped file has no name any more. A content in memory occupies no disk space.
    pub(super) fn is_unlinked(&self) -> bool {
        match &self.0.kind {
            ContentBytes::Inline(_) => false,
            ContentBytes::Mapped(mapped, _) => mapped.stat().is_none_or(|stat| stat.st_nlink == 0),
        }
    }

    /// The server made the content and did not read it from a file: a caller that drops it cannot
    /// look it up again.
    pub fn is_copy(&self) -> bool {
        self.0.identity.is_none()
    }

    /// A weak reference to this content.
    pub fn downgrade(&self) -> WeakServedContent {
        WeakServedContent(Arc::downgrade(&self.0))
    }

    /// Copies the first bytes. Waits for the disk if the content is mapped: workers only.
    pub fn read_start(&self, most: usize) -> Result<Bytes, NameRefusal> {
        match &self.0.kind {
            ContentBytes::Inline(bytes) => Ok(bytes.slice(..bytes.len().min(most))),
            ContentBytes::Mapped(mapped, _) => {
                let mut bytes =
                    vec![0; usize::try_from(self.len()).unwrap_or(usize::MAX).min(most)];
                mapped.file.read_exact_at(&mut bytes, 0).map_err(|_| NameRefusal::ReadFailed)?;
                Ok(bytes.into())
            }
        }
    }

    pub(super) fn identity(&self) -> Option<FileIdentity> {
        self.0.identity
    }

    pub(super) fn body(&self) -> &Arc<ContentBody> {
        &self.0
    }

    pub(super) fn from_body(body: Arc<ContentBody>) -> Self {
        Self(body)
    }

    /// The metadata.
    pub fn meta(&self) -> &ContentMeta {
        &self.0.meta
    }

    /// Length, bytes.
    pub fn len(&self) -> u64 {
        self.0.meta.len
    }

    /// Whether the content has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if the process owns them; None: the content is mapped.
    pub fn inline_bytes(&self) -> Option<&Bytes> {
        match &self.0.kind {
            ContentBytes::Inline(bytes) => Some(bytes),
            ContentBytes::Mapped(..) => None,
        }
    }

    /// Start address and length of the content, for the kernel to read. User space must not read a
    /// mapped content: another program may truncate the file at any time. Valid while this
    /// `ServedContent` (or a clone) lives.
    pub fn address(&self) -> (*const u8, usize) {
        match &self.0.kind {
            ContentBytes::Inline(bytes) => (bytes.as_ptr(), bytes.len()),
            ContentBytes::Mapped(mapped, _) => (mapped.map.as_ptr(), mapped.map.len()),
        }
    }

    /// The file of a mapped content, for sendfile(2). Do not read from it otherwise: a core would
    /// wait for the disk.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.0.kind {
            ContentBytes::Inline(_) => None,
            ContentBytes::Mapped(mapped, _) => Some(mapped.file.as_fd()),
        }
    }

    /// Copies a few bytes of a mapped content from the file, never through the mapping; None: the
    /// file has changed since it was mapped. The bytes must be resident, or the core waits for the
    /// disk.
    pub fn copy(&self, range: &Range<u64>) -> Option<Bytes> {
        let ContentBytes::Mapped(mapped, _) = &self.0.kind else { return None };
        let mut bytes = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
        mapped.file.read_exact_at(&mut bytes, range.start).ok()?;
        // Check after the read: a file that is unchanged now was unchanged then.
        self.is_unchanged().then(|| bytes.into())
    }

    /// Copies all bytes from the file, never through the mapping. At most [`WHOLE_BYTES_MAX`].
    /// Waits for the disk if the content is mapped: workers only.
    pub fn read_whole(&self) -> Result<Bytes, NameRefusal> {
        match &self.0.kind {
            ContentBytes::Inline(bytes) => Ok(bytes.clone()),
            ContentBytes::Mapped(..) if self.len() > WHOLE_BYTES_MAX => Err(NameRefusal::TooLarge),
            ContentBytes::Mapped(mapped, _) => {
                let mut bytes =
                    vec![0; usize::try_from(self.len()).map_err(|_| NameRefusal::TooLarge)?];
                mapped.file.read_exact_at(&mut bytes, 0).map_err(|_| NameRefusal::ReadFailed)?;
                Ok(bytes.into())
            }
        }
    }

    /// The piece that a worker must make resident before this range leaves; None: send now. Marks
    /// the resident pieces as used.
    pub fn missing(&self, range: &Range<u64>) -> Option<MemoryPiece> {
        let ContentBytes::Mapped(mapped, memory) = &self.0.kind else { return None };
        let pieces = mapped.pieces(range);
        let tick = memory.tick();
        let is_there = pieces.clone().all(|piece| mapped.residency.use_at(piece, tick));
        (!is_there).then_some(MemoryPiece { first: pieces.start, end: pieces.end })
    }

    /// The piece after this range, if it exists and is not resident: the caller may request it
    /// ahead of need. None in a memory so small that the piece would evict one that is needed now.
    pub fn next_missing(&self, range: &Range<u64>) -> Option<MemoryPiece> {
        let ContentBytes::Mapped(mapped, memory) = &self.0.kind else { return None };
        let first = range.end.saturating_sub(1) / PIECE_BYTES + 1;
        let is_worth_it = memory.budget() >= AHEAD_BUDGET_MIN && !mapped.residency.has(first);
        is_worth_it.then_some(MemoryPiece { first, end: first + 1 })
    }

    /// As [`Self::next_missing`], but returns each piece once: a caller that looks ahead at every
    /// packet would fill the workers' queue.
    pub fn claim_next_missing(&self, range: &Range<u64>) -> Option<MemoryPiece> {
        let ContentBytes::Mapped(mapped, _) = &self.0.kind else { return None };
        self.next_missing(range).filter(|piece| mapped.residency.claim(piece.first))
    }

    /// Makes a piece resident, and protects it from eviction for a while. Waits for the disk, and
    /// for memory while the budget is spent: workers only, by [`super::DiskWorkers::submit_read`].
    ///
    /// Reports no failure (a truncated file, short memory): the later send gets EFAULT or waits.
    pub fn populate(&self, piece: MemoryPiece) {
        if let ContentBytes::Mapped(mapped, memory) = &self.0.kind {
            memory.make(mapped, &(piece.first..piece.end));
        }
    }

    /// Whether the file still has the bytes that it had when it was mapped. The caller checks this
    /// before the last bytes of a transfer leave, so that no client takes a mix of two versions for
    /// complete. Rename and removal do not count: the version lives on.
    pub fn is_unchanged(&self) -> bool {
        let ContentBytes::Mapped(mapped, _) = &self.0.kind else { return true };
        let (Ok(stat), Some(then)) = (stat_known_file(&mapped.file), self.0.identity) else {
            return false;
        };
        let now = FileIdentity::from_stat(&stat);
        if now == then {
            return true;
        }
        now.len == then.len
            && match &mapped.seen {
                Some(seen) => seen.is_only_touched(),
                None => now.mtime_ns == then.mtime_ns,
            }
    }
}
