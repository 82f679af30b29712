//! The DHCP thread: drives the pure `decide` with sockets, and lets no ACK leave before its lease
//! is durable.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::bind::DhcpSockets;
use super::control::DhcpControl;
use super::events::dhcp_event;
use super::letters::{Letter, Piece, Proposal, Sign, Standing, TAKEN, Tried};
use super::other_servers::{self, Findings, Neighbours, Parts};
use super::plan::{DhcpCounters, DhcpPlan};
use super::store_owner::StoreOwner;
use super::waiting::Waiting;
use super::ways::Ways;
use crate::dhcp::decide::{
    AnswerDatagram, AnswerKind, Decision, DhcpSilence, IncomingMessage, decide_answer,
};
use crate::dhcp::frame;
use crate::dhcp::lease::{BootTimes, ClockSeconds, Lease, LeaseChange, LeaseRowState, LeaseTable};
use crate::dhcp::limits::{CONFLICT_HOLD_S, PROBE_WAIT_MS};
use crate::dhcp::listing::LeaseFilter;
use crate::dhcp::neighbours::{self as look, LookResult, MonotonicMillis, PriorKnowledge};
use crate::dhcp::packet::Packet;
use crate::dhcp::pool_use::{PoolCrossing, PoolWatch};
use crate::dhcp::probes::{ConflictProbes, ProbeVerdict};
use crate::dhcp::route::{CLIENT_PORT, ReplyRoute};
use crate::dhcp::solicitation;
use crate::dhcp::subnet::{AnsweringMode, HoldReason, Subnet};
use crate::engine::clock;
use crate::engine::mailbox::{CoreMailbox, MailboxBell, MailboxSender};
use crate::engine::net::{self, NetworkInterface};
use crate::engine::udp::{
    DatagramSource, DatagramTarget, SendQueueFull, SocketId, TurnWait, UdpCompletion, UdpDriver,
};
use crate::model::machine::{FirmwareRole, Mac};
use crate::model::network::Ipv4Network;
use crate::observe::events::{EventKind, EventSender, EventWeight, MachineEvent, MachineStage};
use crate::observe::pace::{EventSource as Doer, LogGate, append_unsaid_count};
use crate::serve::core::{CoreError, CoreParts};
use crate::serve::drain::Drain;
use crate::serve::health::{StoreHealth, Trust};
use crate::serve::pulse::Pulse;
use crate::snapshot::{PublishedGeneration, PublishedState};
use crate::store::{NotQueued, StoreWriter};

/// Commits that may wait for the store; a request beyond is dropped, and its client asks again.
const COMMITS_PENDING_MAX: usize = 16_384;
/// Datagrams that are answered in one turn, before letters, signs of life and the order to stop are
/// looked at again: a millisecond or two.
const TURN_DATAGRAMS_MAX: usize = 256;
/// Letters that are read in one turn.
const TURN_LETTERS_MAX: usize = 256;
/// Offers that leave in one turn because nobody has answered for their address.
const TURN_OFFERS_MAX: usize = 256;
/// Router solicitations that are answered in one turn, and those that may wait.
const TURN_SOLICITATIONS_MAX: usize = 64;
const SOLICITATIONS_MAX: usize = 1024;
/// Lines of one kind and subnet in a second: of trouble that anybody can cause, and of steps of
/// boots.
const LINES_OF_TROUBLE: u32 = 1;
const LINES_OF_BOOTS: u32 = 200;
/// Sockets and local addresses whose subnet's own address is remembered.
const OWN_ADDRESSES_MAX: usize = 4096;
/// A packet of so many octets fits every link (RFC 791).
const PACKET_OCTETS_ANYWHERE: usize = 576;
/// How often expired leases and offers are looked through while nothing arrives.
const SWEEP: Duration = Duration::from_secs(1);
/// How much of a turn goes into what a new configuration makes of the leases.
const MOVE_IN_A_TURN: Duration = Duration::from_millis(1);
/// What is left to others on the same processor between two such turns: the thread of the store may
/// be one.
const MOVE_PAUSE: Duration = Duration::from_millis(1);
/// Rows that are taken over between two looks at the clock.
const MOVE_ROWS: usize = 256;
/// Leases that are copied for the store's writer in one turn.
const RECALLED_AT_ONCE: usize = 8192;
/// Rows that are looked at for a listing in one turn, and addresses that are freed in one.
const LISTED_AT_ONCE: usize = 4096;
/// Where a client says in its message for how long it has been asking (RFC 2131 section 2).
const SECS: std::ops::Range<usize> = 8..10;
/// Between signs of one kind to the thread that looks for other servers: whoever sends packets must
/// not fill its mailbox.
const SIGNS_APART: Duration = Duration::from_millis(2);
/// How long the last commits may take when told to stop.
const LAST_COMMITS_MAX: Duration = Duration::from_secs(5);
/// A wall clock that has moved by less against ours was not set.
const STEP_S: u64 = 2;

/// Everything of the thread before it runs.
#[derive(Debug)]
pub struct DhcpCore {
    parts: CoreParts,
    plan: DhcpPlan,
    sockets: DhcpSockets,
    letters: MailboxSender<Letter>,
    mailbox: CoreMailbox<Letter>,
    /// To the thread that looks for other servers.
    signs: Option<MailboxSender<Sign>>,
    counters: Arc<DhcpCounters>,
}

impl DhcpCore {
    pub fn new(
        parts: CoreParts,
        plan: DhcpPlan,
        sockets: DhcpSockets,
    ) -> io::Result<(Self, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let counters = Arc::default();
        let core = Self { parts, plan, sockets, letters, mailbox, signs: None, counters };
        Ok((core, bell))
    }

