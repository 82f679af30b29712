//! The life of a core's connections: the core looks at a connection when something has happened to
//! it or its time has come, and takes it as far as it can go now.

mod admission;

use std::time::Instant;

use super::alarms::ConnectionAlarms;
use super::answer::{RequestAnswered, RequestAnswerer, give_up_request, refuse_input};
use super::asking::{WorkerAnswer, WorkerQuestion};
use super::body::{AnswerBody, BodyWait, CopiedRange};
use super::clock::AckWatch;
use super::connection::{ConnectionStage, ConnectionTable, HttpConnection, InputFlow};
use super::journal::FileDelivery;
use super::places::ConnectionPlaces;
use super::sending::{AnswerSender, SendProgress};
use crate::engine::stream::{ConnectionId, TcpSendError};
use crate::http::input::InputStep;
use crate::http::request::BadHead;
use crate::observe::flight::TransferProgress;
use crate::serve::flights::TransferUnderWay;

/// Connections whose time has come that one turn looks at: while a core looks at ten thousand of
/// them, it serves no client.
const ALARMS_PER_TURN_MAX: usize = 512;

/// The result of reading a connection's input.
enum ReadOutcome {
    /// The stage of the connection has changed.
    Progress,
    /// The next request is not complete.
    Nothing,
    /// No further request can come.
    End,
}

/// The connections of one core, with everything that serves them.
pub(super) struct ConnectionKeeper {
    pub(super) sender: AnswerSender,
    pub(super) answerer: RequestAnswerer,
    pub(super) connections: ConnectionTable,
    pub(super) places: ConnectionPlaces,
    alarms: ConnectionAlarms,
    /// Connections to be looked at in this turn.
    pub(super) touched: Vec<ConnectionId>,
}

impl ConnectionKeeper {
    pub(super) fn new(sender: AnswerSender, answerer: RequestAnswerer) -> Self {
        let places = ConnectionPlaces::new(&sender.plan, sender.time.now);
        Self {
            sender,
            answerer,
            connections: ConnectionTable::default(),
            places,
            alarms: ConnectionAlarms::default(),
            touched: Vec::new(),
        }
    }

    /// When the core must take its next turn at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        let turn = self.sender.schedule.next_timeout().map(|tick| self.sender.time.at(tick));
        let postponed = self.sender.questions.due();
        [self.alarms.next_due(), postponed, turn, self.places.gives_up_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Looks at every connection to which something has happened.
    pub(super) fn look_at_touched(&mut self) {
        let mut next = 0;
        // A connection that ends gives its place to another one, which is appended here.
        while let Some(&id) = self.touched.get(next) {
            self.look_at(id);
            next += 1;
        }
        self.touched.clear();
    }

    /// Gives large bodies their turns. Each may end at once, and so give its turn to the next.
    pub(super) fn give_turns(&mut self) {
        let AnswerSender { schedule, driver, time, .. } = &mut self.sender;
        schedule.discount_held(time.tick(), |id| driver.unacknowledged(id).unwrap_or(0));
        while let Some(id) = self.sender.schedule.poll(self.sender.time.tick()) {
            if let Some(connection) = self.connections.get_mut(id)
                && self.sender.take_turn(connection)
            {
                self.touch(id);
            }
            self.look_at_touched();
        }
    }

    /// Marks a connection for a look in this turn.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.touch()
        {
            self.touched.push(id);
        }
    }

    /// Continues a waiting request with a worker's answer, or asks the workers again (None).
    pub(super) fn continue_request(
        &mut self,
        question: WorkerQuestion,
        answer: Option<WorkerAnswer>,
    ) {
        let Some(mut connection) = self.connections.take(question.connection) else { return };
        let is_its =
            self.answerer.continue_request(&mut self.sender, &mut connection, question, answer);
        self.connections.insert(connection);
        if is_its {
            self.touch(question.connection);
        }
    }

