//! DHCP: any datagram through the decision, and any order of messages, commits, failures, restarts
//! and reloads over the leases.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::OnceLock;

use arbitrary::Unstructured;
use dhcproto::v4::{DhcpOption, Message, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder};
use ringboot::config::Config;
use ringboot::dhcp::decide::{AnswerKind, Decision, IncomingMessage, decide_answer};
use ringboot::dhcp::lease::{Lease, LeaseChange, LeaseRowState, LeaseTable};
use ringboot::dhcp::limits::{FOREVER_S, REPLY_BYTES_MAX, REPLY_BYTES_MIN};
use ringboot::dhcp::policy::DhcpPolicy;
use ringboot::model::machine::Mac;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 5, 150);
/// Inside a pool.
const THIRD: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 11);
/// In order, as the core has them.
const OURS: [Ipv4Addr; 4] = [Ipv4Addr::LOCALHOST, THIRD, SERVER, SECOND];
const RELAYS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 7, 0, 1), Ipv4Addr::new(10, 8, 0, 1)];
const START_S: u64 = 1_000_000;
const DECLINE: u8 = 4;
const RELEASE: u8 = 7;

/// Two subnets on eth1, two behind relays on one wire, a pool with an address of ours and one with
/// a relay's; and the same without one of its reservations and with another pool.
fn policies() -> &'static [DhcpPolicy; 2] {
    static POLICIES: OnceLock<[DhcpPolicy; 2]> = OnceLock::new();
    POLICIES.get_or_init(|| {
        let host = "[[dhcp.subnet.host]]\nmac = \"02:00:00:00:00:01\"\naddress = \
                    \"192.168.4.12\"\n";
        let text = |pool: &str, host: &str| {
            let relayed = |third: u8| {
                format!(
                    "[[dhcp.subnet]]\nsubnet = \"10.{third}.0.0/24\"\nmode = \"server\"\nrelay = \
                     true\nclients = \"any\"\n\
                     shared-network = \"far\"\npools = [\"10.{third}.0.1-10.{third}.0.3\"]\n"
                )
            };
            format!(
                "root = \"/r\"\n[server]\ninterfaces = [\"eth1\"]\n\
                 [[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\ninterface = \"eth1\"\nmode = \
                 \"server\"\nclients = \"any\"\n\
                 authoritative = true\npools = [\"{pool}\"]\n{host}\
                 [[dhcp.subnet]]\nsubnet = \"192.168.5.0/24\"\ninterface = \"eth1\"\nmode = \
                 \"server\"\n\
                 pools = [\"192.168.5.10-192.168.5.12\"]\n{}{}[boot]\nbios = \
                 \"pxelinux.0\"\nuefi-x64 = \"shimx64.efi\"\n\
                 uefi-http = \"efi/bootx64.efi\"\n",
                relayed(7),
                relayed(8)
            )
        };
        let read = |text: &str| {
            Config::parse("fuzz.toml", text).unwrap_or_else(|why| panic!("{why}")).snapshot.dhcp
        };
        [
            read(&text("192.168.4.10-192.168.4.13", host)),
            read(&text("192.168.4.11-192.168.4.14", "")),
        ]
    })
}

fn arrival(bytes: &[u8], source: Ipv4Addr, is_unicast: bool) -> IncomingMessage<'_> {
    IncomingMessage {
        bytes,
        source: SocketAddrV4::new(source, 68),
        destination: Some(if is_unicast { SERVER } else { Ipv4Addr::BROADCAST }),
        interface: Some("eth1"),
        interface_address: SERVER,
        here: &[(SERVER, 24), (SECOND, 24), (THIRD, 24)],
        ours: &OURS,
        held: &[],
    }
}

/// A datagram, after a byte that says how it came. A second reader understands the answer, and it
/// is one that may leave.
pub(crate) fn message(bytes: &[u8]) {
    let Some((how, datagram)) = bytes.split_first() else { return };
    let policy = &policies()[0];
    let mut leases = LeaseTable::new(&policy.subnets);
    let from = Ipv4Addr::new(192, 168, 4, how >> 1);
    let arrival = arrival(datagram, from, how & 1 == 1);
    for _ in 0..2 {
        let decision = decide_answer(&arrival, &leases, policy, START_S, 7);
        let again = decide_answer(&arrival, &leases, policy, START_S, 7);
        assert_eq!(
            (&decision.answer, &decision.changes),
            (&again.answer, &again.changes),
            "a function of its input"
        );
        sound(&decision, datagram);
        leases.begin_commit(&decision.changes, decision.xid, START_S);
        leases.finish_commit(&decision.changes, decision.xid, true, START_S);
    }
}

