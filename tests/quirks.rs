//! Firmware that asks for more than it can do, against a real server: it boots by the third try, at
//! once later, and others of its make begin there.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use ringboot::dhcp::packet::Packet;
use ringboot::tftp::client::{
    AskedOption, ClientBehaviour, ClientOutcome, ClientPatience, FetchClient,
};
use ringboot::tftp::limits::SECOND;
use ringboot::tftp::packet::{self, Packet as Tftp};

mod common;

use common::Scratch;
use common::process::{Output, Process, run};

const LIMIT: Duration = Duration::from_secs(60);
const OURS: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OFFER: u8 = 2;
const ACK: u8 = 5;
const FILE: &str = "shimx64.efi";
const FILE_BYTES: usize = 400_000;

struct World {
    scratch: Scratch,
    port: u16,
    /// Second byte of its network: worlds live beside each other.
    network: u8,
}

struct Server {
    network: u8,
    process: Process,
    tftp: SocketAddr,
    dhcp: SocketAddr,
    relay: UdpSocket,
}

/// How firmware fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// An OACK with a window is answered with ERROR 8.
    RefusesWindows,
    /// Frames with more payload than this never arrive.
    LosesLargeBlocks(usize),
    /// Of frames back to back only so many arrive.
    LosesBursts(u32),
}

/// One try of a machine.
#[derive(Debug, PartialEq, Eq)]
struct Try {
    booted: bool,
    /// The value granted; None = the option was left out.
    window: Option<u16>,
    blksize: Option<u16>,
    /// Frames lost on the way in.
    lost: u32,
}

impl World {
    fn new(name: &str, more: &str) -> Self {
        static NETWORKS: AtomicU8 = AtomicU8::new(90);
        let network = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.path().join("root")).unwrap();
        let mut loader = vec![7; FILE_BYTES];
        let head = ringboot::boot::pe::build_x64_program();
        loader[..head.len()].copy_from_slice(&head);
        std::fs::write(scratch.path().join("root").join(FILE), loader).unwrap();
        let port = common::free_port().port();
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \
             \"admin.sock\"\n[boot]\nuefi-x64 = \"{FILE}\"\n\
             [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n\
             [[dhcp.subnet]]\nsubnet = \"127.{network}.0.0/16\"\nrelay = true\nmode = \
             \"server\"\npools = [\"127.{network}.1.1-127.{network}.1.9\"]\n{more}"
        );
        std::fs::write(scratch.path().join("ringboot.toml"), text).unwrap();
        Self { scratch, port, network }
    }

    fn start(&self) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["serve", "--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"]);
        let process = Process::start({
            command.arg(self.path("ringboot.toml"));
            command
        });
        let find =
            |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
        let ready = process
            .stdout
            .wait_for(LIMIT, find)
            .unwrap_or_else(|why| panic!("{why:?}: {}", process.stderr.text()));
        let tftp = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("tftp=")?.parse().ok())
            .unwrap();
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(LIMIT)).unwrap();
        Server {
            network: self.network,
            process,
            tftp,
            dhcp: SocketAddr::from((OURS, self.port)),
            relay,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn ringboot(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(arguments).arg("--config").arg(self.path("ringboot.toml"));
        run(command, LIMIT)
    }

    /// Asks until the answer has these words: an event waits for the log thread.
    fn until(&self, arguments: &[&str], words: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let said = self.ringboot(arguments).stdout;
            if said.contains(words) {
                return said;
            }
            assert!(Instant::now() < deadline, "no {words:?} in:\n{said}");
        }
    }
}

impl Server {
    fn stop(mut self) {
        let status = self.process.stop(LIMIT);
        assert!(status.success(), "{status}: {}", self.process.stderr.text());
    }

