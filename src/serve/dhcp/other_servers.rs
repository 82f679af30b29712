//! The thread that keeps DHCP polite: it waits for interfaces, looks for other DHCP servers, and
//! tells the DHCP core when to be silent.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::letters::{Letter, Sign, Standing};
use super::link_news::LinkNews;
use crate::dhcp::limits::{OTHER_SERVERS_MAX, PROBE_WAIT_MS};
use crate::dhcp::neighbours::{
    self, LookResult, LookVerdict, MonotonicMillis, PriorKnowledge, RingbootMark, RivalLook,
    RivalResponse, ServerWatch,
};
use crate::dhcp::subnet::{AnsweringMode, HoldReason, OtherServer, Subnet};
use crate::engine::clock;
use crate::engine::link::{self, PacketListener};
use crate::engine::mailbox::{CoreMailbox, MailboxBell, MailboxSender};
use crate::engine::net::{self, CarrierState, NetworkInterface, SocketBinding};
use crate::engine::netlink::InterfaceChanges;
use crate::engine::probe::{ArpProbe, EchoProbe};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;
use crate::serve::core::CoreError;
use crate::serve::drain::Drain;
use crate::serve::pulse::Pulse;
use crate::snapshot::{PublishedState, Snapshot};

/// How often the interfaces are looked at, and the longest sleep. Milliseconds.
const INTERFACES_EVERY_MS: MonotonicMillis = 1000;
/// What is said of an interface that does not exist.
const NOT_THERE: &str = "is not there";
/// One DHCP message with its IPv4 header; what is longer is cut. Bytes.
const PACKET_BYTES_MAX: usize = 2048;
/// Packets, and letters, that are looked at before interfaces and looks have their turn again.
const TURN_MAX: usize = 64;

/// Keeps what a look found for the next start.
pub type KeepLook = Box<dyn FnMut(&LookResult) + Send>;

/// What is known of the segments of served subnets: written by this thread, read by control. Never
/// on a packet's path.
#[derive(Debug, Default)]
pub struct Findings {
    known: Mutex<Known>,
    /// An operator wants what was found forgotten.
    again: AtomicBool,
    /// The configuration was read again: who is silent looks at once.
    now: AtomicBool,
}

/// All that this thread knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub segments: Vec<Finding>,
    /// Interfaces that DHCP listens on now, with the port.
    pub sockets: Vec<String>,
}

/// One served subnet on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub network: Ipv4Network,
    pub interface: String,
    /// Why nothing leaves now; None = served.
    pub held: Option<HoldReason>,
    /// The interface is there, but not in the subnet: in words, with the place of the subnet in the
    /// configuration.
    pub misplaced: Option<String>,
    /// Who has answered the last look, served beside or not.
    pub others: Vec<OtherServer>,
    /// Served beside other servers (`allow-other-servers`).
    beside: bool,
    /// When another server last answered, when the last look began, and when the next one does;
    /// None for the last: now.
    pub answered: Option<Instant>,
    pub looked: Option<Instant>,
    pub next_look: Option<Instant>,
}

impl Finding {
    /// What is known, in the same words for the log, for `ringboot look` and for the admin socket.
    /// `since` is how old it is, as a clause: it is empty for what has just been found.
    pub fn sentence(&self, since: &str) -> String {
        let Self { network, interface, .. } = self;
        match (self.held, self.others.first()) {
            (Some(HoldReason::NoInterface), _) => {
                let waiting = || {
                    format!(
                        "{interface} is not there, or has no address in {network}: it is waited for"
                    )
                };
                self.misplaced.clone().unwrap_or_else(waiting)
            }
            (Some(HoldReason::Looking), _) => {
                format!(
                    "other DHCP servers are looked for on {interface}: {network} offers no address \
                     yet"
                )
            }
            (Some(HoldReason::OtherServer(server)), _) => format!(
                "{server} answered on {interface}{since}: ringboot is silent on {network}, but for \
                 those who have their lease from it. Stop that server (`ringboot look --again` \
                 then asks at once), or serve beside it with `allow-other-servers = true`"
            ),
            (None, Some(server)) if self.beside => {
                format!(
                    "{server} answered on {interface}{since}; {network} is served beside it \
                     (allow-other-servers)"
                )
            }
            (None, Some(server)) => {
                format!("{server} has answered on {interface}{since}, where {network} is served")
            }
            (None, None) => {
                format!("no other DHCP server answers on {interface}{since}: {network} is served")
            }
        }
    }
}

