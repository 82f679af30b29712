//! The DHCP thread: drives the pure `decide` with sockets, and sends no ACK before its lease is
//! durable.

mod dry_run;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::bind::DhcpSockets;
use super::events::{DhcpJournal, dhcp_event};
use super::interfaces::HostInterfaces;
use super::leases::{CoreLeases, PoolLooks};
use super::letters::{DhcpLetter, SegmentSign};
use super::messages::{DhcpInbox, ReceivedMessage, RouterSolicitation, WayIn, count_message};
use super::offers::PendingOffers;
use super::pending_answer::PendingAnswer;
use super::plan::{DhcpCounters, DhcpPlan};
use super::signs::{SignSender, SilentSubnets, sign_of};
use super::sockets::CoreSockets;
use super::store_owner::StoreOwner;
use crate::dhcp::decide::{Decision, DhcpSilence, IncomingMessage, decide_answer};
use crate::dhcp::lease::{BootTimes, ClockSeconds, Lease, LeaseChange};
use crate::dhcp::limits::CONFLICT_HOLD_S;
use crate::dhcp::other_servers as look;
use crate::dhcp::probes::ProbeVerdict;
use crate::engine::clock;
use crate::engine::mailbox::{CoreMailbox, MailboxSender};
use crate::engine::net::{self, NetworkInterface};
use crate::engine::udp::{SocketId, TurnWait, UdpDriver};
use crate::model::machine::{FirmwareRole, Mac};
use crate::serve::core::{CoreError, CoreParts};
use crate::serve::drain::DrainOrder;
use crate::serve::health::{LeaseTrust, StoreHealth};
use crate::serve::pulse::CorePulse;
use crate::store::{NotQueued, StoreWriter};

/// Commits that may wait for the store. The core drops a request beyond, and its client asks again.
const COMMITS_PENDING_MAX: usize = 16_384;
/// Messages that the core answers in one turn, before it looks again at letters, its pulse and the
/// order to stop: a millisecond or two.
const TURN_MESSAGES_MAX: usize = 256;
/// Datagrams that io_uring hands over at a time at most, where more wait: the retries of a
/// multishot receive (MULTISHOT_MAX_RETRY in io_uring/net.c of Linux).
const FULL_COLLECT: u64 = 32;
/// Datagrams after which a turn takes in no more: several times what it answers, and as many as one
/// collect without a ring brings.
const TURN_ARRIVALS_MAX: u64 = 1024;
/// Letters that the core reads in one turn.
const TURN_LETTERS_MAX: usize = 256;
/// Offers that leave in one turn because their probe got no answer.
const TURN_OFFERS_MAX: usize = 256;
/// Router solicitations that the core answers in one turn.
const TURN_SOLICITATIONS_MAX: usize = 64;
/// How often the core looks for expired leases and offers while nothing arrives.
const SWEEP: Duration = Duration::from_secs(1);
/// The sleep between two pieces of a new configuration, in which other threads on the same
/// processor run, such as the store's writer.
const MOVE_PAUSE: Duration = Duration::from_millis(1);
/// How long the last commits may take after the order to stop.
const LAST_COMMITS_MAX: Duration = Duration::from_secs(5);

/// The state of the running core.
pub(super) struct RunningDhcp {
    pub(super) sockets: CoreSockets,
    pub(super) state: CoreLeases,
    inbox: DhcpInbox,
    interfaces: HostInterfaces,
    silent: SilentSubnets,
    signs: SignSender,
    /// `listen-address`, where it is configured instead of interfaces.
    address: Option<Ipv4Addr>,
    port: u16,
    counters: Arc<DhcpCounters>,
    writer: StoreWriter,
    health: Arc<StoreHealth>,
    /// Decisions whose changes are not durable yet, by the ticket of their commit.
    awaiting_commit: HashMap<u64, PendingAnswer>,
    /// Control threads that wait until addresses are durably freed, by ticket.
    freeing: HashMap<u64, SyncSender<Option<usize>>>,
    next_ticket: u64,
    offers: PendingOffers,
    pools: PoolLooks,
    /// More letters or messages wait than one turn handles: the next turn does not sleep.
    is_behind: bool,
    /// Randomizes the choice among free addresses; it changes with each message.
    seed: u64,
    journal: DhcpJournal,
    drain: DrainOrder,
    mailbox: CoreMailbox<DhcpLetter>,
    pulse: CorePulse,
}

