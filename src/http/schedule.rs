//! Who of a storm sends now: a few large bodies at full speed, in the order in which their machines came, and a trickle for the rest.
//!
//! Five hundred equal downloads in equal shares all end last. Served a few at a time they end one after another: on a full
//! link the last one no later, the median one after half the time. Three things keep that safe:
//!
//! - **Nobody starves.** A body that waits gets [`TRICKLE_BYTES`] each [`TRICKLE_PAUSE`], so no firmware sees a dead connection.
//! - **Nothing idles.** A body that takes nothing for a [`WINDOW`] does not count, and while more slots bring more bytes a
//!   second, there are more slots: slow clients never leave a fast link unused.
//! - **A machine keeps its place.** Its initial ramdisk follows its kernel without a second wait behind those who came later.
//!
//! Bodies of at most [`SMALL_BYTES`] (loaders, menus, answer files, ranges of an ISO) never come here: they go ahead.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;

/// Nanoseconds since the core began.
pub type Tick = u64;

/// Bodies at full speed at least. The default of `[tuning] http-slots`.
pub const SLOTS: u16 = 16;
/// Bodies up to so many bytes are never held back.
pub const SMALL_BYTES: u64 = 1024 * 1024;
/// What a body that waits may send at a time, in bytes; its first piece too.
pub const TRICKLE_BYTES: u64 = 16 * 1024;
/// From one trickle of a body to its next: well inside the shortest timer of a firmware (EDK2: 5 s, H-10).
pub const TRICKLE_PAUSE: Tick = 1_000_000_000;
/// Over which bytes are counted before slots are changed, in nanoseconds.
pub const WINDOW: Tick = 200_000_000;
/// A machine that has had no large body for so long has lost its place, in nanoseconds.
pub const MEMORY: Tick = 30_000_000_000;
/// Machines whose places are remembered; one more makes the longest idle one forgotten.
pub const MACHINES_MAX: usize = 65_536;
/// A trial with more slots has won when it brought so many percent more bytes.
const GAIN_PERCENT: u64 = 10;
/// Windows from a trial that has lost to the next one.
const REST_WINDOWS: u32 = 10;

/// The large bodies of one core. `K` names a connection.
#[derive(Debug)]
pub struct Schedule<K> {
    /// None: everybody sends at once.
    slots_min: Option<usize>,
    /// Bodies that may run now, those that stand still not counted.
    slots: usize,
    bodies: HashMap<K, Body>,
    /// In the order in which they will run.
    waiting: BTreeSet<(Rank, K)>,
    running: Vec<K>,
    /// Of those that run: they took bytes in the last window, or have just been let in.
    moving: usize,
    /// Parked until then, first due first; an entry whose body is gone or runs is passed over.
    trickles: VecDeque<(Tick, K)>,
    /// Let in and not yet told.
    admitted: VecDeque<K>,
    machines: HashMap<IpAddr, Machine>,
    places: u64,
    meter: Meter,
}

/// The machine's place, and among its own bodies the order of their beginning.
type Rank = (u64, u64);

#[derive(Debug)]
struct Body {
    rank: Rank,
    machine: IpAddr,
    is_running: bool,
    /// It runs, and took bytes in the last window or has just been let in.
    is_moving: bool,
    /// Taken in the current window.
    taken: u64,
    /// When the next trickle may leave.
    trickle_at: Tick,
}

#[derive(Clone, Copy, Debug)]
struct Machine {
    place: u64,
    bodies: u32,
    idle_since: Tick,
}

/// Bytes of windows, and the trial that is under way.
#[derive(Debug, Default)]
struct Meter {
    window_began: Tick,
    taken: u64,
    trial: Trial,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trial {
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

impl<K: Copy + Eq + Hash + Ord> Schedule<K> {
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
            trickles: VecDeque::new(),
            admitted: VecDeque::new(),
            machines: HashMap::new(),
            places: 0,
            meter: Meter::default(),
        }
    }

    /// A body of a machine begins. Small ones need not come here.
    pub fn enter(&mut self, now: Tick, key: K, machine: IpAddr) {
        if self.slots_min.is_none() {
            return;
        }
        self.leave(now, key);
        let place = self.place_of(now, machine);
        let rank = (place, self.places);
        self.places += 1;
        let is_running = self.waiting.is_empty() && self.moving < self.slots;
        self.bodies.insert(key, Body { rank, machine, is_running, is_moving: is_running, taken: 0, trickle_at: now });
        if is_running {
            self.running.push(key);
            self.moving += 1;
        } else {
            self.waiting.insert((rank, key));
        }
    }

