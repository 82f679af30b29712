//! The DHCP thread: drives the pure `decide` with sockets, and lets no ACK leave before its lease is durable.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use super::drain::Drain;
use super::neighbours::{self, Findings, KeepLook, Neighbours, Parts, Sign, Standing};
use super::pulse::Pulse;
use super::supervisor::{Failure, refused};
use crate::boot::machine::{Firmware, Mac, Role};
use crate::dhcp::decide::{self, Answer, Arrival, Decision, Silence, Told, decide};
use crate::dhcp::frame;
use crate::dhcp::lease::{Change, Lease, Leases, State};
use crate::dhcp::neighbours::{Before, Look};
use crate::dhcp::route::{CLIENT_PORT, Route};
use crate::dhcp::solicitation;
use crate::dhcp::subnet::{Held, Network, Subnet};
use crate::engine::datapath::Datapath;
use crate::engine::mailbox::{Bell, Letters, Mailbox};
use crate::engine::net::{self, Binding, Interface};
use crate::engine::udp::{Completion, Driver, SocketId, Source, Target, Wait};
use crate::observe::counters::Count;
use crate::observe::events::{Event, Events, Kind, Stage, Weight};
use crate::observe::port_holder::Protocol;
use crate::snapshot::{Generation, Published};

/// Commits that may wait for the store; a request beyond is dropped, and its client asks again.
const COMMITS_PENDING_MAX: usize = 16_384;
/// Datagrams that may wait while replies find no send slot; those beyond are dropped, and their clients ask again.
const RECEIVED_MAX: usize = 16_384;
/// How often expired leases and offers are looked through while nothing arrives.
const SWEEP: Duration = Duration::from_secs(1);
/// How long control waits for a new generation to be taken.
const RECONFIGURED_MAX: Duration = Duration::from_secs(5);
/// Where a client says in its message for how long it has been asking (RFC 2131 section 2).
const SECS: std::ops::Range<usize> = 8..10;
/// How long the last commits may take when told to stop.
const LAST_COMMITS_MAX: Duration = Duration::from_secs(5);

/// The durable store's writer, as the DHCP core sees it: it reports each ticket to the [`Reporter`] exactly once.
pub trait LeaseWriter: Send {
    /// Queues changes to be committed together.
    fn write(&mut self, ticket: u64, changes: Vec<Change>) -> Result<(), NotQueued>;
}

/// Why the writer did not take a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotQueued {
    #[error("the store is behind, and its queue is full")]
    Full,
    #[error("the store's thread has ended")]
    Gone,
}

/// Told by the writer's thread: these tickets are durable (true), or their transaction failed (false).
pub type Reporter = Box<dyn Fn(&[u64], bool) + Send>;

/// Starts the writer; called once, by the core's maker.
pub type StartWriter = Box<dyn FnOnce(Reporter) -> io::Result<Box<dyn LeaseWriter>> + Send>;

/// Everything that the DHCP core is made of.
pub struct DhcpPlan {
    /// One socket on this address, for relays and loopback.
    pub address: Option<Ipv4Addr>,
    /// 67, unless a test or a demonstration says otherwise.
    pub port: u16,
    pub published: Arc<Published>,
    /// Loaded from the store.
    pub leases: Leases,
    pub start_writer: StartWriter,
    /// What the last looks for other servers found.
    pub looks: Vec<Look>,
    pub keep_look: KeepLook,
    pub findings: Arc<Findings>,
}

impl fmt::Debug for DhcpPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DhcpPlan").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The sockets, bound by the supervisor.
#[derive(Debug)]
pub struct DhcpSockets {
    sockets: Vec<(SocketAddr, Option<String>, OwnedFd)>,
    /// Interfaces that a socket is wanted on, with the index of the one that has it; the others are waited for.
    interfaces: Vec<(String, Option<u32>)>,
    /// For frames to clients that answer no ARP (D-15); without the privilege such replies are broadcast.
    link: Option<OwnedFd>,
}

impl DhcpSockets {
    /// For the READY line: interfaces and addresses.
    pub(super) fn names(&self) -> String {
        let name = |(address, interface, _): &(SocketAddr, Option<String>, OwnedFd)| match interface {
            Some(interface) => format!("{interface}:{}", address.port()),
            None => address.to_string(),
        };
        self.sockets.iter().map(name).collect::<Vec<_>>().join(",")
    }

    /// Those that are bound to no interface, and so stay for the life of the process.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter(|(_, interface, _)| interface.is_none()).map(|(address, ..)| *address).collect()
    }
}

