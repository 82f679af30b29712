//! Storms on links that are slower than the server, a tenth of a millisecond at a time.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::super::super::limits::{MICROSECOND, MILLISECOND, SECOND};
use super::*;
use crate::tftp::table::{LocalAddress, TableAction, TftpPolicy, TransferOutcome};

const STEP: Tick = 100 * MICROSECOND;
const BLOCK: u64 = 1468;
/// What the kernel counts for a block of an Ethernet frame.
const COUNTED: u64 = 2304;
const MIB: u64 = 1024 * 1024;

/// Machines that fetch a file of `len` bytes each by one link.
struct Storm {
    table: TransferTable<()>,
    now: Tick,
    len: u64,
    /// Blocks that the link sends in a step, and the blocks that its queue holds at most.
    rate: u64,
    room: u64,
    queue: VecDeque<QueuedRun>,
    /// Acknowledgements on their way: when they arrive, and what they name.
    acks: VecDeque<(Tick, usize, u16)>,
    machines: Vec<Fetching>,
    lost: u64,
    sent: u64,
    idle_steps: u64,
    held_most: usize,
}

struct QueuedRun {
    machine: usize,
    blocks: u64,
    last: u16,
}

#[derive(Default)]
struct Fetching {
    tid: Option<u16>,
    heard: Tick,
    longest_silence: Tick,
    ended: Option<(Tick, TransferOutcome)>,
}

fn peer(machine: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 1 + (machine / 200) as u8, 1 + (machine % 200) as u8], 2070))
}

fn find_machine(peer: SocketAddr) -> usize {
    let IpAddr::V4(address) = peer.ip() else { panic!("{peer}") };
    let [_, _, high, low] = address.octets();
    usize::from(high - 1) * 200 + usize::from(low - 1)
}

fn server() -> LocalAddress {
    LocalAddress { address: IpAddr::from([10, 0, 0, 1]), interface: 2 }
}

impl Storm {
    fn new(machines: usize, len: u64, rate: u64) -> Self {
        Self {
            table: TransferTable::new(TftpPolicy::default(), 7),
            now: SECOND,
            len,
            rate,
            room: u64::MAX,
            queue: VecDeque::new(),
            acks: VecDeque::new(),
            machines: (0..machines).map(|_| Fetching::default()).collect(),
            lost: 0,
            sent: 0,
            idle_steps: 0,
            held_most: 0,
        }
    }

    /// Switches a machine on.
    fn ask(&mut self, machine: usize, options: &[u8]) {
        let request = [b"\0\x01vmlinuz\0octet\0", options].concat();
        self.table.handle_listen(self.now, peer(machine), server(), false, &request);
        self.machines[machine].heard = self.now;
        self.act();
    }

    /// Runs until every machine has its file; the times from the first request to each end.
    fn run(&mut self) -> Vec<Tick> {
        while self.machines.iter().any(|machine| machine.ended.is_none()) {
            assert!(self.now < 200 * SECOND, "somebody never ends");
            self.step();
        }
        let ends = self.machines.iter().map(|machine| machine.ended.unwrap());
        assert!(ends.clone().all(|(_, how)| how == TransferOutcome::Complete));
        ends.map(|(at, _)| at - SECOND).collect()
    }

    fn step(&mut self) {
        self.now += STEP;
        let mut left = self.rate;
        while let Some(run) = self.queue.front_mut().filter(|_| left > 0) {
            let part = run.blocks.min(left);
            (run.blocks, left) = (run.blocks - part, left - part);
            let (machine, last, is_whole) = (run.machine, run.last, run.blocks == 0);
            self.hear(machine);
            if is_whole {
                self.queue.pop_front();
                self.acks.push_back((self.now + STEP, machine, last));
            }
        }
        self.idle_steps += u64::from(left > 0);
        while let Some((at, machine, block)) = self.acks.front().copied() {
            if at > self.now {
                break;
            }
            self.acks.pop_front();
            let tid = self.machines[machine].tid.unwrap();
            let [high, low] = block.to_be_bytes();
            let ack = [0, 4, high, low];
            self.table.handle_tid(self.now, tid, peer(machine), server(), &ack);
        }
        self.table.handle_timeouts(self.now);
        while let Some(link) = self.table.find_look(self.now) {
            let backlog = self.count_queued() * COUNTED;
            self.table.note_backlog(self.now, link, backlog);
        }
        self.act();
        self.held_most = self.held_most.max(self.table.held());
    }

    fn count_queued(&self) -> u64 {
        self.queue.iter().map(|run| run.blocks).sum()
    }

    fn hear(&mut self, machine: usize) {
        let machine = &mut self.machines[machine];
        machine.longest_silence = machine.longest_silence.max(self.now - machine.heard);
        machine.heard = self.now;
    }

