//! Crowds over real sockets: ten thousand open transfers in little memory, and long files to many
//! machines at once.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout)]

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use ringboot::engine::mmsg::{DatagramInbox, DatagramOutbox};
use ringboot::engine::net::{self, SocketBinding};
use serde_json::Value;

mod common;

use common::Scratch;
use common::process::{Process, run};

const LIMIT: Duration = Duration::from_secs(60);
/// Open transfers, each of an address of its own.
const OPEN: usize = 10_000;
/// What the server may hold beyond its binary and the mapped images with that many. KiB.
const RSS_KIB_MAX: u64 = 64 * 1024;
/// One byte more than 65,536 blocks of 512 bytes: the block number wraps, and a last short block
/// follows (T-24).
const LONG: usize = 65_536 * 512 + 1;
/// Blocks of one window of the long transfers.
const WINDOW: u64 = 64;
/// Datagrams that one receive takes; joined ones come in 64 KiB.
const BATCH: usize = 256;

struct Served {
    scratch: Scratch,
    process: Process,
    server: SocketAddr,
}

impl Served {
    fn new(name: &str, datapath: &str) -> Self {
        let scratch = Scratch::new(name);
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("long"), pattern(LONG)).unwrap();
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nuser = \"root\"\nadmin-socket = \
             \"admin.sock\"\nworkers = 1\n\
             [tftp]\nlisten = [\"127.0.0.1:0\"]\nwindowsize-max = {WINDOW}\n[http]\nlisten = []\n\
             [tuning]\ndatapath = \"{datapath}\"\n"
        );
        fs::write(scratch.path().join("ringboot.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["serve", "--config"]).arg(scratch.path().join("ringboot.toml"));
        let process = Process::start(command);
        let line =
            |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
        let ready = process
            .stdout
            .wait_for(LIMIT, line)
            .unwrap_or_else(|_| panic!("{}", process.stderr.text()));
        let server = ready
            .split_whitespace()
            .find_map(|word| word.strip_prefix("tftp="))
            .unwrap()
            .parse()
            .unwrap();
        Self { scratch, process, server }
    }

    fn status(&self) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command
            .args(["status", "--json", "--config"])
            .arg(self.scratch.path().join("ringboot.toml"));
        serde_json::from_str(&run(command, LIMIT).ok().stdout).unwrap()
    }

    /// Resident memory that is no file's. KiB.
    fn own_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
        let number =
            |name: &str| line(name).split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        number("VmRSS:") - number("RssFile:")
    }
}

/// Bytes whose place in the file can be told from them.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

/// Machine number n's address: 127.1.0.0 and up.
fn address(machine: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + machine as u32)
}

/// One socket that speaks as every machine, each from an address of its own.
struct Machines {
    socket: OwnedFd,
    inbox: DatagramInbox,
    outbox: DatagramOutbox,
}

impl Machines {
    fn new() -> Self {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let socket =
            net::open_udp_socket(&SocketBinding { address: any, interface: None, shared: false })
                .unwrap();
        net::join_datagrams(&socket).unwrap();
        Self { socket, inbox: DatagramInbox::new(BATCH, 65_536), outbox: DatagramOutbox::default() }
    }

    fn say(&mut self, machine: usize, to: SocketAddr, bytes: &[u8]) {
        self.outbox
            .push(to, Some(IpAddr::V4(address(machine))), None, |out| out.extend_from_slice(bytes));
    }

    /// Sends what was said, and hands over every datagram that has come: its machine, its sender,
    /// its bytes.
    fn turn(&mut self, mut heard: impl FnMut(usize, SocketAddr, &[u8])) {
        self.outbox.flush(&self.socket).unwrap();
        while self.inbox.receive(&self.socket).is_ok() {
            for arrival in self.inbox.arrivals() {
                let Some(IpAddr::V4(local)) = arrival.local else { panic!("no address") };
                let machine = (u32::from(local) - u32::from(address(0))) as usize;
                arrival.datagrams().for_each(|bytes| heard(machine, arrival.from, bytes));
            }
        }
    }
}

fn request(name: &str, window: u64) -> Vec<u8> {
    format!("\0\x01{name}\0octet\0windowsize\0{window}\0").into_bytes()
}

