//! What the null servers of UDP share: a socket, and a loop that hands each datagram to a function.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;

use ringboot::engine::mmsg::{ArrivedDatagram, DatagramInbox, DatagramOutbox};
use ringboot::engine::net::{self, SocketBinding};
use rustix::event::{PollFd, PollFlags, poll};

/// What a server does while no datagram is waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdleManner {
    /// It looks again at once, which is fastest and takes a whole core.
    Spin,
    /// It sleeps until the next one.
    Sleep,
}

/// Most datagrams of one receive.
const BATCH: usize = 64;
/// The longest request of a client, bytes.
const REQUEST_BYTES_MAX: usize = 1500;

pub(crate) fn open_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    net::open_udp_socket(&SocketBinding { address, interface: None, shared: false })
}

/// Hands every datagram to `answer`, and sends what that queues. Ends only with an error.
pub(crate) fn serve_datagrams(
    socket: &OwnedFd,
    idle: IdleManner,
    mut answer: impl FnMut(&ArrivedDatagram<'_>, &mut DatagramOutbox),
) -> io::Result<()> {
    let mut inbox = DatagramInbox::new(BATCH, REQUEST_BYTES_MAX);
    let mut outbox = DatagramOutbox::default();
    loop {
        if inbox.receive(socket).is_ok() {
            inbox.arrivals().for_each(|arrival| answer(&arrival, &mut outbox));
            // The socket blocks: it waits for room.
            let _ = outbox.flush(socket);
        } else if idle == IdleManner::Spin {
            thread::yield_now();
        } else {
            poll(&mut [PollFd::new(socket, PollFlags::IN)], None)?;
        }
    }
}
