//! One HTTP core: a thread with connections of its own; it reads requests, answers them from the
//! shelf, and watches the clock.

mod alarms;
mod answer;
mod body;
mod connection;
mod journal;
mod recent;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub use super::drain::Drain;

use self::alarms::Alarms;
use self::answer::Answered;
use self::body::{Body, Copied, Next, Waits};
use self::connection::{Awaited, Connection, Connections, Stage};
use self::journal::{Delivery, EVENTS_PER_SECOND_MAX, TROUBLE_PER_SECOND_MAX};
use self::recent::Recent;
use super::drain::DRAIN_MAX;
use super::flights::{Inquiry, Report, UnderWay};
use super::pulse::Pulse;
use super::shelf::{Names, Reply, Shelf};
use crate::engine::datapath::Datapath;
use crate::engine::mailbox::{CoreMailbox, MailboxBell, MailboxSender};
use crate::engine::stream::{
    CONNECTIONS_PER_DRIVER_MAX, ConnectionId, SendBody, TcpDriver, TcpEvent, TcpSendError, TurnWait,
};
use crate::http::admission::{AdmissionOutcome, ConnectionAdmission};
use crate::http::head::DateHeader;
use crate::http::input::InputStep;
use crate::http::limits::{
    AWAY_PER_TURN_MAX, BUSY_PAUSE, CHUNK_BYTES, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX,
    DRAIN_BYTES_PER_SECOND_MIN, GIVE_UP_MAX, GIVE_UP_PAUSE, HEAD_TIMEOUT, IDLE_TIMEOUT,
    LINGER_TIMEOUT, REFUSALS_MAX, STALL_TIMEOUT, WAITING_MAX,
};
use crate::http::request::{BadHead, HttpVersion, RequestHead};
use crate::http::respond::{self, ResponsePlan};
use crate::http::schedule::{SLOTS, SMALL_BYTES, ScheduleTick, SendSchedule, TRICKLE_BYTES};
use crate::images::{CleanPath, NameRefusal, OwedAnswer, PieceUrgency, ServedContent};
use crate::observe;
use crate::observe::counters::SharedCount;
use crate::observe::events::EventSender;
use crate::observe::flight::TransferProgress;

/// What a client that waits for leave to send a request's body is told (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Connections whose time has come that one turn looks at: a core that looks at ten thousand of
/// them serves nobody meanwhile.
const ALARMS_PER_TURN_MAX: usize = 512;

/// One fault is said so often at most.
const FAULTS_APART: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);

/// What the operator is told of the core itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    /// All connections are taken.
    Full,
    /// The kernel gives none, with this error.
    Accept(i32),
}

/// What the configuration says of HTTP.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    pub listen: Vec<SocketAddr>,
    /// Directories that are listed, everything below them included; the root path covers the whole
    /// tree (H-28).
    pub index: Vec<CleanPath>,
    /// The file that answers for its directory.
    pub index_file: Option<String>,
    /// Connections of one client address; None = no limit (H-34).
    pub per_source: Option<usize>,
    /// Connections of one core.
    pub connections: usize,
    /// Connections of one core that wait for room.
    pub waiting: usize,
    /// Bytes of a mapped file that go to the kernel at a time.
    pub chunk_bytes: u64,
    /// Large bodies at full speed at least; None = all of them at once.
    pub slots: Option<u16>,
    /// Congestion control of the connections; None = the system's.
    pub congestion: Option<&'static str>,
    pub timeouts: Timeouts,
}

/// The times of H-33.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
    pub linger: Duration,
    /// Bytes a second over each `stall`.
    pub drain_rate_min: u64,
}

impl Timeouts {
    /// Bytes that a client takes in each `stall` at least.
    fn taken_min(&self) -> u64 {
        self.drain_rate_min * self.stall.as_secs().max(1)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: HEAD_TIMEOUT,
            idle: IDLE_TIMEOUT,
            stall: STALL_TIMEOUT,
            linger: LINGER_TIMEOUT,
            drain_rate_min: DRAIN_BYTES_PER_SECOND_MIN,
        }
    }
}

impl Default for HttpPlan {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            index: Vec::new(),
            index_file: None,
            per_source: Some(CONNECTIONS_PER_ADDRESS_MAX),
            connections: CONNECTIONS_MAX,
            waiting: WAITING_MAX,
            chunk_bytes: CHUNK_BYTES,
            slots: Some(SLOTS),
            congestion: None,
            timeouts: Timeouts::default(),
        }
    }
}

impl HttpPlan {
    /// Whether a directory or one above it is listed.
    fn is_listed(&self, directory: &CleanPath) -> bool {
        let directory = directory.as_bytes();
        self.index.iter().any(|listed| {
            let rest = directory.strip_prefix(listed.as_bytes());
            rest.is_some_and(|rest| {
                listed.as_bytes().is_empty() || rest.is_empty() || rest.starts_with(b"/")
            })
        })
    }
}

