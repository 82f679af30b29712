//! A server that answers DHCP for relays on loopback, so that a test needs no network of its own,
//! and machines behind a relay.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use ringboot::dhcp::packet::Packet;
use serde_json::Value;

use super::process::{Output, Process, run};
use super::{Scratch, free_port};

pub const LIMIT: Duration = Duration::from_secs(60);
pub const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");
pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const RELEASE: u8 = 7;
pub const ACK: u8 = 5;
/// A reservation that is never switched on.
pub const RESERVED: &str = "52:54:00:ff:00:01";

/// A server for relays on loopback, whose pool is as small or large as a test wants it.
pub struct Relayed {
    pub scratch: Scratch,
    dhcp: SocketAddr,
    relay: UdpSocket,
}

impl Relayed {
    pub fn new(name: &str, pool: &str) -> Self {
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.path().join("root")).unwrap();
        let dhcp = free_port();
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \
             \"admin.sock\"\n[tftp]\nlisten = []\n[http]\nlisten = []\n\
             [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {}\n\
             [[dhcp.subnet]]\nsubnet = \"127.77.0.0/16\"\nrelay = true\nmode = \"server\"\nclients \
             = \"any\"\npools = [\"{pool}\"]\n\
             [[dhcp.subnet.host]]\nmac = \"{RESERVED}\"\naddress = \"127.77.200.9\"\nhostname = \
             \"node9\"\n",
            dhcp.port()
        );
        std::fs::write(scratch.path().join("ringboot.toml"), text).unwrap();
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(LIMIT)).unwrap();
        Self { scratch, dhcp, relay }
    }

    pub fn start(&self) -> Process {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(self.scratch.path().join("ringboot.toml"));
        let process = Process::start(command);
        let ready = process.stdout.wait_for(LIMIT, |text| text.starts_with("READY").then_some(()));
        assert!(ready.is_ok(), "{}", process.stderr.text());
        process
    }

    pub fn ringboot(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(self.scratch.path().join("ringboot.toml"));
        run(command, LIMIT)
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ringboot(arguments).stdout).unwrap()
    }

    /// What a command says once it holds these words: facts are up to two seconds old.
    pub fn until(&self, arguments: &[&str], words: &str) -> Output {
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = self.ringboot(arguments);
            if said.stdout.contains(words) {
                return said;
            }
            assert!(
                Instant::now() < deadline,
                "no {words:?} in {arguments:?}:\n{}{}",
                said.stdout,
                said.stderr
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn say(&self, kind: u8, machine: u16, address: Option<Ipv4Addr>) {
        let [high, low] = machine.to_be_bytes();
        let mut bytes = vec![0; 236];
        bytes[..8].copy_from_slice(&[1, 1, 6, 1, 0, 0, high, low]);
        bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, high, low]);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
        match (kind, address) {
            (RELEASE, Some(address)) => bytes[12..16].copy_from_slice(&address.octets()),
            (_, Some(address)) => {
                bytes.extend_from_slice(&[&[50, 4][..], &address.octets()].concat())
            }
            (_, None) => {}
        }
        if kind != DISCOVER {
            bytes.extend_from_slice(&[54, 4, 127, 0, 0, 1]);
        }
        // The relay's link is the subnet.
        bytes.extend_from_slice(&[82, 8, 5, 4, 127, 77, 0, 0, 19, 0, 255]);
        self.relay.send_to(&bytes, self.dhcp).unwrap();
    }

    /// The next reply's type, machine and address.
    pub fn hear(&self) -> (u8, u16, Ipv4Addr) {
        let mut bytes = [0; 1500];
        let len = self.relay.recv(&mut bytes).unwrap();
        let reply = Packet::parse_reply(&bytes[..len]).unwrap();
        (reply.option(53).unwrap()[0], u16::from_be_bytes([bytes[32], bytes[33]]), reply.yiaddr)
    }

    /// DISCOVER to ACK.
    pub fn lease(&self, machine: u16) -> Ipv4Addr {
        self.say(DISCOVER, machine, None);
        let (kind, _, address) = self.hear();
        assert_eq!(kind, OFFER);
        self.say(REQUEST, machine, Some(address));
        assert_eq!(self.hear(), (ACK, machine, address));
        address
    }
}
