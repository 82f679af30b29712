//! An answer on its way: its head, its body piece by piece, and the pieces that workers read for
//! it.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::asking::{HttpLetter, WorkerQuestion, WorkerQuestions};
use super::body::{AnswerBody, BodyWait, CopiedRange, NextPart};
use super::clock::AckWatch;
use super::connection::{ConnectionStage, HttpConnection, InputFlow};
use super::journal::{FileDelivery, HttpJournal};
use super::plan::{HttpCounters, HttpPlan};
use crate::engine::stream::{ConnectionId, SendBody, TcpDriver};
use crate::http::head::DateHeader;
use crate::http::request::{HttpVersion, RequestHead};
use crate::http::respond::ResponsePlan;
use crate::http::schedule::{SMALL_BYTES, ScheduleTick, SendSchedule, TRICKLE_BYTES};
use crate::images::{OwedAnswer, PieceUrgency, ServedContent};
use crate::serve::shelf::FileSources;

/// The answer to a client that waits for permission to send a request's body (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The clocks, which the core reads once a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct TurnTime {
    began: Instant,
    pub(super) now: Instant,
    pub(super) today: SystemTime,
}

impl TurnTime {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { began: now, now, today: SystemTime::now() }
    }

    pub(super) fn read_clocks(&mut self) {
        (self.now, self.today) = (Instant::now(), SystemTime::now());
    }

    /// The current time for the schedule.
    pub(super) fn tick(&self) -> ScheduleTick {
        ScheduleTick::try_from(self.now.duration_since(self.began).as_nanos())
            .unwrap_or(ScheduleTick::MAX)
    }

    pub(super) fn at(&self, tick: ScheduleTick) -> Instant {
        self.began + Duration::from_nanos(tick)
    }
}

/// The parts of a request that decide the form of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerForm {
    pub(super) version: HttpVersion,
    pub(super) keeps_alive: bool,
}

impl AnswerForm {
    pub(super) fn for_request(request: &RequestHead<'_>) -> Self {
        Self { version: request.version, keeps_alive: request.keeps_alive }
    }
}

/// The file that an answer is cut from.
#[derive(Debug)]
pub(super) struct AnswerFile<'a> {
    pub(super) content: &'a ServedContent,
    /// None: the answer is not logged as a delivery.
    pub(super) delivery: Option<FileDelivery>,
}

/// The state of an answer after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendProgress {
    /// The driver has something to send, or the body waits.
    Underway,
    /// The kernel has taken the whole answer. `keeps`: the connection stays open.
    Done { keeps: bool },
    /// The file has changed since the answer began.
    Changed,
    /// The client has reset the connection, or no longer answers.
    Gone,
}

/// Sends the answers of one core, and has workers read for them.
pub(super) struct AnswerSender {
    pub(super) driver: TcpDriver,
    /// Decides which of many large bodies sends now.
    pub(super) schedule: SendSchedule<ConnectionId>,
    pub(super) plan: HttpPlan,
    pub(super) names: Arc<FileSources>,
    pub(super) counters: Arc<HttpCounters>,
    pub(super) journal: HttpJournal,
    pub(super) questions: WorkerQuestions,
    pub(super) time: TurnTime,
    pub(super) date: DateHeader,
    /// The core has seen the order to stop: every answer is the last of its connection.
    pub(super) is_draining: bool,
    /// Answers with content that are on their way.
    contents_sent: u32,
    /// Buffer for the head of an answer, kept so that no answer allocates one.
    head: Vec<u8>,
}

impl AnswerSender {
    pub(super) fn new(
        driver: TcpDriver,
        plan: HttpPlan,
        names: Arc<FileSources>,
        counters: Arc<HttpCounters>,
        journal: HttpJournal,
        questions: WorkerQuestions,
    ) -> Self {
        Self {
            driver,
            schedule: SendSchedule::new(plan.slots.map(usize::from)),
            plan,
            names,
            counters,
            journal,
            questions,
            time: TurnTime::start(),
            date: DateHeader::default(),
            is_draining: false,
            contents_sent: 0,
            head: Vec::new(),
        }
    }

