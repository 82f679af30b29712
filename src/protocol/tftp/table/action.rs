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

/// What the engine is to do.
///
/// `tid`: the socket to send from; None = the listening socket, in single-port mode only.
#[derive(Debug)]
pub enum TableAction<'a, C> {
    /// Find the file and call [`TransferTable::opened`](super::TransferTable::opened).
    Open { id: TransferId, peer: SocketAddr, local: LocalAddress, request: &'a StoredReadRequest },
    /// Send these blocks of `content`. One action is one window. The engine hands back what cannot
    /// leave now by [`TransferTable::unsent`](super::TransferTable::unsent).
    Blocks { wanted: WantedBlocks, content: &'a C },
    /// Send these bytes: an OACK or an ERROR. `turned_away`: the ERROR is the answer to a datagram
    /// that began nothing.
    Datagram {
        peer: SocketAddr,
        local: LocalAddress,
        tid: Option<u16>,
        bytes: &'a [u8],
        turned_away: Option<TftpRefusal>,
    },
    /// The transfer is over. The table returns the content, so that a core need not be the one that
    /// frees it.
    Ended { end: EndedTransfer, name: &'a [u8], content: Option<C> },
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

/// A transfer that is not over, for whoever looks at the table.
#[derive(Debug)]
pub struct TransferView<'a, C> {
    pub peer: SocketAddr,
    pub name: &'a [u8],
    pub content: Option<&'a C>,
    pub started: Tick,
    /// When its client last got on.
    pub moved_at: Tick,
    /// The first block that is not acknowledged, counted from 1, and how many there are; None: it
    /// waits for its turn or its file.
    pub block: Option<(u64, u64)>,
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Read requests that were well formed, repeats included.
    pub requests: u64,
    /// Requests that came once more and were answered from the session they had (T-49).
    pub repeated: u64,
    /// Answered at once with an ERROR: writes, malformed requests.
    pub turned_away: u64,
    /// Datagrams on the listening port that mean nothing there (T-4).
    pub strays: u64,
    /// Not of a configured subnet, or sent to a broadcast address (T-9, T-65).
    pub not_served: u64,
    /// Requests that had to wait (T-65).
    pub waited: u64,
    /// Requests dropped because the queue, the table or the queue of replies was full, or a rate
    /// was passed.
    pub dropped: u64,
    /// ERROR 5 sent (T-48).
    pub wrong_tid: u64,
    /// Requests that met a full table, whether a place was found or not.
    pub full: u64,
    /// Transfers that others took the place of (T-65).
    pub displaced: u64,
    /// Transfers ended because somebody guessed at their port (T-64).
    pub guessed: u64,
}