/// Binds every DHCP socket of the plan.
pub(super) fn bind(plan: &DhcpPlan) -> Result<DhcpSockets, Failure> {
    let present = net::interfaces().map_err(|error| Failure::System { what: "reading the interfaces", error })?;
    let index = |name: &String| {
        let usable = |one: &&Interface| one.name == *name && neighbours::ipv4(one).next().is_some();
        present.iter().find(usable).map(|interface| interface.index)
    };
    let wanted = &plan.published.get().snapshot.dhcp_interfaces;
    let interfaces: Vec<(String, Option<u32>)> = wanted.iter().map(|name| (name.clone(), index(name))).collect();
    let mut sockets = Vec::new();
    let there = interfaces.iter().filter(|(_, index)| index.is_some());
    let on_interfaces = there.map(|(name, _)| (Ipv4Addr::UNSPECIFIED, Some(name.as_str())));
    for (address, interface) in on_interfaces.chain(plan.address.map(|address| (address, None))) {
        let address = SocketAddr::from((address, plan.port));
        let bound =
            net::udp(&Binding { address, interface, shared: false }).and_then(|fd| Ok((net::local_address(&fd)?, fd)));
        let (address, fd) = bound.map_err(refused("DHCP", Protocol::Udp, address))?;
        sockets.push((address, interface.map(ToOwned::to_owned), fd));
    }
    let link = net::link_sender();
    if let Err(error) = &link {
        tracing::warn!(
            "replies to clients without an address are broadcast: no packet socket ({error}); CAP_NET_RAW gives one"
        );
    }
    Ok(DhcpSockets { sockets, interfaces, link: link.ok() })
}

/// What other threads tell the core.
#[derive(Debug)]
pub(super) enum Letter {
    /// The writer: these tickets are durable, or are not.
    Committed { tickets: Vec<u64>, durable: bool },
    /// The word on every watched subnet.
    Watched(Vec<Standing>),
    /// An interface has come (again).
    Bound { interface: String, socket: OwnedFd },
    /// An interface has gone, and nothing comes in by its socket any more.
    Gone(String),
    /// Control: decide from this generation now, and publish it.
    Reconfigured { next: Arc<Generation>, done: SyncSender<()> },
    /// Control: what would this message get on that subnet? Nothing is sent, counted, kept or said.
    Tried { packet: Vec<u8>, network: Network, done: SyncSender<Tried> },
}

/// What a message would get, and what is known of its sender.
#[derive(Debug)]
pub struct Tried {
    pub decision: Decision,
    /// The firmware that the sender's last lease was for.
    pub last_firmware: Option<Firmware>,
}

/// Control's way to the core.
#[derive(Clone, Debug)]
pub struct DhcpControl(Letters<Letter>);

impl DhcpControl {
    /// A dry run of a client's message, as if it had come in on that subnet. None: the core did not answer.
    pub fn try_out(&self, packet: Vec<u8>, network: Network) -> Option<Tried> {
        let (done, is_done) = sync_channel(1);
        self.0.send(Letter::Tried { packet, network, done });
        is_done.recv_timeout(RECONFIGURED_MAX).ok()
    }

    /// Hands the next generation over and waits until the core has published it.
    pub(super) fn reconfigure(&self, next: Arc<Generation>) -> Result<(), String> {
        let (done, is_done) = sync_channel(1);
        self.0.send(Letter::Reconfigured { next, done });
        is_done
            .recv_timeout(RECONFIGURED_MAX)
            .map_err(|_| "the DHCP core did not take the new configuration".to_owned())
    }
}

/// What the DHCP core counts.
#[derive(Debug, Default)]
pub struct DhcpCounters {
    pub received: Count,
    pub answered: Count,
    /// Leases and offers in memory.
    pub leases: Count,
    /// ACKs that wait for their commit.
    pub pending: Count,
}

/// Everything of the thread before it runs.
#[derive(Debug)]
pub struct Core {
    datapath: Datapath,
    plan: DhcpPlan,
    sockets: DhcpSockets,
    events: Events,
    drain: Drain,
    letters: Letters<Letter>,
    mailbox: Mailbox<Letter>,
    /// To the thread that looks for other servers.
    signs: Option<Letters<Sign>>,
    counters: Arc<DhcpCounters>,
    pulse: Pulse,
}

impl Core {
    pub fn new(
        datapath: Datapath,
        plan: DhcpPlan,
        sockets: DhcpSockets,
        events: &Events,
        drain: &Drain,
    ) -> io::Result<(Self, Bell)> {
        let (letters, mailbox) = Mailbox::new()?;
        let bell = mailbox.bell();
        let (events, drain) = (events.clone(), drain.clone());
        let (pulse, counters) = (Pulse::default(), Arc::default());
        Ok((Self { datapath, plan, sockets, events, drain, letters, mailbox, signs: None, counters, pulse }, bell))
    }

    /// The thread that looks after interfaces and other servers; what must be silent is so before the core runs.
    pub(super) fn neighbours(&mut self) -> io::Result<(Neighbours, Bell)> {
        let plan = &mut self.plan;
        let now = unix_now();
        let before = |look: &Look| match look.server {
            Some(_) => Before::Beside,
            None if plan.leases.is_leased(look.network, now) => Before::Alone,
            None => Before::Nothing,
        };
        let before: Vec<(Network, Before)> = plan.looks.iter().map(|look| (look.network, before(look))).collect();
        let (neighbours, signs, bell) = Neighbours::new(Parts {
            published: Arc::clone(&plan.published),
            before: &before,
            wanted: std::mem::take(&mut self.sockets.interfaces),
            port: plan.port,
            findings: Arc::clone(&plan.findings),
            keep: std::mem::replace(&mut plan.keep_look, Box::new(|_| ())),
            core: self.letters.clone(),
            drain: self.drain.clone(),
        })?;
        self.signs = Some(signs);
        Ok((neighbours, bell))
    }

