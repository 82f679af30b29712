//! The UDP driver of one core: receives datagrams and sends batches, one turn at a time, by
//! io_uring or by epoll.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

pub use self::completion::{
    ReceivedDatagram, SendQueueFull, SocketId, UdpCompletion, UdpSendError,
};
pub use super::address::{DatagramSource, DatagramTarget};
pub use super::slot::{BlockBatch, count_blocks_per_send};
pub use super::wait::TurnWait;

use self::plain::PlainDriver;
use self::ring::RingDriver;
use super::datapath::Datapath;
use super::limits::{RECEIVE_BUFFERS, SEND_SLOTS};
use super::mailbox::CoreMailbox;
use super::net;
use super::ring::NoRing;

mod completion;
mod plain;
mod ring;
#[cfg(test)]
mod tests;

/// One core's sockets, by io_uring or by epoll. Both behave alike: the same tests run over either.
#[derive(Debug)]
pub struct UdpDriver(UdpBackend);

#[derive(Debug)]
enum UdpBackend {
    Ring(Box<RingDriver>),
    Plain(PlainDriver),
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
pub enum NoDriver {
    /// The kernel refuses a ring.
    #[error(transparent)]
    Ring(#[from] NoRing),
    /// Epoll failed, on a data path without a ring.
    #[error("epoll could not be set up: {0}")]
    Epoll(#[source] io::Error),
}

impl UdpDriver {
    /// A driver for the calling thread, which must be the one that runs its turns.
    pub fn new(datapath: Datapath) -> Result<Self, NoDriver> {
        Self::with_buffers(datapath, RECEIVE_BUFFERS)
    }

    /// The same with this many receive buffers of a ring, a power of two. Without a ring the driver
    /// ignores the number.
    pub fn with_buffers(datapath: Datapath, receive_buffers: u16) -> Result<Self, NoDriver> {
        datapath
            .driver(
                || Ok(UdpBackend::Ring(Box::new(RingDriver::new(receive_buffers)?))),
                || PlainDriver::new().map(UdpBackend::Plain).map_err(NoDriver::Epoll),
            )
            .map(Self)
    }

    /// Adds a bound socket. `receives`: the driver also receives from it.
    pub fn add(&mut self, fd: OwnedFd, local: IpAddr, receives: bool) -> SocketId {
        match &mut self.0 {
            UdpBackend::Ring(ring) => ring.add(fd, local, receives),
            UdpBackend::Plain(plain) => plain.add(fd, local, receives),
        }
    }

    /// Opens a socket that only sends, from this address and the port of one that receives
    /// ([`net::open_sender_beside`]).
    pub fn sender_beside(&self, receiver: SocketId, from: Ipv4Addr) -> io::Result<OwnedFd> {
        let fd = match &self.0 {
            UdpBackend::Ring(ring) => ring.fd(receiver),
            UdpBackend::Plain(plain) => plain.fd(receiver),
        };
        net::open_sender_beside(fd.ok_or(io::ErrorKind::NotFound)?, from)
    }

    /// Bytes of this socket's sends that the device has not sent yet, as the kernel counts them;
    /// None: the kernel does not say.
    pub fn read_send_queue(&self, socket: SocketId) -> Option<u64> {
        let fd = match &self.0 {
            UdpBackend::Ring(ring) => ring.fd(socket),
            UdpBackend::Plain(plain) => plain.fd(socket),
        };
        net::read_send_queue(fd?)
    }

    /// Removes a socket; the next turn closes it. Its queued sends are lost.
    pub fn remove(&mut self, socket: SocketId) {
        match &mut self.0 {
            UdpBackend::Ring(ring) => ring.remove(socket),
            UdpBackend::Plain(plain) => plain.remove(socket),
        }
    }

    /// Makes this mailbox's bell wake the driver. The mailbox must live as long as the driver runs.
    pub fn listen_to<T>(&mut self, mailbox: &CoreMailbox<T>) {
        match &mut self.0 {
            UdpBackend::Ring(ring) => ring.listen_to(mailbox.fd()),
            UdpBackend::Plain(plain) => plain.listen_to(mailbox.bell()),
        }
    }

    /// Sends that wait for the next turn or are in the kernel; sends of blocked sockets, which wait
    /// for room, do not count.
    pub fn in_flight(&self) -> usize {
        match &self.0 {
            UdpBackend::Ring(ring) => ring.in_flight(),
            UdpBackend::Plain(plain) => plain.in_flight(),
        }
    }

    /// Whether one more send finds a slot.
    pub fn has_room(&self) -> bool {
        self.in_flight() < SEND_SLOTS
    }

    /// Whether the socket's send buffer is full. The driver refuses sends on it meanwhile; other
    /// sockets work on.
    pub fn is_blocked(&self, socket: SocketId) -> bool {
        match &self.0 {
            UdpBackend::Ring(ring) => ring.is_blocked(socket),
            UdpBackend::Plain(plain) => plain.is_blocked(socket),
        }
    }

    /// Queues a datagram of copied bytes.
    pub fn send(
        &mut self,
        socket: SocketId,
        to: DatagramTarget,
        from: Option<DatagramSource>,
        bytes: &[u8],
        token: u64,
    ) -> Result<(), SendQueueFull> {
        match &mut self.0 {
            UdpBackend::Ring(ring) => ring.send(socket, to, from, bytes, token),
            UdpBackend::Plain(plain) => plain.send(socket, to, from, bytes, token),
        }
    }

    /// Queues a run of DATA blocks as one send; at most [`count_blocks_per_send`] of them.
    pub fn send_blocks(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        from: Option<DatagramSource>,
        blocks: &BlockBatch<'_>,
        token: u64,
    ) -> Result<(), SendQueueFull> {
        match &mut self.0 {
            UdpBackend::Ring(ring) => ring.send_blocks(socket, to, from, blocks, token),
            UdpBackend::Plain(plain) => plain.send_blocks(socket, to, from, blocks, token),
        }
    }

    /// Submits the queued sends, so that slots become free again. Passes on datagrams only if they
    /// complete at the same time.
    pub fn submit(&mut self, on: impl FnMut(UdpCompletion<'_>)) -> io::Result<()> {
        match &mut self.0 {
            UdpBackend::Ring(ring) => ring.run_turn(TurnWait::No, on),
            UdpBackend::Plain(plain) => {
                plain.submit(on);
                Ok(())
            }
        }
    }

    /// Submits the queued sends, waits by `wait`, and passes on all events.
    pub fn run_turn(
        &mut self,
        wait: TurnWait,
        on: impl FnMut(UdpCompletion<'_>),
    ) -> io::Result<()> {
        match &mut self.0 {
            UdpBackend::Ring(ring) => ring.run_turn(wait, on),
            UdpBackend::Plain(plain) => plain.run_turn(wait, on),
        }
    }
}
