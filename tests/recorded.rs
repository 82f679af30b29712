//! What real firmware sent, from captures of whole boots: each message is decided, and the decision
//! is a reviewed snapshot.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout)]

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use dhcproto::Decodable;
use ringboot::boot::loader_choice::BootConfig;
use ringboot::dhcp::decide::{Decision, IncomingMessage, decide_answer};
use ringboot::dhcp::lease::{Lease, LeaseChange, LeaseRowState, LeaseTable};
use ringboot::dhcp::packet::{Packet, code};
use ringboot::dhcp::policy::DhcpPolicy;
use ringboot::dhcp::subnet::{AddressPool, AnsweringMode, ClientAdmission, Subnet};
use ringboot::model::machine::Mac;
use ringboot::model::network::Ipv4Network;

/// In the captures the server is this; the simulated network is that of the classic set-up.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);
const START_S: u64 = 1_700_000_000;

#[test]
fn every_recorded_message_is_decided_as_reviewed() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("recorded");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut known = HashSet::new();
    for name in captures() {
        let text = replay(&name, &configuration(), &mut known);
        settings.bind(|| insta::assert_snapshot!(name.as_str(), text));
    }
}

/// undionly.kpxe sends what the ROM sends plus iPXE's options: it must get the script, not itself
/// again (one round took 19 s).
#[test]
fn d69_recorded_undionly_does_not_load_itself_for_ever() {
    let mut policy = configuration();
    policy.boot = BootConfig { bios: Some("undionly.kpxe".into()), ..BootConfig::default() };
    for name in ["bios-undionly", "bios-ipxe"] {
        let text = replay(name, &policy, &mut HashSet::new());
        assert!(text.contains("http://192.168.4.150/boot.ipxe"), "{text}");
        assert!(!text.contains("67 = \"undionly.kpxe\""), "{text}");
    }
}

/// dhcproto reads our replies as we meant them.
#[test]
fn d03_dhcproto_reads_every_recorded_reply() {
    let mut replies = 0;
    for name in captures() {
        let mut replayed = Replay::new(&configuration());
        for frame in client_frames(&name) {
            let decision = replayed.decide(&frame);
            let Some(answer) = decision.answer else { continue };
            replies += 1;
            let ours = Packet::parse_reply(&answer.bytes).unwrap();
            let theirs =
                dhcproto::v4::Message::decode(&mut dhcproto::Decoder::new(&answer.bytes)).unwrap();
            assert_eq!(
                (theirs.xid(), theirs.yiaddr(), theirs.siaddr()),
                (ours.xid, ours.yiaddr, ours.siaddr)
            );
            let mut codes: Vec<u8> =
                theirs.opts().iter().map(|(code, _)| u8::from(*code)).collect();
            let mut sent: Vec<u8> = ours.options().map(|(code, _)| code).collect();
            codes.sort_unstable();
            sent.sort_unstable();
            assert_eq!(codes, sent, "{name}");
        }
    }
    assert!(replies > 150, "{replies}");
}

/// Hostile bytes: recorded messages and those on which dhcproto panics, mutated, decided, never a
/// panic.
#[test]
fn d07_mutated_messages_never_panic() {
    const MUTATIONS: usize = 400_000;
    let seeds = mutation_seeds();
    let policy = configuration();
    let mut leases = LeaseTable::new(&policy.subnets);
    let mut random = Random(0x72_69_6e_67);
    let (mut answered, mut refused) = (0u32, 0u32);
    for n in 0..MUTATIONS {
        let seed = random.below(seeds.len());
        let bytes = random.mutate(&seeds[seed]);
        let now = START_S + n as u64 / 100;
        leases.advance(now);
        let decision =
            decide_answer(&arrival(&bytes, None, SERVER), &leases, &policy, now, n as u64);
        match &decision.answer {
            Some(answer) => {
                answered += 1;
                assert!((300..=1472).contains(&answer.bytes.len()));
                assert!(Packet::parse_reply(&answer.bytes).is_ok());
            }
            None => refused += 1,
        }
        assert_eq!(decision.answer.is_none(), decision.silence.is_some());
        leases.begin_commit(&decision.changes, decision.xid, now);
        leases.finish_commit(&decision.changes, decision.xid, n % 7 != 0, now);
    }
    assert!(answered > 1000 && refused > 1000, "{answered} answered, {refused} not");
}