/// What holds for every decision.
fn sound(decision: &Decision, asked: &[u8]) {
    assert_ne!(
        decision.answer.is_some(),
        decision.silence.is_some(),
        "an answer, or why there is none"
    );
    let Some(answer) = &decision.answer else { return };
    let bytes = &answer.bytes;
    assert!((REPLY_BYTES_MIN..=REPLY_BYTES_MAX).contains(&bytes.len()), "{} octets", bytes.len());
    let reply = Message::decode(&mut Decoder::new(bytes))
        .expect("an answer that another reader understands");
    assert_eq!((reply.opcode(), reply.hops()), (Opcode::BootReply, 0));
    assert_eq!(
        (&bytes[1..3], &bytes[4..8], &bytes[24..44]),
        (&asked[1..3], &asked[4..8], &asked[24..44])
    );
    let yiaddr = reply.yiaddr();
    assert!(!OURS.contains(&yiaddr), "{yiaddr} is ours");
    assert!(reply.giaddr() != yiaddr || yiaddr.is_unspecified(), "{yiaddr} is the relay's");
    let gives = matches!(answer.kind, AnswerKind::Offer | AnswerKind::Ack | AnswerKind::Bootp);
    assert_eq!(gives, !yiaddr.is_unspecified());
    let is_dhcp = reply.opts().get(OptionCode::MessageType).is_some();
    assert_eq!(is_dhcp, answer.kind != AnswerKind::Bootp);
    assert_eq!(
        is_dhcp,
        matches!(
            reply.opts().get(OptionCode::ServerIdentifier),
            Some(DhcpOption::ServerIdentifier(_))
        )
    );
    let binds = decision
        .changes
        .iter()
        .any(|change| matches!(change, LeaseChange::Bind(lease) if lease.address == yiaddr));
    assert_eq!(
        binds,
        matches!(answer.kind, AnswerKind::Ack | AnswerKind::Bootp),
        "what is given is kept, and nothing else"
    );
}

/// Who may use an address, by what has left the server. None: what boots the machine; it hands on
/// to any system.
#[derive(Debug, PartialEq)]
struct Holder {
    mac: Mac,
    system: Option<Vec<u8>>,
    end_s: u64,
}

/// A server, its store, and what its clients were told.
struct World {
    policy: &'static DhcpPolicy,
    leases: LeaseTable,
    now: u64,
    /// What a restart finds.
    rows: BTreeMap<Ipv4Addr, Lease>,
    pending: VecDeque<(Decision, Holder)>,
    holders: BTreeMap<Ipv4Addr, Holder>,
}

/// Messages of four machines with up to three systems each, commits that come late, or fail, time,
/// reloads and restarts: no address has two holders at a time.
pub(crate) fn leases(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let policy = &policies()[0];
    let mut world = World {
        policy,
        leases: LeaseTable::new(&policy.subnets),
        now: START_S,
        rows: BTreeMap::new(),
        pending: VecDeque::new(),
        holders: BTreeMap::new(),
    };
    while !input.is_empty() {
        match below(&mut input, 16) {
            0 => world.commit(true),
            1 => world.commit(false),
            2 => world.now += below(&mut input, 900),
            3 => world.now += below(&mut input, 90_000),
            4 => world.reconfigure(&policies()[below(&mut input, 2) as usize]),
            5 if below(&mut input, 4) == 0 => world.restart(),
            _ => {
                world.hear(&mut input);
                if below(&mut input, 4) > 0 {
                    world.commit(true);
                }
            }
        }
    }
}

/// A number below `most`; 0 when the input is at its end.
fn below(input: &mut Unstructured<'_>, most: u64) -> u64 {
    input.int_in_range(0..=most - 1).unwrap_or(0)
}

impl World {
    fn hear(&mut self, input: &mut Unstructured<'_>) {
        let mac = Mac([2, 0, 0, 0, 0, below(input, 4) as u8]);
        let kind = [1, 1, 3, 3, 3, DECLINE, RELEASE, 0][below(input, 8) as usize];
        let told: Vec<Ipv4Addr> = self.leases.iter().map(|lease| lease.address).collect();
        let named = match below(input, 4) {
            0 => None,
            1 => Some(Ipv4Addr::new(192, 168, 4, 10 + below(input, 5) as u8)),
            2 => input.choose(&OURS).ok().copied(),
            _ => input.choose(&told).ok().copied(),
        };
        let (is_renewing, is_local) =
            (kind == RELEASE || below(input, 4) == 0, below(input, 4) > 0);
        let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
        options.extend((kind > 0).then(|| (53, vec![kind])));
        if let Some(named) = named.filter(|_| !is_renewing) {
            options.push((50, named.octets().to_vec()));
        }
        if kind > 1 && !is_renewing && below(input, 2) == 0 {
            options.push((
                54,
                input
                    .choose(&[SERVER, SECOND, Ipv4Addr::new(192, 168, 4, 2)])
                    .unwrap_or(&SERVER)
                    .octets()
                    .to_vec(),
            ));
        }
        // Which of the machine's programs speaks.
        let system = match below(input, 5) {
            0 => {
                options
                    .extend([(60, b"PXEClient:Arch:00007:UNDI:003000".to_vec()), (93, vec![0, 7])]);
                None
            }
            1 => None,
            2 => {
                options.push((55, vec![1, 3, 6]));
                Some(Vec::new())
            }
            n => {
                options.extend([(55, vec![1, 3]), (61, vec![0, n as u8])]);
                Some(vec![0, n as u8])
            }
        };
        let giaddr =
            if is_local { Ipv4Addr::UNSPECIFIED } else { RELAYS[below(input, 2) as usize] };
        let ciaddr = named.filter(|_| is_renewing).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let datagram = datagram(mac, below(input, 3) as u8, ciaddr, giaddr, &options);
        while self.leases.advance(self.now) {}
        let arrival = arrival(&datagram, ciaddr, is_renewing && below(input, 2) == 0);
        let decision =
            decide_answer(&arrival, &self.leases, self.policy, self.now, below(input, 256));
        sound(&decision, &datagram);
        self.leases.begin_commit(&decision.changes, decision.xid, self.now);
        if matches!(kind, DECLINE | RELEASE) {
            // Whoever gives an address back has it no more, also before that is durable.
            for change in &decision.changes {
                self.holders.remove(&change.address());
            }
        }
        let end_s = decision.changes.iter().find_map(|change| match change {
            LeaseChange::Bind(lease) => Some(lease.end_s),
            _ => None,
        });
        if decision.changes.iter().any(LeaseChange::is_durable) {
            self.pending.push_back((decision, Holder { mac, system, end_s: end_s.unwrap_or(0) }));
        }
    }

