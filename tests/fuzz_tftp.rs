//! Hostile bytes and any order of events against the TFTP room: no panic, no session too many, no content lost.
//!
//! `SEED=n cargo test --test fuzz_tftp` repeats one round; the round that fails prints its seed.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ringboot::tftp::Tick;
use ringboot::tftp::client::{Behaviour, Client};
use ringboot::tftp::limits::{Limits, MILLISECOND, SECOND};
use ringboot::tftp::options::OptionPolicy;
use ringboot::tftp::packet::{Packet, Refusal, Request, parse};
use ringboot::tftp::random::Random;
use ringboot::tftp::table::{Action, Failure, Local, Policy, Table, TransferId};

const ROUNDS: u64 = 300;
/// Rounds times steps: 300,000 of each kind.
const STEPS: u64 = 1000;

/// Packets that a mutation starts from.
const CORPUS: [&[u8]; 16] = [
    b"\0\x01pxelinux.0\0octet\0tsize\x000\0blksize\x001408\0",
    b"\0\x01bootx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0",
    b"\0\x01a\\b\0netascii\0multicast\0\0timeout\x005\0",
    b"\0\x01f\0octet\0windowsize\x0065535\0blksize\x008\0timeout\x00255\0",
    b"\0\x01bootcode.bin\0octet\0",
    b"\0\x01f\0mail\0",
    b"\0\x02upload\0octet\0",
    b"\0\x03\0\x01some data of a short last block",
    b"\0\x04\0\0",
    b"\0\x04\0\x01",
    b"\0\x04\0\x04",
    b"\0\x04\xff\xff",
    b"\0\x05\0\x08User aborted the transfer\0",
    b"\0\x05\0\0\0",
    b"\0\x06blksize\x001468\0tsize\x00100\0windowsize\x004\0",
    b"\0\x06tsize\x0018446744073709551616\0blksize\x008\0",
];

fn rounds(name: &str, round: fn(&mut Random)) {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    for seed in only.map_or(0..ROUNDS, |seed: u64| seed..seed + 1) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| round(&mut Random::new(seed)))) {
            println!("failed: SEED={seed} cargo test --test fuzz_tftp {name}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A packet of the corpus, often damaged.
fn packet(random: &mut Random) -> Vec<u8> {
    let mut bytes = CORPUS[random.below(CORPUS.len() as u64) as usize].to_vec();
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len() as u64 + 1) as usize;
        let octet = random.below(256) as u8;
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, octet),
            2 if at < bytes.len() => bytes[at] = octet,
            3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            4 => bytes.extend_from_slice(CORPUS[random.below(CORPUS.len() as u64) as usize]),
            5 => bytes.resize(bytes.len() + random.below(1600) as usize, octet),
            _ => (),
        }
    }
    bytes
}

#[test]
fn t6_no_packet_panics_the_parser() {
    rounds("t6", |random| {
        for _ in 0..STEPS {
            let bytes = packet(random);
            match parse(&bytes) {
                Some(Packet::Read(Ok(asked))) => {
                    let request = Request::from(&asked);
                    assert_eq!(request.name(), asked.name);
                    assert!(request.options().eq(asked.options) && request.same(&asked));
                }
                Some(Packet::OptionAck(options)) => assert!(options.count() <= bytes.len()),
                _ => (),
            }
        }
    });
}

const LIMITS: Limits = Limits {
    transfers_max: 12,
    transfers_per_address_max: 3,
    unconfirmed_max: 6,
    waiting_max: 5,
    quiet_max: 4,
    requests_per_second_max: 50,
    requests_burst_max: 20,
};

/// A table with everything that was promised about it.
struct Watched {
    table: Table<u64>,
    now: Tick,
    tids: u16,
    /// Transfers that were opened and have not ended.
    live: BTreeSet<TransferId>,
    /// All names ever given, for calls about transfers that are long gone.
    known: Vec<TransferId>,
    contents: i64,
}

impl Watched {
    fn drain(&mut self, random: &mut Random) {
        let mut actions = 0;
        while let Some(action) = self.table.poll(self.now) {
            actions += 1;
            assert!(actions < 1000, "poll never ends");
            match action {
                Action::Open { id, request, .. } => {
                    assert!(!request.name().is_empty());
                    assert!(self.live.insert(id), "opened twice");
                    self.known.push(id);
                }
                Action::Blocks { id, content, block_size, bytes, blocks, last, tid, .. } => {
                    assert!(self.live.contains(&id) && tid.is_none_or(|tid| tid < self.tids));
                    assert!((1..=32).contains(&blocks) && (8..=1468).contains(&block_size));
                    let whole = u64::from(blocks) * u64::from(block_size);
                    let octets = bytes.end - bytes.start;
                    assert!(bytes.end <= *content && octets <= whole && last == (octets < whole));
                    if random.below(20) == 0 {
                        self.table.unsent(self.now, id, random.below(u64::from(blocks)) as u32);
                    }
                }
                Action::Datagram { bytes, tid, .. } => {
                    assert!(tid.is_none_or(|tid| tid < self.tids));
                    assert!(matches!(parse(bytes), Some(Packet::OptionAck(_) | Packet::Error { .. })));
                }
                Action::Ended { id, content, .. } => {
                    self.live.remove(&id);
                    self.contents -= i64::from(content.is_some());
                }
            }
        }
        assert!(self.table.transfers() <= LIMITS.transfers_max);
        assert!(self.table.sessions() <= LIMITS.transfers_max + LIMITS.waiting_max + LIMITS.quiet_max);
    }