    /// The thread that looks after interfaces and other servers; what must be silent is so before
    /// the core runs.
    pub(crate) fn neighbours(&mut self) -> io::Result<(Neighbours, MailboxBell)> {
        let plan = &mut self.plan;
        let now = clock::now_s();
        let before = |look: &LookResult| match look.server {
            Some(_) => PriorKnowledge::Beside,
            None if plan.leases.is_leased(look.network, now) => PriorKnowledge::Alone,
            None => PriorKnowledge::Nothing,
        };
        let before: Vec<(Ipv4Network, PriorKnowledge)> =
            plan.looks.iter().map(|look| (look.network, before(look))).collect();
        let (neighbours, signs, bell) = Neighbours::new(Parts {
            published: Arc::clone(&plan.published),
            before: &before,
            wanted: std::mem::take(&mut self.sockets.interfaces),
            port: plan.port,
            findings: Arc::clone(&plan.findings),
            keep: std::mem::replace(&mut plan.keep_look, Box::new(|_| ())),
            core: self.letters.clone(),
            drain: self.parts.drain.clone(),
        })?;
        self.signs = Some(signs);
        Ok((neighbours, bell))
    }

    pub fn findings(&self) -> Arc<Findings> {
        Arc::clone(&self.plan.findings)
    }

    pub fn control(&self) -> DhcpControl {
        DhcpControl::new(self.letters.clone())
    }

    pub fn counters(&self) -> Arc<DhcpCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until drained. `ready` is called once, when datagrams are received.
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), CoreError> {
        let mut running = Running::new(self)?;
        running.turn(TurnWait::No)?;
        ready();
        running.serve()
    }
}

pub(super) struct Running {
    pub(super) driver: UdpDriver,
    pub(super) sockets: Vec<Option<String>>,
    ways: Ways,
    /// `listen-address`, in the place of interfaces.
    address: Option<Ipv4Addr>,
    port: u16,
    published: Arc<PublishedState>,
    /// The generation that decisions are made from; this core publishes the next one.
    generation: Arc<PublishedGeneration>,
    /// The one that comes next, while leases are put into its pools.
    pub(super) moving: Option<Box<Proposal>>,
    counters: Arc<DhcpCounters>,
    pub(super) leases: LeaseTable,
    writer: StoreWriter,
    health: Arc<StoreHealth>,
    waiting: Waiting<Received>,
    /// IPv6 router solicitations that wait for the same turn.
    solicitations: VecDeque<Solicitation>,
    pending: HashMap<u64, Pending>,
    /// Who waits until addresses are freed durably, by ticket.
    freeing: HashMap<u64, SyncSender<Option<usize>>>,
    /// Offers that wait until nobody has answered for their address, with what they answer.
    probes: ConflictProbes<(Pending, Received)>,
    started: Instant,
    next_ticket: u64,
    /// By how much the wall clock is ahead of the one that leases run on.
    wall_ahead_s: i64,
    interfaces: Arc<Vec<NetworkInterface>>,
    /// The places in `interfaces`.
    by_name: HashMap<String, usize>,
    /// Hardware addresses of this host.
    macs: HashSet<Mac>,
    /// Octets of a packet that fits every interface.
    mtu: usize,
    /// Every address of this host (D-20), in order.
    ours: Vec<Ipv4Addr>,
    /// [`Self::address_on`] and the place of the interface by socket and local address, as long as
    /// interfaces and subnets are what they were.
    pub(super) own_on: HashMap<(SocketId, Ipv4Addr), (Ipv4Addr, Option<usize>)>,
    /// The last word of the thread that looks for other servers.
    watched: Vec<Standing>,
    /// Subnets on which nothing may leave now: interfaces that are waited for, other servers.
    held: Vec<(Ipv4Network, HoldReason)>,
    said_no_address: bool,
    /// What was said of pools that fill, and when they were looked at last.
    pool_watch: PoolWatch,
    pools_watched_s: ClockSeconds,
    gate: LogGate,
    /// More waits than one turn takes: the next one does not sleep.
    is_behind: bool,
    seed: u64,
    events: EventSender,
    drain: Drain,
    mailbox: CoreMailbox<Letter>,
    signs: Option<MailboxSender<Sign>>,
    /// When each kind of sign was given last.
    signed: [Option<Instant>; 3],
    pulse: Pulse,
}

/// What waits for its commit.
pub(super) struct Pending {
    pub(super) decision: Decision,
    pub(super) way: Way,
}

/// Where a request came in, and so where its reply leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) socket: SocketId,
    pub(super) interface: u32,
    /// The address of ours that was asked; None where everybody was.
    pub(super) asked: Option<Ipv4Addr>,
}

/// Who asks for an IPv6 router, and the way back.
pub(super) struct Solicitation {
    pub(super) from: Option<Mac>,
    pub(super) source: SocketAddrV6,
    pub(super) socket: SocketId,
}

/// A datagram copied out of the driver, so that it can be answered while the driver is free.
#[derive(Clone)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) source: SocketAddrV4,
    pub(super) destination: Ipv4Addr,
    pub(super) local: Ipv4Addr,
    pub(super) way: Way,
    /// Option 53, as [`Packet::peek_type`] saw it.
    pub(super) kind: Option<u8>,
}

/// Values of option 53.
pub(super) const DISCOVER: u8 = 1;
pub(super) const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