    /// Answers with content that are on their way.
    pub(super) fn contents_sent(&self) -> u32 {
        self.contents_sent
    }

    /// Begins to send an answer.
    pub(super) fn begin_answer(
        &mut self,
        connection: &mut HttpConnection,
        form: AnswerForm,
        plan: ResponsePlan<'_>,
        file: Option<AnswerFile<'_>>,
    ) {
        if plan.status.is_refusal() {
            self.counters.refused_requests.add(1);
        }

        let keeps = form.keeps_alive && !plan.closes && !self.is_draining;
        self.head.clear();
        plan.write_head(form.version, keeps, self.date.at(self.time.today), &mut self.head);

        let (content, delivery) =
            file.map_or((None, None), |file| (Some(file.content), file.delivery));
        let mut body = AnswerBody::new(plan.payload, content, delivery, keeps);
        self.contents_sent += u32::from(body.has_content());
        body.is_last = !form.keeps_alive && !plan.closes;

        // A large body takes turns with others, at the rate that its machine can handle.
        body.is_ordered = body.file_bytes() > SMALL_BYTES;
        if body.is_ordered {
            self.schedule.begin_body(self.time.tick(), connection.id, connection.peer.ip());
            self.keep_pace(connection);
        }
        connection.clock.begin_window(self.time.now);
        connection.stage = ConnectionStage::Sending(body);
        // If nothing can leave now, the next look at the connection tries again.
        self.send_next(connection);
    }

    /// Continues an answer whose last part the driver has taken.
    pub(super) fn continue_answer(&mut self, connection: &mut HttpConnection) -> SendProgress {
        self.head.clear();
        self.send_next(connection)
    }

    /// Tells the client that it may send the body of its request.
    pub(super) fn invite_body(&mut self, connection: &mut HttpConnection) {
        connection.stage = ConnectionStage::Inviting;
        self.send(connection, CONTINUE, SendBody::Nothing, false);
    }

    /// Sends the content of `head`, and the next part of the answer. A large body asks for its turn
    /// here.
    fn send_next(&mut self, connection: &mut HttpConnection) -> SendProgress {
        let tick = self.time.tick();
        let ConnectionStage::Sending(body) = &mut connection.stage else {
            return SendProgress::Underway;
        };
        let waited = std::mem::replace(&mut body.wait, BodyWait::Nothing);
        let allowed = if body.needs_turn() {
            self.schedule.grant_bytes(tick, connection.id)
        } else {
            u64::MAX
        };
        if allowed == 0 {
            body.wait = BodyWait::Turn;
            return SendProgress::Underway;
        }

        let chunk_bytes = self.plan.chunk_bytes.min(allowed);
        let mut next = body.cut_next(&mut self.head, chunk_bytes);
        // The last bytes are copied only when the client has everything before them (H-12).
        if let NextPart::Unsure(most) = next {
            let Some(held) = self.driver.unacknowledged(connection.id) else {
                return SendProgress::Gone;
            };
            if held <= most {
                body.note_delivered();
                next = body.cut_next(&mut self.head, chunk_bytes);
            } else {
                body.wait = BodyWait::Client(match waited {
                    BodyWait::Client(awaited) => awaited.look(self.time.now, held),
                    _ => AckWatch::new(self.time.now, held),
                });
            }
        }

        // The end of the connection leaves with the last bytes of the answer: one packet, and one
        // wake-up of the client.
        let ends = body.is_last && body.is_given();
        let (part, more) = match next {
            NextPart::Send { part, more } => (part, more),
            NextPart::Nothing if self.head.is_empty() => return self.finish_answer(connection),
            NextPart::Nothing => (SendBody::Nothing, false),
            NextPart::Changed => return SendProgress::Changed,
            NextPart::Missing(_) | NextPart::Unsure(_) => {
                if let NextPart::Missing(range) = next {
                    self.make_resident(connection, range, allowed != u64::MAX);
                }
                if self.head.is_empty() {
                    return SendProgress::Underway;
                }
                // The head leaves alone: a loader times the wait for the first byte (H-10).
                (SendBody::Nothing, false)
            }
        };

        if allowed == u64::MAX {
            self.read_ahead(&part);
        }
        let head = std::mem::take(&mut self.head);
        self.send(connection, &head, part, more || ends);
        self.head = head;
        if ends {
            connection.flow = InputFlow::Stopped;
            self.driver.pause_reading(connection.id);
            self.driver.shutdown_write(connection.id);
        }
        SendProgress::Underway
    }

