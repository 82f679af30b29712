//! One simulated relay agent: a UDP socket that a rack of machines shares.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::dhcp::{self, DhcpAnswer, RelayHop};
use crate::limits::{DHCP_BATCH, DHCP_BYTES_MAX};
use crate::measure::line::NobodyThere;
use ringboot_io::engine::mmsg::{DatagramInbox, DatagramOutbox};
use ringboot_io::engine::net::{self, SocketBinding};
use ringboot_io::engine::unreachable::{keep_unreachable, take_unreachable};

/// The port of relay agents by default (RFC 2131 section 4.1).
const DHCP_SERVER_PORT: u16 = 67;

/// The agent's socket and its queue.
#[derive(Debug)]
pub(crate) struct RelayAgent {
    socket: UdpSocket,
    server: SocketAddrV4,
    address: Ipv4Addr,
    own_port: bool,
    inbox: SharedInbox,
    outbox: RefCell<DatagramOutbox>,
    /// The queue is not empty.
    queued: Notify,
}

/// The buffers for answers, shared by all agents.
pub(crate) type SharedInbox = Rc<RefCell<DatagramInbox>>;

pub(crate) fn make_shared_inbox() -> SharedInbox {
    Rc::new(RefCell::new(DatagramInbox::new(DHCP_BATCH, DHCP_BYTES_MAX)))
}

impl RelayAgent {
    /// A port other than 67 means that answers are requested there (RFC 8357); 0 is any.
    pub(crate) fn open(
        at: SocketAddrV4,
        server: SocketAddrV4,
        inbox: SharedInbox,
    ) -> io::Result<Self> {
        let binding = SocketBinding { address: SocketAddr::V4(at), interface: None, shared: false };
        let socket = std::net::UdpSocket::from(net::open_udp_socket(&binding)?);
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

    /// How the agent marks messages of this switch port.
    pub(crate) fn make_hop(&self, circuit: u32) -> RelayHop {
        RelayHop { relay: self.address, circuit, own_port: self.own_port }
    }

    /// Queues a message for the next batch.
    pub(crate) fn send(&self, message: &[u8]) {
        let mut outbox = self.outbox.borrow_mut();
        outbox.push(SocketAddr::V4(self.server), None, None, |bytes| {
            bytes.extend_from_slice(message)
        });
        self.queued.notify_one();
    }

    /// Sends queued messages; never ends.
    pub(super) async fn send_on(&self) {
        loop {
            self.queued.notified().await;
            self.flush().await;
        }
    }

    pub(super) async fn flush(&self) {
        while self.outbox.borrow_mut().flush(&self.socket).is_err() {
            // The socket is full. A message that the network refuses is lost.
            let _ = self.socket.writable().await;
            let _ = self
                .socket
                .try_io(Interest::WRITABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }

    /// Reads answers, and the network's messages that no server listens; never ends.
    pub(crate) async fn receive_answers(
        &self,
        deliver: impl Fn(DhcpAnswer),
        hear: impl Fn(NobodyThere),
    ) {
        loop {
            let Ok(ready) = self.socket.ready(Interest::READABLE | Interest::ERROR).await else {
                return;
            };
            if ready.is_error() {
                let _ = self.socket.try_io(Interest::ERROR, || {
                    take_unreachable(&self.socket, |word| {
                        hear(NobodyThere { at: self.server.into(), why: word.why })
                    });
                    Err::<(), _>(io::ErrorKind::WouldBlock.into())
                });
            }
            let mut answers = Vec::new();
            // Such a message also ends a receive with an error: the machines repeat their messages.
            let _ = self.socket.try_io(Interest::READABLE, || {
                let mut inbox = self.inbox.borrow_mut();
                let datagrams = inbox.receive(&self.socket)?;
                answers.extend(
                    inbox.arrivals().filter_map(|arrival| dhcp::decode_dhcp_answer(arrival.bytes)),
                );
                // Fewer than the batch can hold: the socket is empty and will signal the next
                // datagram.
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
