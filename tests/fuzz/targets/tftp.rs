//! TFTP: packets, any order of events against the table of transfers, and any server against the
//! simulated clients.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use arbitrary::Unstructured;
use ringboot::tftp::Tick;
use ringboot::tftp::client::{ClientBehaviour, FetchClient};
use ringboot::tftp::limits::{MILLISECOND, SECOND, TransferLimits};
use ringboot::tftp::options::{OptionPolicy, negotiate_options};
use ringboot::tftp::packet::{
    Packet, StoredReadRequest, TftpRefusal, TransferMode, parse_tftp_packet,
};
use ringboot::tftp::table::{
    LocalAddress, TableAction, TftpPolicy, TransferFailure, TransferId, TransferTable, WantedBlocks,
};

/// Packets that clients and servers really send; a fuzzer changes them.
const SENT: [&[u8]; 16] = [
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

/// A number below `most`; 0 when the input is at its end.
fn below(input: &mut Unstructured<'_>, most: u64) -> u64 {
    input.int_in_range(0..=most.saturating_sub(1)).unwrap_or(0)
}

/// A packet that somebody sends, often damaged.
fn sent(input: &mut Unstructured<'_>) -> Vec<u8> {
    let mut bytes = input.choose(&SENT).map_or(&b""[..], |bytes| bytes).to_vec();
    for _ in 0..below(input, 4) {
        let at = below(input, bytes.len() as u64 + 1) as usize;
        let octet = below(input, 256) as u8;
        match below(input, 6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, octet),
            2 if at < bytes.len() => bytes[at] = octet,
            3 if at < bytes.len() => bytes[at] ^= 1 << (octet % 8),
            4 => bytes.extend_from_slice(input.choose(&SENT).map_or(&b""[..], |bytes| bytes)),
            5 => bytes.resize(bytes.len() + below(input, 1600) as usize, octet),
            _ => (),
        }
    }
    bytes
}

pub(crate) fn packet(bytes: &[u8]) {
    match parse_tftp_packet(bytes) {
        Some(Packet::Read(Ok(asked))) => {
            let request = StoredReadRequest::from(&asked);
            assert_eq!(request.name(), asked.name);
            assert!(request.options().eq(asked.options) && request.is_repeated_by(&asked));
            for (mode, length) in [
                (TransferMode::Octet, 0),
                (TransferMode::Octet, 1 << 40),
                (TransferMode::Netascii, 100_000),
            ] {
                negotiated(&request, mode, length);
            }
        }
        Some(Packet::OptionAck(options)) => assert!(options.count() <= bytes.len()),
        _ => (),
    }
}

/// What is granted is within the policy, and the OACK says the same.
fn negotiated(request: &StoredReadRequest, mode: TransferMode, length: u64) {
    let policy = OptionPolicy::default();
    let mut oack = Vec::new();
    let terms = negotiate_options(request.options(), &policy, mode, length, &mut oack);
    assert!((8..=65_464).contains(&terms.block_size) && terms.window >= 1, "{terms:?}");
    assert!(
        terms.block_size <= policy.block_size_max.max(512) && terms.window <= policy.window_max,
        "{terms:?}"
    );
    if oack.is_empty() {
        return;
    }
    let Some(Packet::OptionAck(granted)) = parse_tftp_packet(&oack) else {
        panic!("{}", oack.escape_ascii())
    };
    for (name, value) in granted {
        let number: u64 = str::from_utf8(value).unwrap().parse().unwrap();
        if name.eq_ignore_ascii_case(b"blksize") {
            assert_eq!(number, u64::from(terms.block_size));
        }
        if name.eq_ignore_ascii_case(b"windowsize") {
            assert_eq!(number, u64::from(terms.window));
        }
    }
}

const LIMITS: TransferLimits = TransferLimits {
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
    table: TransferTable<u64>,
    now: Tick,
    tids: u16,
    /// Transfers that were opened and have not ended.
    live: BTreeSet<TransferId>,
    /// All names ever given, for calls about transfers that are long gone.
    known: Vec<TransferId>,
    contents: i64,
}

impl Watched {
    fn drain(&mut self, input: &mut Unstructured<'_>) {
        let mut actions = 0;
        while let Some(action) = self.table.poll(self.now) {
            actions += 1;
            assert!(actions < 1000, "poll never ends");
            match action {
                TableAction::Open { id, request, .. } => {
                    assert!(!request.name().is_empty());
                    assert!(self.live.insert(id), "opened twice");
                    self.known.push(id);
                }
                TableAction::Blocks { wanted, content } => {
                    let WantedBlocks { id, block_size, bytes, blocks, is_last, tid, .. } = wanted;
                    assert!(self.live.contains(&id) && tid.is_none_or(|tid| tid < self.tids));
                    assert!((1..=32).contains(&blocks) && (8..=1468).contains(&block_size));
                    let whole = u64::from(blocks) * u64::from(block_size);
                    let octets = bytes.end - bytes.start;
                    assert!(
                        bytes.end <= *content && octets <= whole && is_last == (octets < whole)
                    );
                    if below(input, 20) == 1 {
                        self.table.hand_back_blocks(
                            self.now,
                            id,
                            below(input, u64::from(blocks)) as u32,
                        );
                    }
                }
                TableAction::Datagram { bytes, tid, .. } => {
                    assert!(tid.is_none_or(|tid| tid < self.tids));
                    assert!(matches!(
                        parse_tftp_packet(bytes),
                        Some(Packet::OptionAck(_) | Packet::Error { .. })
                    ));
                }
                TableAction::Ended { end, content, .. } => {
                    self.live.remove(&end.id);
                    self.contents -= i64::from(content.is_some());
                }
            }
        }
        assert!(self.table.transfers() <= LIMITS.transfers_max);
        assert!(
            self.table.sessions() <= LIMITS.transfers_max + LIMITS.waiting_max + LIMITS.quiet_max
        );
    }

