//! A network that exists as numbers: machines that boot, a server's table, and weather between
//! them, all from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringboot::model::random::SeededRandom;
use ringboot::tftp::Tick;
use ringboot::tftp::client::{ClientBehaviour, ClientOutcome, FetchClient};
use ringboot::tftp::limits::{MILLISECOND, SECOND};
use ringboot::tftp::packet::{TftpRefusal, build_data_header};
use ringboot::tftp::table::{
    EndedTransfer, LocalAddress, TableAction, TftpPolicy, TransferId, TransferOutcome as Ending,
    TransferTable, WantedBlocks,
};

const LISTEN: u16 = 69;
const FIRST_TID_PORT: u16 = 40_000;
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 4, 150));

/// What the network and the server's disk do to packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    /// One way; a packet takes `delay` and up to `jitter` more, so jitter reorders.
    pub(crate) delay: Tick,
    pub(crate) jitter: Tick,
    /// The content is found out of reach for so many of 100 windows.
    pub(crate) parked_percent: u64,
    /// Time that the server takes to find a file.
    pub(crate) opening: Tick,
    /// These blocks, counted from 1 without wrapping, are lost the first time (T-38).
    pub(crate) drop_blocks: [u64; 2],
    /// The first ACK after the machine has received so many blocks is lost.
    pub(crate) drop_ack: Option<u64>,
    /// Every machine's network card.
    pub(crate) ring: Option<Ring>,
}

/// A receive ring: a frame that finds it full is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    pub(crate) frames: u64,
    /// Time in which the driver takes one frame out.
    pub(crate) each: Tick,
}

/// The file that a name stands for: its bytes are computed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    pub(crate) len: u64,
}

impl File {
    /// `f<bytes>`; every other name is missing.
    fn find(name: &[u8]) -> Option<Self> {
        let len = std::str::from_utf8(name.strip_prefix(b"f")?).ok()?.parse().ok()?;
        Some(Self { len })
    }

    fn octet(self, offset: u64) -> u8 {
        (offset.wrapping_add(self.len).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    }
}

pub(crate) struct Machine {
    pub(crate) client: FetchClient,
    pub(crate) behaviour: &'static str,
    /// None = asks for a name that is missing.
    pub(crate) file: Option<File>,
    received: u64,
    /// When its receive ring will be empty.
    busy_until: Tick,
}

pub(crate) struct World {
    pub(crate) now: Tick,
    pub(crate) weather: Weather,
    pub(crate) machines: Vec<Machine>,
    pub(crate) table: TransferTable<File>,
    /// Endings as the server told them, with the bytes sent and the repeats.
    pub(crate) endings: Vec<(Ending, u64, u64)>,
    /// When the last machine was done.
    pub(crate) over: Tick,
    pub(crate) random: SeededRandom,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    contents_out: i64,
    dropped: [bool; 2],
    /// A single seed is run: tell of every packet.
    trace: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Scheduled {
    at: Tick,
    order: u64,
    event: Event,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ToServer { machine, socket, port, bytes } => {
                write!(f, "machine {machine}.{socket} to {port}: {}", packet(bytes))
            }
            Self::ToMachine { machine, socket, port, bytes } => {
                write!(f, "{port} to machine {machine}.{socket}: {}", packet(bytes))
            }
            Self::Opened { id, .. } => write!(f, "{id:?} opened"),
            Self::Resume { id } => write!(f, "{id:?} resumed"),
        }
    }
}