    fn act(&mut self) {
        let mut queued = self.count_queued();
        loop {
            match self.table.poll(self.now) {
                None => return,
                Some(TableAction::Open { id, .. }) => {
                    let _ = self.table.finish_open(self.now, id, Ok(((), self.len)));
                }
                Some(TableAction::Datagram { peer, tid, .. }) => {
                    let machine = find_machine(peer);
                    self.machines[machine].tid = tid;
                    self.acks.push_back((self.now + STEP, machine, 0));
                }
                Some(TableAction::Blocks { wanted, .. }) => {
                    let blocks = u64::from(wanted.blocks);
                    self.sent += blocks;
                    let last = wanted.first.wrapping_add((blocks - 1) as u16);
                    if queued + blocks > self.room {
                        self.lost += blocks;
                        continue;
                    }
                    queued += blocks;
                    let machine = find_machine(wanted.peer);
                    self.queue.push_back(QueuedRun { machine, blocks, last });
                }
                Some(TableAction::Ended { end, .. }) => {
                    self.machines[find_machine(end.peer)].ended = Some((self.now, end.outcome));
                }
            }
        }
    }
}

/// Machines that come a millisecond apart, and the times at which they have their files.
fn play(storm: &mut Storm, options: &[u8]) -> Vec<Tick> {
    for machine in 0..storm.machines.len() {
        storm.ask(machine, options);
        (0..10).for_each(|_| storm.step());
    }
    storm.run()
}

/// How many pairs of neighbours end in the order of their arrival, in per cent.
fn count_ordered(ends: &[Tick]) -> usize {
    ends.windows(2).filter(|pair| pair[0] <= pair[1]).count() * 100 / (ends.len() - 1)
}

fn find_median(ends: &[Tick]) -> Tick {
    let mut sorted = ends.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

const LOCKSTEP: &[u8] = b"blksize\x001468\0";
const WINDOWS: &[u8] = b"blksize\x001468\0windowsize\x0032\0";

#[test]
fn on_a_full_link_machines_end_in_order_and_the_last_no_later() {
    for (options, machines, rate) in [(LOCKSTEP, 60, 2), (WINDOWS, 30, 2), (WINDOWS, 60, 8)] {
        let mut storm = Storm::new(machines, 2 * MIB, rate);
        let ends = play(&mut storm, options);
        let last = *ends.iter().max().unwrap();
        let blocks = machines as u64 * (2 * MIB / BLOCK + 1);
        let least = blocks / rate * STEP;

        assert!(storm.held_most > machines / 2, "{}", storm.held_most);
        assert!(count_ordered(&ends) >= 90, "{ends:?}");
        assert!(find_median(&ends) * 10 < last * 7, "{ends:?}");
        assert!(last * 100 < least * 104, "{last} ns instead of {least}");
        assert_eq!(storm.sent, blocks, "nothing is sent twice");
    }
}

#[test]
fn t44_who_waits_hears_something_inside_the_timer_of_its_firmware() {
    for (options, patience) in [(LOCKSTEP, 110), (WINDOWS, 1100), (b"timeout\x001\0", 300)] {
        let mut storm = Storm::new(60, 2 * MIB, 4);
        play(&mut storm, options);
        let silence = storm.machines.iter().map(|machine| machine.longest_silence).max().unwrap();
        assert!(silence <= patience * MILLISECOND, "{silence} ns");
        assert!(silence >= patience / 2 * MILLISECOND, "{silence} ns: the test waits for nothing");
    }
}

#[test]
fn a_storm_with_windows_loses_nothing_in_the_queue_of_its_link() {
    let mut storm = Storm::new(100, 2 * MIB, 8);
    storm.room = 1000;
    let ends = play(&mut storm, WINDOWS);
    // Until the queue has stood for a window, the blocks may be too many for it.
    assert!(storm.lost < 1000, "{}", storm.lost);
    assert!(count_ordered(&ends) >= 80, "{ends:?}");
}

#[test]
fn where_the_link_is_not_the_limit_nobody_waits() {
    // A hundred machines in lock step never have 14 blocks in the queue of a link of this rate.
    let mut storm = Storm::new(100, 2 * MIB, 2000);
    play(&mut storm, LOCKSTEP);
    assert_eq!(storm.held_most, 0);
    // Files of up to 1 MiB have no place.
    let mut storm = Storm::new(60, MIB, 2);
    play(&mut storm, LOCKSTEP);
    assert_eq!(storm.held_most, 0);
}

#[test]
fn a_transfer_that_ends_while_it_waits_leaves_nothing_behind() {
    let mut storm = Storm::new(40, 4 * MIB, 2);
    (0..40).for_each(|machine| storm.ask(machine, LOCKSTEP));
    while storm.table.held() < 20 {
        assert!(storm.now < 10 * SECOND, "nobody waits");
        storm.step();
    }
    for machine in 0..40 {
        let tid = storm.machines[machine].tid.unwrap();
        let refusal = b"\0\x05\0\x03full\0";
        storm.table.handle_tid(storm.now, tid, peer(machine), server(), refusal);
    }
    storm.act();
    let link = &storm.table.order.links[0];
    assert_eq!((storm.table.held(), link.large), (0, 0));
    assert!(link.by_rank.is_empty() && link.by_due.is_empty());
    assert_eq!(storm.table.next_look(), None);
}
