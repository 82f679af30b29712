//! All TFTP transfers of a fleet on a few sockets: hundreds of machines with their own addresses
//! share one socket.
//!
//! The hub reads datagrams and sends answers in batches (`engine/mmsg`). It finds a transfer by its
//! socket and its local address; the pure [`FetchClient`] decides what to do with a datagram.
//! Machines that share one address of the host have a socket for each request.

mod sockets;
mod state;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, timeout_at};

use super::checker::ContentChecker;
use super::impair::ImpairedQueue;
use super::wire::WireSettings;
use crate::failure::BootFailure;
use crate::limits::{TFTP_BATCH, TFTP_DATAGRAM_BYTES_MAX};
use crate::measure::line::NobodyThere;
use crate::measure::progress::TftpRequest;
use ringboot_io::engine::mmsg::{DatagramInbox, DatagramOutbox};
use ringboot_io::engine::net::{self, SocketBinding};
use ringboot_io::engine::unreachable::{keep_unreachable, take_unreachable};
use ringboot_protocol::tftp::client::{ClientOutcome, FetchClient};
use ringboot_protocol::tftp::limits::MILLISECOND;
use ringboot_protocol::tftp::timers::TimerAlarm;
use ringboot_protocol::tftp::{NEVER, Tick};
use sockets::{HubSocket, HubSocketId};
use state::{HubClient, HubClientId, HubState, SocketUse};

/// How long machines busy with HTTP may let TFTP wait, nanoseconds.
const GLANCE_PAUSE: Tick = MILLISECOND;

/// The sockets, the transfers on them, and one timer for all.
#[derive(Debug)]
pub(crate) struct TransferHub {
    gro: bool,
    begun: Instant,
    state: RefCell<HubState>,
    inbox: RefCell<DatagramInbox>,
    /// When the timer will expire; None before the first transfer.
    rings: Cell<Option<Tick>>,
    /// Wakes the timer because this is too late.
    sooner: Notify,
    /// When the sockets were last read out of turn.
    glanced: Cell<Tick>,
}

/// A request to the hub for one file.
#[derive(Debug)]
pub(crate) struct HubTransfer {
    pub(crate) client: FetchClient,
    /// Requests after the first one, which use other ports: 1 with a size probe, else 0.
    pub(crate) probes: u8,
    /// The machine's source address; unspecified if it has none of its own.
    pub(crate) address: Ipv4Addr,
    /// The most that the server may send before it waits for an answer, in bytes of the kernel's
    /// memory.
    pub(crate) burst: usize,
    /// The silence that ends the transfer, whatever the client decides.
    pub(crate) silence: Duration,
    pub(crate) checker: ContentChecker,
    /// Counts the request while it lasts.
    pub(crate) request: TftpRequest,
}

/// The result of a transfer.
#[derive(Debug)]
pub(crate) struct FinishedTransfer {
    pub(crate) client: FetchClient,
    pub(crate) checker: ContentChecker,
    pub(crate) outcome: Result<ClientOutcome, BootFailure>,
    /// The network has reported that no server listens.
    pub(crate) nobody: Option<NobodyThere>,
}

impl TransferHub {
    pub(crate) fn new(server: SocketAddr, wire: &WireSettings, seed: u64) -> Self {
        let trouble =
            (!wire.impairment.is_none()).then(|| ImpairedQueue::new(wire.impairment, seed));
        Self {
            gro: wire.gro,
            begun: Instant::now(),
            state: RefCell::new(HubState::new(server, trouble)),
            inbox: RefCell::new(DatagramInbox::new(TFTP_BATCH, TFTP_DATAGRAM_BYTES_MAX)),
            rings: Cell::new(None),
            sooner: Notify::new(),
            glanced: Cell::new(0),
        }
    }