/// The head of a packet, for people.
fn packet(bytes: &[u8]) -> String {
    let number = u16::from_be_bytes([bytes[2], bytes[3]]);
    match bytes[1] {
        3 => format!("DATA {number} ({} octets)", bytes.len() - 4),
        4 => format!("ACK {number}"),
        5 => format!("ERROR {number} {}", bytes[4..].escape_ascii()),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn seconds(tick: Tick) -> f64 {
    tick as f64 / SECOND as f64
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    ToServer { machine: usize, socket: u8, port: u16, bytes: Vec<u8> },
    ToMachine { machine: usize, socket: u8, port: u16, bytes: Vec<u8> },
    Opened { id: TransferId, name: Vec<u8> },
    Resume { id: TransferId },
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather, policy: TftpPolicy) -> Self {
        let mut random = SeededRandom::new(seed);
        Self {
            now: 0,
            weather,
            machines: Vec::new(),
            table: TransferTable::new(policy, random.next_number()),
            endings: Vec::new(),
            over: 0,
            random,
            events: BinaryHeap::new(),
            scheduled: 0,
            contents_out: 0,
            dropped: [false; 2],
            trace: std::env::var_os("SEED").is_some(),
        }
    }

    pub(crate) fn boot(&mut self, behaviour: ClientBehaviour, file: Option<File>) {
        let name = file.map_or("missing".to_owned(), |file| format!("f{}", file.len));
        let named = behaviour.name;
        let client = FetchClient::new(behaviour, name.as_bytes(), self.random.next_number());
        self.machines.push(Machine { client, behaviour: named, file, received: 0, busy_until: 0 });
    }

    /// Runs until every machine and every session is done, or panics after `most` of virtual time.
    pub(crate) fn run(&mut self, most: Tick) {
        self.run_machines(most);
        while let Some(next) = self.next_moment() {
            assert!(next <= most, "not over after {} s", most / SECOND);
            self.now = self.now.max(next);
            self.step();
        }
        assert_eq!(
            (self.table.sessions(), self.table.transfers()),
            (0, 0),
            "the table remembers somebody"
        );
        assert_eq!(self.contents_out, 0, "contents were not handed back");
        assert!(self.machines.iter().all(|machine| machine.client.outcome().is_some()));
    }

    /// Runs until every machine is done; sessions may still linger.
    pub(crate) fn run_machines(&mut self, most: Tick) {
        for machine in 0..self.machines.len() {
            self.take_from_machine(machine);
        }
        while self.machines.iter().any(|machine| machine.client.outcome().is_none()) {
            let Some(next) = self.next_moment() else { break };
            assert!(next <= most, "not over after {} s", most / SECOND);
            self.now = self.now.max(next);
            self.step();
        }
        self.over = self.now;
    }

    fn next_moment(&self) -> Option<Tick> {
        let event = self.events.peek().map(|Reverse(scheduled)| scheduled.at);
        let machines = self.machines.iter().filter_map(|machine| machine.client.poll_timeout());
        machines.chain(event).chain(self.table.next_timeout()).min()
    }

    fn step(&mut self) {
        assert!(self.table.sessions() <= 64, "sessions pile up");
        while self.events.peek().is_some_and(|Reverse(scheduled)| scheduled.at <= self.now) {
            if let Some(Reverse(scheduled)) = self.events.pop() {
                self.deliver(scheduled.event);
            }
        }
        for machine in 0..self.machines.len() {
            if self.machines[machine].client.poll_timeout().is_some_and(|at| at <= self.now) {
                self.machines[machine].client.handle_timeout(self.now);
                self.take_from_machine(machine);
            }
        }
        self.table.handle_timeouts(self.now);
        self.take_from_server();
    }

    fn deliver(&mut self, event: Event) {
        let local = LocalAddress { address: SERVER, interface: 2 };
        match event {
            Event::ToServer { machine, socket, port, bytes } => {
                let peer = endpoint(machine, socket);
                match port.checked_sub(FIRST_TID_PORT) {
                    Some(tid) => self.table.handle_tid(self.now, tid, peer, local, &bytes),
                    None => self.table.handle_listen(self.now, peer, local, false, &bytes),
                }
                self.take_from_server();
            }
            Event::ToMachine { machine, socket, port, bytes } => {
                let Machine { client, file, received, .. } = &mut self.machines[machine];
                if socket == client.socket()
                    && let Some(piece) = client.handle(self.now, port, &bytes)
                {
                    let file = file.expect("data of a missing file");
                    assert_eq!(piece.offset, *received, "octets out of order");
                    for (offset, octet) in (piece.offset..).zip(piece.bytes) {
                        assert_eq!(*octet, file.octet(offset), "wrong octet at {offset}");
                    }
                    *received += piece.bytes.len() as u64;
                }
                self.take_from_machine(machine);
            }
            Event::Opened { id, name } => {
                let answer =
                    File::find(&name).map(|file| (file, file.len)).ok_or(TftpRefusal::NOT_FOUND);
                self.contents_out += i64::from(answer.is_ok());
                self.contents_out -=
                    i64::from(self.table.finish_open(self.now, id, answer).is_some());
                self.take_from_server();
            }
            Event::Resume { id } => {
                self.table.resume(id);
                self.take_from_server();
            }
        }
    }

    fn take_from_machine(&mut self, machine: usize) {
        let mut sent = Vec::new();
        while let Some(transmit) = self.machines[machine].client.poll_transmit(self.now) {
            let port = transmit.to.unwrap_or(LISTEN);
            sent.push(Event::ToServer {
                machine,
                socket: transmit.socket,
                port,
                bytes: transmit.bytes.to_vec(),
            });
        }
        for event in sent {
            let is_ack = matches!(&event, Event::ToServer { bytes, .. } if bytes[1] == 4);
            let far = self.machines[machine].client.counters().blocks;
            if is_ack && self.weather.drop_ack.is_some_and(|block| far >= block) {
                self.weather.drop_ack = None;
                continue;
            }
            self.throw(event);
        }
    }

    fn take_from_server(&mut self) {
        let mut sent = Vec::new();
        let mut parked = None;
        while let Some(action) = self.table.poll(self.now) {
            match action {
                TableAction::Open { id, request, .. } => {
                    let event = Event::Opened { id, name: request.name().to_vec() };
                    sent.push((self.weather.opening, event));
                }
                TableAction::Blocks { wanted, content } => {
                    let WantedBlocks {
                        id,
                        peer,
                        tid,
                        first,
                        block_size,
                        bytes,
                        blocks,
                        is_last,
                        ..
                    } = wanted;
                    let (file, leave) = (*content, self.leaves(blocks));
                    assert!(
                        is_last
                            == (bytes.end == file.len
                                && bytes.end - bytes.start
                                    < u64::from(blocks) * u64::from(block_size))
                    );
                    for nth in 0..leave {
                        let start = bytes.start + u64::from(nth) * u64::from(block_size);
                        let end = bytes.end.min(start + u64::from(block_size));
                        if self.is_doomed(start / u64::from(block_size) + 1) {
                            continue;
                        }
                        let mut datagram =
                            build_data_header(first.wrapping_add(nth as u16)).to_vec();
                        datagram.extend((start..end).map(|offset| file.octet(offset)));
                        sent.push((0, to_machine(peer, tid, datagram)));
                    }
                    parked = (leave < blocks).then_some((id, leave));
                }
                TableAction::Datagram { peer, tid, bytes, .. } => {
                    sent.push((0, to_machine(peer, tid, bytes.to_vec())))
                }
                TableAction::Ended { end, content, .. } => {
                    let EndedTransfer { outcome, tally, .. } = end;
                    self.contents_out -= i64::from(content.is_some());
                    self.endings.push((outcome, tally.bytes_sent, tally.retransmits));
                }
            }
            if let Some((id, leave)) = parked.take() {
                self.table.hand_back_blocks(self.now, id, leave);
                let after = self.random.below(2 * SECOND);
                self.schedule(self.now + after, Event::Resume { id });
            }
            for (after, event) in sent.drain(..) {
                match event {
                    Event::Opened { .. } => self.schedule(self.now + after, event),
                    event => self.throw(event),
                }
            }
        }
    }

    /// How many of `blocks` the disk lets go.
    fn leaves(&mut self, blocks: u32) -> u32 {
        if self.random.below(100) >= self.weather.parked_percent {
            return blocks;
        }
        u32::try_from(self.random.below(u64::from(blocks))).unwrap_or(0)
    }

    fn is_doomed(&mut self, block: u64) -> bool {
        let doomed =
            (0..2).find(|nth| self.weather.drop_blocks[*nth] == block && !self.dropped[*nth]);
        if let Some(nth) = doomed {
            self.dropped[nth] = true;
        }
        doomed.is_some()
    }

    /// Hands a packet to the weather.
    fn throw(&mut self, event: Event) {
        let copies = 1 + u64::from(self.random.below(100) < self.weather.duplicate_percent);
        for _ in 0..copies {
            if self.random.below(100) >= self.weather.loss_percent {
                let flight = self.weather.delay + self.random.below(self.weather.jitter + 1);
                let Some(wait) = self.wait_in_ring(&event) else { continue };
                self.schedule(self.now + flight + wait, event.clone());
            }
        }
    }

    /// How long a packet lies in its machine's ring; None = the ring is full.
    fn wait_in_ring(&mut self, event: &Event) -> Option<Tick> {
        let (Some(ring), Event::ToMachine { machine, .. }) = (self.weather.ring, event) else {
            return Some(0);
        };
        let busy_until = &mut self.machines[*machine].busy_until;
        let ahead = busy_until.saturating_sub(self.now);
        if ahead > ring.each * (ring.frames - 1) {
            return None;
        }
        *busy_until = self.now + ahead + ring.each;
        Some(ahead + ring.each)
    }

    fn schedule(&mut self, at: Tick, event: Event) {
        if self.trace {
            println!("{:>12.6} -> {:.6} {event:?}", seconds(self.now), seconds(at));
        }
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at, order: self.scheduled, event }));
    }
}

