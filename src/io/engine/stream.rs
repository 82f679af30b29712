//! The TCP driver of one core: accepts connections, receives bytes, and sends responses, file
//! bodies by sendfile; on a ring or on epoll.
//!
//! The driver tries every send at once, with plain system calls, and reports the result in the next
//! turn: a head and a small body usually fit into the socket, so the driver copies nothing and the
//! kernel keeps no pointer. The ring and epoll differ only in how they accept, receive, and notice
//! that a full socket has room again.
//!
//! If a client closes its connection while the driver sends a file, the kernel raises SIGPIPE. Rust
//! programs ignore that signal, and this driver relies on it.

// Casts give kernel constants, struct sizes and in-range offsets the widths of the ABI.
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

/// Connections that one driver can serve well: each may complete a receive and a wait for room in
/// one batch, and the completion queue has room for both. The driver does not enforce the limit;
/// its owner refuses or closes connections.
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
    /// A driver for the calling thread, which must be the one that runs its turns.
    pub fn new(datapath: Datapath) -> Result<Self, NoRing> {
        let kernel = datapath.driver(
            || ring::TcpRing::new().map(|ring| TcpBackend::Ring(Box::new(ring))),
            || match epoll::TcpEpoll::new() {
                Ok(epoll) => Ok(TcpBackend::Epoll(Box::new(epoll))),
                Err(error) => Err(NoRing::Epoll(error)),
            },
        )?;
        let short = if matches!(kernel, TcpBackend::Ring(_)) {
            ShortSend::IsFull
        } else {
            ShortSend::MustBeTried
        };
        Ok(Self { kernel, connections: ConnectionSlab::new(short), spare: SpareDescriptor::new() })
    }

    /// Accepts connections of this socket from the next turn on.
    pub fn listen(&mut self, socket: TcpListener) -> io::Result<()> {
        connections::prepare_listener(&socket)?;
        match &mut self.kernel {
            TcpBackend::Ring(ring) => ring.listen(socket),
            TcpBackend::Epoll(epoll) => epoll.listen(socket)?,
        }
        Ok(())
    }

    /// Closes the listening sockets: the kernel refuses new clients. Connections stay.
    pub fn stop_listening(&mut self) {
        match &mut self.kernel {
            TcpBackend::Ring(ring) => ring.stop_listening(),
            TcpBackend::Epoll(epoll) => epoll.stop_listening(),
        }
    }

    /// While no descriptor is free ([`TcpEvent::AcceptFailed`]): accepts up to this many clients of
    /// each listener with a spare descriptor, and closes them. `answer` gets the bytes that a
    /// client has sent so far, and returns the reply. Returns the number of clients.
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

    /// Makes this mailbox's bell wake the driver. The mailbox must live as long as the driver runs.
    pub fn listen_to<T>(&mut self, mailbox: &CoreMailbox<T>) -> io::Result<()> {
        match &mut self.kernel {
            TcpBackend::Ring(ring) => ring.listen_to(mailbox.fd()),
            TcpBackend::Epoll(epoll) => epoll.listen_to(mailbox.fd())?,
        }
        Ok(())
    }

    /// Sends the head, then the body. One send at a time: start the next one after a
    /// [`TcpEvent::Sent`] with nothing left. `more_to_come`: another send follows at once, so the
    /// kernel may hold a partial packet back for it (MSG_MORE). The next turns report the result. A
    /// closed connection sends nothing.
    pub fn send(&mut self, id: ConnectionId, head: &[u8], body: SendBody, more_to_come: bool) {
        self.connections.send(id, head, body, more_to_come);
    }

    /// Whether a send has started whose end the driver has not reported yet.
    pub fn is_sending(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| connection.is_sending)
    }

    /// Leaves the client's bytes in the kernel, which then slows the client down. The driver still
    /// reports bytes that this turn has received.
    pub fn pause_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_paused = true;
        if let TcpBackend::Ring(ring) = &mut self.kernel {
            ring.stop_receiving(id, connection);
        }
    }

    /// Receives from the client again.
    pub fn resume_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_paused = false;
        self.connections.want_input(id);
    }

    /// Sends FIN after the current send.
    pub fn shutdown_write(&mut self, id: ConnectionId) {
        self.connections.shutdown_write(id);
    }

    /// Closes a connection, in the next turns at the latest. The driver reports no further event of
    /// it. The kernel still sends the bytes that it has taken, unless it has unread bytes of the
    /// client: then it sends a reset.
    pub fn close(&mut self, id: ConnectionId) {
        let Some(closed) = self.connections.remove(id) else { return };
        if let TcpBackend::Ring(ring) = &mut self.kernel {
            ring.forget(id, &closed);
        }
    }

    /// Closes a connection as [`TcpDriver::close`] does, but makes the kernel discard unsent bytes
    /// and send a reset.
    pub fn reset(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            connection.discard_on_close();
        }
        self.close(id);
    }

    /// The local address to which the client connected: one system call.
    pub fn local(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.connections.get(id)?.local()
    }

    /// Bytes that the kernel has taken and the client has not acknowledged; FIN counts as one byte.
    /// None: the connection is broken, and no ACK will follow. One or two system calls.
    pub fn unacknowledged(&self, id: ConnectionId) -> Option<u64> {
        self.connections.get(id)?.unacknowledged()
    }

    /// Whether the kernel has unread bytes of the client: one system call.
    pub fn has_unread(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(connections::TcpConnection::has_unread)
    }

    /// Limits sending to this many bytes a second, by the pacing of TCP; None: no limit.
    pub fn pace(&self, id: ConnectionId, bytes_per_second: Option<NonZeroU64>) {
        if let Some(connection) = self.connections.get(id) {
            connection.pace(bytes_per_second);
        }
    }

    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How often the completion queue overflowed: this costs time, but loses no completion.
    pub fn overflows(&self) -> u64 {
        match &self.kernel {
            TcpBackend::Ring(ring) => ring.overflows(),
            TcpBackend::Epoll(_) => 0,
        }
    }

    /// Reports finished sends, continues sends that have room, waits by `wait` if there are none,
    /// and passes on all events. It does not poll: for [`TurnWait::Poll`] it only sleeps.
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
