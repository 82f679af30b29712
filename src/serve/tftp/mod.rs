//! The TFTP thread of a boot core: drives the pure `TransferTable` with sockets, and the shelf with
//! names.
//!
//! The files build on each other in this order: the configuration (`plan`, `limits`), what a
//! transfer holds (`held`), the log (`events`), the transfers of the core (`transfers`); then
//! opening a file (`open`) and sending its blocks (`senders`, `send`).

mod events;
mod held;
mod limits;
mod open;
mod plan;
mod send;
mod senders;
#[cfg(test)]
mod tests;
mod transfers;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub use self::plan::{HttpBusy, OptionsFor, TftpCounters, TftpPlan, TftpSockets};

use self::events::TftpJournal;
use self::held::{CarriedContent, TftpLetter};
use self::limits::{BUSY_PAUSE, DISPLACED_AT_ONCE};
use self::open::FileOpener;
use self::send::{BlockSender, BlocksSent, SendOutcome};
use self::senders::AnswerSockets;
use self::transfers::{CoreTransfers, InterfaceMtus, WaitingTransfers, ticks_since};
use super::core::{CoreError, CoreParts};
use super::drain::{DRAIN_MAX, DrainOrder};
use super::flights::CoreInquiry;
use super::pulse::CorePulse;
use super::shelf::FileSources;
use super::spin::SpinPolicy;
use crate::engine::mailbox::{CoreMailbox, MailboxBell, MailboxSender};
use crate::engine::udp::{TurnWait, UdpCompletion, UdpDriver, UdpSendError};
use crate::model::network::Ipv4Network;
use crate::tftp::Tick;
use crate::tftp::packet::ErrorCode;
use crate::tftp::table::{LocalAddress, TableAction, TransferFailure, TransferId, TransferTable};

/// The name of these cores in errors.
const CORE: &str = "a TFTP core";
/// The longest sleep of a core that drains.
const DRAIN_LOOKED_EVERY: Duration = Duration::from_millis(50);

/// A TFTP core before its thread runs.
#[derive(Debug)]
pub struct TftpCore {
    parts: CoreParts,
    sockets: TftpSockets,
    plan: TftpPlan,
    names: Arc<FileSources>,
    http_busy: HttpBusy,
    letters: MailboxSender<TftpLetter>,
    mailbox: CoreMailbox<TftpLetter>,
    counters: Arc<TftpCounters>,
}

impl TftpCore {
    /// Makes the core and its bell. The thread that orders the drain rings the bell afterwards.
    pub fn new(
        parts: CoreParts,
        sockets: TftpSockets,
        plan: &TftpPlan,
        names: &Arc<FileSources>,
        http_busy: &HttpBusy,
    ) -> io::Result<(Self, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let core = Self {
            parts,
            sockets,
            plan: plan.clone(),
            names: Arc::clone(names),
            http_busy: Arc::clone(http_busy),
            letters,
            mailbox,
            counters: Arc::default(),
        };
        Ok((core, bell))
    }

    /// A handle by which control asks the core for its transfers.
    pub fn inquiry(&self) -> CoreInquiry {
        let letters = self.letters.clone();
        CoreInquiry::new(move |report| letters.send(TftpLetter::Asked(report)))
    }

    /// The counters of this core, for status and metrics.
    pub fn counters(&self) -> Arc<TftpCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until drained. Calls `ready` once, when the core receives datagrams.
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), CoreError> {
        let mut running = RunningTftp::start(self)?;
        running.turn(TurnWait::No)?;
        ready();
        running.serve()
    }
}

/// The state of the running core.
struct RunningTftp {
    transfers: CoreTransfers,
    opener: FileOpener,
    sender: BlockSender,
    /// Sockets in the driver's order: listening first, then TIDs.
    roles: Vec<SocketRole>,
    mailbox: CoreMailbox<TftpLetter>,
    drain: DrainOrder,
    http_busy: HttpBusy,
    pulse: CorePulse,
    spin: SpinPolicy,
    /// When the last datagram arrived.
    last_busy: Tick,
    /// Sends that the kernel refused in this turn.
    failed: Vec<(TransferId, UdpSendError)>,
    /// Most transfers that the table holds.
    transfers_max: usize,
    /// Numbers of the generation and of the walks from which the table has its networks.
    networks_of: (u64, u64),
    /// The image store's count of files without room, at the last look.
    short_of_places: u64,
}

