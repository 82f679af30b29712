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
use crate::dhcp::neighbours::{self, Before, Look, Millis, Verdict, Watch};
use crate::dhcp::subnet::{Held, Mode, Network, OtherServer, Subnet};
use crate::engine::link::{self, Listener};
use crate::engine::mailbox::{Bell, Letters, Mailbox};
use crate::engine::net::{self, Binding, Interface};
use crate::snapshot::Published;

/// How often the interfaces are looked at, and the longest sleep. Milliseconds.
const INTERFACES_EVERY_MS: Millis = 1000;
/// One DHCP message with its IPv4 header; what is longer is cut. Bytes.
const PACKET_BYTES_MAX: usize = 2048;

/// Keeps what a look found for the next start.
pub type KeepLook = Box<dyn FnMut(&Look) + Send>;

/// What is known of the segments of served subnets: written by this thread, read by control. Never on a packet's path.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Vec<Finding>>);

/// One served subnet on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub network: Network,
    pub interface: String,
    /// Why nothing leaves now; None = served.
    pub held: Option<Held>,
    /// The last look that ended, of this run.
    pub looked: Option<Look>,
}

impl Findings {
    pub fn read(&self) -> Vec<Finding> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Indexes of interfaces where a client has chosen another server.
    mailbox: Mailbox<u32>,
    next_interfaces_ms: Millis,
    /// The core knows of these segments.
    is_said: bool,
}

/// A DHCP socket that is bound, or waits for its interface.
struct Wanted {
    interface: String,
    index: Option<u32>,
    refusal_said: bool,
}

/// A served subnet on an interface.
struct Segment {
    subnet: Network,
    interface: String,
    relay: bool,
    beside: bool,
    /// While the interface is there with an address in the subnet.
    index: Option<u32>,
    watch: Watch,
    looked: Option<Look>,
    misplaced_said: bool,
    unsent_said: bool,
}

/// Subnets that are watched: served here by broadcast on the real port. A trial on another port disturbs nobody.
pub(super) fn watched(subnets: &[Subnet], port: u16) -> impl Iterator<Item = (&Subnet, &String)> {
    let served = subnets.iter().filter(move |subnet| subnet.mode == Mode::Server && port == neighbours::PORT);
    served.filter_map(|subnet| Some((subnet, subnet.interface.as_ref()?)))
}

