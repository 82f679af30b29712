//! Whether a link is the limit, by the bytes that the kernel has queued for it: a queue that does
//! not become empty is longer than a fast link would let it be.

use super::Tick;
use super::limits::{
    BACKLOG_CALM_WINDOWS, BACKLOG_IDLE_PERCENT, BACKLOG_KEPT_MIN, BACKLOG_LOOK_FULL,
    BACKLOG_LOOK_IDLE, BACKLOG_MIN, BACKLOG_REACH, BACKLOG_WINDOW, MILLISECOND,
};

/// What the table knows of the queue of one link.
///
/// A link is full when its queue held more than the link sends in a millisecond at every look of a
/// window. Then the meter says how many bytes may follow, so that the queue stays short: long
/// enough that the link seldom waits for the core, short enough that the order of what follows
/// matters. If the link waited all the same, the queue becomes twice as long.
#[derive(Debug)]
pub(super) struct BacklogMeter {
    looked_at: Tick,
    window_began: Tick,
    /// Bytes of content that were sent in the window.
    sent: u64,
    /// The shortest queue of the window, in bytes.
    least: u64,
    looks: u32,
    /// A look of the window found transfers that wait.
    has_held: bool,
    /// Time before looks that found the queue nearly empty although transfers waited.
    idle: Tick,
    /// Bytes that the link sends in a millisecond, by the last whole window.
    per_ms: u64,
    is_full: bool,
    /// Length of the queue while the link is full, in quarters of a millisecond of the link.
    reach: u64,
    /// Windows in a row in which half of the queue would have been enough.
    calm: u32,
}

impl BacklogMeter {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            looked_at: now,
            window_began: now,
            sent: 0,
            least: u64::MAX,
            looks: 0,
            has_held: false,
            idle: 0,
            per_ms: 0,
            is_full: false,
            reach: BACKLOG_REACH.0,
            calm: 0,
        }
    }

    /// Whether the link is the limit.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Counts bytes of content that leave.
    #[inline]
    pub(super) fn count_sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// When the next look is due.
    pub(super) fn next_look(&self) -> Tick {
        self.looked_at + if self.is_full { BACKLOG_LOOK_FULL } else { BACKLOG_LOOK_IDLE }
    }

    /// Takes a look: this many bytes are in the queue. `has_held`: transfers wait for room. Returns
    /// how many bytes may follow; None: the link is not the limit.
    pub(super) fn look(&mut self, now: Tick, backlog: u64, has_held: bool) -> Option<u64> {
        if has_held && backlog < self.queue_bytes() / 8 {
            self.idle += now.saturating_sub(self.looked_at);
        }
        self.looked_at = now;
        self.looks += 1;
        self.least = self.least.min(backlog);
        self.has_held |= has_held;
        if now.saturating_sub(self.window_began) >= BACKLOG_WINDOW {
            self.end_window(now);
        }
        self.is_full.then(|| self.queue_bytes().saturating_sub(backlog))
    }

    /// Length of the queue that the meter keeps on a full link, in bytes.
    fn queue_bytes(&self) -> u64 {
        (self.per_ms * self.reach / 4).max(BACKLOG_KEPT_MIN)
    }

    fn end_window(&mut self, now: Tick) {
        let length = now - self.window_began;
        // A window with few looks says nothing: the core slept, so it had little to send.
        let is_known = u64::from(self.looks) * BACKLOG_LOOK_IDLE * 2 >= length;
        self.per_ms = self.sent * MILLISECOND / length.max(1);
        let is_standing = self.least >= self.per_ms.max(BACKLOG_MIN);
        let is_calm = self.idle == 0 && self.least > self.queue_bytes() / 2;
        self.calm = if is_calm { self.calm + 1 } else { 0 };

        if !self.is_full {
            self.is_full = is_known && is_standing;
            self.reach = BACKLOG_REACH.0;
        } else if !self.has_held && !is_standing {
            self.is_full = false;
        } else if self.idle * 100 > length * BACKLOG_IDLE_PERCENT {
            self.reach = (self.reach * 2).min(BACKLOG_REACH.1);
        } else if self.calm >= BACKLOG_CALM_WINDOWS {
            (self.reach, self.calm) = ((self.reach / 2).max(BACKLOG_REACH.0), 0);
        }

        (self.window_began, self.sent, self.least) = (now, 0, u64::MAX);
        (self.looks, self.has_held, self.idle) = (0, false, 0);
    }
}
