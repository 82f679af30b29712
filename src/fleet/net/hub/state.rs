//! The transfers of a hub: the owner of a datagram, its client's reaction, and the timers of
//! clients.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::sockets::{HubSocketId, HubSockets};
use crate::failure::BootFailure;
use crate::limits::TFTP_GENERATIONS;
use crate::measure::line::NobodyThere;
use crate::measure::progress::TftpRequest;
use crate::net::checker::ContentChecker;
use crate::net::impair::ImpairedQueue;
use ringboot_io::engine::mmsg::DatagramInbox;
use ringboot_io::engine::unreachable::UnreachableNotice;
use ringboot_protocol::tftp::client::{ClientOutcome, FetchClient};
use ringboot_protocol::tftp::timers::{TimerAlarm, TimerHeap};
use ringboot_protocol::tftp::{NEVER, Tick};

/// A sample is enough: this ERROR ends the transfer at the server, so that it does not repeat
/// unwanted blocks.
const ENOUGH: &[u8] = b"\0\x05\0\0User aborted the transfer\0";

/// The name of a place among the guests; another guest gets it when its guest has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HubClientId(usize);

/// A request's place at a socket: datagrams to this address belong to it (unspecified: all
/// datagrams of the socket).
#[derive(Debug)]
pub(super) struct SocketUse {
    pub(super) socket: HubSocketId,
    pub(super) address: Ipv4Addr,
    pub(super) burst: usize,
    /// The socket belongs only to this seat.
    pub(super) reader: Option<JoinHandle<()>>,
}

/// A running client. Its timers are firmware's own, whatever the fleet's haste: hurried, PXELINUX's
/// 110 ms would take a busy server for a lost packet.
#[derive(Debug)]
pub(super) struct HubClient {
    pub(super) client: FetchClient,
    pub(super) checker: ContentChecker,
    pub(super) request: TftpRequest,
    /// One for each socket that the client counts.
    pub(super) seats: Vec<HubSocketId>,
    pub(super) address: Ipv4Addr,
    pub(super) silence: Tick,
    pub(super) silent_since: Tick,
    pub(super) alarm: TimerAlarm,
    pub(super) outcome: Option<Result<ClientOutcome, BootFailure>>,
    pub(super) nobody: Option<NobodyThere>,
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// A datagram on a bad network: it keeps its bytes until it may go on.
#[derive(Clone, Debug)]
pub(super) enum DelayedDatagram {
    In { socket: HubSocketId, local: Ipv4Addr, from: u16, octets: Box<[u8]> },
    Out { socket: HubSocketId, local: Ipv4Addr, to: u16, octets: Box<[u8]> },
}

/// The guests of each socket, and the timer of each guest.
#[derive(Debug)]
pub(super) struct HubState {
    pub(super) sockets: HubSockets,
    /// Shared sockets. The next request of a machine uses the next generation, and so another port.
    pub(super) generations: [Vec<HubSocketId>; TFTP_GENERATIONS],
    /// The last generation of each address.
    pub(super) used_last: HashMap<Ipv4Addr, usize>,
    pub(super) seats: HashMap<(HubSocketId, Ipv4Addr), HubClientId>,
    pub(super) guests: Vec<Option<HubClient>>,
    pub(super) vacant: Vec<usize>,
    pub(super) timers: TimerHeap<HubClientId>,
    pub(super) trouble: Option<ImpairedQueue<DelayedDatagram>>,
}

impl HubState {
    pub(super) fn new(server: SocketAddr, trouble: Option<ImpairedQueue<DelayedDatagram>>) -> Self {
        Self {
            sockets: HubSockets::new(server),
            generations: Default::default(),
            used_last: HashMap::new(),
            seats: HashMap::new(),
            guests: Vec::new(),
            vacant: Vec::new(),
            timers: TimerHeap::default(),
            trouble,
        }
    }