    pub(super) fn findings(&self) -> Arc<Findings> {
        Arc::clone(&self.plan.findings)
    }

    pub(super) fn control(&self) -> DhcpControl {
        DhcpControl(self.letters.clone())
    }

    pub fn counters(&self) -> Arc<DhcpCounters> {
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
    sockets: Vec<Option<String>>,
    /// The packet socket, the last of the driver's.
    link: Option<SocketId>,
    /// `listen-address`, in the place of interfaces.
    address: Option<Ipv4Addr>,
    port: u16,
    published: Arc<Published>,
    /// The generation that decisions are made from; this core publishes the next one.
    generation: Arc<Generation>,
    counters: Arc<DhcpCounters>,
    leases: Leases,
    writer: Box<dyn LeaseWriter>,
    received: VecDeque<Received>,
    /// IPv6 router solicitations that wait for the same turn.
    solicitations: Vec<Solicitation>,
    pending: HashMap<u64, Pending>,
    next_ticket: u64,
    interfaces: Vec<Interface>,
    /// When the interfaces were listed last.
    learned: Instant,
    /// Every address of this host (D-20).
    ours: Vec<Ipv4Addr>,
    /// The last word of the thread that looks for other servers.
    watched: Vec<Standing>,
    /// Subnets on which nothing may leave now: interfaces that are waited for, other servers.
    held: Vec<(Network, Held)>,
    said_no_address: bool,
    seed: u64,
    events: Events,
    drain: Drain,
    mailbox: Mailbox<Letter>,
    signs: Option<Letters<Sign>>,
    pulse: Pulse,
}

/// What waits for its commit.
struct Pending {
    decision: Decision,
    way: Way,
}

/// Where a request came in, and so where its reply leaves.
#[derive(Clone, Copy, Debug)]
struct Way {
    socket: SocketId,
    interface: u32,
}

/// Who asks for an IPv6 router, and the way back.
struct Solicitation {
    from: Option<Mac>,
    source: SocketAddrV6,
    socket: SocketId,
}

/// A datagram copied out of the driver, so that it can be answered while the driver is free.
struct Received {
    bytes: Vec<u8>,
    source: SocketAddrV4,
    destination: Ipv4Addr,
    local: Ipv4Addr,
    way: Way,
}

impl Running {
    fn new(core: Core) -> Result<Self, Box<dyn std::error::Error>> {
        let Core { datapath, plan, sockets, events, drain, letters, mailbox, signs, counters, pulse } = core;
        let mut driver = Driver::new(datapath)?;
        driver.listen_to(&mailbox);
        let mut names = Vec::new();
        for (address, interface, fd) in sockets.sockets {
            driver.add(fd, address.ip(), true);
            names.push(interface);
        }
        let link = sockets.link.map(|fd| driver.add(fd, IpAddr::V4(Ipv4Addr::UNSPECIFIED), false));
        let reporter: Reporter =
            Box::new(move |tickets, durable| letters.send(Letter::Committed { tickets: tickets.to_vec(), durable }));
        let mut running = Self {
            driver,
            sockets: names,
            link,
            address: plan.address,
            port: plan.port,
            generation: plan.published.get(),
            published: plan.published,
            counters,
            leases: plan.leases,
            writer: (plan.start_writer)(reporter)?,
            received: VecDeque::new(),
            solicitations: Vec::new(),
            pending: HashMap::new(),
            next_ticket: 1,
            interfaces: Vec::new(),
            learned: Instant::now(),
            ours: Vec::new(),
            watched: Vec::new(),
            held: Vec::new(),
            said_no_address: false,
            seed: u64::from(std::process::id()),
            events,
            drain,
            mailbox,
            signs,
            pulse,
        };
        running.hold();
        running.fill_bindings();
        running.learn_own_addresses();
        for interface in running.sockets.clone().iter().flatten() {
            running.hear_solicitations(interface);
        }
        Ok(running)
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut last_commits_until = None;
        loop {
            self.turn(Wait::AtMost(self.pulse.every().unwrap_or(SWEEP).min(SWEEP)))?;
            self.pulse.beat();
            self.leases.advance(unix_now());
            if self.drain.is_ordered() {
                let until = *last_commits_until.get_or_insert_with(|| Instant::now() + LAST_COMMITS_MAX);
                if self.pending.is_empty() && self.driver.in_flight() == 0 || Instant::now() >= until {
                    return Ok(());
                }
            }
        }
    }

    fn turn(&mut self, wait: Wait) -> Result<(), String> {
        self.collect(wait)?;
        while let Some(letter) = self.mailbox.take() {
            match letter {
                Letter::Committed { tickets, durable } => {
                    for ticket in tickets {
                        self.make_room()?;
                        self.finish(ticket, durable);
                    }
                }
                Letter::Watched(watched) => {
                    self.watched = watched;
                    self.hold();
                }
                Letter::Bound { interface, socket } => self.listen_on(interface, socket),
                Letter::Gone(interface) => self.forget(&interface),
                Letter::Reconfigured { next, done } => {
                    self.reconfigure(next);
                    let _ = done.send(());
                }
                Letter::Tried { packet, network, done } => {
                    let _ = done.send(self.try_out(&packet, network));
                }
            }
        }
        for solicitation in std::mem::take(&mut self.solicitations) {
            self.make_room()?;
            self.answer_solicitation(&solicitation);
        }
        while let Some(datagram) = self.received.pop_front() {
            self.counters.received.add(1);
            self.make_room()?;
            self.handle(&datagram)?;
        }
        self.counters.leases.set(self.leases.len() as u64);
        self.counters.pending.set(self.pending.len() as u64);
        Ok(())
    }