impl Findings {
    pub fn read(&self) -> Known {
        self.lock().clone()
    }

    /// What was found is forgotten within a second, and looked for again.
    pub fn look_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// What was found is still to be forgotten.
    pub fn is_to_look_again(&self) -> bool {
        self.again.load(Ordering::Acquire)
    }

    /// Subnets that are silent beside another server are looked at within a second as at the first
    /// start, the others while they are served.
    pub fn look_now(&self) {
        self.now.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread is made of.
pub(super) struct Parts<'a> {
    /// Looked at again after each reload.
    pub(super) published: Arc<PublishedState>,
    /// What the run before this one knew of each.
    pub(super) before: &'a [(Ipv4Network, PriorKnowledge)],
    /// Interfaces that a DHCP socket is wanted on, with the index of the one that has it.
    pub(super) wanted: Vec<(String, Option<u32>)>,
    pub(super) port: u16,
    pub(super) findings: Arc<Findings>,
    pub(super) keep: KeepLook,
    pub(super) core: MailboxSender<Letter>,
    pub(super) drain: Drain,
}

/// The thread before and while it runs.
pub(crate) struct Neighbours {
    listener: Option<PacketListener>,
    arp: Option<ArpProbe>,
    echo: Option<EchoProbe>,
    /// Addresses that were asked about, in order of time: what else answers is of no interest.
    asked: VecDeque<(MonotonicMillis, Ipv4Addr)>,
    /// Word of interfaces and addresses that come and go; without it they are looked at every
    /// second.
    changes: Option<InterfaceChanges>,
    /// As they were told to the core.
    interfaces: Arc<Vec<NetworkInterface>>,
    started: Instant,
    sockets: Vec<Wanted>,
    segments: Vec<Segment>,
    published: Arc<PublishedState>,
    /// The one that the segments are of.
    generation: u64,
    ours: Vec<Ipv4Addr>,
    port: u16,
    findings: Arc<Findings>,
    keep: KeepLook,
    core: MailboxSender<Letter>,
    drain: Drain,
    mailbox: CoreMailbox<Sign>,
    next_interfaces_ms: MonotonicMillis,
    /// Letters wait for the next turn.
    is_behind: bool,
    /// What the core was told last.
    said: Option<Vec<Standing>>,
    pulse: Pulse,
}

/// A DHCP socket that is bound, or waits for its interface.
struct Wanted {
    interface: String,
    index: Option<u32>,
    /// What was said that it lacks.
    lack_said: Option<&'static str>,
    refusal_said: bool,
    link: LinkNews,
}

/// A served subnet on an interface.
struct Segment {
    subnet: Ipv4Network,
    interface: String,
    relay: bool,
    beside: bool,
    /// While the interface is there with an address in the subnet.
    here: Option<Here>,
    is_running: bool,
    watch: ServerWatch,
    others: Vec<OtherServer>,
    /// Where the subnet is written, `path:line`.
    place: Option<String>,
    misplaced: Option<String>,
    unsent_said: bool,
    /// What was concluded is for the log, when the core knows it.
    is_news: bool,
}

/// Our end of a segment.
#[derive(Clone, Copy, Debug)]
struct Here {
    index: u32,
    address: Ipv4Addr,
    /// The client that looks: other servers set one address aside for it.
    mac: Mac,
}

/// Subnets that are watched: served here by broadcast on the real port. A trial on another port
/// disturbs nobody.
pub(super) fn watched(subnets: &[Subnet], port: u16) -> impl Iterator<Item = (&Subnet, &String)> {
    let served = subnets
        .iter()
        .filter(move |subnet| subnet.mode == AnsweringMode::Server && port == neighbours::PORT);
    served.filter_map(|subnet| Some((subnet, subnet.interface.as_ref()?)))
}

impl Neighbours {
    /// Says what is waited for, and holds back what must be, before the DHCP core reads its first
    /// packet.
    pub(super) fn new(parts: Parts<'_>) -> io::Result<(Self, MailboxSender<Sign>, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let before = |network| {
            parts.before.iter().find(|(known, _)| *known == network).map(|(_, before)| *before)
        };
        let generation = parts.published.get();
        let segments: Vec<Segment> = watched(&generation.snapshot.dhcp.subnets, parts.port)
            .map(|(subnet, name)| {
                let before = before(subnet.network).unwrap_or(PriorKnowledge::Nothing);
                Segment::new(subnet, name, &generation.snapshot, before)
            })
            .collect();
        let mut neighbours = Self {
            listener: if segments.is_empty() { None } else { listen() },
            arp: probe(ArpProbe::open()),
            echo: probe(EchoProbe::open()),
            asked: VecDeque::new(),
            changes: changes(),
            interfaces: Arc::default(),
            started: Instant::now(),
            sockets: parts
                .wanted
                .into_iter()
                .map(|(interface, index)| Wanted::new(interface, index))
                .collect(),
            segments,
            generation: generation.number,
            published: parts.published,
            ours: Vec::new(),
            port: parts.port,
            findings: parts.findings,
            keep: parts.keep,
            core: parts.core,
            drain: parts.drain,
            mailbox,
            next_interfaces_ms: 0,
            is_behind: false,
            said: None,
            pulse: Pulse::default(),
        };
        neighbours.follow_interfaces(0);
        neighbours.publish();
        Ok((neighbours, letters, bell))
    }

