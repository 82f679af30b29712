//! The TFTP thread of a boot core: drives the pure `Table` with sockets, and the shelf with names.

mod ended;
mod journal;
mod lookup;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(super) use self::ended::End;
use self::journal::Journal;
use self::lookup::{Asked, Carried, Held, Opened, prepare_whole};
use super::drain::{DRAIN_MAX, Drain};
use super::flights::{Inquiry, Report, UnderWay};
use super::pulse::Pulse;
use super::shelf::{Names, Reply, Shelf};
use super::spin::Spin;
use crate::engine::datapath::Datapath;
use crate::engine::mailbox::{Bell, Letters, Mailbox};
use crate::engine::net;
use crate::engine::udp::{
    Blocks, Completion, Driver, SendError, SocketId, Source, Target, Wait, blocks_per_send,
};
use crate::images::{self, Content, Owed, Urgency};
use crate::model::machine::Machine;
use crate::model::network::Network;
use crate::observe::counters::Count;
use crate::observe::events::Events;
use crate::observe::flight::Way;
use crate::tftp::Tick;
use crate::tftp::limits::{OVERHEAD_V4, OVERHEAD_V6};
use crate::tftp::options::OptionPolicy;
use crate::tftp::packet::ErrorCode;
use crate::tftp::table::{Action, Failure, Local, Policy, Sight, Table, TransferId};

/// What a client may negotiate, by its address and what is known of it (T-23).
pub type OptionsFor = dyn Fn(IpAddr, Option<&Machine>) -> OptionPolicy + Send + Sync;

/// `[tftp]` as the cores want it.
#[derive(Clone)]
pub struct TftpPlan {
    pub listen: Vec<SocketAddr>,
    /// Sockets per core and address family that transfers answer from (T-46); 0 = from the
    /// listening port (T-47).
    pub tids: u16,
    /// Their ports, both ends included; None = the system's ephemeral ports.
    pub port_range: Option<(u16, u16)>,
    pub policy: Policy,
    pub options_for: Arc<OptionsFor>,
    /// How long a core polls while transfers are in flight before it sleeps.
    pub spin: Duration,
    /// Blocks that leave in one send at most; one send holds no more than [`blocks_per_send`]
    /// anyway.
    pub segments_max: u32,
    /// Buffers that the ring receives into: a power of two.
    pub receive_buffers: u16,
}

impl std::fmt::Debug for TftpPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TftpPlan")
            .field("listen", &self.listen)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// One core's sockets, bound by the supervisor.
#[derive(Debug, Default)]
pub struct TftpSockets {
    pub listening: Vec<(SocketAddr, OwnedFd)>,
    /// First those of IPv4, then those of IPv6.
    pub tids: Vec<(SocketAddr, OwnedFd)>,
}

/// How long transfers wait that found every worker busy and the queue full, before they ask again.
const BUSY_PAUSE: Tick = 10_000_000;
/// Transfers that stand still which make room when files find no place.
const DISPLACED_AT_ONCE: usize = 16;

/// Clients that are remembered for not taking segmented sends; beyond it all are forgotten, and
/// found out again.
const UNSEGMENTED_MAX: usize = 4096;

/// How many HTTP responses are being sent on the same processor: polling would take time from them.
pub type HttpBusy = Arc<AtomicU32>;

/// What workers hand back to the core.
enum Letter {
    Opened(TransferId, Opened),
    /// The content that a transfer is to hold from now on.
    Secured(TransferId, Reply),
    Resident(TransferId),
    /// Control: what is under way?
    Asked(Report),
}

/// Everything of the thread before it runs.
#[derive(Debug)]
pub struct Core {
    datapath: Datapath,
    sockets: TftpSockets,
    plan: TftpPlan,
    shelf: Shelf,
    events: Events,
    drain: Drain,
    http_busy: HttpBusy,
    letters: Letters<Letter>,
    mailbox: Mailbox<Letter>,
    counters: Arc<TftpCounters>,
    pulse: Pulse,
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter")
    }
}

impl Core {
    pub fn new(
        datapath: Datapath,
        sockets: TftpSockets,
        plan: &TftpPlan,
        names: &Arc<Names>,
        events: &Events,
        drain: &Drain,
        http_busy: &HttpBusy,
    ) -> io::Result<(Self, Bell)> {
        let (letters, mailbox) = Mailbox::new()?;
        let bell = mailbox.bell();
        let core = Self {
            datapath,
            sockets,
            plan: plan.clone(),
            shelf: Shelf::new(Arc::clone(names)),
            events: events.clone(),
            drain: drain.clone(),
            http_busy: Arc::clone(http_busy),
            letters,
            mailbox,
            counters: Arc::default(),
            pulse: Pulse::default(),
        };
        Ok((core, bell))
    }