    /// A subnet that nobody has looked at yet, at the start or after a reload, is silent.
    fn hold(&mut self) {
        let held = |(subnet, interface): (&Subnet, &String)| {
            let word = self.watched.iter().find(|standing| standing.is_of(subnet, interface));
            Some((subnet.network, word.map_or(Some(Held::Looking), |standing| standing.held)?))
        };
        self.held = neighbours::watched(&self.generation.snapshot.subnets, self.port).filter_map(held).collect();
    }

    fn listen_on(&mut self, interface: String, socket: OwnedFd) {
        let id = usize::from(self.driver.add(socket, IpAddr::V4(Ipv4Addr::UNSPECIFIED), true).0);
        // The packet socket has a place in the driver, and no interface of its own.
        self.sockets.resize(self.sockets.len().max(id + 1), None);
        self.hear_solicitations(&interface);
        if let Some(place) = self.sockets.get_mut(id) {
            *place = Some(interface);
        }
    }

    /// Without IPv6 on the interface or without the privilege, iPXE waits for its router as it always did.
    fn hear_solicitations(&mut self, interface: &str) {
        let index = net::interface_index(interface);
        match net::router_solicitations(interface, index) {
            Ok(socket) => {
                let id = usize::from(self.driver.add(socket, IpAddr::V6(Ipv6Addr::UNSPECIFIED), true).0);
                self.sockets.resize(self.sockets.len().max(id + 1), None);
                if let Some(place) = self.sockets.get_mut(id) {
                    *place = Some(interface.to_owned());
                }
            }
            Err(error) => tracing::debug!("no router solicitations are heard on {interface}: {error}"),
        }
    }

    /// An iPXE that holds a lease of ours, and nobody else, is told that there is no IPv6 router: it need not wait for one.
    fn answer_solicitation(&mut self, solicitation: &Solicitation) {
        let now = unix_now();
        let is_booting = |lease: &Lease| {
            let is_ipxe = lease.firmware.is_some_and(|firmware| firmware.role == Role::Ipxe);
            Some(lease.mac) == solicitation.from && is_ipxe && lease.state == State::Bound && lease.end_s > now
        };
        let interface = self.sockets.get(usize::from(solicitation.socket.0)).and_then(Option::as_deref);
        let own = self.interfaces.iter().find(|one| Some(one.name.as_str()) == interface);
        let (Some(own), true) = (own, self.leases.iter().any(is_booting)) else { return };
        let mut to = solicitation.source;
        to.set_port(0);
        let message = solicitation::no_router_here(Mac(own.mac));
        // Lost where the ring is full: iPXE solicits again.
        let _ = self.driver.send(solicitation.socket, Target::Ip(SocketAddr::V6(to)), None, &message, 0);
    }

    fn forget(&mut self, interface: &str) {
        let is_its = |name: &Option<String>| name.as_deref() == Some(interface);
        while let Some(place) = self.sockets.iter().position(is_its) {
            self.sockets[place] = None;
            self.driver.remove(SocketId(u16::try_from(place).unwrap_or(u16::MAX)));
        }
    }

    /// Leases first, then the slots of the new generation, then the generation itself: boot cores never see an empty slot of
    /// an address that is held.
    fn reconfigure(&mut self, next: Arc<Generation>) {
        self.leases.reconfigure(&next.snapshot.subnets, unix_now());
        self.generation = Arc::clone(&next);
        self.hold();
        self.fill_bindings();
        self.published.publish(next);
    }

    /// `decide` changes nothing: its changes, its answer and its event are dropped with the decision.
    fn try_out(&mut self, packet: &[u8], network: Network) -> Tried {
        self.learn_own_addresses();
        let now = unix_now();
        self.leases.advance(now);
        let (interface, own_address) = self.way_in(network);
        let arrival = Arrival {
            bytes: packet,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
            destination: Some(Ipv4Addr::BROADCAST),
            interface: interface.as_deref(),
            interface_address: own_address,
            ours: &self.ours,
            held: &self.held,
        };
        let decision = decide(&arrival, &self.leases, &self.generation.snapshot, now, self.seed);
        let own = self.leases.iter().filter(|lease| Some(lease.mac) == decision.mac && lease.firmware.is_some());
        let last_firmware = own.max_by_key(|lease| lease.end_s).and_then(|lease| lease.firmware);
        Tried { decision, last_firmware }
    }

