//! What the box knows and how it says so: machines and where they stand, pools and how full they are, one line for a monitor.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use ringboot::dhcp::packet::Packet;
use serde_json::Value;

mod common;

use common::Scratch;
use common::process::{Output, Process, run};

const LIMIT: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const RELEASE: u8 = 7;
const ACK: u8 = 5;
/// A reservation that is never switched on.
const RESERVED: &str = "52:54:00:ff:00:01";

/// A server for relays on loopback, whose pool is as small or large as a test wants it.
struct Box {
    scratch: Scratch,
    dhcp: SocketAddr,
    relay: UdpSocket,
}

impl Box {
    fn new(name: &str, pool: &str) -> Self {
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.path().join("root")).unwrap();
        let dhcp = common::free_port();
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"admin.sock\"\n[tftp]\nlisten = []\n[http]\nlisten = []\n\
             [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {}\n\
             [[dhcp.subnet]]\nsubnet = \"127.77.0.0/16\"\nrelay = true\nmode = \"server\"\nclients = \"any\"\npools = [\"{pool}\"]\n\
             [[dhcp.subnet.host]]\nmac = \"{RESERVED}\"\naddress = \"127.77.200.9\"\nhostname = \"node9\"\n",
            dhcp.port()
        );
        std::fs::write(scratch.path().join("ringboot.toml"), text).unwrap();
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(LIMIT)).unwrap();
        Self { scratch, dhcp, relay }
    }

    fn start(&self) -> Process {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(self.scratch.path().join("ringboot.toml"));
        let process = Process::start(command);
        let ready = process.stdout.wait_for(LIMIT, |text| text.starts_with("READY").then_some(()));
        assert!(ready.is_ok(), "{}", process.stderr.text());
        process
    }

    fn ringboot(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(self.scratch.path().join("ringboot.toml"));
        run(command, LIMIT)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ringboot(arguments).stdout).unwrap()
    }

    /// What a command says once it holds these words: facts are up to two seconds old.
    fn until(&self, arguments: &[&str], words: &str) -> Output {
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = self.ringboot(arguments);
            if said.stdout.contains(words) {
                return said;
            }
            assert!(Instant::now() < deadline, "no {words:?} in {arguments:?}:\n{}{}", said.stdout, said.stderr);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn say(&self, kind: u8, machine: u16, address: Option<Ipv4Addr>) {
        let [high, low] = machine.to_be_bytes();
        let mut bytes = vec![0; 236];
        bytes[..8].copy_from_slice(&[1, 1, 6, 1, 0, 0, high, low]);
        bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, high, low]);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
        match (kind, address) {
            (RELEASE, Some(address)) => bytes[12..16].copy_from_slice(&address.octets()),
            (_, Some(address)) => bytes.extend_from_slice(&[&[50, 4][..], &address.octets()].concat()),
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
    fn hear(&self) -> (u8, u16, Ipv4Addr) {
        let mut bytes = [0; 1500];
        let len = self.relay.recv(&mut bytes).unwrap();
        let reply = Packet::parse_reply(&bytes[..len]).unwrap();
        (reply.option(53).unwrap()[0], u16::from_be_bytes([bytes[32], bytes[33]]), reply.yiaddr)
    }

    /// DISCOVER to ACK.
    fn lease(&self, machine: u16) -> Ipv4Addr {
        self.say(DISCOVER, machine, None);
        let (kind, _, address) = self.hear();
        assert_eq!(kind, OFFER);
        self.say(REQUEST, machine, Some(address));
        assert_eq!(self.hear(), (ACK, machine, address));
        address
    }
}