    /// A body has ended or is given up. Unknown keys are none of ours.
    pub fn leave(&mut self, now: Tick, key: K) {
        let Some(body) = self.bodies.remove(&key) else { return };
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

    /// How many bytes this body may send next; 0: it is parked, and [`Schedule::poll`] will name it.
    pub fn ask(&mut self, now: Tick, key: K) -> u64 {
        let Some(body) = self.bodies.get_mut(&key).filter(|body| !body.is_running) else { return u64::MAX };
        if now < body.trickle_at {
            self.trickles.push_back((body.trickle_at, key));
            return 0;
        }
        body.trickle_at = now + TRICKLE_PAUSE;
        TRICKLE_BYTES
    }

    /// The kernel has taken bytes of this body.
    pub fn taken(&mut self, key: K, bytes: u64) {
        if let Some(body) = self.bodies.get_mut(&key) {
            body.taken += bytes;
            // Trickles come in waves, which would drown what a trial brings.
            self.meter.taken += if body.is_running { bytes } else { 0 };
        }
    }

    /// Who may go on: let in, or due for its trickle. To be asked until None, after each turn.
    pub fn poll(&mut self, now: Tick) -> Option<K> {
        self.count_window(now);
        if let Some(key) = self.admitted.pop_front() {
            return Some(key);
        }
        while let Some(&(due, key)) = self.trickles.front() {
            if due > now {
                return None;
            }
            self.trickles.pop_front();
            if self.bodies.get(&key).is_some_and(|body| !body.is_running && body.trickle_at == due) {
                return Some(key);
            }
        }
        None
    }

    /// When [`Schedule::poll`] is worth asking without an event before.
    pub fn next_timeout(&self) -> Option<Tick> {
        if self.waiting.is_empty() {
            return None;
        }
        let window = self.meter.window_began + WINDOW;
        Some(self.trickles.front().map_or(window, |(due, _)| window.min(*due)))
    }

    /// Bodies that run, and that wait.
    pub fn counts(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    /// The machine's place in the line: the one that it has, or the last.
    fn place_of(&mut self, now: Tick, address: IpAddr) -> u64 {
        if self.machines.len() >= MACHINES_MAX && !self.machines.contains_key(&address) {
            let kept = |machine: &Machine| machine.bodies > 0 || now.saturating_sub(machine.idle_since) < MEMORY;
            self.machines.retain(|_, machine| kept(machine));
        }
        let next = self.places;
        let machine = self.machines.entry(address).or_insert(Machine { place: next, bodies: 0, idle_since: now });
        if machine.bodies == 0 && now.saturating_sub(machine.idle_since) >= MEMORY {
            machine.place = next;
        }
        machine.bodies += 1;
        machine.place
    }

    fn admit(&mut self) {
        while self.moving < self.slots {
            let Some((_, key)) = self.waiting.pop_first() else { return };
            if let Some(body) = self.bodies.get_mut(&key) {
                // Counted as moving until a window has shown otherwise.
                (body.is_running, body.is_moving, body.taken) = (true, true, 0);
                self.running.push(key);
                self.moving += 1;
                self.admitted.push_back(key);
            }
        }
    }

    /// At the end of a window: counts who moves, judges the trial, and lets others in.
    fn count_window(&mut self, now: Tick) {
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
            u64::try_from(u128::from(self.meter.taken) * u128::from(WINDOW) / u128::from(length)).unwrap_or(u64::MAX);
        self.judge(taken);
        self.meter.window_began = now;
        self.meter.taken = 0;
        self.moving = 0;
        for key in &self.running {
            if let Some(body) = self.bodies.get_mut(key) {
                body.is_moving = std::mem::take(&mut body.taken) > 0;
                self.moving += usize::from(body.is_moving);
            }
        }
        self.admit();
    }

    fn judge(&mut self, taken: u64) {
        self.meter.trial = match self.meter.trial {
            Trial::Due => {
                let slots = self.slots;
                self.slots += slots.div_ceil(2);
                Trial::Running { slots, bytes: taken }
            }
            Trial::Running { bytes, .. } if taken > bytes.saturating_add(bytes / 100 * GAIN_PERCENT) => Trial::Due,
            Trial::Running { slots, .. } => {
                self.slots = slots;
                Trial::Resting(REST_WINDOWS)
            }
            Trial::Resting(0) => Trial::Due,
            Trial::Resting(windows) => Trial::Resting(windows - 1),
        };
    }

    /// What was learnt of one storm says nothing of the next.
    fn settle_if_empty(&mut self) {
        if self.bodies.is_empty() {
            self.slots = self.slots_min.unwrap_or(usize::MAX);
            self.meter.trial = Trial::Due;
            self.trickles.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use std::net::Ipv4Addr;

    use super::*;

    const MS: Tick = 1_000_000;
    const SECOND: Tick = 1000 * MS;
    const MB: u64 = 1_000_000;

    /// Machines that fetch files one after another over a link that all share, a millisecond at a time.
    struct Storm {
        schedule: Schedule<u32>,
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
        ended: Option<Tick>,
        moved: Tick,
        longest_pause: Tick,
    }

    fn address(machine: usize) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + machine as u32).into()
    }

    impl Storm {
        fn new(slots: Option<usize>, machines: usize, files: &[u64], link: u64, each: u64) -> Self {
            let fetching = |_| Fetching {
                files: files.iter().rev().copied().collect(),
                left: 0,
                allowed: 0,
                parked: false,
                takes: true,
                ended: None,
                moved: 0,
                longest_pause: 0,
            };
            Self { schedule: Schedule::new(slots), machines: (0..machines).map(fetching).collect(), link, each }
        }

        /// Runs until every machine that takes anything has all, and returns when each had.
        fn run(&mut self) -> Vec<Tick> {
            let mut now = 0;
            while self.machines.iter().any(|machine| machine.takes && machine.ended.is_none()) {
                assert!(now < 1000 * SECOND, "somebody never ends");
                self.step(now);
                now += MS;
            }
            let mut ends: Vec<Tick> = self.machines.iter().filter_map(|machine| machine.ended).collect();
            ends.sort_unstable();
            ends
        }

        fn step(&mut self, now: Tick) {
            while let Some(key) = self.schedule.poll(now) {
                self.machines[key as usize].parked = false;
            }
            for (key, machine) in self.machines.iter_mut().enumerate() {
                if machine.left == 0 && machine.ended.is_none() {
                    match machine.files.pop() {
                        Some(bytes) => {
                            machine.left = bytes;
                            self.schedule.enter(now, key as u32, address(key));
                        }
                        None => machine.ended = Some(now),
                    }
                }
                if machine.left > 0 && machine.allowed == 0 && !machine.parked {
                    machine.allowed = self.schedule.ask(now, key as u32).min(machine.left);
                    machine.parked = machine.allowed == 0;
                }
            }
            let sending = self.machines.iter().filter(|machine| machine.allowed > 0 && machine.takes).count() as u64;
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

    fn median(ends: &[Tick]) -> Tick {
        ends[ends.len() / 2]
    }

    #[test]
    fn u8_on_a_full_link_the_median_halves_and_the_last_is_no_later() {
        let files = [8 * MB, 32 * MB];
        let equal = Storm::new(None, 500, &files, 2000 * MB, 1000 * MB).run();
        let ordered = Storm::new(Some(16), 500, &files, 2000 * MB, 1000 * MB).run();
        assert!(median(&ordered) * 100 < median(&equal) * 55, "{} {}", median(&ordered), median(&equal));
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
        let mut schedule = Schedule::new(Some(1));
        for key in 0..500 {
            schedule.enter(0, key, address(key));
            assert!(schedule.ask(0, key) >= TRICKLE_BYTES);
        }
        assert_eq!(schedule.counts(), (1, 499));
        assert_eq!(schedule.ask(1, 7), 0, "and then one waits");
    }

    #[test]
    fn u8_a_machine_keeps_its_place_from_kernel_to_ramdisk() {
        let mut schedule = Schedule::new(Some(1));
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
        let mut schedule = Schedule::new(Some(1));
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
    fn switched_off_it_holds_nobody_back_and_keeps_nothing() {
        let mut schedule = Schedule::new(None);
        for key in 0..100 {
            schedule.enter(0, key, address(key));
            assert_eq!(schedule.ask(0, key), u64::MAX);
        }
        assert_eq!((schedule.poll(SECOND), schedule.next_timeout(), schedule.counts()), (None, None, (0, 0)));
    }

    #[test]
    fn a_body_that_is_given_up_leaves_nothing_behind() {
        let mut schedule = Schedule::new(Some(1));
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