fn configuration() -> DhcpPolicy {
    let subnet = Subnet {
        interface: Some("eth1".into()),
        mode: AnsweringMode::Server,
        clients: ClientAdmission::Any,
        pools: vec![AddressPool {
            first: Ipv4Addr::new(192, 168, 4, 10),
            last: Ipv4Addr::new(192, 168, 4, 100),
        }],
        routers: vec![Ipv4Addr::new(192, 168, 4, 1)],
        domain_name: Some("itwish.cn".into()),
        domain_name_servers: vec![SERVER],
        default_lease_time_s: 600,
        firmware_lease_time_s: 600,
        max_lease_time_s: 7200,
        ..Subnet::new(Ipv4Network { address: Ipv4Addr::new(192, 168, 4, 0), prefix: 24 })
    };
    let boot = BootConfig {
        bios: Some("pxelinux.0".into()),
        uefi_x64: Some("bootnetx64.efi".into()),
        uefi_arm64: Some("bootnetaa64.efi".into()),
        uefi_http: Some("efi/boot.efi".into()),
        ipxe: Some("http://192.168.4.150/boot.ipxe".into()),
        ..BootConfig::default()
    };
    DhcpPolicy { subnets: vec![subnet].into(), boot, http_port: 80, ..DhcpPolicy::default() }
}

fn arrival<'a>(
    bytes: &'a [u8],
    source: Option<SocketAddrV4>,
    destination: Ipv4Addr,
) -> IncomingMessage<'a> {
    IncomingMessage {
        bytes,
        source: source.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)),
        destination: Some(destination),
        interface: Some("eth1"),
        interface_address: SERVER,
        here: &[(SERVER, 24)],
        ours: &[SERVER],
        held: &[],
    }
}

/// A server that lives through one capture. The client of the capture follows another server's
/// offers: where that one chose otherwise (`clients-dhcp-classic`), what it says next is as wrong
/// for us as a strange client's would be.
struct Replay {
    policy: DhcpPolicy,
    leases: LeaseTable,
}

impl Replay {
    fn new(policy: &DhcpPolicy) -> Self {
        Self { leases: LeaseTable::new(&policy.subnets), policy: policy.clone() }
    }

    fn decide(&mut self, frame: &Frame) -> Decision {
        let now = START_S + frame.time_s;
        self.leases.advance(now);
        self.remember_reference(frame, now);
        let arrival = arrival(&frame.payload, Some(frame.source), *frame.destination.ip());
        let decision = decide_answer(&arrival, &self.leases, &self.policy, now, 0);
        self.leases.begin_commit(&decision.changes, decision.xid, now);
        self.leases.finish_commit(&decision.changes, decision.xid, true, now);
        decision
    }

    /// The client goes on to ask for what the server of the capture offered: let it have had that
    /// address before.
    fn remember_reference(&mut self, frame: &Frame, now: u64) {
        let Some((mac, address)) = frame.reference else { return };
        let knows = self
            .leases
            .iter()
            .any(|lease| lease.mac == mac && lease.state != LeaseRowState::Declined);
        if knows || self.leases.get(address).is_some() {
            return;
        }
        let lease = Lease {
            address,
            mac,
            client_id: None,
            uuid: None,
            firmware: None,
            host_name: None,
            state: LeaseRowState::Released,
            start_s: now - 1,
            end_s: now - 1,
        };
        self.leases.load([lease], now);
    }
}

/// The text of every decision that no earlier capture has shown, xid and time aside.
fn replay(name: &str, policy: &DhcpPolicy, known: &mut HashSet<String>) -> String {
    let mut replayed = Replay::new(policy);
    let (mut text, mut frames) = (String::new(), 0);
    for frame in client_frames(name) {
        frames += 1;
        let decision = replayed.decide(&frame);
        let block = describe(&frame, &decision);
        if known.insert(block.clone()) {
            text.push_str(&block);
            text.push('\n');
        }
    }
    assert!(frames > 0, "{name} holds no DHCP");
    if text.is_empty() { format!("{frames} messages, all seen before\n") } else { text }
}

