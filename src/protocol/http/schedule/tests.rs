//! The schedule against storms, slow clients, dead disks and greedy machines.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::Ipv4Addr;

use super::*;
use crate::model::places::{MEMORY, ROUND_PLACES};

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
    /// Bytes that the kernel takes ahead of a machine.
    buffer: u64,
}

struct Fetching {
    files: Vec<u64>,
    left: u64,
    allowed: u64,
    held: u64,
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
            held: 0,
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
            buffer: 0,
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
        let machines = &self.machines;
        self.schedule.discount_held(now, |key| machines[key as usize].held);
        while let Some(key) = self.schedule.poll(now) {
            self.machines[key as usize].parked = false;
        }
        for (key, machine) in self.machines.iter_mut().enumerate() {
            let has_all = machine.left == 0 && machine.held == 0;
            if has_all && machine.ended.is_none() && now >= machine.begins {
                match machine.files.pop() {
                    Some(bytes) => {
                        machine.left = bytes;
                        self.schedule.begin_body(now, key as u32, machine.address);
                    }
                    None => machine.ended = Some(now),
                }
            }
            if machine.left > 0 && machine.allowed == 0 && !machine.parked {
                machine.allowed = self.schedule.grant_bytes(now, key as u32).min(machine.left);
                machine.parked = machine.allowed == 0;
            }
        }
        // Without a buffer the kernel takes what the machine takes.
        let has_bytes = |machine: &Fetching| machine.allowed + machine.held > 0 && machine.takes;
        let sending = self.machines.iter().filter(|machine| has_bytes(machine)).count() as u64;
        let share = (self.link / 1000 / sending.max(1)).min(self.each / 1000);
        for (key, machine) in self.machines.iter_mut().enumerate() {
            let room = self.buffer.saturating_sub(machine.held);
            let room = if self.buffer == 0 && machine.takes { share } else { room };
            let bytes = room.min(machine.allowed);
            machine.allowed -= bytes;
            machine.left -= bytes;
            machine.held += bytes;
            self.schedule.count_sent(key as u32, bytes);
            if machine.held == 0 || !machine.takes {
                continue;
            }
            machine.held -= share.min(machine.held);
            machine.longest_pause = machine.longest_pause.max(now - machine.moved);
            machine.moved = now;
            if machine.left == 0 && machine.held == 0 {
                self.schedule.end_body(now, key as u32);
            }
        }
    }
}

fn median(ends: &[ScheduleTick]) -> ScheduleTick {
    ends[ends.len() / 2]
}

/// The median machine ends before so many percent of its time with equal shares, and the last one
/// no later.
fn assert_earlier(ordered: &[ScheduleTick], equal: &[ScheduleTick], percent: u64) {
    let (middle, middle_equal) = (median(ordered), median(equal));
    assert!(middle * 100 < middle_equal * percent, "{middle} {middle_equal}");
    let (last, last_equal) = (ordered.last().unwrap(), equal.last().unwrap());
    assert!(last * 100 < last_equal * 102, "{last} {last_equal}");
}

#[test]
fn u8_on_a_full_link_the_median_halves_and_the_last_is_no_later() {
    let files = [8 * MB, 32 * MB];
    let equal = Storm::new(None, 500, &files, 2000 * MB, 1000 * MB).run();
    let ordered = Storm::new(Some(16), 500, &files, 2000 * MB, 1000 * MB).run();
    assert_earlier(&ordered, &equal, 55);
}

#[test]
fn u8_what_the_kernel_takes_ahead_is_not_taken_for_a_fast_link() {
    // 200 machines on 1 Gbit/s: the kernel takes megabytes of each further body at once, and then
    // nothing for a while. 184 bodies that wait send trickles meanwhile.
    let storm = |slots| {
        let mut storm = Storm::new(slots, 200, &[8 * MB], 125 * MB, 125 * MB);
        storm.buffer = 4 * MB;
        storm.run()
    };
    let (equal, ordered) = (storm(None), storm(Some(16)));
    assert_earlier(&ordered, &equal, 57);
}

#[test]
fn u8_slow_clients_do_not_leave_a_fast_link_unused() {
    // 100 machines that take 5 MB/s each: four at a time would take 25 times as long.
    for buffer in [0, 4 * MB] {
        let storm = |slots| {
            let mut storm = Storm::new(slots, 100, &[40 * MB], 2000 * MB, 5 * MB);
            storm.buffer = buffer;
            storm.run()
        };
        let (equal, ordered) = (storm(None), storm(Some(4)));
        let (last, last_equal) = (ordered.last().unwrap(), equal.last().unwrap());
        assert!(last * 100 < last_equal * 160, "{buffer}: {last} {last_equal}");
    }
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
        schedule.begin_body(0, key, address(key));
        assert!(schedule.grant_bytes(0, key) >= TRICKLE_BYTES);
    }
    assert_eq!(schedule.counts(), (1, 499));
    assert_eq!(schedule.grant_bytes(1, 7), 0, "and then one waits");
}

