//! The TCP driver of one core: connections come, bytes come, answers go, file bodies by sendfile;
//! on a ring or on epoll.
//!
//! The driver tries every send at once, with plain system calls, and reports in the next turn what
//! became of it: a head and a small body usually fit into the socket, and then nothing was copied
//! and nothing is lent to the kernel. The ring and epoll differ only in how they accept, receive,
//! and learn that a full socket has room again.
//!
//! A socket that is closed by its client while a file is sent raises SIGPIPE, which Rust programs
//! ignore; it must stay so.

// Kernel constants, struct sizes and in-range offsets go into the widths that the ABI wants.
#![allow(clippy::cast_possible_truncation)]

mod connections;
mod epoll;
mod event;
mod outgoing;
mod ring;
mod spare;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU64;

pub use self::event::{ConnectionId, SendBody, TcpEvent, TcpSendError};
pub use super::wait::TurnWait;

use self::connections::ConnectionSlab;
use self::outgoing::ShortSend;
use self::spare::SpareDescriptor;
use super::datapath::Datapath;
use super::mailbox::CoreMailbox;
use super::ring::NoRing;

/// Connections that one driver can carry well: each may complete a receive and a wait for room in
/// one batch, and the completion queue has room for both. The driver does not enforce it: its owner
/// refuses or closes.
pub const CONNECTIONS_PER_DRIVER_MAX: usize = 30_000;

/// One core's listeners and connections.
#[derive(Debug)]
pub struct TcpDriver {
    kernel: TcpBackend,
    connections: ConnectionSlab,
    spare: SpareDescriptor,
}

#[derive(Debug)]
enum TcpBackend {
    Ring(Box<ring::TcpRing>),
    Epoll(Box<epoll::TcpEpoll>),
}

impl TcpDriver {
    /// A driver for the calling thread, which must be the one that turns it.
    pub fn new(datapath: Datapath) -> Result<Self, NoRing> {
        let ring = || Ok(TcpBackend::Ring(Box::new(ring::TcpRing::new()?)));
        let epoll = || {
            epoll::TcpEpoll::new()
                .map(|epoll| TcpBackend::Epoll(Box::new(epoll)))
                .map_err(NoRing::Epoll)
        };
        let kernel = datapath.driver(ring, epoll)?;
        let short = if matches!(kernel, TcpBackend::Ring(_)) {
            ShortSend::IsFull
        } else {
            ShortSend::MustBeTried
        };
        Ok(Self { kernel, connections: ConnectionSlab::new(short), spare: SpareDescriptor::new() })
    }

    /// Accepts what comes to this socket, beginning with the next turn.
    pub fn listen(&mut self, socket: TcpListener) -> io::Result<()> {
        connections::prepare_listener(&socket)?;
        match &mut self.kernel {
            TcpBackend::Ring(ring) => ring.listen(socket),
            TcpBackend::Epoll(epoll) => epoll.listen(socket)?,
        }
        Ok(())
    }

    /// Closes the listening sockets: who comes now is refused. Connections stay.
    pub fn stop_listening(&mut self) {
        match &mut self.kernel {
            TcpBackend::Ring(ring) => ring.stop_listening(),
            TcpBackend::Epoll(epoll) => epoll.stop_listening(),
        }
    }

    /// Where no descriptor is free ([`TcpEvent::AcceptFailed`]): accepts up to so many clients of
    /// each listener with one that is kept back, and closes them. `answer` sees what one has asked
    /// so far and says what it is told. Says how many there were.
    pub fn turn_away(
        &mut self,
        most: usize,
        mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> usize {
        let spare = &mut self.spare;
        let mut turn_away = |listener: &TcpListener| spare.turn_away(listener, most, &mut answer);
        match &self.kernel {
            TcpBackend::Ring(ring) => ring.sockets().map(&mut turn_away).sum(),
            TcpBackend::Epoll(epoll) => epoll.sockets().map(&mut turn_away).sum(),
        }
    }

    /// Wakes up when this mailbox's bell rings. The mailbox must live as long as the driver turns.
    pub fn listen_to<T>(&mut self, mailbox: &CoreMailbox<T>) -> io::Result<()> {
        match &mut self.kernel {
            TcpBackend::Ring(ring) => ring.listen_to(mailbox.fd()),
            TcpBackend::Epoll(epoll) => epoll.listen_to(mailbox.fd())?,
        }
        Ok(())
    }

    /// Sends the head, then the body. One send at a time: the next one after a [`TcpEvent::Sent`]
    /// with nothing left. `more_to_come`: another send follows at once, so the kernel may keep a
    /// part of a packet back for it (MSG_MORE). What became of it is told from the next turn on. A
    /// connection that is closed sends nothing.
    pub fn send(&mut self, id: ConnectionId, head: &[u8], body: SendBody, more_to_come: bool) {
        self.connections.send(id, head, body, more_to_come);
    }

    /// Whether a send has been given of which the last word is not told yet.
    pub fn is_sending(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.is_sending)
    }

