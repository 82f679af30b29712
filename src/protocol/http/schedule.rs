//! Which bodies of a boot storm leave now: a few large ones at full speed, in the order of their
//! machines' arrival, and a trickle for the rest.
//!
//! Five hundred equal downloads with equal shares all end at the same late time. Served a few at a
//! time they end one after another: on a full link the last one no later, the median one after half
//! the time. Three rules keep that safe:
//!
//! - **No machine starves.** A waiting body gets [`TRICKLE_BYTES`] each [`TRICKLE_PAUSE`], so no
//!   firmware sees a dead connection, whether the body waits for its turn or for a reader.
//! - **No link idles.** A body whose client takes nothing for a [`WINDOW`] does not count, and
//!   while more slots bring more bytes a second, the schedule adds slots: slow clients never leave
//!   a fast link unused. Bytes count when the client has acknowledged them: the kernel takes
//!   megabytes of each further body at once, however slow the link is. A body that waits for a
//!   reader does count: where memory or the disk is the bottleneck, more bodies would only compete
//!   for it.
//! - **A machine keeps its place** ([`MachinePlaces`]). Its initial ramdisk follows its kernel
//!   without a second wait behind machines that came later. After four bodies the machine goes to
//!   the end of the queue, and each further body that it requests at the same time gets a place 32
//!   further back: later machines soon get their share.
//!
//! Bodies of at most [`SMALL_BYTES`] (loaders, menus, answer files, ranges of an ISO) never enter
//! the schedule: they leave at once.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

pub use crate::model::places::SMALL_BYTES;
use crate::model::places::{BodyRank, MachinePlaces};

/// Nanoseconds since the core started.
pub type ScheduleTick = u64;

/// Least number of bodies at full speed. The default of `[tuning] http-slots`.
pub const SLOTS: u16 = 16;
/// Bytes that a waiting body may send at a time; its first piece too.
pub const TRICKLE_BYTES: u64 = 16 * 1024;
/// From one trickle of a body to its next: well inside the shortest timer of a firmware (EDK2: 5 s,
/// H-10).
pub const TRICKLE_PAUSE: ScheduleTick = 1_000_000_000;
/// The second trickles of bodies that begin together spread over the pause in so many parts.
const SPREAD_PARTS: ScheduleTick = 20;
/// The schedule counts bytes for this long before it changes the number of slots, in nanoseconds.
pub const WINDOW: ScheduleTick = 200_000_000;
/// How long a body that waits for a reader counts as moving, in nanoseconds, unless the readers
/// have answered nothing later: a dead disk holds up no other body, and more readers do not slow a
/// slow disk further.
pub const READING_MAX: ScheduleTick = 4_000_000_000;
/// A trial with more slots wins when it brings this many percent more bytes.
const GAIN_PERCENT: u64 = 10;
/// Windows from a lost trial to the next one.
const REST_WINDOWS: u32 = 10;

/// The large bodies of one core. `K` names a connection.
#[derive(Debug)]
pub struct SendSchedule<K> {
    /// None: every body sends at once.
    slots_min: Option<usize>,
    /// Bodies that may run now; bodies that stand still do not count.
    slots: usize,
    bodies: HashMap<K, ScheduledBody>,
    /// The waiting bodies, in the order in which they will run.
    waiting: BTreeSet<(BodyRank, K)>,
    running: Vec<K>,
    /// Running bodies that took bytes in the last window, or were just admitted.
    moving: usize,
    /// Parked bodies, and running ones that wait for a reader, each with its `trickle_at`.
    trickles: BTreeSet<(ScheduleTick, K)>,
    /// Which part of a pause the next body waits before its second trickle.
    spread: ScheduleTick,
    readers: ReaderProgress,
    /// Admitted bodies that [`SendSchedule::poll`] has not returned yet.
    admitted: VecDeque<K>,
    places: MachinePlaces,
    meter: WindowMeter,
}

