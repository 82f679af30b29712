//! The sockets of a hub: how much the server may send to each at once, and the datagrams that wait
//! to leave.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::io::Interest;
use tokio::net::UdpSocket;

use ringboot_io::engine::mmsg::DatagramOutbox;

/// The name of a socket for the life of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct HubSocketId(u32);

/// A socket that machines share, or of a single machine.
#[derive(Debug)]
pub(super) struct HubSocket {
    pub(super) fd: Rc<UdpSocket>,
    pub(super) outbox: DatagramOutbox,
    /// It belongs to one machine only, which gets every datagram of the socket.
    pub(super) single: bool,
    /// What may be on its way to it at once, and the most, in bytes of the kernel's memory: the
    /// kernel drops datagrams that find no room.
    pub(super) room: usize,
    pub(super) load: usize,
}

/// All sockets, and their server.
#[derive(Debug)]
pub(super) struct HubSockets {
    pub(super) server: SocketAddr,
    pub(super) open: HashMap<HubSocketId, HubSocket>,
    /// The number of sockets made so far.
    pub(super) opened: u32,
    /// Sockets with queued datagrams.
    pub(super) to_flush: Vec<HubSocketId>,
}

impl HubSockets {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, open: HashMap::new(), opened: 0, to_flush: Vec::new() }
    }

    pub(super) fn add(&mut self, socket: HubSocket) -> HubSocketId {
        self.opened += 1;
        let id = HubSocketId(self.opened);
        self.open.insert(id, socket);
        id
    }

    /// Shared sockets with transfers.
    pub(super) fn list_used(&self) -> Vec<(HubSocketId, Rc<UdpSocket>)> {
        let busy = self.open.iter().filter(|(_, socket)| !socket.single && socket.load > 0);
        busy.map(|(id, socket)| (*id, Rc::clone(&socket.fd))).collect()
    }

    pub(super) fn add_load(&mut self, socket: HubSocketId, burst: usize) {
        if let Some(socket) = self.open.get_mut(&socket) {
            socket.load += burst;
        }
    }

    pub(super) fn remove_load(&mut self, socket: HubSocketId, burst: usize) {
        if let Some(socket) = self.open.get_mut(&socket) {
            socket.load = socket.load.saturating_sub(burst);
        }
    }

    /// Queues a datagram to this port of the server.
    pub(super) fn queue_datagram(
        &mut self,
        socket: HubSocketId,
        local: Ipv4Addr,
        to: u16,
        octets: &[u8],
    ) {
        let Some(HubSocket { outbox, single, .. }) = self.open.get_mut(&socket) else { return };
        if outbox.is_empty() {
            self.to_flush.push(socket);
        }
        let from = (!*single).then_some(IpAddr::V4(local));
        let to = SocketAddr::new(self.server.ip(), to);
        outbox.push(to, from, None, |bytes| bytes.extend_from_slice(octets));
    }

    /// Sends the queued datagrams. Returns a socket that has no room for all of them; its rest
    /// stays queued.
    pub(super) fn flush(&mut self) -> Option<Rc<UdpSocket>> {
        let Self { open, to_flush, .. } = self;
        let mut full = None;
        to_flush.retain(|id| {
            let Some(HubSocket { fd, outbox, .. }) = open.get_mut(id) else { return false };
            let sent = fd.try_io(Interest::WRITABLE, || outbox.flush(&**fd));
            if sent.is_err() {
                full = Some(Rc::clone(fd));
            }
            sent.is_err()
        });
        full
    }
}