impl Running {
    pub(super) fn new(core: DhcpCore) -> Result<Self, CoreError> {
        let DhcpCore { parts, plan, sockets, letters, mailbox, signs, counters } = core;
        let CoreParts { datapath, events, drain, pulse } = parts;
        let mut driver = UdpDriver::new(datapath)?;
        driver.listen_to(&mailbox);
        let mut names = Vec::new();
        for (address, interface, fd) in sockets.sockets {
            driver.add(fd, address.ip(), true);
            names.push(interface);
        }
        let ways = Ways::new(&mut driver, sockets.link);
        let owner = StoreOwner::new(letters, Arc::clone(&plan.health), plan.database);
        let mut running = Self {
            driver,
            sockets: names,
            ways,
            address: plan.address,
            port: plan.port,
            generation: plan.published.get(),
            moving: None,
            published: plan.published,
            counters,
            leases: plan.leases,
            writer: StoreWriter::start(plan.store, owner).map_err(|error| CoreError::System {
                what: "starting the store's writer",
                error,
            })?,
            health: plan.health,
            waiting: Waiting::default(),
            solicitations: VecDeque::new(),
            pending: HashMap::new(),
            freeing: HashMap::new(),
            probes: ConflictProbes::default(),
            started: Instant::now(),
            next_ticket: 1,
            wall_ahead_s: clock::wall_ahead_s(),
            interfaces: Arc::default(),
            by_name: HashMap::new(),
            macs: HashSet::new(),
            mtu: PACKET_OCTETS_ANYWHERE,
            ours: Vec::new(),
            own_on: HashMap::new(),
            watched: Vec::new(),
            held: Vec::new(),
            said_no_address: false,
            pool_watch: PoolWatch::default(),
            pools_watched_s: 0,
            gate: LogGate::new(LINES_OF_TROUBLE, LINES_OF_BOOTS),
            is_behind: false,
            seed: u64::from(std::process::id()),
            events,
            drain,
            mailbox,
            signs,
            signed: [None; 3],
            pulse,
        };
        running.hold();
        running.fill_bindings();
        let interfaces = net::list_interfaces()
            .map_err(|error| CoreError::System { what: "reading the interfaces", error })?;
        running.take_interfaces(Arc::new(interfaces));
        for interface in running.sockets.clone().iter().flatten() {
            running.hear_solicitations(interface);
        }
        Ok(running)
    }

    fn serve(&mut self) -> Result<(), CoreError> {
        let (mut last_commits_until, mut has_more_due) = (None, false);
        loop {
            let due = self
                .probes
                .wakes_at()
                .map(|at| Duration::from_millis(at.saturating_sub(self.now())));
            let pause = if self.moving.is_some() { MOVE_PAUSE } else { SWEEP };
            let sleep = TurnWait::AtMost(
                self.pulse.every().unwrap_or(SWEEP).min(pause).min(due.unwrap_or(SWEEP)),
            );
            self.turn(if has_more_due || self.is_behind { TurnWait::No } else { sleep })?;
            self.pulse.beat();
            // What one call leaves over is due in the next turn.
            let now = clock::now_s();
            has_more_due = self.leases.advance(now);
            self.watch_pools(now);
            self.say_steps();
            if self.drain.is_ordered() {
                let until =
                    *last_commits_until.get_or_insert_with(|| Instant::now() + LAST_COMMITS_MAX);
                if self.pending.is_empty() && self.driver.in_flight() == 0
                    || Instant::now() >= until
                {
                    return Ok(());
                }
            }
        }
    }

    /// One bounded turn, whatever comes: letters first, for they hold answers that are due and the
    /// word on who may be answered.
    pub(super) fn turn(&mut self, wait: TurnWait) -> Result<(), CoreError> {
        self.collect(Some(wait))?;
        self.is_behind = true;
        for _ in 0..TURN_LETTERS_MAX {
            let Some(letter) = self.mailbox.take() else {
                self.is_behind = false;
                break;
            };
            match letter {
                Letter::Committed { tickets, durable } => {
                    for ticket in tickets {
                        self.make_room()?;
                        self.finish(ticket, durable);
                    }
                }
                Letter::Recalled { from, done } => {
                    let (leases, next) = self.leases.piece(from, RECALLED_AT_ONCE);
                    let kept = leases
                        .filter(|lease| lease.state != LeaseRowState::Offered)
                        .cloned()
                        .collect();
                    let _ = done.send((kept, next));
                }
                Letter::Booted { done } => {
                    let _ = done.send(self.leases.booted().collect());
                }
                Letter::Loaded { leases, machines } => self.load(leases, machines),
                Letter::Watched(watched) => {
                    self.watched = watched;
                    self.hold();
                }
                Letter::Interfaces(interfaces) => self.take_interfaces(interfaces),
                Letter::InUse { address, host } => {
                    self.make_room()?;
                    self.in_use(address, host)?;
                }
                Letter::Bound { interface, socket } => self.listen_on(interface, socket),
                Letter::Gone(interface) => self.forget(&interface),
                Letter::Reconfigured(mut proposal) => {
                    self.leases.begin_move(std::mem::take(&mut proposal.layout));
                    self.moving = Some(proposal);
                }
                Letter::Listed { from, filter, done } => {
                    let _ = done.send(self.piece(from, filter));
                }
                Letter::Freed { addresses, force, done } => self.free(addresses, force, done)?,
                Letter::Pardoned { mac } => self.leases.pardon(mac),
                Letter::Tried { packet, network, done } => {
                    let _ = done.send(self.try_out(&packet, network));
                }
            }
        }
        for _ in 0..TURN_OFFERS_MAX {
            let Some((pending, _)) = self.probes.pass(self.now()) else { break };
            self.make_room()?;
            self.conclude(pending);
        }
        self.move_on();
        for _ in 0..TURN_SOLICITATIONS_MAX {
            let Some(solicitation) = self.solicitations.pop_front() else { break };
            self.make_room()?;
            self.answer_solicitation(&solicitation);
        }
        for _ in 0..TURN_DATAGRAMS_MAX {
            let Some(datagram) = self.waiting.take() else { break };
            self.count_message(datagram.kind);
            self.make_room()?;
            self.handle(&datagram)?;
        }
        self.is_behind |= !self.waiting.is_empty() || !self.solicitations.is_empty();
        self.count_leases();
        self.counters.pending.set(self.pending.len() as u64);
        Ok(())
    }