    /// DISCOVER to ACK.
    fn lease(&self, machine: [u8; 6]) -> Ipv4Addr {
        let exchange = |kind: u8, chosen: Option<Ipv4Addr>| {
            self.relay.send_to(&message(kind, machine, chosen, self.network), self.dhcp).unwrap();
            let mut bytes = [0; 1500];
            let len = self.relay.recv(&mut bytes).unwrap();
            let reply = Packet::parse_reply(&bytes[..len]).unwrap();
            (reply.option(53).unwrap()[0], reply.yiaddr)
        };
        let (kind, address) = exchange(1, None);
        assert_eq!((kind, exchange(3, Some(address))), (OFFER, (ACK, address)));
        address
    }

    /// The machine is switched on: it gets its address and fetches the loader, until it has it or
    /// its firmware gives up.
    fn boot(&self, machine: [u8; 6], behaviour: ClientBehaviour, flaw: Flaw) -> Try {
        let address = self.lease(machine);
        // One port for all tries, as some ROMs have it.
        let socket = UdpSocket::bind((address, 2070)).unwrap();
        let mut client = FetchClient::new(behaviour, FILE.as_bytes(), 1);
        let began = Instant::now();
        let mut seen = Try { booted: false, window: None, blksize: None, lost: 0 };
        let (mut in_burst, mut last_at) = (0, began);
        let mut bytes = [0; 2000];
        loop {
            let now = u64::try_from(began.elapsed().as_nanos()).unwrap();
            client.handle_timeout(now);
            while let Some(transmit) = client.poll_transmit(now) {
                let to =
                    transmit.to.map_or(self.tftp, |port| SocketAddr::new(self.tftp.ip(), port));
                socket.send_to(transmit.bytes, to).unwrap();
            }
            match client.outcome() {
                Some(ClientOutcome::Complete { octets }) => {
                    assert_eq!(octets, FILE_BYTES as u64);
                    return Try { booted: true, ..seen };
                }
                Some(_) => return seen,
                None => {}
            }
            socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
            let at = Instant::now();
            in_burst = if at - last_at < Duration::from_micros(300) { in_burst + 1 } else { 1 };
            last_at = at;
            match (packet::parse_tftp_packet(&bytes[..len]), flaw) {
                (Some(Tftp::OptionAck(options)), _) => {
                    for (name, value) in options {
                        let value = std::str::from_utf8(value).unwrap().parse().ok();
                        match name {
                            b"windowsize" => seen.window = value,
                            b"blksize" => seen.blksize = value,
                            _ => {}
                        }
                    }
                    if flaw == Flaw::RefusesWindows && seen.window.is_some() {
                        socket.send_to(b"\0\x05\0\x08no windows\0", from).unwrap();
                        return seen;
                    }
                }
                (Some(Tftp::Data { payload, .. }), Flaw::LosesLargeBlocks(most))
                    if payload.len() > most =>
                {
                    seen.lost += 1;
                    continue;
                }
                (Some(Tftp::Data { .. }), Flaw::LosesBursts(most)) if in_burst > most => {
                    seen.lost += 1;
                    continue;
                }
                _ => {}
            }
            client.handle(
                u64::try_from(began.elapsed().as_nanos()).unwrap(),
                from.port(),
                &bytes[..len],
            );
        }
    }
}

/// A relayed message of UEFI firmware; option 82 says which subnet it is for and that answers go to
/// the port it came from.
fn message(kind: u8, machine: [u8; 6], chosen: Option<Ipv4Addr>, network: u8) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
    bytes[4..8].copy_from_slice(&machine[2..]);
    bytes[24..28].copy_from_slice(&OURS.octets());
    bytes[28..34].copy_from_slice(&machine);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind, 60, 9]);
    bytes.extend_from_slice(b"PXEClient");
    bytes.extend_from_slice(&[93, 2, 0, 7]);
    for (option, address) in [(50, chosen), (54, chosen.map(|_| OURS))] {
        if let Some(address) = address {
            bytes.extend_from_slice(&[option, 4]);
            bytes.extend_from_slice(&address.octets());
        }
    }
    bytes.extend_from_slice(&[82, 8, 5, 4, 127, network, 0, 0, 19, 0, 255]);
    bytes
}