    fn send(&mut self, connection: &mut HttpConnection, head: &[u8], part: SendBody, more: bool) {
        connection.is_sending = true;
        connection.clock.move_on(self.time.now);
        self.driver.send(connection.id, head, part, more);
    }

    /// Ends and logs an answer whose last byte the kernel has taken.
    fn finish_answer(&mut self, connection: &mut HttpConnection) -> SendProgress {
        let stage = std::mem::replace(&mut connection.stage, ConnectionStage::Reading);
        let ConnectionStage::Sending(body) = stage else { return SendProgress::Underway };
        self.end_body(connection.id, &body);
        if let Some(delivery) = body.delivery.as_ref().filter(|delivery| delivery.completes) {
            self.journal.log_delivered(connection.peer, delivery, self.time.now);
        }
        SendProgress::Done { keeps: body.keeps }
    }

    /// Removes an answer from the counts and the schedule, whether it is complete or not.
    pub(super) fn end_body(&mut self, id: ConnectionId, body: &AnswerBody) {
        self.contents_sent -= u32::from(body.has_content());
        if body.is_ordered {
            self.schedule.end_body(self.time.tick(), id);
        }
    }

    /// Limits a large body to the rate of its machine: `[http] rate`, or the rate that its firmware
    /// has proved to handle.
    fn keep_pace(&self, connection: &mut HttpConnection) {
        let rate = self.names.pace_for(connection.peer.ip());
        if std::mem::replace(&mut connection.rate, rate) != rate {
            self.driver.pace(connection.id, rate);
        }
    }

    /// Has a worker read the piece after this part. If the workers are busy nothing is lost: the
    /// core asks for the piece when it needs it.
    fn read_ahead(&self, part: &SendBody) {
        if let SendBody::File { content, range } = part
            && range.end - range.start > TRICKLE_BYTES
            && let Some(piece) = content.claim_next_missing(range)
        {
            let content = content.clone();
            let workers = self.names.images.workers();
            let _ = workers.submit_read(PieceUrgency::InTurn, move || content.populate(piece));
        }
    }

    /// Has a worker make a range of a body resident, or copy it if it is small or a trickle: so a
    /// body that waits for its turn evicts no piece that others are sending.
    fn make_resident(
        &mut self,
        connection: &mut HttpConnection,
        range: Range<u64>,
        is_trickle: bool,
    ) {
        let ConnectionStage::Sending(body) = &mut connection.stage else { return };
        let Some(content) = body.content().cloned() else { return };
        if let Some(number) = body.reading {
            body.wait = BodyWait::Worker(number);
            return;
        }

        let question = self.questions.number_next(connection.id);
        body.wait = BodyWait::Worker(question.number);
        let is_copied = body.is_small_part() || (is_trickle && body.may_be_copied());
        // The end of an answer must not wait in the long queue: no trickle can bridge its wait.
        let is_in_line = body.is_ordered && !is_copied && body.may_be_copied();
        let urgency = if is_in_line { PieceUrgency::InTurn } else { PieceUrgency::Soon };
        body.reading = is_in_line.then_some(question.number);

        let is_queued = if is_copied {
            self.copy_range(question, content, range)
        } else {
            let letters = self.questions.letters();
            let submitted = self.names.images.workers().submit_read(urgency, move || {
                // Sent even if the worker panics: the core asks again for what is still missing.
                let _owed = OwedAnswer::new(
                    |()| letters.send(HttpLetter::Resident(question, None)),
                    |_| (),
                );
                while let Some(piece) = content.missing(&range) {
                    content.populate(piece);
                }
            });
            submitted.is_ok()
        };
        if !is_queued {
            self.questions.postpone(question, self.time.now);
        }
        if is_in_line {
            self.schedule.begin_read(self.time.tick(), connection.id);
        }
    }