fn describe(frame: &Frame, decision: &Decision) -> String {
    let packet = Packet::parse_request(&frame.payload).unwrap();
    let mut text = String::new();
    let kind = packet
        .option(code::MESSAGE_TYPE)
        .and_then(|v| v.first())
        .map_or("BOOTP".to_owned(), |&t| message_name(t));
    let to = if frame.destination.ip().is_broadcast() {
        "broadcast".to_owned()
    } else {
        frame.destination.to_string()
    };
    writeln!(text, "{kind} of {} from {} to {to}", decision.mac.unwrap(), frame.source).unwrap();
    let fields = [("ciaddr", packet.ciaddr), ("giaddr", packet.giaddr)];
    for (field, address) in fields.iter().filter(|(_, address)| !address.is_unspecified()) {
        writeln!(text, "    {field} = {address}").unwrap();
    }
    for (code, value) in packet.options().filter(|(code, _)| *code != code::MESSAGE_TYPE) {
        writeln!(text, "    {code} = {}", show(code, value)).unwrap();
    }
    for reason in decision.reasons.iter() {
        writeln!(text, "  . {reason}").unwrap();
    }
    for change in &decision.changes {
        writeln!(text, "  * {}", show_change(change)).unwrap();
    }
    match (&decision.answer, &decision.silence) {
        (Some(answer), _) => describe_answer(&mut text, answer),
        (None, Some(silence)) => writeln!(text, "  > silence: {silence}").unwrap(),
        (None, None) => panic!("neither answer nor silence"),
    }
    text
}

fn describe_answer(text: &mut String, answer: &ringboot::dhcp::decide::AnswerDatagram) {
    let reply = Packet::parse_reply(&answer.bytes).unwrap();
    writeln!(text, "  > {}, {} octets, {}", answer.kind, answer.bytes.len(), answer.route).unwrap();
    let file = String::from_utf8_lossy(reply.file);
    writeln!(text, "    yiaddr {}, siaddr {}, file {file:?}", reply.yiaddr, reply.siaddr).unwrap();
    for (code, value) in reply.options() {
        writeln!(text, "    {code} = {}", show(code, value)).unwrap();
    }
}

fn message_name(number: u8) -> String {
    let names = ["DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"];
    usize::from(number)
        .checked_sub(1)
        .and_then(|at| names.get(at))
        .map_or(format!("type {number}"), |&n| n.to_owned())
}

fn show_change(change: &LeaseChange) -> String {
    match change {
        LeaseChange::Offer { address, .. } => format!("hold {address}"),
        LeaseChange::Bind(lease) => {
            let firmware = lease.firmware.map(|f| f.to_string()).unwrap_or_default();
            format!(
                "bind {} to {} ({firmware}) for {} s",
                lease.address,
                lease.mac,
                lease.end_s - lease.start_s
            )
        }
        LeaseChange::Release { address, .. } => format!("release {address}"),
        LeaseChange::Decline { address, .. } => format!("keep {address} back"),
        LeaseChange::Struck { address, .. } => format!("count the decline of {address}"),
        LeaseChange::Free { address } => format!("free {address}"),
        LeaseChange::Forget { address, .. } => format!("forget the offer of {address}"),
    }
}

fn show(code: u8, value: &[u8]) -> String {
    const ADDRESSES: [u8; 9] = [1, 3, 6, 28, 42, 50, 54, 118, 150];
    const SECONDS: [u8; 3] = [51, 58, 59];
    if code == code::PARAMETER_REQUEST_LIST {
        return value.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
    }
    if ADDRESSES.contains(&code) {
        let address =
            |octets: &[u8]| octets.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
        return value.chunks(4).map(address).collect::<Vec<_>>().join(", ");
    }
    if let (true, Ok(octets)) = (SECONDS.contains(&code), <[u8; 4]>::try_from(value)) {
        return format!("{} s", u32::from_be_bytes(octets));
    }
    match std::str::from_utf8(value) {
        Ok(text) if value.len() > 2 && text.chars().all(|c| !c.is_control()) => format!("{text:?}"),
        _ => value.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" "),
    }
}

/// One message to port 67.
struct Frame {
    /// Whole seconds since the start of the capture.
    time_s: u64,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: Vec<u8>,
    /// The machine and the address that the server of the capture offered in answer.
    reference: Option<(Mac, Ipv4Addr)>,
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded")
}

/// Names of all captures, sorted.
fn captures() -> Vec<String> {
    let entries = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "pcap"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 20);
    names
}

fn client_frames(name: &str) -> Vec<Frame> {
    let all = datagrams(&fs::read(directory().join(format!("{name}.pcap"))).unwrap());
    let mut frames = Vec::new();
    for (at, (time_s, source, destination, payload)) in all.iter().enumerate() {
        if destination.port() != 67 {
            continue;
        }
        let xid = payload.get(4..8);
        let offer = all[at..]
            .iter()
            .find(|(_, from, _, reply)| from.port() == 67 && reply.get(4..8) == xid);
        let reference = offer.and_then(|(_, _, _, reply)| {
            let reply = Packet::parse_reply(reply).ok()?;
            let mac: [u8; 6] = reply.chaddr[..6].try_into().ok()?;
            (!reply.yiaddr.is_unspecified()).then_some((Mac(mac), reply.yiaddr))
        });
        let (source, destination, payload) = (*source, *destination, payload.clone());
        frames.push(Frame { time_s: *time_s, source, destination, payload, reference });
    }
    frames
}