    fn step(&mut self, random: &mut Random) {
        let peer =
            SocketAddr::new(Ipv4Addr::new(10, 0, 0, random.below(4) as u8).into(), 2000 + random.below(4) as u16);
        let local = Local { address: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), interface: 1 };
        let id = self.known.get(random.below(self.known.len() as u64) as usize).copied();
        let recent = self.known.last().copied();
        let now = self.now;
        match (random.below(12), id, recent) {
            (0..=2, ..) => self.table.handle_listen(now, peer, local, random.below(20) == 0, &packet(random)),
            (3..=5, ..) if self.tids > 0 => {
                let tid = random.below(u64::from(self.tids)) as u16;
                self.table.handle_tid(now, tid, peer, local, &packet(random));
            }
            (6..=7, _, Some(id)) | (8, Some(id), _) => {
                let len = random.below(20_000);
                self.contents += 1;
                let answer = if random.below(5) == 0 { Err(Refusal::NOT_FOUND) } else { Ok((len, len)) };
                let refused = answer.is_err();
                let back = self.table.opened(now, id, answer).is_some();
                self.contents -= i64::from(refused || back);
            }
            (9, Some(id), _) => match random.below(4) {
                0 => self.table.unsent(now, id, random.below(8) as u32),
                1 => self.table.resume(id),
                2 => self.table.failed(now, id, Failure::ContentLost),
                _ => self
                    .table
                    .restrict(id, OptionPolicy { blksize: false, windowsize: false, ..OptionPolicy::default() }),
            },
            (10, ..) => self.now += random.below(20 * MILLISECOND),
            (11, ..) if random.below(10) == 0 => self.now += random.below(10 * SECOND),
            _ => (),
        }
        self.table.handle_timeouts(self.now);
        self.drain(random);
    }
}

#[test]
fn t65_no_order_of_events_breaks_the_table_or_its_bounds() {
    rounds("t65", |random| {
        let tids = random.below(4) as u16;
        let policy = Policy { tids, limits: LIMITS, ..Policy::default() };
        let table = Table::new(policy, random.next_number());
        let mut watched = Watched { table, now: 0, tids, live: BTreeSet::new(), known: Vec::new(), contents: 0 };
        for _ in 0..STEPS {
            watched.step(random);
        }
        // Left alone, the table forgets everybody and hands everything back.
        for _ in 0..10_000 {
            let Some(next) = watched.table.next_timeout() else { break };
            watched.now = watched.now.max(next);
            watched.table.handle_timeouts(watched.now);
            watched.drain(random);
        }
        assert_eq!(watched.table.sessions(), 0);
        assert_eq!((watched.contents, watched.live.len()), (0, 0));
    });
}

#[test]
fn t11_no_server_panics_a_client() {
    rounds("t11", |random| {
        let firmware = [Behaviour::edk2(), Behaviour::grub(), Behaviour::uboot(8), Behaviour::pi3(), Behaviour::ipxe()];
        let mut clients: Vec<_> = firmware.into_iter().map(|firmware| (Client::new(firmware, b"f", 1), 0)).collect();
        let mut now = 0;
        for _ in 0..STEPS / clients.len() as u64 {
            now += random.below(SECOND);
            for (client, received) in &mut clients {
                let mut bytes = packet(random);
                if random.below(2) == 0 {
                    let block = random.below(6) as u8;
                    bytes = [&[0, 3, 0, block][..], &vec![block; [512, 1024, 1468][block as usize % 3]]].concat();
                }
                if let Some(piece) = client.handle(now, 4000 + random.below(2) as u16, &bytes) {
                    assert_eq!(piece.offset, *received);
                    *received += piece.bytes.len() as u64;
                }
                client.handle_timeout(now);
                while let Some(transmit) = client.poll_transmit(now) {
                    assert!(parse(transmit.bytes).is_some());
                }
                assert!(client.outcome().is_none() || client.poll_timeout().is_none());
            }
        }
    });
}
