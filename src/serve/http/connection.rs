//! One connection as its core keeps it: what has come, what it waits for, and the clock that
//! watches it (H-33).

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::Timeouts;
use super::answer::Asking;
use super::body::{Body, Waits};
use crate::engine::stream::{ConnectionId, TcpSendError};
use crate::http::input::RequestInput;
use crate::http::limits::{
    ACKNOWLEDGE_PAUSE, ACKNOWLEDGE_PAUSE_MAX, CROWD_SHARE, STILL_MIN, STILL_SENDING_MIN,
    WAITING_TIMEOUT,
};

/// What a connection is about.
#[derive(Debug)]
pub(super) enum Stage {
    /// It has been accepted in this turn.
    Arrived,
    /// It waits for room (H-34).
    Waiting,
    /// There is no room to wait either: what it asks is looked at to see who it is (H-14).
    Refused,
    /// It reads the next request, or waits for one.
    Reading,
    /// A request waits for a worker.
    Asking(Asking),
    /// The client is being told that its body may come.
    Inviting,
    /// An answer is on its way.
    Sending(Body),
    /// Nothing follows. Input is read and thrown away for a while: a client that is still sending
    /// would otherwise see a reset in place of the answer.
    Leaving {
        until: Instant,
        /// It still takes what the kernel holds for it.
        awaited: Option<Awaited>,
    },
}

/// A connection from its first byte to its last.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    /// The address of ours that the client asked; asked of the kernel when it is wanted.
    pub(super) local: Option<IpAddr>,
    pub(super) stage: Stage,
    pub(super) input: RequestInput,
    /// When the first byte of the current request came, and again when its body is due.
    pub(super) first_byte: Option<Instant>,
    /// The client sends no more.
    pub(super) has_ended: bool,
    pub(super) failed: Option<TcpSendError>,
    /// It is given up: what the kernel holds for the client is thrown away.
    pub(super) is_cut: bool,
    /// A send is with the driver.
    pub(super) is_sending: bool,
    /// A send has got on in this turn.
    pub(super) has_moved: bool,
    /// It is counted among those that have room.
    pub(super) has_place: bool,
    /// It has been told to come again, or will be.
    pub(super) is_refusal: bool,
    pub(super) is_paused: bool,
    /// The last answer is on its way with the end of the connection, and nothing more is read.
    pub(super) is_last: bool,
    /// Bytes a second that the kernel keeps to; None = as fast as it goes.
    pub(super) rate: Option<NonZeroU64>,
    /// It is to be looked at in this turn.
    pub(super) is_touched: bool,
    pub(super) clock: Clock,
}

impl Connection {
    pub(super) fn new(
        id: ConnectionId,
        peer: SocketAddr,
        timeouts: Timeouts,
        now: Instant,
    ) -> Self {
        Self {
            id,
            peer,
            local: None,
            stage: Stage::Arrived,
            input: RequestInput::default(),
            first_byte: None,
            has_ended: false,
            failed: None,
            is_cut: false,
            is_sending: false,
            has_moved: false,
            has_place: false,
            is_refusal: false,
            is_paused: false,
            is_last: false,
            rate: None,
            is_touched: false,
            clock: Clock::new(timeouts, now),
        }
    }

    /// The clock runs from here.
    pub(super) fn begin(&mut self, now: Instant) {
        self.clock.begin_window(now);
        self.clock.move_on(now);
    }

    /// When its client was last seen to get on.
    pub(super) fn moved(&self) -> Instant {
        match &self.stage {
            Stage::Sending(Body { waits: Waits::Client(awaited), .. }) => awaited.moved,
            _ => self.clock.moved,
        }
    }

    /// It has room.
    pub(super) fn start(&mut self) {
        self.has_place = true;
        self.stage = Stage::Reading;
    }

    /// The kernel has taken some of what is being sent.
    pub(super) fn sent(&mut self, bytes: u64, left: u64) {
        self.clock.written += bytes;
        self.has_moved = true;
        self.is_sending = left > 0;
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        if !matches!(self.stage, Stage::Leaving { .. }) {
            self.input.push(bytes);
        }
    }

