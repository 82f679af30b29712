//! DISCOVER and REQUEST of a PXE ROM, from the datagram to the decision with the bytes of its
//! answer.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};

use ringboot::config::Config;
use ringboot::dhcp::decide::{AnswerKind, Decision, IncomingMessage, decide_answer};
use ringboot::dhcp::lease::{ClockSeconds, LeaseTable};
use ringboot::dhcp::policy::DhcpPolicy;

use super::Operation;
use super::boot::{CLASSIC, SERVER};

/// Other machines that hold an offer: the tables are not empty.
const MACHINES: u8 = 40;
const NOW: ClockSeconds = 1_000_000;
const SEED: u64 = 1;

pub(crate) fn operations() -> Vec<Operation> {
    let discover = || {
        let office = Office::new();
        let message = discover(0);
        move || expect(AnswerKind::Offer, office.decide(black_box(&message)))
    };
    let request = || {
        let mut office = Office::new();
        let offered = office.offer(0);
        let message = request(0, offered);
        move || expect(AnswerKind::Ack, office.decide(black_box(&message)))
    };
    vec![
        Operation::new("dhcp: DISCOVER to decision", discover()),
        Operation::new("dhcp: REQUEST to decision", request()),
    ]
}

/// The classic set-up with some of its machines switched on.
struct Office {
    policy: DhcpPolicy,
    leases: LeaseTable,
}

impl Office {
    fn new() -> Self {
        let policy = Config::parse("classic.toml", CLASSIC).unwrap().snapshot.dhcp;
        let mut office = Self { leases: LeaseTable::new(&policy.subnets), policy };
        for machine in 1..=MACHINES {
            office.offer(machine);
        }
        office
    }

    fn decide(&self, message: &[u8]) -> Decision {
        let arrival = IncomingMessage {
            bytes: message,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: Some(Ipv4Addr::BROADCAST),
            interface: self.policy.subnets[0].interface.as_deref(),
            interface_address: SERVER,
            here: &[(SERVER, 24)],
            ours: &[SERVER],
            held: &[],
        };
        decide_answer(&arrival, &self.leases, &self.policy, NOW, SEED)
    }

    /// The machine asks, and has its address held for it.
    fn offer(&mut self, machine: u8) -> Ipv4Addr {
        let decision = expect(AnswerKind::Offer, self.decide(&discover(machine)));
        self.leases.begin_commit(&decision.changes, decision.xid, NOW);
        let yiaddr: [u8; 4] = decision.answer.unwrap().bytes[16..20].try_into().unwrap();
        yiaddr.into()
    }
}

fn expect(kind: AnswerKind, decision: Decision) -> Decision {
    assert_eq!(
        decision.answer.as_ref().map(|answer| answer.kind),
        Some(kind),
        "{:?}",
        decision.reasons
    );
    decision
}

fn discover(machine: u8) -> Vec<u8> {
    message(machine, &[53, 1, 1])
}

fn request(machine: u8, offered: Ipv4Addr) -> Vec<u8> {
    let mut options = vec![53, 1, 3, 50, 4];
    options.extend(offered.octets());
    options.extend([54, 4]);
    options.extend(SERVER.octets());
    message(machine, &options)
}

/// What a BIOS PXE ROM sends: RFC 2131 figure 1, `options`, then its architecture, class, machine
/// UUID and wishes.
fn message(machine: u8, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&[0x12, 0x34, 0x56, machine]);
    bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, machine]);
    bytes.extend([99, 130, 83, 99]);
    bytes.extend(options);
    bytes.extend([57, 2, 4, 236, 93, 2, 0, 0, 94, 3, 1, 2, 1]);
    bytes.extend([97, 17, 0]);
    bytes.extend([machine; 16]);
    bytes.extend([60, 32]);
    bytes.extend(b"PXEClient:Arch:00000:UNDI:002001");
    bytes.extend([55, 7, 1, 3, 6, 12, 15, 66, 67, 255]);
    bytes
}