/// What a socket receives.
#[derive(Clone, Copy, Debug)]
enum SocketRole {
    /// Requests.
    Listening,
    /// Packets of the transfers of this TID.
    Tid(u16),
}

impl RunningTftp {
    fn start(core: TftpCore) -> Result<Self, CoreError> {
        let TftpCore { parts, sockets, plan, names, http_busy, letters, mailbox, counters } = core;
        let CoreParts { datapath, events, drain, pulse } = parts;

        // A ring belongs to the thread that makes it (SINGLE_ISSUER), so this runs on the core's
        // own thread.
        let mut driver = UdpDriver::with_buffers(datapath, plan.receive_buffers)?;
        driver.listen_to(&mailbox);
        let (roles, answer_sockets) = add_sockets(&mut driver, sockets);

        // Whoever knows the seed can guess the port of a transfer (T-46).
        let seed = read_seed()
            .map_err(|error| CoreError::System { what: "reading /dev/urandom", error })?;
        let transfers = CoreTransfers {
            table: TransferTable::new(plan.policy.clone(), seed),
            waiting: WaitingTransfers::default(),
            mtus: InterfaceMtus::default(),
            journal: TftpJournal::new(events, Arc::clone(&names), Arc::clone(&counters)),
            counters,
            started: Instant::now(),
        };

        let opener = FileOpener::new(Arc::clone(&names), plan.options_for, letters.clone());
        let sender = BlockSender::new(driver, answer_sockets, names, letters, plan.segments_max);
        Ok(Self {
            transfers,
            opener,
            sender,
            roles,
            mailbox,
            drain,
            http_busy,
            pulse,
            spin: SpinPolicy::new(plan.spin),
            last_busy: 0,
            failed: Vec::new(),
            transfers_max: plan.policy.limits.transfers_max,
            networks_of: (0, 0),
            short_of_places: 0,
        })
    }

    fn serve(&mut self) -> Result<(), CoreError> {
        let mut drained_since = None;
        loop {
            let wait = self.choose_wait();
            self.turn(wait)?;
            self.pulse.beat();
            if self.drain.is_ordered() {
                let since = *drained_since.get_or_insert_with(Instant::now);
                if self.transfers.table.transfers() == 0 || since.elapsed() >= DRAIN_MAX {
                    return Ok(());
                }
            }
        }
    }

    /// How long the next turn may sleep: not at all while there is work or the core may poll, else
    /// until the next timer.
    fn choose_wait(&mut self) -> TurnWait {
        let CoreTransfers { table, waiting, .. } = &self.transfers;
        if !waiting.starved.is_empty() {
            return TurnWait::No;
        }
        let now = self.transfers.now();
        let until = |at: Tick| Duration::from_nanos(at.saturating_sub(now));
        let timer = table.next_timeout().map(until);
        let again = waiting.next_due().map(until);
        let look = table.next_look().map(until);
        let drain = self.drain.is_ordered().then_some(DRAIN_LOOKED_EVERY);
        let longest = [timer, drain, again, look, self.pulse.every()].into_iter().flatten().min();

        // HTTP answers on the same processor need its time: no polling beside them.
        let transfers =
            if self.http_busy.load(Ordering::Relaxed) == 0 { table.transfers() } else { 0 };
        let since = Duration::from_nanos(now.saturating_sub(self.last_busy));
        let poll = self.spin.before_wait(transfers, since);
        match (longest, poll) {
            (Some(Duration::ZERO), _) => TurnWait::No,
            (longest, Some(poll)) => TurnWait::Poll {
                poll: longest.map_or(poll, |longest| poll.min(longest)),
                then: longest,
            },
            (Some(time), None) => TurnWait::AtMost(time),
            (None, None) => TurnWait::Forever,
        }
    }

    /// One batch: collects datagrams, advances every transfer and queues all sends. The next turn
    /// submits them.
    fn turn(&mut self, wait: TurnWait) -> Result<(), CoreError> {
        self.collect(wait).map_err(CoreError::sockets(CORE))?;
        self.handle_send_failures();
        self.read_letters();
        let now = self.transfers.now();
        self.transfers.table.handle_timeouts(now);
        self.transfers.resume_waiting(now);
        self.look_at_links(now);
        self.run_actions();
        self.follow_control();
        self.make_room_for_files();
        self.show_counts();
        Ok(())
    }