    /// The way to ask it what is under way.
    pub fn inquiry(&self) -> Inquiry {
        let letters = self.letters.clone();
        Inquiry::new(move |report| letters.send(Letter::Asked(report)))
    }

    pub fn counters(&self) -> Arc<TftpCounters> {
        Arc::clone(&self.counters)
    }

    /// The core is watched: it shows signs of life.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Serves until drained. `ready` is called once, when datagrams are received.
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), String> {
        let mut running = Running::new(self).map_err(|error| error.to_string())?;
        running.turn(Wait::No)?;
        ready();
        running.serve()
    }
}

struct Running {
    driver: Driver,
    table: Table<Held>,
    shelf: Shelf,
    plan: TftpPlan,
    journal: Journal,
    drain: Drain,
    http_busy: HttpBusy,
    letters: Letters<Letter>,
    mailbox: Mailbox<Letter>,
    pulse: Pulse,
    /// Sockets in the driver's order: listening first, then TIDs.
    roles: Vec<SocketRole>,
    /// Driver socket of the first TID of each family.
    first_tid: (u16, u16),
    senders: Senders,
    /// MTU by interface index; asked of the system once in a generation.
    mtus: Vec<(u32, u16)>,
    /// Transfers that found no send slot: polled again after the next turn.
    starved: Vec<TransferId>,
    /// Transfers whose socket is blocked: polled again when it has room. A link that takes nothing
    /// holds up its own alone.
    blocked: HashMap<TransferId, SocketId>,
    /// Sockets that have room again.
    unblocked: Vec<SocketId>,
    /// Transfers whose next blocks found no worker to make them resident, and when they ask again.
    postponed: Vec<(TransferId, Tick)>,
    failed: Vec<(TransferId, SendError)>,
    /// Clients on whose way the kernel cuts no sends: their route has a smaller MTU, or their
    /// device cannot.
    unsegmented: HashSet<IpAddr>,
    started: Instant,
    last_busy: Tick,
    spin: Spin,
    /// Numbers of the generation and of the walks that the table's networks are from.
    networks_of: (u64, u64),
    /// How often files had found no place when it was last looked at.
    short_of_places: u64,
    counters: Arc<TftpCounters>,
}

/// What one TFTP core counts.
#[derive(Debug, Default)]
pub struct TftpCounters {
    /// Transfers that run now.
    pub transfers: Count,
    pub requests: Count,
    /// Requests of clients that are not served (T-65), or sent to broadcast addresses (T-9).
    pub not_served: Count,
    /// Requests that waited for their turn, and those that found no room to wait.
    pub waited: Count,
    pub dropped: Count,
    /// Requests that met a full table.
    pub full: Count,
    /// Transfers that made room for others.
    pub displaced: Count,
    /// Transfers ended because somebody guessed at their port.
    pub guessed: Count,
    /// Times that a request or a transfer was put off because workers, files, descriptors or memory
    /// were short.
    pub busy: Count,
    /// Events beyond what is said in a second.
    pub events_left_out: Count,
}

#[derive(Clone, Copy, Debug)]
enum SocketRole {
    Listening,
    Tid(u16),
}

impl Running {
    fn new(core: Core) -> Result<Self, Box<dyn std::error::Error>> {
        let Core {
            datapath,
            sockets,
            plan,
            shelf,
            events,
            drain,
            http_busy,
            letters,
            mailbox,
            counters,
            pulse,
        } = core;
        let spin = Spin::new(plan.spin);
        let mut driver = Driver::with_buffers(datapath, plan.receive_buffers)?;
        driver.listen_to(&mailbox);
        let mut roles = Vec::new();
        for (address, fd) in sockets.listening {
            driver.add(fd, address.ip(), true);
            roles.push(SocketRole::Listening);
        }
        let listening = u16::try_from(roles.len())?;
        let v4 =
            u16::try_from(sockets.tids.iter().filter(|(address, _)| address.is_ipv4()).count())?;
        for (number, (address, fd)) in sockets.tids.into_iter().enumerate() {
            driver.add(fd, address.ip(), true);
            let number = u16::try_from(number)?;
            roles.push(SocketRole::Tid(if number < v4 { number } else { number - v4 }));
        }
        let mut seed = [0; 8];
        getrandom(&mut seed)?;
        Ok(Self {
            driver,
            table: Table::new(plan.policy.clone(), u64::from_ne_bytes(seed)),
            shelf,
            plan,
            journal: Journal::new(events),
            drain,
            http_busy,
            letters,
            mailbox,
            pulse,
            roles,
            first_tid: (listening, listening + v4),
            senders: Senders { tids: v4, of: Vec::new() },
            mtus: Vec::new(),
            starved: Vec::new(),
            blocked: HashMap::new(),
            unblocked: Vec::new(),
            postponed: Vec::new(),
            failed: Vec::new(),
            unsegmented: HashSet::new(),
            started: Instant::now(),
            last_busy: 0,
            spin,
            networks_of: (0, 0),
            short_of_places: 0,
            counters,
        })
    }

