//! The rules that take a whole table to see: ports, repeats, refusals, quiet times, limits.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::model::network::Ipv4Network;
use crate::tftp::limits::{
    DISTRUST, MILLISECOND, NETWORK_RATE, OFFERS_MAX, OPENING_MAX, REPLIES_QUEUED_MAX,
    REQUEST_COPY_GRACE, SECOND, STILL_MIN, TransferLimits, WAITING_MAX,
};

const OPTIONS: &[u8] = b"tsize\x000\0blksize\x001468\0";
const WINDOW: &[u8] = b"blksize\x00512\0windowsize\x004\0";

/// What `poll` gave, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Did {
    Open(TransferId),
    Blocks { to: SocketAddr, tid: Option<u16>, first: u16, blocks: u32, size: u16 },
    Sent { to: SocketAddr, tid: Option<u16>, bytes: Vec<u8> },
    Ended { name: Vec<u8>, outcome: TransferOutcome, content: Option<u64> },
}

struct Bench {
    table: TransferTable<u64>,
    now: Tick,
    /// Answer to every `Open`: the length of the file, or a refusal.
    file: Result<u64, TftpRefusal>,
}

fn bench(policy: TftpPolicy) -> Bench {
    Bench { table: TransferTable::new(policy, 42), now: SECOND, file: Ok(10_000) }
}

fn machine(host: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 4, host)), port)
}

fn here() -> LocalAddress {
    LocalAddress { address: IpAddr::V4(Ipv4Addr::new(192, 168, 4, 150)), interface: 2 }
}

fn rrq(name: &str, options: &[u8]) -> Vec<u8> {
    [b"\0\x01", name.as_bytes(), b"\0octet\0", options].concat()
}

fn ack(block: u16) -> Vec<u8> {
    let [high, low] = block.to_be_bytes();
    vec![0, 4, high, low]
}

fn error(code: u8) -> Vec<u8> {
    [&[0, 5, 0, code][..], b"bye\0"].concat()
}

impl Bench {
    fn listen(&mut self, peer: SocketAddr, bytes: &[u8]) -> Vec<Did> {
        self.table.handle_listen(self.now, peer, here(), false, bytes);
        self.drain()
    }

    fn tid(&mut self, tid: Option<u16>, peer: SocketAddr, bytes: &[u8]) -> Vec<Did> {
        match tid {
            Some(tid) => self.table.handle_tid(self.now, tid, peer, here(), bytes),
            None => self.table.handle_listen(self.now, peer, here(), false, bytes),
        }
        self.drain()
    }

    fn ask(&mut self, peer: SocketAddr, name: &str, options: &[u8]) -> Vec<Did> {
        self.listen(peer, &rrq(name, options))
    }

    /// Lets time pass, with every timer in it.
    fn pass(&mut self, time: Tick) -> Vec<Did> {
        let end = self.now + time;
        let mut did = Vec::new();
        while let Some(next) = self.table.next_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.table.handle_timeouts(self.now);
            did.extend(self.drain());
        }
        self.now = end;
        did
    }

    /// Takes everything from `poll`, and answers every `Open` at once.
    fn drain(&mut self) -> Vec<Did> {
        let mut did = Vec::new();
        while let Some(one) = self.poll() {
            if let Did::Open(id) = one {
                assert_eq!(
                    self.table.finish_open(self.now, id, self.file.map(|len| (len, len))),
                    None
                );
            }
            did.push(one);
        }
        did
    }

    fn poll(&mut self) -> Option<Did> {
        Some(match self.table.poll(self.now)? {
            TableAction::Open { id, .. } => Did::Open(id),
            TableAction::Blocks { wanted, .. } => {
                let WantedBlocks { peer, tid, first, blocks, block_size, .. } = wanted;
                Did::Blocks { to: peer, tid, first, blocks, size: block_size }
            }
            TableAction::Datagram { peer, local, tid, bytes, .. } => {
                assert_eq!(local, here());
                Did::Sent { to: peer, tid, bytes: bytes.to_vec() }
            }
            TableAction::Ended { end, name, content } => {
                Did::Ended { name: name.to_vec(), outcome: end.outcome, content }
            }
        })
    }
}

/// The TID from which something was sent.
fn from(did: &[Did]) -> Option<u16> {
    let mut tids = did.iter().filter_map(|one| match one {
        Did::Blocks { tid, .. } | Did::Sent { tid, .. } => Some(*tid),
        _ => None,
    });
    tids.next_back().expect("something was sent")
}

fn opens(did: &[Did]) -> usize {
    did.iter().filter(|one| matches!(one, Did::Open(_))).count()
}

fn outcomes(did: &[Did]) -> Vec<TransferOutcome> {
    let ended = did.iter().filter_map(|one| match one {
        Did::Ended { outcome, .. } => Some(*outcome),
        _ => None,
    });
    ended.collect()
}

/// Codes of the ERRORs sent.
fn errors(did: &[Did]) -> Vec<u8> {
    let sent = did.iter().filter_map(|one| match one {
        Did::Sent { bytes, .. } if bytes[1] == 5 => Some(bytes[3]),
        _ => None,
    });
    sent.collect()
}

fn runs(did: &[Did]) -> Vec<(u16, u32)> {
    let runs = did.iter().filter_map(|one| match one {
        Did::Blocks { first, blocks, .. } => Some((*first, *blocks)),
        _ => None,
    });
    runs.collect()
}

#[test]
fn t65_refusals_are_limited_like_requests_and_each_is_counted() {
    let mut bench = bench(TftpPolicy::default());
    let asked = 1000;
    let errors: usize = (0..asked)
        .map(|_| errors(&bench.listen(machine(10, 2000), b"\0\x02up\0octet\0")).len())
        .sum();
    let counts = bench.table.counts();
    assert_eq!((counts.turned_away, counts.dropped), (errors as u64, asked - errors as u64));
    assert!(errors > 0 && counts.dropped > 0, "{counts:?}");
    // More at a time than wait for the engine: the rest is dropped as well.
    let mut bench = self::bench(TftpPolicy { per_address_limits: false, ..TftpPolicy::default() });
    for port in 1..=REPLIES_QUEUED_MAX as u16 + 7 {
        bench.table.handle_listen(
            bench.now,
            machine(10, port),
            here(),
            false,
            b"\0\x02up\0octet\0",
        );
    }
    assert_eq!((bench.drain().len(), bench.table.counts().dropped), (REPLIES_QUEUED_MAX, 7));
}