    /// The oldest commit has succeeded, and its ACK leaves; or it has failed.
    fn commit(&mut self, is_durable: bool) {
        let Some((decision, holder)) = self.pending.pop_front() else { return };
        self.leases.finish_commit(&decision.changes, decision.xid, is_durable, self.now);
        if !is_durable {
            return;
        }
        for change in &decision.changes {
            self.keep(change);
            let LeaseChange::Bind(lease) = change else { continue };
            if let Some(before) =
                self.holders.get(&lease.address).filter(|before| before.end_s > self.now)
            {
                let is_handed_on = before.system.is_none()
                    || holder.system.is_none()
                    || before.system == holder.system;
                assert!(
                    before.mac == holder.mac && (is_handed_on || self.is_by_machine(lease.address)),
                    "{} belongs to {before:?}, and {holder:?} is told the same at {}",
                    lease.address,
                    self.now
                );
            }
            let (mac, system, end_s) = (holder.mac, holder.system.clone(), holder.end_s);
            self.holders.insert(lease.address, Holder { mac, system, end_s });
        }
    }

    /// On a subnet for machines that boot, what runs on one is one client.
    fn is_by_machine(&self, address: Ipv4Addr) -> bool {
        address.octets()[2] == 5
    }

    /// What the store has then.
    fn keep(&mut self, change: &LeaseChange) {
        match change {
            LeaseChange::Bind(lease) => drop(self.rows.insert(lease.address, (**lease).clone())),
            LeaseChange::Release { address, end_s, .. } => {
                if let Some(row) = self.rows.get_mut(address) {
                    (row.state, row.end_s) = (LeaseRowState::Released, *end_s);
                }
            }
            LeaseChange::Decline { address, until_s, .. } => {
                if let Some(row) = self.rows.get_mut(address) {
                    (row.state, row.end_s) = (LeaseRowState::Declined, *until_s);
                }
            }
            LeaseChange::Free { address } => drop(self.rows.remove(address)),
            _ => {}
        }
    }

    fn reconfigure(&mut self, policy: &'static DhcpPolicy) {
        self.policy = policy;
        self.leases.reconfigure(&policy.subnets);
        self.end_unreserved();
    }

    /// The process is killed and started again: what was not durable is gone, and nobody was told
    /// of it.
    fn restart(&mut self) {
        self.pending.clear();
        self.leases = LeaseTable::new(&self.policy.subnets);
        self.leases.load(self.rows.values().cloned(), self.now);
        self.end_unreserved();
    }

    /// A BOOTP client has its address as long as it is reserved for it.
    fn end_unreserved(&mut self) {
        let reserved = |address: &Ipv4Addr, mac: Mac| {
            let mut all = self.policy.subnets.iter().flat_map(|subnet| &subnet.reservations);
            all.any(|reservation| reservation.address == *address && reservation.mac == mac)
        };
        self.holders
            .retain(|address, holder| holder.end_s < FOREVER_S || reserved(address, holder.mac));
    }
}

fn datagram(
    mac: Mac,
    xid: u8,
    ciaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    options: &[(u8, Vec<u8>)],
) -> Vec<u8> {
    let mut bytes = vec![1, 1, 6, 0, 0, 0, 0, xid, 0, 0, 0, 0];
    bytes.extend(ciaddr.octets());
    bytes.extend([0; 8]);
    bytes.extend(giaddr.octets());
    bytes.extend(mac.0);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99]);
    for (code, value) in options {
        bytes.extend([*code, value.len() as u8]);
        bytes.extend(value);
    }
    bytes.push(255);
    bytes
}
