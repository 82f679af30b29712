//! Two boot cores: a machine's TFTP and HTTP meet on one of them, and a rack spreads over both.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ringboot::model::random::SeededRandom;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

mod common;

use common::Scratch;
use common::process::{Process, run};

const LIMIT: Duration = Duration::from_secs(20);
/// Machines of the rack.
const MACHINES: u32 = 500;
/// Share of a core, per cent.
const SHARE: std::ops::RangeInclusive<u64> = 40..=60;
/// Machines that are followed one by one.
const FOLLOWED: usize = 12;

struct Served {
    scratch: Scratch,
    process: Process,
    tftp: SocketAddr,
    http: SocketAddr,
}

impl Served {
    fn new() -> Self {
        let scratch = Scratch::new("cores");
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("hello"), "hello\n").unwrap();
        let text = "root = \"root\"\nstate = \"state\"\n[server]\nuser = \"root\"\nadmin-socket = \
                    \"admin.sock\"\nworkers = 2\n\
                    [tftp]\nlisten = [\"127.0.0.1:0\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n";
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
        let address =
            |key: &str| ready.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap();
        let (tftp, http) = (address("tftp=").parse().unwrap(), address("http=").parse().unwrap());
        Self { scratch, process, tftp, http }
    }

    /// What each core has counted: requests by TFTP and by HTTP.
    fn counted(&self) -> [(u64, u64); 2] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command
            .args(["status", "--json", "--config"])
            .arg(self.scratch.path().join("ringboot.toml"));
        let status: Value = serde_json::from_str(&run(command, LIMIT).ok().stdout).unwrap();
        let cores = status["cores"].as_array().unwrap();
        assert_eq!(cores.len(), 2, "{status}");
        assert_ne!(cores[0]["cpu"], cores[1]["cpu"]);
        let requests = |core: &Value, what: &str| core[what]["requests"].as_u64().unwrap();
        [0, 1].map(|core: usize| (requests(&cores[core], "tftp"), requests(&cores[core], "http")))
    }

    /// A machine of this address fetches a file by TFTP.
    fn by_tftp(&self, machine: Ipv4Addr) {
        let client = UdpSocket::bind((machine, 0)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.send_to(b"\0\x01hello\0octet\0", self.tftp).unwrap();
        let mut bytes = [0; 600];
        let (len, tid) = client.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"\0\x03\0\x01hello\n");
        client.send_to(b"\0\x04\0\x01", tid).unwrap();
    }

    /// The same by HTTP.
    fn by_http(&self, machine: Ipv4Addr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((machine, 0)).into()).unwrap();
        socket.connect(&self.http.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /hello HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nhello\n"), "{answer}");
    }
}

/// Addresses as a DHCP pool gives them in the order of asking, and as they are where machines
/// choose.
fn racks() -> [Vec<Ipv4Addr>; 2] {
    let mut random = SeededRandom::new(7);
    let base = u32::from(Ipv4Addr::new(127, 20, 0, 10));
    let anywhere = |_| {
        Ipv4Addr::from(
            u32::from(Ipv4Addr::new(127, 64, 0, 0)) + u32::try_from(random.below(1 << 22)).unwrap(),
        )
    };
    [(base..base + MACHINES).map(Ipv4Addr::from).collect(), (0..MACHINES).map(anywhere).collect()]
}

#[test]
fn a_machine_stays_on_one_core_and_a_rack_spreads_over_both() {
    let mut served = Served::new();
    for rack in racks() {
        let before = served.counted();
        for &machine in &rack {
            served.by_tftp(machine);
            served.by_http(machine);
        }
        let after = served.counted();
        for core in 0..2 {
            let (tftp, http) = (after[core].0 - before[core].0, after[core].1 - before[core].1);
            assert_eq!(tftp, http, "every machine asks once each way: {before:?} {after:?}");
            assert!(SHARE.contains(&(100 * tftp / u64::from(MACHINES))), "{before:?} {after:?}");
        }
        for &machine in rack.iter().take(FOLLOWED) {
            let before = served.counted();
            for _ in 0..3 {
                served.by_tftp(machine);
                served.by_http(machine);
            }
            let after = served.counted();
            let moved = [0, 1].map(|core: usize| {
                (after[core].0 - before[core].0, after[core].1 - before[core].1)
            });
            assert!(moved == [(3, 3), (0, 0)] || moved == [(0, 0), (3, 3)], "{machine}: {moved:?}");
        }
    }
    assert!(served.process.stop(LIMIT).success());
}