    fn now(&self) -> Tick {
        Tick::try_from(self.started.elapsed().as_nanos()).unwrap_or(Tick::MAX)
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut drained_since = None;
        loop {
            let wait = self.wait();
            self.turn(wait)?;
            self.pulse.beat();
            if self.drain.is_ordered() {
                let since = *drained_since.get_or_insert_with(Instant::now);
                if self.table.transfers() == 0 || since.elapsed() >= DRAIN_MAX {
                    return Ok(());
                }
            }
        }
    }

    /// How long the next turn may sleep: not at all while there is work or the core may poll, else
    /// until the next timer.
    fn wait(&mut self) -> Wait {
        if !self.starved.is_empty() {
            return Wait::No;
        }
        let now = self.now();
        let patience = if self.drain.is_ordered() { Some(Duration::from_millis(50)) } else { None };
        let timer =
            self.table.next_timeout().map(|at| Duration::from_nanos(at.saturating_sub(now)));
        let again =
            self.postponed.iter().map(|(_, at)| Duration::from_nanos(at.saturating_sub(now))).min();
        let longest = [timer, patience, again, self.pulse.every()].into_iter().flatten().min();
        // What HTTP sends on the same processor goes ahead.
        let transfers =
            if self.http_busy.load(Ordering::Relaxed) == 0 { self.table.transfers() } else { 0 };
        let since = Duration::from_nanos(now.saturating_sub(self.last_busy));
        let poll = self.spin.before_wait(transfers, since);
        match (longest, poll) {
            (Some(Duration::ZERO), _) => Wait::No,
            (longest, Some(poll)) => Wait::Poll {
                poll: longest.map_or(poll, |longest| poll.min(longest)),
                then: longest,
            },
            (Some(time), None) => Wait::AtMost(time),
            (None, None) => Wait::Forever,
        }
    }

    /// One batch: collect what has arrived, advance every transfer, queue all sends; the next turn
    /// submits them.
    fn turn(&mut self, wait: Wait) -> Result<(), String> {
        let started = self.started;
        // Looked at when a datagram is there: the order may come while the turn sleeps.
        let drain = &self.drain;
        let (table, roles, failed) = (&mut self.table, &self.roles, &mut self.failed);
        let (last_busy, spin, unblocked) =
            (&mut self.last_busy, &mut self.spin, &mut self.unblocked);
        let mut batch_now = None;
        let turned = self.driver.turn(wait, |completion| {
            // One look at the clock for all that this turn brings.
            let now = *batch_now.get_or_insert_with(|| {
                Tick::try_from(started.elapsed().as_nanos()).unwrap_or(Tick::MAX)
            });
            match completion {
                Completion::Datagram(datagram) => {
                    if *last_busy != now {
                        spin.heard(Duration::from_nanos(now.saturating_sub(*last_busy)));
                        *last_busy = now;
                    }
                    let local = Local { address: datagram.local, interface: datagram.interface };
                    match roles.get(usize::from(datagram.socket.0)) {
                        Some(SocketRole::Listening) if !drain.is_ordered() => {
                            let broadcast = datagram.destination != datagram.local;
                            table.handle_listen(
                                now,
                                datagram.from,
                                local,
                                broadcast,
                                datagram.bytes,
                            );
                        }
                        Some(SocketRole::Tid(tid)) => {
                            table.handle_tid(now, *tid, datagram.from, local, datagram.bytes);
                        }
                        _ => {}
                    }
                }
                Completion::Sent { token, result: Err(error) } => {
                    failed.push((TransferId::from_token(token), error));
                }
                Completion::Room(socket) => unblocked.push(socket),
                Completion::Sent { .. } | Completion::Woken => {}
            }
        });
        turned.map_err(|error| format!("the sockets of a TFTP core failed: {error}"))?;
        self.settle_failures();
        self.read_letters();
        let now = self.now();
        self.table.handle_timeouts(now);
        for id in std::mem::take(&mut self.starved) {
            self.table.resume(id);
        }
        self.resume_unblocked();
        for (id, _) in self.postponed.extract_if(.., |(_, at)| *at <= now) {
            self.table.resume(id);
        }
        self.act();
        self.follow_control();
        Ok(())
    }

