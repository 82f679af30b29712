//! Sends DATA blocks: as many in one send as the way to the client takes, and only bytes that are
//! resident.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::held::{AskedFile, CarriedContent, HeldFile, TftpLetter};
use super::limits::UNSEGMENTED_MAX;
use super::senders::AnswerSockets;
use crate::engine::mailbox::MailboxSender;
use crate::engine::udp::{
    BlockBatch, DatagramSource, DatagramTarget, SocketId, UdpDriver, count_blocks_per_send,
};
use crate::images::{MemoryPiece, OwedAnswer, PieceUrgency, ServedContent};
use crate::serve::shelf::FileSources;
use crate::tftp::limits::{OVERHEAD_V4, OVERHEAD_V6};
use crate::tftp::table::{LocalAddress, WantedBlocks};

/// The token of sends that belong to no transfer.
const NOBODY: u64 = u64::MAX;

/// What became of the wanted blocks.
#[derive(Debug)]
pub(super) struct BlocksSent {
    pub(super) outcome: SendOutcome,
    pub(super) socket: SocketId,
    /// The content, where the transfer did not hold it yet.
    pub(super) found: Option<ServedContent>,
}

/// How many of the wanted blocks were queued.
#[derive(Debug)]
pub(super) enum SendOutcome {
    All,
    /// This many; the rest waits for send slots.
    Some(u32),
    /// No block: a worker makes the range resident first.
    Later,
    /// No block: every worker is busy.
    Postponed,
    /// No block: the core must look the content up again.
    NotHeld(Arc<AskedFile>),
    /// No block: the file has changed since the transfer began.
    Gone,
}

/// A run of blocks with the socket and source that it leaves by.
struct BlockRun<'a> {
    wanted: &'a WantedBlocks,
    socket: SocketId,
    from: Option<DatagramSource>,
    per_send: u32,
}

/// Sends the answers of one core.
pub(super) struct BlockSender {
    pub(super) driver: UdpDriver,
    sockets: AnswerSockets,
    names: Arc<FileSources>,
    letters: MailboxSender<TftpLetter>,
    /// Most blocks in one send.
    segments_max: u32,
    /// Clients for which the kernel does not segment sends: their route has a smaller MTU, or the
    /// device cannot.
    unsegmented: HashSet<IpAddr>,
}

impl BlockSender {
    pub(super) fn new(
        driver: UdpDriver,
        sockets: AnswerSockets,
        names: Arc<FileSources>,
        letters: MailboxSender<TftpLetter>,
        segments_max: u32,
    ) -> Self {
        Self { driver, sockets, names, letters, segments_max, unsegmented: HashSet::new() }
    }

    /// Bytes in the send queues of the sockets that answer from this address.
    pub(super) fn measure_backlog(&self, address: Ipv4Addr) -> Option<u64> {
        self.sockets.measure_backlog(&self.driver, address)
    }

    /// Sends one packet of the table. If the ring is full the packet is lost, and a timer sends it
    /// again.
    pub(super) fn send_datagram(
        &mut self,
        peer: SocketAddr,
        local: LocalAddress,
        tid: Option<u16>,
        bytes: &[u8],
    ) {
        let (socket, from) = self.sockets.choose(&mut self.driver, peer, local, tid);
        let _ = self.driver.send(socket, DatagramTarget::Ip(peer), from, bytes, NOBODY);
    }

