//! One connection from its first byte to its last: hyper drives it, a clock watches it (H-33).

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::time::Sleep;

use super::journal::Delivery;
use super::{Phase, Running, Timeouts, answer};
use crate::engine::tcp::{Accepted, Stream, Wire};
use crate::http::guard::LineGuard;
use crate::http::limits::{HEADERS_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use crate::http::respond;
use crate::images::Workers;

/// hyper as boot clients need it: Title-Case names (H-1), and its own size limit a little above ours, so that ours answers.
pub(super) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true).half_close(true).header_read_timeout(None);
    builder.max_header_size(REQUEST_LINE_BYTES_MAX + HEADERS_BYTES_MAX + 1024);
    builder
}

/// What the parts of one connection share: hyper's service, the bodies it makes, and the clock.
pub(super) struct Connection {
    pub(super) running: Rc<Running>,
    pub(super) peer: std::net::SocketAddr,
    pub(super) local: std::net::SocketAddr,
    pub(super) wire: Rc<Wire>,
    pub(super) guard: Rc<RefCell<LineGuard>>,
    /// From the end of a request's head to the end of its answer's body.
    pub(super) is_answering: Cell<bool>,
    /// Said when the answer's last byte has been taken; forgotten when the connection ends before.
    delivery: RefCell<Option<Delivery>>,
    /// Bytes written that have been counted.
    counted: Cell<u64>,
    clock: Clock,
}

/// Serves until the client, an error, the clock or a stop ends it.
pub(super) async fn serve(running: &Rc<Running>, accepted: Accepted) {
    let Accepted { tcp, peer, local } = accepted;
    let wire = Wire::new(tcp);
    let guard = Rc::new(RefCell::new(LineGuard::default()));
    let connection = Rc::new(Connection {
        running: Rc::clone(running),
        peer,
        local,
        clock: Clock::new(running.plan.timeouts),
        wire: Rc::clone(&wire),
        guard: Rc::clone(&guard),
        is_answering: Cell::new(false),
        delivery: RefCell::new(None),
        counted: Cell::new(0),
    });
    let stream = Stream::new(wire, Box::new(move |bytes| guard.borrow_mut().pass(bytes)));
    let service = service_fn(|request| answer::answer(Rc::clone(&connection), request));
    let mut http = running.builder.serve_connection(stream, service);

    let end = drive(&connection, &mut http).await;
    let counters = &running.counters;
    connection.count();
    let linger = match end {
        End::Done => Some(running.plan.timeouts.linger),
        End::Failed => {
            counters.aborted.add(1);
            None
        }
        End::TimedOut => {
            counters.timed_out.add(1);
            running.say_timed_out(peer, connection.wire.written());
            None
        }
        End::Cut => None,
    };
    http.into_parts().io.finish(linger).await;
}

/// Reads what a client without a place asks, and tells it to come again if it is one that does (H-14).
pub(super) async fn turn_away(accepted: Accepted, patience: Duration) {
    let tcp = accepted.tcp;
    let wire = Wire::new(tcp);
    let mut stream = Stream::new(wire, Box::new(|_| {}));
    let asked = tokio::time::timeout(patience, stream.receive()).await;
    let is_ipxe = matches!(asked, Ok(Ok(bytes)) if respond::is_from_ipxe(bytes));
    if is_ipxe {
        let _ = tokio::time::timeout(patience, stream.send(&respond::overloaded_bytes())).await;
    }
    stream.finish(is_ipxe.then_some(patience)).await;
}

enum End {
    /// hyper is through: closed by either side, or refused.
    Done,
    /// The client went away or the file changed.
    Failed,
    TimedOut,
    /// A stop did not leave time.
    Cut,
}

