//! What the table wants from the engine, and what it shows of its transfers.

use std::net::SocketAddr;
use std::ops::Range;

use super::super::Tick;
use super::super::id::TransferId;
use super::super::local::LocalAddress;
use super::super::options::NegotiatedTerms;
use super::super::outcome::TransferOutcome;
use super::super::packet::{StoredReadRequest, TftpRefusal};
use super::super::transfer::TransferTally;

/// What the engine does next for the table.
///
/// `tid`: the socket to send from; None: the listening socket, in single-port mode only. `local`:
/// the server's address, to send from.
#[derive(Debug)]
pub enum TableAction<'a, C> {
    /// Find the file and call [`TransferTable::finish_open`](super::TransferTable::finish_open).
    Open {
        /// The transfer.
        id: TransferId,
        /// The client.
        peer: SocketAddr,
        /// The server's address, to send from.
        local: LocalAddress,
        /// The request, with its name and options.
        request: &'a StoredReadRequest,
    },
    /// Send these blocks of `content`. One action is one window. The engine hands back what cannot
    /// leave now by [`TransferTable::hand_back_blocks`](super::TransferTable::hand_back_blocks).
    Blocks {
        /// The blocks, and the way that they take.
        wanted: WantedBlocks,
        /// The content that the transfer sends.
        content: &'a C,
    },
    /// Send these bytes: an OACK or an ERROR.
    Datagram {
        /// The client.
        peer: SocketAddr,
        /// The server's address, to send from.
        local: LocalAddress,
        /// The TID socket to send from; None: the listening socket, in single-port mode only.
        tid: Option<u16>,
        /// The packet.
        bytes: &'a [u8],
        /// The refusal, where the packet is an ERROR for a datagram that began no transfer.
        turned_away: Option<TftpRefusal>,
    },
    /// The transfer is over. The table returns the content, so that a core need not be the one that
    /// frees it.
    Ended {
        /// How the transfer ended.
        end: EndedTransfer,
        /// The name in the request, as the client sent it.
        name: &'a [u8],
        /// The content; None: the engine has opened none.
        content: Option<C>,
    },
}

/// A run of DATA blocks of one transfer, and the way that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedBlocks {
    /// The transfer.
    pub id: TransferId,
    /// The client.
    pub peer: SocketAddr,
    /// The server's address, to send from.
    pub local: LocalAddress,
    /// The TID socket to send from; None: the listening socket, in single-port mode only.
    pub tid: Option<u16>,
    /// Number of the first block; the next ones follow modulo 65536 (T-24).
    pub first: u16,
    /// Bytes of each block but the last one of the transfer, which is shorter or empty.
    pub block_size: u16,
    /// The bytes of the content that the blocks carry.
    pub bytes: Range<u64>,
    /// How many blocks; at least 1.
    pub blocks: u32,
    /// The last one of them ends the transfer.
    pub is_last: bool,
}

/// The end of a transfer, in numbers.
#[derive(Clone, Debug)]
pub struct EndedTransfer {
    /// The transfer.
    pub id: TransferId,
    /// The client.
    pub peer: SocketAddr,
    /// How the transfer ended.
    pub outcome: TransferOutcome,
    /// The terms that both sides agreed on; None: the server found no file.
    pub terms: Option<NegotiatedTerms>,
    /// The request had a `tsize`.
    pub size_asked: bool,
    /// From the request to the end.
    pub duration: Tick,
    /// What the transfer has sent.
    pub tally: TransferTally,
}

/// A transfer that has not ended, as the status shows it.
#[derive(Debug)]
pub struct TransferView<'a, C> {
    /// The client.
    pub peer: SocketAddr,
    /// The name in the request, as the client sent it.
    pub name: &'a [u8],
    /// The content; None: the engine has not opened it yet.
    pub content: Option<&'a C>,
    /// When the request arrived.
    pub started: Tick,
    /// When an ACK last moved the transfer forward.
    pub moved_at: Tick,
    /// The first block that the client has not acknowledged, counted from 1, and the number of all
    /// blocks. None: the request waits for its turn or its file.
    pub block: Option<(u64, u64)>,
    /// Bytes of the content; 0: not known yet.
    pub len: u64,
    /// Bytes of it that the client has acknowledged.
    pub got: u64,
    /// The transfer waits for its turn on a full link.
    pub is_held: bool,
}

/// Counters since the start of the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Well-formed read requests, repetitions included.
    pub requests: u64,
    /// Repeated requests, answered from the session that they already had (T-49).
    pub repeated: u64,
    /// Requests that got an ERROR at once: writes, malformed requests.
    pub turned_away: u64,
    /// Datagrams on the listening port that are no request (T-4).
    pub strays: u64,
    /// Datagrams from no configured subnet, or sent to a broadcast address (T-9, T-65).
    pub not_served: u64,
    /// Requests that had to wait (T-65).
    pub waited: u64,
    /// Requests dropped because the queue, the table or the reply queue was full, or because a
    /// client exceeded a rate.
    pub dropped: u64,
    /// ERROR 5 packets sent (T-48).
    pub wrong_tid: u64,
    /// Requests that met a full table, whether another transfer made room or not.
    pub full: u64,
    /// Transfers ended to make room for others (T-65).
    pub displaced: u64,
    /// Transfers ended because a third party guessed at their port (T-64).
    pub guessed: u64,
}