    fn step(&mut self, input: &mut Unstructured<'_>) {
        let host = Ipv4Addr::new(10, 0, 0, below(input, 4) as u8);
        let peer = SocketAddr::new(host.into(), 2000 + below(input, 4) as u16);
        let local = LocalAddress { address: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)), interface: 1 };
        let id = self.known.get(below(input, self.known.len() as u64) as usize).copied();
        let recent = self.known.last().copied();
        let now = self.now;
        match (below(input, 12), id, recent) {
            (0..=2, ..) => {
                let broadcast = below(input, 20) == 1;
                self.table.handle_listen(now, peer, local, broadcast, &sent(input));
            }
            (3..=5, ..) if self.tids > 0 => {
                let tid = below(input, u64::from(self.tids)) as u16;
                self.table.handle_tid(now, tid, peer, local, &sent(input));
            }
            (6..=7, _, Some(id)) | (8, Some(id), _) => {
                let len = below(input, 20_000);
                self.contents += 1;
                let answer =
                    if below(input, 5) == 1 { Err(TftpRefusal::NOT_FOUND) } else { Ok((len, len)) };
                let refused = answer.is_err();
                let back = self.table.finish_open(now, id, answer).is_some();
                self.contents -= i64::from(refused || back);
            }
            (9, Some(id), _) => match below(input, 4) {
                0 => self.table.hand_back_blocks(now, id, below(input, 8) as u32),
                1 => self.table.resume(id),
                2 => self.table.fail_transfer(now, id, TransferFailure::ContentLost),
                _ => {
                    let without = OptionPolicy {
                        blksize: false,
                        windowsize: false,
                        ..OptionPolicy::default()
                    };
                    self.table.restrict_options(id, without);
                }
            },
            (10, ..) => self.now += below(input, 20 * MILLISECOND),
            (11, ..) if below(input, 10) == 1 => self.now += below(input, 10 * SECOND),
            _ => (),
        }
        self.table.handle_timeouts(self.now);
        self.drain(input);
    }
}

pub(crate) fn table(bytes: &[u8]) {
    let input = &mut Unstructured::new(bytes);
    let tids = below(input, 4) as u16;
    let policy = TftpPolicy { tids, limits: LIMITS, ..TftpPolicy::default() };
    let table = TransferTable::new(policy, below(input, u64::MAX));
    let mut watched =
        Watched { table, now: 0, tids, live: BTreeSet::new(), known: Vec::new(), contents: 0 };
    while !input.is_empty() {
        watched.step(input);
    }
    // Left alone, the table forgets everybody and hands everything back.
    for _ in 0..10_000 {
        let Some(next) = watched.table.next_timeout() else { break };
        watched.now = watched.now.max(next);
        watched.table.handle_timeouts(watched.now);
        watched.drain(input);
    }
    assert_eq!(watched.table.sessions(), 0);
    assert_eq!((watched.contents, watched.live.len()), (0, 0));
}

pub(crate) fn client(bytes: &[u8]) {
    let input = &mut Unstructured::new(bytes);
    let firmware = [
        ClientBehaviour::edk2(),
        ClientBehaviour::grub(),
        ClientBehaviour::uboot(8),
        ClientBehaviour::pi3(),
        ClientBehaviour::ipxe(),
    ];
    let behaviour = firmware[below(input, firmware.len() as u64) as usize].clone();
    let (mut client, mut received, mut now) = (FetchClient::new(behaviour, b"f", 1), 0, 0);
    while !input.is_empty() {
        now += below(input, SECOND);
        let mut bytes = sent(input);
        if below(input, 2) == 0 {
            let block = below(input, 6) as u8;
            bytes =
                [&[0, 3, 0, block][..], &vec![block; [512, 1024, 1468][usize::from(block) % 3]]]
                    .concat();
        }
        if let Some(piece) = client.handle(now, 4000 + below(input, 2) as u16, &bytes) {
            assert_eq!(piece.offset, received);
            received += piece.bytes.len() as u64;
        }
        client.handle_timeout(now);
        while let Some(transmit) = client.poll_transmit(now) {
            assert!(parse_tftp_packet(transmit.bytes).is_some());
        }
        assert!(client.outcome().is_none() || client.poll_timeout().is_none());
    }
}
