//! All TFTP transfers of a fleet on a few sockets: machines with addresses of their own share them, hundreds to one.
//!
//! Datagrams are read and answers sent in batches (`engine/mmsg`). A transfer is known by its socket and its local address; what it
//! does with a datagram, the pure [`Client`] says. Machines that share one address of the host have a socket for each request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::{Instant, timeout_at};

use super::checker::Checker;
use super::impair::Impaired;
use super::wire::Wire;
use crate::engine::mmsg::{Inbox, Outbox};
use crate::engine::net::{self, Binding};
use crate::engine::unreachable::{Unreachable, keep_unreachable, take_unreachable};
use crate::fleet::failure::Failure;
use crate::fleet::limits::{TFTP_BATCH, TFTP_DATAGRAM_OCTETS_MAX, TFTP_GENERATIONS};
use crate::fleet::measure::line::Nobody;
use crate::fleet::measure::progress::TftpRequest;
use crate::tftp::client::{Client, Outcome};
use crate::tftp::limits::MILLISECOND;
use crate::tftp::timers::{Alarm, Timers};
use crate::tftp::{NEVER, Tick};

/// How long machines busy with HTTP may let TFTP wait, nanoseconds.
const GLANCE_PAUSE: Tick = MILLISECOND;

/// A sample is enough: the server is told, so that it does not repeat blocks that nobody wants.
const ENOUGH: &[u8] = b"\0\x05\0\0User aborted the transfer\0";

/// The sockets, the transfers on them, and one clock for all.
#[derive(Debug)]
pub(in crate::fleet) struct Hub {
    gro: bool,
    begun: Instant,
    state: RefCell<State>,
    inbox: RefCell<Inbox>,
    /// When the clock will ring; None before the first transfer.
    rings: Cell<Option<Tick>>,
    /// Tells the clock that this is too late.
    sooner: Notify,
    /// When somebody last looked at the sockets out of turn.
    glanced: Cell<Tick>,
}

/// One fetch, as the hub is asked for it.
#[derive(Debug)]
pub(in crate::fleet) struct Transfer {
    pub(in crate::fleet) client: Client,
    /// Requests after the first that come from ports of their own: 1 with a size probe, else 0.
    pub(in crate::fleet) probes: u8,
    /// Where the machine speaks from; unspecified where it has no address of its own.
    pub(in crate::fleet) address: Ipv4Addr,
    /// What the server may send before it waits for an answer, in octets of the kernel's memory.
    pub(in crate::fleet) burst: usize,
    /// Silence that ends the transfer, whatever the client says.
    pub(in crate::fleet) silence: Duration,
    pub(in crate::fleet) checker: Checker,
    /// Counts it while it lasts.
    pub(in crate::fleet) request: TftpRequest,
}

/// What is left of a transfer.
#[derive(Debug)]
pub(in crate::fleet) struct Ended {
    pub(in crate::fleet) client: Client,
    pub(in crate::fleet) checker: Checker,
    pub(in crate::fleet) outcome: Result<Outcome, Failure>,
    /// The network has said that nobody was there to be asked.
    pub(in crate::fleet) nobody: Option<Nobody>,
}

impl Hub {
    pub(in crate::fleet) fn new(server: SocketAddr, wire: &Wire, seed: u64) -> Self {
        let trouble = (!wire.impairment.is_none()).then(|| Impaired::new(wire.impairment, seed));
        Self {
            gro: wire.gro,
            begun: Instant::now(),
            state: RefCell::new(State::new(server, trouble)),
            inbox: RefCell::new(Inbox::new(TFTP_BATCH, TFTP_DATAGRAM_OCTETS_MAX)),
            rings: Cell::new(None),
            sooner: Notify::new(),
            glanced: Cell::new(0),
        }
    }