#[test]
fn t26_a_content_that_turns_out_longer_is_sent_to_its_own_end() {
    let peer = machine(10, 2000);
    let mut bench = Bench { file: Ok(1000), ..bench(TftpPolicy::default()) };
    let did = bench.ask(peer, "f", b"");
    let Some(Did::Open(id)) = did.first() else { panic!("{did:?}") };
    let (tid, mut blocks) = (from(&did), runs(&did));
    bench.table.set_len(*id, 1600);
    for block in 1..=4 {
        let did = bench.tid(tid, peer, &ack(block));
        blocks.extend(runs(&did));
        let ended: &[TransferOutcome] = if block == 4 { &[TransferOutcome::Complete] } else { &[] };
        assert_eq!(outcomes(&did), ended, "{block}");
    }
    assert_eq!(blocks, [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn t1_a_request_brings_its_file_from_first_block_to_last_ack() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2070);
    let did = bench.ask(peer, "pxelinux.0", OPTIONS);
    let tid = from(&did);
    assert_eq!(
        did[1],
        Did::Sent { to: peer, tid, bytes: b"\0\x06tsize\x0010000\0blksize\x001468\0".to_vec() }
    );
    for block in 0..7 {
        let did = bench.tid(tid, peer, &ack(block));
        assert_eq!(did, [Did::Blocks { to: peer, tid, first: block + 1, blocks: 1, size: 1468 }]);
    }
    let Did::Open(id) = did[0] else { panic!("{did:?}") };
    assert_eq!(
        (bench.table.peer(id), bench.table.content_mut(id)),
        (Some(peer), Some(&mut 10_000))
    );
    let ended = Did::Ended {
        name: b"pxelinux.0".to_vec(),
        outcome: TransferOutcome::Complete,
        content: Some(10_000),
    };
    assert_eq!(bench.tid(tid, peer, &ack(7)), [ended]);
    assert_eq!((bench.table.counts().requests, bench.table.content_mut(id)), (1, None));
    assert_eq!(bench.table.transfers(), 0);
}

#[test]
fn t3_a_write_gets_one_error_2_and_no_session() {
    let mut bench = bench(TftpPolicy::default());
    let did = bench.listen(machine(1, 2000), b"\0\x02upload\0octet\0");
    assert_eq!(errors(&did), [2]);
    assert_eq!((did.len(), bench.table.sessions()), (1, 0));
    assert_eq!(bench.pass(60 * SECOND), []);
}

#[test]
fn t4_strays_on_the_listening_port_are_dropped_and_errors_never_answered() {
    let mut bench = bench(TftpPolicy::default());
    for bytes in [
        &b"\0\x03\0\x01data"[..],
        b"\0\x04\0\x01",
        b"\0\x05\0\x05x\0",
        b"\0\x06tsize\x001\0",
        b"\0\0ab",
        b"\0\x09ab",
        b"",
    ] {
        assert_eq!(bench.listen(machine(1, 2000), bytes), [], "{bytes:?}");
    }
    assert_eq!(bench.tid(Some(3), machine(1, 2000), &error(0)), []);
    assert_eq!(bench.table.counts().strays, 7);
}

#[test]
fn t9_broadcast_requests_are_dropped() {
    let mut bench = bench(TftpPolicy::default());
    bench.table.handle_listen(bench.now, machine(1, 2000), here(), true, &rrq("f", b""));
    for address in ["255.255.255.255", "224.0.0.1", "ff02::1"] {
        let local = LocalAddress { address: address.parse().unwrap(), interface: 2 };
        bench.table.handle_listen(bench.now, machine(1, 2000), local, false, &rrq("f", b""));
    }
    assert_eq!((bench.drain(), bench.table.counts().not_served), (vec![], 4));
}

#[test]
fn t13_a_request_without_options_starts_with_data() {
    let mut bench = bench(TftpPolicy::default());
    for options in [&b""[..], b"multicast\0\0", b"blksize\x004\0"] {
        let did = bench.ask(machine(1, 2000), "f", options);
        assert_eq!(runs(&did), [(1, 1)]);
        bench.tid(from(&did), machine(1, 2000), &error(0));
    }
}

#[test]
fn t17_blocks_fit_the_mtu_of_either_family() {
    let size = |peer: SocketAddr, mtu| {
        let mut bench = bench(TftpPolicy { mtu, ..TftpPolicy::default() });
        let did = bench.ask(peer, "f", b"blksize\x0065464\0");
        match bench.tid(from(&did), peer, &ack(0))[0] {
            Did::Blocks { size, .. } => size,
            ref other => panic!("{other:?}"),
        }
    };
    assert_eq!(size(machine(1, 2000), 1500), 1468);
    assert_eq!(size("[2001:db8::1]:2000".parse().unwrap(), 1500), 1448);
    assert_eq!(size("[::ffff:192.168.4.1]:2000".parse().unwrap(), 1500), 1468);
    assert_eq!(size(machine(1, 2000), 9000), 8968);
}

#[test]
fn t23_one_client_may_be_restricted() {
    let mut bench = bench(TftpPolicy::default());
    bench.table.handle_listen(bench.now, machine(1, 2000), here(), false, &rrq("f", WINDOW));
    let Some(Did::Open(id)) = bench.poll() else { panic!() };
    bench.table.restrict_options(
        id,
        OptionPolicy { window_max: 2, block_size_max: 9000, ..OptionPolicy::default() },
    );
    assert_eq!(bench.table.finish_open(bench.now, id, Ok((1, 10_000))), None);
    let did = bench.drain();
    assert_eq!(
        did,
        [Did::Sent {
            to: machine(1, 2000),
            tid: from(&did),
            bytes: b"\0\x06blksize\x00512\0windowsize\x002\0".to_vec()
        }]
    );
}

#[test]
fn t31_content_that_is_lost_ends_with_error_0() {
    let mut bench = bench(TftpPolicy::default());
    let did = bench.ask(machine(1, 2000), "f", b"");
    let Did::Open(id) = did[0] else { panic!() };
    assert_eq!(bench.table.content(id), Some(&10_000));
    bench.table.fail_transfer(bench.now, id, TransferFailure::ContentLost);
    let did = bench.drain();
    assert_eq!(errors(&did), [0]);
    assert_eq!(outcomes(&did), [TransferOutcome::Failed(TransferFailure::ContentLost)]);
    assert_eq!(bench.table.content(id), None);
}

#[test]
fn t32_late_acks_of_a_finished_transfer_are_swallowed() {
    let mut bench = bench(TftpPolicy::default());
    bench.file = Ok(100);
    let peer = machine(1, 2000);
    let did = bench.ask(peer, "f", b"");
    let tid = from(&did);
    assert_eq!(outcomes(&bench.tid(tid, peer, &ack(1))), [TransferOutcome::Complete]);
    assert_eq!(bench.pass(1900 * MILLISECOND), []);
    assert_eq!(bench.tid(tid, peer, &ack(1)), []);
    assert_eq!(bench.pass(SECOND), []);
    assert_eq!(bench.table.sessions(), 0);
    assert_eq!(errors(&bench.tid(tid, peer, &ack(1))), [5]);
}

#[test]
fn t42_giving_up_is_told_once() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    let tid = from(&bench.ask(peer, "f", b""));
    bench.tid(tid, peer, &ack(1));
    let did = bench.pass(60 * SECOND);
    assert_eq!(runs(&did), [(2, 1); 6]);
    assert_eq!((errors(&did), outcomes(&did)), (vec![0], vec![TransferOutcome::GaveUp]));
    assert_eq!(bench.table.sessions(), 0);
}

