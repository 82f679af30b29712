//! The thread that watches interfaces and looks for other DHCP servers, and tells the DHCP core
//! when to be silent.

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

/// How often the thread lists the interfaces, and its longest sleep, in milliseconds.
const INTERFACES_EVERY_MS: MonotonicMillis = 1000;
/// Buffer for one DHCP message with its IPv4 header, in bytes; a longer one is cut.
const PACKET_BYTES_MAX: usize = 2048;
/// Packets, and letters, that one turn reads before interfaces and looks have their turn again.
const TURN_MAX: usize = 64;

/// What the thread is made from.
pub(super) struct OtherServersParts<'a> {
    /// The thread reads it again after each reload.
    pub(super) published: Arc<PublishedState>,
    /// What the last run of the server knew of each subnet.
    pub(super) before: &'a [(Ipv4Network, PriorKnowledge)],
    /// Interfaces that the configuration names, each with its index once a socket is bound to it.
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
    /// Addresses that were probed, oldest first: answers for other addresses are ignored.
    asked: VecDeque<(MonotonicMillis, Ipv4Addr)>,
    /// Tells when interfaces or addresses change; without it the thread lists them every second.
    changes: Option<InterfaceChanges>,
    /// The interfaces as the core knows them.
    interfaces: Arc<Vec<NetworkInterface>>,
    started: Instant,
    sockets: Vec<WantedSocket>,
    segments: Vec<WatchedSegment>,
    published: Arc<PublishedState>,
    /// The number of the generation whose subnets are in `segments`.
    generation: u64,
    ours: Vec<Ipv4Addr>,
    port: u16,
    findings: Arc<SegmentFindings>,
    keep: KeepLook,
    core: MailboxSender<DhcpLetter>,
    drain: DrainOrder,
    mailbox: CoreMailbox<SegmentSign>,
    next_interfaces_ms: MonotonicMillis,
    /// Letters are left for the next turn.
    is_behind: bool,
    /// The statuses that the core got last.
    said: Option<Vec<SegmentStatus>>,
    pulse: CorePulse,
}

impl OtherServersThread {
    /// Lists the interfaces and tells the DHCP core which subnets must be silent, before the core
    /// reads its first packet.
    pub(super) fn new(
        parts: OtherServersParts<'_>,
    ) -> io::Result<(Self, MailboxSender<SegmentSign>, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let generation = parts.published.get();
        let mut segments = Vec::new();
        for (subnet, name) in watched_subnets(&generation.snapshot.dhcp.subnets, parts.port) {
            let known = parts.before.iter().find(|(network, _)| *network == subnet.network);
            let before = known.map_or(PriorKnowledge::Nothing, |(_, before)| *before);
            segments.push(WatchedSegment::new(subnet, name, &generation.snapshot, before));
        }

        // Without a segment to watch no packet socket is needed. A reload that brings the first
        // segment opens it.
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

        // These letters are in the core's mailbox before the core's thread starts, and the core
        // reads letters before messages.
        thread.follow_interfaces(0);
        thread.publish_findings();
        Ok((thread, letters, bell))
    }

    /// Gives the thread a pulse that the watchdog reads.
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

            // The operator's order counts as carried out when the core and control know that the
            // findings are gone: `publish` comes before the flag is cleared.
            let is_to_forget = self.findings.again.load(Ordering::Relaxed);
            if is_to_forget {
                for segment in &mut self.segments {
                    segment.watch.forget(now);
                    segment.others.clear();
                }
            }
            if self.findings.now.swap(false, Ordering::Relaxed) {
                self.segments.iter_mut().for_each(|segment| segment.watch.look_again(now));
            }
            self.run_due_looks(now);
            self.publish_findings();
            if is_to_forget {
                self.findings.again.store(false, Ordering::Release);
            }

