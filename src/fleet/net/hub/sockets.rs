//! The sockets of a hub: what each may be sent to at once, and what waits to leave by it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::io::Interest;
use tokio::net::UdpSocket;

use ringboot_io::engine::mmsg::Outbox;

/// Names a socket for as long as the hub lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SocketId(u32);

/// A socket that machines share, or that one has alone.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: Rc<UdpSocket>,
    pub(super) outbox: Outbox,
    /// It has one machine only: whatever comes to it is that machine's.
    pub(super) single: bool,
    /// What may be on its way to it at once, and what is at most: the kernel drops what finds no
    /// room. Octets of its memory.
    pub(super) room: usize,
    pub(super) load: usize,
}

/// All of them, and the server that they lead to.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) server: SocketAddr,
    pub(super) open: HashMap<SocketId, Socket>,
    /// How many there have ever been.
    pub(super) opened: u32,
    /// Those with something in their outbox.
    pub(super) to_flush: Vec<SocketId>,
}

impl Sockets {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, open: HashMap::new(), opened: 0, to_flush: Vec::new() }
    }

    pub(super) fn add(&mut self, socket: Socket) -> SocketId {
        self.opened += 1;
        let id = SocketId(self.opened);
        self.open.insert(id, socket);
        id
    }

    /// Those that are shared and have transfers.
    pub(super) fn in_use(&self) -> Vec<(SocketId, Rc<UdpSocket>)> {
        let busy = self.open.iter().filter(|(_, socket)| !socket.single && socket.load > 0);
        busy.map(|(id, socket)| (*id, Rc::clone(&socket.fd))).collect()
    }

    pub(super) fn load(&mut self, socket: SocketId, burst: usize) {
        if let Some(socket) = self.open.get_mut(&socket) {
            socket.load += burst;
        }
    }

    pub(super) fn unload(&mut self, socket: SocketId, burst: usize) {
        if let Some(socket) = self.open.get_mut(&socket) {
            socket.load = socket.load.saturating_sub(burst);
        }
    }

    /// Queues a datagram to this port of the server.
    pub(super) fn post(&mut self, socket: SocketId, local: Ipv4Addr, to: u16, octets: &[u8]) {
        let Some(Socket { outbox, single, .. }) = self.open.get_mut(&socket) else { return };
        if outbox.is_empty() {
            self.to_flush.push(socket);
        }
        let from = (!*single).then_some(IpAddr::V4(local));
        let to = SocketAddr::new(self.server.ip(), to);
        outbox.push(to, from, None, |bytes| bytes.extend_from_slice(octets));
    }

    /// Sends what is queued. A socket that has no room for all of it is given back, and its rest
    /// stays queued.
    pub(super) fn flush(&mut self) -> Option<Rc<UdpSocket>> {
        let Self { open, to_flush, .. } = self;
        let mut full = None;
        to_flush.retain(|id| {
            let Some(Socket { fd, outbox, .. }) = open.get_mut(id) else { return false };
            let sent = fd.try_io(Interest::WRITABLE, || outbox.flush(&**fd));
            if sent.is_err() {
                full = Some(Rc::clone(fd));
            }
            sent.is_err()
        });
        full
    }
}