async fn drive<S>(connection: &Connection, http: &mut http1::Connection<Stream, S>) -> End
where
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = super::body::Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut phase = connection.running.phase.subscribe();
    let mut alarm = pin!(tokio::time::sleep_until(connection.due().into()));
    loop {
        tokio::select! {
            biased;
            done = &mut *http => {
                connection.settle();
                // A malformed request has had its answer from hyper.
                return if done.as_ref().err().is_none_or(hyper::Error::is_parse) { End::Done } else { End::Failed };
            }
            () = connection.alarm(alarm.as_mut()) => {
                if connection.is_overdue(Instant::now()) {
                    return if connection.state() == State::Idle { End::Done } else { End::TimedOut };
                }
                alarm.as_mut().reset(connection.due().into());
            }
            Ok(phase) = phase.wait_for(|phase| *phase != Phase::Serving) => match *phase {
                Phase::Cutting => return End::Cut,
                _ => break,
            },
        }
    }
    Pin::new(&mut *http).graceful_shutdown();
    let mut cut = connection.running.phase.subscribe();
    tokio::select! {
        biased;
        _ = &mut *http => { connection.settle(); End::Done }
        _ = cut.wait_for(|phase| *phase == Phase::Cutting) => End::Cut,
    }
}

impl Connection {
    /// A request's head is complete.
    pub(super) fn begin_answer(&self) {
        self.settle();
        self.is_answering.set(true);
        self.wire.take_first_byte();
        self.restart_clock();
        self.running.counters.requests.add(1);
    }

    /// The answer's body is complete, or given up. `delivery` is said when the kernel has taken the rest.
    pub(super) fn end_answer(&self, delivery: Option<Delivery>) {
        self.is_answering.set(false);
        *self.delivery.borrow_mut() = delivery;
    }

    /// Time that went by on our side does not count against the client.
    pub(super) fn restart_clock(&self) {
        self.clock.begin_window(Instant::now(), self.wire.written());
    }

    pub(super) fn workers(&self) -> Workers {
        self.running.shelf.borrow().names().images.workers().clone()
    }

    /// Adds what has been written since the last time to the core's count.
    fn count(&self) {
        let written = self.wire.written();
        self.running.counters.bytes_sent.add(written - self.counted.replace(written));
    }

    /// Says what has been delivered once the kernel has taken all of it.
    fn settle(&self) {
        self.count();
        if !self.is_answering.get()
            && !self.wire.is_writing()
            && let Some(delivery) = self.delivery.borrow_mut().take()
        {
            self.running.say_delivered(self.peer, delivery);
        }
    }

    /// Rings when something may be overdue. The alarm is set back only when it is too late, not at each step of progress.
    async fn alarm(&self, mut alarm: Pin<&mut Sleep>) {
        poll_fn(|cx| {
            self.settle();
            let due = self.due().into();
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            alarm.as_mut().poll(cx)
        })
        .await;
    }

    fn state(&self) -> State {
        if self.wire.is_writing() {
            State::Sending
        } else if self.is_answering.get() {
            State::Preparing
        } else if let Some(first_byte) = self.wire.first_byte() {
            State::Head(first_byte)
        } else {
            State::Idle
        }
    }

    fn due(&self) -> Instant {
        self.clock.due(self.state(), self.wire.moved())
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let wire = &self.wire;
        self.clock.is_overdue(now, self.state(), wire.moved(), wire.written(), || wire.unacknowledged())
    }
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first byte of a request.
    Idle,
    /// The rest of a head whose first byte came then.
    Head(Instant),
    /// Ourselves.
    Preparing,
    /// The client, to take what is sent.
    Sending,
}

/// The times of H-33 for one connection. Time comes in as an argument.
#[derive(Debug)]
struct Clock {
    timeouts: Timeouts,
    /// Begin of the current window of the drain rate, and what had been written then.
    window: Cell<Instant>,
    window_written: Cell<u64>,
    /// Where an idle client still takes what the kernel holds for it: since when, and how much it held.
    idle_since: Cell<Option<Instant>>,
    idle_held: Cell<u64>,
}

