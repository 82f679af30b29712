//! Who of a storm sends now: a few large bodies at full speed, in the order in which their machines
//! came, and a trickle for the rest.
//!
//! Five hundred equal downloads in equal shares all end last. Served a few at a time they end one
//! after another: on a full link the last one no later, the median one after half the time. Three
//! things keep that safe:
//!
//! - **Nobody starves.** A body that waits gets [`TRICKLE_BYTES`] each [`TRICKLE_PAUSE`], so no
//!   firmware sees a dead connection: whether it waits for its turn or for a reader.
//! - **Nothing idles.** A body that takes nothing for a [`WINDOW`] does not count, and while more
//!   slots bring more bytes a second, there are more slots: slow clients never leave a fast link
//!   unused. A body that waits for a reader does count: where memory or the disk is the bound, more
//!   bodies would only take it from each other.
//! - **A machine keeps its place.** Its initial ramdisk follows its kernel without a second wait
//!   behind those who came later. After [`BODIES_PER_PLACE`] bodies it stands in line anew, and of
//!   several that it asks for at a time each further one stands [`ROUND_PLACES`] places behind:
//!   whoever comes later has its share soon.
//!
//! Bodies of at most [`SMALL_BYTES`] (loaders, menus, answer files, ranges of an ISO) never come
//! here: they go ahead.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

/// Nanoseconds since the core began.
pub type ScheduleTick = u64;

/// Bodies at full speed at least. The default of `[tuning] http-slots`.
pub const SLOTS: u16 = 16;
/// Bodies up to so many bytes are never held back.
pub const SMALL_BYTES: u64 = 1024 * 1024;
/// What a body that waits may send at a time, in bytes; its first piece too.
pub const TRICKLE_BYTES: u64 = 16 * 1024;
/// From one trickle of a body to its next: well inside the shortest timer of a firmware (EDK2: 5 s,
/// H-10).
pub const TRICKLE_PAUSE: ScheduleTick = 1_000_000_000;
/// Over which bytes are counted before slots are changed, in nanoseconds.
pub const WINDOW: ScheduleTick = 200_000_000;
/// A machine that has had no large body for so long has lost its place, in nanoseconds.
pub const MEMORY: ScheduleTick = 30_000_000_000;
/// Machines whose places are remembered; one more makes the longest idle one forgotten.
pub const MACHINES_MAX: usize = 65_536;
/// Large bodies for which a machine keeps its place.
pub const BODIES_PER_PLACE: u32 = 4;
/// Places by which each further body of a machine that has others stands behind.
pub const ROUND_PLACES: u64 = 32;
/// How long a body that waits for a reader counts as one that moves, in nanoseconds, unless those
/// who asked after it wait as well: a dead disk holds up nobody else, and a slow one is not made
/// slower by more readers.
pub const READING_MAX: ScheduleTick = 4_000_000_000;
/// A trial with more slots has won when it brought so many percent more bytes.
const GAIN_PERCENT: u64 = 10;
/// Windows from a trial that has lost to the next one.
const REST_WINDOWS: u32 = 10;

/// The large bodies of one core. `K` names a connection.
#[derive(Debug)]
pub struct SendSchedule<K> {
    /// None: everybody sends at once.
    slots_min: Option<usize>,
    /// Bodies that may run now, those that stand still not counted.
    slots: usize,
    bodies: HashMap<K, ScheduledBody>,
    /// In the order in which they will run.
    waiting: BTreeSet<(BodyRank, K)>,
    running: Vec<K>,
    /// Of those that run: they took bytes in the last window, or have just been let in.
    moving: usize,
    /// Those that are parked and those that run and wait for a reader, each with its `trickle_at`.
    trickles: BTreeSet<(ScheduleTick, K)>,
    readers: ReaderProgress,
    /// Let in and not yet told.
    admitted: VecDeque<K>,
    machines: HashMap<IpAddr, ScheduledMachine>,
    places: u64,
    meter: WindowMeter,
}

/// The machine's place, and among its own bodies the order of their beginning.
type BodyRank = (u64, u64);

#[derive(Debug)]
struct ScheduledBody {
    rank: BodyRank,
    machine: IpAddr,
    is_running: bool,
    /// It runs, and took bytes in the last window or has just been let in.
    is_moving: bool,
    /// Taken in the current window.
    taken: u64,
    /// Since when it waits for a reader, while it runs.
    reading_since: Option<ScheduleTick>,
    /// When the next trickle may leave.
    trickle_at: ScheduleTick,
}

#[derive(Clone, Copy, Debug)]
struct ScheduledMachine {
    place: u64,
    /// Bodies that have begun at this place.
    begun: u32,
    bodies: u32,
    idle_since: ScheduleTick,
}

