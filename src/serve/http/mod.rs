//! One HTTP core: a thread with connections of its own. It reads requests, answers them from the
//! shelf, and enforces the timeouts.
//!
//! The files build on each other in this order: the configuration (`plan`), the log (`journal`),
//! timeouts (`clock`, `alarms`) and bodies (`body`); the questions to workers (`asking`); one
//! connection (`connection`) and the places for them (`places`); an answer on its way (`sending`),
//! from a request to its answer (`answer`), and the life of a connection (`advance`).

mod advance;
mod alarms;
mod answer;
mod asking;
mod body;
mod clock;
mod connection;
mod journal;
mod places;
mod plan;
mod recent;
mod sending;
#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use self::plan::{HttpCounters, HttpPlan, HttpTimeouts};

use self::advance::ConnectionKeeper;
use self::answer::RequestAnswerer;
use self::asking::{HttpLetter, WorkerQuestions};
use self::connection::HttpConnection;
use self::journal::HttpJournal;
use self::sending::AnswerSender;
use super::core::{CoreError, CoreParts};
use super::drain::{DRAIN_MAX, DrainOrder};
use super::flights::CoreInquiry;
use super::pulse::CorePulse;
use super::shelf::FileSources;
use crate::engine::mailbox::{CoreMailbox, MailboxBell, MailboxSender};
use crate::engine::stream::{TcpDriver, TcpEvent, TcpSendError, TurnWait};

/// The name of these cores in errors.
const CORE: &str = "an HTTP core";

/// An HTTP core before its thread runs.
#[derive(Debug)]
pub struct HttpCore {
    parts: CoreParts,
    listeners: Vec<TcpListener>,
    plan: HttpPlan,
    names: Arc<FileSources>,
    busy: Arc<AtomicU32>,
    counters: Arc<HttpCounters>,
    letters: MailboxSender<HttpLetter>,
    mailbox: CoreMailbox<HttpLetter>,
}

impl HttpCore {
    /// Makes the core and its bell. The thread that orders the drain rings the bell afterwards.
    /// `busy` counts the answers on their way, for the TFTP core on the same processor.
    pub fn new(
        parts: CoreParts,
        listeners: Vec<TcpListener>,
        plan: &HttpPlan,
        names: &Arc<FileSources>,
        busy: &Arc<AtomicU32>,
    ) -> io::Result<(Self, MailboxBell)> {
        let (letters, mailbox) = CoreMailbox::new()?;
        let bell = mailbox.bell();
        let core = Self {
            parts,
            listeners,
            plan: plan.clone(),
            names: Arc::clone(names),
            busy: Arc::clone(busy),
            counters: Arc::default(),
            letters,
            mailbox,
        };
        Ok((core, bell))
    }

    /// A handle by which control asks the core for its transfers.
    pub fn inquiry(&self) -> CoreInquiry {
        let letters = self.letters.clone();
        CoreInquiry::new(move |report| letters.send(HttpLetter::Asked(report)))
    }

    /// The counters of this core, for status and metrics.
    pub fn counters(&self) -> Arc<HttpCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until drained. Calls `ready` once, when the core accepts connections.
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), CoreError> {
        let mut running = self.start()?;
        running.turn(TurnWait::No)?;
        ready();
        running.serve()
    }

    fn start(self) -> Result<RunningHttp, CoreError> {
        let failed = CoreError::sockets(CORE);
        let CoreParts { datapath, events, drain, pulse } = self.parts;

        // A ring belongs to the thread that makes it (SINGLE_ISSUER), so this runs on the core's
        // own thread.
        let mut driver = TcpDriver::new(datapath)?;
        driver.listen_to(&self.mailbox).map_err(failed)?;
        for listener in self.listeners {
            driver.listen(listener).map_err(failed)?;
        }

        let (names, counters) = (self.names, self.counters);
        let journal = HttpJournal::new(events, Arc::clone(&names), Arc::clone(&counters));
        let questions = WorkerQuestions::new(self.letters, Instant::now());
        let answerer = RequestAnswerer::new(Arc::clone(&names));
        let sender = AnswerSender::new(driver, self.plan, names, counters, journal, questions);
        Ok(RunningHttp {
            keeper: ConnectionKeeper::new(sender, answerer),
            drain,
            busy: self.busy,
            pulse,
            mailbox: self.mailbox,
            drained_at: None,
        })
    }
}

/// The state of the running core.
struct RunningHttp {
    keeper: ConnectionKeeper,
    drain: DrainOrder,
    busy: Arc<AtomicU32>,
    pulse: CorePulse,
    mailbox: CoreMailbox<HttpLetter>,
    /// When the core saw the order to stop.
    drained_at: Option<Instant>,
}