    fn count_leases(&self) {
        let (counters, counts) = (&self.counters, self.leases.counts());
        counters.leases.set(self.leases.len() as u64);
        counters.bound.set(counts.bound as u64);
        counters.offered.set(counts.offered as u64);
        counters.ended.set(counts.ended as u64);
        counters.kept_back.set(counts.kept_back as u64);
    }

    /// Once a second, whatever comes in: it costs what the subnets are.
    fn watch_pools(&mut self, now: ClockSeconds) {
        if std::mem::replace(&mut self.pools_watched_s, now) == now {
            return;
        }
        let served = self
            .generation
            .snapshot
            .dhcp
            .subnets
            .iter()
            .filter(|subnet| subnet.mode == AnsweringMode::Server);
        let pools = served.map(|subnet| (subnet.network, self.leases.used(subnet.network)));
        let (reports, said) = self.pool_watch.look(pools, now);
        if **self.counters.pools.load() != reports {
            self.counters.pools.store(Arc::new(reports));
        }
        for (network, used, crossing) in said {
            let kind = if crossing == PoolCrossing::RoomAgain {
                EventKind::PoolHasRoom
            } else {
                EventKind::PoolFills
            };
            self.events.push(MachineEvent::new(
                None,
                None,
                MachineStage::Dhcp,
                kind,
                crossing.sentence(network, &used),
            ));
        }
    }

    fn piece(&self, from: usize, filter: LeaseFilter) -> Piece {
        let now = clock::now_s();
        let (listed, next) = self.leases.listed(from, LISTED_AT_ONCE, now);
        let listed = listed.filter(|listed| filter.takes(listed)).collect();
        // The last one tells.
        let limited = if next.is_none() { self.leases.limited(now) } else { Vec::new() };
        Piece { listed, limited, now, next }
    }

    /// As a decision of nobody, which has changes and no answer.
    fn free(
        &mut self,
        addresses: Vec<Ipv4Addr>,
        force: bool,
        done: SyncSender<Option<usize>>,
    ) -> Result<(), CoreError> {
        let now = clock::now_s();
        let may_be =
            addresses.into_iter().filter(|address| self.leases.may_be_freed(*address, force, now));
        let changes: Vec<LeaseChange> =
            may_be.map(|address| LeaseChange::Free { address }).collect();
        let way = Way { socket: SocketId(0), interface: 0, asked: None };
        self.freeing.insert(self.next_ticket, done);
        self.commit(Pending { decision: Decision { changes, ..Decision::default() }, way })
    }

    fn load(&mut self, leases: Vec<Lease>, machines: BootTimes) {
        self.leases.load(leases, clock::now_s());
        self.leases.load_machines(machines);
        self.fill_bindings();
        self.health.set(Trust::Sound, "");
    }

    /// A subnet that nobody has looked at yet, at the start or after a reload, is silent.
    fn hold(&mut self) {
        let words: HashMap<Ipv4Network, &Standing> =
            self.watched.iter().map(|word| (word.network, word)).collect();
        let held = |(subnet, interface): (&Subnet, &String)| {
            let word =
                words.get(&subnet.network).filter(|standing| standing.is_of(subnet, interface));
            Some((
                subnet.network,
                word.map_or(Some(HoldReason::Looking), |standing| standing.held)?,
            ))
        };
        self.held = other_servers::watched(&self.generation.snapshot.dhcp.subnets, self.port)
            .filter_map(held)
            .collect();
        self.held.sort_unstable_by_key(|(network, _)| *network);
    }

    /// Goes on with a new configuration, a piece in each turn, however many leases there are:
    /// leases into its pools and slots, then the generation itself. Boot cores never see an empty
    /// slot of an address that is held.
    pub(super) fn move_on(&mut self) {
        let Some(proposal) = self.moving.take() else { return };
        if proposal.fate.is_withdrawn() {
            let _ = proposal.done.try_send(self.leases.drop_move());
            return;
        }
        let until = Instant::now() + MOVE_IN_A_TURN;
        let slots = &proposal.next.bindings;
        let told = |leases: &LeaseTable, address| {
            let _ = slots.write(address, leases.binding(address));
        };
        while !self.leases.move_on(MOVE_ROWS, told) {
            if Instant::now() >= until {
                self.moving = Some(proposal);
                return;
            }
        }
        if !proposal.fate.settle(TAKEN) {
            let _ = proposal.done.try_send(self.leases.drop_move());
            return;
        }
        let before = self.leases.finish_move();
        self.generation = Arc::clone(&proposal.next);
        self.own_on.clear();
        self.hold();
        self.published.publish(Arc::clone(&proposal.next));
        let _ = proposal.done.try_send(before);
    }