    /// The thread shows signs of life.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// Runs until drained.
    pub fn run(mut self, ready: &mut dyn FnMut()) -> Result<(), CoreError> {
        ready();
        while !self.drain.is_ordered() {
            self.pulse.beat();
            let now = self.now();
            if self.generation != self.published.load().number {
                self.follow_configuration();
                self.follow_interfaces(now);
            }
            if now >= self.next_interfaces_ms {
                self.follow_interfaces(now);
            }
            let again = self.findings.again.load(Ordering::Relaxed);
            if again {
                for segment in &mut self.segments {
                    segment.watch.forget(now);
                    segment.others.clear();
                }
            }
            if self.findings.now.swap(false, Ordering::Relaxed) {
                self.segments.iter_mut().for_each(|segment| segment.watch.look_again(now));
            }
            self.look(now);
            self.publish();
            if again {
                self.findings.again.store(false, Ordering::Release);
            }
            let changes = self.changes.as_ref().map(AsFd::as_fd);
            let probes = self
                .arp
                .as_ref()
                .map(AsFd::as_fd)
                .into_iter()
                .chain(self.echo.as_ref().map(AsFd::as_fd));
            let listener = self.listener.as_ref().map(AsFd::as_fd);
            let sources: Vec<BorrowedFd<'_>> =
                changes.into_iter().chain(listener).chain(probes).collect();
            let looks = self.segments.iter().filter(|_| self.listener.is_some());
            let wakes = looks.filter_map(|segment| segment.watch.wakes_at()).min();
            let until = wakes.map_or(self.next_interfaces_ms, |at| at.min(self.next_interfaces_ms));
            // Letters that were left for this turn do not ring again.
            let sleep =
                Duration::from_millis(if self.is_behind { 0 } else { until.saturating_sub(now) });
            link::wait_for_mailbox(&self.mailbox, &sources, sleep);
            if self.changes.as_ref().is_some_and(InterfaceChanges::take) {
                self.next_interfaces_ms = 0;
            }
            self.hear();
        }
        Ok(())
    }

    fn now(&self) -> MonotonicMillis {
        millis_since(self.started)
    }

    /// After a reload: subnets that stay keep what is known of them, new ones are looked at first.
    /// Interfaces that no subnet names any more are let go, new ones are bound as those that come
    /// late.
    fn follow_configuration(&mut self) {
        let generation = self.published.get();
        let mut before = std::mem::take(&mut self.segments);
        let segment = |(subnet, name): (&Subnet, &String)| {
            let same = |one: &Segment| one.subnet == subnet.network && one.interface == *name;
            let next = Segment::new(subnet, name, &generation.snapshot, PriorKnowledge::Nothing);
            let Some(at) = before.iter().position(same) else { return next };
            let mut kept = before.swap_remove(at);
            kept.watch.serve_beside(next.beside);
            let Segment { relay, beside, place, .. } = next;
            Segment { relay, beside, place, ..kept }
        };
        self.segments =
            watched(&generation.snapshot.dhcp.subnets, self.port).map(segment).collect();
        self.follow_listeners(&generation.snapshot.dhcp_interfaces);
        self.generation = generation.number;
        if self.listener.is_none() && !self.segments.is_empty() {
            self.listener = listen();
        }
    }