impl RunningDhcp {
    pub(super) fn start(
        parts: CoreParts,
        plan: DhcpPlan,
        sockets: DhcpSockets,
        (letters, mailbox): (MailboxSender<DhcpLetter>, CoreMailbox<DhcpLetter>),
        signs: Option<MailboxSender<SegmentSign>>,
        counters: Arc<DhcpCounters>,
    ) -> Result<Self, CoreError> {
        let CoreParts { datapath, events, drain, pulse } = parts;

        // A ring belongs to the thread that makes it (SINGLE_ISSUER), so this runs on the core's
        // own thread.
        let mut driver = UdpDriver::new(datapath)?;
        driver.listen_to(&mailbox);
        let owner = StoreOwner::new(letters, Arc::clone(&plan.health), plan.database);
        let writer = StoreWriter::start(plan.store, owner)
            .map_err(|error| CoreError::System { what: "starting the store's writer", error })?;
        let interfaces = net::list_interfaces()
            .map_err(|error| CoreError::System { what: "reading the interfaces", error })?;
        let mut running = Self {
            sockets: CoreSockets::new(driver, sockets, plan.port, Arc::clone(&counters)),
            state: CoreLeases::new(plan.leases, plan.published),
            inbox: DhcpInbox::default(),
            interfaces: HostInterfaces::default(),
            silent: SilentSubnets::default(),
            signs: SignSender::new(signs),
            address: plan.address,
            port: plan.port,
            counters,
            writer,
            health: plan.health,
            awaiting_commit: HashMap::new(),
            freeing: HashMap::new(),
            next_ticket: 1,
            offers: PendingOffers::new(plan.port),
            pools: PoolLooks::default(),
            is_behind: false,
            seed: u64::from(std::process::id()),
            journal: DhcpJournal::new(events),
            drain,
            mailbox,
            pulse,
        };

        // Until the first status arrives, every watched subnet is silent.
        running.silent.update(running.state.subnets(), running.port);
        running.take_interfaces(Arc::new(interfaces));
        Ok(running)
    }

    /// Runs turn after turn, until the drain is ordered and the last commits are answered.
    pub(super) fn serve(&mut self) -> Result<(), CoreError> {
        let (mut last_commits_until, mut has_more_due) = (None, false);
        loop {
            let has_work = has_more_due || self.is_behind;
            self.turn(if has_work { TurnWait::No } else { self.choose_sleep() })?;
            self.pulse.beat();

            // One call ends a bounded number of leases; the rest is due in the next turn.
            let now = clock::now_s();
            has_more_due = self.state.leases.advance(now);
            self.pools.check(&self.state, &self.counters, self.journal.events(), now);
            self.journal.log_clock_step();

            if self.drain.is_ordered() {
                let until =
                    *last_commits_until.get_or_insert_with(|| Instant::now() + LAST_COMMITS_MAX);
                let is_done = self.awaiting_commit.is_empty() && self.sockets.in_flight() == 0;
                if is_done || Instant::now() >= until {
                    return Ok(());
                }
            }
        }
    }

    fn choose_sleep(&self) -> TurnWait {
        let pause = if self.state.is_moving() { MOVE_PAUSE } else { SWEEP };
        let pulse = self.pulse.every().unwrap_or(SWEEP);
        let offer = self.offers.next_in_ms().map_or(SWEEP, Duration::from_millis);
        TurnWait::AtMost(pause.min(pulse).min(offer))
    }

    /// One bounded turn, however much arrives. Letters go first: they release answers that are due,
    /// and they say which subnets the core may answer.
    pub(super) fn turn(&mut self, wait: TurnWait) -> Result<(), CoreError> {
        self.collect_waiting(wait)?;

        self.is_behind = true;
        for _ in 0..TURN_LETTERS_MAX {
            let Some(letter) = self.mailbox.take() else {
                self.is_behind = false;
                break;
            };
            self.read_letter(letter)?;
        }

        // The clients of these offers have waited for the whole time of a probe (D-36).
        for _ in 0..TURN_OFFERS_MAX {
            let Some(pending) = self.offers.take_unanswered() else { break };
            self.make_room()?;
            self.conclude(pending);
        }
        self.follow_takeover();

        for _ in 0..TURN_SOLICITATIONS_MAX {
            let Some(solicitation) = self.inbox.solicitations.pop_front() else { break };
            self.make_room()?;
            self.answer_solicitation(&solicitation);
        }

        // `push_datagram` has counted the messages that found no room; all others count when their
        // turn comes.
        for _ in 0..TURN_MESSAGES_MAX {
            let Some(message) = self.inbox.messages.pop() else { break };
            count_message(&self.counters, message.kind);
            self.make_room()?;
            self.handle(&message)?;
        }

        self.is_behind |= !self.inbox.is_empty();
        self.state.show_counts(&self.counters);
        self.counters.pending.set(self.awaiting_commit.len() as u64);
        Ok(())
    }