impl Clock {
    fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            window: Cell::new(Instant::now()),
            window_written: Cell::new(0),
            idle_since: Cell::new(None),
            idle_held: Cell::new(u64::MAX),
        }
    }

    /// An answer begins: the drain rate counts from here.
    fn begin_window(&self, now: Instant, written: u64) {
        self.window.set(now);
        self.window_written.set(written);
        self.idle_since.set(None);
        self.idle_held.set(u64::MAX);
    }

    /// When this state is worth a look at the latest.
    fn due(&self, state: State, moved: Instant) -> Instant {
        match state {
            State::Idle => self.idle_since.get().map_or(moved, |since| since.max(moved)) + self.timeouts.idle,
            State::Head(first_byte) => first_byte + self.timeouts.head,
            State::Preparing => self.window.get() + self.timeouts.stall,
            State::Sending => self.window.get().min(moved) + self.timeouts.stall,
        }
    }

    fn is_overdue(&self, now: Instant, state: State, moved: Instant, written: u64, held: impl FnOnce() -> u64) -> bool {
        if now < self.due(state, moved) {
            return false;
        }
        match state {
            State::Head(_) => true,
            State::Idle => !self.still_drains(now, held()),
            State::Preparing => {
                self.begin_window(now, written);
                false
            }
            State::Sending => {
                let taken = written - self.window_written.get();
                let is_slow = taken < self.timeouts.drain_rate_min * self.timeouts.stall.as_secs().max(1);
                let has_stalled = now >= moved + self.timeouts.stall;
                self.begin_window(now, written);
                is_slow || has_stalled
            }
        }
    }

    /// An idle client that has not yet been handed all that the kernel holds for it is not idle, as long as it gets on.
    fn still_drains(&self, now: Instant, held: u64) -> bool {
        let gets_on = held > 0 && held < self.idle_held.get();
        self.idle_held.set(held);
        self.idle_since.set(Some(now));
        gets_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A clock, and a time that its connection began.
    fn clock() -> (Clock, Instant) {
        let clock = Clock::new(Timeouts::default());
        let start = clock.window.get();
        (clock, start)
    }

    fn nothing_held() -> u64 {
        0
    }

    #[test]
    fn h33_a_head_has_10_seconds_from_its_first_byte_and_an_idle_connection_15() {
        let (clock, start) = clock();
        let first_byte = start + 5 * SECOND;
        assert_eq!(clock.due(State::Head(first_byte), start), start + 15 * SECOND);
        assert!(!clock.is_overdue(start + 14 * SECOND, State::Head(first_byte), start, 0, nothing_held));
        assert!(clock.is_overdue(start + 15 * SECOND, State::Head(first_byte), start, 0, nothing_held));
        assert!(!clock.is_overdue(start + 14 * SECOND, State::Idle, start, 0, nothing_held));
        assert!(clock.is_overdue(start + 15 * SECOND, State::Idle, start, 0, nothing_held));
    }

    #[test]
    fn h33_a_stall_of_60_seconds_is_cut_however_much_went_before() {
        let (clock, start) = clock();
        let moved = start + 59 * SECOND;
        assert!(!clock.is_overdue(start + 60 * SECOND, State::Sending, moved, 1 << 30, nothing_held));
        assert_eq!(clock.due(State::Sending, moved), moved + 60 * SECOND);
        assert!(!clock.is_overdue(start + 118 * SECOND, State::Sending, moved, 1 << 30, nothing_held));
        assert!(clock.is_overdue(start + 119 * SECOND, State::Sending, moved, 1 << 30, nothing_held));
    }

    #[test]
    fn h33_a_client_that_takes_less_than_1_kib_a_second_is_cut_after_a_minute() {
        for (bytes, is_cut) in [(60 * 1024 - 1, true), (60 * 1024, false)] {
            let (clock, start) = clock();
            clock.begin_window(start, 5_000);
            let now = start + 60 * SECOND;
            assert_eq!(clock.is_overdue(now, State::Sending, now - SECOND, 5_000 + bytes, nothing_held), is_cut);
        }
    }

    #[test]
    fn h33_time_that_a_disk_takes_is_not_held_against_the_client() {
        let (clock, start) = clock();
        assert!(!clock.is_overdue(start + 100 * SECOND, State::Preparing, start, 0, nothing_held));
        assert!(!clock.is_overdue(start + 130 * SECOND, State::Sending, start + 101 * SECOND, 0, nothing_held));
    }

    #[test]
    fn h33_a_client_that_still_drains_the_kernels_buffer_is_not_idle() {
        let (clock, start) = clock();
        let mut now = start;
        for held in [3_000_000, 2_000_000, 1_000_000] {
            now += 15 * SECOND;
            assert!(!clock.is_overdue(now, State::Idle, start, 9, || held), "{held}");
            assert_eq!(clock.due(State::Idle, start), now + 15 * SECOND);
        }
        assert!(clock.is_overdue(now + 15 * SECOND, State::Idle, start, 9, || 1_000_000), "it has stopped");
    }
}