    /// Runs one turn of the driver, and hands the datagrams to the table.
    fn collect(&mut self, wait: TurnWait) -> io::Result<()> {
        let Self { transfers, sender, roles, drain, spin, last_busy, failed, .. } = self;
        let CoreTransfers { table, waiting, started, .. } = transfers;
        let mut batch_now = None;
        sender.driver.run_turn(wait, |completion| {
            // The clock is read once for the whole turn.
            let now = *batch_now.get_or_insert_with(|| ticks_since(*started));
            match completion {
                UdpCompletion::Datagram(datagram) => {
                    if *last_busy != now {
                        spin.heard(Duration::from_nanos(now.saturating_sub(*last_busy)));
                        *last_busy = now;
                    }
                    let (from, bytes) = (datagram.from, datagram.bytes);
                    let local =
                        LocalAddress { address: datagram.local, interface: datagram.interface };
                    match roles.get(usize::from(datagram.socket.0)) {
                        // Checked for each datagram: the order may come while the turn sleeps.
                        Some(SocketRole::Listening) if !drain.is_ordered() => {
                            let is_broadcast = datagram.destination != datagram.local;
                            table.handle_listen(now, from, local, is_broadcast, bytes);
                        }
                        Some(SocketRole::Tid(tid)) => {
                            table.handle_tid(now, *tid, from, local, bytes);
                        }
                        _ => {}
                    }
                }
                UdpCompletion::Sent { token, result: Err(error) } => {
                    failed.push((TransferId::from_token(token), error));
                }
                UdpCompletion::Room(socket) => waiting.unblocked.push(socket),
                UdpCompletion::Sent { .. } | UdpCompletion::Woken => {}
            }
        })
    }

    /// Handles the sends that the kernel refused.
    fn handle_send_failures(&mut self) {
        let now = self.transfers.now();
        let table = &mut self.transfers.table;
        for (id, error) in std::mem::take(&mut self.failed) {
            match error {
                UdpSendError::ContentGone => {
                    let is_whole = table.content(id).is_some_and(|held| held.is_unchanged());
                    let why = if is_whole {
                        TransferFailure::Unreadable
                    } else {
                        TransferFailure::ContentLost
                    };
                    table.fail_transfer(now, id, why);
                }
                // Only the route to this client refuses segmented sends.
                UdpSendError::NoSegments => {
                    if let Some(peer) = table.peer(id) {
                        self.sender.stop_segmenting(peer.ip());
                    }
                }
                // The datagram is lost, as it may be in the network: a timer sends it again.
                UdpSendError::Other(_) => {}
            }
        }
    }

    fn read_letters(&mut self) {
        while let Some(letter) = self.mailbox.take() {
            match letter {
                TftpLetter::LookedUp(id, looked_up) => {
                    self.opener.take_letter(&mut self.transfers, id, looked_up);
                }
                TftpLetter::Resident(id) => self.transfers.table.resume(id),
                TftpLetter::Asked(report) => {
                    drop(report.try_send(self.transfers.list_under_way()));
                }
            }
        }
    }

    /// Tells the table how long the send queues of its links are.
    fn look_at_links(&mut self, now: Tick) {
        let table = &mut self.transfers.table;
        while let Some(address) = table.find_look(now) {
            let backlog = self.sender.measure_backlog(address);
            table.note_backlog(now, address, backlog.unwrap_or(0));
        }
    }

    /// Carries out the table's actions until it has no more, or no send slot is left.
    fn run_actions(&mut self) {
        let now = self.transfers.now();
        while self.sender.driver.has_room() {
            let CoreTransfers { table, mtus, journal, started, .. } = &mut self.transfers;
            let Some(action) = table.poll(now) else { return };
            match action {
                TableAction::Open { id, peer, local, request } => {
                    let request = request.clone();
                    self.opener.open(&mut self.transfers, id, (peer, local), &request);
                }
                TableAction::Datagram { peer, local, tid, bytes, turned_away } => {
                    self.sender.send_datagram(peer, local, tid, bytes);
                    // ERROR 5 answers a stray packet and no request (T-48): the log leaves it out.
                    let refusal = turned_away.filter(|no| no.code != ErrorCode::UnknownTid);
                    if let Some(refusal) = refusal {
                        journal.log_turned_away(Instant::now(), peer, refusal);
                    }
                }
                TableAction::Blocks { wanted, content: held } => {
                    let mtu = mtus.find(wanted.local.interface);
                    let sent = self.sender.send_blocks(&wanted, held, mtu);
                    self.note_sent(now, wanted.id, sent);
                }
                TableAction::Ended { end, name, content: held } => {
                    let at = *started + Duration::from_nanos(now);
                    journal.log_ended(at, &end, name, held.as_ref());
                }
            }
        }
    }