    fn follow_listeners(&mut self, interfaces: &[String]) {
        for gone in self.sockets.extract_if(.., |one| !interfaces.contains(&one.interface)) {
            tracing::info!(
                "no subnet names the interface {} any more: DHCP listens there no longer",
                gone.interface
            );
            self.core.send(Letter::Gone(gone.interface));
        }
        for interface in interfaces {
            if !self.sockets.iter().any(|one| one.interface == *interface) {
                self.sockets.push(Wanted::new(interface.clone(), None));
            }
        }
    }

    /// Interfaces come, go, and come again under another index; a socket that is bound to one hears
    /// nothing of the next.
    fn follow_interfaces(&mut self, now: MonotonicMillis) {
        self.next_interfaces_ms = now.saturating_add(INTERFACES_EVERY_MS);
        let Ok(interfaces) = net::list_interfaces() else { return };
        if interfaces == *self.interfaces {
            return self.follow_sockets(now);
        }
        self.interfaces = Arc::new(interfaces);
        self.ours = self.interfaces.iter().flat_map(ipv4).collect();
        self.core.send(Letter::Interfaces(Arc::clone(&self.interfaces)));
        self.follow_sockets(now);
    }

    fn follow_sockets(&mut self, now: MonotonicMillis) {
        let interfaces = Arc::clone(&self.interfaces);
        for wanted in &mut self.sockets {
            let found = interfaces.iter().find(|interface| interface.name == wanted.interface);
            wanted.follow(found, self.port, &self.core);
            wanted.follow_link(found, now);
        }
        for segment in &mut self.segments {
            let found = interfaces.iter().find(|interface| interface.name == segment.interface);
            segment.follow(found, now);
        }
    }

    /// Sends what is due, and ends what has listened long enough.
    fn look(&mut self, now: MonotonicMillis) {
        let Some(listener) = &self.listener else { return };
        let started = self.started;
        for segment in &mut self.segments {
            if let Some(verdict) = segment.watch.tick(now) {
                segment.conclude(verdict, &mut self.keep);
            }
            let Some(Here { index, address, mac }) =
                segment.here.filter(|_| segment.watch.is_due(now))
            else {
                continue;
            };
            let xid = u32::try_from(random() >> 32).unwrap_or(0);
            // The INFORM goes first: once dnsmasq pings for the DISCOVER, it hears nothing for
            // three seconds.
            let mark = RingbootMark { address, serves: segment.watch.held().is_none() };
            let packets = neighbours::build_look_inform(mac, xid, mark)
                .zip(neighbours::build_look_discover(mac, xid, mark));
            let Some((inform, discover)) = packets else { continue };
            match listener
                .broadcast(index, &inform)
                .and_then(|()| listener.broadcast(index, &discover))
            {
                // Whoever answers has its time from when the DISCOVER has left, not from when this
                // turn began.
                Ok(()) => segment.watch.looked(xid, millis_since(started).saturating_add(1)),
                Err(error) => {
                    segment.watch.unsent(now);
                    if !std::mem::replace(&mut segment.unsent_said, true) {
                        tracing::warn!(
                            "cannot look for other DHCP servers on {} yet: {error}",
                            segment.interface
                        );
                    }
                }
            }
        }
    }

    fn hear(&mut self) {
        let now = self.now();
        self.is_behind = true;
        for _ in 0..TURN_MAX {
            let Some(sign) = self.mailbox.take() else {
                self.is_behind = false;
                break;
            };
            let index = match sign {
                Sign::Offers { address, interface } => {
                    self.ask_for(address, interface, now);
                    continue;
                }
                Sign::OtherServer(index) => index,
                Sign::ClientAsks { interface, .. } | Sign::Looked { interface, .. } => interface,
            };
            for segment in self.segments.iter_mut().filter(|segment| segment.is_at(index)) {
                match sign {
                    Sign::Looked { rival, .. } => {
                        segment.meet(&rival, now, self.listener.as_ref(), &mut self.keep)
                    }
                    Sign::OtherServer(_) => segment.watch.suspects(now),
                    // Its seconds are whole ones: it may have begun almost one earlier.
                    Sign::ClientAsks { since_s, .. } if since_s > 0 => {
                        segment.watch.client_asks((u64::from(since_s) + 1) * 1000, now);
                    }
                    Sign::ClientAsks { .. } | Sign::Offers { .. } => {}
                }
            }
        }
        self.hear_owners(now);
        let Some(listener) = &self.listener else { return };
        let mut buffer = [0; PACKET_BYTES_MAX];
        for _ in 0..TURN_MAX {
            let Some((origin, packet)) = listener.receive(&mut buffer) else { break };
            let Some(word) = neighbours::parse_server_message(packet, Mac(origin.mac), &self.ours)
            else {
                continue;
            };
            for segment in
                self.segments.iter_mut().filter(|segment| segment.is_at(origin.interface))
            {
                let Some(here) = segment.here else { continue };
                let is_answer = segment.watch.asked_for(&word);
                if let Some(verdict) = segment.watch.heard(&word, here.address, now) {
                    segment.conclude(verdict, &mut self.keep);
                }
                if is_answer {
                    segment.remember(word.server);
                }
            }
        }
    }