    /// Continues a body whose range is resident or copied, or asks for the range again (None).
    pub(super) fn continue_body(&mut self, question: WorkerQuestion, copied: Option<CopiedRange>) {
        if let Some(connection) = self.connections.get_mut(question.connection)
            && self.sender.take_read(connection, question.number, copied)
        {
            self.touch(question.connection);
        }
    }

    /// The files that are being sent, with the bytes that their clients have acknowledged.
    pub(super) fn list_under_way(&self) -> Vec<TransferUnderWay> {
        let now = self.sender.time.now;
        let sending = self.connections.iter().filter_map(|connection| {
            let ConnectionStage::Sending(body) = &connection.stage else { return None };
            let FileDelivery { path, bytes, began, .. } = body.delivery.as_ref()?;
            // The kernel takes bytes long before the client has them.
            let held = self.sender.driver.unacknowledged(connection.id).unwrap_or(0);
            let got = bytes.saturating_sub(body.file_bytes()).saturating_sub(held);
            let in_line = body.wait == BodyWait::Turn;
            Some(TransferUnderWay {
                peer: connection.peer.ip().to_canonical(),
                name: path.display().into_owned(),
                age: now.saturating_duration_since(*began),
                still: now.saturating_duration_since(connection.moved_at()),
                way: TransferProgress::Http { bytes: got, of: *bytes, in_line },
                bytes: *bytes,
                got,
                in_line,
            })
        });
        sending.collect()
    }

    /// Begins to drain: accepts no connection, closes idle ones, and finishes running answers.
    pub(super) fn begin_drain(&mut self) {
        self.sender.is_draining = true;
        self.sender.driver.stop_listening();
        for id in self.places.close_queue() {
            self.connections.take(id);
            self.sender.driver.close(id);
        }
        for id in self.connections.ids() {
            self.touch(id);
        }
    }

    /// Looks at the connections whose time has come, up to a bound. The rest follows in the next
    /// turn, which does not sleep first.
    pub(super) fn ring_alarms(&mut self) {
        let now = self.sender.time.now;
        for _ in 0..ALARMS_PER_TURN_MAX {
            let Some(index) = self.alarms.pop_due(now) else { return };
            let Some(mut connection) = self.connections.take_from(index) else { continue };
            let (driver, id) = (&self.sender.driver, connection.id);
            if connection.is_overdue(now, || driver.unacknowledged(id).unwrap_or(0))
                && !self.handle_late(&mut connection)
            {
                self.end_connection(connection);
                continue;
            }
            // Such a body continues as soon as the kernel holds few enough bytes, and only a look
            // finds that out.
            let awaits_client = matches!(
                &connection.stage,
                ConnectionStage::Sending(AnswerBody { wait: BodyWait::Client(_), .. })
            );
            if awaits_client && connection.touch() {
                self.touched.push(id);
            }
            self.put_back(connection);
        }
    }

    /// Handles a client whose time is over. Returns whether the connection continues for now.
    fn handle_late(&mut self, connection: &mut HttpConnection) -> bool {
        match connection.stage {
            ConnectionStage::Leaving { .. } => self.still_receives(connection),
            ConnectionStage::Refused => false,
            ConnectionStage::Waiting => {
                self.places.leave_queue(connection.id);
                self.refuse_place(connection)
            }
            ConnectionStage::Asking(_) => {
                // The server was too slow, not the client: the connection goes on after the 503.
                give_up_request(&mut self.sender, connection);
                true
            }
            ConnectionStage::Reading if connection.input.is_empty() => {
                // An idle client is no fault: nothing is counted or logged.
                self.begin_leaving(connection)
            }
            ConnectionStage::Reading if connection.input.is_in_body() => {
                refuse_input(&mut self.sender, connection, BadHead::BodyTooSlow);
                true
            }
            _ => {
                self.sender.counters.timed_out.add(1);
                let (peer, written) = (connection.peer, connection.clock.written);
                self.sender.journal.log_timed_out(peer, written, self.sender.time.now);
                connection.is_cut = true;
                false
            }
        }
    }

