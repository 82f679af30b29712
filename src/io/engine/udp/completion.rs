//! What a turn of the UDP driver has to tell: datagrams, sends that have left, and why others have
//! not.

use std::net::{IpAddr, SocketAddr};

/// A socket of a driver, numbered in the order of [`super::UdpDriver::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u16);

/// No slot or no queue entry is free: turn the driver and try again. Or the socket is blocked:
/// [`UdpCompletion::Room`] will tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendQueueFull;

/// What a turn of the driver has to tell.
#[derive(Debug)]
pub enum UdpCompletion<'a> {
    Datagram(ReceivedDatagram<'a>),
    /// A send has left, or failed for this reason; `token` is the sender's own.
    Sent {
        token: u64,
        result: Result<(), UdpSendError>,
    },
    /// A socket that was blocked takes sends again.
    Room(SocketId),
    /// The bell of the mailbox has rung.
    Woken,
}

/// Why a send failed, as far as its sender must tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpSendError {
    /// The mapping has lost its bytes: the file was cut short (EFAULT).
    ContentGone,
    /// The path does not take segmented sends (EIO, EINVAL, EMSGSIZE): send single datagrams from
    /// now on.
    NoSegments,
    /// The network's or the client's matter; the raw error number.
    Other(i32),
}

/// A datagram as it arrived. The bytes are the driver's: look at them before the next turn.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedDatagram<'a> {
    pub socket: SocketId,
    pub from: SocketAddr,
    /// The local address that the answer should leave from.
    pub local: IpAddr,
    /// Where it was sent to: may be a broadcast or multicast address.
    pub destination: IpAddr,
    /// Index of the interface it came in by; 0 = unknown.
    pub interface: u32,
    pub bytes: &'a [u8],
    /// It was longer than a receive buffer.
    pub truncated: bool,
}

pub(super) fn make_send_error(number: i32, segmented: bool) -> UdpSendError {
    match number {
        libc::EFAULT => UdpSendError::ContentGone,
        libc::EIO | libc::EINVAL | libc::EMSGSIZE if segmented => UdpSendError::NoSegments,
        number => UdpSendError::Other(number),
    }
}