#[derive(Debug)]
struct ScheduledBody {
    rank: BodyRank,
    machine: IpAddr,
    is_running: bool,
    /// The body runs, and took bytes in the last window or was just admitted.
    is_moving: bool,
    /// Bytes that its client took in the current window.
    taken: u64,
    /// Bytes that the kernel held for the client at the end of the last window.
    held: u64,
    /// Since when the running body waits for a reader.
    reading_since: Option<ScheduleTick>,
    /// When the next trickle may leave.
    trickle_at: ScheduleTick,
    /// It has sent a trickle while it waited for its turn.
    has_trickled: bool,
}

/// The progress of the readers. They take reads in the order of their submission.
#[derive(Clone, Copy, Debug, Default)]
struct ReaderProgress {
    answered_at: Option<ScheduleTick>,
    /// When the caller submitted the latest read that they have completed.
    latest: ScheduleTick,
}

impl ReaderProgress {
    /// Whether the readers have completed a read lately.
    fn are_alive(self, now: ScheduleTick) -> bool {
        self.answered_at.is_some_and(|at| now.saturating_sub(at) < READING_MAX)
    }

    /// Whether a read of that time is still in the queue: it is recent, or no later read has
    /// overtaken it.
    fn have_in_line(self, now: ScheduleTick, since: ScheduleTick) -> bool {
        let is_overtaken = self.latest >= since + READING_MAX;
        now.saturating_sub(since) < READING_MAX || (self.are_alive(now) && !is_overtaken)
    }
}

/// The bytes of the current window, and the state of the trial.
#[derive(Debug, Default)]
struct WindowMeter {
    window_began: ScheduleTick,
    /// Bytes of bodies that have ended in this window.
    taken: u64,
    trial: SlotTrial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotTrial {
    /// The next window begins a trial.
    Due,
    /// This many windows until the next trial.
    Resting(u32),
    /// More slots than before; the schedule keeps them if a window brings more than `bytes`.
    Running { slots: usize, bytes: u64 },
}

impl WindowMeter {
    fn is_window_over(&self, now: ScheduleTick) -> bool {
        now.saturating_sub(self.window_began) >= WINDOW
    }
}

impl Default for SlotTrial {
    /// The first window of a storm is not judged: in it the first pieces of all bodies leave, which
    /// the schedule does not count.
    fn default() -> Self {
        Self::Resting(0)
    }
}

impl<K: Copy + Eq + Hash + Ord> SendSchedule<K> {
    /// A schedule with at least this many bodies at full speed; None: all of them, always.
    pub fn new(slots: Option<usize>) -> Self {
        let slots_min = slots.map(|slots| slots.max(1));
        Self {
            slots_min,
            slots: slots_min.unwrap_or(usize::MAX),
            bodies: HashMap::new(),
            waiting: BTreeSet::new(),
            running: Vec::new(),
            moving: 0,
            trickles: BTreeSet::new(),
            spread: 0,
            readers: ReaderProgress::default(),
            admitted: VecDeque::new(),
            places: MachinePlaces::default(),
            meter: WindowMeter::default(),
        }
    }

    /// Enters a new body of a machine. Small bodies need no entry.
    pub fn begin_body(&mut self, now: ScheduleTick, key: K, machine: IpAddr) {
        if self.slots_min.is_none() {
            return;
        }
        self.end_body(now, key);
        let rank = self.places.begin_body(now, machine);

        // A body begins at once only if no other waits before it.
        let is_running = self.waiting.is_empty() && self.moving < self.slots;
        let body = ScheduledBody {
            rank,
            machine,
            is_running,
            is_moving: is_running,
            taken: 0,
            held: 0,
            reading_since: None,
            trickle_at: now,
            has_trickled: false,
        };

        self.bodies.insert(key, body);
        if is_running {
            self.running.push(key);
            self.moving += 1;
        } else {
            self.waiting.insert((rank, key));
        }
    }