/// What one core counts.
#[derive(Debug, Default)]
pub struct HttpCounters {
    pub connections: SharedCount,
    pub requests: SharedCount,
    /// Bytes of heads and bodies that the kernel has taken.
    pub bytes_sent: SharedCount,
    /// Requests answered 4xx or 5xx.
    pub refused_requests: SharedCount,
    /// Connections cut because the client was too slow (H-33).
    pub timed_out: SharedCount,
    /// Answers cut short because their file changed, or because the client went away.
    pub aborted: SharedCount,
    /// Connections that had to wait for room, and those that found no room to wait (H-34).
    pub queued: SharedCount,
    pub turned_away: SharedCount,
    /// Times that the kernel gave no connection although one waited, for want of descriptors or
    /// memory.
    pub accept_failed: SharedCount,
    /// Connections that stood still and were given up for one of a source that had less.
    pub given_up: SharedCount,
    /// Large bodies that are sent at full speed now, and those that wait for their turn
    /// (`http::schedule`).
    pub at_full_speed: SharedCount,
    pub in_line: SharedCount,
    /// Events that were not said because there were too many.
    pub events_left_out: SharedCount,
}

/// Everything of the thread before it runs.
#[derive(Debug)]
pub struct Core {
    listeners: Vec<TcpListener>,
    plan: HttpPlan,
    shelf: Shelf,
    events: EventSender,
    drain: Drain,
    busy: Arc<AtomicU32>,
    counters: Arc<HttpCounters>,
    pulse: Pulse,
    datapath: Datapath,
    letters: MailboxSender<Letter>,
    mailbox: CoreMailbox<Letter>,
}

/// What workers hand back to the core.
#[derive(Debug)]
enum Letter {
    Named(Question, Reply),
    /// The page of a directory.
    Listed(Question, Result<String, NameRefusal>),
    /// A range of a file is resident, or was so small that it has been copied.
    Resident(Question, Option<Copied>),
    /// Control: what is under way?
    Asked(Report),
}

/// Something that a connection has asked of workers. The number is never used again: an answer that
/// comes when the connection is about something else meets nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    of: ConnectionId,
    number: u64,
}

impl Core {
    /// `busy` counts the answers that are being sent, for the TFTP core on the same processor. The
    /// bell is to be rung when the drain has been ordered.
    pub fn new(
        listeners: Vec<TcpListener>,
        plan: &HttpPlan,
        names: &Arc<Names>,
        events: &EventSender,
        drain: &Drain,
        busy: &Arc<AtomicU32>,
        datapath: Datapath,
    ) -> io::Result<(Self, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let core = Self {
            listeners,
            plan: plan.clone(),
            shelf: Shelf::new(Arc::clone(names)),
            events: events.clone(),
            drain: drain.clone(),
            busy: Arc::clone(busy),
            counters: Arc::default(),
            pulse: Pulse::default(),
            datapath,
            letters,
            mailbox,
        };
        Ok((core, bell))
    }

    /// The core is watched: it shows signs of life.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    /// The way to ask it what is under way.
    pub fn inquiry(&self) -> Inquiry {
        let letters = self.letters.clone();
        Inquiry::new(move |report| letters.send(Letter::Asked(report)))
    }

    pub fn counters(&self) -> Arc<HttpCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until drained. `ready` is called once, when connections are accepted.
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), String> {
        let failed = |error: io::Error| format!("the sockets of an HTTP core failed: {error}");
        let mut running = self.start()?;
        running.turn(TurnWait::No).map_err(failed)?;
        ready();
        running.serve().map_err(failed)
    }

    fn start(self) -> Result<Running, String> {
        let failed = |error: io::Error| format!("the sockets of an HTTP core failed: {error}");
        let mut driver = TcpDriver::new(self.datapath).map_err(|error| error.to_string())?;
        driver.listen_to(&self.mailbox).map_err(failed)?;
        for listener in self.listeners {
            driver.listen(listener).map_err(failed)?;
        }
        let connections = self.plan.connections.min(CONNECTIONS_PER_DRIVER_MAX);
        let now = Instant::now();
        Ok(Running {
            schedule: SendSchedule::new(self.plan.slots.map(usize::from)),
            began: now,
            driver,
            connections: Connections::default(),
            connections_max: connections,
            admission: ConnectionAdmission::new(self.plan.per_source, connections)
                .with_waiting(self.plan.waiting),
            plan: self.plan,
            shelf: self.shelf,
            events: self.events,
            drain: self.drain,
            busy: self.busy,
            counters: self.counters,
            pulse: self.pulse,
            letters: self.letters,
            mailbox: self.mailbox,
            refusals: 0,
            give_up_at: now,
            faults: observe::pace::LinePace::new(1, FAULTS_APART),
            pace: observe::pace::LinePace::new(EVENTS_PER_SECOND_MAX, SECOND),
            gate: observe::pace::LogGate::new(TROUBLE_PER_SECOND_MAX, EVENTS_PER_SECOND_MAX),
            recent: Recent::default(),
            alarms: Alarms::default(),
            touched: Vec::new(),
            postponed: Vec::new(),
            questions: 0,
            ask_again_at: now,
            sending: 0,
            drained_at: None,
            head: Vec::new(),
            date: DateHeader::default(),
            now,
            today: SystemTime::now(),
        })
    }
}