    fn resume_unblocked(&mut self) {
        for socket in std::mem::take(&mut self.unblocked) {
            for (id, _) in self.blocked.extract_if(|_, blocked| *blocked == socket) {
                self.table.resume(id);
            }
        }
    }

    /// A transfer of a blocked socket waits. Those that have ended meanwhile are forgotten before
    /// they are many.
    fn wait_for_room(&mut self, id: TransferId, socket: SocketId) {
        if self.blocked.len() > 2 * self.table.transfers() {
            self.blocked.retain(|id, _| self.table.peer(*id).is_some());
        }
        self.blocked.insert(id, socket);
    }

    /// Takes the networks of a new generation over, with the addresses of walks, and shows the
    /// counts.
    fn follow_control(&mut self) {
        let published = &self.shelf.names().published;
        let (generation, walks) = (published.load(), published.walks.load());
        if (generation.number, walks.number) != self.networks_of {
            self.networks_of = (generation.number, walks.number);
            self.mtus.clear();
            let mut networks = generation.snapshot.networks();
            if !networks.is_empty() {
                networks.extend(
                    walks.all.iter().map(|walk| Network { address: walk.source, prefix: 32 }),
                );
            }
            self.table.serve_only(networks.into_iter().collect());
        }
        self.make_room_for_files();
        let counts = self.table.counts();
        self.counters.transfers.set(self.table.transfers() as u64);
        self.counters.requests.set(counts.requests);
        self.counters.not_served.set(counts.not_served);
        self.counters.waited.set(counts.waited);
        self.counters.dropped.set(counts.dropped);
        self.counters.full.set(counts.full);
        self.counters.displaced.set(counts.displaced);
        self.counters.guessed.set(counts.guessed);
        if counts.full > 0 {
            self.journal.look_at(Instant::now(), counts, self.plan.policy.limits.transfers_max);
        }
    }

    /// Transfers that stand still let go of their files when somebody, by TFTP or HTTP, finds no
    /// place for another one.
    fn make_room_for_files(&mut self) {
        let short = self.shelf.names().images.short_of_places();
        if short == std::mem::replace(&mut self.short_of_places, short) {
            return;
        }
        let now = self.now();
        for _ in 0..DISPLACED_AT_ONCE {
            if !self.table.displace_stillest(now) {
                return;
            }
        }
    }

    fn settle_failures(&mut self) {
        let now = self.now();
        for (id, error) in std::mem::take(&mut self.failed) {
            match error {
                SendError::ContentGone => {
                    let is_whole = self.table.content(id).is_some_and(|held| held.is_unchanged());
                    let why = if is_whole { Failure::Unreadable } else { Failure::ContentLost };
                    self.table.failed(now, id, why);
                }
                SendError::NoSegments => self.send_single_blocks_to(id),
                // The network's matter: the datagram is lost, and a timer brings it again.
                SendError::Other(_) => {}
            }
        }
    }

    /// A timer brings the lost blocks again, then one by one. Other clients are not concerned.
    fn send_single_blocks_to(&mut self, id: TransferId) {
        let Some(peer) = self.table.peer(id) else { return };
        if self.unsegmented.len() >= UNSEGMENTED_MAX {
            self.unsegmented.clear();
        }
        self.unsegmented.insert(peer.ip());
    }

    fn read_letters(&mut self) {
        while let Some(letter) = self.mailbox.take() {
            let reply = match &letter {
                Letter::Opened(_, opened) => Some(&opened.reply),
                Letter::Secured(_, reply) => Some(reply),
                Letter::Resident(_) | Letter::Asked(_) => None,
            };
            if let Some(Reply::Content(answer)) = reply {
                self.shelf.remember(&answer.content);
            }
            self.read(letter);
        }
    }

    fn read(&mut self, letter: Letter) {
        match letter {
            Letter::Opened(id, opened) => self.opened(id, opened),
            Letter::Secured(id, reply) => self.secured(id, reply),
            Letter::Resident(id) => self.table.resume(id),
            Letter::Asked(report) => drop(report.try_send(self.under_way())),
        }
    }