    /// Removes a body that has ended or that the server gives up. Ignores unknown keys.
    pub fn end_body(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.remove(&key) else { return };
        self.trickles.remove(&(body.trickle_at, key));
        self.places.end_body(now, body.machine);
        if body.is_running {
            self.meter.taken += body.taken + body.held;
            self.running.retain(|running| *running != key);
            self.moving -= usize::from(body.is_moving);
            self.admit_waiting();
        } else {
            self.waiting.remove(&(body.rank, key));
        }
        self.reset_if_empty();
    }

    /// How many bytes this body may send next; 0: it is parked, and [`SendSchedule::poll`] will
    /// return it.
    pub fn grant_bytes(&mut self, now: ScheduleTick, key: K) -> u64 {
        let Some(body) = self.bodies.get_mut(&key).filter(|body| !body.is_running) else {
            return u64::MAX;
        };
        if now < body.trickle_at {
            self.trickles.insert((body.trickle_at, key));
            return 0;
        }
        self.trickles.remove(&(body.trickle_at, key));
        // The bodies of a storm begin together. Their second pieces leave one after another, so
        // that each later window has about as many trickles as the next.
        let pause = if std::mem::replace(&mut body.has_trickled, true) {
            TRICKLE_PAUSE
        } else {
            self.spread = (self.spread + 1) % SPREAD_PARTS;
            TRICKLE_PAUSE * (self.spread + 1) / SPREAD_PARTS
        };
        body.trickle_at = now + pause;
        TRICKLE_BYTES
    }

    /// Counts bytes of this body that the kernel has taken.
    pub fn count_sent(&mut self, key: K, bytes: u64) {
        if let Some(body) = self.bodies.get_mut(&key) {
            // Do not count trickles: they come in waves, which would hide the effect of a trial.
            let is_trickle = !body.is_running || body.reading_since.is_some();
            body.taken += if is_trickle { 0 } else { bytes };
        }
    }

    /// At the end of a window, takes the bytes that the kernel still holds for each client off
    /// those that it took of the body. Call it before [`SendSchedule::poll`]; `held` looks at one
    /// connection.
    pub fn discount_held(&mut self, now: ScheduleTick, held: impl Fn(K) -> u64) {
        if self.waiting.is_empty() || !self.meter.is_window_over(now) {
            return;
        }
        for key in &self.running {
            if let Some(body) = self.bodies.get_mut(key) {
                let held = held(*key);
                body.taken = (body.taken + body.held).saturating_sub(held);
                body.held = held;
            }
        }
    }

    /// Notes that this body waits for a reader from now on.
    pub fn begin_read(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.get_mut(&key).filter(|body| body.is_running) else { return };
        if body.reading_since.is_none() {
            (body.reading_since, body.trickle_at) = (Some(now), now + TRICKLE_PAUSE);
            self.trickles.insert((body.trickle_at, key));
        }
    }

    /// Notes that the reader has completed the read of this body.
    pub fn end_read(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.get_mut(&key) else { return };
        if let Some(since) = body.reading_since.take() {
            self.trickles.remove(&(body.trickle_at, key));
            self.readers =
                ReaderProgress { answered_at: Some(now), latest: self.readers.latest.max(since) };
        }
    }

    /// The next body that may go on: admitted, or due for its trickle, also while it waits for a
    /// reader. Call it until None, after each turn of the loop.
    pub fn poll(&mut self, now: ScheduleTick) -> Option<K> {
        self.count_window(now);
        if let Some(key) = self.admitted.pop_front() {
            return Some(key);
        }
        while let Some(&(due, key)) = self.trickles.first().filter(|(due, _)| *due <= now) {
            self.trickles.remove(&(due, key));
            let Some(body) = self.bodies.get_mut(&key) else { continue };
            if !body.is_running {
                return Some(key);
            }
            body.trickle_at = now + TRICKLE_PAUSE;
            self.trickles.insert((body.trickle_at, key));
            // While the readers complete nothing, a trickle would wait like the piece.
            if self.readers.are_alive(now) {
                return Some(key);
            }
        }
        None
    }