    fn read_letter(&mut self, letter: DhcpLetter) -> Result<(), CoreError> {
        match letter {
            DhcpLetter::Committed { tickets, durable } => {
                // A group commit may release more ACKs than there are send slots.
                for ticket in tickets {
                    self.make_room()?;
                    self.finish_commit(ticket, durable);
                }
            }
            DhcpLetter::Recalled { from, done } => {
                let _ = done.send(self.state.recall_piece(from));
            }
            DhcpLetter::Booted { done } => {
                let _ = done.send(self.state.leases.booted_machines().collect());
            }
            DhcpLetter::Loaded { leases, machines } => self.load_leases(leases, machines),
            DhcpLetter::Watched(watched) => {
                self.silent.set_watched(watched);
                self.silent.update(self.state.subnets(), self.port);
            }
            DhcpLetter::Interfaces(interfaces) => self.take_interfaces(interfaces),
            DhcpLetter::InUse { address, host } => {
                self.make_room()?;
                self.handle_in_use(address, host)?;
            }
            DhcpLetter::Bound { interface, socket } => {
                // The driver may give the new socket the id of one that is closed, whose own
                // address is still cached.
                self.interfaces.forget_own();
                self.sockets.listen_on(interface, socket);
            }
            DhcpLetter::Gone(interface) => self.sockets.forget(&interface),
            DhcpLetter::Reconfigured(proposal) => self.state.begin_takeover(proposal),
            DhcpLetter::Listed { from, filter, done } => {
                let _ = done.send(self.state.list_piece(from, filter));
            }
            DhcpLetter::Freed { addresses, force, done } => {
                self.free_addresses(addresses, force, done)?
            }
            DhcpLetter::Pardoned { mac } => self.state.leases.pardon(mac),
            DhcpLetter::Tried { packet, network, done } => {
                let _ = done.send(self.try_out(&packet, network));
            }
        }
        Ok(())
    }

    /// Makes room for one more answer. A batch may hold more answers than there are send slots: the
    /// queued ones leave first, or are lost if their socket is full. The core never waits.
    fn make_room(&mut self) -> Result<(), CoreError> {
        if self.sockets.has_room() { Ok(()) } else { self.collect(None) }
    }

    /// Takes in what waits in the sockets, up to a bound. A core that took in only what it can
    /// answer would leave the choice of what is dropped to the kernel, and a flood of DISCOVERs
    /// would keep out the REQUESTs that the inbox prefers.
    fn collect_waiting(&mut self, wait: TurnWait) -> Result<(), CoreError> {
        self.inbox.take_arrived();
        let (mut wait, mut all_arrived) = (wait, 0);
        loop {
            self.collect(Some(wait))?;
            let arrived = self.inbox.take_arrived();
            all_arrived += arrived;
            if arrived < FULL_COLLECT || all_arrived >= TURN_ARRIVALS_MAX {
                return Ok(());
            }
            wait = TurnWait::No;
        }
    }

    /// Runs a whole turn of the driver, or (None) only submits the queued sends.
    fn collect(&mut self, wait: Option<TurnWait>) -> Result<(), CoreError> {
        let drain = &self.drain;
        self.sockets
            .collect(wait, &mut self.inbox, || drain.is_ordered())
            .map_err(CoreError::sockets("the DHCP core"))
    }

