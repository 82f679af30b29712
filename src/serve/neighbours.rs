//! The thread that keeps DHCP polite: it waits for interfaces, looks for other DHCP servers, and tells the DHCP core when to be silent.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::dhcp_core::{Letter, unix_now};
use super::drain::Drain;
use crate::boot::machine::Mac;
use crate::dhcp::limits::OTHER_SERVERS_MAX;
use crate::dhcp::neighbours::{self, Before, Look, Millis, Verdict, Watch};
use crate::dhcp::subnet::{Held, Mode, Network, OtherServer, Subnet};
use crate::engine::link::{self, Listener};
use crate::engine::mailbox::{Bell, Letters, Mailbox};
use crate::engine::net::{self, Binding, Interface};
use crate::snapshot::{Published, Snapshot};

/// How often the interfaces are looked at, and the longest sleep. Milliseconds.
const INTERFACES_EVERY_MS: Millis = 1000;
/// One DHCP message with its IPv4 header; what is longer is cut. Bytes.
const PACKET_BYTES_MAX: usize = 2048;

/// Keeps what a look found for the next start.
pub type KeepLook = Box<dyn FnMut(&Look) + Send>;

/// What is known of the segments of served subnets: written by this thread, read by control. Never on a packet's path.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Known>);

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
    pub network: Network,
    pub interface: String,
    /// Why nothing leaves now; None = served.
    pub held: Option<Held>,
    /// The interface is there, but not in the subnet: in words, with the place of the subnet in the configuration.
    pub misplaced: Option<String>,
    /// Who has answered the last look, served beside or not.
    pub others: Vec<OtherServer>,
}

impl Findings {
    pub fn read(&self) -> Known {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The word on a watched subnet, for the core. It holds for the subnet as it was then: on another interface, or where other servers
/// count otherwise, it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    network: Network,
    interface: String,
    beside: bool,
    /// None = everything may leave.
    pub(super) held: Option<Held>,
}

impl Standing {
    pub(super) fn is_of(&self, subnet: &Subnet, interface: &str) -> bool {
        (self.network, self.beside) == (subnet.network, subnet.allow_other_servers) && self.interface == interface
    }
}

/// What the core has met with, on the interface of this index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sign {
    /// A client has chosen another server.
    OtherServer(u32),
    /// A client asks, and has asked for so many seconds.
    ClientAsks { interface: u32, since_s: u16 },
}

/// What the thread is made of.
pub(super) struct Parts<'a> {
    /// Looked at again after each reload.
    pub(super) published: Arc<Published>,
    /// What the run before this one knew of each.
    pub(super) before: &'a [(Network, Before)],
    /// Interfaces that a DHCP socket is wanted on, with the index of the one that has it.
    pub(super) wanted: Vec<(String, Option<u32>)>,
    pub(super) port: u16,
    pub(super) findings: Arc<Findings>,
    pub(super) keep: KeepLook,
    pub(super) core: Letters<Letter>,
    pub(super) drain: Drain,
}

/// The thread before and while it runs.
pub(super) struct Neighbours {
    listener: Option<Listener>,
    /// The client that looks: one for the life of the process, so that other servers set one address aside.
    mac: Mac,
    started: Instant,
    sockets: Vec<Wanted>,
    segments: Vec<Segment>,
    published: Arc<Published>,
    /// The one that the segments are of.
    generation: u64,
    ours: Vec<Ipv4Addr>,
    port: u16,
    findings: Arc<Findings>,
    keep: KeepLook,
    core: Letters<Letter>,
    drain: Drain,
    mailbox: Mailbox<Sign>,
    next_interfaces_ms: Millis,
    /// What the core was told last.
    said: Option<Vec<Standing>>,
}

/// A DHCP socket that is bound, or waits for its interface.
struct Wanted {
    interface: String,
    index: Option<u32>,
    waiting_said: bool,
    refusal_said: bool,
}

/// A served subnet on an interface.
struct Segment {
    subnet: Network,
    interface: String,
    relay: bool,
    beside: bool,
    /// While the interface is there with an address in the subnet.
    here: Option<Here>,
    watch: Watch,
    others: Vec<OtherServer>,
    /// Where the subnet is written, `path:line`.
    place: Option<String>,
    misplaced: Option<String>,
    unsent_said: bool,
}

/// Our end of a segment.
#[derive(Clone, Copy, Debug)]
struct Here {
    index: u32,
    address: Ipv4Addr,
}

