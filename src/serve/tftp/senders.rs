//! Which socket an answer leaves by, and which source address it names.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::limits::SENDER_ADDRESSES_MAX;
use crate::engine::udp::{DatagramSource, SocketId, UdpDriver};
use crate::tftp::table::LocalAddress;

/// The sockets that answers leave by. Beside the transfer sockets there is one for each pair of a
/// TID and an IPv4 address of the server that clients ask. It only sends: its datagrams need no
/// control message, and the kernel chooses their IP identification more cheaply.
#[derive(Debug)]
pub(super) struct AnswerSockets {
    /// Driver socket of the first TID of each family: IPv4, IPv6.
    first_tid: (u16, u16),
    /// Number of IPv4 TIDs.
    tids: u16,
    /// Each address with its first socket in the driver; None: opening them failed.
    by_address: Vec<(Ipv4Addr, Option<u16>)>,
}

impl AnswerSockets {
    pub(super) fn new(first_tid: (u16, u16), tids: u16) -> Self {
        Self { first_tid, tids, by_address: Vec::new() }
    }

    /// The socket that answers this peer, and the source to name where the socket does not fix it.
    pub(super) fn choose(
        &mut self,
        driver: &mut UdpDriver,
        peer: SocketAddr,
        local: LocalAddress,
        tid: Option<u16>,
    ) -> (SocketId, Option<DatagramSource>) {
        if let (IpAddr::V4(address), Some(tid)) = (local.address, tid)
            && let Some(first) = self.find_first(driver, address)
        {
            return (SocketId(first + tid), None);
        }
        let source =
            DatagramSource { address: local.address, interface: choose_interface(&peer, local) };
        (self.tid_socket(peer, tid), Some(source))
    }

    /// Bytes in the send queues of the sockets of this address; None: it has no sockets, or the
    /// kernel does not say.
    pub(super) fn measure_backlog(&self, driver: &UdpDriver, address: Ipv4Addr) -> Option<u64> {
        let (_, first) = self.by_address.iter().find(|(known, _)| *known == address)?;
        let first = (*first)?;
        (first..first + self.tids).map(|socket| driver.read_send_queue(SocketId(socket))).sum()
    }

    /// The first socket of this address. The core opens the sockets when a client first asks the
    /// address.
    fn find_first(&mut self, driver: &mut UdpDriver, address: Ipv4Addr) -> Option<u16> {
        if let Some((_, first)) = self.by_address.iter().find(|(known, _)| *known == address) {
            return *first;
        }
        if self.by_address.len() >= SENDER_ADDRESSES_MAX {
            return None;
        }
        let first_tid = self.first_tid.0;
        let sockets: io::Result<Vec<OwnedFd>> = (0..self.tids)
            .map(|tid| driver.sender_beside(SocketId(first_tid + tid), address))
            .collect();
        let first = sockets.ok().map(|sockets| {
            let ids: Vec<SocketId> =
                sockets.into_iter().map(|fd| driver.add(fd, address.into(), false)).collect();
            // The core never removes a socket from this driver, so the ids are consecutive.
            ids.first().map_or(0, |first| first.0)
        });
        self.by_address.push((address, first));
        first
    }

    /// The driver's socket of a TID, in the peer's family. Without a TID the listening socket
    /// answers (T-47).
    fn tid_socket(&self, peer: SocketAddr, tid: Option<u16>) -> SocketId {
        match (tid, peer) {
            (Some(tid), SocketAddr::V4(_)) => SocketId(self.first_tid.0 + tid),
            (Some(tid), SocketAddr::V6(_)) => SocketId(self.first_tid.1 + tid),
            (None, _) => SocketId(0),
        }
    }
}

/// The interface to send by: that of the request for a link-local peer; 0, any other peer: the
/// kernel routes.
fn choose_interface(peer: &SocketAddr, local: LocalAddress) -> u32 {
    match peer {
        SocketAddr::V6(peer) if peer.ip().is_unicast_link_local() => local.interface,
        _ => 0,
    }
}
