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
    pub fn enter(&mut self, now: ScheduleTick, key: K, machine: IpAddr) {
        if self.slots_min.is_none() {
            return;
        }
        self.leave(now, key);
        let place = self.place_of(now, machine);
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
    pub fn leave(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.remove(&key) else { return };
        self.trickles.remove(&(body.trickle_at, key));
        if let Some(machine) = self.machines.get_mut(&body.machine) {
            machine.bodies = machine.bodies.saturating_sub(1);
            machine.idle_since = now;
        }
        if body.is_running {
            self.running.retain(|running| *running != key);
            self.moving -= usize::from(body.is_moving);
            self.admit();
        } else {
            self.waiting.remove(&(body.rank, key));
        }
        self.settle_if_empty();
    }

    /// How many bytes this body may send next; 0: it is parked, and [`SendSchedule::poll`] will
    /// name it.
    pub fn ask(&mut self, now: ScheduleTick, key: K) -> u64 {
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
    pub fn taken(&mut self, key: K, bytes: u64) {
        if let Some(body) = self.bodies.get_mut(&key) {
            // Trickles come in waves, which would drown what a trial brings.
            let is_trickle = !body.is_running || body.reading_since.is_some();
            let counted = if is_trickle { 0 } else { bytes };
            body.taken += counted;
            self.meter.taken += counted;
        }
    }

    /// This body waits for a reader now.
    pub fn reads(&mut self, now: ScheduleTick, key: K) {
        let Some(body) = self.bodies.get_mut(&key).filter(|body| body.is_running) else { return };
        if body.reading_since.is_none() {
            (body.reading_since, body.trickle_at) = (Some(now), now + TRICKLE_PAUSE);
            self.trickles.insert((body.trickle_at, key));
        }
    }

    /// The reader has answered it.
    pub fn has_read(&mut self, now: ScheduleTick, key: K) {
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
    fn place_of(&mut self, now: ScheduleTick, address: IpAddr) -> u64 {
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

    fn admit(&mut self) {
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
        self.judge(taken, reading * 4 >= self.running.len());
        self.admit();
    }

    /// `is_read_bound`: many of those that run wait for readers, and more of them would do so with
    /// more slots.
    fn judge(&mut self, taken: u64, is_read_bound: bool) {
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
    fn settle_if_empty(&mut self) {
        if self.bodies.is_empty() {
            self.slots = self.slots_min.unwrap_or(usize::MAX);
            self.meter.trial = SlotTrial::Due;
            self.trickles.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use std::net::Ipv4Addr;

    use super::*;

    const MS: ScheduleTick = 1_000_000;
    const SECOND: ScheduleTick = 1000 * MS;
    const MB: u64 = 1_000_000;

    /// Machines that fetch files one after another over a link that all share, a millisecond at a
    /// time.
    struct Storm {
        schedule: SendSchedule<u32>,
        machines: Vec<Fetching>,
        /// Bytes a second of the server, and the most that one machine takes.
        link: u64,
        each: u64,
    }

    struct Fetching {
        files: Vec<u64>,
        left: u64,
        allowed: u64,
        parked: bool,
        takes: bool,
        ended: Option<ScheduleTick>,
        moved: ScheduleTick,
        longest_pause: ScheduleTick,
        address: IpAddr,
        begins: ScheduleTick,
    }

    fn address(machine: usize) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + machine as u32).into()
    }

    impl Storm {
        fn new(slots: Option<usize>, machines: usize, files: &[u64], link: u64, each: u64) -> Self {
            let fetching = |machine| Fetching {
                files: files.iter().rev().copied().collect(),
                left: 0,
                allowed: 0,
                parked: false,
                takes: true,
                ended: None,
                moved: 0,
                longest_pause: 0,
                address: address(machine),
                begins: 0,
            };
            Self {
                schedule: SendSchedule::new(slots),
                machines: (0..machines).map(fetching).collect(),
                link,
                each,
            }
        }

        /// Runs until every machine that takes anything has all, and returns when each had.
        fn run(&mut self) -> Vec<ScheduleTick> {
            let mut now = 0;
            while self.machines.iter().any(|machine| machine.takes && machine.ended.is_none()) {
                assert!(now < 1000 * SECOND, "somebody never ends");
                self.step(now);
                now += MS;
            }
            let mut ends: Vec<ScheduleTick> =
                self.machines.iter().filter_map(|machine| machine.ended).collect();
            ends.sort_unstable();
            ends
        }

        fn step(&mut self, now: ScheduleTick) {
            while let Some(key) = self.schedule.poll(now) {
                self.machines[key as usize].parked = false;
            }
            for (key, machine) in self.machines.iter_mut().enumerate() {
                if machine.left == 0 && machine.ended.is_none() && now >= machine.begins {
                    match machine.files.pop() {
                        Some(bytes) => {
                            machine.left = bytes;
                            self.schedule.enter(now, key as u32, machine.address);
                        }
                        None => machine.ended = Some(now),
                    }
                }
                if machine.left > 0 && machine.allowed == 0 && !machine.parked {
                    machine.allowed = self.schedule.ask(now, key as u32).min(machine.left);
                    machine.parked = machine.allowed == 0;
                }
            }
            let sending =
                self.machines.iter().filter(|machine| machine.allowed > 0 && machine.takes).count()
                    as u64;
            let share = (self.link / 1000 / sending.max(1)).min(self.each / 1000);
            for (key, machine) in self.machines.iter_mut().enumerate() {
                if machine.allowed == 0 || !machine.takes {
                    continue;
                }
                let bytes = share.min(machine.allowed);
                machine.allowed -= bytes;
                machine.left -= bytes;
                machine.longest_pause = machine.longest_pause.max(now - machine.moved);
                machine.moved = now;
                self.schedule.taken(key as u32, bytes);
                if machine.left == 0 {
                    self.schedule.leave(now, key as u32);
                }
            }
        }
    }

    fn median(ends: &[ScheduleTick]) -> ScheduleTick {
        ends[ends.len() / 2]
    }

    #[test]
    fn u8_on_a_full_link_the_median_halves_and_the_last_is_no_later() {
        let files = [8 * MB, 32 * MB];
        let equal = Storm::new(None, 500, &files, 2000 * MB, 1000 * MB).run();
        let ordered = Storm::new(Some(16), 500, &files, 2000 * MB, 1000 * MB).run();
        assert!(
            median(&ordered) * 100 < median(&equal) * 55,
            "{} {}",
            median(&ordered),
            median(&equal)
        );
        let (last, last_equal) = (ordered.last().unwrap(), equal.last().unwrap());
        assert!(last * 100 < last_equal * 102, "{last} {last_equal}");
    }

    #[test]
    fn u8_slow_clients_do_not_leave_a_fast_link_unused() {
        // 100 machines that take 5 MB/s each: four at a time would take 25 times as long.
        let equal = Storm::new(None, 100, &[40 * MB], 2000 * MB, 5 * MB).run();
        let ordered = Storm::new(Some(4), 100, &[40 * MB], 2000 * MB, 5 * MB).run();
        let (last, last_equal) = (ordered.last().unwrap(), equal.last().unwrap());
        assert!(last * 100 < last_equal * 160, "{last} {last_equal}");
    }

    #[test]
    fn u8_machines_that_stand_still_hold_nobody_up() {
        let mut storm = Storm::new(Some(4), 50, &[20 * MB], 1000 * MB, 1000 * MB);
        storm.machines[..8].iter_mut().for_each(|machine| machine.takes = false);
        let ends = storm.run();
        assert_eq!(ends.len(), 42);
        assert!(*ends.last().unwrap() < 2 * SECOND, "{ends:?}");
    }

    #[test]
    fn u8_who_waits_gets_on_inside_every_firmwares_timer() {
        let mut storm = Storm::new(Some(2), 60, &[100 * MB], 1000 * MB, 1000 * MB);
        storm.run();
        let longest = storm.machines.iter().map(|machine| machine.longest_pause).max().unwrap();
        assert!(longest <= TRICKLE_PAUSE + 20 * MS, "{longest}");
    }

    #[test]
    fn u8_the_first_bytes_of_everybody_leave_at_once() {
        let mut schedule = SendSchedule::new(Some(1));
        for key in 0..500 {
            schedule.enter(0, key, address(key));
            assert!(schedule.ask(0, key) >= TRICKLE_BYTES);
        }
        assert_eq!(schedule.counts(), (1, 499));
        assert_eq!(schedule.ask(1, 7), 0, "and then one waits");
    }

    #[test]
    fn u8_a_machine_keeps_its_place_from_kernel_to_ramdisk() {
        let mut schedule = SendSchedule::new(Some(1));
        for machine in 0..3 {
            schedule.enter(0, machine, address(machine));
        }
        schedule.leave(MS, 0);
        assert_eq!(schedule.poll(MS), Some(1));
        schedule.enter(2 * MS, 10, address(0));
        schedule.leave(3 * MS, 1);
        assert_eq!(schedule.poll(3 * MS), Some(10), "before machine 2, which came later");
    }

    #[test]
    fn u8_a_machine_that_comes_again_later_stands_at_the_end() {
        let mut schedule = SendSchedule::new(Some(1));
        schedule.enter(0, 0, address(0));
        schedule.leave(MS, 0);
        let later = MS + MEMORY;
        for (key, machine) in [(1, 1), (2, 2), (3, 0)] {
            schedule.enter(later, key, address(machine));
        }
        schedule.leave(later, 1);
        assert_eq!(schedule.poll(later), Some(2));
    }

    #[test]
    fn u8_of_more_machines_than_are_remembered_those_go_that_have_been_away() {
        let mut schedule = SendSchedule::new(Some(1));
        let visit = |schedule: &mut SendSchedule<usize>, now, machine| {
            schedule.enter(now, machine, address(machine));
            schedule.leave(now, machine);
        };
        schedule.enter(0, 0, address(0));
        (1..MACHINES_MAX - 1).for_each(|machine| visit(&mut schedule, 0, machine));
        visit(&mut schedule, MEMORY - 1, MACHINES_MAX);
        assert_eq!(schedule.machines.len(), MACHINES_MAX);
        visit(&mut schedule, MEMORY, MACHINES_MAX + 1);
        let mut kept: Vec<&IpAddr> = schedule.machines.keys().collect();
        kept.sort();
        let here = [&address(0), &address(MACHINES_MAX), &address(MACHINES_MAX + 1)];
        assert_eq!(kept, here, "the first has a body under way");
    }

    #[test]
    fn u8_each_further_body_of_a_machine_stands_32_places_behind() {
        let mut schedule = SendSchedule::new(Some(1));
        (0..3).for_each(|key| schedule.enter(0, key, address(0)));
        (3..100).for_each(|key| schedule.enter(0, key, address(key)));
        let mut order = vec![0];
        while let Some(key) = order.last().copied().filter(|_| order.len() < 100) {
            schedule.leave(MS, key);
            order.push(schedule.poll(MS).unwrap());
        }
        for (key, place) in [(1, 1 + ROUND_PLACES), (2, 2 + 2 * ROUND_PLACES)] {
            let before =
                order.iter().take_while(|other| **other != key).filter(|other| **other > 2).count();
            // Of the places before its own, three are those of its machine.
            assert_eq!(before as u64, place - 3, "{key}");
        }
    }

    /// A window in which those that run take so many bytes together.
    fn pass_window(schedule: &mut SendSchedule<usize>, now: &mut ScheduleTick, bytes: u64) {
        let running = schedule.running.clone();
        running.iter().for_each(|key| schedule.taken(*key, 1));
        schedule.taken(running[0], bytes - running.len() as u64);
        *now += WINDOW;
        while schedule.poll(*now).is_some() {}
    }

    #[test]
    fn u8_half_as_many_slots_more_are_kept_where_they_bring_over_a_tenth_more_else_a_rest_follows()
    {
        for (bytes, is_kept) in [(1050, false), (1100, false), (1101, true)] {
            let (mut schedule, mut now) = (SendSchedule::new(Some(4)), 0);
            (0..40).for_each(|key| schedule.enter(0, key, address(key)));
            assert_eq!(schedule.poll(now), None);
            pass_window(&mut schedule, &mut now, 1000);
            assert_eq!((schedule.slots, schedule.counts()), (6, (6, 34)), "a trial");
            pass_window(&mut schedule, &mut now, bytes);
            assert_eq!(schedule.slots, if is_kept { 6 } else { 4 }, "{bytes}");
            let mut windows = 0;
            let slots = schedule.slots;
            while schedule.slots == slots && windows < 100 {
                pass_window(&mut schedule, &mut now, 1000);
                windows += 1;
            }
            let rest = if is_kept { 1..=1 } else { REST_WINDOWS..=REST_WINDOWS + 2 };
            assert!(
                schedule.slots == slots + slots / 2 && rest.contains(&windows),
                "{bytes}: {windows} windows"
            );
            // What was learnt of one storm says nothing of the next.
            (0..40).for_each(|key| schedule.leave(now, key));
            (0..40).for_each(|key| schedule.enter(now, key, address(key)));
            assert_eq!(schedule.counts(), (4, 36));
        }
    }

    #[test]
    fn u8_readers_that_have_answered_nothing_for_4_s_are_taken_for_dead() {
        let answered = ReaderProgress { answered_at: Some(SECOND), latest: SECOND };
        for (since, is_alive) in
            [(0, true), (READING_MAX - 1, true), (READING_MAX, false), (READING_MAX + 1, false)]
        {
            assert_eq!(answered.are_alive(SECOND + since), is_alive, "{since}");
            assert_eq!(
                ReaderProgress::default().have_in_line(SECOND + since, SECOND),
                is_alive,
                "{since}"
            );
        }
    }

    #[test]
    fn u8_a_body_that_waits_for_a_reader_holds_its_slot_for_a_while() {
        let mut schedule = SendSchedule::new(Some(2));
        for key in 0..6 {
            schedule.enter(0, key, address(key));
            schedule.reads(0, key);
        }
        let mut now = 0;
        while now + 2 * WINDOW < READING_MAX {
            now += WINDOW;
            assert_eq!((schedule.poll(now), schedule.counts()), (None, (2, 4)));
        }
        // One goes on, and the disk of the other one is dead.
        let mut admitted = Vec::new();
        while now < 2 * READING_MAX + 2 * WINDOW {
            schedule.has_read(now, 0);
            now += WINDOW;
            schedule.taken(0, MB);
            admitted.extend(std::iter::from_fn(|| schedule.poll(now)).filter(|key| *key > 1));
            schedule.reads(now, 0);
        }
        assert_eq!(admitted.first(), Some(&2), "who asked later has been answered");
    }

    /// Bodies whose every piece must be read, by a reader that takes one after the other.
    struct Disk {
        schedule: SendSchedule<u32>,
        /// Who waits for it, the next one first.
        line: VecDeque<u32>,
        bodies: Vec<Fed>,
        ended: usize,
        /// From one piece to the next, and when the next one is there.
        piece: ScheduleTick,
        next: ScheduleTick,
    }

    #[derive(Clone, Debug, Default)]
    struct Fed {
        left: u64,
        moved: ScheduleTick,
        longest_silence: ScheduleTick,
        is_in_line: bool,
        is_parked: bool,
    }

    impl Disk {
        /// All of them begin at once.
        fn new(slots: Option<usize>, bodies: usize, piece: ScheduleTick) -> Self {
            let fed = Fed { left: 40 * MB, ..Fed::default() };
            let (schedule, bodies) = (SendSchedule::new(slots), vec![fed; bodies]);
            let mut disk =
                Self { schedule, line: VecDeque::new(), bodies, ended: 0, piece, next: 0 };
            for key in 0..disk.bodies.len() {
                disk.schedule.enter(0, key as u32, address(key));
                disk.go_on(0, key as u32);
            }
            disk
        }

        /// Runs until all have all, and returns when that was.
        fn run(&mut self) -> ScheduleTick {
            let mut now = 0;
            while self.ended < self.bodies.len() {
                assert!(now < 10_000 * SECOND, "somebody never ends");
                self.step(now);
                now += MS;
            }
            now
        }

        fn step(&mut self, now: ScheduleTick) {
            while let Some(key) = self.schedule.poll(now) {
                let body = &mut self.bodies[key as usize];
                if body.is_in_line {
                    self.send(now, key, TRICKLE_BYTES);
                } else if std::mem::take(&mut body.is_parked) {
                    self.go_on(now, key);
                }
            }
            if now >= self.next
                && let Some(key) = self.line.pop_front()
            {
                self.bodies[key as usize].is_in_line = false;
                self.schedule.has_read(now, key);
                self.send(now, key, 8 << 20);
                self.go_on(now, key);
                self.next = now + self.piece;
            }
        }

        fn go_on(&mut self, now: ScheduleTick, key: u32) {
            while self.bodies[key as usize].left > 0 {
                match self.schedule.ask(now, key) {
                    0 => {
                        self.bodies[key as usize].is_parked = true;
                        return;
                    }
                    u64::MAX => {
                        self.schedule.reads(now, key);
                        self.line.push_back(key);
                        self.bodies[key as usize].is_in_line = true;
                        return;
                    }
                    trickle => self.send(now, key, trickle),
                }
            }
        }

        fn send(&mut self, now: ScheduleTick, key: u32, bytes: u64) {
            let body = &mut self.bodies[key as usize];
            let bytes = bytes.min(body.left);
            body.left -= bytes;
            body.longest_silence = body.longest_silence.max(now - body.moved);
            body.moved = now;
            self.schedule.taken(key, bytes);
            if body.left == 0 {
                self.ended += 1;
                self.line.retain(|waiting| *waiting != key);
                self.schedule.leave(now, key);
            }
        }
    }

    #[test]
    fn u8_nobody_falls_silent_however_slowly_pieces_are_read() {
        // From memory to a disk where the line of sixteen is longer than any firmware's timer.
        for (bodies, piece) in [(500, 3 * MS), (500, 40 * MS), (100, 400 * MS)] {
            let mut ordered = Disk::new(Some(16), bodies, piece);
            let (end, end_equal) = (ordered.run(), Disk::new(None, bodies, piece).run());
            let longest = ordered.bodies.iter().map(|body| body.longest_silence).max().unwrap();
            // A pause before its turn, and one more until the first piece is read.
            assert!(longest <= 2 * TRICKLE_PAUSE, "{piece}: {longest}");
            assert!(end * 100 <= end_equal * 101, "{piece}: {end}, in equal shares {end_equal}");
        }
    }

    #[test]
    fn u8_a_slow_disk_is_not_made_slower_by_more_readers() {
        // Sixteen wait for eight seconds for each piece.
        let mut disk = Disk::new(Some(16), 100, 500 * MS);
        let mut most = 0;
        for now in (0..60_000).map(|ms| ms * MS) {
            disk.step(now);
            most = most.max(disk.schedule.counts().0);
        }
        assert!(most <= 24, "{most} at full speed");
    }

    #[test]
    fn u8_who_comes_late_has_its_share_soon_whatever_others_go_on_asking_for() {
        // Ten addresses that keep 32 bodies of 40 MB each under way, or 64 that fetch one after the
        // other; then ten machines more.
        for (hogs, at_a_time) in [(10, 32), (64, 1)] {
            let mut storm =
                Storm::new(Some(16), hogs * at_a_time + 10, &[40 * MB], 1000 * MB, 1000 * MB);
            let late = hogs * at_a_time;
            for (key, machine) in storm.machines.iter_mut().enumerate() {
                machine.address =
                    if key < late { address(key / at_a_time) } else { address(1000 + key) };
                machine.files = if key < late { vec![40 * MB; 1000] } else { Vec::new() };
                machine.begins = if key < late { 0 } else { 5 * SECOND };
            }
            for machine in &mut storm.machines[late..] {
                machine.files = vec![40 * MB];
            }
            let mut now = 0;
            while storm.machines[late..].iter().any(|machine| machine.ended.is_none()) {
                assert!(now < 60 * SECOND, "{hogs} x {at_a_time}: somebody never ends");
                storm.step(now);
                now += MS;
            }
            assert!(now < 5 * SECOND + 10 * SECOND, "{hogs} x {at_a_time}: {now}");
        }
    }

    #[test]
    fn switched_off_it_holds_nobody_back_and_keeps_nothing() {
        let mut schedule = SendSchedule::new(None);
        for key in 0..100 {
            schedule.enter(0, key, address(key));
            assert_eq!(schedule.ask(0, key), u64::MAX);
        }
        assert_eq!(
            (schedule.poll(SECOND), schedule.next_timeout(), schedule.counts()),
            (None, None, (0, 0))
        );
    }

    #[test]
    fn whoever_waits_is_named_at_the_time_that_is_told() {
        let mut schedule = SendSchedule::new(Some(1));
        schedule.enter(0, 1, address(1));
        assert_eq!((schedule.ask(0, 1), schedule.next_timeout()), (u64::MAX, None), "nobody waits");
        schedule.enter(0, 2, address(2));
        assert_eq!([schedule.ask(0, 2), schedule.ask(0, 2)], [TRICKLE_BYTES, 0]);
        let mut now = 0;
        loop {
            let due = schedule.next_timeout().expect("somebody waits");
            assert!(due > now && due <= TRICKLE_PAUSE, "{due} after {now}: no turn for nothing");
            now = due;
            match schedule.poll(now) {
                None => {}
                named => break assert_eq!(named, Some(2)),
            }
        }
    }

    #[test]
    fn a_body_that_is_given_up_leaves_nothing_behind() {
        let mut schedule = SendSchedule::new(Some(1));
        for key in 0..10 {
            schedule.enter(0, key, address(key));
            schedule.ask(0, key);
            schedule.ask(0, key);
        }
        for key in (0..10).rev() {
            schedule.leave(MS, key);
        }
        assert_eq!(schedule.poll(10 * SECOND), None);
        assert_eq!((schedule.next_timeout(), schedule.counts()), (None, (0, 0)));
    }
}