    /// Has a worker copy the next few bytes of a body that waits for its piece, so that the client
    /// receives a trickle meanwhile.
    fn copy_aside(&mut self, connection: &mut HttpConnection) {
        if connection.is_sending {
            return;
        }
        let ConnectionStage::Sending(body) = &mut connection.stage else { return };
        let Some((content, range)) = body.content().cloned().zip(body.next_trickle(TRICKLE_BYTES))
        else {
            return;
        };
        let question = self.questions.number_next(connection.id);
        let is_queued = self.copy_range(question, content, range);
        body.aside = is_queued.then_some(question.number);
    }

    /// Has a worker copy a range. False: every worker is busy and the queue is full.
    fn copy_range(
        &self,
        question: WorkerQuestion,
        content: ServedContent,
        range: Range<u64>,
    ) -> bool {
        let letters = self.questions.letters();
        let submitted = self.names.images.workers().submit_read(PieceUrgency::Soon, move || {
            let owed = OwedAnswer::new(
                |copy| letters.send(HttpLetter::Resident(question, copy)),
                |_| None,
            );
            let bytes = content.copy(&range);
            owed.deliver(Some(CopiedRange { range, bytes }));
        });
        submitted.is_ok()
    }

    /// Gives a large body its turn. A body that waits for a worker continues when the worker has
    /// answered, and sends a trickle until then. Returns whether the core must look at the
    /// connection.
    pub(super) fn take_turn(&mut self, connection: &mut HttpConnection) -> bool {
        let ConnectionStage::Sending(body) = &mut connection.stage else { return false };
        match body.wait {
            BodyWait::Turn => {
                body.wait = BodyWait::Nothing;
                connection.clock.begin_window(self.time.now);
                true
            }
            BodyWait::Worker(number) if body.reading == Some(number) && body.aside.is_none() => {
                self.copy_aside(connection);
                false
            }
            _ => false,
        }
    }

    /// Handles a worker's answer for a body, or has the body ask again (None). Returns whether the
    /// core must look at the connection.
    pub(super) fn take_read(
        &mut self,
        connection: &mut HttpConnection,
        number: u64,
        copied: Option<CopiedRange>,
    ) -> bool {
        let ConnectionStage::Sending(body) = &mut connection.stage else { return false };
        let is_aside = body.aside.take_if(|aside| *aside == number).is_some();
        if body.reading.take_if(|reading| *reading == number).is_some() {
            self.schedule.end_read(self.time.tick(), connection.id);
        }
        let waits_for_more =
            body.reading.is_some_and(|reading| body.wait == BodyWait::Worker(reading));
        let is_awaited = body.wait == BodyWait::Worker(number)
            || (is_aside && waits_for_more && copied.is_some());
        if !is_awaited {
            return false;
        }
        body.wait = BodyWait::Nothing;
        if let Some(copied) = copied {
            body.put_ready(copied);
        }
        // The server's own time does not count against the client.
        connection.clock.begin_window(self.time.now);
        true
    }

    /// Whether the kernel holds bytes for the client. The FIN counts as one, and does not matter.
    pub(super) fn is_held(&self, id: ConnectionId) -> bool {
        self.driver.unacknowledged(id).is_some_and(|held| held > 1)
    }

    /// The server's address that the client connected to.
    pub(super) fn local_address(&self, connection: &mut HttpConnection) -> IpAddr {
        *connection.local.get_or_insert_with(|| {
            self.driver
                .local(connection.id)
                .map_or(IpAddr::from([0; 4]), |local| local.ip().to_canonical())
        })
    }
}