    /// What has not ended: files that are sent, and requests that wait.
    fn under_way(&self) -> Vec<UnderWay> {
        let now = self.now();
        let since = |at: Tick| Duration::from_nanos(now.saturating_sub(at));
        let one = |sight: Sight<'_, Held>| UnderWay {
            peer: sight.peer.ip().to_canonical(),
            name: match sight.content {
                Some(held) => held.asked.ask.path.display().into_owned(),
                None => sight.name.escape_ascii().to_string(),
            },
            age: since(sight.started),
            still: since(sight.moved_at),
            way: sight.block.map_or(Way::Waiting, |(block, blocks)| Way::Tftp { block, blocks }),
        };
        self.table.sights().map(one).collect()
    }

    /// Does what the table wants until it wants nothing more or no send slot is left.
    fn act(&mut self) {
        let now = self.now();
        while self.driver.has_room() {
            let Some(action) = self.table.poll(now) else { return };
            match action {
                Action::Open { id, peer, local, request } => {
                    let request = request.clone();
                    self.open(id, peer, local, &request);
                }
                Action::Datagram { peer, local, tid, bytes, turned_away } => {
                    let (socket, from) =
                        self.senders.way(&mut self.driver, self.first_tid, peer, local, tid);
                    // Lost where the ring is full: a timer brings it again.
                    let _ = self.driver.send(socket, Target::Ip(peer), from, bytes, NOBODY);
                    if let Some(refusal) =
                        turned_away.filter(|refusal| refusal.code != ErrorCode::UnknownTid)
                    {
                        let left_out = &self.counters.events_left_out;
                        self.journal.turned_away(
                            Instant::now(),
                            self.shelf.names(),
                            peer,
                            refusal,
                            left_out,
                        );
                    }
                }
                Action::Blocks {
                    id,
                    peer,
                    local,
                    tid,
                    content: held,
                    first,
                    block_size,
                    bytes,
                    blocks,
                    last,
                } => {
                    let (socket, from) =
                        self.senders.way(&mut self.driver, self.first_tid, peer, local, tid);
                    let run = Run { id, peer, from, socket, first, block_size };
                    let mtu = mtu_of(&mut self.mtus, local.interface);
                    let segments =
                        fits(mtu, peer, block_size) && !self.unsegmented.contains(&peer.ip());
                    let most = blocks_per_send(block_size).min(self.plan.segments_max);
                    let per_send = if segments { most } else { 1 };
                    let mut known = None;
                    let content = match &held.carried {
                        Carried::Whole(content) => Some(content),
                        Carried::Start(start) => {
                            Some(start).filter(|start| bytes.end <= start.len())
                        }
                        Carried::Known(weak) => {
                            known = weak.upgrade();
                            known.as_ref()
                        }
                    };
                    let sent = if let Some(content) = content {
                        if let Some(piece) = content.missing(&bytes) {
                            let (content, letters) = (content.clone(), self.letters.clone());
                            let then = move || letters.send(Letter::Resident(id));
                            if populate(&self.shelf, content, piece, then) {
                                Sent::Later
                            } else {
                                Sent::Postponed
                            }
                        } else if last && !content.is_unchanged() {
                            Sent::Gone
                        } else {
                            if let Some(piece) = content.claim_next_missing(&bytes) {
                                populate(&self.shelf, content.clone(), piece, || {});
                            }
                            send_run(&mut self.driver, &run, content, bytes, blocks, per_send)
                        }
                    } else {
                        Sent::NotHeld(Arc::clone(&held.asked))
                    };
                    // Its client is there, so that it holds the file from now on.
                    if let Some(content) = known.filter(|_| self.table.is_confirmed(id))
                        && let Some(held) = self.table.content_mut(id)
                    {
                        held.carried = Carried::Whole(content);
                    }
                    match sent {
                        Sent::All => {}
                        Sent::Some(count) => {
                            self.table.unsent(now, id, count);
                            match self.driver.is_blocked(socket) {
                                true => self.wait_for_room(id, socket),
                                false => self.starved.push(id),
                            }
                        }
                        Sent::Later => self.table.unsent(now, id, 0),
                        Sent::Postponed => {
                            self.table.unsent(now, id, 0);
                            self.postponed.push((id, now + BUSY_PAUSE));
                        }
                        Sent::NotHeld(asked) => {
                            self.table.unsent(now, id, 0);
                            self.look(id, asked, prepare_whole);
                        }
                        Sent::Gone => self.table.failed(now, id, Failure::ContentLost),
                    }
                }
                Action::Ended {
                    peer,
                    outcome,
                    name,
                    size_asked,
                    terms,
                    started,
                    tally,
                    content: held,
                    ..
                } => {
                    let time = now.saturating_sub(started);
                    let end = End { peer, outcome, terms, size_asked, tally, time };
                    let at = self.started + Duration::from_nanos(now);
                    let left_out = &self.counters.events_left_out;
                    self.journal.ended(at, self.shelf.names(), &end, name, held.as_ref(), left_out);
                }
            }
        }
    }
}