    /// Decides on a message, and carries the decision out.
    pub(super) fn handle(&mut self, message: &ReceivedMessage) -> Result<(), CoreError> {
        // A look for other servers: this server's own, or one of another ringboot.
        if let Some(looker) = look::find_look_client(&message.bytes) {
            if self.interfaces.is_own(looker) {
                return Ok(());
            }
            if let Some(rival) = look::parse_rival_look(&message.bytes) {
                self.signs.send(SegmentSign::Looked { interface: message.way.interface, rival });
                return Ok(());
            }
        }

        let interface = self.sockets.interface_of(message.way.socket);
        let asked = (message.way.socket, message.local);
        let own = self.interfaces.find_own(self.state.subnets(), asked, interface);
        if own.address.is_unspecified() {
            self.journal.log_no_address(interface);
            return Ok(());
        }
        // The leases of earlier runs are unknown: any answer might be wrong.
        if self.health.trust() == LeaseTrust::Unread {
            return Ok(());
        }

        let now = clock::now_s();
        self.state.leases.advance(now);
        self.seed =
            self.seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let arrival = IncomingMessage {
            bytes: &message.bytes,
            source: message.source,
            destination: Some(message.destination),
            interface,
            interface_address: own.address,
            here: self.interfaces.prefixes(own),
            ours: self.interfaces.own_addresses(),
            held: self.silent.subnets(),
        };
        let policy = &self.state.generation().snapshot.dhcp;
        let decision = decide_answer(&arrival, &self.state.leases, policy, now, self.seed);
        self.carry_out(decision, message, now)
    }

    /// Carries a decision out: at once, or as soon as its changes are durable.
    fn carry_out(
        &mut self,
        decision: Decision,
        message: &ReceivedMessage,
        now: ClockSeconds,
    ) -> Result<(), CoreError> {
        if let Some(sign) = sign_of(&decision, message) {
            self.signs.send(sign);
        }
        if matches!(decision.silence, Some(DhcpSilence::NoAddressFree(_))) {
            self.counters.exhausted.add(1);
        }
        if is_offer(&decision) && self.health.trust() == LeaseTrust::Broken {
            self.health.note_withheld();
            self.journal.log_withheld(&decision);
            return Ok(());
        }

        // An OFFER changes memory alone, so it needs no commit.
        let xid = decision.xid;
        self.state.leases.begin_commit(&decision.changes, xid, now);
        let pending = PendingAnswer { decision, way: message.way };
        if !pending.decision.changes.iter().any(LeaseChange::is_durable) {
            if let Some(pending) = self.offers.hold_back(pending, message, &self.signs) {
                self.conclude(pending);
            }
            return Ok(());
        }

        if self.awaiting_commit.len() >= COMMITS_PENDING_MAX {
            self.counters.dropped_commits.add(1);
            self.state.leases.finish_commit(&pending.decision.changes, xid, false, now);
            return Ok(());
        }
        self.queue_commit(pending)
    }

    /// Handles a host's answer for an address that the core was about to offer: the core decides on
    /// the client's message once more, and so offers another address.
    fn handle_in_use(&mut self, address: Ipv4Addr, host: Option<Mac>) -> Result<(), CoreError> {
        match self.offers.take_answer(address, host) {
            ProbeVerdict::Nothing => {}
            ProbeVerdict::Free((pending, _)) => self.conclude(pending),
            ProbeVerdict::Disbelieved((pending, _), is_first) => {
                if is_first {
                    self.journal.log_disbelieved(address, host);
                }
                self.conclude(pending);
            }
            ProbeVerdict::InUse((pending, message)) => {
                // In memory only: after a restart the next probe finds the host again.
                let now = clock::now_s();
                if let Some(mac) = pending.decision.mac {
                    self.state.leases.keep_back(
                        address,
                        mac,
                        now.saturating_add(CONFLICT_HOLD_S),
                        now,
                    );
                }
                self.journal.log_in_use(address, host);
                self.handle(&message)?;
            }
        }
        Ok(())
    }

    /// Hands the changes of a decision to the store; the answer waits until they are durable.
    fn queue_commit(&mut self, pending: PendingAnswer) -> Result<(), CoreError> {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let durable = pending.decision.changes.iter().filter(|change| change.is_durable());
        let changes = durable.cloned().collect();
        self.awaiting_commit.insert(ticket, pending);
        // Counted before the writer has the commit: its report may come back at once.
        self.health.note_queued();
        match self.writer.submit(ticket, changes) {
            Ok(()) => Ok(()),
            Err(NotQueued::Full) => {
                self.health.note_finished(1);
                self.counters.dropped_commits.add(1);
                self.finish_commit(ticket, false);
                Ok(())
            }
            // Without a writer no client could get a lease: the core ends, and systemd starts the
            // server again.
            Err(gone @ NotQueued::Gone) => Err(gone.into()),
        }
    }