    /// Takes one connection as far as it can go now.
    fn look_at(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.connections.take(id) else { return };
        connection.is_touched = false;
        if std::mem::take(&mut connection.has_moved) {
            connection.clock.move_on(self.sender.time.now);
        }
        if self.advance(&mut connection) {
            self.steer_input(&mut connection);
            self.put_back(connection);
        } else {
            self.end_connection(connection);
        }
    }

    /// Puts a connection back, with its alarm.
    fn put_back(&mut self, connection: Box<HttpConnection>) {
        if let Some(due) = connection.due() {
            self.alarms.set(due, connection.id.index());
        }
        self.connections.insert(connection);
    }

    /// Closes or resets a connection, and gives its place to the one that has waited longest.
    fn end_connection(&mut self, connection: Box<HttpConnection>) {
        if connection.is_cut {
            self.sender.driver.reset(connection.id);
        } else {
            self.sender.driver.close(connection.id);
        }
        if let ConnectionStage::Sending(body) = &connection.stage {
            self.sender.end_body(connection.id, body);
        }
        if let Some(next) = self.places.release(&connection)
            && let Some(waiting) = self.connections.get_mut(next)
        {
            waiting.start_clock(self.sender.time.now);
            waiting.give_place();
            self.touch(next);
        }
    }

    /// Takes a connection from stage to stage until it must wait. Returns whether it continues.
    fn advance(&mut self, connection: &mut HttpConnection) -> bool {
        if let Some(why) = connection.failed {
            return self.abort_answer(connection, why);
        }
        loop {
            match &mut connection.stage {
                ConnectionStage::Arrived => {
                    if !self.admit(connection) {
                        return false;
                    }
                }
                // No boot client ends its side before its answer: one that does so in the queue has
                // given up.
                ConnectionStage::Waiting => return !connection.has_ended,
                ConnectionStage::Asking(_) => return true,
                ConnectionStage::Refused => return self.turn_away(connection),
                ConnectionStage::Leaving { .. } => {
                    return !connection.has_ended || self.sender.is_held(connection.id);
                }
                ConnectionStage::Inviting if connection.is_sending => return true,
                ConnectionStage::Inviting => connection.stage = ConnectionStage::Reading,
                ConnectionStage::Sending(body)
                    if connection.is_sending
                        || matches!(body.wait, BodyWait::Worker(_) | BodyWait::Turn) =>
                {
                    return true;
                }
                ConnectionStage::Sending(_) => match self.sender.continue_answer(connection) {
                    SendProgress::Underway => return true,
                    SendProgress::Done { keeps: true } => {
                        connection.stage = ConnectionStage::Reading;
                    }
                    SendProgress::Done { keeps: false } => return self.begin_leaving(connection),
                    SendProgress::Changed => {
                        return self.abort_answer(connection, TcpSendError::ContentGone);
                    }
                    SendProgress::Gone => return self.abort_answer(connection, TcpSendError::Gone),
                },
                ConnectionStage::Reading => match self.read_request(connection) {
                    ReadOutcome::Progress => {}
                    ReadOutcome::Nothing => return true,
                    ReadOutcome::End => return self.begin_leaving(connection),
                },
            }
        }
    }

    /// Counts and logs an answer that cannot be finished: the client is gone, or the file has
    /// changed.
    fn abort_answer(&mut self, connection: &mut HttpConnection, why: TcpSendError) -> bool {
        match &mut connection.stage {
            ConnectionStage::Sending(body) => {
                self.sender.counters.aborted.add(1);
                if let (TcpSendError::ContentGone, Some(delivery)) = (why, body.delivery.take()) {
                    let now = self.sender.time.now;
                    self.sender.journal.log_changed(connection.peer, &delivery, now);
                }
            }
            ConnectionStage::Inviting => self.sender.counters.aborted.add(1),
            _ => {}
        }
        false
    }