    /// An address that cannot be asked for is offered all the same, when its time is over.
    fn ask_for(&mut self, address: Ipv4Addr, interface: Option<u32>, now: MonotonicMillis) {
        let asked = match interface {
            Some(index) => {
                let found =
                    self.interfaces.iter().find(|one| one.index == index && one.mac != [0; 6]);
                found.zip(self.arp.as_ref()).map(|(found, arp)| arp.ask(index, found.mac, address))
            }
            None => self.echo.as_ref().map(|echo| echo.ask(address)),
        };
        if asked.is_some_and(|sent| sent.is_ok()) {
            self.asked.push_back((now, address));
        }
    }

    /// Tells the core who has answered for an address that it is about to offer.
    fn hear_owners(&mut self, now: MonotonicMillis) {
        while self.asked.front().is_some_and(|(at, _)| now.saturating_sub(*at) > PROBE_WAIT_MS) {
            self.asked.pop_front();
        }
        let by_arp = (0..TURN_MAX)
            .map_while(|_| self.arp.as_ref()?.answer())
            .map(|(mac, address)| (Some(Mac(mac)), address));
        let by_echo = (0..TURN_MAX)
            .map_while(|_| self.echo.as_ref()?.answer())
            .map(|address| (None, address));
        for (host, address) in by_arp.chain(by_echo) {
            if self.asked.iter().any(|(_, asked)| *asked == address) {
                self.core.send(Letter::InUse { address, host });
            }
        }
    }

    /// Tells the core and control what has changed.
    fn publish(&mut self) {
        let sockets = self.sockets.iter().filter(|one| one.index.is_some());
        *self.findings.lock() = Known {
            segments: self.segments.iter().map(|segment| segment.finding(self.started)).collect(),
            sockets: sockets.map(|one| format!("{}:{}", one.interface, self.port)).collect(),
        };
        let standings: Vec<Standing> = self.segments.iter().map(Segment::standing).collect();
        if self.said.as_ref() != Some(&standings) {
            self.core.send(Letter::Watched(standings.clone()));
            self.said = Some(standings);
        }
        for segment in &mut self.segments {
            let is_news = std::mem::take(&mut segment.is_news);
            match segment.others.first() {
                _ if !is_news => {}
                Some(_) => tracing::warn!("{}", segment.finding(self.started).sentence("")),
                None => tracing::info!("{}", segment.finding(self.started).sentence("")),
            }
        }
    }
}

impl Wanted {
    fn new(interface: String, index: Option<u32>) -> Self {
        Self { interface, index, lack_said: None, refusal_said: false, link: LinkNews::NONE }
    }

    fn follow(
        &mut self,
        found: Option<&NetworkInterface>,
        port: u16,
        core: &MailboxSender<Letter>,
    ) {
        let index = found.map(|interface| interface.index);
        if self.index.is_some() && self.index != index {
            tracing::warn!("interface {} is gone: DHCP waits for it", self.interface);
            core.send(Letter::Gone(self.interface.clone()));
            (self.index, self.lack_said) = (None, Some(NOT_THERE));
        }
        if self.index.is_some() {
            return;
        }
        let Some(addressed) = found.filter(|found| ipv4(found).next().is_some()) else {
            let lack = if found.is_some() { "has no IPv4 address" } else { NOT_THERE };
            if self.lack_said.replace(lack) != Some(lack) {
                tracing::warn!("interface {} {lack}: DHCP waits for it", self.interface);
            }
            return;
        };
        match bind(&self.interface, port) {
            Ok(socket) => {
                tracing::info!("interface {} is there: DHCP listens on it", self.interface);
                core.send(Letter::Bound { interface: self.interface.clone(), socket });
                (self.index, self.refusal_said) = (Some(addressed.index), false);
            }
            Err(error) if !std::mem::replace(&mut self.refusal_said, true) => {
                tracing::warn!(
                    "interface {} is there, but DHCP cannot listen on it yet: {error}",
                    self.interface
                );
            }
            Err(_) => {}
        }
    }
}