    /// Plays a client to its end. Dropped before, the transfer is forgotten, and the server hears no more of it.
    pub(in crate::fleet) async fn play(self: &Rc<Self>, transfer: Transfer) -> Result<Ended, Failure> {
        if self.rings.get().is_none() {
            self.rings.set(Some(NEVER));
            spawn_local(Rc::clone(self).keep_time());
        }
        let mut stay = Stay { hub: self, id: None, seats: Vec::new() };
        for _ in 0..=transfer.probes {
            stay.seats.push(self.seat(transfer.address, transfer.burst)?);
        }
        let (sender, done) = oneshot::channel();
        let now = self.now();
        let guest = Guest {
            client: transfer.client,
            checker: transfer.checker,
            request: transfer.request,
            seats: stay.seats.iter().map(|seat| seat.socket).collect(),
            address: transfer.address,
            silence: Tick::try_from(transfer.silence.as_nanos()).unwrap_or(NEVER),
            silent_since: now,
            alarm: Alarm::default(),
            outcome: None,
            nobody: None,
            done: Some(sender),
        };
        let id = self.state.borrow_mut().admit(guest, &stay.seats);
        stay.id = Some(id);
        self.advance(|state| state.settle(id, now));
        // The sender goes with the guest, and the guest with `stay`.
        let _ = done.await;
        stay.leave().ok_or_else(|| io::Error::other("a transfer without an end").into())
    }

    /// A place for one request: at a socket that others share, of the generation after the one that this address used last; or
    /// at a socket of its own, where the address is not the machine's alone.
    fn seat(self: &Rc<Self>, address: Ipv4Addr, burst: usize) -> io::Result<Seat> {
        let turn = if address.is_unspecified() { None } else { self.state.borrow_mut().turn(address) };
        let Some(generation) = turn else {
            let (socket, fd) = self.open(address, true)?;
            let reader = Some(spawn_local(Rc::clone(self).read(socket, fd)));
            return Ok(Seat { socket, address: Ipv4Addr::UNSPECIFIED, burst, reader });
        };
        let roomy = self.state.borrow().roomy(generation, burst);
        let socket = match roomy {
            Some(socket) => socket,
            None => {
                let (socket, fd) = self.open(Ipv4Addr::UNSPECIFIED, false)?;
                self.state.borrow_mut().generations[generation].push(socket);
                spawn_local(Rc::clone(self).read(socket, fd));
                socket
            }
        };
        self.state.borrow_mut().sockets.load(socket, burst);
        Ok(Seat { socket, address, burst, reader: None })
    }

    fn open(&self, address: Ipv4Addr, single: bool) -> io::Result<(SocketId, Rc<UdpSocket>)> {
        let address =
            if self.state.borrow().sockets.server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { address.into() };
        let fd = net::udp(&Binding { address: SocketAddr::new(address, 0), interface: None, shared: false })?;
        // Requests and ACKs fit every path; choosing numbers for fragments stood first in a profile (__ip_select_ident).
        net::forbid_fragments(&fd)?;
        keep_unreachable(&fd)?;
        if self.gro {
            net::join_datagrams(&fd)?;
        }
        let fd = std::net::UdpSocket::from(fd);
        fd.set_nonblocking(true)?;
        // Half of it stays free: how much memory a datagram takes is only nearly known.
        let room = SockRef::from(&fd).recv_buffer_size()? / 2;
        let fd = Rc::new(UdpSocket::from_std(fd)?);
        let socket = Socket { fd: Rc::clone(&fd), outbox: Outbox::default(), single, room, load: 0 };
        Ok((self.state.borrow_mut().sockets.add(socket), fd))
    }