    /// What the clock watches; None: nothing.
    fn state(&self) -> Option<State> {
        Some(match &self.stage {
            Stage::Arrived => return None,
            Stage::Waiting => State::Waiting,
            Stage::Refused => State::Leaving(self.clock.window + self.clock.timeouts.linger),
            Stage::Leaving { until, .. } => State::Leaving(*until),
            Stage::Reading => self.first_byte.map_or(State::Idle, State::Head),
            Stage::Inviting | Stage::Sending(_) if self.is_sending => State::Sending,
            Stage::Sending(Body { waits: Waits::Client(awaited), .. }) => {
                State::Delivering(awaited.next)
            }
            Stage::Asking(_) => State::Asking,
            Stage::Inviting | Stage::Sending(_) => State::Preparing,
        })
    }

    /// Where the client has stood still for a while, or is one of a source that has many (`share`):
    /// whether it takes an answer, and since when it has stood still.
    pub(super) fn stands_still(&self, now: Instant, share: usize) -> Option<(bool, Instant)> {
        let (is_answered, since, least) = match (&self.stage, self.state()?) {
            (Stage::Reading, State::Head(first_byte)) => (false, first_byte, STILL_MIN),
            (Stage::Reading | Stage::Leaving { .. }, _) => (false, self.clock.moved, STILL_MIN),
            (_, State::Sending) => (true, self.clock.moved, STILL_SENDING_MIN),
            (Stage::Sending(Body { waits: Waits::Client(awaited), .. }), _) => {
                (true, awaited.moved, STILL_SENDING_MIN)
            }
            _ => return None,
        };
        let is_one_of_many = !is_answered && share >= CROWD_SHARE;
        (self.has_place && (is_one_of_many || now >= since + least)).then_some((is_answered, since))
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.state().map(|state| self.clock.due(state))
    }

    /// Whether the client has let its time pass. `held`: bytes that the kernel holds for it.
    pub(super) fn is_overdue(&mut self, now: Instant, held: impl FnOnce() -> u64) -> bool {
        match (self.state(), &mut self.stage) {
            (
                Some(State::Delivering(_)),
                Stage::Sending(Body { waits: Waits::Client(awaited), .. }),
            ) => awaited.is_overdue(now, &self.clock.timeouts),
            (Some(state), _) => self.clock.is_overdue(now, state, held),
            (None, _) => false,
        }
    }
}

/// The open connections by the driver's numbers.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Option<Box<Connection>>>,
    len: usize,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slots.get_mut(id.index())?.as_deref_mut().filter(|connection| connection.id == id)
    }

    /// Lends a connection out; [`Self::put`] gives it back.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<Box<Connection>> {
        let taken = self.slots.get_mut(id.index())?.take_if(|connection| connection.id == id);
        self.len -= usize::from(taken.is_some());
        taken
    }

    pub(super) fn put(&mut self, connection: Box<Connection>) {
        let index = connection.id.index();
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(connection);
        self.len += 1;
    }

    /// As [`Self::take`], whoever has this place.
    pub(super) fn take_from(&mut self, place: usize) -> Option<Box<Connection>> {
        let taken = self.slots.get_mut(place)?.take();
        self.len -= usize::from(taken.is_some());
        taken
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().flatten().map(Box::as_ref)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.slots.iter().flatten().map(|connection| connection.id).collect()
    }
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Room.
    Waiting,
    /// The first byte of a request.
    Idle,
    /// The rest of a head whose first byte came then, or of a body.
    Head(Instant),
    /// A worker that looks a name up.
    Asking,
    /// Ourselves.
    Preparing,
    /// The client, to take what is sent.
    Sending,
    /// The client, to acknowledge what it has got; there is a look at it then.
    Delivering(Instant),
    /// The client's end, until then.
    Leaving(Instant),
}

/// A client that has still to acknowledge what it has got: how it gets on, and when there is the
/// next look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Awaited {
    next: Instant,
    pause: Duration,
    /// Bytes that it had not acknowledged at the last look, and when that was last seen to become
    /// less.
    held: u64,
    moved: Instant,
    /// Begin of the window of the drain rate, and what it had not acknowledged then.
    window: Instant,
    window_held: u64,
}

impl Awaited {
    pub(super) fn new(now: Instant, held: u64) -> Self {
        let pause = Self::first_pause(held);
        Self { next: now + pause, pause, held, moved: now, window: now, window_held: held }
    }