    /// Handles the store's report on a commit: if the changes are durable, the answer leaves; if
    /// not, the client gets none.
    fn finish_commit(&mut self, ticket: u64, durable: bool) {
        let Some(pending) = self.awaiting_commit.remove(&ticket) else { return };
        let now = clock::now_s();
        self.state.leases.finish_commit(
            &pending.decision.changes,
            pending.decision.xid,
            durable,
            now,
        );

        // An operator has freed these addresses, so there is no client to answer. The binding slots
        // get what the table holds now, whether the commit succeeded or not.
        if let Some(done) = self.freeing.remove(&ticket) {
            let changes = &pending.decision.changes;
            changes.iter().for_each(|change| self.state.write_binding(change.address()));
            let _ = done.try_send(durable.then_some(changes.len()));
            return;
        }

        if !durable {
            self.journal.log_not_kept(&pending.decision);
            return;
        }
        self.conclude(pending);
    }

    /// Publishes, logs and sends a decision whose changes are durable. The boot cores learn who
    /// holds the address before the answer leaves, because the machine's next packet may be a file
    /// request. An OFFER is published for a Raspberry Pi alone: a Pi 3 never sends a REQUEST
    ///
    fn conclude(&mut self, pending: PendingAnswer) {
        let is_pi = pending
            .decision
            .firmware
            .is_some_and(|firmware| firmware.role == FirmwareRole::RaspberryPi);
        for change in &pending.decision.changes {
            if is_pi || change.is_durable() {
                self.state.write_binding(change.address());
            }
        }

        // Logged before the answer leaves: a test or an operator that sees the answer may ask at
        // once what happened.
        if let Some(event) = dhcp_event(&pending.decision) {
            self.journal.push_event(pending.decision.network, event);
        }
        if let Some(answer) = &pending.decision.answer {
            self.sockets.send_answer(answer, pending.way, self.interfaces.mtu());
        }
    }

    /// Frees addresses durably, as a decision without a client and without an answer.
    fn free_addresses(
        &mut self,
        addresses: Vec<Ipv4Addr>,
        force: bool,
        done: SyncSender<Option<usize>>,
    ) -> Result<(), CoreError> {
        let now = clock::now_s();
        let changes: Vec<LeaseChange> = addresses
            .into_iter()
            .filter(|address| self.state.leases.may_be_freed(*address, force, now))
            .map(|address| LeaseChange::Free { address })
            .collect();
        let way = WayIn { socket: SocketId(0), interface: 0, asked: None };
        self.freeing.insert(self.next_ticket, done);
        self.queue_commit(PendingAnswer {
            decision: Decision { changes, ..Decision::default() },
            way,
        })
    }

    /// Loads the leases of an earlier run that could not be read at the start. From now on the core
    /// answers.
    fn load_leases(&mut self, leases: Vec<Lease>, machines: BootTimes) {
        self.state.leases.load(leases, clock::now_s());
        self.state.leases.load_machines(machines);
        self.state.fill_bindings();
        self.health.set(LeaseTrust::Sound, "");
    }

    fn take_interfaces(&mut self, interfaces: Arc<Vec<NetworkInterface>>) {
        self.interfaces.replace_all(interfaces);
        self.state.leases.set_own_addresses(self.interfaces.own_addresses());
        self.sockets.keep_interfaces(self.interfaces.as_slice());
    }

    /// Takes over the next piece of a new configuration.
    pub(super) fn follow_takeover(&mut self) {
        if self.state.continue_takeover() {
            self.interfaces.forget_own();
            self.silent.update(self.state.subnets(), self.port);
        }
    }

    /// Tells an iPXE that holds a lease of this server that there is no IPv6 router, so that it
    /// does not wait for one. Other hosts get no answer.
    fn answer_solicitation(&mut self, solicitation: &RouterSolicitation) {
        if !solicitation.from.is_some_and(|mac| self.state.is_booting_ipxe(mac)) {
            return;
        }
        let interface = self.sockets.interface_of(solicitation.socket);
        if let Some(own) = interface.and_then(|name| self.interfaces.find_by_name(name)) {
            let mac = Mac(own.mac);
            self.sockets.send_no_router(solicitation, mac);
        }
    }
}

fn is_offer(decision: &Decision) -> bool {
    decision.changes.iter().any(|change| matches!(change, LeaseChange::Offer { .. }))
}