fn ack(block: u64) -> [u8; 4] {
    let [high, low] = (block as u16).to_be_bytes();
    [0, 4, high, low]
}

#[test]
fn ten_thousand_open_transfers_take_little_memory() {
    for datapath in ["io_uring", "epoll"] {
        let served = Served::new("crowd-open", datapath);
        let mut machines = Machines::new();
        let before = served.own_memory();
        let mut has_first_block = vec![false; OPEN];
        let mut answers = Vec::new();
        let (mut begun, mut open) = (0, 0);
        let started = Instant::now();
        while open < OPEN {
            assert!(started.elapsed() < LIMIT, "{datapath}: {open} of {begun} transfers are open");
            // As many unanswered requests at a time as a machine's receive buffer surely holds.
            while begun < OPEN && begun < open + 256 {
                machines.say(begun, served.server, &request("long", 1));
                begun += 1;
            }
            machines.turn(|machine, tid, bytes| match bytes[..2] {
                [0, 6] => answers.push((machine, tid)),
                [0, 3] => {
                    open += usize::from(!std::mem::replace(&mut has_first_block[machine], true))
                }
                _ => panic!("{bytes:?}"),
            });
            for (machine, tid) in answers.drain(..) {
                machines.say(machine, tid, &ack(0));
            }
        }
        let after = served.own_memory();
        let status = served.status();
        println!("{datapath}: {before} KiB became {after} KiB with {OPEN} open transfers");
        assert_eq!(status["cores"][0]["tftp"]["transfers"], OPEN);
        assert_eq!(status["mappings"], 1);
        assert!(
            after <= RSS_KIB_MAX,
            "{datapath}: {after} KiB with {OPEN} open transfers, {before} KiB without"
        );
    }
}

/// `RINGBOOT_CROWD=500 cargo test --release --test crowd` moves 17 GB for each datapath; by default
/// it is a small crowd.
#[test]
fn t24_many_transfers_of_more_than_65535_blocks_share_one_mapping() {
    let crowd = std::env::var("RINGBOOT_CROWD")
        .map_or(12, |crowd| crowd.parse().expect("RINGBOOT_CROWD is a number"));
    let expected = pattern(LONG);
    for datapath in ["io_uring", "epoll"] {
        let served = Served::new("crowd-long", datapath);
        let mut machines = Machines::new();
        let before = served.own_memory();
        (0..crowd)
            .for_each(|machine| machines.say(machine, served.server, &request("long", WINDOW)));
        // Blocks that each has, and where the rest comes from.
        let mut blocks = vec![0u64; crowd];
        let mut tids: HashMap<usize, SocketAddr> = HashMap::new();
        let mut due = Vec::new();
        let (mut whole, mut most, mut heard_last) = (0, 0, Instant::now());
        while whole < crowd {
            assert!(heard_last.elapsed() < LIMIT, "{datapath}: {whole} of {crowd} are through");
            machines.turn(|machine, tid, bytes| {
                heard_last = Instant::now();
                let has = &mut blocks[machine];
                match bytes[..2] {
                    [0, 6] => due.push((machine, *tids.entry(machine).or_insert(tid))),
                    [0, 3] if bytes[2..4] == ((*has + 1) as u16).to_be_bytes() => {
                        let start = *has as usize * 512;
                        assert!(
                            bytes[4..] == expected[start..LONG.min(start + 512)],
                            "block {} is wrong",
                            *has + 1
                        );
                        *has += 1;
                        let is_last = bytes.len() < 516;
                        whole += usize::from(is_last);
                        if is_last || has.is_multiple_of(WINDOW) {
                            due.push((machine, tid));
                        }
                    }
                    // After a loss: what is repeated comes again from the last acknowledged block
                    // on.
                    [0, 3] => {}
                    _ => panic!("{bytes:?}"),
                }
            });
            for (machine, tid) in due.drain(..) {
                machines.say(machine, tid, &ack(blocks[machine]));
            }
            most = most.max(served.own_memory());
        }
        println!(
            "{datapath}: {crowd} transfers of {} blocks, {before} KiB became {most} KiB",
            blocks[0]
        );
        assert!(blocks.iter().all(|blocks| *blocks == 65_537));
        assert_eq!(served.status()["mappings"], 1);
        assert!(most <= RSS_KIB_MAX, "{datapath}: {most} KiB");
    }
}
