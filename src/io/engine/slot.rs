//! Send slots: all memory that the kernel reads while a send is in flight, which stays in place
//! until the completion.
//!
//! The one rule: *the kernel owns a slot until the completion*. The driver takes a slot from the
//! free list, fills and submits it, and returns it to the free list only when it handles the
//! completion; no other code frees or moves a slot. A slot is *parked* while its socket is full:
//! the kernel has returned it, and the driver sends its contents again.

// Casts give kernel constants, struct sizes and in-range offsets the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::net::SocketAddr;
use std::ops::Range;
use std::ptr;

use super::address::{DatagramSource, DatagramTarget, write_socket_name};
use super::control_message::{CONTROL_BYTES, ControlWriter};
use super::limits::{
    COPIED_BYTES_MAX, DATAGRAM_BYTES_MAX, PARKED_SENDS_MAX, SEGMENTS_MAX, SEND_SLOTS,
};
use crate::images::ServedContent;

/// A run of TFTP DATA blocks of one content: one block, or several that the kernel cuts into
/// datagrams (UDP_SEGMENT).
#[derive(Clone, Debug)]
pub struct BlockBatch<'a> {
    /// The content that the blocks come from.
    pub content: &'a ServedContent,
    /// Number of the first block on the wire.
    pub first: u16,
    /// Bytes of each block but the last.
    pub block_size: u16,
    /// The run's bytes of the content; the last block is short or empty at the end of the file.
    pub bytes: Range<u64>,
    /// Number of blocks.
    pub count: u32,
}

/// Most blocks of this size in one send.
pub fn count_blocks_per_send(block_size: u16) -> u32 {
    let fit = DATAGRAM_BYTES_MAX / (usize::from(block_size) + DATA_HEADER_BYTES);
    u32::try_from(fit).unwrap_or(1).clamp(1, SEGMENTS_MAX)
}

/// Opcode and block number, bytes.
const DATA_HEADER_BYTES: usize = 4;

/// The header of every possible DATA packet, so that no block needs memory of its own.
static HEADERS: [[u8; DATA_HEADER_BYTES]; 65536] = make_block_headers();

#[allow(clippy::cast_possible_truncation)] // block numbers are below 65536 by the loop's bound
const fn make_block_headers() -> [[u8; DATA_HEADER_BYTES]; 65536] {
    let mut table = [[0, 3, 0, 0]; 65536];
    let mut block = 0;
    while block < 65536 {
        table[block][2] = (block >> 8) as u8;
        table[block][3] = block as u8;
        block += 1;
    }
    table
}

/// All slots of a core.
pub(super) struct SendSlots {
    slots: Box<[SendSlot]>,
    free: Vec<u16>,
    parked: usize,
}

/// All slots of a core, parked ones included.
const SLOTS: usize = SEND_SLOTS + PARKED_SENDS_MAX;

struct SendSlot {
    message: libc::msghdr,
    name: libc::sockaddr_storage,
    control: [u8; CONTROL_BYTES],
    vectors: [libc::iovec; 2 * SEGMENTS_MAX as usize],
    copy: [u8; COPIED_BYTES_MAX],
    /// Keeps a mapping alive while the kernel reads from it.
    content: Option<ServedContent>,
    token: u64,
    segmented: bool,
    in_use: bool,
}

impl SendSlot {
    fn new() -> Self {
        // SAFETY: msghdr, sockaddr_storage and iovec are integers and raw pointers, for which all
        // zeros is a valid value.
        unsafe {
            Self {
                message: std::mem::zeroed(),
                name: std::mem::zeroed(),
                control: [0; CONTROL_BYTES],
                vectors: std::mem::zeroed(),
                copy: [0; COPIED_BYTES_MAX],
                content: None,
                token: 0,
                segmented: false,
                in_use: false,
            }
        }
    }
}

/// The kind of a finished send.
#[derive(Clone, Copy, Debug)]
pub(super) struct FinishedSend {
    pub(super) token: u64,
    pub(super) segmented: bool,
}

impl std::fmt::Debug for SendSlots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendSlots").field("free", &self.free.len()).finish_non_exhaustive()
    }
}

impl SendSlots {
    pub(super) fn new() -> Self {
        let slots: Box<[SendSlot]> = (0..SLOTS).map(|_| SendSlot::new()).collect();
        let free = (0..u16::try_from(SLOTS).unwrap_or(u16::MAX)).rev().collect();
        Self { slots, free, parked: 0 }
    }

    /// Slots in use and not parked.
    pub(super) fn in_flight(&self) -> usize {
        SLOTS - self.free.len() - self.parked
    }

    pub(super) fn is_full(&self) -> bool {
        self.in_flight() >= SEND_SLOTS
    }

    /// Parks a slot of a full socket that has already parked this many. False: the socket has its
    /// share, and the send is lost. Every blocked socket leaves room for others.
    pub(super) fn park(&mut self, of_socket: usize) -> bool {
        let finds_place = of_socket + self.parked < PARKED_SENDS_MAX;
        self.parked += usize::from(finds_place);
        finds_place
    }