    /// Leaves the client's bytes in the kernel, which then slows the client. What this turn had
    /// received before has been told.
    pub fn pause_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_paused = true;
        if let TcpBackend::Ring(ring) = &mut self.kernel {
            ring.stop_receiving(id, connection);
        }
    }

    /// Ends a pause.
    pub fn resume_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_paused = false;
        self.connections.want_input(id);
    }

    /// Tells the client that nothing follows (FIN), after what is being sent.
    pub fn shutdown_write(&mut self, id: ConnectionId) {
        self.connections.shutdown_write(id);
    }

    /// Ends a connection, with the next turns at the latest. No event of it comes any more. What
    /// the kernel has taken is still sent, unless the client's bytes have not been read to their
    /// end: then it sees a reset.
    pub fn close(&mut self, id: ConnectionId) {
        let Some(closed) = self.connections.remove(id) else { return };
        if let TcpBackend::Ring(ring) = &mut self.kernel {
            ring.forget(id, &closed);
        }
    }

    /// Ends a connection as [`TcpDriver::close`] does, and has the kernel forget what the client
    /// has not taken: it sees a reset.
    pub fn reset(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            connection.discard_on_close();
        }
        self.close(id);
    }

    /// The address of ours that the client asked: one system call.
    pub fn local(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.connections.get(id)?.local()
    }

    /// Bytes that the kernel has taken and the client has not acknowledged, the end of the
    /// connection counted as one; None: the connection is broken, and nobody will acknowledge them.
    /// One or two system calls.
    pub fn unacknowledged(&self, id: ConnectionId) -> Option<u64> {
        self.connections.get(id)?.unacknowledged()
    }

    /// Whether bytes of the client lie in the kernel that nobody has read: one system call.
    pub fn has_unread(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(connections::TcpConnection::has_unread)
    }

    /// Sends no faster than so many bytes a second (TCP keeps the pace by itself); None = as fast
    /// as it goes.
    pub fn pace(&self, id: ConnectionId, bytes_per_second: Option<NonZeroU64>) {
        if let Some(connection) = self.connections.get(id) {
            connection.pace(bytes_per_second);
        }
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Times that more had completed than the completion queue holds: it cost time, but lost
    /// nothing.
    pub fn overflows(&self) -> u64 {
        match &self.kernel {
            TcpBackend::Ring(ring) => ring.overflows(),
            TcpBackend::Epoll(_) => 0,
        }
    }

    /// Reports what sends have done, goes on with those that have room, waits as told when there is
    /// nothing of that, and hands over everything that has come. It does not poll: of
    /// [`TurnWait::Poll`] it takes the sleep.
    pub fn run_turn(&mut self, wait: TurnWait, mut on: impl FnMut(TcpEvent<'_>)) -> io::Result<()> {
        if let TcpBackend::Ring(ring) = &mut self.kernel {
            ring.arm(&mut self.connections);
        }
        let told = self.connections.report(&mut on);
        let wait = if told { TurnWait::No } else { wait };
        match &mut self.kernel {
            TcpBackend::Ring(ring) => ring.run_turn(&mut self.connections, wait, &mut on)?,
            TcpBackend::Epoll(epoll) => epoll.run_turn(&mut self.connections, wait, &mut on)?,
        }
        self.connections.go_on(&mut on);
        Ok(())
    }
}
