//! Receive buffers from which the kernel chooses (a provided-buffer ring), and their return to it.

// Casts give kernel constants, struct sizes and in-range offsets the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

use super::limits::RECEIVE_BUFFER_BYTES;

/// The one buffer group of a core's ring.
pub(super) const GROUP: u16 = 0;

/// Owns the entries that the kernel reads and the buffers that it writes. Dropped after the ring:
/// field order in its owner.
#[derive(Debug)]
pub(super) struct ReceiveBuffers {
    /// Page-aligned array of [`BufRingEntry`], whose first element's spare field is the ring's
    /// tail.
    entries: MmapMut,
    memory: MmapMut,
    /// Number of entries, and of buffers: a power of two.
    count: u16,
    tail: u16,
}

impl ReceiveBuffers {
    /// Registers a ring of `count` buffers. The kernel refuses a count that is no power of two
    /// (EINVAL).
    pub(super) fn register(ring: &IoUring, count: u16) -> io::Result<Self> {
        let entries = MmapMut::map_anon(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = MmapMut::map_anon(usize::from(count) * RECEIVE_BUFFER_BYTES)?;
        let mut buffers = Self { entries, memory, count, tail: 0 };
        // SAFETY: the entries are page-aligned (mmap), `count` of them fit, and the mapping
        // outlives the ring: the owner's fields drop the ring first.
        unsafe {
            let address = buffers.entries.as_ptr() as u64;
            ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)?;
        }
        (0..count).for_each(|id| buffers.give_back(id));
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes of a buffer that a completion has returned.
    pub(super) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        let start = usize::from(id % self.count) * RECEIVE_BUFFER_BYTES;
        &self.memory[start..start + len.min(RECEIVE_BUFFER_BYTES)]
    }

    /// Returns a buffer to the ring's end; the kernel sees it after [`ReceiveBuffers::publish`].
    pub(super) fn give_back(&mut self, id: u16) {
        let id = id % self.count;
        let index = usize::from(self.tail % self.count);
        // SAFETY: id < count, so the offset lies inside `memory`; index < count, so the entry lies
        // inside `entries`, which is aligned for it and which the kernel reads only up to the
        // published tail. BufRingEntry is plain integers. The entry's spare field is the tail of
        // entry 0: set_* leave it alone.
        unsafe {
            let address = self.memory.as_ptr().add(usize::from(id) * RECEIVE_BUFFER_BYTES);
            let entry = &mut *self.entries.as_mut_ptr().cast::<BufRingEntry>().add(index);
            entry.set_addr(address as u64);
            entry.set_len(RECEIVE_BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel every buffer returned so far.
    pub(super) fn publish(&mut self) {
        // SAFETY: the mapping starts with entry 0, whose spare field is the tail: a u16 inside the
        // mapping, aligned to 2, that only this thread writes and the kernel reads; an atomic store
        // is how it wants to be told.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_mut_ptr().cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}
