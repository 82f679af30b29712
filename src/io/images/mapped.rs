//! A mapped file, which only the kernel reads, and the pieces of it in memory.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapOptions};

use super::limits::PIECE_BYTES;
use super::lock::{self, ResidencyKind};
use super::residency::PieceResidency;
use super::watch::FileChanges;

/// A mapping of a whole file, read-only and shared.
#[derive(Debug)]
pub(super) struct MappedFile {
    /// Differs from the number of every other mapping of the process, earlier ones included.
    pub(super) id: u64,
    pub(super) map: Mmap,
    pub(super) file: File,
    pub(super) residency: Arc<PieceResidency>,
    /// None: no inotify watch was available, so only the file's times show a change.
    pub(super) seen: Option<Arc<FileChanges>>,
}

impl MappedFile {
    pub(super) fn new(file: File, len: u64) -> std::io::Result<Arc<Self>> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let bytes = usize::try_from(len).map_err(|_| std::io::ErrorKind::FileTooLarge)?;
        // SAFETY: the mapping is read-only and shared, and no code in this process reads its bytes:
        // they are for system calls alone, for which a file cut short is EFAULT and not SIGBUS.
        // That holds for a length beyond the file's end too: it is the identity's, since the file
        // may have been cut short after it was looked at.
        let map = unsafe { MmapOptions::new().len(bytes).map(&file)? };
        let id = MADE.fetch_add(1, Ordering::Relaxed);
        let residency = Arc::new(PieceResidency::none_of(len));
        let seen = FileChanges::of(&file);
        Ok(Arc::new(Self { id, map, file, residency, seen }))
    }

    /// Numbers of the pieces that a range of bytes touches.
    pub(super) fn pieces(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.map.len() as u64);
        if range.start >= end {
            0..0
        } else {
            range.start / PIECE_BYTES..(end - 1) / PIECE_BYTES + 1
        }
    }

    /// Memory that a piece takes, bytes: whole pages; the last piece may be shorter.
    pub(super) fn piece_bytes(&self, piece: u64) -> u64 {
        const PAGE: u64 = 4096;
        let left = (self.map.len() as u64).saturating_sub(piece.saturating_mul(PIECE_BYTES));
        left.min(PIECE_BYTES).next_multiple_of(PAGE)
    }

    /// Makes a piece resident; waits for the disk. `ImageMemory` updates the residency map.
    pub(super) fn make_resident(&self, piece: u64, may_lock: bool) -> ResidencyKind {
        let (start, len) = self.place(piece);
        lock::make_resident(&self.map, start, len, may_lock)
    }

    pub(super) fn unlock(&self, piece: u64) {
        let (start, len) = self.place(piece);
        lock::unlock_range(&self.map, start, len);
    }

    fn place(&self, piece: u64) -> (usize, usize) {
        let start = usize::try_from(piece.saturating_mul(PIECE_BYTES))
            .unwrap_or(usize::MAX)
            .min(self.map.len());
        let len = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX).min(self.map.len() - start);
        (start, len)
    }

    /// The file's metadata from the disk or file server. Waits for it: workers only.
    pub(super) fn stat(&self) -> Option<libc::stat> {
        let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: the descriptor is open for as long as `self.file`, and `stat` has room for one
        // struct stat.
        let answer = unsafe { libc::fstat(self.file.as_raw_fd(), stat.as_mut_ptr()) };
        // SAFETY: fstat returned 0, so it filled the whole struct.
        (answer == 0).then(|| unsafe { stat.assume_init() })
    }
}