/// The core at work.
struct Running {
    driver: TcpDriver,
    connections: Connections,
    admission: ConnectionAdmission<ConnectionId>,
    /// How many may run.
    connections_max: usize,
    /// Who of many large bodies sends now.
    schedule: SendSchedule<ConnectionId>,
    began: Instant,
    plan: HttpPlan,
    shelf: Shelf,
    events: EventSender,
    drain: Drain,
    busy: Arc<AtomicU32>,
    counters: Arc<HttpCounters>,
    pulse: Pulse,
    letters: MailboxSender<Letter>,
    mailbox: CoreMailbox<Letter>,
    /// Connections that are being told to come again.
    refusals: usize,
    /// When connections are given up next where all are taken.
    give_up_at: Instant,
    /// What is said of what goes wrong here.
    faults: observe::pace::LinePace<Fault>,
    /// Of all events, and of those that go into the log.
    pace: observe::pace::LinePace<()>,
    gate: observe::pace::LogGate,
    recent: Recent,
    alarms: Alarms,
    /// Connections to be looked at in this turn.
    touched: Vec<ConnectionId>,
    /// Questions that found every worker busy, and when they are asked again.
    postponed: Vec<Question>,
    ask_again_at: Instant,
    /// How many questions there have been.
    questions: u64,
    /// Answers with a content that are being sent.
    sending: u32,
    /// When the order to stop was seen.
    drained_at: Option<Instant>,
    /// Room for the head of the answer that is being made.
    head: Vec<u8>,
    date: DateHeader,
    /// The clocks, read once a turn.
    now: Instant,
    today: SystemTime,
}

