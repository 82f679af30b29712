//! The clock of one connection (H-33), and the watch on a client that has yet to acknowledge what
//! it was sent. Time comes in as an argument.

use std::time::{Duration, Instant};

use super::plan::HttpTimeouts;
use crate::http::limits::{ACKNOWLEDGE_PAUSE, ACKNOWLEDGE_PAUSE_MAX, WAITING_TIMEOUT};

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitState {
    /// A place among the core's connections.
    Waiting,
    /// The first byte of a request.
    Idle,
    /// The rest of a head or body whose first byte came at this time.
    Head(Instant),
    /// A worker that looks up a name.
    Asking,
    /// The server itself.
    Preparing,
    /// The client, to take what is sent.
    Sending,
    /// The client, to acknowledge what it was sent; the next look is due at this time.
    Delivering(Instant),
    /// The client's end of the connection, until this time at most.
    Leaving(Instant),
}

/// The watch on a client that has yet to acknowledge what it was sent: whether it makes progress,
/// and when the next look is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckWatch {
    /// When the next look is due.
    pub(super) next: Instant,
    pause: Duration,
    /// Bytes that the client had not acknowledged at the last look.
    held: u64,
    /// When a look last found fewer of them.
    pub(super) moved: Instant,
    /// Start of the window of the drain rate, and the unacknowledged bytes at that time.
    window: Instant,
    window_held: u64,
}

impl AckWatch {
    pub(super) fn new(now: Instant, held: u64) -> Self {
        let pause = Self::first_pause(held);
        Self { next: now + pause, pause, held, moved: now, window: now, window_held: held }
    }

    /// Notes the result of another look. The pause to the next one doubles while the client makes
    /// no progress.
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

    /// Whether the client has acknowledged too little in this window. The last look counts: what it
    /// misses is bounded by the pause between looks.
    pub(super) fn is_overdue(&mut self, now: Instant, timeouts: &HttpTimeouts) -> bool {
        if now < self.window + timeouts.stall {
            return false;
        }
        let taken = self.window_held.saturating_sub(self.held);
        (self.window, self.window_held) = (now, self.held);
        taken < timeouts.taken_min()
    }
}

/// The times of H-33 for one connection.
#[derive(Debug)]
pub(super) struct ConnectionClock {
    pub(super) timeouts: HttpTimeouts,
    /// Bytes that the kernel has taken since the connection began.
    pub(super) written: u64,
    /// When a send last began, or the kernel last took bytes of one.
    pub(super) moved: Instant,
    /// Start of the current window of the drain rate, and the bytes written at that time.
    pub(super) window: Instant,
    window_written: u64,
    /// The last look at an idle connection, and the bytes that the kernel still held for its client
    /// at that time.
    idle_since: Option<Instant>,
    idle_held: u64,
}