    /// The interface on which messages of this subnet come in, and our address there; for relays any of ours.
    fn way_in(&self, network: Network) -> (Option<String>, Ipv4Addr) {
        if let Some(address) = self.address {
            return (None, address);
        }
        let subnets = &self.generation.snapshot.subnets;
        let named = subnets.iter().find(|subnet| subnet.network == network).and_then(|one| one.interface.clone());
        let interface = named.or_else(|| self.sockets.iter().flatten().next().cloned());
        let own = self.interfaces.iter().filter(|one| Some(&one.name) == interface.as_ref());
        let mut own = own.flat_map(neighbours::ipv4);
        let first = own.next().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let address = self.address_on(interface.as_deref(), first);
        (interface, address)
    }

    fn fill_bindings(&self) {
        for lease in self.leases.iter() {
            self.generation.bindings.write(lease.address, self.leases.binding(lease.address));
        }
    }

    /// A batch of commits or of datagrams may hold more replies than there are send slots: those queued so far leave first.
    fn make_room(&mut self) -> Result<(), String> {
        while !self.driver.has_room() {
            self.collect(Wait::AtMost(SWEEP))?;
        }
        Ok(())
    }

    fn collect(&mut self, wait: Wait) -> Result<(), String> {
        let (drain, received, solicitations) = (&self.drain, &mut self.received, &mut self.solicitations);
        let turned = self.driver.turn(wait, |completion| {
            let Completion::Datagram(datagram) = completion else { return };
            if let SocketAddr::V6(source) = datagram.from {
                if solicitations.len() < RECEIVED_MAX && !drain.is_ordered() {
                    solicitations.push(Solicitation {
                        from: solicitation::solicitor(datagram.bytes, *source.ip()),
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
            if !datagram.truncated && !drain.is_ordered() && received.len() < RECEIVED_MAX {
                let way = Way { socket: datagram.socket, interface: datagram.interface };
                received.push_back(Received { bytes: datagram.bytes.to_vec(), source, destination, local, way });
            }
        });
        turned.map_err(|error| format!("the sockets of the DHCP core failed: {error}"))
    }

    fn handle(&mut self, datagram: &Received) -> Result<(), String> {
        // At most once in a while: a storm on an interface without an address must not list all interfaces for each datagram.
        if !self.ours.contains(&datagram.local) && self.learned.elapsed() >= SWEEP {
            self.learn_own_addresses();
        }
        let interface = self.sockets.get(usize::from(datagram.way.socket.0)).and_then(Option::as_deref);
        let own_address = self.address_on(interface, datagram.local);
        if own_address.is_unspecified() {
            self.say_no_address(datagram.way);
            return Ok(());
        }
        let now = unix_now();
        self.leases.advance(now);
        self.seed = self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let arrival = Arrival {
            bytes: &datagram.bytes,
            source: datagram.source,
            destination: Some(datagram.destination),
            interface,
            interface_address: own_address,
            ours: &self.ours,
            held: &self.held,
        };
        let decision = decide(&arrival, &self.leases, &self.generation.snapshot, now, self.seed);
        if let Some((sign, signs)) = sign(&decision, datagram).zip(self.signs.as_ref()) {
            signs.send(sign);
        }
        let xid = decision.xid;
        self.leases.begin_commit(&decision.changes, xid, now);
        let pending = Pending { decision, way: datagram.way };
        if !pending.decision.changes.iter().any(Change::is_durable) {
            self.conclude(pending);
        } else if self.pending.len() >= COMMITS_PENDING_MAX {
            self.leases.finish_commit(&pending.decision.changes, xid, false, now);
        } else {
            self.commit(pending)?;
        }
        Ok(())
    }

    /// An answer would name 0.0.0.0 as its server. Said once: every client on that segment asks again and again.
    fn say_no_address(&mut self, way: Way) {
        if std::mem::replace(&mut self.said_no_address, true) {
            return;
        }
        let name =
            self.sockets.get(usize::from(way.socket.0)).and_then(Option::as_deref).unwrap_or("a listening address");
        let text = format!("{name} has no IPv4 address: what comes in there is not answered until it has one");
        let (stage, weight, kind) = (Stage::Dhcp, Weight::Warning, Kind::Failed);
        self.events.push(Event { mac: None, address: None, stage, weight, kind, text, attempt: None });
    }

    fn commit(&mut self, pending: Pending) -> Result<(), String> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let changes = pending.decision.changes.iter().filter(|change| change.is_durable()).cloned().collect();
        self.pending.insert(ticket, pending);
        match self.writer.write(ticket, changes) {
            Ok(()) => Ok(()),
            Err(NotQueued::Full) => {
                self.finish(ticket, false);
                Ok(())
            }
            // Nobody would get a lease from now on: better to end, and to be started again.
            Err(gone) => Err(gone.to_string()),
        }
    }

    /// The store has spoken: the lease is durable and its ACK may leave, or it is not and nobody gets one.
    fn finish(&mut self, ticket: u64, durable: bool) {
        let Some(pending) = self.pending.remove(&ticket) else { return };
        let now = unix_now();
        self.leases.finish_commit(&pending.decision.changes, pending.decision.xid, durable, now);
        if !durable {
            let text = "the store could not keep the lease: no answer, the client asks again".to_owned();
            self.events.push(Event {
                mac: pending.decision.mac,
                address: None,
                stage: Stage::Dhcp,
                weight: Weight::Warning,
                kind: Kind::Failed,
                text,
                attempt: None,
            });
            return;
        }
        self.conclude(pending);
    }

    /// Who holds an address is known to boot cores before the answer leaves: the machine's next packet may be a file request.
    /// An OFFER counts for a Raspberry Pi alone: a Pi 3 never sends a REQUEST.
    fn conclude(&mut self, pending: Pending) {
        let pi = pending.decision.firmware.is_some_and(|firmware| firmware.role == Role::RaspberryPi);
        for change in pending.decision.changes.iter().filter(|change| pi || change.is_durable()) {
            self.generation.bindings.write(change.address(), self.leases.binding(change.address()));
        }
        if let Some(answer) = &pending.decision.answer {
            self.send(answer, pending.way);
        }
        if let Some(event) = dhcp_event(&pending.decision) {
            self.events.push(event);
        }
    }

    /// D-10 to D-16: from our address on the receiving interface, out of that interface. Lost where the ring is full: the client
    /// asks again.
    fn send(&mut self, answer: &Answer, way: Way) {
        self.counters.answered.add(1);
        let from = Source { address: IpAddr::V4(answer.source), interface: way.interface };
        let routed = Source { interface: 0, ..from };
        let to = |address: Ipv4Addr, port: u16| Target::Ip(SocketAddr::from((address, port)));
        let _ = match answer.route {
            Route::Relay { address, port } => {
                self.driver.send(way.socket, to(address, port), Some(routed), &answer.bytes, 0)
            }
            Route::Unicast(address) => {
                self.driver.send(way.socket, to(address, CLIENT_PORT), Some(from), &answer.bytes, 0)
            }
            Route::LinkLayer { mac, address } if self.link.is_some() && way.interface > 0 => {
                let source = SocketAddrV4::new(answer.source, self.port);
                let packet = frame::datagram(source, SocketAddrV4::new(address, CLIENT_PORT), &answer.bytes);
                let (Some(packet), Some(link)) = (packet, self.link) else { return };
                let target = Target::Link { interface: way.interface, mac: mac.0 };
                self.driver.send(link, target, None, &packet, 0)
            }
            Route::Broadcast | Route::LinkLayer { .. } => {
                self.driver.send(way.socket, to(Ipv4Addr::BROADCAST, CLIENT_PORT), Some(from), &answer.bytes, 0)
            }
        };
    }

    fn learn_own_addresses(&mut self) {
        self.learned = Instant::now();
        self.interfaces = net::interfaces().unwrap_or_default();
        self.ours = self.interfaces.iter().flat_map(neighbours::ipv4).collect();
    }

    /// Our address on a client's segment: of an interface with several, the one inside the subnet that is served there. The kernel
    /// names the interface's first for every broadcast.
    fn address_on(&self, interface: Option<&str>, local: Ipv4Addr) -> Ipv4Addr {
        let served = |address: &Ipv4Addr| {
            let subnets = &self.generation.snapshot.subnets;
            subnets.iter().any(|subnet| subnet.interface.as_deref() == interface && subnet.network.contains(*address))
        };
        let Some(name) = interface else { return local };
        if served(&local) {
            return local;
        }
        let own = self.interfaces.iter().filter(|one| one.name == name).flat_map(neighbours::ipv4).find(served);
        own.unwrap_or(local)
    }
}

/// What a message that is not answered tells of other servers.
fn sign(decision: &Decision, datagram: &Received) -> Option<Sign> {
    let interface = datagram.way.interface;
    match decision.silence {
        Some(Silence::OtherServer(_)) => Some(Sign::OtherServer(interface)),
        Some(Silence::Held(_, Held::Looking)) => {
            let secs = datagram.bytes.get(SECS)?.try_into().ok()?;
            Some(Sign::ClientAsks { interface, since_s: u16::from_be_bytes(secs) })
        }
        _ => None,
    }
}

/// The log's line: what was decided, with its reasons.
fn dhcp_event(decision: &Decision) -> Option<Event> {
    let event = decision.event.as_ref()?;
    let weight = match event.weight {
        decide::Weight::Detail => Weight::Detail,
        decide::Weight::Step => Weight::Step,
        decide::Weight::Warning => Weight::Warning,
    };
    Some(Event {
        mac: Some(event.mac),
        address: event.address.map(IpAddr::V4),
        stage: Stage::Dhcp,
        weight,
        kind: kind_of(&event.told, decision),
        text: event.text.clone(),
        attempt: None,
    })
}

/// The decision in the terms of the timeline.
fn kind_of(told: &Told, decision: &Decision) -> Kind {
    let to = decision.firmware.unwrap_or(Firmware { role: Role::System, arch: None });
    match told {
        Told::Offered => Kind::Offered { to },
        Told::Leased => Kind::Leased { to },
        Told::Renewed => Kind::Renewed,
        Told::Parameters => Kind::Other,
        Told::NoLoader(why) => Kind::NoLoader { to, why: why.clone() },
        Told::Refused => Kind::Nak,
        Told::Silent(silence) => match silence {
            Silence::NoAddressFree(_) => Kind::NoAddressFree,
            Silence::OtherServer(server) => Kind::OtherServer { server: *server },
            Silence::NoSubnet(_) | Silence::SubnetOff(_) | Silence::NotPxe(_) | Silence::NotReserved(_) => {
                Kind::NotAdmitted
            }
            Silence::Declined => Kind::Declined,
            // The answer is on its way, or none is due.
            Silence::CommitPending | Silence::Released => Kind::Other,
            _ => Kind::NotAnswered,
        },
    }
}

pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;

    use super::*;
    use crate::dhcp::packet::Packet;
    use crate::dhcp::subnet::{Clients, Mode, Pool};
    use crate::observe::events;
    use crate::snapshot::Snapshot;

    const PATIENCE: Duration = Duration::from_secs(10);
    /// Long enough for an answer that should not come: answers take well under a millisecond here.
    const SILENCE: Duration = Duration::from_millis(150);
    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x10];

    /// A store that syncs when it is told to: it hands over each batch and reports nothing by itself.
    struct Held {
        batches: Sender<(u64, Vec<Change>)>,
    }

    impl LeaseWriter for Held {
        fn write(&mut self, ticket: u64, changes: Vec<Change>) -> Result<(), NotQueued> {
            self.batches.send((ticket, changes)).map_err(|_| NotQueued::Gone)
        }
    }

    /// A DHCP core on loopback with a held-back store, and a relay agent in front of it.
    struct World {
        relay: UdpSocket,
        server: SocketAddr,
        batches: Receiver<(u64, Vec<Change>)>,
        reporter: Arc<Mutex<Option<Reporter>>>,
        published: Arc<Published>,
        drain: Drain,
        bell: Bell,
        thread: Option<JoinHandle<Result<(), String>>>,
    }

    fn plan(start_writer: StartWriter) -> DhcpPlan {
        let first = Ipv4Addr::new(127, 77, 1, 1);
        let subnet = Subnet {
            network: Network { address: Ipv4Addr::new(127, 77, 0, 0), prefix: 16 },
            interface: None,
            relay: true,
            mode: Mode::Server,
            clients: Clients::Any,
            allow_other_servers: false,
            pools: vec![Pool { first, last: Ipv4Addr::new(127, 77, 1, 20) }],
            reservations: Vec::new(),
            routers: Vec::new(),
            domain_name: None,
            domain_name_servers: Vec::new(),
            ntp_servers: Vec::new(),
            default_lease_time_s: 600,
            firmware_lease_time_s: 600,
            max_lease_time_s: 7200,
            authoritative: false,
            next_server: None,
            install_by_default: false,
            pxelinux_config: None,
            pxelinux_prefix: None,
        };
        let snapshot = Snapshot { subnets: vec![subnet], http_port: 80, ..Snapshot::default() };
        let leases = Leases::new(&snapshot.subnets);
        let published = Published::new(snapshot);
        DhcpPlan {
            address: Some(Ipv4Addr::LOCALHOST),
            port: 0,
            leases,
            published,
            start_writer,
            looks: Vec::new(),
            keep_look: Box::new(|_| ()),
            findings: Arc::default(),
        }
    }

    impl World {
        fn new(datapath: Datapath) -> Self {
            let (sender, batches) = channel();
            let reporter = Arc::new(Mutex::new(None));
            let reporter_of_writer = Arc::clone(&reporter);
            let plan = plan(Box::new(move |report| {
                *reporter_of_writer.lock().unwrap() = Some(report);
                Ok(Box::new(Held { batches: sender }))
            }));
            let published = Arc::clone(&plan.published);
            let sockets = bind(&plan).unwrap();
            let server = sockets.sockets[0].0;
            let drain = Drain::default();
            let (events, _) = events::queue();
            let (core, bell) = Core::new(datapath, plan, sockets, &events, &drain).unwrap();
            let (ready, is_ready) = channel();
            let thread = std::thread::spawn(move || core.run(&mut || ready.send(()).unwrap()));
            is_ready.recv_timeout(PATIENCE).unwrap();
            let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
            Self { relay, server, batches, reporter, published, drain, bell, thread: Some(thread) }
        }

        fn say(&self, kind: u8, address: Option<Ipv4Addr>) {
            self.relay.send_to(&message(kind, address), self.server).unwrap();
        }

        /// The next reply's message type and address.
        fn hear(&self, limit: Duration) -> Option<(u8, Ipv4Addr)> {
            self.relay.set_read_timeout(Some(limit)).unwrap();
            let mut bytes = [0; 1500];
            let (len, _) = self.relay.recv_from(&mut bytes).ok()?;
            let reply = Packet::parse_reply(&bytes[..len]).unwrap();
            Some((reply.option(53).unwrap()[0], reply.yiaddr))
        }

        fn report(&self, tickets: &[u64], durable: bool) {
            (self.reporter.lock().unwrap().as_ref().unwrap())(tickets, durable);
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.drain.order();
            self.bell.ring();
            if let Some(thread) = self.thread.take() {
                assert!(thread.join().is_ok());
            }
        }
    }

    /// A relayed message with option 82 sub-option 19: the answer comes to the port it was sent from (D-74).
    fn message(kind: u8, address: Option<Ipv4Addr>) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
        bytes[4..8].copy_from_slice(&[1, 2, 3, 4]);
        bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
        bytes[28..34].copy_from_slice(&MAC);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
        if let Some(address) = address {
            bytes.extend_from_slice(&[50, 4]);
            bytes.extend_from_slice(&address.octets());
            bytes.extend_from_slice(&[54, 4, 127, 0, 0, 1]);
        }
        bytes.extend_from_slice(&[82, 8, 5, 4, 127, 77, 0, 0, 19, 0, 255]);
        let at = bytes.len() - 10;
        bytes[at] = 8;
        bytes
    }

