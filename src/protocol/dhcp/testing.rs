//! What the tests of this room share: a subnet, a policy, and a server that applies its own
//! decisions at once.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::{Ipv4Addr, SocketAddrV4};

use super::decide::{Decision, IncomingMessage, decide_answer};
use super::lease::{ClockSeconds, LeaseTable};
use super::packet::{COOKIE, Packet};
use super::subnet::{AddressPool, AnsweringMode, ClientAdmission, Subnet};
use crate::boot::loader_choice::BootConfig;
use crate::dhcp::policy::DhcpPolicy;
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);

/// 192.168.4.0/24 with the pool of the classic set-up.
pub(super) fn subnet() -> Subnet {
    Subnet {
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
    }
}

/// 10.7.0.0/24 behind a relay agent at 10.7.0.1.
pub(super) fn relayed_subnet() -> Subnet {
    Subnet {
        network: Ipv4Network { address: Ipv4Addr::new(10, 7, 0, 0), prefix: 24 },
        interface: None,
        relay: true,
        pools: vec![AddressPool {
            first: Ipv4Addr::new(10, 7, 0, 50),
            last: Ipv4Addr::new(10, 7, 0, 99),
        }],
        routers: vec![Ipv4Addr::new(10, 7, 0, 1)],
        ..subnet()
    }
}

pub(super) fn policy() -> DhcpPolicy {
    DhcpPolicy {
        subnets: vec![subnet(), relayed_subnet()].into(),
        boot: BootConfig {
            bios: Some("pxelinux.0".into()),
            uefi_x64: Some("shimx64.efi".into()),
            uefi_http: Some("efi/bootx64.efi".into()),
            ..BootConfig::default()
        },
        http_port: 80,
        ..DhcpPolicy::default()
    }
}

/// A server whose store commits at once.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) policy: DhcpPolicy,
    pub(super) leases: LeaseTable,
    pub(super) now: ClockSeconds,
}

impl Server {
    pub(super) fn new(policy: DhcpPolicy) -> Self {
        Self { leases: LeaseTable::new(&policy.subnets), policy, now: 1_000_000 }
    }

    /// Decides without carrying out: `arrival` says how the message came.
    pub(super) fn decide(
        &mut self,
        message: &Message,
        how: impl FnOnce(&mut IncomingMessage<'_>),
    ) -> Decision {
        let bytes = message.bytes();
        let mut arrival = IncomingMessage {
            bytes: &bytes,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: Some(Ipv4Addr::BROADCAST),
            interface: Some("eth1"),
            interface_address: SERVER,
            here: &[(SERVER, 24)],
            ours: &[SERVER],
            held: &[],
        };
        how(&mut arrival);
        self.leases.advance(self.now);
        decide_answer(&arrival, &self.leases, &self.policy, self.now, 7)
    }

    /// Decides and carries out.
    pub(super) fn ask(&mut self, message: &Message) -> Decision {
        self.ask_by(message, |_| ())
    }

    pub(super) fn ask_by(
        &mut self,
        message: &Message,
        how: impl FnOnce(&mut IncomingMessage<'_>),
    ) -> Decision {
        let decision = self.decide(message, how);
        self.leases.begin_commit(&decision.changes, decision.xid, self.now);
        self.leases.finish_commit(&decision.changes, decision.xid, true, self.now);
        decision
    }

    /// DISCOVER and REQUEST of what was offered.
    pub(super) fn bind(&mut self, message: &Message) -> Ipv4Addr {
        let offered = self.ask(&message.clone().discover()).yiaddr();
        let ack = self.ask(&message.clone().request(offered));
        assert_eq!(ack.message_type(), Some(5), "{:?}", ack.reasons);
        offered
    }
}

impl Decision {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.answer.as_ref().expect("an answer").bytes
    }
    pub(super) fn reply(&self) -> Packet<'_> {
        Packet::parse_reply(self.bytes()).unwrap()
    }
    pub(super) fn yiaddr(&self) -> Ipv4Addr {
        self.reply().yiaddr
    }
    pub(super) fn option(&self, code: u8) -> Option<Vec<u8>> {
        self.reply().option(code).map(<[u8]>::to_vec)
    }
    pub(super) fn message_type(&self) -> Option<u8> {
        self.answer.as_ref()?;
        self.option(53).map(|value| value[0])
    }
    /// Codes in the order in which they were sent.
    pub(super) fn codes(&self) -> Vec<u8> {
        self.reply().options().map(|(code, _)| code).collect()
    }
}