            self.sleep(now);
            if self.changes.as_ref().is_some_and(InterfaceChanges::take) {
                self.next_interfaces_ms = 0;
            }
            self.read_signs();
            self.hear_owners();
            self.hear_servers();
        }
        Ok(())
    }

    /// Sleeps until a letter, a packet, a change of the interfaces or the next look.
    fn sleep(&self, now: MonotonicMillis) {
        let sources: [Option<BorrowedFd<'_>>; 4] = [
            self.changes.as_ref().map(AsFd::as_fd),
            self.listener.as_ref().map(AsFd::as_fd),
            self.arp.as_ref().map(AsFd::as_fd),
            self.echo.as_ref().map(AsFd::as_fd),
        ];
        let sources: Vec<BorrowedFd<'_>> = sources.into_iter().flatten().collect();

        let looks = self.segments.iter().filter(|_| self.listener.is_some());
        let wakes = looks.filter_map(|segment| segment.watch.next_wakeup()).min();
        let until = wakes.map_or(self.next_interfaces_ms, |at| at.min(self.next_interfaces_ms));
        // Letters that are left from the last turn do not ring the bell again.
        let sleep =
            Duration::from_millis(if self.is_behind { 0 } else { until.saturating_sub(now) });
        link::wait_for_mailbox(&self.mailbox, &sources, sleep);
    }

    fn now(&self) -> MonotonicMillis {
        millis_since(self.started)
    }

    /// Follows a reload. Subnets that stay keep what is known of them, new ones are looked at
    /// before they are served. Sockets on interfaces that no subnet names any more are closed; new
    /// interfaces are bound like those that appear late.
    fn follow_configuration(&mut self) {
        let generation = self.published.get();
        let mut before = std::mem::take(&mut self.segments);
        for (subnet, name) in watched_subnets(&generation.snapshot.dhcp.subnets, self.port) {
            let segment =
                WatchedSegment::new(subnet, name, &generation.snapshot, PriorKnowledge::Nothing);
            let known = before
                .iter()
                .position(|known| known.subnet == subnet.network && known.interface == *name);
            self.segments.push(match known {
                Some(at) => before.swap_remove(at).with_settings(segment),
                None => segment,
            });
        }
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

    /// Follows interfaces that come, go, and come again under another index: a socket that is bound
    /// to the old index receives nothing on the new one.
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
            segment.follow_interface(found, now);
        }
    }

    /// Sends the looks that are due, and ends those that have listened long enough.
    fn run_due_looks(&mut self, now: MonotonicMillis) {
        let Some(listener) = &self.listener else { return };
        let started = self.started;
        for segment in &mut self.segments {
            if let Some(verdict) = segment.watch.poll_deadline(now) {
                segment.apply_verdict(verdict, &mut self.keep);
            }
            let Some(SegmentAddress { index, address, mac }) =
                segment.here.filter(|_| segment.watch.is_due(now))
            else {
                continue;
            };
            let xid = u32::try_from(random_number() >> 32).unwrap_or(0);
            // The INFORM goes first: once dnsmasq pings for the DISCOVER, it hears nothing for
            // three seconds.
            let mark = RingbootMark { address, serves: segment.watch.hold_reason().is_none() };
            let packets = other_servers::build_look_inform(mac, xid, mark)
                .zip(other_servers::build_look_discover(mac, xid, mark));
            let Some((inform, discover)) = packets else { continue };
            match listener
                .broadcast(index, &inform)
                .and_then(|()| listener.broadcast(index, &discover))
            {
                // The time to answer begins when the DISCOVER has left, not when this turn began.
                Ok(()) => segment.watch.on_look_sent(xid, millis_since(started).saturating_add(1)),
                Err(error) => {
                    segment.watch.on_send_failed(now);
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

    /// Reads the core's signs: clients that ask, other servers that it has noticed, addresses to
    /// probe.
    fn read_signs(&mut self) {
        let now = self.now();
        self.is_behind = true;
        for _ in 0..TURN_MAX {
            let Some(sign) = self.mailbox.take() else {
                self.is_behind = false;
                break;
            };
            let index = match sign {
                SegmentSign::Offers { address, interface } => {
                    self.probe_address(address, interface, now);
                    continue;
                }
                SegmentSign::OtherServer(index) => index,
                SegmentSign::ClientAsks { interface, .. }
                | SegmentSign::Looked { interface, .. } => interface,
            };
            for segment in self.segments.iter_mut().filter(|segment| segment.is_at(index)) {
                match sign {
                    SegmentSign::Looked { rival, .. } => {
                        segment.answer_rival(&rival, now, self.listener.as_ref(), &mut self.keep)
                    }
                    SegmentSign::OtherServer(_) => segment.watch.look_soon(now),
                    // The client counts whole seconds: it may have begun almost one earlier.
                    SegmentSign::ClientAsks { since_s, .. } if since_s > 0 => {
                        segment.watch.on_client_discover((u64::from(since_s) + 1) * 1000, now);
                    }
                    SegmentSign::ClientAsks { .. } | SegmentSign::Offers { .. } => {}
                }
            }
        }
    }

    /// Reads the messages of other DHCP servers that the packet socket has received.
    fn hear_servers(&mut self) {
        let now = self.now();
        let Some(listener) = &self.listener else { return };
        let mut buffer = [0; PACKET_BYTES_MAX];
        for _ in 0..TURN_MAX {
            let Some((origin, packet)) = listener.receive(&mut buffer) else { break };
            let Some(message) =
                other_servers::parse_server_message(packet, Mac(origin.mac), &self.ours)
            else {
                continue;
            };

            // Several subnets may be on one interface: the message concerns each of them.
            for segment in
                self.segments.iter_mut().filter(|segment| segment.is_at(origin.interface))
            {
                let Some(here) = segment.here else { continue };

                // Asked first, because the verdict may void the number of the look. The server is
                // remembered last, because the verdict replaces the list.
                let is_answer = segment.watch.is_answer(&message);
                if let Some(verdict) = segment.watch.on_server_message(&message, here.address, now)
                {
                    segment.apply_verdict(verdict, &mut self.keep);
                }
                if is_answer {
                    segment.remember_server(message.server);
                }
            }
        }
    }

    /// Probes an address that the core is about to offer: by ARP on its interface, behind a relay
    /// by an echo request. Where the probe cannot be sent, the core offers the address when the
    /// probe's time is over.
    fn probe_address(&mut self, address: Ipv4Addr, interface: Option<u32>, now: MonotonicMillis) {
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

    /// Tells the core which hosts have answered for addresses that it is about to offer.
    fn hear_owners(&mut self) {
        let now = self.now();
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

    /// Publishes the findings to control, the statuses to the core if they have changed, and news
    /// to the log.
    fn publish_findings(&mut self) {
        let sockets = self.sockets.iter().filter(|one| one.index.is_some());
        *self.findings.lock() = KnownSegments {
            segments: self.segments.iter().map(|segment| segment.finding(self.started)).collect(),
            sockets: sockets.map(|one| format!("{}:{}", one.interface, self.port)).collect(),
        };
        let statuses: Vec<SegmentStatus> =
            self.segments.iter().map(WatchedSegment::status).collect();
        if self.said.as_ref() != Some(&statuses) {
            self.core.send(DhcpLetter::Watched(statuses.clone()));
            self.said = Some(statuses);
        }
        // Logged after the core knows it: an operator who reads the line may boot a machine.
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

/// Opens the packet socket. Without the privilege ringboot cannot look for other servers, and
/// serves only subnets where it may answer beside them.
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

/// Keeps a probe that could be opened. Without the privilege the core offers addresses unprobed.
fn open_probe<T>(opened: io::Result<T>) -> Option<T> {
    opened
        .inspect_err(|error| {
            tracing::debug!("offered addresses are not probed by this protocol: {error}")
        })
        .ok()
}

fn open_changes() -> Option<InterfaceChanges> {
    let changes = InterfaceChanges::open();
    if let Err(error) = &changes {
        tracing::debug!(
            "listing the interfaces every second, since the kernel does not report their changes: \
             {error}"
        );
    }
    changes.ok()
}

/// A random number: the standard library seeds each hash table randomly.
fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}
