//! What a turn of the TCP driver has to tell, of which connection, and what a send is made of.

use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;

use crate::images::ServedContent;

/// A connection of a driver. The pair of numbers is never used again: events of a closed connection
/// meet nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl ConnectionId {
    /// Dense, for slabs: an index comes again with another connection after this one is closed.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What a turn of the driver has to tell.
#[derive(Debug)]
pub enum TcpEvent<'a> {
    Accepted {
        id: ConnectionId,
        peer: SocketAddr,
    },
    /// The bytes are the driver's: take them before the call returns. Never empty.
    Received {
        id: ConnectionId,
        bytes: &'a [u8],
    },
    /// The client sends no more. Comes once. `is_reset`: it did not end its side, the connection is
    /// broken, and every later send fails too.
    Ended {
        id: ConnectionId,
        is_reset: bool,
    },
    /// The kernel has taken `bytes` more of what was given to [`super::TcpDriver::send`] (several
    /// may come for one send); `left` = bytes of this send that it has not. 0: the connection may
    /// send again.
    Sent {
        id: ConnectionId,
        bytes: u64,
        left: u64,
    },
    /// The rest of the send is lost; the connection is of no use but to be closed.
    SendFailed {
        id: ConnectionId,
        why: TcpSendError,
    },
    /// The kernel gives no connection although one waits (the raw number; EMFILE, ENFILE and ENOMEM
    /// are shortages): accepting pauses by itself for a while.
    AcceptFailed(i32),
    /// The bell of the mailbox has rung.
    Woken,
}

/// Why a send failed, as far as its sender must tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpSendError {
    /// The file was cut short or cannot be read: fewer bytes were sent than promised.
    ContentGone,
    /// The client is: it reset the connection, or no longer answers.
    Gone,
}

/// What follows the head's bytes in a send.
#[derive(Clone, Debug, Default)]
pub enum SendBody {
    #[default]
    Nothing,
    Bytes(Bytes),
    /// A range of a content; it must be resident, or the core waits for the disk.
    File {
        content: ServedContent,
        range: Range<u64>,
    },
}
