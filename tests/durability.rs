//! Leases outlive the server: no ACK before its sync, and a power cut for the process in the middle
//! of 500 machines.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ringboot::dhcp::packet::Packet;
use ringboot::model::machine::Mac;

mod common;

use common::Scratch;
use common::process::Process;

const LIMIT: Duration = Duration::from_secs(30);
/// How long a machine waits before it says the same again.
const AGAIN: Duration = Duration::from_millis(300);
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;

/// A server for relayed DHCP on a loopback port, without root.
struct World {
    scratch: Scratch,
    port: u16,
}

impl World {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.path().join("root")).unwrap();
        let port = common::free_port().port();
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"admin.sock\"\nuser = \
             \"root\"\n[tftp]\nlisten = []\n[http]\nlisten = []\n\
             [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n\
             [[dhcp.subnet]]\nsubnet = \"127.77.0.0/16\"\nrelay = true\nmode = \"server\"\nclients \
             = \"any\"\n\
             pools = [\"127.77.1.1-127.77.4.250\"]\n"
        );
        std::fs::write(scratch.path().join("ringboot.toml"), text).unwrap();
        Self { scratch, port }
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn database(&self) -> PathBuf {
        self.scratch.path().join("state/ringboot.db")
    }

    fn start(&self, before: &[&str]) -> Process {
        let mut words: Vec<&str> = before.to_vec();
        words.extend([env!("CARGO_BIN_EXE_ringboot"), "serve", "--config"]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.scratch.path().join("ringboot.toml"));
        let process = Process::start(command);
        let ready = |text: &String| text.starts_with("READY").then_some(());
        let waited = process.stdout.wait_for(LIMIT, ready);
        assert!(waited.is_ok(), "{waited:?}: {}", process.stderr.text());
        process
    }
}

/// A relayed message; option 82 says which subnet it is for and that answers go to the port it came
/// from (D-48, D-74).
fn message(kind: u8, mac: Mac, requested: Option<Ipv4Addr>, selects: bool) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
    bytes[4..8].copy_from_slice(&mac.0[2..]);
    bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
    bytes[28..34].copy_from_slice(&mac.0);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
    if let Some(address) = requested {
        bytes.extend_from_slice(&[50, 4]);
        bytes.extend_from_slice(&address.octets());
    }
    if selects {
        bytes.extend_from_slice(&[54, 4, 127, 0, 0, 1]);
    }
    bytes.extend_from_slice(&[82, 8, 5, 4, 127, 77, 0, 0, 19, 0, 255]);
    bytes
}

/// The next reply: its type, its machine, its address.
fn hear(relay: &UdpSocket, limit: Duration) -> Option<(u8, Mac, Ipv4Addr)> {
    relay.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
    let mut bytes = [0; 1500];
    let len = relay.recv(&mut bytes).ok()?;
    let reply = Packet::parse_reply(&bytes[..len]).unwrap();
    let mac = Mac(reply.chaddr[..6].try_into().unwrap());
    Some((reply.option(53).unwrap()[0], mac, reply.yiaddr))
}

fn machine(n: u16) -> Mac {
    let [high, low] = n.to_be_bytes();
    Mac([0x52, 0x54, 0, 0xdd, high, low])
}