impl Running {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.turn(self.patience())?;
            if let Some(since) = self.drained_at
                && (self.connections.len() == 0 || self.now.duration_since(since) >= DRAIN_MAX)
            {
                return Ok(());
            }
        }
    }

    /// How long the next turn may sleep.
    fn patience(&self) -> TurnWait {
        let again = (!self.postponed.is_empty()).then_some(self.ask_again_at);
        let end = self.drained_at.map(|since| since + DRAIN_MAX);
        let turn = self.schedule.next_timeout().map(|at| self.began + Duration::from_nanos(at));
        let give_up = self.is_crowded().then_some(self.give_up_at);
        let next = [self.alarms.next(), again, end, turn, give_up].into_iter().flatten().min();
        let next = next.map(|at| at.saturating_duration_since(self.now));
        match [next, self.pulse.every()].into_iter().flatten().min() {
            Some(Duration::ZERO) => TurnWait::No,
            Some(time) => TurnWait::AtMost(time),
            None => TurnWait::Forever,
        }
    }

    /// Collects what has come, then looks at each connection that it concerns. Names are looked up
    /// only after all is collected: that is why the requests of a turn may share what is found.
    fn turn(&mut self, wait: TurnWait) -> io::Result<()> {
        let Self { driver, connections, schedule, touched, now, plan, .. } = self;
        let (timeouts, mut sent, mut accept_failed) = (plan.timeouts, 0, None);
        driver.turn(wait, |event| {
            let id = match event {
                TcpEvent::Accepted { id, peer } => {
                    connections.put(Box::new(Connection::new(id, peer, timeouts, *now)));
                    id
                }
                TcpEvent::Received { id, .. }
                | TcpEvent::Ended { id, .. }
                | TcpEvent::Sent { id, .. }
                | TcpEvent::SendFailed { id, .. } => id,
                TcpEvent::AcceptFailed(error) => {
                    accept_failed = Some(error);
                    return;
                }
                TcpEvent::Woken => return,
            };
            let Some(connection) = connections.get_mut(id) else { return };
            match event {
                TcpEvent::Received { bytes, .. } => connection.received(bytes),
                TcpEvent::Ended { is_reset, .. } => {
                    connection.has_ended = true;
                    if is_reset {
                        connection.failed = Some(TcpSendError::Gone);
                    }
                }
                TcpEvent::Sent { bytes, left, .. } => {
                    sent += bytes;
                    schedule.taken(id, bytes);
                    connection.sent(bytes, left);
                }
                TcpEvent::SendFailed { why, .. } => connection.failed = Some(why),
                TcpEvent::Accepted { .. } | TcpEvent::AcceptFailed(_) | TcpEvent::Woken => {}
            }
            if !std::mem::replace(&mut connection.is_touched, true) {
                touched.push(id);
            }
        })?;
        self.counters.bytes_sent.add(sent);
        (self.now, self.today) = (Instant::now(), SystemTime::now());
        self.pulse.beat();
        if let Some(error) = accept_failed {
            self.cannot_accept(error);
        }
        self.follow_drain();
        self.read_letters();
        self.look_at_touched();
        self.ring_alarms();
        self.look_at_touched();
        self.make_room();
        self.look_at_touched();
        self.let_others_send();
        self.recent.forget();
        self.busy.store(self.sending, Ordering::Relaxed);
        let (running, waiting) = self.schedule.counts();
        self.counters.at_full_speed.set(running as u64);
        self.counters.in_line.set(waiting as u64);
        Ok(())
    }

    fn look_at_touched(&mut self) {
        let mut next = 0;
        // One that leaves makes room for another, which then stands at the end.
        while let Some(&id) = self.touched.get(next) {
            self.look_at(id);
            next += 1;
        }
        self.touched.clear();
    }

    /// Those whose turn it is in a storm. Each of them may end at once, and so let others in.
    fn let_others_send(&mut self) {
        while let Some(id) = self.schedule.poll(self.tick()) {
            self.take_turn(id);
            self.look_at_touched();
        }
    }

    fn tick(&self) -> ScheduleTick {
        ScheduleTick::try_from(self.now.duration_since(self.began).as_nanos())
            .unwrap_or(ScheduleTick::MAX)
    }

    /// The connection is to be looked at in this turn.
    fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.is_touched, true)
        {
            self.touched.push(id);
        }
    }

    fn read_letters(&mut self) {
        while let Some(letter) = self.mailbox.take() {
            match letter {
                Letter::Named(question, _) | Letter::Listed(question, _) => {
                    self.go_on_asking(question, Some(letter))
                }
                Letter::Resident(question, copied) => self.go_on_sending(question, copied),
                Letter::Asked(report) => drop(report.try_send(self.under_way())),
            }
        }
        if !self.postponed.is_empty() && self.now >= self.ask_again_at {
            for question in std::mem::take(&mut self.postponed) {
                self.go_on_asking(question, None);
                self.go_on_sending(question, None);
            }
        }
    }

    /// Files that are being sent, with what their clients have acknowledged.
    fn under_way(&self) -> Vec<UnderWay> {
        let sending = self.connections.iter().filter_map(|connection| {
            let Stage::Sending(body) = &connection.stage else { return None };
            let Delivery { path, bytes, began, .. } = body.delivery.as_ref()?;
            let held = self.driver.unacknowledged(connection.id).unwrap_or(0);
            let got = bytes.saturating_sub(body.file_bytes()).saturating_sub(held);
            Some(UnderWay {
                peer: connection.peer.ip().to_canonical(),
                name: path.display().into_owned(),
                age: self.now.saturating_duration_since(*began),
                still: self.now.saturating_duration_since(connection.moved()),
                way: TransferProgress::Http {
                    bytes: got,
                    of: *bytes,
                    in_line: body.waits == Waits::Turn,
                },
            })
        });
        sending.collect()
    }

    fn question(&mut self, of: ConnectionId) -> Question {
        self.questions += 1;
        Question { of, number: self.questions }
    }

    /// Every worker is busy: the question is asked again after a pause.
    fn postpone(&mut self, question: Question) {
        if self.postponed.is_empty() {
            self.ask_again_at = self.now + BUSY_PAUSE;
        }
        self.postponed.push(question);
    }

    /// After the order to stop nothing new is taken, what is idle goes, and what runs is finished.
    fn follow_drain(&mut self) {
        if self.drained_at.is_some() || !self.drain.is_ordered() {
            return;
        }
        self.drained_at = Some(self.now);
        self.driver.stop_listening();
        for id in self.admission.close() {
            self.connections.take(id);
            self.driver.close(id);
        }
        for id in self.connections.ids() {
            self.touch(id);
        }
    }

    /// What is beyond a turn's share rings in the next one, which does not sleep before.
    fn ring_alarms(&mut self) {
        for _ in 0..ALARMS_PER_TURN_MAX {
            let Some(place) = self.alarms.ring(self.now) else { return };
            let Some(mut connection) = self.connections.take_from(place) else { continue };
            let (driver, id) = (&self.driver, connection.id);
            let held = || driver.unacknowledged(id).unwrap_or(0);
            if connection.is_overdue(self.now, held) && !self.is_late(&mut connection) {
                self.let_go(connection);
                continue;
            }
            if let Stage::Sending(Body { waits: Waits::Client(_), .. }) = &connection.stage
                && !std::mem::replace(&mut connection.is_touched, true)
            {
                self.touched.push(id);
            }
            self.keep(connection);
        }
    }

    /// The client has let its time pass. Says whether the connection goes on for now.
    fn is_late(&mut self, connection: &mut Connection) -> bool {
        match connection.stage {
            Stage::Leaving { .. } => self.still_leaves(connection),
            Stage::Refused => false,
            Stage::Waiting => {
                self.admission.quit(&connection.id);
                self.refuse_place(connection)
            }
            Stage::Asking(_) => self.give_up_asking(connection),
            Stage::Reading if connection.input.is_empty() => self.leave(connection),
            Stage::Reading if connection.input.is_in_body() => {
                self.refuse_unread(connection, BadHead::BodyTooSlow);
                true
            }
            _ => {
                self.counters.timed_out.add(1);
                self.say_timed_out(connection.peer, connection.clock.written);
                connection.is_cut = true;
                false
            }
        }
    }

    fn look_at(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.take(id) else { return };
        connection.is_touched = false;
        if std::mem::take(&mut connection.has_moved) {
            connection.clock.move_on(self.now);
        }
        if self.advance(&mut connection) {
            self.slow_down(&mut connection);
            self.keep(connection);
        } else {
            self.let_go(connection);
        }
    }

    fn keep(&mut self, connection: Box<Connection>) {
        if let Some(due) = connection.due() {
            self.alarms.set(due, connection.id.index());
        }
        self.connections.put(connection);
    }

    /// Ends a connection at once, and gives its place to the one that has waited longest.
    fn let_go(&mut self, connection: Box<Connection>) {
        if connection.is_cut {
            self.driver.reset(connection.id);
        } else {
            self.driver.close(connection.id);
        }
        if let Stage::Sending(body) = &connection.stage {
            self.end_body(connection.id, body);
        }
        self.refusals -= usize::from(connection.is_refusal);
        if matches!(connection.stage, Stage::Waiting) {
            self.admission.quit(&connection.id);
        }
        if !connection.has_place {
            return;
        }
        if let Some((_, next)) = self.admission.leave(connection.peer.ip())
            && let Some(waiting) = self.connections.get_mut(next)
        {
            waiting.begin(self.now);
            waiting.start();
            self.touch(next);
        }
    }

    /// The kernel gives no connection: who waits is sent away with the descriptor that is kept
    /// back, so that nobody hangs.
    fn cannot_accept(&mut self, error: i32) {
        self.counters.accept_failed.add(1);
        self.say_fault(Fault::Accept(error));
        if matches!(error, libc::EMFILE | libc::ENFILE) {
            let told = respond::encode_overloaded(self.date.at(self.today));
            let answer = |asked: &[u8]| respond::is_ipxe_request(asked).then(|| told.clone());
            let count = self.driver.turn_away(AWAY_PER_TURN_MAX, answer);
            self.counters.turned_away.add(count as u64);
        }
    }

    /// Whether somebody waits although its source has less than it may, because all connections are
    /// taken.
    fn is_crowded(&self) -> bool {
        self.admission.waiting() > 0 && self.admission.running() >= self.connections_max
    }

    /// Where all connections are taken, those of sources that have more than one that waits are
    /// given up: first those to which nothing is sent, of the sources that have most, and of these
    /// the ones that have stood still longest.
    fn make_room(&mut self) {
        if !self.is_crowded() || self.now < self.give_up_at {
            return;
        }
        self.give_up_at = self.now + GIVE_UP_PAUSE;
        let still = self.connections.iter().filter_map(|connection| {
            let share = self.admission.share(connection.peer.ip());
            let (is_answered, since) = connection.stands_still(self.now, share)?;
            Some((is_answered, Reverse(share), since, connection.id))
        });
        let mut still: Vec<_> = still.collect();
        if still.len() > GIVE_UP_MAX {
            still.select_nth_unstable(GIVE_UP_MAX);
            still.truncate(GIVE_UP_MAX);
        }
        still.sort_unstable();
        for (is_answered, _, _, id) in still {
            let Some(least) = self.admission.least_share_in_need() else { break };
            let Some(mut connection) = self.connections.take(id) else { continue };
            if self.admission.share(connection.peer.ip()) <= least + usize::from(is_answered) {
                self.connections.put(connection);
                continue;
            }
            self.counters.given_up.add(1);
            self.say_fault(Fault::Full);
            connection.is_cut = is_answered || connection.first_byte.is_some();
            self.let_go(connection);
        }
    }

    /// Does what can be done for a connection now. Says whether it goes on.
    fn advance(&mut self, connection: &mut Connection) -> bool {
        if let Some(why) = connection.failed {
            return self.fail(connection, why);
        }
        loop {
            match &mut connection.stage {
                Stage::Arrived => {
                    if !self.admit(connection) {
                        return false;
                    }
                }
                // No boot client ends its side before its answer: whoever does so in the queue has
                // gone, as far as anybody can tell.
                Stage::Waiting => return !connection.has_ended,
                Stage::Asking(_) => return true,
                Stage::Refused => return self.turn_away(connection),
                Stage::Leaving { .. } => return !connection.has_ended || self.is_held(connection),
                Stage::Inviting if connection.is_sending => return true,
                Stage::Inviting => connection.stage = Stage::Reading,
                Stage::Sending(body)
                    if connection.is_sending
                        || matches!(body.waits, Waits::Worker(_) | Waits::Turn) =>
                {
                    return true;
                }
                Stage::Sending(_) => {
                    self.head.clear();
                    match self.send_next(connection) {
                        Progress::Underway => return true,
                        Progress::Done { keeps: true } => connection.stage = Stage::Reading,
                        Progress::Done { keeps: false } => return self.leave(connection),
                        Progress::Changed => {
                            return self.fail(connection, TcpSendError::ContentGone);
                        }
                        Progress::Gone => return self.fail(connection, TcpSendError::Gone),
                    }
                }
                Stage::Reading => match self.read(connection) {
                    Read::Something => {}
                    Read::Nothing => return true,
                    Read::End => return self.leave(connection),
                },
            }
        }
    }

    fn admit(&mut self, connection: &mut Connection) -> bool {
        self.counters.connections.add(1);
        if self.drained_at.is_some() {
            return false;
        }
        connection.begin(self.now);
        match self.admission.arrive(connection.peer.ip(), connection.id) {
            AdmissionOutcome::Start(_) => connection.start(),
            AdmissionOutcome::Waits => self.queue(connection),
            AdmissionOutcome::WaitsInPlaceOf(displaced) => {
                self.queue(connection);
                if let Some(mut displaced) = self.connections.take(displaced) {
                    if self.refuse_place(&mut displaced) {
                        self.keep(displaced);
                    } else {
                        self.let_go(displaced);
                    }
                }
            }
            AdmissionOutcome::Refuse(_) => return self.refuse_place(connection),
        }
        true
    }

    fn queue(&mut self, connection: &mut Connection) {
        self.counters.queued.add(1);
        connection.stage = Stage::Waiting;
    }

    /// No room to wait, or none came: iPXE is told when to come again, others are closed (H-14).
    fn refuse_place(&mut self, connection: &mut Connection) -> bool {
        self.counters.turned_away.add(1);
        connection.stage = Stage::Refused;
        if self.refusals >= REFUSALS_MAX {
            return false;
        }
        self.refusals += 1;
        connection.is_refusal = true;
        connection.begin(self.now);
        if !std::mem::replace(&mut connection.is_touched, true) {
            self.touched.push(connection.id);
        }
        true
    }

    /// Looks at what a client without a place asks, and tells it to come again if it is one that
    /// does (H-14).
    fn turn_away(&mut self, connection: &mut Connection) -> bool {
        let asked = connection.input.unanswered();
        if asked.is_empty() {
            return !connection.has_ended;
        }
        if !respond::is_ipxe_request(asked) {
            return false;
        }
        let told = respond::encode_overloaded(self.date.at(self.today));
        self.driver.send(connection.id, &told, SendBody::Nothing, false);
        self.leave(connection)
    }

    /// The client is gone, or the file has been cut short.
    fn fail(&mut self, connection: &mut Connection, why: TcpSendError) -> bool {
        match &mut connection.stage {
            Stage::Sending(body) => {
                self.counters.aborted.add(1);
                if let (TcpSendError::ContentGone, Some(delivery)) = (why, body.delivery.take()) {
                    self.say_changed(connection.peer, &delivery);
                }
            }
            Stage::Inviting => self.counters.aborted.add(1),
            _ => {}
        }
        false
    }

    /// Tells the client that nothing follows, and waits for its end. A connection that is closed
    /// while bytes of its client lie unread, or come later, is reset, and the reset takes away what
    /// the client has not got yet (RFC 9112 §9.6): so it goes on until the client has everything,
    /// and a while longer.
    fn leave(&mut self, connection: &mut Connection) -> bool {
        let has_all = !self.is_held(connection);
        if has_all && connection.has_ended {
            return false;
        }
        // Whoever asked for the end, has sent nothing since and has got everything sends nothing
        // more.
        let is_last = std::mem::take(&mut connection.is_last);
        if is_last
            && has_all
            && connection.input.is_empty()
            && !self.driver.has_unread(connection.id)
        {
            return false;
        }
        connection.input.close();
        if is_last || std::mem::take(&mut connection.is_paused) {
            self.driver.resume_reading(connection.id);
        }
        connection.stage =
            Stage::Leaving { until: self.now + self.plan.timeouts.linger, awaited: None };
        self.driver.shutdown_write(connection.id);
        true
    }

    /// Whether the kernel holds bytes for the client, its end of the connection not counted.
    fn is_held(&self, connection: &Connection) -> bool {
        self.driver.unacknowledged(connection.id).is_some_and(|held| held > 1)
    }

    /// The time of a connection that leaves is over. Says whether its client still takes what the
    /// kernel holds for it.
    fn still_leaves(&mut self, connection: &mut Connection) -> bool {
        let Stage::Leaving { until, awaited } = &mut connection.stage else { return false };
        let Some(held @ 2..) = self.driver.unacknowledged(connection.id) else { return false };
        let timeouts = self.plan.timeouts;
        let mut next =
            awaited.map_or(Awaited::new(self.now, held), |before| before.look(self.now, held));
        connection.is_cut = next.is_overdue(self.now, &timeouts);
        (*until, *awaited) = (self.now + timeouts.linger, Some(next));
        // What the kernel holds at the end of the process it sends by itself.
        !connection.is_cut && self.drained_at.is_none()
    }

    /// Reads the next request and begins its answer.
    fn read(&mut self, connection: &mut Connection) -> Read {
        let mut input = std::mem::take(&mut connection.input);
        let read = match input.step(connection.has_ended) {
            InputStep::More => Read::Nothing,
            InputStep::Body { is_awaited } => {
                connection.first_byte = Some(self.now);
                if is_awaited {
                    connection.stage = Stage::Inviting;
                    self.send(connection, CONTINUE, SendBody::Nothing, false);
                }
                Read::Something
            }
            InputStep::Bad(why) => {
                self.refuse_unread(connection, why);
                Read::Something
            }
            InputStep::Request(request) => {
                connection.first_byte = None;
                if self.answer(connection, &request) == Answered::Yes {
                    input.answered();
                }
                Read::Something
            }
        };
        connection.input = input;
        let is_idle = connection.input.is_empty();
        match read {
            Read::Nothing if connection.has_ended || (self.drained_at.is_some() && is_idle) => {
                Read::End
            }
            Read::Nothing if !is_idle => {
                connection.first_byte.get_or_insert(self.now);
                Read::Nothing
            }
            read => read,
        }
    }

    /// Answers what is no request.
    fn refuse_unread(&mut self, connection: &mut Connection, why: BadHead) {
        connection.first_byte = None;
        self.say_bad(connection.peer, || why.to_string());
        self.begin_answer(
            connection,
            HttpVersion::Http11,
            false,
            respond::answer_bad_head(why),
            None,
            None,
        );
    }

    /// Begins to send the answer to a request.
    fn begin(
        &mut self,
        connection: &mut Connection,
        request: &RequestHead<'_>,
        plan: ResponsePlan<'_>,
        content: Option<&ServedContent>,
        delivery: Option<Delivery>,
    ) {
        self.begin_answer(
            connection,
            request.version,
            request.keeps_alive,
            plan,
            content,
            delivery,
        );
    }

    fn begin_answer(
        &mut self,
        connection: &mut Connection,
        version: HttpVersion,
        keeps_alive: bool,
        plan: ResponsePlan<'_>,
        content: Option<&ServedContent>,
        delivery: Option<Delivery>,
    ) {
        if plan.status.is_refusal() {
            self.counters.refused_requests.add(1);
        }
        let keeps = keeps_alive && !plan.closes && self.drained_at.is_none();
        let ends = !keeps_alive && !plan.closes;
        self.head.clear();
        plan.write_head(version, keeps, self.date.at(self.today), &mut self.head);
        let mut body = Body::new(plan.payload, content, delivery, keeps);
        self.sending += u32::from(body.has_content());
        body.ends = ends;
        body.is_ordered = body.file_bytes() > SMALL_BYTES;
        if body.is_ordered {
            self.schedule.enter(self.tick(), connection.id, connection.peer.ip());
            self.keep_pace(connection);
        }
        connection.clock.begin_window(self.now);
        connection.stage = Stage::Sending(body);
        // What cannot be sent now is found again by whoever looks at the connection next.
        self.send_next(connection);
    }

    /// Sends what has been written to `head`, and the next part of the answer. This is where a
    /// connection with something large to send takes its turn.
    fn send_next(&mut self, connection: &mut Connection) -> Progress {
        let tick = self.tick();
        let Stage::Sending(body) = &mut connection.stage else { return Progress::Underway };
        let waited = std::mem::replace(&mut body.waits, Waits::Nothing);
        let is_in_order = body.is_ordered && body.file_bytes() > 0 && !body.has_ready();
        let leave = if is_in_order { self.schedule.ask(tick, connection.id) } else { u64::MAX };
        if leave == 0 {
            body.waits = Waits::Turn;
            return Progress::Underway;
        }
        let chunk_bytes = self.plan.chunk_bytes.min(leave);
        let mut next = body.next(&mut self.head, chunk_bytes);
        if let Next::Unsure(most) = next {
            let Some(held) = self.driver.unacknowledged(connection.id) else {
                return Progress::Gone;
            };
            if held <= most {
                body.is_delivered();
                next = body.next(&mut self.head, chunk_bytes);
            } else {
                body.waits = Waits::Client(match waited {
                    Waits::Client(awaited) => awaited.look(self.now, held),
                    _ => Awaited::new(self.now, held),
                });
            }
        }
        // The end of the connection leaves with the answer's last bytes: one packet and one wake-up
        // of the client for both.
        let ends = body.ends && body.is_given();
        let (part, more) = match next {
            Next::Send { part, more } => (part, more),
            Next::Nothing if self.head.is_empty() => return self.finish(connection),
            Next::Nothing => (SendBody::Nothing, false),
            Next::Changed => return Progress::Changed,
            Next::Missing(_) | Next::Unsure(_) => {
                if let Next::Missing(range) = next {
                    self.populate(connection, range, leave != u64::MAX);
                }
                if self.head.is_empty() {
                    return Progress::Underway;
                }
                // The head goes ahead: a loader waits for the first byte (H-10).
                (SendBody::Nothing, false)
            }
        };
        if let SendBody::File { content, range } = &part
            && leave == u64::MAX
            && range.end - range.start > TRICKLE_BYTES
            && let Some(piece) = content.claim_next_missing(range)
        {
            // Only a help: where the workers are busy, the piece is asked for again when it is
            // needed.
            let content = content.clone();
            let _ = self
                .shelf
                .names()
                .images
                .workers()
                .read(PieceUrgency::InTurn, move || content.populate(piece));
        }
        let head = std::mem::take(&mut self.head);
        self.send(connection, &head, part, more || ends);
        self.head = head;
        if ends {
            connection.is_last = true;
            self.driver.pause_reading(connection.id);
            self.driver.shutdown_write(connection.id);
        }
        Progress::Underway
    }

    fn send(&mut self, connection: &mut Connection, head: &[u8], part: SendBody, more: bool) {
        connection.is_sending = true;
        connection.clock.move_on(self.now);
        self.driver.send(connection.id, head, part, more);
    }

    /// The kernel has taken the whole answer.
    fn finish(&mut self, connection: &mut Connection) -> Progress {
        let Stage::Sending(body) = std::mem::replace(&mut connection.stage, Stage::Reading) else {
            return Progress::Underway;
        };
        self.end_body(connection.id, &body);
        if let Some(delivery) = body.delivery.as_ref().filter(|delivery| delivery.completes) {
            self.say_delivered(connection.peer, delivery);
        }
        Progress::Done { keeps: body.keeps }
    }

    /// Holds a large body to the rate of its machine: `[http] rate`, or what its firmware has been
    /// found to bear.
    fn keep_pace(&self, connection: &mut Connection) {
        let rate = self.shelf.names().pace_for(connection.peer.ip());
        if std::mem::replace(&mut connection.rate, rate) != rate {
            self.driver.pace(connection.id, rate);
        }
    }

    /// An answer is complete, or given up.
    fn end_body(&mut self, id: ConnectionId, body: &Body) {
        self.sending -= u32::from(body.has_content());
        if body.is_ordered {
            self.schedule.leave(self.tick(), id);
        }
    }

    /// Has a worker make a range of what is sent resident, or copy it where it is small or a
    /// trickle: whoever stands in line pushes out nothing that others are sending.
    fn populate(&mut self, connection: &mut Connection, range: Range<u64>, is_trickle: bool) {
        let Stage::Sending(body) = &mut connection.stage else { return };
        let Some(content) = body.content().cloned() else { return };
        if let Some(number) = body.reading {
            body.waits = Waits::Worker(number);
            return;
        }
        let question = self.question(connection.id);
        body.waits = Waits::Worker(question.number);
        let letters = self.letters.clone();
        let is_copied = body.is_small_part() || (is_trickle && body.may_be_copied());
        // The end of an answer is not for a long line: no trickle may be made of it.
        let is_in_line = body.is_ordered && !is_copied && body.may_be_copied();
        let urgency = if is_in_line { PieceUrgency::InTurn } else { PieceUrgency::Soon };
        body.reading = is_in_line.then_some(question.number);
        let job = move || {
            // Told whatever becomes of it. What is not there then is asked for again.
            let owed =
                OwedAnswer::new(|copy| letters.send(Letter::Resident(question, copy)), |_| None);
            if is_copied {
                let bytes = content.copy(&range);
                return owed.pay(Some(Copied { range, bytes }));
            }
            while let Some(piece) = content.missing(&range) {
                content.populate(piece);
            }
        };
        if self.shelf.names().images.workers().read(urgency, job).is_err() {
            self.postpone(question);
        }
        if is_in_line {
            self.schedule.reads(self.tick(), connection.id);
        }
    }

    /// Has a worker copy the next few bytes for a body that waits for its piece, so that its client
    /// hears something meanwhile.
    fn trickle_aside(&mut self, id: ConnectionId) {
        let Some(connection) =
            self.connections.get_mut(id).filter(|connection| !connection.is_sending)
        else {
            return;
        };
        let Stage::Sending(body) = &mut connection.stage else { return };
        let Some((content, range)) = body.content().cloned().zip(body.next_trickle(TRICKLE_BYTES))
        else {
            return;
        };
        self.questions += 1;
        let question = Question { of: id, number: self.questions };
        body.aside = Some(question.number);
        let letters = self.letters.clone();
        let job = move || {
            let owed =
                OwedAnswer::new(|copy| letters.send(Letter::Resident(question, copy)), |_| None);
            let bytes = content.copy(&range);
            owed.pay(Some(Copied { range, bytes }));
        };
        if self.shelf.names().images.workers().read(PieceUrgency::Soon, job).is_err() {
            body.aside = None;
        }
    }

    /// A body whose turn has come in a storm. One that waits for a worker goes on when that has
    /// answered, and sends a trickle until then.
    fn take_turn(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Stage::Sending(body) = &mut connection.stage else { return };
        match body.waits {
            Waits::Turn => {
                body.waits = Waits::Nothing;
                connection.clock.begin_window(self.now);
                self.touch(id);
            }
            Waits::Worker(number) if body.reading == Some(number) && body.aside.is_none() => {
                self.trickle_aside(id)
            }
            _ => {}
        }
    }

    /// What was missing is resident, or is asked for once more.
    fn go_on_sending(&mut self, question: Question, copied: Option<Copied>) {
        let tick = self.tick();
        let Some(connection) = self.connections.get_mut(question.of) else { return };
        let Stage::Sending(body) = &mut connection.stage else { return };
        let is_aside = body.aside.take_if(|number| *number == question.number).is_some();
        if body.reading.take_if(|number| *number == question.number).is_some() {
            self.schedule.has_read(tick, question.of);
        }
        let waits_for_more = body.reading.is_some_and(|number| body.waits == Waits::Worker(number));
        if body.waits == Waits::Worker(question.number)
            || (is_aside && waits_for_more && copied.is_some())
        {
            body.waits = Waits::Nothing;
            copied.into_iter().for_each(|copied| body.is_ready(copied));
            // Time that went by on our side does not count against the client.
            connection.clock.begin_window(self.now);
            self.touch(question.of);
        }
    }

    /// Leaves in the kernel what a client sends beyond what may wait here.
    fn slow_down(&mut self, connection: &mut Connection) {
        let is_full = connection.input.is_full();
        if is_full == connection.is_paused || connection.is_last {
            return;
        }
        connection.is_paused = is_full;
        if is_full {
            self.driver.pause_reading(connection.id);
        } else {
            self.driver.resume_reading(connection.id);
        }
    }

    /// The address of ours that the client asked.
    fn local(&self, connection: &mut Connection) -> IpAddr {
        let ask = || {
            self.driver
                .local(connection.id)
                .map_or(IpAddr::from([0; 4]), |local| local.ip().to_canonical())
        };
        *connection.local.get_or_insert_with(ask)
    }
}

/// What reading has come to.
enum Read {
    /// There is something to do.
    Something,
    Nothing,
    /// No request will come any more.
    End,
}

/// What sending has come to.
enum Progress {
    /// The driver has something to send, or a worker to read.
    Underway,
    Done {
        keeps: bool,
    },
    /// The file is not what it was.
    Changed,
    /// The client has reset the connection, or no longer answers.
    Gone,
}