/// The token of sends that belong to no transfer.
const NOBODY: u64 = u64::MAX;

/// A run of blocks on its way out.
struct Run {
    id: TransferId,
    peer: SocketAddr,
    from: Option<Source>,
    socket: SocketId,
    first: u16,
    block_size: u16,
}

/// How much of a run has been queued.
enum Sent {
    All,
    /// So many blocks; the rest waits for send slots.
    Some(u32),
    /// Nothing: a worker makes the range resident first.
    Later,
    /// Nothing, and no worker has time to make the range resident.
    Postponed,
    /// Nothing: the content is looked up once more first.
    NotHeld(Arc<Asked>),
    /// The file is no longer what it was when the transfer began.
    Gone,
}

fn send_run(
    driver: &mut Driver,
    run: &Run,
    content: &Content,
    bytes: std::ops::Range<u64>,
    count: u32,
    per_send: u32,
) -> Sent {
    let mut done = 0;
    while done < count {
        let now = per_send.min(count - done);
        let start = bytes.start + u64::from(done) * u64::from(run.block_size);
        let end = (start + u64::from(now) * u64::from(run.block_size)).min(bytes.end);
        // Block numbers wrap from 65535 to 0 (T-24).
        let first = run.first.wrapping_add(u16::try_from(done & 0xffff).unwrap_or(0));
        let blocks =
            Blocks { content, first, block_size: run.block_size, bytes: start..end, count: now };
        if driver.send_blocks(run.socket, run.peer, run.from, &blocks, run.id.token()).is_err() {
            return Sent::Some(done);
        }
        done += now;
    }
    Sent::All
}

/// Whether a block of this size leaves as one frame: only then may the kernel cut a send into such
/// blocks.
fn fits(mtu: u16, peer: SocketAddr, block_size: u16) -> bool {
    let overhead = if peer.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    block_size <= mtu.saturating_sub(overhead)
}

/// Has a worker make a piece resident. False: every worker is busy and the queue is full.
fn populate(
    shelf: &Shelf,
    content: Content,
    piece: images::Piece,
    then: impl FnOnce() + Send + 'static,
) -> bool {
    let job = move || {
        // Told whatever becomes of it. What is not there then is asked for again.
        let _owed = Owed::new(|()| then(), |_| ());
        content.populate(piece);
    };
    shelf.names().images.workers().read(Urgency::Soon, job).is_ok()
}