/// What the database holds, read as an operator would.
fn rows(database: &Path) -> Vec<(String, String)> {
    let connection = rusqlite::Connection::open(database).unwrap();
    let mut select = connection.prepare("SELECT address, mac FROM leases").unwrap();
    select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn an_ack_leaves_only_after_the_sync_of_its_lease() {
    common::need(&[("strace", "strace")]);
    const HELD_BACK: Duration = Duration::from_millis(500);
    let world = World::new("durable-strace");
    let trace = world.scratch.path().join("trace");
    let delay = format!("inject=fsync,fdatasync:delay_exit={}", HELD_BACK.as_micros());
    let strace = [
        "strace",
        "-f",
        "-o",
        trace.to_str().unwrap(),
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        &delay,
    ];
    let mut server = world.start(&strace);
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    relay.connect(world.server()).unwrap();
    relay.send(&message(DISCOVER, machine(1), None, false)).unwrap();
    let (kind, _, address) = hear(&relay, LIMIT).unwrap();
    assert_eq!(kind, OFFER);
    let syncs = std::fs::read_to_string(&trace).unwrap().matches("sync(").count();
    let asked = Instant::now();
    relay.send(&message(REQUEST, machine(1), Some(address), true)).unwrap();
    assert_eq!(hear(&relay, LIMIT), Some((ACK, machine(1), address)));
    assert!(
        asked.elapsed() >= HELD_BACK,
        "ACK after {:?}, its sync was held back for {HELD_BACK:?}",
        asked.elapsed()
    );
    let text = std::fs::read_to_string(&trace).unwrap();
    // strace keeps a SIGTERM for itself: the server is its child.
    let pid = server.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let status = Command::new("kill").args(["-TERM", children.trim()]).status().unwrap();
    assert!(status.success() && server.wait(LIMIT).is_some_and(|status| status.success()));
    assert!(text.matches("sync(").count() > syncs, "no sync between REQUEST and ACK:\n{text}");
}

#[test]
fn kill_9_in_the_middle_of_500_machines_loses_no_lease_and_doubles_none() {
    const MACHINES: u16 = 500;
    let world = World::new("durable-kill");
    let mut server = Some(world.start(&[]));
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut waiting: BTreeMap<Mac, Option<Ipv4Addr>> =
        (0..MACHINES).map(|n| (machine(n), None)).collect();
    let mut acked: BTreeMap<Mac, Ipv4Addr> = BTreeMap::new();
    let mut before_the_cut = None;
    let started = Instant::now();
    let mut said = None;
    while !waiting.is_empty() {
        assert!(started.elapsed() < LIMIT, "{} machines are left after {LIMIT:?}", waiting.len());
        if said.is_none_or(|at: Instant| at.elapsed() >= AGAIN) {
            for (&mac, &offered) in &waiting {
                let kind = if offered.is_some() { REQUEST } else { DISCOVER };
                relay
                    .send_to(&message(kind, mac, offered, offered.is_some()), world.server())
                    .unwrap();
            }
            said = Some(Instant::now());
        }
        match hear(&relay, AGAIN) {
            Some((OFFER, mac, address)) if waiting.contains_key(&mac) => {
                waiting.insert(mac, Some(address));
                relay.send_to(&message(REQUEST, mac, Some(address), true), world.server()).unwrap();
            }
            Some((ACK, mac, address)) => {
                assert_eq!(
                    *acked.entry(mac).or_insert(address),
                    address,
                    "{mac} was told two addresses"
                );
                waiting.remove(&mac);
            }
            // An offer that the restarted server does not know of any more: begin anew.
            Some((_, mac, _)) => drop(waiting.get_mut(&mac).map(Option::take)),
            None => {}
        }
        if before_the_cut.is_none() && acked.len() >= 200 {
            let mut process = server.take().unwrap();
            process.signal("KILL");
            process.wait(LIMIT).unwrap();
            before_the_cut = Some(acked.clone());
            server = Some(world.start(&[]));
        }
    }
    let before_the_cut = before_the_cut.expect("the cut came");
    assert!(before_the_cut.len() < usize::from(MACHINES), "the cut came in the middle");
    assert!(server.unwrap().stop(LIMIT).success());

    let rows = rows(&world.database());
    let addresses: BTreeSet<&String> = rows.iter().map(|(address, _)| address).collect();
    assert_eq!(addresses.len(), rows.len(), "an address is held twice");
    assert_eq!(
        acked.values().collect::<BTreeSet<_>>().len(),
        usize::from(MACHINES),
        "two machines were told one address"
    );
    for (mac, address) in &acked {
        let kept = rows
            .iter()
            .any(|(row, holder)| *row == address.to_string() && *holder == mac.to_string());
        assert!(kept, "{mac} was told {address}, and the database does not know");
    }

    // A third start: every machine gets the address that it was told, by INIT-REBOOT.
    let mut server = world.start(&[]);
    for (&mac, &address) in &acked {
        relay.send_to(&message(REQUEST, mac, Some(address), false), world.server()).unwrap();
        assert_eq!(hear(&relay, LIMIT), Some((ACK, mac, address)));
    }
    assert!(server.stop(LIMIT).success());
}

#[test]
fn a_second_server_on_the_same_state_is_refused() {
    let world = World::new("durable-lock");
    let mut first = world.start(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
    command.args(["serve", "--config"]).arg(world.scratch.path().join("ringboot.toml"));
    let second = common::process::run(command, LIMIT).failed();
    assert!(
        second.stderr.contains("another ringboot runs with the state directory"),
        "{}",
        second.stderr
    );
    first.signal("KILL");
    first.wait(LIMIT).unwrap();
    let mut third = world.start(&[]);
    assert!(third.stop(LIMIT).success());
}