/// Subnets that are watched: served here by broadcast on the real port. A trial on another port disturbs nobody.
pub(super) fn watched(subnets: &[Subnet], port: u16) -> impl Iterator<Item = (&Subnet, &String)> {
    let served = subnets.iter().filter(move |subnet| subnet.mode == Mode::Server && port == neighbours::PORT);
    served.filter_map(|subnet| Some((subnet, subnet.interface.as_ref()?)))
}

impl Neighbours {
    /// Says what is waited for, and holds back what must be, before the DHCP core reads its first packet.
    pub(super) fn new(parts: Parts<'_>) -> io::Result<(Self, Letters<Sign>, Bell)> {
        let (letters, mailbox) = Mailbox::new()?;
        let bell = mailbox.bell();
        let before = |network| parts.before.iter().find(|(known, _)| *known == network).map(|(_, before)| *before);
        let generation = parts.published.get();
        let segments: Vec<Segment> = watched(&generation.snapshot.subnets, parts.port)
            .map(|(subnet, name)| {
                let before = before(subnet.network).unwrap_or(Before::Nothing);
                Segment::new(subnet, name, &generation.snapshot, before)
            })
            .collect();
        let [a, b, c, d, e, ..] = random().to_be_bytes();
        let mut neighbours = Self {
            listener: if segments.is_empty() { None } else { listen() },
            mac: Mac([2, a, b, c, d, e]),
            started: Instant::now(),
            sockets: parts.wanted.into_iter().map(|(interface, index)| Wanted::new(interface, index)).collect(),
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
            said: None,
        };
        neighbours.follow_interfaces(0);
        neighbours.publish();
        Ok((neighbours, letters, bell))
    }

    /// Runs until drained.
    pub(super) fn run(mut self, ready: &mut dyn FnMut()) -> Result<(), String> {
        ready();
        while !self.drain.is_ordered() {
            let now = self.now();
            if self.generation != self.published.load().number {
                self.follow_configuration();
                self.follow_interfaces(now);
            }
            if now >= self.next_interfaces_ms {
                self.follow_interfaces(now);
            }
            self.look(now);
            self.publish();
            let looks = self.segments.iter().filter(|_| self.listener.is_some());
            let wakes = looks.filter_map(|segment| segment.watch.wakes_at()).min();
            let until = wakes.map_or(self.next_interfaces_ms, |at| at.min(self.next_interfaces_ms));
            let sleep = Duration::from_millis(until.saturating_sub(now));
            link::wait(self.listener.as_ref(), &self.mailbox, sleep);
            self.hear();
        }
        Ok(())
    }

    fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// After a reload: subnets that stay keep what is known of them, new ones are looked at first. Interfaces that no subnet names
    /// any more are let go, new ones are bound as those that come late.
    fn follow_configuration(&mut self) {
        let generation = self.published.get();
        let mut before = std::mem::take(&mut self.segments);
        let segment = |(subnet, name): (&Subnet, &String)| {
            let same = |one: &Segment| one.subnet == subnet.network && one.interface == *name;
            let next = Segment::new(subnet, name, &generation.snapshot, Before::Nothing);
            let Some(at) = before.iter().position(same) else { return next };
            let mut kept = before.swap_remove(at);
            kept.watch.serve_beside(next.beside);
            let Segment { relay, beside, place, .. } = next;
            Segment { relay, beside, place, ..kept }
        };
        self.segments = watched(&generation.snapshot.subnets, self.port).map(segment).collect();
        self.follow_listeners(&generation.snapshot.dhcp_interfaces);
        self.generation = generation.number;
        if self.listener.is_none() && !self.segments.is_empty() {
            self.listener = listen();
        }
    }

    fn follow_listeners(&mut self, interfaces: &[String]) {
        for gone in self.sockets.extract_if(.., |one| !interfaces.contains(&one.interface)) {
            tracing::info!("no subnet names the interface {} any more: DHCP listens there no longer", gone.interface);
            self.core.send(Letter::Gone(gone.interface));
        }
        for interface in interfaces {
            if !self.sockets.iter().any(|one| one.interface == *interface) {
                self.sockets.push(Wanted::new(interface.clone(), None));
            }
        }
    }

    /// Interfaces come, go, and come again under another index; a socket that is bound to one hears nothing of the next.
    fn follow_interfaces(&mut self, now: Millis) {
        self.next_interfaces_ms = now.saturating_add(INTERFACES_EVERY_MS);
        let Ok(interfaces) = net::interfaces() else { return };
        self.ours = interfaces.iter().flat_map(ipv4).collect();
        for wanted in &mut self.sockets {
            let found = interfaces.iter().find(|interface| interface.name == wanted.interface);
            wanted.follow(found, self.port, &self.core);
        }
        for segment in &mut self.segments {
            let found = interfaces.iter().find(|interface| interface.name == segment.interface);
            segment.follow(found, now);
        }
    }