impl RunningHttp {
    fn serve(&mut self) -> Result<(), CoreError> {
        loop {
            self.turn(self.choose_wait())?;
            let now = self.keeper.sender.time.now;
            if let Some(since) = self.drained_at
                && (self.keeper.connections.len() == 0 || now.duration_since(since) >= DRAIN_MAX)
            {
                return Ok(());
            }
        }
    }

    /// How long the next turn may sleep.
    fn choose_wait(&self) -> TurnWait {
        let end = self.drained_at.map(|since| since + DRAIN_MAX);
        let next = [self.keeper.due(), end].into_iter().flatten().min();
        let now = self.keeper.sender.time.now;
        let next = next.map(|at| at.saturating_duration_since(now));
        match [next, self.pulse.every()].into_iter().flatten().min() {
            Some(Duration::ZERO) => TurnWait::No,
            Some(time) => TurnWait::AtMost(time),
            None => TurnWait::Forever,
        }
    }

    /// Collects events, then looks at each connection that they concern. The core looks names up
    /// only after it has collected everything, so that the requests of a turn can share a look-up.
    fn turn(&mut self, wait: TurnWait) -> Result<(), CoreError> {
        let accept_failed = self.collect(wait).map_err(CoreError::sockets(CORE))?;
        self.keeper.sender.time.read_clocks();
        self.pulse.beat();
        if let Some(error) = accept_failed {
            self.keeper.handle_accept_failure(error);
        }
        self.follow_drain();
        self.read_letters();

        // Each step may touch more connections; they are looked at before the next step.
        self.keeper.look_at_touched();
        self.keeper.ring_alarms();
        self.keeper.look_at_touched();
        self.keeper.make_room();
        self.keeper.look_at_touched();
        self.keeper.give_turns();

        self.keeper.answerer.end_turn();
        self.show_counts();
        Ok(())
    }

    /// Runs one turn of the driver. Returns the error of accept(2), if there was one.
    fn collect(&mut self, wait: TurnWait) -> io::Result<Option<i32>> {
        let ConnectionKeeper { sender, connections, touched, .. } = &mut self.keeper;
        let AnswerSender { driver, schedule, plan, time, counters, .. } = sender;
        let (mut sent, mut accept_failed) = (0, None);
        driver.run_turn(wait, |event| {
            let id = match event {
                TcpEvent::Accepted { id, peer } => {
                    // The clocks are read after the batch: `admit` starts this clock again.
                    let connection = HttpConnection::new(id, peer, plan.timeouts, time.now);
                    connections.insert(Box::new(connection));
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
                TcpEvent::Received { bytes, .. } => connection.take_input(bytes),
                TcpEvent::Ended { is_reset, .. } => {
                    connection.has_ended = true;
                    if is_reset {
                        connection.failed = Some(TcpSendError::Gone);
                    }
                }
                TcpEvent::Sent { bytes, left, .. } => {
                    sent += bytes;
                    schedule.count_sent(id, bytes);
                    connection.note_sent(bytes, left);
                }
                TcpEvent::SendFailed { why, .. } => connection.failed = Some(why),
                TcpEvent::Accepted { .. } | TcpEvent::AcceptFailed(_) | TcpEvent::Woken => {}
            }
            if connection.touch() {
                touched.push(id);
            }
        })?;
        counters.bytes_sent.add(sent);
        Ok(accept_failed)
    }

    fn read_letters(&mut self) {
        while let Some(letter) = self.mailbox.take() {
            match letter {
                HttpLetter::Answered(question, answer) => {
                    self.keeper.continue_request(question, Some(answer));
                }
                HttpLetter::Resident(question, copied) => {
                    self.keeper.continue_body(question, copied);
                }
                HttpLetter::Asked(report) => drop(report.try_send(self.keeper.list_under_way())),
            }
        }
        let now = self.keeper.sender.time.now;
        for question in self.keeper.sender.questions.take_due(now) {
            self.keeper.continue_request(question, None);
            self.keeper.continue_body(question, None);
        }
    }

    fn follow_drain(&mut self) {
        if self.drained_at.is_none() && self.drain.is_ordered() {
            self.drained_at = Some(self.keeper.sender.time.now);
            self.keeper.begin_drain();
        }
    }

    /// Publishes counts for the TFTP core on the same processor, and for `status`.
    fn show_counts(&self) {
        let sender = &self.keeper.sender;
        self.busy.store(sender.contents_sent(), Ordering::Relaxed);
        let (at_full_speed, in_line) = sender.schedule.counts();
        sender.counters.at_full_speed.set(at_full_speed as u64);
        sender.counters.in_line.set(in_line as u64);
    }
}
