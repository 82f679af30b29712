//! The thread that keeps DHCP polite: it waits for interfaces, looks for other DHCP servers, and
//! tells the DHCP core when to be silent.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub use super::findings::{KnownSegments, SegmentFinding, SegmentFindings};
pub use super::segment::KeepLook;

use super::interfaces::{ipv4, watched_subnets};
use super::letters::{DhcpLetter, SegmentSign, SegmentStatus};
use super::segment::{SegmentAddress, WatchedSegment};
use super::wanted::WantedSocket;
use crate::dhcp::limits::PROBE_WAIT_MS;
use crate::dhcp::other_servers::{self, MonotonicMillis, PriorKnowledge, RingbootMark};
use crate::dhcp::subnet::Subnet;
use crate::engine::link::{self, PacketListener};
use crate::engine::mailbox::{CoreMailbox, MailboxBell, MailboxSender};
use crate::engine::net::{self, NetworkInterface};
use crate::engine::netlink::InterfaceChanges;
use crate::engine::probe::{ArpProbe, EchoProbe};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;
use crate::serve::core::CoreError;
use crate::serve::drain::DrainOrder;
use crate::serve::pulse::CorePulse;
use crate::snapshot::PublishedState;

/// How often the interfaces are looked at, and the longest sleep. Milliseconds.
const INTERFACES_EVERY_MS: MonotonicMillis = 1000;
/// One DHCP message with its IPv4 header; what is longer is cut. Bytes.
const PACKET_BYTES_MAX: usize = 2048;
/// Packets, and letters, that are looked at before interfaces and looks have their turn again.
const TURN_MAX: usize = 64;

/// What the thread is made of.
pub(super) struct OtherServersParts<'a> {
    /// Looked at again after each reload.
    pub(super) published: Arc<PublishedState>,
    /// What the run before this one knew of each.
    pub(super) before: &'a [(Ipv4Network, PriorKnowledge)],
    /// Interfaces that a DHCP socket is wanted on, with the index of the one that has it.
    pub(super) wanted: Vec<(String, Option<u32>)>,
    pub(super) port: u16,
    pub(super) findings: Arc<SegmentFindings>,
    pub(super) keep: KeepLook,
    pub(super) core: MailboxSender<DhcpLetter>,
    pub(super) drain: DrainOrder,
}

/// The thread before and while it runs.
pub(crate) struct OtherServersThread {
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
    sockets: Vec<WantedSocket>,
    segments: Vec<WatchedSegment>,
    published: Arc<PublishedState>,
    /// The one that the segments are of.
    generation: u64,
    ours: Vec<Ipv4Addr>,
    port: u16,
    findings: Arc<SegmentFindings>,
    keep: KeepLook,
    core: MailboxSender<DhcpLetter>,
    drain: DrainOrder,
    mailbox: CoreMailbox<SegmentSign>,
    next_interfaces_ms: MonotonicMillis,
    /// Letters wait for the next turn.
    is_behind: bool,
    /// What the core was told last.
    said: Option<Vec<SegmentStatus>>,
    pulse: CorePulse,
}

impl OtherServersThread {
    /// Says what is waited for, and holds back what must be, before the DHCP core reads its first
    /// packet.
    pub(super) fn new(
        parts: OtherServersParts<'_>,
    ) -> io::Result<(Self, MailboxSender<SegmentSign>, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let before = |network| {
            parts.before.iter().find(|(known, _)| *known == network).map(|(_, before)| *before)
        };
        let generation = parts.published.get();
        let segments: Vec<WatchedSegment> =
            watched_subnets(&generation.snapshot.dhcp.subnets, parts.port)
                .map(|(subnet, name)| {
                    let before = before(subnet.network).unwrap_or(PriorKnowledge::Nothing);
                    WatchedSegment::new(subnet, name, &generation.snapshot, before)
                })
                .collect();
        let mut thread = Self {
            listener: if segments.is_empty() { None } else { open_listener() },
            arp: open_probe(ArpProbe::open()),
            echo: open_probe(EchoProbe::open()),
            asked: VecDeque::new(),
            changes: open_changes(),
            interfaces: Arc::default(),
            started: Instant::now(),
            sockets: parts
                .wanted
                .into_iter()
                .map(|(interface, index)| WantedSocket::new(interface, index))
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
            pulse: CorePulse::default(),
        };
        thread.follow_interfaces(0);
        thread.publish();
        Ok((thread, letters, bell))
    }

    /// The thread shows signs of life.
    #[must_use]
    pub(crate) fn with_pulse(self, pulse: CorePulse) -> Self {
        Self { pulse, ..self }
    }