    /// Sends what is due, and ends what has listened long enough.
    fn look(&mut self, now: Millis) {
        let Some(listener) = &self.listener else { return };
        for segment in &mut self.segments {
            if let Some(verdict) = segment.watch.tick(now) {
                segment.conclude(verdict, &mut self.keep);
            }
            let Some(Here { index, address }) = segment.here.filter(|_| segment.watch.is_due(now)) else { continue };
            let xid = u32::try_from(random() >> 32).unwrap_or(0);
            // The INFORM goes first: once dnsmasq pings for the DISCOVER, it hears nothing for three seconds.
            let packets = neighbours::inform(self.mac, xid, address).zip(neighbours::discover(self.mac, xid));
            let Some((inform, discover)) = packets else { continue };
            match listener.broadcast(index, &inform).and_then(|()| listener.broadcast(index, &discover)) {
                Ok(()) => segment.watch.looked(xid, now),
                Err(error) => {
                    segment.watch.unsent(now);
                    if !std::mem::replace(&mut segment.unsent_said, true) {
                        tracing::warn!("cannot look for other DHCP servers on {} yet: {error}", segment.interface);
                    }
                }
            }
        }
    }

    fn hear(&mut self) {
        let now = self.now();
        while let Some(sign) = self.mailbox.take() {
            let (Sign::OtherServer(index) | Sign::ClientAsks { interface: index, .. }) = sign;
            for segment in self.segments.iter_mut().filter(|segment| segment.is_at(index)) {
                match sign {
                    Sign::OtherServer(_) => segment.watch.suspects(now),
                    // Its seconds are whole ones: it may have begun almost one earlier.
                    Sign::ClientAsks { since_s, .. } if since_s > 0 => {
                        segment.watch.client_asks((u64::from(since_s) + 1) * 1000, now);
                    }
                    Sign::ClientAsks { .. } => {}
                }
            }
        }
        let Some(listener) = &self.listener else { return };
        let mut buffer = [0; PACKET_BYTES_MAX];
        while let Some((origin, packet)) = listener.receive(&mut buffer) {
            let Some(word) = neighbours::word(packet, Mac(origin.mac), &self.ours) else { continue };
            for segment in self.segments.iter_mut().filter(|segment| segment.is_at(origin.interface)) {
                if let Some(verdict) = segment.watch.heard(&word, now) {
                    segment.conclude(verdict, &mut self.keep);
                }
                if segment.watch.asked_for(&word) {
                    segment.remember(word.server);
                }
            }
        }
    }

    /// Tells the core and control what has changed.
    fn publish(&mut self) {
        let sockets = self.sockets.iter().filter(|one| one.index.is_some());
        *self.findings.lock() = Known {
            segments: self.segments.iter().map(Segment::finding).collect(),
            sockets: sockets.map(|one| format!("{}:{}", one.interface, self.port)).collect(),
        };
        let standings: Vec<Standing> = self.segments.iter().map(Segment::standing).collect();
        if self.said.as_ref() != Some(&standings) {
            self.core.send(Letter::Watched(standings.clone()));
            self.said = Some(standings);
        }
    }
}

impl Wanted {
    fn new(interface: String, index: Option<u32>) -> Self {
        Self { interface, index, waiting_said: false, refusal_said: false }
    }

    fn follow(&mut self, found: Option<&Interface>, port: u16, core: &Letters<Letter>) {
        let index = found.map(|interface| interface.index);
        if self.index.is_some() && self.index != index {
            tracing::warn!("interface {} is gone: DHCP waits for it", self.interface);
            core.send(Letter::Gone(self.interface.clone()));
            (self.index, self.waiting_said) = (None, true);
        }
        if self.index.is_some() {
            return;
        }
        let Some(found) = found.filter(|found| ipv4(found).next().is_some()) else {
            if !std::mem::replace(&mut self.waiting_said, true) {
                tracing::warn!("interface {} is not there or has no IPv4 address: DHCP waits for it", self.interface);
            }
            return;
        };
        match bind(&self.interface, port) {
            Ok(socket) => {
                tracing::info!("interface {} is there: DHCP listens on it", self.interface);
                core.send(Letter::Bound { interface: self.interface.clone(), socket });
                (self.index, self.refusal_said) = (Some(found.index), false);
            }
            Err(error) if !std::mem::replace(&mut self.refusal_said, true) => {
                tracing::warn!("interface {} is there, but DHCP cannot listen on it yet: {error}", self.interface);
            }
            Err(_) => {}
        }
    }
}