    /// Tells the table what became of the blocks that it wanted sent.
    fn note_sent(&mut self, now: Tick, id: TransferId, sent: BlocksSent) {
        let table = &mut self.transfers.table;
        // The client has answered, so the transfer holds the file from now on.
        if let Some(content) = sent.found.filter(|_| table.is_confirmed(id))
            && let Some(held) = table.content_mut(id)
        {
            held.carried = CarriedContent::Whole(content);
        }
        match sent.outcome {
            SendOutcome::All => {}
            SendOutcome::Some(count) => {
                table.hand_back_blocks(now, id, count);
                if self.sender.driver.is_blocked(sent.socket) {
                    self.transfers.wait_for_room(id, sent.socket);
                } else {
                    self.transfers.waiting.starved.push(id);
                }
            }
            SendOutcome::Later => table.hand_back_blocks(now, id, 0),
            SendOutcome::Postponed => {
                table.hand_back_blocks(now, id, 0);
                self.transfers.waiting.postpone(id, now + BUSY_PAUSE);
            }
            SendOutcome::NotHeld(asked) => {
                table.hand_back_blocks(now, id, 0);
                self.opener.secure_content(&mut self.transfers, id, asked);
            }
            SendOutcome::Gone => table.fail_transfer(now, id, TransferFailure::ContentLost),
        }
    }

    /// Takes over the served networks of a new generation, and the addresses of walks.
    fn follow_control(&mut self) {
        let published = &self.opener.names().published;
        let (generation, walks) = (published.load(), published.walks.load());
        if (generation.number, walks.number) == self.networks_of {
            return;
        }
        self.networks_of = (generation.number, walks.number);
        self.transfers.mtus.forget_all();
        let mut networks = generation.snapshot.networks();
        if !networks.is_empty() {
            let of_walks =
                walks.all.iter().map(|walk| Ipv4Network { address: walk.source, prefix: 32 });
            networks.extend(of_walks);
        }
        self.transfers.table.serve_only(networks.into_iter().collect());
    }

    /// Ends transfers without progress when a request, by TFTP or HTTP, has found no room for
    /// another file.
    fn make_room_for_files(&mut self) {
        let short = self.opener.names().images.count_shortages();
        if short == std::mem::replace(&mut self.short_of_places, short) {
            return;
        }
        let now = self.transfers.now();
        for _ in 0..DISPLACED_AT_ONCE {
            if !self.transfers.table.displace_stillest(now) {
                return;
            }
        }
    }

    fn show_counts(&mut self) {
        let CoreTransfers { table, counters, journal, .. } = &mut self.transfers;
        let counts = table.counts();
        counters.transfers.set(table.transfers() as u64);
        counters.requests.set(counts.requests);
        counters.not_served.set(counts.not_served);
        counters.waited.set(counts.waited);
        counters.dropped.set(counts.dropped);
        counters.full.set(counts.full);
        counters.displaced.set(counts.displaced);
        counters.guessed.set(counts.guessed);
        if counts.full > 0 {
            journal.log_full_table(Instant::now(), counts, self.transfers_max);
        }
    }
}

/// Hands a core's sockets to its driver. Returns the role of each.
fn add_sockets(driver: &mut UdpDriver, sockets: TftpSockets) -> (Vec<SocketRole>, AnswerSockets) {
    let mut roles = Vec::new();
    let mut add = |address: SocketAddr, fd: OwnedFd| driver.add(fd, address.ip(), true).0;
    for (address, fd) in sockets.listening {
        add(address, fd);
        roles.push(SocketRole::Listening);
    }
    // Each address family counts its TIDs from 0.
    let (mut first_tid, mut tids) = ((0, 0), (0, 0));
    for (address, fd) in sockets.tids {
        let socket = add(address, fd);
        let (first, count) = if address.is_ipv4() {
            (&mut first_tid.0, &mut tids.0)
        } else {
            (&mut first_tid.1, &mut tids.1)
        };
        if *count == 0 {
            *first = socket;
        }
        roles.push(SocketRole::Tid(*count));
        *count += 1;
    }
    (roles, AnswerSockets::new(first_tid, tids.0))
}

/// Reads a seed that clients cannot guess.
fn read_seed() -> io::Result<u64> {
    let mut seed = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(u64::from_ne_bytes(seed))
}