#[test]
fn t45_the_first_answer_waits_for_nothing_but_the_file() {
    let mut bench = bench(TftpPolicy::default());
    for host in 1..=200 {
        let did = bench.ask(machine(host, 2000), "f", OPTIONS);
        assert_eq!(did.len(), 2, "Open, and the OACK in the same moment");
    }
}

#[test]
fn t46_each_transfer_of_an_endpoint_gets_another_random_tid() {
    let mut bench = bench(TftpPolicy::default());
    let mut used = std::collections::BTreeSet::new();
    let mut last = None;
    for _ in 0..100 {
        let did = bench.ask(machine(1, 2000), "f", b"");
        let tid = from(&did);
        assert!(tid.is_some() && tid != last, "not the one used last, not the listening port");
        bench.tid(tid, machine(1, 2000), &error(0));
        bench.pass(10 * SECOND);
        last = tid;
        used.insert(tid);
    }
    assert_eq!(used, (0..16).map(Some).collect(), "every socket that there is, and no other");
    // One that asks again and again: no port that late packets may still come to.
    let tids: Vec<_> =
        (0..16).map(|n| from(&bench.ask(machine(2, 2000), &n.to_string(), b""))).collect();
    assert_eq!(tids.iter().collect::<std::collections::BTreeSet<_>>().len(), 16, "{tids:?}");
}

#[test]
fn t46_of_two_ports_each_has_the_one_that_it_did_not_have_last_whoever_asks_in_between() {
    for bit in 0..15 {
        let mut bench = bench(TftpPolicy { tids: 2, ..TftpPolicy::default() });
        let peers = [2000, 2000 ^ 1 << bit].map(|port| machine(1, port));
        let mut last = [None; 2];
        for (n, peer) in peers.iter().cycle().take(8).enumerate() {
            let tid = from(&bench.ask(*peer, &n.to_string(), b""));
            assert_ne!(tid, last[n % 2], "{peer}");
            last[n % 2] = tid;
        }
    }
}

#[test]
fn keys_that_differ_in_anything_differ_in_one_of_four_words() {
    struct Words(Vec<u64>);
    impl Hasher for Words {
        fn write(&mut self, bytes: &[u8]) {
            panic!("{bytes:?}");
        }
        fn write_u64(&mut self, word: u64) {
            self.0.push(word);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let keys = [
        ("192.168.4.1:2000", None),
        ("192.168.4.1:2000", Some(0)),
        ("192.168.4.1:2000", Some(1)),
        ("192.168.4.1:2001", Some(1)),
        ("192.168.4.2:2000", None),
        ("[fd00:4::1]:2000", None),
        ("[fd00:5::1]:2000", None),
        ("[fd00:4::2]:2000", None),
        ("[fe80::1%1]:2000", None),
        ("[fe80::1%2]:2000", None),
    ];
    let words = keys.map(|(peer, tid)| {
        let mut words = Words(Vec::new());
        SessionKey { peer: peer.parse().unwrap(), tid }.hash(&mut words);
        words.0
    });
    assert!(words.iter().all(|words| words.len() == 4));
    assert_eq!(
        words.iter().collect::<std::collections::BTreeSet<_>>().len(),
        keys.len(),
        "{words:x?}"
    );
}

#[test]
fn a_transfer_is_known_by_its_number_and_no_two_have_one() {
    let mut tokens = std::collections::BTreeSet::new();
    let numbers = [0, 1, 2, 7, u32::MAX - 1, u32::MAX];
    for (index, generation) in
        numbers.iter().flat_map(|index| numbers.map(|generation| (*index, generation)))
    {
        let id = TransferId { index, generation };
        assert_eq!(TransferId::from_token(id.token()), id);
        assert!(tokens.insert(id.token()), "{id:?}");
    }
}

#[test]
fn t47_in_single_port_mode_all_leaves_from_the_listening_port() {
    let mut bench = bench(TftpPolicy { tids: 0, ..TftpPolicy::default() });
    bench.file = Ok(600);
    let (one, two) = (machine(1, 2000), machine(1, 2001));
    for peer in [one, two] {
        let did = bench.ask(peer, "f", OPTIONS);
        assert_eq!(from(&did), None);
    }
    for peer in [two, one] {
        assert_eq!(runs(&bench.listen(peer, &ack(0))), [(1, 1)]);
        assert_eq!(outcomes(&bench.listen(peer, &ack(1))), [TransferOutcome::Complete]);
        assert_eq!(bench.listen(peer, &ack(1)), []);
    }
}

#[test]
fn t48_a_stranger_at_a_tid_gets_error_5_once_a_second() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    let tid = from(&bench.ask(peer, "f", b""));
    let stranger = machine(2, 2000);
    assert_eq!(errors(&bench.tid(tid, stranger, &ack(1))), [5]);
    for _ in 0..50 {
        assert_eq!(bench.tid(tid, machine(2, 999), &ack(1)), [], "the same address from any port");
    }
    assert_eq!(
        errors(&bench.tid(tid, machine(3, 2000), b"\0\x03\0\x01x")),
        [5],
        "others have a second of their own"
    );
    assert_eq!(runs(&bench.tid(tid, peer, &ack(1))), [(2, 1)], "the session is untouched");
    bench.now += SECOND;
    assert_eq!(errors(&bench.tid(tid, stranger, &ack(1))), [5]);
    assert_eq!(bench.tid(tid, stranger, &error(5)), []);
    assert_eq!(bench.table.counts().wrong_tid, 3);
}

#[test]
fn t49_a_repeated_request_is_answered_from_the_same_session() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    let first = bench.ask(peer, "f", OPTIONS);
    bench.now += 250 * MILLISECOND;
    let again = bench.ask(peer, "f", OPTIONS);
    assert_eq!(again[..], first[1..], "the same OACK from the same TID, and no second Open");
    assert_eq!((bench.table.transfers(), bench.table.counts().repeated), (1, 1));
    let plain = machine(2, 2000);
    let first = bench.ask(plain, "f", b"");
    bench.now += 250 * MILLISECOND;
    assert_eq!(bench.ask(plain, "f", b"")[..], first[1..]);
}