type Datagram = (u64, SocketAddrV4, SocketAddrV4, Vec<u8>);

/// UDP over IPv4 over Ethernet out of a classic pcap file (little-endian, microseconds or
/// nanoseconds).
fn datagrams(file: &[u8]) -> Vec<Datagram> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert!(matches!(word(0), 0xa1b2_c3d4 | 0xa1b2_3c4d), "a classic little-endian pcap file");
    assert_eq!(word(20), 1, "link type Ethernet");
    let (mut at, mut found, mut first) = (24, Vec::new(), None);
    while at + 16 <= file.len() {
        let (seconds, length) = (u64::from(word(at)), word(at + 8) as usize);
        let frame = &file[at + 16..at + 16 + length];
        at += 16 + length;
        let start = *first.get_or_insert(seconds);
        found.extend(
            udp(frame).map(|(source, destination, payload)| {
                (seconds - start, source, destination, payload)
            }),
        );
    }
    found
}

fn udp(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, Vec<u8>)> {
    if frame.get(12..14)? != [8, 0] || *frame.get(23)? != 17 {
        return None;
    }
    let ip = frame.get(14..)?;
    let (header, total) =
        (usize::from(ip[0] & 15) * 4, usize::from(u16::from_be_bytes([ip[2], ip[3]])));
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let udp = ip.get(header..total)?;
    let port = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    Some((
        SocketAddrV4::new(address(12), port(0)),
        SocketAddrV4::new(address(16), port(2)),
        udp[8..].to_vec(),
    ))
}

/// Every distinct recorded message, and the packets on which dhcproto 0.15 panics or loses options.
fn mutation_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        captures().iter().flat_map(|name| client_frames(name)).map(|f| f.payload).collect();
    let mut base = vec![0u8; 240];
    (base[0], base[1], base[2], base[28]) = (1, 1, 6, 2);
    base[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let hostile: [&[u8]; 8] = [
        &[53, 1, 1, 94, 2, 1, 2, 255],
        &[53, 1, 1, 94, 4, 1, 2, 3, 4, 255],
        &[53, 1, 1, 0x5d, 4, 0, 7, 0, 9, 255],
        &[
            53, 1, 1, 12, 2, 0xff, 0xfe, 60, 9, b'P', b'X', b'E', b'C', b'l', b'i', b'e', b'n',
            b't', 255,
        ],
        &[53, 1, 1, 52, 1, 3, 255],
        &[43, 1, 6, 53, 1, 1, 43, 2, 1, 8, 255],
        &[
            53, 1, 3, 54, 4, 192, 168, 4, 150, 50, 4, 192, 168, 4, 20, 82, 8, 5, 4, 192, 168, 4, 0,
            19, 0, 255,
        ],
        &[
            53, 1, 1, 77, 5, 4, b'i', b'P', b'X', b'E', 175, 3, 0x13, 1, 1, 118, 4, 192, 168, 4, 0,
            255,
        ],
    ];
    for options in hostile {
        for hlen in [0, 6, 16, 17, 255] {
            base[2] = hlen;
            seeds.push([&base[..], options].concat());
        }
    }
    seeds.sort();
    seeds.dedup();
    seeds
}

/// A seeded generator (splitmix64): the same run each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// One to six changes, most of them in the options, where the parser works.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(5) {
            let area = if self.below(4) == 0 { 0 } else { 240.min(bytes.len()) };
            let at = area + self.below(bytes.len() - area);
            match self.below(7) {
                0 | 1 if at < bytes.len() => bytes[at] = self.next() as u8,
                2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                3 => bytes.truncate(at),
                4 => bytes.insert(at, self.next() as u8),
                5 => {
                    let piece: Vec<u8> =
                        bytes[area..at].iter().rev().take(self.below(40)).rev().copied().collect();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let option = [
                        self.next() as u8,
                        self.below(6) as u8,
                        self.next() as u8,
                        self.next() as u8,
                    ];
                    bytes.splice(at..at, option);
                }
            }
        }
        bytes
    }
}
