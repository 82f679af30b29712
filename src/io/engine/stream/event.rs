//! The events of the TCP driver, the names of its connections, and the body of a send.

use std::net::SocketAddr;
use std::ops::Range;

use bytes::Bytes;

use crate::images::ServedContent;

/// A connection of a driver. The driver never reuses the pair of numbers, so an event of a closed
/// connection names no other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl ConnectionId {
    /// A dense index, for slabs: another connection may get it after this one is closed.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// An event of a turn of the driver.
#[derive(Debug)]
pub enum TcpEvent<'a> {
    /// A client has connected.
    Accepted {
        /// The new connection.
        id: ConnectionId,
        /// The client.
        peer: SocketAddr,
    },
    /// The client has sent bytes. The driver owns them: copy them before the call returns.
    Received {
        /// The connection.
        id: ConnectionId,
        /// The bytes; never empty.
        bytes: &'a [u8],
    },
    /// The client sends no more. Occurs once for a connection.
    Ended {
        /// The connection.
        id: ConnectionId,
        /// The connection is broken, not ended by the client: every later send fails too.
        is_reset: bool,
    },
    /// The kernel has taken more bytes of a [`super::TcpDriver::send`]. One send may cause several
    /// of these.
    Sent {
        /// The connection.
        id: ConnectionId,
        /// Bytes that the kernel has taken since the last event.
        bytes: u64,
        /// Bytes of this send that the kernel has not taken; 0: the connection may send again.
        left: u64,
    },
    /// The rest of the send is lost: close the connection.
    SendFailed {
        /// The connection.
        id: ConnectionId,
        /// The reason.
        why: TcpSendError,
    },
    /// An accept failed although a client waits (the raw error number; EMFILE, ENFILE and ENOMEM
    /// are shortages). The listener pauses for a while.
    AcceptFailed(i32),
    /// The bell of the mailbox has rung.
    Woken,
}

/// Why a send failed, as far as its sender must distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpSendError {
    /// The file was truncated or cannot be read: fewer bytes have left than promised.
    ContentGone,
    /// The client has reset the connection, or no longer answers.
    Gone,
}

/// The body of a send, after the head.
#[derive(Clone, Debug, Default)]
pub enum SendBody {
    /// No body.
    #[default]
    Nothing,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a content. It must be resident, or the core waits for the disk.
    File {
        /// The content.
        content: ServedContent,
        /// Its bytes to send.
        range: Range<u64>,
    },
}