    /// What boot cores know of an address, by this generation and by the one that comes.
    pub(super) fn tell_of(&self, address: Ipv4Addr) {
        let binding = self.leases.binding(address);
        self.generation.bindings.write(address, binding);
        if let Some(proposal) = &self.moving {
            proposal.next.bindings.write(address, binding);
        }
    }

    /// `decide` changes nothing: its changes, its answer and its event are dropped with the
    /// decision.
    fn try_out(&mut self, packet: &[u8], network: Ipv4Network) -> Tried {
        let now = clock::now_s();
        self.leases.advance(now);
        let (interface, own_address) = self.way_in(network);
        let arrival = IncomingMessage {
            bytes: packet,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
            destination: Some(Ipv4Addr::BROADCAST),
            interface: interface.as_deref(),
            interface_address: own_address,
            here: interface
                .as_ref()
                .and_then(|name| self.interface_named(name))
                .map_or(&[], |one| &one.prefixes),
            ours: &self.ours,
            held: &self.held,
        };
        let decision =
            decide_answer(&arrival, &self.leases, &self.generation.snapshot.dhcp, now, self.seed);
        let own = decision
            .mac
            .into_iter()
            .flat_map(|mac| self.leases.of(mac))
            .filter(|lease| lease.firmware.is_some());
        let last_firmware = own.max_by_key(|lease| lease.end_s).and_then(|lease| lease.firmware);
        Tried { decision, last_firmware }
    }

    /// The interface on which messages of this subnet come in, and our address there; for relays
    /// any of ours.
    fn way_in(&self, network: Ipv4Network) -> (Option<String>, Ipv4Addr) {
        if let Some(address) = self.address {
            return (None, address);
        }
        let subnets = &self.generation.snapshot.dhcp.subnets;
        let named = subnets.named(network).and_then(|one| one.interface.clone());
        let interface = named.or_else(|| self.sockets.iter().flatten().next().cloned());
        let own = interface.as_ref().and_then(|name| self.interface_named(name));
        let first =
            own.and_then(|own| other_servers::ipv4(own).next()).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let address = self.address_on(interface.as_deref(), first);
        (interface, address)
    }

    fn fill_bindings(&self) {
        for lease in self.leases.iter() {
            self.generation.bindings.write(lease.address, self.leases.binding(lease.address));
        }
    }

    /// A batch of commits or of datagrams may hold more replies than there are send slots: those
    /// queued so far leave first, or are lost where their way is full. Nothing is waited for.
    fn make_room(&mut self) -> Result<(), CoreError> {
        if self.driver.has_room() { Ok(()) } else { self.collect(None) }
    }