impl Neighbours {
    /// Says what is waited for, and holds back what must be, before the DHCP core reads its first packet.
    pub(super) fn new(parts: Parts<'_>) -> io::Result<(Self, Letters<u32>, Bell)> {
        let (letters, mailbox) = Mailbox::new()?;
        let bell = mailbox.bell();
        let before = |network| parts.before.iter().find(|(known, _)| *known == network).map(|(_, before)| *before);
        let generation = parts.published.get();
        let segments: Vec<Segment> = watched(&generation.snapshot.subnets, parts.port)
            .map(|(subnet, name)| Segment::new(subnet, name, before(subnet.network).unwrap_or(Before::Nothing)))
            .collect();
        let [a, b, c, d, e, ..] = random().to_be_bytes();
        let mut neighbours = Self {
            listener: if segments.is_empty() { None } else { listen() },
            mac: Mac([2, a, b, c, d, e]),
            started: Instant::now(),
            sockets: parts
                .wanted
                .into_iter()
                .map(|(interface, index)| Wanted { interface, index, refusal_said: false })
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
            is_said: false,
        };
        for waiting in neighbours.sockets.iter().filter(|wanted| wanted.index.is_none()) {
            tracing::warn!("interface {} is not there or has no IPv4 address: DHCP waits for it", waiting.interface);
        }
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

    /// After a reload: subnets that stay keep what is known of them, new ones are looked at first. Sockets stay as they are.
    fn follow_configuration(&mut self) {
        let generation = self.published.get();
        let mut before = std::mem::take(&mut self.segments);
        let segment = |(subnet, name): (&Subnet, &String)| {
            let same = |one: &Segment| one.subnet == subnet.network && one.interface == *name;
            let Some(at) = before.iter().position(same) else { return Segment::new(subnet, name, Before::Nothing) };
            let mut kept = before.swap_remove(at);
            kept.serve_beside(subnet.allow_other_servers);
            Segment { relay: subnet.relay, ..kept }
        };
        self.segments = watched(&generation.snapshot.subnets, self.port).map(segment).collect();
        self.generation = generation.number;
        if self.listener.is_none() && !self.segments.is_empty() {
            self.listener = listen();
        }
        // Other subnets than before: said as a whole.
        self.findings.lock().clear();
        self.is_said = false;
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
            let Some(index) = segment.index.filter(|_| segment.watch.is_due(now)) else { continue };
            let xid = u32::try_from(random() >> 32).unwrap_or(0);
            let Some(packet) = neighbours::discover(self.mac, xid) else { continue };
            match listener.broadcast(index, &packet) {
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
        while let Some(index) = self.mailbox.take() {
            let here = self.segments.iter_mut().filter(|segment| segment.index == Some(index));
            here.for_each(|segment| segment.watch.suspects(now));
        }
        let Some(listener) = &self.listener else { return };
        let mut buffer = [0; PACKET_BYTES_MAX];
        while let Some((origin, packet)) = listener.receive(&mut buffer) {
            let Some(word) = neighbours::word(packet, Mac(origin.mac), &self.ours) else { continue };
            for segment in self.segments.iter_mut().filter(|segment| segment.index == Some(origin.interface)) {
                if let Some(verdict) = segment.watch.heard(&word, now) {
                    segment.conclude(verdict, &mut self.keep);
                }
            }
        }
    }

    /// Tells the core and control what has changed.
    fn publish(&mut self) {
        let mut findings = self.findings.lock();
        let before: Vec<Option<Held>> = findings.iter().map(|finding| finding.held).collect();
        if !self.is_said {
            *findings = self.segments.iter().map(Segment::finding).collect();
        }
        for (finding, segment) in findings.iter_mut().zip(&self.segments) {
            (finding.held, finding.looked) = (segment.watch.held(), segment.looked);
        }
        let after = findings.iter().map(|finding| finding.held);
        if !std::mem::replace(&mut self.is_said, true) || !after.eq(before) {
            let watched = findings.iter().map(|finding| (finding.network, finding.held));
            self.core.send(Letter::Watched(watched.collect()));
        }
    }
}

impl Wanted {
    fn follow(&mut self, found: Option<&Interface>, port: u16, core: &Letters<Letter>) {
        let index = found.map(|interface| interface.index);
        if self.index.is_some() && self.index != index {
            tracing::warn!("interface {} is gone: DHCP waits for it", self.interface);
            core.send(Letter::Gone(self.interface.clone()));
            self.index = None;
        }
        let Some(found) = found.filter(|found| self.index.is_none() && ipv4(found).next().is_some()) else { return };
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
    fn new(subnet: &Subnet, interface: &str, before: Before) -> Self {
        Self {
            subnet: subnet.network,
            interface: interface.to_owned(),
            relay: subnet.relay,
            beside: subnet.allow_other_servers,
            index: None,
            watch: Watch::new(subnet.allow_other_servers, before),
            looked: None,
            misplaced_said: false,
            unsent_said: false,
        }
    }

    fn serve_beside(&mut self, beside: bool) {
        self.beside = beside;
        self.watch.serve_beside(beside);
    }

    fn follow(&mut self, found: Option<&Interface>, now: Millis) {
        let serves = |interface: &&Interface| is_on(interface, self.subnet, self.relay);
        let index = found.filter(serves).map(|interface| interface.index);
        if index != self.index {
            self.watch.vanished();
            if index.is_some() {
                self.watch.appeared(now);
            }
            self.index = index;
        }
        let misplaced = found.filter(|interface| index.is_none() && ipv4(interface).next().is_some());
        match misplaced {
            Some(interface) if !std::mem::replace(&mut self.misplaced_said, true) => {
                tracing::warn!("{}: nothing is answered there", misplaced_words(self.subnet, interface));
            }
            Some(_) => {}
            None => self.misplaced_said = false,
        }
    }

    fn conclude(&mut self, verdict: Verdict, keep: &mut KeepLook) {
        let look = Look { network: self.subnet, looked_s: unix_now(), server: verdict.server };
        if verdict.is_news {
            self.say(verdict.server);
        }
        self.looked = Some(look);
        keep(&look);
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
        let interface = self.interface.clone();
        Finding { network: self.subnet, interface, held: self.watch.held(), looked: self.looked }
    }
}

/// Whether a subnet's clients can be answered from an interface: it has an address there, or relays come to any of its own.
pub(super) fn is_on(interface: &Interface, subnet: Network, relay: bool) -> bool {
    ipv4(interface).any(|address| relay || subnet.contains(address))
}

/// What is wrong, with the addresses that are really there.
pub(super) fn misplaced_words(subnet: Network, interface: &Interface) -> String {
    let addresses: Vec<String> = ipv4(interface).map(|address| address.to_string()).collect();
    format!(
        "subnet {subnet} is not on interface {}, which has {}: correct one of them, or write `relay = true` where relay \
         agents bring its requests",
        interface.name,
        addresses.join(", ")
    )
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