#[test]
fn t49_a_request_repeated_while_the_file_is_sought_opens_nothing() {
    let mut bench = bench(TftpPolicy::default());
    let request = rrq("f", OPTIONS);
    bench.table.handle_listen(bench.now, machine(1, 2000), here(), false, &request);
    let Some(Did::Open(id)) = bench.poll() else { panic!() };
    bench.table.handle_listen(bench.now, machine(1, 2000), here(), false, &request);
    assert_eq!(bench.poll(), None);
    assert_eq!(bench.table.finish_open(bench.now, id, Ok((7, 10_000))), None);
    assert_eq!(bench.drain().len(), 1);
}

#[test]
fn t49_a_repeated_request_in_mid_transfer_begins_anew_after_a_moment_and_never_repeats_an_answer() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    let tid = from(&bench.ask(peer, "f", OPTIONS));
    bench.tid(tid, peer, &ack(0));
    bench.now += REQUEST_COPY_GRACE - 1;
    assert_eq!(bench.ask(peer, "f", OPTIONS), [], "a copy made by the network");
    bench.now += 1;
    let anew = bench.ask(peer, "f", OPTIONS);
    assert_eq!((outcomes(&anew), opens(&anew)), (vec![TransferOutcome::Replaced], 1));
    // Its answer is sought: the same request once more opens nothing, another one does.
    let request = rrq("g", OPTIONS);
    bench.table.handle_listen(bench.now, peer, here(), false, &request);
    let begun: Vec<_> = std::iter::from_fn(|| bench.poll()).collect();
    assert_eq!((outcomes(&begun), opens(&begun)), (vec![TransferOutcome::Replaced], 1));
    bench.table.handle_listen(bench.now, peer, here(), false, &request);
    assert_eq!(bench.drain(), []);
    // Offered once, the answer is repeated; offered as often as a forger is worth, it is not.
    let Some(Did::Open(id)) = begun.last() else { panic!("{begun:?}") };
    assert_eq!(bench.table.finish_open(bench.now, *id, Ok((7, 10_000))), None);
    let offers =
        (0..20).map(|_| bench.drain().len() + bench.ask(peer, "g", OPTIONS).len()).sum::<usize>();
    assert_eq!(offers, usize::from(OFFERS_MAX));
}

#[test]
fn t50_another_request_of_an_endpoint_replaces_what_it_had() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 49152);
    let old = bench.ask(peer, "bootcode.bin", b"");
    let new = bench.ask(peer, "config.txt", b"");
    assert_eq!((outcomes(&new), opens(&new)), (vec![TransferOutcome::Replaced], 1));
    assert_ne!(from(&new), from(&old));
    assert_eq!(bench.tid(from(&old), peer, &ack(1)), [], "late packets of the old one");
    assert_eq!(runs(&bench.tid(from(&new), peer, &ack(1))), [(2, 1)]);
    // The same name once more, but later: the client has begun anew.
    bench.now += SECOND / 2;
    let third = bench.ask(peer, "config.txt", b"");
    assert_eq!((outcomes(&third), opens(&third)), (vec![TransferOutcome::Replaced], 1));
}

#[test]
fn t50_a_copy_of_the_request_does_not_end_a_transfer_that_has_just_begun() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    let tid = from(&bench.ask(peer, "f", OPTIONS));
    // The client asks again just before our OACK reaches it.
    bench.pass(900 * MILLISECOND);
    bench.tid(tid, peer, &ack(0));
    assert_eq!(bench.ask(peer, "f", OPTIONS), []);
    assert_eq!(runs(&bench.tid(tid, peer, &ack(1))), [(2, 1)]);
}

#[test]
fn t51_an_error_ends_the_session_at_once_and_unanswered() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    for code in [0, 3, 8] {
        let tid = from(&bench.ask(peer, "f", OPTIONS));
        bench.tid(tid, peer, &ack(0));
        let did = bench.tid(tid, peer, &error(code));
        assert_eq!(
            (outcomes(&did), errors(&did)),
            (vec![TransferOutcome::Aborted { code: code.into() }], vec![])
        );
        assert_eq!(TransferOutcome::Aborted { code: code.into() }.is_failure(), code != 8);
        assert_eq!(bench.pass(60 * SECOND), []);
    }
}

#[test]
fn t52_a_size_probe_is_no_failure_and_does_not_delay_the_second_request() {
    let mut bench = bench(TftpPolicy::default());
    for code in [8, 0] {
        let tid = from(&bench.ask(machine(1, 2000), "bootx64.efi", OPTIONS));
        let did = bench.tid(tid, machine(1, 2000), &error(code));
        assert_eq!(outcomes(&did), [TransferOutcome::SizeProbe]);
        assert!(!TransferOutcome::SizeProbe.is_failure());
        let second = bench.ask(machine(1, 2001), "bootx64.efi", WINDOW);
        assert_eq!((second.len(), opens(&second)), (2, 1));
        bench.tid(from(&second), machine(1, 2001), &error(0));
    }
}

#[test]
fn t53_a_refusal_has_the_code_it_was_given() {
    let mut bench = bench(TftpPolicy::default());
    for (refusal, code) in [
        (TftpRefusal::INTERNAL, 0),
        (TftpRefusal::NOT_FOUND, 1),
        (TftpRefusal::ACCESS_VIOLATION, 2),
    ] {
        bench.file = Err(refusal);
        let did = bench.ask(machine(1, 2000), "../../etc/passwd", OPTIONS);
        assert_eq!(
            (errors(&did), outcomes(&did)),
            (vec![code], vec![TransferOutcome::Refused { code: refusal.code }])
        );
    }
    assert_eq!(errors(&bench.listen(machine(1, 2000), b"\0\x01f\0mail\0")), [4]);
}

#[test]
fn t54_a_missing_file_is_answered_at_once_every_time() {
    let mut bench = bench(TftpPolicy::default());
    bench.file = Err(TftpRefusal::NOT_FOUND);
    for name in 0..40 {
        let did = bench.ask(machine(1, 2000), &format!("pxelinux.cfg/{name}"), OPTIONS);
        assert_eq!(errors(&did), [1]);
        assert_eq!(bench.table.sessions(), 0);
    }
}

#[test]
fn t55_a_client_without_options_is_served_to_the_end() {
    let mut bench = bench(TftpPolicy::default());
    bench.file = Ok(52_480);
    let peer = machine(1, 49152);
    let did = bench.ask(peer, "bootcode.bin", b"");
    assert_eq!(did[1], Did::Blocks { to: peer, tid: from(&did), first: 1, blocks: 1, size: 512 });
    for block in 1..=102 {
        assert_eq!(runs(&bench.tid(from(&did), peer, &ack(block))), [(block + 1, 1)]);
    }
    assert_eq!(outcomes(&bench.tid(from(&did), peer, &ack(103))), [TransferOutcome::Complete]);
}