    /// Takes in what comes to one socket; never ends.
    async fn read(self: Rc<Self>, socket: SocketId, fd: Rc<UdpSocket>) {
        loop {
            let Ok(ready) = fd.ready(Interest::READABLE | Interest::ERROR).await else { return };
            if ready.is_error() {
                self.hear_of_nobody(socket, &fd);
            }
            let mut datagrams = 0;
            // An error of one receive is the network's (ICMP) word of a datagram that was sent; the timers decide what it means.
            let _ = fd.try_io(Interest::READABLE, || {
                let mut inbox = self.inbox.borrow_mut();
                datagrams = inbox.receive(&fd)?;
                // Fewer than there was room for: the socket is empty, and will say so when it is not.
                if datagrams < inbox.capacity() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            if datagrams > 0 {
                let inbox = self.inbox.borrow();
                self.advance(|state| state.take_in(socket, &inbox, self.now()));
            }
            yield_now().await;
        }
    }

    /// Takes in what the network says of requests that came to nobody.
    fn hear_of_nobody(&self, socket: SocketId, fd: &UdpSocket) {
        let _ = fd.try_io(Interest::ERROR, || {
            let mut state = self.state.borrow_mut();
            take_unreachable(fd, |word| state.note_nobody(socket, word));
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
    }

    /// For those who keep this thread busy with other things: takes in what has come to the sockets that are shared, where the
    /// last look was a while ago. Blocks that wait here for their turn would look like a slow server.
    pub(in crate::fleet) fn glance(self: &Rc<Self>) {
        let now = self.now();
        if self.rings.get().is_some() && now.saturating_sub(self.glanced.get()) >= GLANCE_PAUSE {
            self.glanced.set(now);
            self.look();
        }
    }

    fn look(self: &Rc<Self>) {
        let shared = self.state.borrow().sockets.in_use();
        for (id, fd) in shared {
            // Empty, or an error of the network: the reader of the socket meets it, too.
            while let Ok(datagrams) = { self.inbox.borrow_mut().receive(&fd) } {
                let inbox = self.inbox.borrow();
                self.advance(|state| state.take_in(id, &inbox, self.now()));
                if datagrams < inbox.capacity() {
                    break;
                }
            }
        }
    }

    /// Wakes clients whose time has come; never ends.
    async fn keep_time(self: Rc<Self>) {
        loop {
            let next = self.state.borrow().next_deadline();
            self.rings.set(Some(next));
            // Far beyond any run, and still a moment that a clock can hold.
            let moment = self.begun + Duration::from_nanos(next.min(NEVER / 4));
            let _ = timeout_at(moment, self.sooner.notified()).await;
            // What is here already is not late.
            self.look();
            self.advance(|state| state.pass_time(self.now()));
        }
    }

    /// Changes the state, sends what this has made due, and sets the clock.
    fn advance(self: &Rc<Self>, change: impl FnOnce(&mut State)) {
        let mut state = self.state.borrow_mut();
        change(&mut state);
        if state.trouble.is_some() {
            state.deliver(self.now());
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
            self.advance(|_| {});
        }
    }

    fn now(&self) -> Tick {
        Tick::try_from(self.begun.elapsed().as_nanos()).unwrap_or(NEVER)
    }
}

/// Names a socket for as long as the hub lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SocketId(u32);

/// Names a place among the guests; it is given to another when its guest has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GuestId(usize);

/// A request's place at a socket: datagrams to this address belong to it (unspecified: all of the socket's do).
#[derive(Debug)]
struct Seat {
    socket: SocketId,
    address: Ipv4Addr,
    burst: usize,
    /// Of a socket that only this seat has.
    reader: Option<JoinHandle<()>>,
}

/// A transfer's stay at the hub; its end frees all that it has taken.
struct Stay<'a> {
    hub: &'a Hub,
    /// None until everything is there that the guest needs.
    id: Option<GuestId>,
    seats: Vec<Seat>,
}

impl Stay<'_> {
    fn leave(&self) -> Option<Ended> {
        let Guest { client, checker, outcome, nobody, .. } = self.hub.state.borrow_mut().dismiss(self.id?)?;
        Some(Ended { client, checker, outcome: outcome?, nobody })
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        let mut state = self.hub.state.borrow_mut();
        self.id.and_then(|id| state.dismiss(id));
        for seat in &self.seats {
            state.seats.remove(&(seat.socket, seat.address));
            state.sockets.unload(seat.socket, seat.burst);
            if let Some(reader) = &seat.reader {
                reader.abort();
                state.sockets.open.remove(&seat.socket);
            }
        }
    }
}

/// A client at work. Its timers are firmware's own, whatever the fleet's haste: hurried, PXELINUX's 110 ms would take a busy
/// server for a lost packet.
#[derive(Debug)]
struct Guest {
    client: Client,
    checker: Checker,
    request: TftpRequest,
    /// One for each socket that the client counts.
    seats: Vec<SocketId>,
    address: Ipv4Addr,
    silence: Tick,
    silent_since: Tick,
    alarm: Alarm,
    outcome: Option<Result<Outcome, Failure>>,
    nobody: Option<Nobody>,
    done: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Socket {
    fd: Rc<UdpSocket>,
    outbox: Outbox,
    /// It has one machine only: whatever comes to it is that machine's.
    single: bool,
    /// What may be on its way to it at once, and what is at most: the kernel drops what finds no room. Octets of its memory.
    room: usize,
    load: usize,
}

/// A datagram on a bad network: it keeps its octets until it may go on.
#[derive(Clone, Debug)]
enum Parcel {
    In { socket: SocketId, local: Ipv4Addr, from: u16, octets: Box<[u8]> },
    Out { socket: SocketId, local: Ipv4Addr, to: u16, octets: Box<[u8]> },
}

#[derive(Debug)]
struct Sockets {
    server: SocketAddr,
    open: HashMap<SocketId, Socket>,
    /// How many there have ever been.
    opened: u32,
    /// Those with something in their outbox.
    to_flush: Vec<SocketId>,
}

#[derive(Debug)]
struct State {
    sockets: Sockets,
    /// Sockets that are shared. The next request of a machine comes from the next generation, and so from another port.
    generations: [Vec<SocketId>; TFTP_GENERATIONS],
    /// Which generation an address used last.
    used_last: HashMap<Ipv4Addr, usize>,
    seats: HashMap<(SocketId, Ipv4Addr), GuestId>,
    guests: Vec<Option<Guest>>,
    vacant: Vec<usize>,
    timers: Timers<GuestId>,
    trouble: Option<Impaired<Parcel>>,
}

impl Sockets {
    fn add(&mut self, socket: Socket) -> SocketId {
        self.opened += 1;
        let id = SocketId(self.opened);
        self.open.insert(id, socket);
        id
    }

    /// Those that are shared and have transfers.
    fn in_use(&self) -> Vec<(SocketId, Rc<UdpSocket>)> {
        let busy = self.open.iter().filter(|(_, socket)| !socket.single && socket.load > 0);
        busy.map(|(id, socket)| (*id, Rc::clone(&socket.fd))).collect()
    }

    fn load(&mut self, socket: SocketId, burst: usize) {
        if let Some(socket) = self.open.get_mut(&socket) {
            socket.load += burst;
        }
    }

    fn unload(&mut self, socket: SocketId, burst: usize) {
        if let Some(socket) = self.open.get_mut(&socket) {
            socket.load = socket.load.saturating_sub(burst);
        }
    }

    /// Queues a datagram to this port of the server.
    fn post(&mut self, socket: SocketId, local: Ipv4Addr, to: u16, octets: &[u8]) {
        let Some(Socket { outbox, single, .. }) = self.open.get_mut(&socket) else { return };
        if outbox.is_empty() {
            self.to_flush.push(socket);
        }
        let from = (!*single).then_some(IpAddr::V4(local));
        let to = SocketAddr::new(self.server.ip(), to);
        outbox.push(to, from, None, |bytes| bytes.extend_from_slice(octets));
    }

    /// Sends what is queued. A socket that has no room for all of it is given back, and its rest stays queued.
    fn flush(&mut self) -> Option<Rc<UdpSocket>> {
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

impl State {
    fn new(server: SocketAddr, trouble: Option<Impaired<Parcel>>) -> Self {
        Self {
            sockets: Sockets { server, open: HashMap::new(), opened: 0, to_flush: Vec::new() },
            generations: Default::default(),
            used_last: HashMap::new(),
            seats: HashMap::new(),
            guests: Vec::new(),
            vacant: Vec::new(),
            timers: Timers::default(),
            trouble,
        }
    }

    /// The next generation in which this address has no transfer. None where it has one in each.
    fn turn(&mut self, address: Ipv4Addr) -> Option<usize> {
        let Self { generations, seats, used_last, .. } = self;
        let last = used_last.entry(address).or_insert(TFTP_GENERATIONS - 1);
        let is_free = |turn: &usize| {
            let sockets = generations.get(*turn).into_iter().flatten();
            sockets.into_iter().all(|socket| !seats.contains_key(&(*socket, address)))
        };
        *last = (1..TFTP_GENERATIONS).map(|step| (*last + step) % TFTP_GENERATIONS).find(is_free)?;
        Some(*last)
    }

    /// A socket of this generation that has room for one more.
    fn roomy(&self, generation: usize, burst: usize) -> Option<SocketId> {
        let has_room = |id: &&SocketId| {
            self.sockets.open.get(id).is_some_and(|socket| socket.load == 0 || socket.load + burst <= socket.room)
        };
        self.generations.get(generation)?.iter().find(has_room).copied()
    }

    fn admit(&mut self, guest: Guest, seats: &[Seat]) -> GuestId {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.guests.push(None);
            self.guests.len() - 1
        });
        self.guests[place] = Some(guest);
        self.seats.extend(seats.iter().map(|seat| ((seat.socket, seat.address), GuestId(place))));
        GuestId(place)
    }

    fn dismiss(&mut self, id: GuestId) -> Option<Guest> {
        let guest = self.guests.get_mut(id.0)?.take()?;
        self.vacant.push(id.0);
        Some(guest)
    }

    /// Hands a batch to the clients, one datagram after the other.
    fn take_in(&mut self, socket: SocketId, inbox: &Inbox, now: Tick) {
        let Some(single) = self.sockets.open.get(&socket).map(|socket| socket.single) else { return };
        let server = self.sockets.server.ip();
        for arrival in inbox.arrivals() {
            let from = arrival.from;
            let local = match arrival.local {
                _ if single => Ipv4Addr::UNSPECIFIED,
                Some(IpAddr::V4(local)) => local,
                // Sockets that are shared speak IPv4.
                _ => continue,
            };
            if from.ip() != server {
                continue;
            }
            if let Some(trouble) = &mut self.trouble {
                for octets in arrival.datagrams() {
                    trouble.send(now, Parcel::In { socket, local, from: from.port(), octets: octets.into() });
                }
            } else if let Some(&id) = self.seats.get(&(socket, local)) {
                for datagram in arrival.datagrams() {
                    self.hand_over(id, socket, from.port(), datagram, now);
                }
                self.settle(id, now);
            }
        }
    }

    /// A request came to nobody: firmware does not listen to that, and asks again; the report does.
    fn note_nobody(&mut self, socket: SocketId, word: Unreachable) {
        // Of a transfer's own port nothing is to be said: the server has closed it.
        if word.to != self.sockets.server {
            return;
        }
        let Some(single) = self.sockets.open.get(&socket).map(|socket| socket.single) else { return };
        let local = match word.local {
            Some(IpAddr::V4(local)) if !single => local,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let id = self.seats.get(&(socket, local));
        if let Some(guest) = id.and_then(|id| self.guests.get_mut(id.0)).and_then(Option::as_mut) {
            let nobody = Nobody { at: self.sockets.server, why: word.why };
            guest.request.comes_to(nobody);
            guest.nobody = Some(nobody);
        }
    }

    fn hand_over(&mut self, id: GuestId, socket: SocketId, from: u16, datagram: &[u8], now: Tick) {
        let Some(guest) = self.guests.get_mut(id.0).and_then(Option::as_mut) else { return };
        // After a size probe its socket is closed.
        let listens = guest.seats.get(usize::from(guest.client.socket())) == Some(&socket);
        if !listens || guest.outcome.is_some() {
            return;
        }
        guest.request.is_answered();
        if let Some(piece) = guest.client.handle(now, from, datagram) {
            guest.silent_since = now;
            if let Err(failure) = guest.checker.take(piece.bytes) {
                guest.outcome = Some(Err(failure));
            } else if guest.client.outcome().is_none() {
                // A file of one block holds no place at the server.
                guest.request.begins();
                if guest.checker.is_sample_full() {
                    let octets = guest.client.announced().unwrap_or(guest.checker.received());
                    guest.outcome = Some(Ok(Outcome::Complete { octets }));
                    // Lost, it costs the server its retransmissions.
                    self.sockets.post(socket, guest.address, from, ENOUGH);
                }
            }
        }
    }

    /// Takes out of a client what it has to say, and looks whether it has come to its end.
    fn settle(&mut self, id: GuestId, now: Tick) {
        let Some(guest) = self.guests.get_mut(id.0).and_then(Option::as_mut) else { return };
        while let Some(transmit) = guest.client.poll_transmit(now).filter(|_| guest.outcome.is_none()) {
            let Some(&socket) = guest.seats.get(usize::from(transmit.socket)) else { continue };
            let (local, to) = (guest.address, transmit.to.unwrap_or(self.sockets.server.port()));
            match &mut self.trouble {
                Some(trouble) => {
                    trouble.send(now, Parcel::Out { socket, local, to, octets: transmit.bytes.into() });
                }
                None => self.sockets.post(socket, local, to, transmit.bytes),
            }
        }
        if guest.outcome.is_none() {
            guest.outcome = guest.client.outcome().map(Ok);
        }
        if guest.outcome.is_some() {
            guest.done = None;
            return;
        }
        let deadline = guest.client.poll_timeout().unwrap_or(NEVER).min(guest.gives_up());
        self.timers.set(id, &mut guest.alarm, deadline);
    }

    fn pass_time(&mut self, now: Tick) {
        while let Some(entry) = self.timers.pop(now) {
            let Some(guest) = self.guests.get_mut(entry.1.0).and_then(Option::as_mut) else { continue };
            if !self.timers.due(entry, &mut guest.alarm, now) || guest.outcome.is_some() {
                continue;
            }
            if now >= guest.gives_up() {
                guest.outcome = Some(Ok(Outcome::TimedOut));
            } else {
                let before = guest.client.counters().retransmits;
                guest.client.handle_timeout(now);
                guest.request.add_retries(guest.client.counters().retransmits - before);
            }
            self.settle(entry.1, now);
        }
    }

    /// Lets through what a bad network has held until now.
    fn deliver(&mut self, now: Tick) {
        while let Some(parcel) = self.trouble.as_mut().and_then(|trouble| trouble.due(now)) {
            match parcel {
                Parcel::Out { socket, local, to, octets } => self.sockets.post(socket, local, to, &octets),
                Parcel::In { socket, local, from, octets } => {
                    if let Some(&id) = self.seats.get(&(socket, local)) {
                        self.hand_over(id, socket, from, &octets, now);
                        self.settle(id, now);
                    }
                }
            }
        }
    }

    fn next_deadline(&self) -> Tick {
        let late = self.trouble.as_ref().and_then(Impaired::next);
        self.timers.next().unwrap_or(NEVER).min(late.unwrap_or(NEVER))
    }
}

impl Guest {
    /// When its silence has lasted too long.
    fn gives_up(&self) -> Tick {
        self.silent_since.saturating_add(self.silence)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use std::sync::Arc;
    use std::thread::{JoinHandle as Thread, spawn};

    use tokio::task::LocalSet;
    use tokio::time::timeout;

    use super::*;
    use crate::fleet::content::{Content, Contents};
    use crate::fleet::net::context::Context;
    use crate::fleet::net::impair::Impairment;
    use crate::fleet::pace::Pace;
    use crate::tftp::client::Behaviour;

    const CONTENT: Content = Content::Generated { seed: 5, octets: 30_000 };
    const WINDOW: u16 = 16;

    /// A server with one file, no memory and one port; it sends a whole window for each ACK, and ends when nobody has asked for
    /// a second. Gives who asked.
    fn server(window: u16) -> (SocketAddr, Thread<Vec<SocketAddr>>) {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let address = socket.local_addr().unwrap();
        let mut file = Vec::new();
        CONTENT.write_to(&mut file).unwrap();
        let thread = spawn(move || {
            let (mut asked, mut packet, mut outbox) = (Vec::new(), [0; 600], Outbox::default());
            while let Ok((_, peer)) = socket.recv_from(&mut packet) {
                let first = match (packet[1], window) {
                    (1, 1) => 1,
                    (1, _) => {
                        asked.push(peer);
                        let oack = format!("\0\x06blksize\x00512\0windowsize\x00{window}\0");
                        socket.send_to(oack.as_bytes(), peer).unwrap();
                        continue;
                    }
                    (4, _) => usize::from(u16::from_be_bytes([packet[2], packet[3]])) + 1,
                    _ => continue,
                };
                if packet[1] == 1 {
                    asked.push(peer);
                }
                let blocks = (file.len() / 512 + 2 - first).min(window.into());
                if blocks > 0 {
                    outbox.push(peer, None, (blocks > 1).then_some(516), |bytes| {
                        for block in first..first + blocks {
                            bytes.extend_from_slice(&[0, 3, (block >> 8) as u8, block as u8]);
                            bytes.extend_from_slice(
                                file[(block - 1) * 512..].get(..512).unwrap_or(&file[(block - 1) * 512..]),
                            );
                        }
                    });
                    outbox.flush(&socket).unwrap();
                }
            }
            asked
        });
        (address, thread)
    }

    fn with_context<T>(server: SocketAddr, wire: Wire, work: impl AsyncFnOnce(Rc<Context>) -> T) -> T {
        let mut contents = Contents::default();
        contents.insert("file", CONTENT);
        let pace = Pace { haste: 1, idle_waits: false, gives_up: false, patience: Duration::from_secs(30) };
        let context = Rc::new(Context::new(server, contents, pace, Arc::default()).with_wire(wire, 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, work(context))
    }

    async fn play(context: &Context, behaviour: Behaviour, address: Ipv4Addr) -> Result<Outcome, Failure> {
        play_burst(context, behaviour, address, 1000).await
    }

    async fn play_burst(
        context: &Context,
        behaviour: Behaviour,
        address: Ipv4Addr,
        burst: usize,
    ) -> Result<Outcome, Failure> {
        let transfer = Transfer {
            probes: u8::from(behaviour.probe.is_some()),
            client: Client::new(behaviour, b"file", 1),
            address,
            burst,
            silence: Duration::from_secs(20),
            checker: context.checker("file", false),
            request: context.progress.tftp_request(),
        };
        let mut ended = context.hub.play(transfer).await?;
        match ended.outcome? {
            whole @ Outcome::Complete { .. } => ended.checker.finish().map(|_| whole),
            outcome => Ok(outcome),
        }
    }

    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 79, 0, number)
    }

    const WHOLE: Result<Outcome, Failure> = Ok(Outcome::Complete { octets: 30_000 });

    fn sockets(context: &Context) -> usize {
        context.hub.state.borrow().sockets.open.len()
    }

    #[test]
    fn a_transfer_goes_on_while_other_machines_keep_the_thread_busy() {
        let (server, _asked) = server(1);
        with_context(server, Wire::default(), async |context| {
            let fetch = {
                let context = Rc::clone(&context);
                spawn_local(async move { play(&context, Behaviour::pi3(), address(1)).await })
            };
            // Until the request is on its way; then nobody else has a turn.
            let is_asked = || {
                let state = context.hub.state.borrow();
                !state.sockets.in_use().is_empty() && state.sockets.to_flush.is_empty()
            };
            while !is_asked() {
                yield_now().await;
            }
            let begun = Instant::now();
            while context.progress.octets() < CONTENT.octets() && begun.elapsed() < Duration::from_secs(20) {
                context.hub.glance();
            }
            assert_eq!(context.progress.octets(), CONTENT.octets());
            assert_eq!(fetch.await.unwrap(), WHOLE);
        });
    }

    #[test]
    fn hundreds_of_machines_share_a_few_sockets_and_each_gets_its_file() {
        let (server, asked) = server(1);
        with_context(server, Wire::default(), async |context| {
            let fetches: Vec<_> = (1..=200)
                .map(|number| {
                    let context = Rc::clone(&context);
                    spawn_local(async move { play(&context, Behaviour::pi3(), address(number)).await })
                })
                .collect();
            for fetch in fetches {
                assert_eq!(fetch.await.unwrap(), WHOLE);
            }
            assert_eq!(sockets(&context), 1);
        });
        let asked = asked.join().unwrap();
        let mut machines: Vec<_> = asked.iter().map(SocketAddr::ip).collect();
        machines.sort_unstable();
        machines.dedup();
        assert_eq!(machines.len(), 200, "each from its own address");
    }

    #[test]
    fn successive_requests_of_a_machine_come_from_other_ports() {
        let (server, asked) = server(1);
        with_context(server, Wire::default(), async |context| {
            for _ in 0..TFTP_GENERATIONS {
                assert_eq!(play(&context, Behaviour::pi3(), address(1)).await, WHOLE);
            }
        });
        let mut ports: Vec<_> = asked.join().unwrap().iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), TFTP_GENERATIONS);
    }

    #[test]
    fn what_may_be_on_its_way_to_a_socket_fits_its_buffer() {
        let (server, _asked) = server(1);
        with_context(server, Wire::default(), async |context| {
            let most = 1 << 40;
            let fetches = [1, 2].map(|number| Box::pin(play_burst(&context, Behaviour::pi3(), address(number), most)));
            let [one, two] = fetches;
            assert_eq!(tokio::join!(one, two), (WHOLE, WHOLE));
            assert_eq!(sockets(&context), 2);
            assert!(context.hub.state.borrow().sockets.open.values().all(|socket| socket.load == 0));
            assert_eq!(play_burst(&context, Behaviour::pi3(), address(3), most).await, WHOLE);
            assert_eq!(sockets(&context), 2, "an empty one takes anybody");
        });
    }

    #[test]
    fn machines_of_one_address_have_a_socket_each_for_as_long_as_they_need_it() {
        let (server, asked) = server(1);
        with_context(server, Wire::default(), async |context| {
            let anybody = Ipv4Addr::UNSPECIFIED;
            let fetches = [play(&context, Behaviour::pi3(), anybody), play(&context, Behaviour::pi3(), anybody)];
            let [one, two] = fetches.map(Box::pin);
            let (one, two) = tokio::join!(one, async { (sockets(&context), two.await) });
            assert_eq!((one, two), (WHOLE, (1, WHOLE)));
            assert_eq!((sockets(&context), context.hub.state.borrow().seats.len()), (0, 0));
        });
        let asked = asked.join().unwrap();
        assert_ne!(asked[0].port(), asked[1].port());
    }

    #[test]
    fn a_transfer_that_nobody_waits_for_any_more_is_forgotten() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = silent.local_addr().unwrap();
        with_context(server, Wire::default(), async |context| {
            let fetch = play(&context, Behaviour::pi3(), address(1));
            assert!(timeout(Duration::from_millis(20), fetch).await.is_err());
            let state = context.hub.state.borrow();
            assert!(state.seats.is_empty() && state.guests.iter().all(Option::is_none));
        });
    }

    #[test]
    fn t43_silence_is_met_with_repeats_and_then_with_the_end() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = silent.local_addr().unwrap();
        let mut behaviour = Behaviour::pi3();
        behaviour.patience.first = 10_000_000;
        behaviour.patience.most = 10_000_000;
        behaviour.patience.tries = 3;
        with_context(server, Wire::default(), async |context| {
            assert_eq!(play(&context, behaviour, address(1)).await, Ok(Outcome::TimedOut));
        });
        silent.set_nonblocking(true).unwrap();
        assert_eq!(std::iter::from_fn(|| silent.recv(&mut [0; 600]).ok()).count(), 3);
    }

    #[test]
    fn t37_windows_are_taken_joined_or_single() {
        for gro in [false, true] {
            let (server, _asked) = server(WINDOW);
            with_context(server, Wire { gro, ..Wire::default() }, async |context| {
                assert_eq!(play(&context, Behaviour::generic(512, WINDOW), address(1)).await, WHOLE);
            });
        }
    }

    #[test]
    fn a_bad_network_costs_time_but_no_octet() {
        let impairment = Impairment { loss: 0.02, duplicate: 0.05, reorder: 0.05, delay: Duration::from_millis(1) };
        let mut behaviour = Behaviour::generic(512, WINDOW);
        behaviour.patience.first = 20_000_000;
        behaviour.patience.most = 20_000_000;
        behaviour.patience.tries = 100;
        let (server, _asked) = server(WINDOW);
        with_context(server, Wire { impairment, ..Wire::default() }, async |context| {
            for number in 1..=5 {
                assert_eq!(play(&context, behaviour.clone(), address(number)).await, WHOLE);
            }
        });
    }
}