    /// Runs until drained.
    pub(crate) fn run(mut self, ready: &mut dyn FnMut()) -> Result<(), CoreError> {
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
            let same =
                |one: &WatchedSegment| one.subnet == subnet.network && one.interface == *name;
            let next =
                WatchedSegment::new(subnet, name, &generation.snapshot, PriorKnowledge::Nothing);
            let Some(at) = before.iter().position(same) else { return next };
            before.swap_remove(at).with_settings(next)
        };
        self.segments =
            watched_subnets(&generation.snapshot.dhcp.subnets, self.port).map(segment).collect();
        self.follow_listeners(&generation.snapshot.dhcp_interfaces);
        self.generation = generation.number;
        if self.listener.is_none() && !self.segments.is_empty() {
            self.listener = open_listener();
        }
    }

    fn follow_listeners(&mut self, interfaces: &[String]) {
        for gone in self.sockets.extract_if(.., |one| !interfaces.contains(&one.interface)) {
            tracing::info!(
                "no subnet names the interface {} any more: DHCP listens there no longer",
                gone.interface
            );
            self.core.send(DhcpLetter::Gone(gone.interface));
        }
        for interface in interfaces {
            if !self.sockets.iter().any(|one| one.interface == *interface) {
                self.sockets.push(WantedSocket::new(interface.clone(), None));
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
        self.core.send(DhcpLetter::Interfaces(Arc::clone(&self.interfaces)));
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
            let Some(SegmentAddress { index, address, mac }) =
                segment.here.filter(|_| segment.watch.is_due(now))
            else {
                continue;
            };
            let xid = u32::try_from(random_number() >> 32).unwrap_or(0);
            // The INFORM goes first: once dnsmasq pings for the DISCOVER, it hears nothing for
            // three seconds.
            let mark = RingbootMark { address, serves: segment.watch.held().is_none() };
            let packets = other_servers::build_look_inform(mac, xid, mark)
                .zip(other_servers::build_look_discover(mac, xid, mark));
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
                SegmentSign::Offers { address, interface } => {
                    self.ask_for(address, interface, now);
                    continue;
                }
                SegmentSign::OtherServer(index) => index,
                SegmentSign::ClientAsks { interface, .. }
                | SegmentSign::Looked { interface, .. } => interface,
            };
            for segment in self.segments.iter_mut().filter(|segment| segment.is_at(index)) {
                match sign {
                    SegmentSign::Looked { rival, .. } => {
                        segment.meet(&rival, now, self.listener.as_ref(), &mut self.keep)
                    }
                    SegmentSign::OtherServer(_) => segment.watch.suspects(now),
                    // Its seconds are whole ones: it may have begun almost one earlier.
                    SegmentSign::ClientAsks { since_s, .. } if since_s > 0 => {
                        segment.watch.client_asks((u64::from(since_s) + 1) * 1000, now);
                    }
                    SegmentSign::ClientAsks { .. } | SegmentSign::Offers { .. } => {}
                }
            }
        }
        self.hear_owners(now);
        let Some(listener) = &self.listener else { return };
        let mut buffer = [0; PACKET_BYTES_MAX];
        for _ in 0..TURN_MAX {
            let Some((origin, packet)) = listener.receive(&mut buffer) else { break };
            let Some(word) =
                other_servers::parse_server_message(packet, Mac(origin.mac), &self.ours)
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
                found
                    .zip(self.arp.as_ref())
                    .map(|(found, arp)| arp.send_query(index, found.mac, address))
            }
            None => self.echo.as_ref().map(|echo| echo.send_query(address)),
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
            .map_while(|_| self.arp.as_ref()?.read_answer())
            .map(|(mac, address)| (Some(Mac(mac)), address));
        let by_echo = (0..TURN_MAX)
            .map_while(|_| self.echo.as_ref()?.read_answer())
            .map(|address| (None, address));
        for (host, address) in by_arp.chain(by_echo) {
            if self.asked.iter().any(|(_, asked)| *asked == address) {
                self.core.send(DhcpLetter::InUse { address, host });
            }
        }
    }

    /// Tells the core and control what has changed.
    fn publish(&mut self) {
        let sockets = self.sockets.iter().filter(|one| one.index.is_some());
        *self.findings.lock() = KnownSegments {
            segments: self.segments.iter().map(|segment| segment.finding(self.started)).collect(),
            sockets: sockets.map(|one| format!("{}:{}", one.interface, self.port)).collect(),
        };
        let standings: Vec<SegmentStatus> =
            self.segments.iter().map(WatchedSegment::standing).collect();
        if self.said.as_ref() != Some(&standings) {
            self.core.send(DhcpLetter::Watched(standings.clone()));
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

fn millis_since(started: Instant) -> MonotonicMillis {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(MonotonicMillis::MAX)
}

/// Without the privilege nobody can be looked for, and so nobody is served who is not to be served
/// in any case.
fn open_listener() -> Option<PacketListener> {
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
fn open_probe<T>(opened: io::Result<T>) -> Option<T> {
    opened
        .inspect_err(|error| {
            tracing::debug!("nobody is asked whether an address is in use: {error}")
        })
        .ok()
}

fn open_changes() -> Option<InterfaceChanges> {
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
fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}