    /// Sends blocks of the content that a transfer holds, or has a worker make them resident.
    /// `mtu`: that of the interface that received the request.
    pub(super) fn send_blocks(
        &mut self,
        wanted: &WantedBlocks,
        held: &HeldFile,
        mtu: u16,
    ) -> BlocksSent {
        let WantedBlocks { peer, local, tid, block_size, ref bytes, .. } = *wanted;
        let (socket, from) = self.sockets.choose(&mut self.driver, peer, local, tid);

        // Before the first ACK a transfer holds a weak handle or the first bytes (T-64). Where
        // these are not enough, the core looks the file up again.
        let mut found = None;
        let content = match &held.carried {
            CarriedContent::Whole(content) => Some(content),
            CarriedContent::Start(start) => Some(start).filter(|start| bytes.end <= start.len()),
            CarriedContent::Known(weak) => {
                found = weak.upgrade();
                found.as_ref()
            }
        };

        let outcome = match content {
            None => SendOutcome::NotHeld(Arc::clone(&held.asked)),
            Some(content) => {
                let can_segment =
                    is_one_frame(mtu, peer, block_size) && !self.unsegmented.contains(&peer.ip());
                let most = count_blocks_per_send(block_size).min(self.segments_max);
                let per_send = if can_segment { most } else { 1 };
                let run = BlockRun { wanted, socket, from, per_send };
                self.send_resident(&run, content)
            }
        };
        BlocksSent { outcome, socket, found }
    }

    /// Sends a run if its bytes are resident, and has a worker read ahead.
    fn send_resident(&mut self, run: &BlockRun<'_>, content: &ServedContent) -> SendOutcome {
        let WantedBlocks { id, bytes, is_last, .. } = run.wanted;
        if let Some(piece) = content.missing(bytes) {
            let (letters, id) = (self.letters.clone(), *id);
            let is_queued = self.make_resident(content.clone(), piece, move || {
                letters.send(TftpLetter::Resident(id));
            });
            return if is_queued { SendOutcome::Later } else { SendOutcome::Postponed };
        }
        // The final block must not complete a mix of two versions of the file.
        if *is_last && !content.is_unchanged() {
            return SendOutcome::Gone;
        }
        if let Some(piece) = content.claim_next_missing(bytes) {
            self.make_resident(content.clone(), piece, || {});
        }
        self.queue_run(run, content)
    }

    /// Queues the sends of a run until no send slot is left.
    fn queue_run(&mut self, run: &BlockRun<'_>, content: &ServedContent) -> SendOutcome {
        let WantedBlocks { id, peer, first, block_size, ref bytes, blocks, .. } = *run.wanted;
        let mut done = 0;
        while done < blocks {
            let count = run.per_send.min(blocks - done);
            let start = bytes.start + u64::from(done) * u64::from(block_size);
            let end = (start + u64::from(count) * u64::from(block_size)).min(bytes.end);
            // Block numbers wrap from 65535 to 0 (T-24).
            let first = first.wrapping_add(u16::try_from(done & 0xffff).unwrap_or(0));
            let part = BlockBatch { content, first, block_size, bytes: start..end, count };
            if self.driver.send_blocks(run.socket, peer, run.from, &part, id.token()).is_err() {
                return SendOutcome::Some(done);
            }
            done += count;
        }
        SendOutcome::All
    }

    /// Has a worker make a piece resident, then calls `then`. False: every worker is busy and the
    /// queue is full.
    fn make_resident(
        &self,
        content: ServedContent,
        piece: MemoryPiece,
        then: impl FnOnce() + Send + 'static,
    ) -> bool {
        let submitted = self.names.images.workers().submit_read(PieceUrgency::Soon, move || {
            // `then` is called even if the worker panics: the core asks again for what is still
            // missing.
            let _owed = OwedAnswer::new(|()| then(), |_| ());
            content.populate(piece);
        });
        submitted.is_ok()
    }

    /// Sends single blocks to this client from now on. A timer retransmits those that were lost.
    pub(super) fn stop_segmenting(&mut self, client: IpAddr) {
        if self.unsegmented.len() >= UNSEGMENTED_MAX {
            self.unsegmented.clear();
        }
        self.unsegmented.insert(client);
    }

    #[cfg(test)]
    pub(super) fn unsegmented(&self) -> &HashSet<IpAddr> {
        &self.unsegmented
    }
}

/// Whether a block of this size leaves as one frame: only then may the kernel segment a send into
/// such blocks.
fn is_one_frame(mtu: u16, peer: SocketAddr, block_size: u16) -> bool {
    let overhead = if peer.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    block_size <= mtu.saturating_sub(overhead)
}