    #[test]
    fn no_ack_leaves_before_its_lease_is_durable_and_a_repeated_request_gets_one_ack_and_one_row() {
        for datapath in Datapath::ALL {
            let world = World::new(datapath);
            world.say(1, None);
            let (offer, address) = world.hear(PATIENCE).expect("an OFFER needs no commit");
            assert_eq!(offer, 2);
            world.say(3, Some(address));
            let (ticket, changes) = world.batches.recv_timeout(PATIENCE).unwrap();
            assert!(matches!(&changes[..], [Change::Bind(lease)] if lease.address == address && lease.mac == Mac(MAC)));
            world.say(3, Some(address));
            world.say(3, Some(address));
            assert_eq!(world.hear(SILENCE), None, "nothing leaves while the sync is held back");
            assert_eq!(world.published.load().bindings.read(address), None);
            assert!(world.batches.try_recv().is_err(), "the repeated REQUEST writes nothing");
            world.report(&[ticket], true);
            assert_eq!(world.hear(PATIENCE), Some((5, address)));
            assert_eq!(
                world.published.load().bindings.read(address).unwrap().machine.mac,
                Mac(MAC),
                "written before the ACK left"
            );
            assert_eq!(world.hear(SILENCE), None, "one ACK for three REQUESTs");
        }
    }