    /// What another look has shown. The pause to the next one is doubled as long as the client does
    /// not get on.
    pub(super) fn look(self, now: Instant, held: u64) -> Self {
        let (pause, moved) = if held < self.held {
            (Self::first_pause(held), now)
        } else if now < self.next {
            return self;
        } else {
            ((2 * self.pause).min(ACKNOWLEDGE_PAUSE_MAX), self.moved)
        };
        Self { next: now + pause, pause, held, moved, ..self }
    }

    fn first_pause(held: u64) -> Duration {
        (ACKNOWLEDGE_PAUSE + Duration::from_nanos(held)).min(ACKNOWLEDGE_PAUSE_MAX)
    }

    /// Whether it has taken less than it must. What it had last said counts, so the looks before
    /// bound what is missed.
    pub(super) fn is_overdue(&mut self, now: Instant, timeouts: &Timeouts) -> bool {
        if now < self.window + timeouts.stall {
            return false;
        }
        let taken = self.window_held.saturating_sub(self.held);
        (self.window, self.window_held) = (now, self.held);
        taken < timeouts.taken_min()
    }
}

/// The times of H-33 for one connection. Time comes in as an argument.
#[derive(Debug)]
pub(super) struct Clock {
    timeouts: Timeouts,
    /// Bytes that the kernel has taken since the connection began, and when a send last began or
    /// got on.
    pub(super) written: u64,
    moved: Instant,
    /// Begin of the current window of the drain rate, and what had been written then.
    window: Instant,
    window_written: u64,
    /// Where a client that nothing is sent to still takes what the kernel holds for it: since when,
    /// and how much it held.
    idle_since: Option<Instant>,
    idle_held: u64,
}

impl Clock {
    fn new(timeouts: Timeouts, now: Instant) -> Self {
        Self {
            timeouts,
            written: 0,
            moved: now,
            window: now,
            window_written: 0,
            idle_since: None,
            idle_held: u64::MAX,
        }
    }

    /// An answer begins, or goes on after time that passed on our side: the drain rate counts from
    /// here.
    pub(super) fn begin_window(&mut self, now: Instant) {
        self.window = now;
        self.window_written = self.written;
        self.idle_since = None;
        self.idle_held = u64::MAX;
    }

    /// A send has begun or got on.
    pub(super) fn move_on(&mut self, now: Instant) {
        self.moved = now;
    }

    /// When this state is worth a look at the latest.
    fn due(&self, state: State) -> Instant {
        match state {
            State::Idle => self.idle_since() + self.timeouts.idle,
            State::Head(first_byte) => first_byte + self.timeouts.head,
            State::Waiting => self.window + WAITING_TIMEOUT,
            State::Asking | State::Preparing => self.window + self.timeouts.stall,
            State::Sending => self.window.min(self.moved) + self.timeouts.stall,
            State::Delivering(until) | State::Leaving(until) => until,
        }
    }

    fn is_overdue(&mut self, now: Instant, state: State, held: impl FnOnce() -> u64) -> bool {
        if now < self.due(state) {
            return false;
        }
        match state {
            State::Waiting | State::Head(_) | State::Leaving(_) | State::Asking => true,
            State::Idle => !self.still_drains(now, held()),
            State::Delivering(_) => false,
            State::Preparing => {
                self.begin_window(now);
                false
            }
            State::Sending => {
                let taken = self.written - self.window_written;
                let is_slow = taken < self.timeouts.taken_min();
                let has_stalled = now >= self.moved + self.timeouts.stall;
                self.begin_window(now);
                is_slow || has_stalled
            }
        }
    }

    /// Since when nothing is sent, or the client was last seen to get on with what the kernel holds
    /// for it.
    fn idle_since(&self) -> Instant {
        self.idle_since.map_or(self.moved, |since| since.max(self.moved))
    }