impl ConnectionClock {
    pub(super) fn new(timeouts: HttpTimeouts, now: Instant) -> Self {
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

    /// Starts a window of the drain rate: an answer begins, or continues after a wait that was the
    /// server's own.
    pub(super) fn begin_window(&mut self, now: Instant) {
        self.window = now;
        self.window_written = self.written;
        self.idle_since = None;
        self.idle_held = u64::MAX;
    }

    /// Notes that a send has begun, or that the kernel took bytes of it.
    pub(super) fn move_on(&mut self, now: Instant) {
        self.moved = now;
    }

    /// When the core must look at a connection in this state.
    pub(super) fn due(&self, state: WaitState) -> Instant {
        match state {
            WaitState::Idle => self.idle_since() + self.timeouts.idle,
            WaitState::Head(first_byte) => first_byte + self.timeouts.head,
            WaitState::Waiting => self.window + WAITING_TIMEOUT,
            WaitState::Asking | WaitState::Preparing => self.window + self.timeouts.stall,
            WaitState::Sending => self.window.min(self.moved) + self.timeouts.stall,
            WaitState::Delivering(until) | WaitState::Leaving(until) => until,
        }
    }

    pub(super) fn is_overdue(
        &mut self,
        now: Instant,
        state: WaitState,
        held: impl FnOnce() -> u64,
    ) -> bool {
        if now < self.due(state) {
            return false;
        }
        match state {
            WaitState::Waiting | WaitState::Head(_) | WaitState::Leaving(_) | WaitState::Asking => {
                true
            }
            WaitState::Idle => !self.still_drains(now, held()),
            // The watch of the body decides: see `HttpConnection::is_overdue`.
            WaitState::Delivering(_) => false,
            // The server's own time does not count against the client.
            WaitState::Preparing => {
                self.begin_window(now);
                false
            }
            WaitState::Sending => {
                let taken = self.written - self.window_written;
                let is_slow = taken < self.timeouts.taken_min();
                let has_stalled = now >= self.moved + self.timeouts.stall;
                self.begin_window(now);
                is_slow || has_stalled
            }
        }
    }

    /// Since when the connection is idle: the end of the last send, or the last look that found the
    /// client still receiving.
    fn idle_since(&self) -> Instant {
        self.idle_since.map_or(self.moved, |since| since.max(self.moved))
    }

    /// Whether a client without a request still receives what the kernel holds for it, and so is
    /// not idle.
    fn still_drains(&mut self, now: Instant, held: u64) -> bool {
        let is_draining = held > 0 && held < self.idle_held;
        self.idle_held = held;
        self.idle_since = Some(now);
        is_draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    /// A clock, and a time that its connection began.
    fn clock() -> (ConnectionClock, Instant) {
        let start = Instant::now();
        (ConnectionClock::new(HttpTimeouts::default(), start), start)
    }

    fn nothing_held() -> u64 {
        0
    }

    #[test]
    fn h33_a_head_has_10_seconds_from_its_first_byte_and_an_idle_connection_15() {
        let (mut clock, start) = clock();
        let first_byte = start + 5 * SECOND;
        assert_eq!(clock.due(WaitState::Head(first_byte)), start + 15 * SECOND);
        assert!(!clock.is_overdue(start + 14 * SECOND, WaitState::Head(first_byte), nothing_held));
        assert!(clock.is_overdue(start + 15 * SECOND, WaitState::Head(first_byte), nothing_held));
        assert!(!clock.is_overdue(start + 14 * SECOND, WaitState::Idle, nothing_held));
        assert!(clock.is_overdue(start + 15 * SECOND, WaitState::Idle, nothing_held));
    }

    #[test]
    fn h33_a_stall_of_60_seconds_is_cut_however_much_went_before() {
        let (mut clock, start) = clock();
        let moved = start + 59 * SECOND;
        clock.written = 1 << 30;
        clock.move_on(moved);
        assert!(!clock.is_overdue(start + 60 * SECOND, WaitState::Sending, nothing_held));
        assert_eq!(clock.due(WaitState::Sending), moved + 60 * SECOND);
        assert!(!clock.is_overdue(start + 118 * SECOND, WaitState::Sending, nothing_held));
        assert!(clock.is_overdue(start + 119 * SECOND, WaitState::Sending, nothing_held));
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
            assert_eq!(clock.is_overdue(now, WaitState::Sending, nothing_held), is_cut);
        }
    }

    #[test]
    fn h33_time_that_a_disk_takes_is_not_held_against_the_client() {
        let (mut clock, start) = clock();
        assert!(!clock.is_overdue(start + 100 * SECOND, WaitState::Preparing, nothing_held));
        clock.move_on(start + 101 * SECOND);
        assert!(!clock.is_overdue(start + 130 * SECOND, WaitState::Sending, nothing_held));
    }

    #[test]
    fn h33_a_client_that_has_still_to_acknowledge_is_cut_when_it_does_not_for_60_seconds() {
        let (timeouts, start) = (HttpTimeouts::default(), Instant::now());
        let mut awaited = AckWatch::new(start, 4_000_000);
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
        let (mut now, mut looks, mut awaited) = (start, 0, AckWatch::new(start, 16_384));
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
            assert!(!clock.is_overdue(now, WaitState::Idle, || held), "{held}");
            assert_eq!(clock.due(WaitState::Idle), now + 15 * SECOND);
        }
        assert!(
            clock.is_overdue(now + 15 * SECOND, WaitState::Idle, || 1_000_000),
            "it has stopped"
        );
    }
}