/// The MTU of an interface, asked of the system once in a generation. Unknown interfaces count as
/// Ethernet.
fn mtu_of(mtus: &mut Vec<(u32, u16)>, interface: u32) -> u16 {
    const ETHERNET: u16 = crate::tftp::limits::MTU_DEFAULT;
    if let Some((_, mtu)) = mtus.iter().find(|(known, _)| *known == interface) {
        return *mtu;
    }
    // What the system does not tell now, for want of a descriptor, it may tell the next request.
    let Ok(all) = net::interfaces() else { return ETHERNET };
    let found = all.into_iter().find(|one| one.index == interface);
    let known = found.map(|one| one.mtu).filter(|mtu| *mtu > 0);
    let mtu = known.map_or(ETHERNET, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
    mtus.push((interface, mtu));
    mtu
}

/// Link-local peers are reached through the interface that they asked on; everything else as
/// routed.
fn interface_for(peer: &SocketAddr, local: Local) -> u32 {
    match peer {
        SocketAddr::V6(peer) if peer.ip().is_unicast_link_local() => local.interface,
        _ => 0,
    }
}

/// The driver's socket for a TID of the peer's family; without one, the listening socket answers
/// (T-47).
fn socket_for(first: (u16, u16), peer: SocketAddr, tid: Option<u16>) -> SocketId {
    match (tid, peer) {
        (Some(tid), SocketAddr::V4(_)) => SocketId(first.0 + tid),
        (Some(tid), SocketAddr::V6(_)) => SocketId(first.1 + tid),
        (None, _) => SocketId(0),
    }
}

/// Sockets that only send, one for each TID and each IPv4 address of ours that clients ask: what
/// leaves by them needs no control message, and the kernel numbers it more cheaply.
struct Senders {
    /// TIDs of IPv4.
    tids: u16,
    /// Address, and its first socket in the driver; None = there could be none.
    of: Vec<(Ipv4Addr, Option<u16>)>,
}

/// Addresses that get senders; what leaves from others names its source in a control message.
const SENDER_ADDRESSES_MAX: usize = 8;

impl Senders {
    /// The socket that answers this peer, and the source to name where the socket does not say it.
    fn way(
        &mut self,
        driver: &mut Driver,
        first_tid: (u16, u16),
        peer: SocketAddr,
        local: Local,
        tid: Option<u16>,
    ) -> (SocketId, Option<Source>) {
        if let (IpAddr::V4(address), Some(tid)) = (local.address, tid)
            && let Some(first) = self.first_of(driver, first_tid.0, address)
        {
            return (SocketId(first + tid), None);
        }
        let source = Source { address: local.address, interface: interface_for(&peer, local) };
        (socket_for(first_tid, peer, tid), Some(source))
    }

    fn first_of(&mut self, driver: &mut Driver, first_tid: u16, address: Ipv4Addr) -> Option<u16> {
        if let Some((_, first)) = self.of.iter().find(|(known, _)| *known == address) {
            return *first;
        }
        if self.of.len() >= SENDER_ADDRESSES_MAX {
            return None;
        }
        let sockets: io::Result<Vec<OwnedFd>> = (0..self.tids)
            .map(|tid| driver.sender_beside(SocketId(first_tid + tid), address))
            .collect();
        let added = sockets.ok().map(|sockets| {
            let ids: Vec<SocketId> =
                sockets.into_iter().map(|fd| driver.add(fd, address.into(), false)).collect();
            // Nothing is ever removed from this driver, so that they follow one another.
            ids.first().map_or(0, |first| first.0)
        });
        self.of.push((address, added));
        added
    }
}

fn getrandom(seed: &mut [u8; 8]) -> io::Result<()> {
    use std::io::Read;
    std::fs::File::open("/dev/urandom")?.read_exact(seed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;
    use std::sync::RwLock;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::engine::net::Binding;
    use crate::images::{Images, PIECE_BYTES, Workers};
    use crate::observe::events;
    use crate::render::Renderer;
    use crate::snapshot::{Published, Snapshot};

    const PATIENCE: Duration = Duration::from_secs(10);
    /// Long enough for a block that should not come: blocks take well under a millisecond here.
    const SILENCE: Duration = Duration::from_millis(150);
    const BLOCK_BYTES: usize = 65_464;

    fn socket() -> (SocketAddr, OwnedFd) {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let fd = net::udp(&Binding { address, interface: None, shared: false }).unwrap();
        (net::local_address(&fd).unwrap(), fd)
    }

    /// A core with one listening and one transfer socket on loopback.
    fn core(
        datapath: Datapath,
        root: &std::path::Path,
        workers: Workers,
        drain: &Drain,
    ) -> (Core, SocketAddr, Bell) {
        let names = Arc::new(Names {
            images: Images::open(root, workers).unwrap(),
            published: Published::new(Snapshot::default()),
            renderer: Renderer::default(),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        });
        let sockets = TftpSockets { listening: vec![socket()], tids: vec![socket()] };
        let server = sockets.listening[0].0;
        let plan = TftpPlan {
            listen: vec![server],
            tids: 1,
            port_range: None,
            policy: Policy { mtu: u16::MAX, tids: 1, ..Policy::default() },
            options_for: Arc::new(|_, _| OptionPolicy::default()),
            spin: Duration::ZERO,
            segments_max: 64,
            receive_buffers: 1024,
        };
        let (core, bell) = Core::new(
            datapath,
            sockets,
            &plan,
            &names,
            &events::queue().0,
            drain,
            &HttpBusy::default(),
        )
        .unwrap();
        (core, server, bell)
    }

    fn request(client: &UdpSocket, server: SocketAddr) -> SocketAddr {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"\0\x01image\0octet\0blksize\x0065464\0", server).unwrap();
        let mut bytes = [0; 1500];
        let (len, tid) = client.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"\0\x06blksize\x0065464\0");
        tid
    }

    #[test]
    fn a_window_leaves_in_sends_of_so_many_blocks_as_the_plan_allows() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("image"), [7; 8 * 512]).unwrap();
        let drain = Drain::default();
        let (mut core, server, bell) =
            core(Datapath::IoUring, directory.path(), Workers::start().unwrap(), &drain);
        core.plan.segments_max = 4;
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || core.run(&mut || ready.send(()).unwrap()));
        is_ready.recv_timeout(PATIENCE).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // What left in one send arrives as one.
        net::join_datagrams(&client).unwrap();
        client.send_to(b"\0\x01image\0octet\0windowsize\x008\0", server).unwrap();
        let mut bytes = vec![0; BLOCK_BYTES];
        let (_, tid) = client.recv_from(&mut bytes).unwrap();
        client.send_to(b"\0\x04\0\0", tid).unwrap();
        let arrived = [client.recv(&mut bytes).unwrap(), client.recv(&mut bytes).unwrap()];
        assert_eq!(arrived, [4 * (512 + 4); 2]);
        drain.order();
        bell.ring();
        client.send_to(b"\0\x05\0\0\0", tid).unwrap();
        assert_eq!(thread.join().unwrap(), Ok(()));
    }

    #[test]
    fn a_route_that_takes_no_segmented_sends_concerns_its_client_alone() {
        for datapath in Datapath::ALL {
            let directory = tempfile::tempdir().unwrap();
            let (core, server, _) =
                core(datapath, directory.path(), Workers::start().unwrap(), &Drain::default());
            let mut running = Running::new(core).unwrap();
            let client = SocketAddr::from(([127, 0, 0, 2], 4000));
            let local = Local { address: server.ip(), interface: 1 };
            running.table.handle_listen(0, client, local, false, b"\0\x01image\0octet\0");
            let Some(Action::Open { id, .. }) = running.table.poll(0) else {
                panic!("a request is opened")
            };
            running.failed.push((id, SendError::NoSegments));
            running.settle_failures();
            assert_eq!(running.unsegmented, HashSet::from([client.ip()]));
        }
    }

    #[test]
    fn a_transfer_that_finds_every_worker_busy_goes_on_when_one_is_free() {
        for datapath in Datapath::ALL {
            let directory = tempfile::tempdir().unwrap();
            std::fs::File::create(directory.path().join("image"))
                .unwrap()
                .set_len(2 * PIECE_BYTES + 100_000)
                .unwrap();
            let workers = Workers::start().unwrap();
            let drain = Drain::default();
            let (core, server, bell) = core(datapath, directory.path(), workers.clone(), &drain);
            let (ready, is_ready) = channel();
            let thread = std::thread::spawn(move || core.run(&mut || ready.send(()).unwrap()));
            is_ready.recv_timeout(PATIENCE).unwrap();

            // The core knows the file from a first request, so that the second needs no worker to
            // open it. With the first block, its piece and the next one are asked for.
            let first = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tid = request(&first, server);
            let mut bytes = vec![0; BLOCK_BYTES + 4];
            first.send_to(b"\0\x04\0\0", tid).unwrap();
            first.recv_from(&mut bytes).unwrap();
            first.send_to(b"\0\x05\0\x08\0", tid).unwrap();
            let gate = Arc::new(RwLock::new(()));
            let shut = gate.write().unwrap();
            let wait_at = |gate: &Arc<RwLock<()>>| {
                let gate = Arc::clone(gate);
                workers.read(Urgency::Soon, move || drop(gate.read()))
            };
            while wait_at(&gate).is_ok() {}

            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tid = request(&client, server);
            let resident = u16::try_from(2 * PIECE_BYTES / BLOCK_BYTES as u64).unwrap();
            for block in 0..resident {
                client.send_to(&[[0, 4], block.to_be_bytes()].concat(), tid).unwrap();
                client.recv_from(&mut bytes).unwrap();
                assert_eq!(bytes[2..4], (block + 1).to_be_bytes());
            }
            client.send_to(&[[0, 4], resident.to_be_bytes()].concat(), tid).unwrap();
            client.set_read_timeout(Some(SILENCE)).unwrap();
            assert!(client.recv_from(&mut bytes).is_err(), "the next block is not resident");
            drop(shut);
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.recv_from(&mut bytes).unwrap();
            assert_eq!(bytes[..4], [[0, 3], (resident + 1).to_be_bytes()].concat());

            drain.order();
            bell.ring();
            client.send_to(b"\0\x05\0\0\0", tid).unwrap();
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
    }
}
