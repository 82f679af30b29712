//! One simulated relay agent: a UDP socket that a rack of machines shares.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::dhcp::{self, Answer, Through};
use crate::limits::{DHCP_BATCH, DHCP_OCTETS_MAX};
use crate::measure::line::Nobody;
use ringboot_io::engine::mmsg::{Inbox, Outbox};
use ringboot_io::engine::net::{self, Binding};
use ringboot_io::engine::unreachable::{keep_unreachable, take_unreachable};

/// Where relay agents listen, unless they say otherwise (RFC 2131 section 4.1).
const DHCP_SERVER_PORT: u16 = 67;

/// The agent's socket and what waits to leave by it.
#[derive(Debug)]
pub(crate) struct Relay {
    socket: UdpSocket,
    server: SocketAddrV4,
    address: Ipv4Addr,
    own_port: bool,
    inbox: Room,
    outbox: RefCell<Outbox>,
    /// There is something in the outbox.
    queued: Notify,
}

/// Where answers are read into, whichever agent they come to.
pub(crate) type Room = Rc<RefCell<Inbox>>;

pub(crate) fn room() -> Room {
    Rc::new(RefCell::new(Inbox::new(DHCP_BATCH, DHCP_OCTETS_MAX)))
}

impl Relay {
    /// A port other than 67 means that answers are asked for there (RFC 8357); 0 is any.
    pub(crate) fn open(at: SocketAddrV4, server: SocketAddrV4, inbox: Room) -> io::Result<Self> {
        let binding = Binding { address: SocketAddr::V4(at), interface: None, shared: false };
        let socket = std::net::UdpSocket::from(net::udp(&binding)?);
        keep_unreachable(&socket)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket)?,
            server,
            address: *at.ip(),
            own_port: at.port() != DHCP_SERVER_PORT,
            inbox,
            outbox: RefCell::default(),
            queued: Notify::new(),
        })
    }

    /// How the agent marks what it passes on from this switch port.
    pub(crate) fn through(&self, circuit: u32) -> Through {
        Through { relay: self.address, circuit, own_port: self.own_port }
    }

    /// Leaves with the next batch.
    pub(crate) fn send(&self, message: &[u8]) {
        let mut outbox = self.outbox.borrow_mut();
        outbox.push(SocketAddr::V4(self.server), None, None, |bytes| {
            bytes.extend_from_slice(message)
        });
        self.queued.notify_one();
    }

    /// Sends what was queued; never ends.
    pub(super) async fn send_on(&self) {
        loop {
            self.queued.notified().await;
            self.flush().await;
        }
    }

    pub(super) async fn flush(&self) {
        while self.outbox.borrow_mut().flush(&self.socket).is_err() {
            // No room in the socket. What the network has refused is lost and gone.
            let _ = self.socket.writable().await;
            let _ = self
                .socket
                .try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }

    /// Reads answers, and the network's word that nobody is there to give any; never ends.
    pub(crate) async fn listen(&self, deliver: impl Fn(Answer), hear: impl Fn(Nobody)) {
        loop {
            let Ok(ready) = self.socket.ready(Interest::READABLE | Interest::ERROR).await else {
                return;
            };
            if ready.is_error() {
                let _ = self.socket.try_io(Interest::ERROR, || {
                    take_unreachable(&self.socket, |word| {
                        hear(Nobody { at: self.server.into(), why: word.why })
                    });
                    Err::<(), _>(io::ErrorKind::WouldBlock.into())
                });
            }
            let mut answers = Vec::new();
            // Such a word also ends a receive with an error: the machines repeat.
            let _ = self.socket.try_io(Interest::READABLE, || {
                let mut inbox = self.inbox.borrow_mut();
                let datagrams = inbox.receive(&self.socket)?;
                answers.extend(inbox.arrivals().filter_map(|arrival| dhcp::decode(arrival.bytes)));
                // Fewer than there was room for: the socket is empty, and will say so when it is
                // not.
                if datagrams < inbox.capacity() {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            answers.into_iter().for_each(&deliver);
            yield_now().await;
        }
    }
}