    /// When to call [`SendSchedule::poll`] if no event comes before.
    pub fn next_timeout(&self) -> Option<ScheduleTick> {
        let window = (!self.waiting.is_empty()).then_some(self.meter.window_began + WINDOW);
        let trickle = self.trickles.first().map(|(due, _)| *due);
        [window, trickle].into_iter().flatten().min()
    }

    /// Running bodies, and waiting ones.
    pub fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    fn admit_waiting(&mut self) {
        while self.moving < self.slots {
            let Some((_, key)) = self.waiting.pop_first() else { return };
            if let Some(body) = self.bodies.get_mut(&key) {
                self.trickles.remove(&(body.trickle_at, key));
                // Count the body as moving until a window shows otherwise.
                (body.is_running, body.is_moving, body.taken) = (true, true, 0);
                self.running.push(key);
                self.moving += 1;
                self.admitted.push_back(key);
            }
        }
    }

    /// At the end of a window: counts the moving bodies, judges the trial, and admits waiting
    /// bodies.
    fn count_window(&mut self, now: ScheduleTick) {
        if self.waiting.is_empty() {
            // Without a queue there is no trial to judge; the next queue starts a new window.
            self.meter.window_began = now;
            self.meter.taken = 0;
            return;
        }
        if !self.meter.is_window_over(now) {
            return;
        }
        let length = now - self.meter.window_began;
        let mut taken = std::mem::take(&mut self.meter.taken);
        self.meter.window_began = now;
        self.moving = 0;
        let mut reading = 0;
        for key in &self.running {
            if let Some(body) = self.bodies.get_mut(key) {
                let is_reading =
                    body.reading_since.is_some_and(|since| self.readers.have_in_line(now, since));
                taken += body.taken;
                body.is_moving = std::mem::take(&mut body.taken) > 0 || is_reading;
                self.moving += usize::from(body.is_moving);
                reading += usize::from(is_reading);
            }
        }
        // Scale to the nominal length of a window: a turn of the loop may end late.
        let taken = u64::try_from(u128::from(taken) * u128::from(WINDOW) / u128::from(length))
            .unwrap_or(u64::MAX);
        self.judge_trial(taken, reading * 4 >= self.running.len());
        self.admit_waiting();
    }

    /// Decides the trial. `is_read_bound`: many running bodies wait for readers, and more slots
    /// would make more of them wait.
    fn judge_trial(&mut self, taken: u64, is_read_bound: bool) {
        self.meter.trial = match self.meter.trial {
            SlotTrial::Due if is_read_bound => SlotTrial::Due,
            SlotTrial::Due => {
                let slots = self.slots;
                self.slots += slots.div_ceil(2);
                SlotTrial::Running { slots, bytes: taken }
            }
            // The link had room: the slots stay, and the next window tries still more.
            SlotTrial::Running { bytes, .. }
                if !is_read_bound && taken > bytes.saturating_add(bytes / 100 * GAIN_PERCENT) =>
            {
                SlotTrial::Due
            }
            // More bodies at once brought no more bytes: each of them would only end later.
            SlotTrial::Running { slots, .. } => {
                self.slots = slots;
                SlotTrial::Resting(REST_WINDOWS)
            }
            SlotTrial::Resting(0) => SlotTrial::Due,
            SlotTrial::Resting(windows) => SlotTrial::Resting(windows - 1),
        };
    }

    /// Forgets the trial when no body is left: one storm says nothing about the next.
    fn reset_if_empty(&mut self) {
        if self.bodies.is_empty() {
            self.slots = self.slots_min.unwrap_or(usize::MAX);
            self.meter.trial = SlotTrial::default();
            self.trickles.clear();
        }
    }
}