fn endpoint(machine: usize, socket: u8) -> SocketAddr {
    let host = u8::try_from(machine + 1).expect("few machines");
    SocketAddr::new(Ipv4Addr::new(192, 168, 4, host).into(), 2000 + u16::from(socket))
}

fn to_machine(peer: SocketAddr, tid: Option<u16>, bytes: Vec<u8>) -> Event {
    let IpAddr::V4(address) = peer.ip() else { panic!("all machines speak IPv4") };
    let machine = usize::from(address.octets()[3]) - 1;
    let socket = u8::try_from(peer.port() - 2000).expect("two sockets");
    Event::ToMachine {
        machine,
        socket,
        port: tid.map_or(LISTEN, |tid| FIRST_TID_PORT + tid),
        bytes,
    }
}

/// One of `from`.
pub(crate) fn pick<T: Clone>(random: &mut SeededRandom, from: &[T]) -> T {
    from[usize::try_from(random.below(from.len() as u64)).unwrap_or(0)].clone()
}

/// A moderate local network.
pub(crate) fn calm() -> Weather {
    Weather { delay: MILLISECOND / 5, opening: MILLISECOND, ..Weather::default() }
}

pub(crate) fn completed(machine: &Machine) -> bool {
    match (machine.client.outcome(), machine.file) {
        (Some(ClientOutcome::Complete { octets }), Some(file)) => {
            octets == file.len && machine.received == file.len
        }
        (Some(ClientOutcome::Refused { code: 1 }), None) => true,
        _ => false,
    }
}