impl Segment {
    fn new(subnet: &Subnet, interface: &str, snapshot: &Snapshot, before: Before) -> Self {
        let place = snapshot.places.iter().find(|(network, _)| *network == subnet.network);
        Self {
            subnet: subnet.network,
            interface: interface.to_owned(),
            relay: subnet.relay,
            beside: subnet.allow_other_servers,
            here: None,
            watch: Watch::new(subnet.allow_other_servers, before),
            others: Vec::new(),
            place: place.map(|(_, place)| place.clone()),
            misplaced: None,
            unsent_said: false,
        }
    }

    fn is_at(&self, index: u32) -> bool {
        self.here.is_some_and(|here| here.index == index)
    }

    fn follow(&mut self, found: Option<&Interface>, now: Millis) {
        let here = found.and_then(|interface| {
            let address = address_in(interface, self.subnet, self.relay)?;
            Some(Here { index: interface.index, address })
        });
        if here.map(|here| here.index) != self.here.map(|here| here.index) {
            self.watch.vanished();
            self.others.clear();
            if here.is_some() {
                self.watch.appeared(now);
            }
        }
        self.here = here;
        let elsewhere = found.filter(|interface| here.is_none() && ipv4(interface).next().is_some());
        let misplaced = elsewhere.map(|interface| self.misplaced_words(interface));
        if let Some(words) = misplaced.as_ref().filter(|words| self.misplaced.as_ref() != Some(*words)) {
            tracing::warn!("{words}; nothing is answered there");
        }
        self.misplaced = misplaced;
    }

    /// What is wrong, with the addresses that are really there.
    fn misplaced_words(&self, interface: &Interface) -> String {
        let place = self.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
        let addresses: Vec<String> = ipv4(interface).map(|address| address.to_string()).collect();
        format!(
            "{place}subnet {} is not on interface {}, which has {}: correct one of them, or write `relay = true` where relay \
             agents bring its requests",
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

    fn conclude(&mut self, verdict: Verdict, keep: &mut KeepLook) {
        if verdict.is_news {
            self.say(verdict.server);
        }
        self.others = verdict.server.into_iter().collect();
        keep(&Look { network: self.subnet, looked_s: unix_now(), server: verdict.server });
    }

    fn say(&self, server: Option<OtherServer>) {
        let Self { subnet, interface, .. } = self;
        match server {
            None => tracing::info!("no other DHCP server answers on {interface}: {subnet} is served"),
            Some(server) if self.beside => {
                tracing::warn!("{server} answers on {interface}; {subnet} is served beside it (allow-other-servers)");
            }
            Some(server) => tracing::warn!(
                "{server} answers on {interface}: ringboot is silent on {subnet}. Stop that server, or serve beside it with \
                 `allow-other-servers = true`"
            ),
        }
    }

    fn finding(&self) -> Finding {
        Finding {
            network: self.subnet,
            interface: self.interface.clone(),
            held: self.watch.held(),
            misplaced: self.misplaced.clone(),
            others: self.others.clone(),
        }
    }

    fn standing(&self) -> Standing {
        let (network, interface, beside) = (self.subnet, self.interface.clone(), self.beside);
        Standing { network, interface, beside, held: self.watch.held() }
    }
}

/// The address that a subnet's clients are answered from: one in the subnet, or any where relays come to the interface.
fn address_in(interface: &Interface, subnet: Network, relay: bool) -> Option<Ipv4Addr> {
    let inside = ipv4(interface).find(|address| subnet.contains(*address));
    inside.or_else(|| ipv4(interface).next().filter(|_| relay))
}

pub(super) fn ipv4(interface: &Interface) -> impl Iterator<Item = Ipv4Addr> {
    let v4 = |address: &IpAddr| if let IpAddr::V4(address) = address { Some(*address) } else { None };
    interface.addresses.iter().filter_map(v4)
}

fn bind(interface: &str, port: u16) -> io::Result<OwnedFd> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    net::udp(&Binding { address, interface: Some(interface), shared: false })
}

/// Without the privilege nobody can be looked for, and so nobody is served who is not to be served in any case.
fn listen() -> Option<Listener> {
    let listener = Listener::open();
    if let Err(error) = &listener {
        tracing::warn!(
            "cannot look for other DHCP servers ({error}; CAP_NET_RAW allows it): only subnets with `allow-other-servers = true` \
             are served"
        );
    }
    listener.ok()
}

/// Any number: the standard library seeds each of its hash tables by chance.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