#[test]
fn u8_a_machine_keeps_its_place_from_kernel_to_ramdisk() {
    let mut schedule = SendSchedule::new(Some(1));
    for machine in 0..3 {
        schedule.begin_body(0, machine, address(machine));
    }
    schedule.end_body(MS, 0);
    assert_eq!(schedule.poll(MS), Some(1));
    schedule.begin_body(2 * MS, 10, address(0));
    schedule.end_body(3 * MS, 1);
    assert_eq!(schedule.poll(3 * MS), Some(10), "before machine 2, which came later");
}

#[test]
fn u8_a_machine_that_comes_again_later_stands_at_the_end() {
    let mut schedule = SendSchedule::new(Some(1));
    schedule.begin_body(0, 0, address(0));
    schedule.end_body(MS, 0);
    let later = MS + MEMORY;
    for (key, machine) in [(1, 1), (2, 2), (3, 0)] {
        schedule.begin_body(later, key, address(machine));
    }
    schedule.end_body(later, 1);
    assert_eq!(schedule.poll(later), Some(2));
}

#[test]
fn u8_each_further_body_of_a_machine_stands_32_places_behind() {
    let mut schedule = SendSchedule::new(Some(1));
    (0..3).for_each(|key| schedule.begin_body(0, key, address(0)));
    (3..100).for_each(|key| schedule.begin_body(0, key, address(key)));
    let mut order = vec![0];
    while let Some(key) = order.last().copied().filter(|_| order.len() < 100) {
        schedule.end_body(MS, key);
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
    running.iter().for_each(|key| schedule.count_sent(*key, 1));
    schedule.count_sent(running[0], bytes - running.len() as u64);
    *now += WINDOW;
    while schedule.poll(*now).is_some() {}
}

#[test]
fn u8_half_as_many_slots_more_are_kept_where_they_bring_over_a_tenth_more_else_a_rest_follows() {
    for (bytes, is_kept) in [(1050, false), (1100, false), (1101, true)] {
        let (mut schedule, mut now) = (SendSchedule::new(Some(4)), 0);
        (0..40).for_each(|key| schedule.begin_body(0, key, address(key)));
        assert_eq!(schedule.poll(now), None);
        pass_window(&mut schedule, &mut now, 1000);
        assert_eq!(schedule.slots, 4, "the first window is not judged");
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
        (0..40).for_each(|key| schedule.end_body(now, key));
        (0..40).for_each(|key| schedule.begin_body(now, key, address(key)));
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
        schedule.begin_body(0, key, address(key));
        schedule.begin_read(0, key);
    }
    let mut now = 0;
    while now + 2 * WINDOW < READING_MAX {
        now += WINDOW;
        assert_eq!((schedule.poll(now), schedule.counts()), (None, (2, 4)));
    }
    // One goes on, and the disk of the other one is dead.
    let mut admitted = Vec::new();
    while now < 2 * READING_MAX + 2 * WINDOW {
        schedule.end_read(now, 0);
        now += WINDOW;
        schedule.count_sent(0, MB);
        admitted.extend(std::iter::from_fn(|| schedule.poll(now)).filter(|key| *key > 1));
        schedule.begin_read(now, 0);
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
        let mut disk = Self { schedule, line: VecDeque::new(), bodies, ended: 0, piece, next: 0 };
        for key in 0..disk.bodies.len() {
            disk.schedule.begin_body(0, key as u32, address(key));
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
            self.schedule.end_read(now, key);
            self.send(now, key, 8 << 20);
            self.go_on(now, key);
            self.next = now + self.piece;
        }
    }

    fn go_on(&mut self, now: ScheduleTick, key: u32) {
        while self.bodies[key as usize].left > 0 {
            match self.schedule.grant_bytes(now, key) {
                0 => {
                    self.bodies[key as usize].is_parked = true;
                    return;
                }
                u64::MAX => {
                    self.schedule.begin_read(now, key);
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
        self.schedule.count_sent(key, bytes);
        if body.left == 0 {
            self.ended += 1;
            self.line.retain(|waiting| *waiting != key);
            self.schedule.end_body(now, key);
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
        schedule.begin_body(0, key, address(key));
        assert_eq!(schedule.grant_bytes(0, key), u64::MAX);
    }
    assert_eq!(
        (schedule.poll(SECOND), schedule.next_timeout(), schedule.counts()),
        (None, None, (0, 0))
    );
}

#[test]
fn whoever_waits_is_named_at_the_time_that_is_told() {
    let mut schedule = SendSchedule::new(Some(1));
    schedule.begin_body(0, 1, address(1));
    assert_eq!(
        (schedule.grant_bytes(0, 1), schedule.next_timeout()),
        (u64::MAX, None),
        "nobody waits"
    );
    schedule.begin_body(0, 2, address(2));
    assert_eq!([schedule.grant_bytes(0, 2), schedule.grant_bytes(0, 2)], [TRICKLE_BYTES, 0]);
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
        schedule.begin_body(0, key, address(key));
        schedule.grant_bytes(0, key);
        schedule.grant_bytes(0, key);
    }
    for key in (0..10).rev() {
        schedule.end_body(MS, key);
    }
    assert_eq!(schedule.poll(10 * SECOND), None);
    assert_eq!((schedule.next_timeout(), schedule.counts()), (None, (0, 0)));
}