/// What the readers have answered. They take questions in the order in which they were asked.
#[derive(Clone, Copy, Debug, Default)]
struct ReaderProgress {
    answered_at: Option<ScheduleTick>,
    /// When the latest of the questions that they have answered was asked.
    latest: ScheduleTick,
}

impl ReaderProgress {
    /// Whether they have answered anything of late.
    fn are_alive(self, now: ScheduleTick) -> bool {
        self.answered_at.is_some_and(|at| now.saturating_sub(at) < READING_MAX)
    }

    /// Whether a question that was asked then is still in line: not for long, or not overtaken by
    /// others.
    fn have_in_line(self, now: ScheduleTick, since: ScheduleTick) -> bool {
        let is_overtaken = self.latest >= since + READING_MAX;
        now.saturating_sub(since) < READING_MAX || (self.are_alive(now) && !is_overtaken)
    }
}

/// Bytes of windows, and the trial that is under way.
#[derive(Debug, Default)]
struct WindowMeter {
    window_began: ScheduleTick,
    taken: u64,
    trial: SlotTrial,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlotTrial {
    /// So many windows until the next one.
    #[default]
    Due,
    Resting(u32),
    /// More slots than before, to be kept where a window brings more than `bytes`.
    Running {
        slots: usize,
        bytes: u64,
    },
}

impl<K: Copy + Eq + Hash + Ord> SendSchedule<K> {
    /// At least so many bodies run at full speed; None: all of them, always.
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
            readers: ReaderProgress::default(),
            admitted: VecDeque::new(),
            machines: HashMap::new(),
            places: 0,
            meter: WindowMeter::default(),
        }
    }

    /// A body of a machine begins. Small ones need not come here.
    pub fn begin_body(&mut self, now: ScheduleTick, key: K, machine: IpAddr) {
        if self.slots_min.is_none() {
            return;
        }
        self.end_body(now, key);
        let place = self.assign_place(now, machine);
        let rank = (place, self.places);
        self.places += 1;
        let is_running = self.waiting.is_empty() && self.moving < self.slots;
        let body = ScheduledBody {
            rank,
            machine,
            is_running,
            is_moving: is_running,
            taken: 0,
            reading_since: None,
            trickle_at: now,
        };
        self.bodies.insert(key, body);
        if is_running {
            self.running.push(key);
            self.moving += 1;
        } else {
            self.waiting.insert((rank, key));
        }
    }

    /// A body has ended or is given up. Unknown keys are none of ours.
    pub fn end_body(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.remove(&key) else { return };
        self.trickles.remove(&(body.trickle_at, key));
        if let Some(machine) = self.machines.get_mut(&body.machine) {
            machine.bodies = machine.bodies.saturating_sub(1);
            machine.idle_since = now;
        }
        if body.is_running {
            self.running.retain(|running| *running != key);
            self.moving -= usize::from(body.is_moving);
            self.admit_waiting();
        } else {
            self.waiting.remove(&(body.rank, key));
        }
        self.reset_if_empty();
    }

    /// How many bytes this body may send next; 0: it is parked, and [`SendSchedule::poll`] will
    /// name it.
    pub fn grant_bytes(&mut self, now: ScheduleTick, key: K) -> u64 {
        let Some(body) = self.bodies.get_mut(&key).filter(|body| !body.is_running) else {
            return u64::MAX;
        };
        if now < body.trickle_at {
            self.trickles.insert((body.trickle_at, key));
            return 0;
        }
        self.trickles.remove(&(body.trickle_at, key));
        body.trickle_at = now + TRICKLE_PAUSE;
        TRICKLE_BYTES
    }

    /// The kernel has taken bytes of this body.
    pub fn count_sent(&mut self, key: K, bytes: u64) {
        if let Some(body) = self.bodies.get_mut(&key) {
            // Trickles come in waves, which would drown what a trial brings.
            let is_trickle = !body.is_running || body.reading_since.is_some();
            let counted = if is_trickle { 0 } else { bytes };
            body.taken += counted;
            self.meter.taken += counted;
        }
    }

    /// This body waits for a reader now.
    pub fn begin_read(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.get_mut(&key).filter(|body| body.is_running) else { return };
        if body.reading_since.is_none() {
            (body.reading_since, body.trickle_at) = (Some(now), now + TRICKLE_PAUSE);
            self.trickles.insert((body.trickle_at, key));
        }
    }

    /// The reader has answered it.
    pub fn end_read(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.get_mut(&key) else { return };
        if let Some(since) = body.reading_since.take() {
            self.trickles.remove(&(body.trickle_at, key));
            self.readers =
                ReaderProgress { answered_at: Some(now), latest: self.readers.latest.max(since) };
        }
    }

    /// Who may go on: let in, or due for its trickle; one that waits for a reader is due for that,
    /// too. To be asked until None, after each turn.
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
            // Where nothing is read at all, a trickle would wait like the piece.
            if self.readers.are_alive(now) {
                return Some(key);
            }
        }
        None
    }

    /// When [`SendSchedule::poll`] is worth asking without an event before.
    pub fn next_timeout(&self) -> Option<ScheduleTick> {
        let window = (!self.waiting.is_empty()).then_some(self.meter.window_began + WINDOW);
        let trickle = self.trickles.first().map(|(due, _)| *due);
        [window, trickle].into_iter().flatten().min()
    }

    /// Bodies that run, and that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    /// The machine's place in the line: the one that it has, or the last.
    fn assign_place(&mut self, now: ScheduleTick, address: IpAddr) -> u64 {
        if self.machines.len() >= MACHINES_MAX && !self.machines.contains_key(&address) {
            let kept = |machine: &ScheduledMachine| {
                machine.bodies > 0 || now.saturating_sub(machine.idle_since) < MEMORY
            };
            self.machines.retain(|_, machine| kept(machine));
        }
        let next = self.places;
        let new = ScheduledMachine { place: next, begun: 0, bodies: 0, idle_since: now };
        let machine = self.machines.entry(address).or_insert(new);
        let is_forgotten = machine.bodies == 0 && now.saturating_sub(machine.idle_since) >= MEMORY;
        if is_forgotten || machine.begun >= BODIES_PER_PLACE {
            (machine.place, machine.begun) = (next, 0);
        }
        machine.begun += 1;
        machine.bodies += 1;
        match machine.bodies - 1 {
            0 => machine.place,
            others => next + u64::from(others) * ROUND_PLACES,
        }
    }

    fn admit_waiting(&mut self) {
        while self.moving < self.slots {
            let Some((_, key)) = self.waiting.pop_first() else { return };
            if let Some(body) = self.bodies.get_mut(&key) {
                self.trickles.remove(&(body.trickle_at, key));
                // Counted as moving until a window has shown otherwise.
                (body.is_running, body.is_moving, body.taken) = (true, true, 0);
                self.running.push(key);
                self.moving += 1;
                self.admitted.push_back(key);
            }
        }
    }

    /// At the end of a window: counts who moves, judges the trial, and lets others in.
    fn count_window(&mut self, now: ScheduleTick) {
        if self.waiting.is_empty() {
            // Without a queue there is nothing to judge, and the next one begins anew.
            self.meter.window_began = now;
            self.meter.taken = 0;
            return;
        }
        if now.saturating_sub(self.meter.window_began) < WINDOW {
            return;
        }
        let length = now - self.meter.window_began;
        // As if the window had had its nominal length: turns end when they end.
        let taken =
            u64::try_from(u128::from(self.meter.taken) * u128::from(WINDOW) / u128::from(length))
                .unwrap_or(u64::MAX);
        self.meter.window_began = now;
        self.meter.taken = 0;
        self.moving = 0;
        let mut reading = 0;
        for key in &self.running {
            if let Some(body) = self.bodies.get_mut(key) {
                let is_reading =
                    body.reading_since.is_some_and(|since| self.readers.have_in_line(now, since));
                body.is_moving = std::mem::take(&mut body.taken) > 0 || is_reading;
                self.moving += usize::from(body.is_moving);
                reading += usize::from(is_reading);
            }
        }
        self.judge_trial(taken, reading * 4 >= self.running.len());
        self.admit_waiting();
    }

    /// `is_read_bound`: many of those that run wait for readers, and more of them would do so with
    /// more slots.
    fn judge_trial(&mut self, taken: u64, is_read_bound: bool) {
        self.meter.trial = match self.meter.trial {
            SlotTrial::Due if is_read_bound => SlotTrial::Due,
            SlotTrial::Due => {
                let slots = self.slots;
                self.slots += slots.div_ceil(2);
                SlotTrial::Running { slots, bytes: taken }
            }
            SlotTrial::Running { bytes, .. }
                if !is_read_bound && taken > bytes.saturating_add(bytes / 100 * GAIN_PERCENT) =>
            {
                SlotTrial::Due
            }
            SlotTrial::Running { slots, .. } => {
                self.slots = slots;
                SlotTrial::Resting(REST_WINDOWS)
            }
            SlotTrial::Resting(0) => SlotTrial::Due,
            SlotTrial::Resting(windows) => SlotTrial::Resting(windows - 1),
        };
    }

    /// What was learnt of one storm says nothing of the next.
    fn reset_if_empty(&mut self) {
        if self.bodies.is_empty() {
            self.slots = self.slots_min.unwrap_or(usize::MAX);
            self.meter.trial = SlotTrial::Due;
            self.trickles.clear();
        }
    }
}
