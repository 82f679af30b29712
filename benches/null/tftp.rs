//! A TFTP server that remembers nothing: an ACK of block n is answered with the window after n,
//! whoever sends it, from prepared datagrams of one file.

use bytes::Bytes;
use ringboot::engine::mmsg::{ArrivedDatagram, DatagramOutbox};

const READ_REQUEST: u8 = 1;
const DATA: u8 = 3;
const ACK: u8 = 4;
/// Opcode and block number.
const HEADER_BYTES: usize = 4;
/// RFC 1350.
const BLOCK_SIZE_DEFAULT: u16 = 512;
/// What a segmented send may hold (IPv4; 64 segments on older kernels).
const SEND_BYTES_MAX: usize = 65_507;
const SEGMENTS_MAX: usize = 64;

/// A file as the datagrams that carry it.
pub(crate) struct PreparedFile {
    /// DATA 1, DATA 2 and so on, one behind the other.
    datagrams: Bytes,
    /// Length of each of them but the last, which is shorter.
    datagram: usize,
    blocks: usize,
    window: usize,
    /// What a request is answered with; None: the first block.
    oack: Option<Bytes>,
}

impl PreparedFile {
    /// For clients that ask for this block size (None: for no option) and this window, if it is
    /// more than one block.
    pub(crate) fn new(file: &[u8], block_size: Option<u16>, window: u16) -> Self {
        let oack = block_size.map(|size| {
            let window = if window > 1 { format!("windowsize\0{window}\0") } else { String::new() };
            Bytes::from(format!("\0\x06blksize\0{size}\0{window}"))
        });
        let size = usize::from(block_size.unwrap_or(BLOCK_SIZE_DEFAULT));
        let blocks = file.len() / size + 1;
        let mut datagrams = Vec::with_capacity(file.len() + blocks * HEADER_BYTES);
        for block in 1..=blocks {
            let [.., high, low] = block.to_be_bytes();
            datagrams.extend_from_slice(&[0, DATA, high, low]);
            let start = (block - 1) * size;
            let end = (start + size).min(file.len());
            datagrams.extend_from_slice(file.get(start..end).unwrap_or_default());
        }
        let datagram = size + HEADER_BYTES;
        Self { datagrams: datagrams.into(), datagram, blocks, window: window.into(), oack }
    }

    pub(crate) fn answer(&self, arrival: &ArrivedDatagram<'_>, outbox: &mut DatagramOutbox) {
        let &[0, opcode, high, low, ..] = arrival.bytes else { return };
        let first = match (opcode, &self.oack) {
            (READ_REQUEST, Some(oack)) => {
                return outbox.push_shared(arrival.from, None, None, oack.clone());
            }
            (READ_REQUEST, None) => 1,
            (ACK, _) => usize::from(u16::from_be_bytes([high, low])) + 1,
            _ => return,
        };
        let end = (first + self.window).min(self.blocks + 1);
        let at_once = (SEND_BYTES_MAX / self.datagram).clamp(1, SEGMENTS_MAX);
        for from in (first..end).step_by(at_once) {
            let to = (from + at_once).min(end);
            let segment = (to - from > 1).then(|| u16::try_from(self.datagram).unwrap_or(u16::MAX));
            let start = (from - 1) * self.datagram;
            let stop = ((to - 1) * self.datagram).min(self.datagrams.len());
            outbox.push_shared(arrival.from, None, segment, self.datagrams.slice(start..stop));
        }
    }
}
