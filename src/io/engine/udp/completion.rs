//! The events of a turn of the UDP driver: datagrams, finished sends, and why a send failed.

use std::net::{IpAddr, SocketAddr};

/// A socket of a driver, numbered in the order of [`super::UdpDriver::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u16);

/// No slot or no queue entry is free: run a turn and try again. Or the socket is blocked: wait for
/// [`UdpCompletion::Room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendQueueFull;

/// An event of a turn of the driver.
#[derive(Debug)]
pub enum UdpCompletion<'a> {
    /// A datagram has arrived.
    Datagram(ReceivedDatagram<'a>),
    /// A send has left, or failed for this reason.
    Sent {
        /// The number that the sender gave to the send.
        token: u64,
        /// Whether the send left.
        result: Result<(), UdpSendError>,
    },
    /// A socket that was blocked has room for sends again.
    Room(SocketId),
    /// The bell of the mailbox has rung.
    Woken,
}

/// Why a send failed, as far as its sender must distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpSendError {
    /// The mapping has lost its bytes: the file was truncated (EFAULT).
    ContentGone,
    /// The path accepts no segmented sends (EIO, EINVAL, EMSGSIZE): send single datagrams from now
    /// on.
    NoSegments,
    /// An error of the network or the client; the raw error number.
    Other(i32),
}

/// A received datagram. The driver owns the bytes: use them before the next turn.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedDatagram<'a> {
    /// The socket at which the datagram arrived.
    pub socket: SocketId,
    /// The sender.
    pub from: SocketAddr,
    /// The local address from which the reply should leave.
    pub local: IpAddr,
    /// The destination: may be a broadcast or multicast address.
    pub destination: IpAddr,
    /// Index of the interface at which it arrived; 0: unknown.
    pub interface: u32,
    /// The payload.
    pub bytes: &'a [u8],
    /// The datagram was longer than a receive buffer, and is cut.
    pub truncated: bool,
}

pub(super) fn make_send_error(number: i32, segmented: bool) -> UdpSendError {
    match number {
        libc::EFAULT => UdpSendError::ContentGone,
        libc::EIO | libc::EINVAL | libc::EMSGSIZE if segmented => UdpSendError::NoSegments,
        number => UdpSendError::Other(number),
    }
}