    /// Ends the server's side of a connection, and waits for the client's end. If the server closed
    /// the connection while input is unread or still arrives, the kernel would reset it, and the
    /// client would lose what it has not received yet (RFC 9112 §9.6). So the connection stays
    /// until the client has everything, and a while longer.
    fn begin_leaving(&mut self, connection: &mut HttpConnection) -> bool {
        let has_all = !self.sender.is_held(connection.id);
        if has_all && connection.has_ended {
            return false;
        }
        // The client sent `Connection: close` and nothing after it, so there is no late input to
        // drain: close at once.
        let flow = std::mem::take(&mut connection.flow);
        if flow == InputFlow::Stopped
            && has_all
            && connection.input.is_empty()
            && !self.sender.driver.has_unread(connection.id)
        {
            return false;
        }

        connection.input.close();
        if flow != InputFlow::Open {
            self.sender.driver.resume_reading(connection.id);
        }
        let until = self.sender.time.now + self.sender.plan.timeouts.linger;
        connection.stage = ConnectionStage::Leaving { until, awaited: None };
        self.sender.driver.shutdown_write(connection.id);
        true
    }

    /// Checks a leaving connection whose time is over. Returns whether its client still receives
    /// what the kernel holds for it.
    fn still_receives(&mut self, connection: &mut HttpConnection) -> bool {
        let ConnectionStage::Leaving { until, awaited } = &mut connection.stage else {
            return false;
        };
        let Some(held @ 2..) = self.sender.driver.unacknowledged(connection.id) else {
            return false;
        };
        let (now, timeouts) = (self.sender.time.now, self.sender.plan.timeouts);
        let mut next = awaited.map_or(AckWatch::new(now, held), |before| before.look(now, held));
        connection.is_cut = next.is_overdue(now, &timeouts);
        (*until, *awaited) = (now + timeouts.linger, Some(next));
        // After the end of the process the kernel still sends what it holds.
        !connection.is_cut && !self.sender.is_draining
    }

    /// Reads the next request and begins its answer.
    fn read_request(&mut self, connection: &mut HttpConnection) -> ReadOutcome {
        let now = self.sender.time.now;

        // The request borrows from the input, so the input leaves the connection while the core
        // answers. If a worker is asked first, the input keeps the request for `continue_request`.
        let mut input = std::mem::take(&mut connection.input);
        let read = match input.step(connection.has_ended) {
            InputStep::More => ReadOutcome::Nothing,
            InputStep::Body { is_awaited } => {
                connection.first_byte = Some(now);
                if is_awaited {
                    self.sender.invite_body(connection);
                }
                ReadOutcome::Progress
            }
            InputStep::Bad(why) => {
                refuse_input(&mut self.sender, connection, why);
                ReadOutcome::Progress
            }
            InputStep::Request(request) => {
                connection.first_byte = None;
                let answered = self.answerer.answer_request(&mut self.sender, connection, &request);
                if answered == RequestAnswered::Now {
                    input.finish_request();
                }
                ReadOutcome::Progress
            }
        };
        connection.input = input;

        // The 10 s for a head begin with its first byte (H-33).
        let is_idle = connection.input.is_empty();
        match read {
            ReadOutcome::Nothing
                if connection.has_ended || (self.sender.is_draining && is_idle) =>
            {
                ReadOutcome::End
            }
            ReadOutcome::Nothing if !is_idle => {
                connection.first_byte.get_or_insert(now);
                ReadOutcome::Nothing
            }
            read => read,
        }
    }

    /// Stops reading while too much input waits in the core: the rest stays in the kernel.
    fn steer_input(&mut self, connection: &mut HttpConnection) {
        match (connection.flow, connection.input.is_full()) {
            (InputFlow::Open, true) => {
                connection.flow = InputFlow::Paused;
                self.sender.driver.pause_reading(connection.id);
            }
            (InputFlow::Paused, false) => {
                connection.flow = InputFlow::Open;
                self.sender.driver.resume_reading(connection.id);
            }
            _ => {}
        }
    }
}