#[test]
fn t64_a_forged_request_is_worth_five_packets() {
    for options in [&b""[..], OPTIONS, WINDOW, b"timeout\x00255\0"] {
        let mut bench = bench(TftpPolicy::default());
        let mut did = bench.ask(machine(1, 2000), "f", options);
        did.extend(bench.pass(300 * SECOND));
        let sent =
            did.iter().filter(|one| matches!(one, Did::Blocks { .. } | Did::Sent { .. })).count();
        assert_eq!(sent, 5, "{options:?}");
        assert!(runs(&did).iter().all(|run| *run == (1, 1)));
        assert_eq!((outcomes(&did), bench.table.sessions()), (vec![TransferOutcome::GaveUp], 0));
        assert!(bench.now - SECOND <= 300 * SECOND);
    }
}

#[test]
fn t64_who_guesses_at_ports_loses_the_request_and_gets_no_windows() {
    let mut bench = bench(TftpPolicy::default());
    let victim = machine(1, 2000);
    let tid = from(&bench.ask(victim, "f", WINDOW)).unwrap();
    let wrong = (tid + 1) % 16;
    let did = bench.tid(Some(wrong), victim, &ack(0));
    assert_eq!(outcomes(&did), [TransferOutcome::Guessed]);
    assert_eq!(runs(&bench.tid(Some(tid), victim, &ack(0))), [], "the right port comes too late");
    // The next answer grants no window, and what was granted before is not sent.
    let second = machine(1, 2001);
    let did = bench.ask(second, "f", WINDOW);
    assert!(
        matches!(&did[1], Did::Sent { bytes, .. } if bytes.ends_with(b"windowsize\x001\0")),
        "{did:?}"
    );
    assert_eq!(runs(&bench.tid(from(&did), second, &ack(0))), [(1, 1)]);
    assert_eq!(bench.table.counts().guessed, 1);
    // Others are not concerned, nor is the address when nobody has guessed for a while.
    let other = machine(2, 2000);
    let did = bench.ask(other, "f", WINDOW);
    assert_eq!(runs(&bench.tid(from(&did), other, &ack(0))), [(1, 4)]);
    bench.pass(DISTRUST);
    let third = machine(1, 2002);
    let did = bench.ask(third, "f", WINDOW);
    assert_eq!(runs(&bench.tid(from(&did), third, &ack(0))), [(1, 4)]);
}

#[test]
fn t64_a_window_granted_before_somebody_guessed_leaves_as_one_block() {
    let mut bench = bench(TftpPolicy::default());
    let [one, two] = [2000, 2001].map(|port| machine(1, port));
    let granted = from(&bench.ask(one, "f", WINDOW));
    let tid = from(&bench.ask(two, "f", WINDOW)).unwrap();
    bench.tid(Some((tid + 1) % 16), two, &ack(0));
    assert_eq!(runs(&bench.tid(granted, one, &ack(0))), [(1, 1)]);
    assert_eq!(runs(&bench.tid(granted, one, &ack(1))), [(2, 4)], "it has what we sent");
}

#[test]
fn t64_an_ack_at_another_port_of_who_has_no_transfer_now_is_no_guess() {
    let limits = TransferLimits { transfers_per_address_max: 1, ..TransferLimits::default() };
    let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
    let (one, two) = (machine(1, 2000), machine(1, 2001));
    let tid = from(&bench.ask(one, "f", b"")).unwrap();
    assert_eq!(bench.ask(two, "g", WINDOW), [], "it waits for its turn");
    assert_eq!(outcomes(&bench.tid(Some(3), two, &ack(0))), []);
    let did = bench.tid(Some(tid), one, &error(0));
    assert_eq!(
        (outcomes(&did), opens(&did)),
        (vec![TransferOutcome::SizeProbe], 1),
        "its turn has come"
    );
    // The first one is over: what comes late, and goes astray, says nothing of the second.
    bench.tid(Some((tid + 1) % 16), one, &ack(1));
    assert_eq!(runs(&bench.tid(from(&did), two, &ack(0))), [(1, 4)]);
    assert_eq!(bench.table.counts().guessed, 0);
}

#[test]
fn t64_a_client_that_has_acknowledged_blocks_does_not_lose_its_transfer_to_strays() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    let tid = from(&bench.ask(peer, "f", b"")).unwrap();
    bench.tid(Some(tid), peer, &ack(1));
    assert!(outcomes(&bench.tid(Some((tid + 1) % 16), peer, &ack(1))).is_empty());
    assert_eq!(runs(&bench.tid(Some(tid), peer, &ack(2))), [(3, 1)]);
}

#[test]
fn t65_a_transfer_stands_still_when_it_is_confirmed_and_has_not_moved_for_2_s() {
    let mut bench = bench(TftpPolicy::default());
    let did = bench.ask(machine(1, 2000), "f", b"");
    let Did::Open(id) = did[0] else { panic!("{did:?}") };
    assert!(!bench.table.is_confirmed(id));
    bench.now += STILL_MIN;
    assert!(!bench.table.displace_stillest(bench.now), "others make room before their first ACK");
    assert_eq!(runs(&bench.tid(from(&did), machine(1, 2000), &ack(1))), [(2, 1)]);
    assert!(bench.table.is_confirmed(id));
    let moved = bench.now;
    for (still, makes_room) in [(STILL_MIN - 1, false), (STILL_MIN, true), (STILL_MIN + 1, false)] {
        assert_eq!(bench.table.displace_stillest(moved + still), makes_room, "{still}");
    }
    assert_eq!(outcomes(&bench.drain()), [TransferOutcome::Displaced]);
}

#[test]
fn t65_in_a_full_table_the_transfer_that_has_stood_still_longest_makes_room() {
    let limits = TransferLimits { transfers_max: 8, ..TransferLimits::default() };
    let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
    let mut tids = Vec::new();
    for host in 1..=8 {
        let tid = from(&bench.ask(machine(host, 2000), "f", b"timeout\x00255\0"));
        bench.tid(tid, machine(host, 2000), &ack(0));
        tids.push(tid);
        bench.pass(10 * MILLISECOND);
    }
    // The first has moved on, so the second has stood still longest; but none for long.
    assert_eq!(bench.tid(tids[0], machine(1, 2000), &ack(1)).len(), 1);
    assert_eq!(bench.ask(machine(100, 2000), "f", b""), [], "busy is silence");
    bench.pass(STILL_MIN - 50 * MILLISECOND);
    for host in [101, 102] {
        let did = bench.ask(machine(host, 2000), "f", b"");
        assert_eq!((outcomes(&did), opens(&did)), (vec![TransferOutcome::Displaced], 1));
    }
    let counts = bench.table.counts();
    assert_eq!((counts.full, counts.displaced, counts.dropped), (3, 2, 1));
    assert_eq!(
        runs(&bench.tid(tids[0], machine(1, 2000), &ack(2))),
        [(3, 1)],
        "who moves on is safe"
    );
    for (host, is_there) in [(2, false), (3, false), (4, true)] {
        let did = bench.tid(tids[host - 1], machine(host as u8, 2000), &ack(1));
        assert_eq!(!runs(&did).is_empty(), is_there, "{host}");
    }
}