    /// Runs a client to its end. If the future is dropped, the hub forgets the transfer, and the
    /// server receives nothing more of it.
    pub(crate) async fn play_transfer(
        self: &Rc<Self>,
        transfer: HubTransfer,
    ) -> Result<FinishedTransfer, BootFailure> {
        if self.rings.get().is_none() {
            self.rings.set(Some(NEVER));
            spawn_local(Rc::clone(self).keep_time());
        }
        let mut stay = TransferGuard { hub: self, id: None, seats: Vec::new() };
        for _ in 0..=transfer.probes {
            stay.seats.push(self.assign_seat(transfer.address, transfer.burst)?);
        }
        let (sender, done) = oneshot::channel();
        let now = self.now();
        let guest = HubClient {
            client: transfer.client,
            checker: transfer.checker,
            request: transfer.request,
            seats: stay.seats.iter().map(|seat| seat.socket).collect(),
            address: transfer.address,
            silence: Tick::try_from(transfer.silence.as_nanos()).unwrap_or(NEVER),
            silent_since: now,
            alarm: TimerAlarm::default(),
            outcome: None,
            nobody: None,
            done: Some(sender),
        };
        let id = self.state.borrow_mut().add_client(guest, &stay.seats);
        stay.id = Some(id);
        self.change_state(|state| state.settle_client(id, now));
        // The sender ends with the guest, and the guest with `stay`.
        let _ = done.await;
        stay.remove_client().ok_or_else(|| io::Error::other("a transfer without an end").into())
    }

    /// A seat for one request: at a shared socket, of the generation after the one that this
    /// address used last; or at its own socket if machines share the address.
    fn assign_seat(self: &Rc<Self>, address: Ipv4Addr, burst: usize) -> io::Result<SocketUse> {
        let turn = if address.is_unspecified() {
            None
        } else {
            self.state.borrow_mut().choose_generation(address)
        };

        // A request needs a port that is new for its address, else a server takes it for a
        // repetition of the previous request. Without a free generation only a socket of its own
        // has one.
        let Some(generation) = turn else {
            let (socket, fd) = self.open(address, true)?;
            let reader = Some(spawn_local(Rc::clone(self).read(socket, fd)));
            return Ok(SocketUse { socket, address: Ipv4Addr::UNSPECIFIED, burst, reader });
        };

        // A socket carries no more transfers than its receive buffer can hold windows: the kernel
        // would drop blocks, and the report would blame the server.
        let roomy = self.state.borrow().find_roomy_socket(generation, burst);
        let socket = match roomy {
            Some(socket) => socket,
            None => {
                let (socket, fd) = self.open(Ipv4Addr::UNSPECIFIED, false)?;
                self.state.borrow_mut().generations[generation].push(socket);
                spawn_local(Rc::clone(self).read(socket, fd));
                socket
            }
        };
        self.state.borrow_mut().sockets.add_load(socket, burst);
        Ok(SocketUse { socket, address, burst, reader: None })
    }