fn machine(last: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 7, last]
}

fn asks(asks: &[AskedOption]) -> ClientBehaviour {
    ClientBehaviour { asks: asks.to_vec(), ..ClientBehaviour::generic(1468, 4) }
}

/// EDK2 without its look at the size.
fn windows_of_4() -> ClientBehaviour {
    asks(&[AskedOption::Blksize(1468), AskedOption::Windowsize(4)])
}

const REFUSED: Try = Try { booted: false, window: Some(4), blksize: Some(1468), lost: 0 };
const BOOTED: Try = Try { booted: true, window: None, blksize: Some(1468), lost: 0 };

#[test]
fn t23_who_refuses_windows_boots_by_the_third_try_and_the_fourth_of_its_make_at_once() {
    let world = World::new("quirk-window", "");
    let server = world.start();
    let boot =
        |server: &Server, last| server.boot(machine(last), windows_of_4(), Flaw::RefusesWindows);
    assert_eq!(boot(&server, 1), REFUSED);
    assert!(!world.ringboot(&["status"]).ok().stdout.contains("  quirks  "));
    assert_eq!(boot(&server, 1), REFUSED);
    let said = world.until(&["why", "52:54:00:00:07:01"], "limited to");
    let reason = "limited to windowsize 1 because two transfers with windows were refused by the \
                  client, the last of shimx64.efi";
    assert!(said.contains(reason) && said.contains("(learnt on "), "{said}");
    assert_eq!(boot(&server, 1), BOOTED);
    assert_eq!(boot(&server, 1), BOOTED);
    let listed = world.until(&["quirk", "list", "--json"], "works_s\": 1");
    assert!(
        listed.contains("\"origin\": \"learnt\"") && listed.contains("\"windowsize\": 1"),
        "{listed}"
    );
    let status = world.ringboot(&["status"]).ok().stdout;
    assert!(status.contains("quirks     1 machines and 0 makers or classes"), "{status}");

    // Also after a restart, and the story is told without a server too.
    server.stop();
    assert!(world.ringboot(&["why", "52:54:00:00:07:01"]).ok().stdout.contains(reason));
    let server = world.start();
    assert_eq!(boot(&server, 1), BOOTED);

    for last in [2, 3] {
        let words = format!("52:54:00:00:07:0{last}");
        assert_eq!(
            [boot(&server, last), boot(&server, last)],
            [REFUSED, REFUSED],
            "two are no rule yet"
        );
        world.until(&["quirk", "list"], &words);
        assert_eq!(boot(&server, last), BOOTED);
    }
    let listed = world.until(&["quirk", "list"], "3 machines or more of 52:54:00 needed it");
    assert!(
        listed.contains("u-boot             shipped    windowsize 32 because U-Boot loses packets"),
        "{listed}"
    );
    assert_eq!(boot(&server, 4), BOOTED, "a new one of the same make");
    let other_make = [2, 0, 0, 0, 0, 1];
    assert_eq!(server.boot(other_make, windows_of_4(), Flaw::RefusesWindows), REFUSED);
    server.stop();
}

#[test]
fn t23_who_loses_large_blocks_gets_smaller_ones_on_the_third_try() {
    let world = World::new("quirk-blocks", "");
    let server = world.start();
    let boot = |server: &Server, waits: u64| {
        // One wait for as long as this ROM has patience; then it begins anew from the same port.
        let patience = ClientPatience {
            first: waits * SECOND,
            growth_percent: 100,
            most: waits * SECOND,
            tries: 1,
        };
        let behaviour = ClientBehaviour { patience, ..asks(&[AskedOption::Blksize(1468)]) };
        server.boot(machine(1), behaviour, Flaw::LosesLargeBlocks(1100))
    };
    // The server learns of the first failure when the machine comes back, and of the second by its
    // own patience of 39 s.
    for waits in [2, 60] {
        let seen = boot(&server, waits);
        assert!(!seen.booted && seen.blksize == Some(1468) && seen.lost > 0, "{seen:?}");
    }
    world.until(
        &["why", "52:54:00:00:07:01"],
        "limited to blksize 1024 because two transfers with blocks of 1468 failed",
    );
    let later = Try { booted: true, window: None, blksize: Some(1024), lost: 0 };
    assert_eq!(boot(&server, 2), later);
    server.stop();
    let server = world.start();
    assert_eq!(boot(&server, 2), later);
    server.stop();
}