impl Wanted {
    fn follow_link(&mut self, found: Option<&NetworkInterface>, now: MonotonicMillis) {
        let Some(link) = found.map(NetworkInterface::link) else { return };
        let Some(unsaid) = self.link.follow(link, now) else { return };
        let name = &self.interface;
        let unsaid = match unsaid {
            0 => String::new(),
            unsaid => format!(" ({unsaid} changes before it were not said)"),
        };
        match link {
            CarrierState::Up => tracing::info!("interface {name} is up, and has a carrier{unsaid}"),
            CarrierState::Down => {
                tracing::warn!(
                    "interface {name} is down: no machine is reached by it. `ip link set {name} \
                     up`{unsaid}"
                );
            }
            CarrierState::NoCarrier => {
                tracing::warn!(
                    "interface {name} has no carrier: no machine is reached by it. Look at its \
                     cable and switch port{unsaid}"
                );
            }
        }
    }
}

impl Segment {
    fn new(subnet: &Subnet, interface: &str, snapshot: &Snapshot, before: PriorKnowledge) -> Self {
        let place = snapshot.places.iter().find(|(network, _)| *network == subnet.network);
        Self {
            subnet: subnet.network,
            interface: interface.to_owned(),
            relay: subnet.relay,
            beside: subnet.allow_other_servers,
            here: None,
            is_running: false,
            watch: ServerWatch::new(subnet.allow_other_servers, before),
            others: Vec::new(),
            place: place.map(|(_, place)| place.clone()),
            misplaced: None,
            unsent_said: false,
            is_news: false,
        }
    }

    fn is_at(&self, index: u32) -> bool {
        self.here.is_some_and(|here| here.index == index)
    }

    fn follow(&mut self, found: Option<&NetworkInterface>, now: MonotonicMillis) {
        let here = found.and_then(|interface| {
            let address = address_in(interface, self.subnet, self.relay)?;
            let mac = if interface.mac == [0; 6] { Mac([2; 6]) } else { Mac(interface.mac) };
            Some(Here { index: interface.index, address, mac })
        });
        let is_running = found.is_some_and(|interface| interface.is_running);
        let wire_came = !std::mem::replace(&mut self.is_running, is_running) && is_running;
        if here.map(|here| here.index) != self.here.map(|here| here.index) {
            self.watch.vanished();
            self.others.clear();
            if here.is_some() {
                self.watch.appeared(now);
            }
        } else if wire_came {
            self.watch.wire_came(now);
        }
        if let (Some(before), None, Some(interface)) = (self.here, here, found)
            && ipv4(interface).next().is_none()
        {
            tracing::warn!(
                "interface {} has lost its address {}: nothing is answered on {} until it has it \
                 again",
                self.interface,
                before.address,
                self.subnet
            );
        }
        self.here = here;
        let elsewhere =
            found.filter(|interface| here.is_none() && ipv4(interface).next().is_some());
        let misplaced = elsewhere.map(|interface| self.misplaced_words(interface));
        if let Some(words) =
            misplaced.as_ref().filter(|words| self.misplaced.as_ref() != Some(*words))
        {
            tracing::warn!("{words}; nothing is answered there");
        }
        self.misplaced = misplaced;
    }

    /// What is wrong, with the addresses that are really there.
    fn misplaced_words(&self, interface: &NetworkInterface) -> String {
        let place = self.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
        let addresses: Vec<String> = ipv4(interface).map(|address| address.to_string()).collect();
        format!(
            "{place}subnet {} is not on interface {}, which has {}: correct one of them, or write \
             `relay = true` where relay agents alone bring its requests",
            self.subnet,
            interface.name,
            addresses.join(", ")
        )
    }