    /// An idle client that has not yet been handed all that the kernel holds for it is not idle, as
    /// long as it gets on.
    fn still_drains(&mut self, now: Instant, held: u64) -> bool {
        let gets_on = held > 0 && held < self.idle_held;
        self.idle_held = held;
        self.idle_since = Some(now);
        gets_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    /// A clock, and a time that its connection began.
    fn clock() -> (Clock, Instant) {
        let start = Instant::now();
        (Clock::new(Timeouts::default(), start), start)
    }

    fn nothing_held() -> u64 {
        0
    }

    #[test]
    fn h33_a_head_has_10_seconds_from_its_first_byte_and_an_idle_connection_15() {
        let (mut clock, start) = clock();
        let first_byte = start + 5 * SECOND;
        assert_eq!(clock.due(State::Head(first_byte)), start + 15 * SECOND);
        assert!(!clock.is_overdue(start + 14 * SECOND, State::Head(first_byte), nothing_held));
        assert!(clock.is_overdue(start + 15 * SECOND, State::Head(first_byte), nothing_held));
        assert!(!clock.is_overdue(start + 14 * SECOND, State::Idle, nothing_held));
        assert!(clock.is_overdue(start + 15 * SECOND, State::Idle, nothing_held));
    }

    #[test]
    fn h33_a_stall_of_60_seconds_is_cut_however_much_went_before() {
        let (mut clock, start) = clock();
        let moved = start + 59 * SECOND;
        clock.written = 1 << 30;
        clock.move_on(moved);
        assert!(!clock.is_overdue(start + 60 * SECOND, State::Sending, nothing_held));
        assert_eq!(clock.due(State::Sending), moved + 60 * SECOND);
        assert!(!clock.is_overdue(start + 118 * SECOND, State::Sending, nothing_held));
        assert!(clock.is_overdue(start + 119 * SECOND, State::Sending, nothing_held));
    }

    #[test]
    fn h33_a_client_that_takes_less_than_1_kib_a_second_is_cut_after_a_minute() {
        for (bytes, is_cut) in [(60 * 1024 - 1, true), (60 * 1024, false)] {
            let (mut clock, start) = clock();
            clock.written = 5_000;
            clock.begin_window(start);
            clock.written += bytes;
            let now = start + 60 * SECOND;
            clock.move_on(now - SECOND);
            assert_eq!(clock.is_overdue(now, State::Sending, nothing_held), is_cut);
        }
    }

    #[test]
    fn h33_time_that_a_disk_takes_is_not_held_against_the_client() {
        let (mut clock, start) = clock();
        assert!(!clock.is_overdue(start + 100 * SECOND, State::Preparing, nothing_held));
        clock.move_on(start + 101 * SECOND);
        assert!(!clock.is_overdue(start + 130 * SECOND, State::Sending, nothing_held));
    }

    #[test]
    fn h33_a_client_that_has_still_to_acknowledge_is_cut_when_it_does_not_for_60_seconds() {
        let (timeouts, start) = (Timeouts::default(), Instant::now());
        let mut awaited = Awaited::new(start, 4_000_000);
        let mut now = start;
        for held in [3_000_000, 3_000_000 - timeouts.taken_min()] {
            assert!(!awaited.is_overdue(now + 59 * SECOND, &timeouts));
            now += 60 * SECOND;
            awaited = awaited.look(now, held);
            assert!(!awaited.is_overdue(now, &timeouts), "{held}");
        }
        now += 60 * SECOND;
        awaited = awaited.look(now, awaited.held - timeouts.taken_min() + 1);
        assert!(awaited.is_overdue(now, &timeouts), "too little");
    }

    #[test]
    fn h33_looks_at_a_client_that_does_not_get_on_become_rare_and_frequent_again_when_it_does() {
        let start = Instant::now();
        let (mut now, mut looks, mut awaited) = (start, 0, Awaited::new(start, 16_384));
        while now < start + 60 * SECOND {
            now = awaited.next;
            awaited = awaited.look(now, 16_384);
            looks += 1;
        }
        assert!(looks < 80, "{looks}");
        assert_eq!(awaited.pause, ACKNOWLEDGE_PAUSE_MAX);
        assert_eq!(awaited.look(now, 16_384), awaited, "a look before its time changes nothing");
        assert!(awaited.look(now, 8_192).pause < 2 * ACKNOWLEDGE_PAUSE);
    }

    #[test]
    fn h33_a_client_that_still_drains_the_kernels_buffer_is_not_idle() {
        let (mut clock, start) = clock();
        let mut now = start;
        for held in [3_000_000, 2_000_000, 1_000_000] {
            now += 15 * SECOND;
            assert!(!clock.is_overdue(now, State::Idle, || held), "{held}");
            assert_eq!(clock.due(State::Idle), now + 15 * SECOND);
        }
        assert!(clock.is_overdue(now + 15 * SECOND, State::Idle, || 1_000_000), "it has stopped");
    }
}