#[test]
fn t65_a_full_table_of_transfers_that_all_move_on_displaces_none() {
    let limits = TransferLimits { transfers_max: 200, ..TransferLimits::default() };
    let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
    let tids: Vec<_> =
        (1..=200).map(|host| from(&bench.ask(machine(host, 2000), "f", b""))).collect();
    for block in 1..=5 {
        for (host, tid) in (1..=200).zip(&tids) {
            assert_eq!(runs(&bench.tid(*tid, machine(host, 2000), &ack(block))), [(block + 1, 1)]);
        }
        bench.now += SECOND / 2;
        assert_eq!(bench.ask(machine(255, 2000), "f", b""), []);
    }
    assert_eq!((bench.table.counts().displaced, bench.table.transfers()), (0, 200));
}

#[test]
fn t65_no_source_has_the_whole_table_with_limits_or_without() {
    let limits = TransferLimits {
        transfers_max: 100,
        unconfirmed_max: 1000,
        transfers_per_address_max: 8,
        ..TransferLimits::default()
    };
    // Without a configuration one address could have it all.
    let mut bench =
        bench(TftpPolicy { limits, per_address_limits: false, ..TftpPolicy::default() });
    let begun: usize =
        (0..200).map(|port| opens(&bench.ask(machine(1, 2000 + port), "f", b""))).sum();
    assert_eq!((begun, bench.table.counts().dropped), (75, 125));
    assert_eq!(opens(&bench.ask(machine(2, 2000), "f", b"")), 1);
    // A host owns all addresses of its IPv6 network.
    let mut bench = self::bench(TftpPolicy { limits, ..TftpPolicy::default() });
    let host = |network: u16, n: u16| {
        SocketAddr::new(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, n).into(), 2000)
    };
    let begun: usize = (1..=200).map(|n| opens(&bench.ask(host(1, n), "f", b""))).sum();
    assert_eq!(begun, 75);
    assert_eq!(opens(&bench.ask(host(2, 1), "f", b"")), 1);
    for n in 1..=200 {
        let did = bench.tid(Some(3), host(3, n), &ack(1));
        assert_eq!(errors(&did).len(), usize::from(n == 1), "one ERROR 5 a second for a network");
    }
    bench.pass(60 * SECOND);
    assert_eq!(opens(&bench.ask(host(1, 1), "f", b"")), 1, "and nothing is kept of it");
}

#[test]
fn t65_who_has_stood_still_is_known_at_a_cost_that_does_not_grow() {
    let mut bench = bench(TftpPolicy { per_address_limits: false, ..TftpPolicy::default() });
    let long = machine(250, 2000);
    let tid = from(&bench.ask(long, "f", b"blksize\x008\0"));
    bench.file = Ok(600);
    for round in 0..200 {
        bench.tid(tid, long, &ack(round));
        for port in 0..10 {
            let peer = machine(1, 2000 + round * 10 + port);
            let tid = from(&bench.ask(peer, "f", b""));
            assert_eq!(
                outcomes(&bench.tid(tid, peer, &ack(1))).len()
                    + outcomes(&bench.tid(tid, peer, &ack(2))).len(),
                1
            );
        }
        bench.pass(MILLISECOND);
    }
    assert!(bench.table.stillest.entries() <= 20, "{}", bench.table.stillest.entries());
}

#[test]
fn t65_more_transfers_than_an_address_may_have_wait_their_turn() {
    let mut bench = bench(TftpPolicy::default());
    let all: Vec<_> = (0..10).map(|port| bench.ask(machine(1, 2000 + port), "f", b"")).collect();
    assert_eq!(all.iter().map(|did| opens(did)).sum::<usize>(), 8);
    assert_eq!(
        (bench.table.transfers(), bench.table.sessions(), bench.table.counts().waited),
        (8, 10, 2)
    );
    assert_eq!(opens(&bench.ask(machine(2, 2000), "f", b"")), 1, "others don't wait");
    let did = bench.tid(from(&all[0]), machine(1, 2000), &error(0));
    assert_eq!(opens(&did), 1, "the one that has waited longest begins");
    assert!(matches!(did.last(), Some(Did::Blocks { to, .. }) if *to == machine(1, 2008)));
}

/// Lets time pass in which each of these clients acknowledges one block a second.
fn pass_with_progress(
    bench: &mut Bench,
    seconds: u64,
    running: &[(SocketAddr, Option<u16>)],
    acked: &mut u16,
) -> Vec<Did> {
    let mut did = Vec::new();
    for _ in 0..seconds {
        *acked += 1;
        for (peer, tid) in running {
            did.extend(bench.tid(*tid, *peer, &ack(*acked)));
        }
        did.extend(bench.pass(SECOND));
    }
    did
}

#[test]
fn t65_a_request_that_waits_in_vain_is_forgotten() {
    let mut bench = bench(TftpPolicy::default());
    bench.file = Ok(100_000);
    let running: Vec<_> = (0..8)
        .map(|port| {
            let peer = machine(1, 2000 + port);
            (peer, from(&bench.ask(peer, "f", b"")))
        })
        .collect();
    assert_eq!(bench.ask(machine(1, 2008), "f", b""), []);
    let mut acked = 0;
    assert!(outcomes(&pass_with_progress(&mut bench, 9, &running, &mut acked)).is_empty());
    assert_eq!(bench.ask(machine(1, 2008), "f", b""), [], "asked again, it keeps its place");
    assert!(outcomes(&pass_with_progress(&mut bench, 9, &running, &mut acked)).is_empty());
    assert_eq!(
        outcomes(&pass_with_progress(&mut bench, 2, &running, &mut acked)),
        [TransferOutcome::NeverBegun]
    );
}