    /// The next generation in which this address has no transfer. None if it has one in each.
    pub(super) fn choose_generation(&mut self, address: Ipv4Addr) -> Option<usize> {
        let Self { generations, seats, used_last, .. } = self;
        let last = used_last.entry(address).or_insert(TFTP_GENERATIONS - 1);
        let mut turns = (1..TFTP_GENERATIONS).map(|step| (*last + step) % TFTP_GENERATIONS);
        let free = turns.find(|turn| {
            let mut sockets = generations.get(*turn).into_iter().flatten();
            sockets.all(|socket| !seats.contains_key(&(*socket, address)))
        })?;
        *last = free;
        Some(free)
    }

    /// A socket of this generation that has room for one more.
    pub(super) fn find_roomy_socket(&self, generation: usize, burst: usize) -> Option<HubSocketId> {
        let mut sockets = self.generations.get(generation)?.iter().copied();
        sockets.find(|id| {
            self.sockets
                .open
                .get(id)
                .is_some_and(|socket| socket.load == 0 || socket.load + burst <= socket.room)
        })
    }

    pub(super) fn add_client(&mut self, guest: HubClient, seats: &[SocketUse]) -> HubClientId {
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.guests.push(None);
            self.guests.len() - 1
        });
        self.guests[place] = Some(guest);
        self.seats
            .extend(seats.iter().map(|seat| ((seat.socket, seat.address), HubClientId(place))));
        HubClientId(place)
    }

    pub(super) fn remove_client(&mut self, id: HubClientId) -> Option<HubClient> {
        let guest = self.guests.get_mut(id.0)?.take()?;
        self.vacant.push(id.0);
        Some(guest)
    }

    /// Hands a batch to the clients, one datagram after the other.
    pub(super) fn deliver_batch(&mut self, socket: HubSocketId, inbox: &DatagramInbox, now: Tick) {
        let Some(single) = self.sockets.open.get(&socket).map(|socket| socket.single) else {
            return;
        };
        let server = self.sockets.server.ip();
        for arrival in inbox.arrivals() {
            let from = arrival.from;
            let local = match arrival.local {
                _ if single => Ipv4Addr::UNSPECIFIED,
                Some(IpAddr::V4(local)) => local,
                // Shared sockets use IPv4.
                _ => continue,
            };
            if from.ip() != server {
                continue;
            }
            if let Some(trouble) = &mut self.trouble {
                for octets in arrival.datagrams() {
                    trouble.send(
                        now,
                        DelayedDatagram::In {
                            socket,
                            local,
                            from: from.port(),
                            octets: octets.into(),
                        },
                    );
                }
            } else if let Some(&id) = self.seats.get(&(socket, local)) {
                for datagram in arrival.datagrams() {
                    self.hand_over(id, socket, from.port(), datagram, now);
                }
                self.settle_client(id, now);
            }
        }
    }

    /// No server received a request: firmware ignores that and asks again; the report names it.
    pub(super) fn note_nobody(&mut self, socket: HubSocketId, word: UnreachableNotice) {
        // A transfer's own port does not count: the server has closed it.
        if word.to != self.sockets.server {
            return;
        }
        let Some(single) = self.sockets.open.get(&socket).map(|socket| socket.single) else {
            return;
        };
        let local = match word.local {
            Some(IpAddr::V4(local)) if !single => local,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let id = self.seats.get(&(socket, local));
        if let Some(guest) = id.and_then(|id| self.guests.get_mut(id.0)).and_then(Option::as_mut) {
            let nobody = NobodyThere { at: self.sockets.server, why: word.why };
            guest.request.note_absent_server(nobody);
            guest.nobody = Some(nobody);
        }
    }

    fn hand_over(
        &mut self,
        id: HubClientId,
        socket: HubSocketId,
        from: u16,
        datagram: &[u8],
        now: Tick,
    ) {
        let Some(guest) = self.guests.get_mut(id.0).and_then(Option::as_mut) else { return };
        // After a size probe the client closes its socket.
        let listens = guest.seats.get(usize::from(guest.client.socket())) == Some(&socket);
        if !listens || guest.outcome.is_some() {
            return;
        }
        guest.request.is_answered();
        if let Some(piece) = guest.client.handle(now, from, datagram) {
            guest.silent_since = now;
            if let Err(failure) = guest.checker.take_bytes(piece.bytes) {
                guest.outcome = Some(Err(failure));
            } else if guest.client.outcome().is_none() {
                // A file of one block takes no place at the server.
                guest.request.note_first_block();
                if guest.checker.is_sample_full() {
                    let octets = guest.client.announced().unwrap_or(guest.checker.received());
                    guest.outcome = Some(Ok(ClientOutcome::Complete { octets }));
                    // If it is lost, it costs the server its retransmissions.
                    self.sockets.queue_datagram(socket, guest.address, from, ENOUGH);
                }
            }
        }
    }

    /// Sends what a client has to send, and checks whether it has ended.
    pub(super) fn settle_client(&mut self, id: HubClientId, now: Tick) {
        let Some(guest) = self.guests.get_mut(id.0).and_then(Option::as_mut) else { return };
        while let Some(transmit) =
            guest.client.poll_transmit(now).filter(|_| guest.outcome.is_none())
        {
            let Some(&socket) = guest.seats.get(usize::from(transmit.socket)) else { continue };

            // Only a request goes to the server's well-known port: the answer has the port of the
            // transfer (RFC 1350 section 4).
            let (local, to) = (guest.address, transmit.to.unwrap_or(self.sockets.server.port()));
            match &mut self.trouble {
                Some(trouble) => {
                    trouble.send(
                        now,
                        DelayedDatagram::Out { socket, local, to, octets: transmit.bytes.into() },
                    );
                }
                None => self.sockets.queue_datagram(socket, local, to, transmit.bytes),
            }
        }
        if guest.outcome.is_none() {
            guest.outcome = guest.client.outcome().map(Ok);
        }

        // Dropping the sender wakes `play`, which takes the outcome.
        if guest.outcome.is_some() {
            guest.done = None;
            return;
        }
        let deadline = guest.client.poll_timeout().unwrap_or(NEVER).min(guest.gives_up());
        self.timers.set(id, &mut guest.alarm, deadline);
    }

    pub(super) fn pass_time(&mut self, now: Tick) {
        while let Some(entry) = self.timers.pop(now) {
            let Some(guest) = self.guests.get_mut(entry.1.0).and_then(Option::as_mut) else {
                continue;
            };
            if !self.timers.due(entry, &mut guest.alarm, now) || guest.outcome.is_some() {
                continue;
            }
            if now >= guest.gives_up() {
                guest.outcome = Some(Ok(ClientOutcome::TimedOut));
            } else {
                let before = guest.client.counters().retransmits;
                guest.client.handle_timeout(now);
                guest.request.add_retries(guest.client.counters().retransmits - before);
            }
            self.settle_client(entry.1, now);
        }
    }

    /// Delivers datagrams that the bad network has delayed until now.
    pub(super) fn deliver_delayed(&mut self, now: Tick) {
        while let Some(parcel) = self.trouble.as_mut().and_then(|trouble| trouble.pop_due(now)) {
            match parcel {
                DelayedDatagram::Out { socket, local, to, octets } => {
                    self.sockets.queue_datagram(socket, local, to, &octets)
                }
                DelayedDatagram::In { socket, local, from, octets } => {
                    if let Some(&id) = self.seats.get(&(socket, local)) {
                        self.hand_over(id, socket, from, &octets, now);
                        self.settle_client(id, now);
                    }
                }
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Tick {
        let late = self.trouble.as_ref().and_then(ImpairedQueue::next);
        self.timers.next().unwrap_or(NEVER).min(late.unwrap_or(NEVER))
    }
}

impl HubClient {
    /// The moment at which its silence has lasted too long.
    fn gives_up(&self) -> Tick {
        self.silent_since.saturating_add(self.silence)
    }
}