    /// Counts parked slots that the driver sends again or releases.
    pub(super) fn unpark(&mut self, count: usize) {
        self.parked = self.parked.saturating_sub(count);
    }

    /// The message of a slot that is in use.
    pub(super) fn message(&self, id: u16) -> Option<*const libc::msghdr> {
        self.slots
            .get(usize::from(id))
            .filter(|slot| slot.in_use)
            .map(|slot| &raw const slot.message)
    }

    /// Fills a slot with a copy of these bytes. None: no slot is free, or the bytes exceed a slot.
    pub(super) fn fill_copy(
        &mut self,
        to: DatagramTarget,
        from: Option<DatagramSource>,
        bytes: &[u8],
        token: u64,
    ) -> Option<u16> {
        if bytes.len() > COPIED_BYTES_MAX || self.is_full() {
            return None;
        }
        let id = self.free.pop()?;
        let slot = &mut self.slots[usize::from(id)];
        slot.address(to, from, None, token);
        slot.copy[..bytes.len()].copy_from_slice(bytes);
        slot.vectors[0] =
            libc::iovec { iov_base: slot.copy.as_mut_ptr().cast(), iov_len: bytes.len() };
        slot.message.msg_iov = slot.vectors.as_mut_ptr();
        slot.message.msg_iovlen = 1;
        Some(id)
    }

    /// Fills a slot with a run of blocks. None: no slot is free.
    pub(super) fn fill_blocks(
        &mut self,
        to: SocketAddr,
        from: Option<DatagramSource>,
        blocks: &BlockBatch<'_>,
        token: u64,
    ) -> Option<u16> {
        if self.is_full() {
            return None;
        }
        let id = self.free.pop()?;
        let slot = &mut self.slots[usize::from(id)];
        let segment = (blocks.count > 1).then(|| blocks.block_size + DATA_HEADER_BYTES as u16);
        slot.address(DatagramTarget::Ip(to), from, segment, token);
        let (base, len) = blocks.content.address();
        let block_size = u64::from(blocks.block_size);
        let mut used = 0;
        for n in 0..blocks.count.min(SEGMENTS_MAX) {
            let number = usize::from(blocks.first.wrapping_add(u16::try_from(n).unwrap_or(0)));
            let header = HEADERS[number].as_ptr().cast_mut().cast();
            slot.vectors[used] = libc::iovec { iov_base: header, iov_len: DATA_HEADER_BYTES };
            used += 1;
            let start = blocks.bytes.start + u64::from(n) * block_size;
            let end = (start + block_size).min(blocks.bytes.end).min(len as u64);
            if start < end {
                // `start` and `end` lie inside the content, whose length is a usize.
                let (start, end) = (start as usize, end as usize);
                let address = base.wrapping_add(start).cast_mut().cast();
                slot.vectors[used] = libc::iovec { iov_base: address, iov_len: end - start };
                used += 1;
            }
        }
        slot.content = Some(blocks.content.clone());
        slot.message.msg_iov = slot.vectors.as_mut_ptr();
        slot.message.msg_iovlen = used;
        Some(id)
    }

    /// Frees a slot that the kernel has returned.
    pub(super) fn release(&mut self, id: u16) -> Option<FinishedSend> {
        let slot = self.slots.get_mut(usize::from(id))?;
        if !std::mem::take(&mut slot.in_use) {
            return None;
        }
        slot.content = None;
        self.free.push(id);
        Some(FinishedSend { token: slot.token, segmented: slot.segmented })
    }
}

impl SendSlot {
    /// Sets everything but the payload. Call it first: pointers into a part of the slot must be
    /// made after the last borrow of the whole.
    fn address(
        &mut self,
        to: DatagramTarget,
        from: Option<DatagramSource>,
        segment: Option<u16>,
        token: u64,
    ) {
        let name_len = write_socket_name(&mut self.name, to);
        let mut control = ControlWriter::new(&mut self.control);
        if let Some(source) = from {
            control.source(source.address, source.interface);
        }
        if let Some(bytes) = segment {
            control.segment(bytes);
        }

        // The pointers are made after the last write to `control` and `name`, so they stay valid.
        self.message.msg_controllen = control.len();
        let no_control = self.message.msg_controllen == 0;
        self.message.msg_control =
            if no_control { ptr::null_mut() } else { self.control.as_mut_ptr().cast() };
        self.message.msg_name = (&raw mut self.name).cast();
        self.message.msg_namelen = name_len;

        self.token = token;
        self.segmented = segment.is_some();
        self.in_use = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_is_opcode_three_and_its_block() {
        assert_eq!(HEADERS[0], [0, 3, 0, 0]);
        assert_eq!(HEADERS[0x1234], [0, 3, 0x12, 0x34]);
        assert_eq!(HEADERS[65535], [0, 3, 0xff, 0xff]);
    }

    #[test]
    fn a_send_holds_as_many_blocks_as_a_datagram_and_the_kernel_allow() {
        assert_eq!(count_blocks_per_send(512), 64);
        assert_eq!(count_blocks_per_send(1468), 44);
        assert_eq!(count_blocks_per_send(65464), 1);
        assert_eq!(count_blocks_per_send(8), 64);
    }
}