    fn remember(&mut self, server: OtherServer) {
        if self.others.len() < OTHER_SERVERS_MAX && !self.others.contains(&server) {
            self.others.push(server);
        }
    }

    /// Another ringboot looks for servers on this segment.
    fn meet(
        &mut self,
        rival: &RivalLook,
        now: MonotonicMillis,
        listener: Option<&PacketListener>,
        keep: &mut KeepLook,
    ) {
        let Some(here) = self.here else { return };
        match self.watch.met(rival, here.address, now) {
            RivalResponse::Silence => {}
            RivalResponse::Answer => {
                let mark =
                    RingbootMark { address: here.address, serves: self.watch.held().is_none() };
                let answer = neighbours::build_rival_answer(rival, mark);
                // Lost where the link has no room: it looks again.
                let _ = listener
                    .zip(answer)
                    .map(|(listener, answer)| listener.broadcast(here.index, &answer));
            }
            RivalResponse::Yield(verdict) => self.conclude(verdict, keep),
        }
    }

    fn conclude(&mut self, verdict: LookVerdict, keep: &mut KeepLook) {
        let (server, is_news) = match verdict {
            LookVerdict::Nobody { is_news } => (None, is_news),
            LookVerdict::Server { server, is_news } => (Some(server), is_news),
            LookVerdict::Doubt(server) => {
                self.remember(server);
                tracing::info!(
                    "{server} has answered on {}, where {} is served: it is asked once more",
                    self.interface,
                    self.subnet
                );
                return;
            }
        };
        self.others = server.into_iter().collect();
        self.is_news |= is_news;
        keep(&LookResult { network: self.subnet, looked_s: clock::now_s(), server });
    }

    fn finding(&self, started: Instant) -> Finding {
        let at = |ms: Option<MonotonicMillis>| ms.map(|ms| started + Duration::from_millis(ms));
        Finding {
            network: self.subnet,
            interface: self.interface.clone(),
            held: self.watch.held(),
            misplaced: self.misplaced.clone(),
            others: self.others.clone(),
            beside: self.beside,
            answered: at(self.watch.answered_ms()),
            looked: at(self.watch.looked_ms()),
            next_look: at(self.watch.next_look_ms()),
        }
    }

    fn standing(&self) -> Standing {
        let (network, interface, beside) = (self.subnet, self.interface.clone(), self.beside);
        Standing { network, interface, beside, held: self.watch.held() }
    }
}

/// The address that a subnet's clients are answered from: one in the subnet, or any where relays
/// come to the interface.
fn address_in(interface: &NetworkInterface, subnet: Ipv4Network, relay: bool) -> Option<Ipv4Addr> {
    let inside = ipv4(interface).find(|address| subnet.contains(*address));
    inside.or_else(|| ipv4(interface).next().filter(|_| relay))
}

pub(super) fn ipv4(interface: &NetworkInterface) -> impl Iterator<Item = Ipv4Addr> {
    let v4 =
        |address: &IpAddr| if let IpAddr::V4(address) = address { Some(*address) } else { None };
    interface.addresses.iter().filter_map(v4)
}

fn millis_since(started: Instant) -> MonotonicMillis {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(MonotonicMillis::MAX)
}

fn bind(interface: &str, port: u16) -> io::Result<OwnedFd> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    net::open_udp_socket(&SocketBinding { address, interface: Some(interface), shared: false })
}

/// Without the privilege nobody can be looked for, and so nobody is served who is not to be served
/// in any case.
fn listen() -> Option<PacketListener> {
    let listener = PacketListener::open();
    if let Err(error) = &listener {
        tracing::warn!(
            "cannot look for other DHCP servers ({error}; CAP_NET_RAW allows it): only subnets \
             with `allow-other-servers = true` are served"
        );
    }
    listener.ok()
}

/// Without the privilege addresses are offered without a question.
fn probe<T>(opened: io::Result<T>) -> Option<T> {
    opened
        .inspect_err(|error| {
            tracing::debug!("nobody is asked whether an address is in use: {error}")
        })
        .ok()
}

fn changes() -> Option<InterfaceChanges> {
    let changes = InterfaceChanges::open();
    if let Err(error) = &changes {
        tracing::debug!(
            "interfaces are looked at every second, because the kernel does not tell when they \
             change: {error}"
        );
    }
    changes.ok()
}

/// Any number: the standard library seeds each of its hash tables by chance.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