#[test]
fn t40_who_loses_bursts_gets_its_file_each_time_and_then_windows_that_fit() {
    let world = World::new("quirk-bursts", "");
    let server = world.start();
    let boot = |server: &Server| {
        server.boot(machine(1), ClientBehaviour::generic(1468, 32), Flaw::LosesBursts(9))
    };
    for _ in 0..2 {
        let seen = boot(&server);
        assert!(seen.booted && seen.window == Some(32) && seen.lost > 0, "{seen:?}");
    }
    world.until(
        &["why", "52:54:00:00:07:01"],
        "because two transfers with windows lost blocks in every burst",
    );
    let third = boot(&server);
    assert!(third.booted && third.window.is_none_or(|window| window <= 9), "{third:?}");
    server.stop();
}

#[test]
fn t23_a_limit_is_pinned_configured_and_forgotten_by_hand() {
    let more = "[[quirk]]\noui = \"52:54:00\"\nwindowsize-max = 2\n";
    let world = World::new("quirk-pinned", more);
    let server = world.start();
    let boot = |server: &Server| server.boot(machine(1), windows_of_4(), Flaw::None);
    let granted = |window| Try { booted: true, window, blksize: Some(1468), lost: 0 };
    assert_eq!(boot(&server), granted(Some(2)), "as configured");
    let mac = "52-54-00-00-07-01";
    world.ringboot(&["quirk", "pin", mac, "--window", "3"]).ok();
    assert_eq!(boot(&server), granted(Some(3)));
    let why = world.ringboot(&["why", mac]).ok().stdout;
    assert!(
        why.contains("limited to windowsize 3 because an operator pinned it (pinned on "),
        "{why}"
    );
    server.stop();

    // The same on the store that it left.
    world
        .ringboot(&[
            "quirk",
            "pin",
            mac,
            "--window",
            "1",
            "--blksize",
            "1024",
            "--http-rate",
            "625000",
        ])
        .ok();
    let listed = world.ringboot(&["quirk", "list"]).ok().stdout;
    let pinned = "52:54:00:00:07:01  pinned     windowsize 1, blksize 1024, HTTP at 625000 bytes/s \
                  because an operator pinned it";
    assert!(listed.contains(pinned), "{listed}");
    let server = world.start();
    assert_eq!(boot(&server), Try { blksize: Some(1024), ..granted(None) });
    let listed = world.ringboot(&["quirk", "list"]).ok().stdout;
    assert!(
        listed.contains("52:54:00           configured windowsize 2 because [[quirk]]"),
        "{listed}"
    );
    world.ringboot(&["quirk", "forget", mac]).ok();
    assert_eq!(boot(&server), granted(Some(2)));
    let again = world.ringboot(&["quirk", "forget", mac]);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        again.stderr.contains("52:54:00:00:07:01 has no learnt or pinned limit"),
        "{}",
        again.stderr
    );
    assert_eq!(world.ringboot(&["quirk", "pin", mac]).status.code(), Some(2), "nothing to pin");
    assert_eq!(
        world.ringboot(&["quirk", "pin", "PXEClient", "--window", "1"]).status.code(),
        Some(2)
    );
    server.stop();
    assert_eq!(
        world.ringboot(&["quirk", "forget", mac]).status.code(),
        Some(1),
        "nor in the store"
    );
}