/// A client's message in the making.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) mac: Mac,
    pub(super) xid: u32,
    pub(super) flags: u16,
    pub(super) secs: u16,
    pub(super) hops: u8,
    pub(super) ciaddr: Ipv4Addr,
    pub(super) giaddr: Ipv4Addr,
    pub(super) options: Vec<(u8, Vec<u8>)>,
}

impl Message {
    pub(super) fn from(last: u8) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, last]);
        Self {
            mac,
            xid: 0x1000,
            flags: 0,
            secs: 0,
            hops: 0,
            ciaddr: none,
            giaddr: none,
            options: Vec::new(),
        }
    }
    pub(super) fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.retain(|(known, _)| *known != code);
        self.options.push((code, value.to_vec()));
        self
    }
    pub(super) fn ciaddr(mut self, address: Ipv4Addr) -> Self {
        self.ciaddr = address;
        self
    }
    pub(super) fn relayed(mut self) -> Self {
        (self.giaddr, self.hops) = (Ipv4Addr::new(10, 7, 0, 1), 1);
        self
    }
    pub(super) fn pxe(self, arch: u16) -> Self {
        self.with(60, format!("PXEClient:Arch:{arch:05}:UNDI:003000").as_bytes())
            .with(93, &arch.to_be_bytes())
    }
    pub(super) fn http(self, arch: u16) -> Self {
        self.with(60, format!("HTTPClient:Arch:{arch:05}:UNDI:003000").as_bytes())
            .with(93, &arch.to_be_bytes())
    }
    pub(super) fn ipxe(self, arch: u16) -> Self {
        self.pxe(arch).with(77, b"iPXE").with(175, &[0x13, 1, 1])
    }
    pub(super) fn discover(self) -> Self {
        self.with(53, &[1])
    }
    pub(super) fn init_reboot(self, address: Ipv4Addr) -> Self {
        self.with(53, &[3]).with(50, &address.octets())
    }
    pub(super) fn request(self, address: Ipv4Addr) -> Self {
        self.init_reboot(address).with(54, &SERVER.octets())
    }
    pub(super) fn renew(self, address: Ipv4Addr) -> Self {
        self.with(53, &[3]).ciaddr(address)
    }
    pub(super) fn release(self, address: Ipv4Addr) -> Self {
        self.with(53, &[7]).with(54, &SERVER.octets()).ciaddr(address)
    }
    pub(super) fn decline(self, address: Ipv4Addr) -> Self {
        self.with(53, &[4]).with(54, &SERVER.octets()).with(50, &address.octets())
    }
    pub(super) fn inform(self, address: Ipv4Addr) -> Self {
        self.with(53, &[8]).ciaddr(address)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, self.hops];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.ciaddr.octets());
        bytes.extend([0; 8]);
        bytes.extend(self.giaddr.octets());
        bytes.extend(self.mac.0);
        bytes.resize(236, 0);
        bytes.extend(COOKIE);
        for (code, value) in &self.options {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.push(255);
        bytes
    }
}

/// The message came by unicast from this address.
pub(super) fn unicast(source: Ipv4Addr) -> impl FnOnce(&mut IncomingMessage<'_>) {
    move |arrival| {
        arrival.source = SocketAddrV4::new(source, 68);
        arrival.destination = Some(SERVER);
    }
}