    /// A storm's commits share a sync, so their ACKs are due in one turn: more than the core has send slots.
    #[test]
    fn every_ack_of_a_large_commit_leaves() {
        for datapath in Datapath::ALL {
            const RELAYS: usize = 10;
            // As many replies as fit a relay's default receive buffer.
            const REQUESTS: usize = 80;
            let world = World::new(datapath);
            let relays: Vec<UdpSocket> = (0..RELAYS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            world.say(1, None);
            let (_, address) = world.hear(PATIENCE).unwrap();
            let mut tickets = Vec::new();
            for (number, relay) in relays.iter().enumerate() {
                for xid in 0..REQUESTS {
                    let mut request = message(3, Some(address));
                    request[4..8].copy_from_slice(&u32::try_from(number * REQUESTS + xid).unwrap().to_be_bytes());
                    relay.send_to(&request, world.server).unwrap();
                    tickets.push(world.batches.recv_timeout(PATIENCE).unwrap().0);
                }
            }
            world.report(&tickets, true);
            for (number, relay) in relays.iter().enumerate() {
                relay.set_read_timeout(Some(PATIENCE)).unwrap();
                for xid in 0..REQUESTS {
                    assert!(relay.recv(&mut [0; 1500]).is_ok(), "no ACK for request {xid} of relay {number}");
                }
            }
        }
    }

    #[test]
    fn without_an_address_of_ours_nothing_is_answered_and_it_is_said_once() {
        for datapath in Datapath::ALL {
            let plan = plan(Box::new(|_| Ok(Box::new(Held { batches: channel().0 }))));
            let sockets = bind(&plan).unwrap();
            let (events, said) = events::queue();
            let (core, _) = Core::new(datapath, plan, sockets, &events, &Drain::default()).unwrap();
            let mut running = Running::new(core).unwrap();
            let arrived_at = |local| Received {
                bytes: message(1, None),
                source: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6767),
                destination: Ipv4Addr::BROADCAST,
                local,
                way: Way { socket: SocketId(0), interface: 0 },
            };
            running.handle(&arrived_at(Ipv4Addr::UNSPECIFIED)).unwrap();
            running.handle(&arrived_at(Ipv4Addr::UNSPECIFIED)).unwrap();
            assert_eq!(running.driver.in_flight(), 0);
            let words: Vec<String> = said.try_iter().map(|event| event.text).collect();
            assert!(words.len() == 1 && words[0].contains("has no IPv4 address"), "{words:?}");
            running.handle(&arrived_at(Ipv4Addr::LOCALHOST)).unwrap();
            assert_eq!(running.driver.in_flight(), 1);
        }
    }

    #[test]
    fn a_failed_commit_is_never_acknowledged_and_the_client_may_ask_again() {
        for datapath in Datapath::ALL {
            let world = World::new(datapath);
            world.say(1, None);
            let (_, address) = world.hear(PATIENCE).unwrap();
            world.say(3, Some(address));
            let (ticket, _) = world.batches.recv_timeout(PATIENCE).unwrap();
            world.report(&[ticket], false);
            assert_eq!(world.hear(SILENCE), None);
            assert_eq!(world.published.load().bindings.read(address), None);
            world.say(3, Some(address));
            let (ticket, _) = world.batches.recv_timeout(PATIENCE).unwrap();
            world.report(&[ticket], true);
            assert_eq!(world.hear(PATIENCE), Some((5, address)));
        }
    }
}