    /// A whole turn of the driver, or (None) just the sends that are queued.
    fn collect(&mut self, wait: Option<TurnWait>) -> Result<(), CoreError> {
        let (drain, waiting, solicitations) =
            (&self.drain, &mut self.waiting, &mut self.solicitations);
        let counters = &self.counters;
        let on = |completion: UdpCompletion<'_>| {
            let datagram = match completion {
                UdpCompletion::Datagram(datagram) => datagram,
                UdpCompletion::Sent { result, .. } => {
                    return counters.failed.add(u64::from(result.is_err()));
                }
                UdpCompletion::Room(_) | UdpCompletion::Woken => return,
            };
            if let SocketAddr::V6(source) = datagram.from {
                if solicitations.len() < SOLICITATIONS_MAX && !drain.is_ordered() {
                    solicitations.push_back(Solicitation {
                        from: solicitation::find_solicitor(datagram.bytes, *source.ip()),
                        source,
                        socket: datagram.socket,
                    });
                }
                return;
            }
            let (SocketAddr::V4(source), IpAddr::V4(destination), IpAddr::V4(local)) =
                (datagram.from, datagram.destination, datagram.local)
            else {
                return;
            };
            if datagram.truncated || drain.is_ordered() {
                return;
            }
            let kind = Packet::peek_type(datagram.bytes);
            let begins = matches!(kind, None | Some(DISCOVER));
            if !waiting.has_room(begins) {
                counters.received.add(1);
                return counters.dropped.add(1);
            }
            let asked = (destination == local).then_some(local);
            let way = Way { socket: datagram.socket, interface: datagram.interface, asked };
            let bytes = datagram.bytes.to_vec();
            waiting.push(begins, Received { bytes, source, destination, local, way, kind });
        };
        let turned = match wait {
            Some(wait) => self.driver.turn(wait, on),
            None => self.driver.submit(on),
        };
        turned.map_err(CoreError::sockets("the DHCP core"))
    }

    pub(super) fn handle(&mut self, datagram: &Received) -> Result<(), CoreError> {
        if let Some(looker) = look::find_look_client(&datagram.bytes) {
            if self.macs.contains(&looker) {
                return Ok(());
            }
            if let Some(rival) = look::parse_rival_look(&datagram.bytes) {
                self.sign(Sign::Looked { interface: datagram.way.interface, rival });
                return Ok(());
            }
        }
        let interface =
            self.sockets.get(usize::from(datagram.way.socket.0)).and_then(Option::as_deref);
        let asked = (datagram.way.socket, datagram.local);
        let (own_address, place) = match self.own_on.get(&asked) {
            Some(known) => *known,
            None => {
                let place = interface.and_then(|name| self.by_name.get(name).copied());
                let known = (self.address_on(interface, datagram.local), place);
                if self.own_on.len() < OWN_ADDRESSES_MAX {
                    self.own_on.insert(asked, known);
                }
                known
            }
        };
        if own_address.is_unspecified() {
            self.say_no_address(datagram.way);
            return Ok(());
        }
        // Whatever was promised before is not known: any answer might be wrong.
        if self.health.trust() == Trust::Unread {
            return Ok(());
        }
        let now = clock::now_s();
        self.leases.advance(now);
        self.seed =
            self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let arrival = IncomingMessage {
            bytes: &datagram.bytes,
            source: datagram.source,
            destination: Some(datagram.destination),
            interface,
            interface_address: own_address,
            here: place
                .and_then(|place| self.interfaces.get(place))
                .map_or(&[], |one| &one.prefixes),
            ours: &self.ours,
            held: &self.held,
        };
        let decision =
            decide_answer(&arrival, &self.leases, &self.generation.snapshot.dhcp, now, self.seed);
        if let Some(sign) = sign(&decision, datagram) {
            self.sign(sign);
        }
        if matches!(decision.silence, Some(DhcpSilence::NoAddressFree(_))) {
            self.counters.exhausted.add(1);
        }
        if is_offer(&decision) && self.health.trust() == Trust::Broken {
            self.withhold(&decision);
            return Ok(());
        }
        let xid = decision.xid;
        self.leases.begin_commit(&decision.changes, xid, now);
        let pending = Pending { decision, way: datagram.way };
        if !pending.decision.changes.iter().any(LeaseChange::is_durable) {
            if let Some(pending) = self.ask_before(pending, datagram) {
                self.conclude(pending);
            }
        } else if self.pending.len() >= COMMITS_PENDING_MAX {
            self.counters.dropped_commits.add(1);
            self.leases.finish_commit(&pending.decision.changes, xid, false, now);
        } else {
            self.commit(pending)?;
        }
        Ok(())
    }

    /// No lease could follow: another server may have what we have not.
    fn withhold(&mut self, decision: &Decision) {
        self.health.note_withheld();
        let text = "no offer: the lease store is broken, and no lease could follow (`ringboot \
                    status` says why)";
        self.say(
            decision.network,
            MachineEvent::new(
                decision.mac,
                None,
                MachineStage::Dhcp,
                EventKind::Failed,
                text.to_owned(),
            ),
        );
    }

    fn now(&self) -> MonotonicMillis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(MonotonicMillis::MAX)
    }

    /// D-36: an OFFER of an address of which nothing is known waits a moment for whoever has the
    /// address; all else comes back, and leaves at once. A trial on another port asks nobody.
    fn ask_before(&mut self, pending: Pending, datagram: &Received) -> Option<Pending> {
        let offered = pending.decision.changes.iter().find_map(|change| match change {
            LeaseChange::Offer { address, .. } => Some(*address),
            _ => None,
        });
        let way = pending.decision.answer.as_ref().map(|answer| match answer.route {
            ReplyRoute::Relay { .. } => None,
            _ => Some(pending.way.interface),
        });
        let (Some(address), Some(interface), Some(client)) = (offered, way, pending.decision.mac)
        else {
            return Some(pending);
        };
        let is_unproven =
            pending.decision.unproven.is_some() && !self.probes.is_proven(address, self.now());
        let is_asked = is_unproven && self.port == look::PORT && interface != Some(0);
        let back = match self.signs.as_ref().filter(|_| is_asked) {
            Some(signs) => {
                let until = self.now().saturating_add(PROBE_WAIT_MS);
                let begun = self.probes.begin(address, client, (pending, datagram.clone()), until);
                if begun.is_ok() {
                    signs.send(Sign::Offers { address, interface });
                }
                begun
            }
            None if self.probes.is_asked(address) => {
                self.probes.replace(address, client, (pending, datagram.clone()))
            }
            None => return Some(pending),
        };
        back.err().map(|(pending, _)| pending)
    }

    /// The next address, for the same message.
    fn in_use(&mut self, address: Ipv4Addr, host: Option<Mac>) -> Result<(), CoreError> {
        let whom = host.map_or("a host".to_owned(), |host| host.to_string());
        match self.probes.answered(address, host, self.now()) {
            ProbeVerdict::Nothing => {}
            ProbeVerdict::Free((pending, _)) => self.conclude(pending),
            ProbeVerdict::Disbelieved((pending, _), is_first) => {
                if is_first {
                    // Once an hour: no line of an address before it takes its place.
                    let text = format!(
                        "{whom} answers for {address}, as for more addresses than a host has: it \
                         is not believed for an hour, and they are offered"
                    );
                    self.events.push(MachineEvent::new(
                        None,
                        None,
                        MachineStage::Dhcp,
                        EventKind::Conflict,
                        text,
                    ));
                }
                self.conclude(pending);
            }
            ProbeVerdict::InUse((pending, datagram)) => {
                let now = clock::now_s();
                if let Some(mac) = pending.decision.mac {
                    self.leases.keep_back(address, mac, now.saturating_add(CONFLICT_HOLD_S), now);
                }
                self.say_conflict(
                    address,
                    format!(
                        "{address} is in use by {whom}, to whom nobody has leased it: it is not \
                         offered for {} minutes",
                        CONFLICT_HOLD_S / 60
                    ),
                );
                self.handle(&datagram)?;
            }
        }
        Ok(())
    }

    fn say_conflict(&mut self, address: Ipv4Addr, text: String) {
        self.say(
            None,
            MachineEvent::new(
                None,
                Some(IpAddr::V4(address)),
                MachineStage::Dhcp,
                EventKind::Conflict,
                text,
            ),
        );
    }

    /// An answer would name 0.0.0.0 as its server. Said once: every client on that segment asks
    /// again and again.
    fn say_no_address(&mut self, way: Way) {
        if std::mem::replace(&mut self.said_no_address, true) {
            return;
        }
        let name = self
            .sockets
            .get(usize::from(way.socket.0))
            .and_then(Option::as_deref)
            .unwrap_or("a listening address");
        let text = format!(
            "{name} has no IPv4 address: what comes in there is not answered until it has one"
        );
        self.events.push(MachineEvent::new(
            None,
            None,
            MachineStage::Dhcp,
            EventKind::Failed,
            text,
        ));
    }

    fn commit(&mut self, pending: Pending) -> Result<(), CoreError> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let durable = pending.decision.changes.iter().filter(|change| change.is_durable());
        let changes = durable.cloned().collect();
        self.pending.insert(ticket, pending);
        // Before: the report may be there at once.
        self.health.note_queued();
        match self.writer.submit(ticket, changes) {
            Ok(()) => Ok(()),
            Err(NotQueued::Full) => {
                self.health.note_finished(1);
                self.counters.dropped_commits.add(1);
                self.finish(ticket, false);
                Ok(())
            }
            // Nobody would get a lease from now on: better to end, and to be started again.
            Err(gone @ NotQueued::Gone) => Err(gone.into()),
        }
    }

    /// A step of the wall clock changes nothing here, and times in the log.
    fn say_steps(&mut self) {
        let ahead_s = clock::wall_ahead_s();
        let by_s = ahead_s.saturating_sub(self.wall_ahead_s);
        if by_s.unsigned_abs() < STEP_S {
            return;
        }
        self.wall_ahead_s = ahead_s;
        let how = if by_s < 0 { "back" } else { "forward" };
        tracing::warn!(
            "the clock was set {how} by {} s: leases last as long as they were given",
            by_s.unsigned_abs()
        );
    }

    /// The store has spoken: the lease is durable and its ACK may leave, or it is not and nobody
    /// gets one.
    fn finish(&mut self, ticket: u64, durable: bool) {
        let Some(pending) = self.pending.remove(&ticket) else { return };
        let now = clock::now_s();
        self.leases.finish_commit(&pending.decision.changes, pending.decision.xid, durable, now);
        if let Some(done) = self.freeing.remove(&ticket) {
            let changes = &pending.decision.changes;
            changes.iter().for_each(|change| self.tell_of(change.address()));
            let _ = done.try_send(durable.then_some(changes.len()));
            return;
        }
        if !durable {
            let text =
                "the store could not keep the lease: no answer, the client asks again".to_owned();
            let (mac, network) = (pending.decision.mac, pending.decision.network);
            self.say(
                network,
                MachineEvent::new(mac, None, MachineStage::Dhcp, EventKind::Failed, text),
            );
            return;
        }
        self.conclude(pending);
    }

    /// Who holds an address is known to boot cores before the answer leaves: the machine's next
    /// packet may be a file request. An OFFER counts for a Raspberry Pi alone: a Pi 3 never sends a
    /// REQUEST.
    fn conclude(&mut self, pending: Pending) {
        let pi = pending
            .decision
            .firmware
            .is_some_and(|firmware| firmware.role == FirmwareRole::RaspberryPi);
        for change in pending.decision.changes.iter().filter(|change| pi || change.is_durable()) {
            self.tell_of(change.address());
        }
        // Before its answer: whoever has that may ask what happened.
        if let Some(event) = dhcp_event(&pending.decision) {
            self.say(pending.decision.network, event);
        }
        if let Some(answer) = &pending.decision.answer {
            self.send(answer, pending.way);
        }
    }

    /// Anybody can send messages without end: what they cause is in the machine's own timeline, and
    /// in the log as a few lines with a count.
    fn say(&mut self, network: Option<Ipv4Network>, mut event: MachineEvent) {
        if event.weight != EventWeight::Detail {
            let place = network.map(|network| IpAddr::V4(network.address));
            match self.gate.admit(&event.kind, place, Doer::of(&event), Instant::now()) {
                Some(unsaid) => event.text = append_unsaid_count(event.text, unsaid),
                None => event.weight = EventWeight::Detail,
            }
        }
        self.events.push(event);
    }

    fn count_message(&self, kind: Option<u8>) {
        let counters = &self.counters;
        counters.received.add(1);
        let of_kind = match kind {
            Some(DISCOVER) => &counters.discovers,
            Some(REQUEST) => &counters.requests,
            Some(DECLINE) => &counters.declines,
            Some(RELEASE) => &counters.releases,
            Some(INFORM) => &counters.informs,
            _ => &counters.others,
        };
        of_kind.add(1);
    }

    fn count_answer(&self, kind: AnswerKind) {
        let counters = &self.counters;
        counters.answered.add(1);
        match kind {
            AnswerKind::Offer => counters.offers.add(1),
            AnswerKind::Ack | AnswerKind::Parameters => counters.acks.add(1),
            AnswerKind::Nak => counters.naks.add(1),
            AnswerKind::Bootp => {}
        }
    }

    /// D-10 to D-16. Lost where its way is full: the client asks again, and nobody waits for it.
    fn send(&mut self, answer: &AnswerDatagram, way: Way) {
        self.count_answer(answer.kind);
        let from = DatagramSource { address: IpAddr::V4(answer.source), interface: way.interface };
        let to = |address: Ipv4Addr| DatagramTarget::Ip(SocketAddr::from((address, CLIENT_PORT)));
        let sent = match answer.route {
            ReplyRoute::Relay { address, port } => {
                self.send_routed(SocketAddrV4::new(address, port), answer, way)
            }
            ReplyRoute::Unicast(address) => {
                self.send_routed(SocketAddrV4::new(address, CLIENT_PORT), answer, way)
            }
            ReplyRoute::Neighbour { mac, address } | ReplyRoute::LinkLayer { mac, address } => {
                match self.ways.link(&mut self.driver, way.interface) {
                    Some(link) => self.send_frame(link, mac, address, answer, way),
                    None if matches!(answer.route, ReplyRoute::Neighbour { .. }) => {
                        self.driver.send(way.socket, to(address), Some(from), &answer.bytes, 0)
                    }
                    None => self.driver.send(
                        way.socket,
                        to(Ipv4Addr::BROADCAST),
                        Some(from),
                        &answer.bytes,
                        0,
                    ),
                }
            }
            ReplyRoute::Broadcast => {
                self.driver.send(way.socket, to(Ipv4Addr::BROADCAST), Some(from), &answer.bytes, 0)
            }
        };
        self.counters.unsent.add(u64::from(sent.is_err()));
    }

    fn send_frame(
        &mut self,
        link: SocketId,
        mac: Mac,
        to: Ipv4Addr,
        answer: &AnswerDatagram,
        way: Way,
    ) -> Result<(), SendQueueFull> {
        let from = SocketAddrV4::new(answer.source, self.port);
        let packet =
            frame::build_ipv4_datagram(from, SocketAddrV4::new(to, CLIENT_PORT), &answer.bytes)
                .ok_or(SendQueueFull)?;
        let target = DatagramTarget::Link { interface: way.interface, mac: mac.0 };
        self.driver.send(link, target, None, &packet, 0)
    }

    /// From the address that was asked, by whatever interface leads to the destination now. Where
    /// no packets can be written, or one is too long for some link, by the socket that the request
    /// came in by.
    fn send_routed(
        &mut self,
        to: SocketAddrV4,
        answer: &AnswerDatagram,
        way: Way,
    ) -> Result<(), SendQueueFull> {
        let asked = way.asked.unwrap_or(answer.source);
        let from = DatagramSource { address: IpAddr::V4(asked), interface: 0 };
        let packet =
            frame::build_ipv4_datagram(SocketAddrV4::new(asked, self.port), to, &answer.bytes);
        if let Some(packet) = packet.filter(|packet| packet.len() <= self.mtu)
            && let Ok(socket) = self.ways.routed(&mut self.driver, *to.ip())
        {
            return self.driver.send(socket, DatagramTarget::Ip(to.into()), Some(from), &packet, 0);
        }
        self.driver.send(way.socket, DatagramTarget::Ip(to.into()), Some(from), &answer.bytes, 0)
    }

    fn take_interfaces(&mut self, interfaces: Arc<Vec<NetworkInterface>>) {
        self.ours = interfaces.iter().flat_map(other_servers::ipv4).collect();
        self.ours.sort_unstable();
        self.ours.dedup();
        self.leases.keep_own(&self.ours);
        self.ways.keep(&mut self.driver, &interfaces);
        self.by_name = interfaces
            .iter()
            .enumerate()
            .rev()
            .map(|(place, one)| (one.name.clone(), place))
            .collect();
        self.macs = interfaces.iter().map(|one| Mac(one.mac)).collect();
        let smallest = interfaces.iter().map(|one| one.mtu as usize).min();
        self.mtu = smallest.map_or(usize::MAX, |mtu| mtu.max(PACKET_OCTETS_ANYWHERE));
        self.interfaces = interfaces;
        self.own_on.clear();
    }

    pub(super) fn interface_named(&self, name: &str) -> Option<&NetworkInterface> {
        self.interfaces.get(*self.by_name.get(name)?)
    }

    /// Tells the thread that looks for other servers, now and then: what is told comes once more.
    fn sign(&mut self, sign: Sign) {
        let Some(signs) = &self.signs else { return };
        let told = match sign {
            Sign::OtherServer(_) => &mut self.signed[0],
            Sign::ClientAsks { .. } => &mut self.signed[1],
            Sign::Looked { .. } | Sign::Offers { .. } => &mut self.signed[2],
        };
        if told.is_none_or(|at| at.elapsed() >= SIGNS_APART) {
            *told = Some(Instant::now());
            signs.send(sign);
        }
    }

    /// Our address on a client's segment: of an interface with several, the one inside the subnet
    /// that is served there. The kernel names the interface's first for every broadcast.
    fn address_on(&self, interface: Option<&str>, local: Ipv4Addr) -> Ipv4Addr {
        let served = |address: &Ipv4Addr| {
            let subnet = self.generation.snapshot.dhcp.subnets.of(*address);
            subnet.is_some_and(|subnet| subnet.interface.as_deref() == interface)
        };
        let Some(name) = interface else { return local };
        if served(&local) {
            return local;
        }
        let own = self.interface_named(name).and_then(|one| other_servers::ipv4(one).find(served));
        own.unwrap_or(local)
    }
}

fn is_offer(decision: &Decision) -> bool {
    decision.changes.iter().any(|change| matches!(change, LeaseChange::Offer { .. }))
}

/// What a message that is not answered tells of other servers.
fn sign(decision: &Decision, datagram: &Received) -> Option<Sign> {
    let interface = datagram.way.interface;
    match decision.silence {
        Some(DhcpSilence::OtherServer(_)) => Some(Sign::OtherServer(interface)),
        Some(DhcpSilence::Held(_, HoldReason::Looking)) => {
            let secs = datagram.bytes.get(SECS)?.try_into().ok()?;
            Some(Sign::ClientAsks { interface, since_s: u16::from_be_bytes(secs) })
        }
        _ => None,
    }
}