/// From an empty pool to one that is full and has room again: what screen, JSON, log, monitor and list of machines say.
#[test]
fn a_pool_that_fills_is_seen_everywhere_before_a_machine_fails_and_after() {
    let world = Box::new("facts-pool", "127.77.1.1-127.77.1.4");
    let gone = world.ringboot(&["status", "--exit-code"]);
    assert_eq!(gone.status.code(), Some(2), "{}{}", gone.stdout, gone.stderr);
    assert!(gone.stdout.starts_with("CRITICAL: no server answers on ") && gone.stderr.is_empty(), "{}", gone.stdout);
    let mut server = world.start();
    let well = world.ringboot(&["status", "--exit-code"]).ok();
    assert_eq!(well.stdout, "OK: DHCP on 1 subnet, 0 leases run\n");
    let screen = world.until(&["status"], "0 of 4 addresses given").ok().stdout;
    assert!(!screen.contains("FULL") && screen.contains("  leases     0 known, 0 commits pending"), "{screen}");

    let addresses: Vec<Ipv4Addr> = (1..=4).map(|machine| world.lease(machine)).collect();
    let screen = world.until(&["status"], "FULL since").ok().stdout;
    let subnet = "  subnet     127.77.0.0/16 by relays, mode server, 4 of 4 addresses given, FULL since ";
    assert!(
        screen.contains(subnet) && screen.contains("  leases     4 known (4 bound), 0 commits pending"),
        "{screen}"
    );
    let status = world.json(&["status", "--json"]);
    let pool = &status["subnets"][0]["pool"];
    let counts = ["addresses", "free", "bound", "offered", "ended", "kept_back"].map(|key| pool[key].as_u64().unwrap());
    assert_eq!((counts, pool["nearly_full"].as_bool()), ([4, 0, 4, 0, 0, 0], Some(true)));
    assert!(pool["full_since_s"].as_u64().unwrap() < 60 && status["health"]["level"] == "CRITICAL", "{status}");
    let watched = world.ringboot(&["status", "--exit-code"]);
    let line = "CRITICAL: the pools of subnet 127.77.0.0/16 are full: 4 of 4 addresses given\n";
    assert_eq!((watched.status.code(), watched.stdout.as_str()), (Some(2), line));
    assert_eq!(world.ringboot(&["status", "--exit-code", "--json"]).status.code(), Some(2));

    // The fifth machine gets nothing, and is found without knowing whom to ask for.
    world.say(DISCOVER, 5, None);
    let failed = world.until(&["machines", "--failed"], "52:54:00:00:00:05");
    assert_eq!(failed.status.code(), Some(1));
    assert!(failed.stdout.contains("  failed ") && failed.stdout.contains("The pool is full: "), "{}", failed.stdout);
    assert!(!failed.stdout.contains("52:54:00:00:00:01"), "{}", failed.stdout);
    let all = world.ringboot(&["machines"]).ok().stdout;
    let lines: Vec<&str> = all.lines().collect();
    assert!(lines.len() == 7 && lines[0].starts_with("52:54:00:00:00:05 "), "{all}");
    assert_eq!(lines[5], format!("{RESERVED}  127.77.200.9     unseen   -        node9"));
    assert!(lines[6].starts_with("1 failed, ") && lines[6].ends_with(", 1 unseen"), "{all}");
    assert_eq!(world.json(&["machines", "--unseen", "--json"])["machines"][0]["host_name"], "node9");
    let elsewhere = world.ringboot(&["machines", "--failed", "--subnet", "10.0.0.0/8"]).ok().stdout;
    assert_eq!(elsewhere, "no machine was heard of\n");

    // One goes: there is room, and its lease is over.
    world.say(RELEASE, 1, Some(addresses[0]));
    let screen = world.until(&["status"], "3 of 4 addresses given").ok().stdout;
    assert!(!screen.contains("FULL") && screen.contains("(3 bound, 1 ended or given back)"), "{screen}");
    world.ringboot(&["status", "--exit-code"]).ok();
    world.lease(1);
    world.until(&["status"], "FULL since").ok();
    let log = server.stderr.text();
    let count = |words: &str| log.matches(words).count();
    let said =
        ["are FULL: 4 of 4 addresses given, and further machines get none", "have room again: 3 of 4"].map(count);
    assert_eq!(said, [2, 1], "once for each crossing:\n{log}");

    // The history of a stopped server says the same of machines that were heard of, within a second.
    let kept = || {
        let mut command = Command::new(BINARY);
        command.args(["machines", "--failed", "--state"]).arg(world.scratch.path().join("state"));
        run(command, LIMIT)
    };
    assert!(server.stop(LIMIT).success());
    let kept = kept();
    assert_eq!(kept.status.code(), Some(1), "{}{}", kept.stdout, kept.stderr);
    assert!(
        kept.stdout.starts_with("52:54:00:00:00:05 ") && kept.stdout.contains("The pool is full: "),
        "{}",
        kept.stdout
    );
    let stopped = world.ringboot(&["machines"]).ok().stdout;
    assert_eq!(stopped.lines().count(), 6, "reservations are in no database: {stopped}");
}

/// A rack of 2,000: each is in the list, in bounded time.
#[test]
fn two_thousand_machines_are_listed() {
    let world = Box::new("facts-rack", "127.77.1.0-127.77.9.255");
    let mut server = world.start();
    const AT_ONCE: u16 = 100;
    for first in (1..=2000).step_by(usize::from(AT_ONCE)) {
        (first..first + AT_ONCE).for_each(|machine| world.say(DISCOVER, machine, None));
        for _ in 0..AT_ONCE {
            let (_, machine, address) = world.hear();
            world.say(REQUEST, machine, Some(address));
        }
        (0..AT_ONCE).for_each(|_| assert_eq!(world.hear().0, ACK));
    }
    let began = Instant::now();
    let listed = world.json(&["machines", "--json"]);
    let took = began.elapsed();
    assert_eq!(listed["machines"].as_array().unwrap().len(), 2001);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let text = world.ringboot(&["machines"]).ok().stdout;
    assert!(text.lines().count() == 1002 && text.contains("1001 more: --failed, --booting or --subnet"), "{text}");
    world.until(&["status"], "2000 of 2304 addresses given").ok();
    let watched = world.ringboot(&["status", "--exit-code"]);
    assert_eq!(watched.status.code(), Some(1), "{}", watched.stdout);
    assert!(
        watched.stdout.starts_with("WARNING: the pools of subnet 127.77.0.0/16 are nearly full: "),
        "{}",
        watched.stdout
    );
    assert_eq!(server.stderr.text().matches("are nearly full: ").count(), 1);
    assert!(server.stop(LIMIT).success());
}