    fn open(&self, address: Ipv4Addr, single: bool) -> io::Result<(HubSocketId, Rc<UdpSocket>)> {
        let address = if self.state.borrow().sockets.server.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            address.into()
        };
        let fd = net::open_udp_socket(&SocketBinding {
            address: SocketAddr::new(address, 0),
            interface: None,
            shared: false,
        })?;
        // Requests and ACKs fit every path; without this, choosing fragment identifiers came first
        // in a profile (__ip_select_ident).
        net::forbid_fragments(&fd)?;
        keep_unreachable(&fd)?;
        if self.gro {
            net::join_datagrams(&fd)?;
        }
        let fd = std::net::UdpSocket::from(fd);
        fd.set_nonblocking(true)?;
        // Half of it stays free, because the memory of a datagram is known only approximately.
        let room = SockRef::from(&fd).recv_buffer_size()? / 2;
        let fd = Rc::new(UdpSocket::from_std(fd)?);
        let socket = HubSocket {
            fd: Rc::clone(&fd),
            outbox: DatagramOutbox::default(),
            single,
            room,
            load: 0,
        };
        Ok((self.state.borrow_mut().sockets.add(socket), fd))
    }

    /// Reads the datagrams of one socket; never ends.
    async fn read(self: Rc<Self>, socket: HubSocketId, fd: Rc<UdpSocket>) {
        loop {
            let Ok(ready) = fd.ready(Interest::READABLE | Interest::ERROR).await else { return };
            if ready.is_error() {
                self.read_network_errors(socket, &fd);
            }
            let mut datagrams = 0;
            // An error of one receive is the network's message (ICMP) about a sent datagram; the
            // timers decide what it means.
            let _ = fd.try_io(Interest::READABLE, || {
                let mut inbox = self.inbox.borrow_mut();
                datagrams = inbox.receive(&fd)?;
                // Fewer than the batch can hold: the socket is empty and will signal the next
                // datagram.
                if datagrams < inbox.capacity() {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            if datagrams > 0 {
                let inbox = self.inbox.borrow();
                self.change_state(|state| state.deliver_batch(socket, &inbox, self.now()));
            }
            yield_now().await;
        }
    }

    /// Reads the network's messages about requests to ports without a server.
    fn read_network_errors(&self, socket: HubSocketId, fd: &UdpSocket) {
        let _ = fd.try_io(Interest::ERROR, || {
            let mut state = self.state.borrow_mut();
            take_unreachable(fd, |word| state.note_nobody(socket, word));
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
    }

    /// Called by work that keeps this thread busy: reads the shared sockets if the last read was a
    /// while ago. Blocks that wait here would look like a slow server.
    pub(crate) fn read_shared_if_due(self: &Rc<Self>) {
        let now = self.now();
        if self.rings.get().is_some() && now.saturating_sub(self.glanced.get()) >= GLANCE_PAUSE {
            self.glanced.set(now);
            self.read_shared();
        }
    }

    fn read_shared(self: &Rc<Self>) {
        let shared = self.state.borrow().sockets.list_used();
        for (id, fd) in shared {
            // Empty, or an error of the network, which the reader of the socket gets, too.
            while let Ok(datagrams) = { self.inbox.borrow_mut().receive(&fd) } {
                let inbox = self.inbox.borrow();
                self.change_state(|state| state.deliver_batch(id, &inbox, self.now()));
                if datagrams < inbox.capacity() {
                    break;
                }
            }
        }
    }

    /// Wakes clients whose timers have expired; never ends.
    async fn keep_time(self: Rc<Self>) {
        loop {
            let next = self.state.borrow().next_deadline();
            self.rings.set(Some(next));
            // Far beyond any run, and still a moment that a clock can hold.
            let moment = self.begun + Duration::from_nanos(next.min(NEVER / 4));
            let _ = timeout_at(moment, self.sooner.notified()).await;
            // Datagrams that have arrived already are not late.
            self.read_shared();
            self.change_state(|state| state.pass_time(self.now()));
        }
    }

    /// Changes the state, sends the resulting datagrams, and sets the timer.
    fn change_state(self: &Rc<Self>, change: impl FnOnce(&mut HubState)) {
        let mut state = self.state.borrow_mut();
        change(&mut state);
        if state.trouble.is_some() {
            state.deliver_delayed(self.now());
        }
        if let Some(full) = state.sockets.flush() {
            spawn_local(Rc::clone(self).flush_later(full));
        }
        if self.rings.get().is_some_and(|rings| state.next_deadline() < rings) {
            self.sooner.notify_one();
        }
    }

    /// Goes on sending when a socket has room again.
    async fn flush_later(self: Rc<Self>, full: Rc<UdpSocket>) {
        if full.writable().await.is_ok() {
            self.change_state(|_| {});
        }
    }

    fn now(&self) -> Tick {
        Tick::try_from(self.begun.elapsed().as_nanos()).unwrap_or(NEVER)
    }
}

/// A transfer's stay at the hub; dropping it frees everything that the transfer took.
struct TransferGuard<'a> {
    hub: &'a TransferHub,
    /// None until the guest has all that it needs.
    id: Option<HubClientId>,
    seats: Vec<SocketUse>,
}

impl TransferGuard<'_> {
    fn remove_client(&self) -> Option<FinishedTransfer> {
        let HubClient { client, checker, outcome, nobody, .. } =
            self.hub.state.borrow_mut().remove_client(self.id?)?;
        Some(FinishedTransfer { client, checker, outcome: outcome?, nobody })
    }
}

impl Drop for TransferGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.hub.state.borrow_mut();
        self.id.and_then(|id| state.remove_client(id));
        for seat in &self.seats {
            state.seats.remove(&(seat.socket, seat.address));
            state.sockets.remove_load(seat.socket, seat.burst);
            if let Some(reader) = &seat.reader {
                reader.abort();
                state.sockets.open.remove(&seat.socket);
            }
        }
    }
}