/// Boards that were reset, boards behind one address, ERRORs that were lost.
#[test]
fn k11_a_silent_transfer_makes_room_for_a_request_of_its_address() {
    for confirmed in [false, true] {
        let mut bench = bench(TftpPolicy::default());
        bench.file = Ok(100_000);
        for port in 0..8 {
            let peer = machine(1, 2000 + port);
            let tid = from(&bench.ask(peer, "f", b""));
            if confirmed {
                bench.tid(tid, peer, &ack(1));
            }
            bench.pass(MILLISECOND);
        }
        assert_eq!(opens(&bench.ask(machine(1, 3000), "f", b"")), 0, "at once none is silent");
        let did = bench.pass(STILL_MIN);
        assert_eq!((opens(&did), outcomes(&did)), (1, vec![TransferOutcome::Displaced]));
        // From then on each request finds one that has been silent for long enough.
        for port in 1..8 {
            let did = bench.ask(machine(1, 3000 + port), "f", b"");
            assert_eq!(opens(&did), 1, "{confirmed} {port}: {did:?}");
        }
        assert_eq!(opens(&bench.ask(machine(1, 3008), "f", b"")), 0, "these are new");
        assert_eq!((bench.table.transfers(), bench.table.counts().displaced), (8, 8));
        assert_eq!(opens(&bench.ask(machine(2, 3000), "f", b"")), 1, "others have their own");
    }
}

#[test]
fn k11_a_transfer_that_moves_on_or_waits_for_the_disk_makes_no_room() {
    let mut bench = bench(TftpPolicy::default());
    bench.file = Ok(100_000);
    let mut running: Vec<_> = (0..8)
        .map(|port| {
            let peer = machine(1, 2000 + port);
            (peer, from(&bench.ask(peer, "f", b"")))
        })
        .collect();
    // The first one has its blocks handed back: the disk is slow.
    let (peer, tid) = running.remove(0);
    bench.table.handle_tid(bench.now, tid.unwrap(), peer, here(), &ack(1));
    let Some(TableAction::Blocks { wanted, .. }) = bench.table.poll(bench.now) else {
        panic!("an ACK brings a block")
    };
    let parked = wanted.id;
    bench.table.hand_back_blocks(bench.now, parked, 0);
    bench.drain();
    assert_eq!(bench.ask(machine(1, 3000), "f", b""), []);
    let mut acked = 0;
    let did = pass_with_progress(&mut bench, 8, &running, &mut acked);
    assert_eq!((opens(&did), outcomes(&did)), (0, Vec::new()));
    // Its rate, not its room, keeps a request waiting: that ends no transfer.
    assert_eq!(bench.table.counts().displaced, 0);
}

#[test]
fn t65_requests_faster_than_the_rate_wait_and_come_in_order() {
    let limits = TransferLimits {
        requests_per_second_max: 10,
        requests_burst_max: 5,
        ..TransferLimits::default()
    };
    let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
    bench.file = Err(TftpRefusal::NOT_FOUND);
    let at_once: usize =
        (0..12).map(|port| opens(&bench.ask(machine(1, 2000 + port), "f", b""))).sum();
    assert_eq!(at_once, 5);
    let did = bench.pass(350 * MILLISECOND);
    assert_eq!(errors(&did), [1, 1, 1]);
    let did = bench.pass(SECOND);
    assert_eq!(errors(&did), [1; 4]);
    assert_eq!(bench.table.sessions(), 0);
}

#[test]
fn t65_who_begins_or_is_forgotten_leaves_its_place_in_the_queue() {
    let limits = TransferLimits {
        waiting_max: 1,
        transfers_per_address_max: 1,
        ..TransferLimits::default()
    };
    let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
    bench.file = Ok(100_000);
    let mut tid = from(&bench.ask(machine(1, 2000), "f", b""));
    for port in 2001..2005 {
        assert_eq!(bench.ask(machine(1, port), "f", b""), []);
        let did = bench.tid(tid, machine(1, port - 1), &error(0));
        assert_eq!(opens(&did), 1, "{port}");
        tid = from(&did);
    }
    let mut acked = 0;
    for port in 3000..3004 {
        assert_eq!(bench.ask(machine(1, port), "f", b""), []);
        let running = [(machine(1, 2004), tid)];
        let did = pass_with_progress(&mut bench, WAITING_MAX / SECOND, &running, &mut acked);
        assert_eq!(outcomes(&did), [TransferOutcome::NeverBegun], "{port}");
    }
    assert_eq!((bench.table.counts().waited, bench.table.counts().dropped), (8, 0));
}

#[test]
fn t65_an_ipv6_network_asks_16_times_as_often_as_an_address_and_no_more() {
    let limits = TransferLimits {
        requests_per_second_max: 1,
        requests_burst_max: 1,
        ..TransferLimits::default()
    };
    let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
    let host = |n: u16| {
        SocketAddr::new(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n).into(), 2000)
    };
    let begun: usize = (1..=40).map(|n| opens(&bench.ask(host(n), "f", b""))).sum();
    assert_eq!(
        (begun as u32, bench.table.counts().dropped),
        (NETWORK_RATE, 40 - u64::from(NETWORK_RATE))
    );
}

#[test]
fn t65_the_queue_and_the_table_are_bounded() {
    let limits = TransferLimits { waiting_max: 3, transfers_max: 20, ..TransferLimits::default() };
    let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
    for port in 0..50 {
        bench.ask(machine(1, 2000 + port), "f", b"");
    }
    assert_eq!((bench.table.sessions(), bench.table.counts().dropped), (8 + 3, 39));
    for host in 2..100 {
        bench.ask(machine(host, 2000), "f", b"");
    }
    assert_eq!((bench.table.transfers(), bench.table.sessions()), (20, 23));
}

#[test]
fn t65_too_many_unconfirmed_sessions_displace_the_oldest() {
    let limits = TransferLimits { unconfirmed_max: 4, ..TransferLimits::default() };
    for has_confirmed in [true, false] {
        let mut bench = bench(TftpPolicy { limits, ..TftpPolicy::default() });
        let confirmed = has_confirmed.then(|| {
            let tid = from(&bench.ask(machine(1, 2000), "f", b""));
            bench.tid(tid, machine(1, 2000), &ack(1));
            tid
        });
        let mut tids = Vec::new();
        for host in 2..=5 {
            let did = bench.ask(machine(host, 2000), "f", b"");
            assert!(outcomes(&did).is_empty());
            tids.push((host, from(&did)));
        }
        let did = bench.ask(machine(6, 2000), "f", b"");
        assert_eq!((outcomes(&did), opens(&did)), (vec![TransferOutcome::Displaced], 1));
        assert_eq!(bench.table.counts().displaced, 1);
        if let Some(tid) = confirmed {
            assert_eq!(
                bench.tid(tid, machine(1, 2000), &ack(2)).len(),
                1,
                "a confirmed one is safe"
            );
        }
        for (host, tid) in tids {
            let did = bench.tid(tid, machine(host, 2000), &ack(1));
            assert_eq!(
                runs(&did).len(),
                usize::from(host != 2),
                "{host}, with a confirmed one: {has_confirmed}"
            );
        }
    }
}

#[test]
fn t65_only_configured_subnets_are_served_and_loopback_has_no_limits() {
    let network = Ipv4Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 };
    let mut bench =
        bench(TftpPolicy { serve: NetworkSet::from_iter([network]), ..TftpPolicy::default() });
    assert_eq!(opens(&bench.ask(machine(1, 2000), "f", b"")), 1);
    for outsider in
        ["192.168.5.1:2000", "[2001:db8::1]:2000", "0.0.0.0:5", "192.168.4.1:0", "224.0.0.1:5"]
    {
        let peer = outsider.parse().unwrap();
        assert_eq!(bench.ask(peer, "f", b""), [], "{outsider}");
        assert_eq!(bench.listen(peer, b"\0\x02f\0octet\0"), []);
        assert_eq!(bench.tid(Some(1), peer, &ack(1)), []);
    }
    // A network that is configured anew, while transfers run; none at all is everybody's.
    let tid = from(&bench.ask(machine(2, 2000), "f", b""));
    bench.table.serve_only(NetworkSet::from_iter([Ipv4Network {
        address: Ipv4Addr::new(192, 168, 5, 0),
        prefix: 24,
    }]));
    assert_eq!(bench.ask(machine(3, 2000), "f", b""), []);
    assert_eq!(opens(&bench.ask("192.168.5.1:2000".parse().unwrap(), "f", b"")), 1);
    assert_eq!(runs(&bench.tid(tid, machine(2, 2000), &ack(1))), [(2, 1)]);
    bench.table.serve_only(NetworkSet::default());
    assert_eq!(opens(&bench.ask(machine(3, 2000), "f", b"")), 1);
    let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let begun: usize = (1..=500).map(|port| opens(&bench.ask(loopback(port), "f", b""))).sum();
    assert_eq!(begun, 500);
}

#[test]
fn t65_of_ipv6_those_on_a_network_of_ours_are_served() {
    let serve =
        NetworkSet::from_iter([Ipv4Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 }]);
    let mut bench = bench(TftpPolicy { serve, ..TftpPolicy::default() });
    for (address, served) in
        [("fe80::1", true), ("fd00:4::7", true), ("2001:db8::1", false), ("ff02::1", false)]
    {
        let peer = SocketAddr::new(address.parse().unwrap(), 2070);
        assert_eq!(!bench.ask(peer, "a", b"").is_empty(), served, "{address}");
    }
}

#[test]
fn a_request_that_could_not_be_looked_up_is_forgotten_without_a_word_and_may_come_again() {
    let mut table: TransferTable<u64> = TransferTable::new(TftpPolicy::default(), 42);
    for _ in 0..3 {
        table.handle_listen(SECOND, machine(26, 2070), here(), false, &rrq("a", b""));
        let Some(TableAction::Open { id, .. }) = table.poll(SECOND) else { panic!("not opened") };
        table.forget_request(SECOND, id);
        while let Some(action) = table.poll(SECOND) {
            let TableAction::Ended { end, .. } = action else { panic!("{action:?}") };
            assert_eq!(end.outcome, TransferOutcome::NeverBegun);
        }
    }
}

#[test]
fn t65_a_client_that_never_sends_last_acks_goes_on_to_its_next_files() {
    let mut bench = bench(TftpPolicy::default());
    bench.file = Ok(600);
    for port in 0..20 {
        let did = bench.ask(machine(1, 2000 + port), "f", b"");
        assert_eq!(runs(&bench.tid(from(&did), machine(1, 2000 + port), &ack(1))), [(2, 1)]);
    }
    assert!(
        outcomes(&bench.pass(60 * SECOND))
            .iter()
            .all(|end| *end == TransferOutcome::CompleteWithoutLastAck)
    );
}

#[test]
fn t66_no_datagram_needs_a_fragment() {
    let mut bench = bench(TftpPolicy::default());
    let did = bench.ask(machine(1, 2000), "f", b"blksize\x0065464\0windowsize\x0032\0");
    let did = bench.tid(from(&did), machine(1, 2000), &ack(0));
    let Did::Blocks { size, .. } = did[0] else { panic!() };
    assert!(20 + 8 + 4 + u32::from(size) <= 1500, "so DF need not be set");
}

#[test]
fn a_transfer_whose_file_never_comes_ends() {
    let mut bench = bench(TftpPolicy::default());
    bench.table.handle_listen(bench.now, machine(1, 2000), here(), false, &rrq("f", b""));
    let Some(Did::Open(id)) = bench.poll() else { panic!() };
    let did = bench.pass(OPENING_MAX);
    assert_eq!(
        (errors(&did), outcomes(&did)),
        (vec![0], vec![TransferOutcome::Failed(TransferFailure::NotOpened)])
    );
    assert_eq!(
        bench.table.finish_open(bench.now, id, Ok((9, 9))),
        Some(9),
        "too late: the content comes back"
    );
}

#[test]
fn unsent_blocks_leave_after_resume_and_not_before() {
    let mut bench = bench(TftpPolicy::default());
    let peer = machine(1, 2000);
    let did = bench.ask(peer, "f", WINDOW);
    let Did::Open(id) = did[0] else { panic!() };
    assert_eq!(runs(&bench.tid(from(&did), peer, &ack(0))), [(1, 4)]);
    bench.table.hand_back_blocks(bench.now, id, 1);
    assert_eq!(bench.pass(20 * SECOND), [], "no timer runs while the fault is ours");
    bench.table.resume(id);
    assert_eq!(runs(&bench.drain()), [(2, 3)]);
    bench.table.hand_back_blocks(bench.now, id, 0);
    let did = bench.pass(31 * SECOND);
    assert_eq!(
        (errors(&did), outcomes(&did)),
        (vec![0], vec![TransferOutcome::Failed(TransferFailure::OutOfReach)])
    );
}

#[test]
fn ten_thousand_transfers_cost_a_few_timer_entries_each() {
    let mut bench = bench(TftpPolicy {
        limits: TransferLimits { unconfirmed_max: 20_000, ..TransferLimits::default() },
        per_address_limits: false,
        ..TftpPolicy::default()
    });
    let tids: Vec<_> = (0..10_000)
        .map(|port| from(&bench.ask(machine(1, 1 + port), "f", b"blksize\x008\0")))
        .collect();
    for block in 0..100 {
        for (port, tid) in (1..).zip(&tids) {
            assert_eq!(runs(&bench.tid(*tid, machine(1, port), &ack(block))), [(block + 1, 1)]);
        }
        bench.pass(MILLISECOND);
    }
    assert_eq!(bench.table.transfers(), 10_000);
    assert!(bench.table.timers.len() <= 30_000, "{}", bench.table.timers.len());
    assert!(bench.table.unconfirmed.entered.len() <= 10_000);
}
