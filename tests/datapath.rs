//! The same binary with and without io_uring: files and leases come either way, and it is said
//! which way it is.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ringboot::dhcp::packet::Packet;
use serde_json::Value;

mod common;

use common::Scratch;
use common::process::{Output, Process, run};
use common::seccomp::refuse_io_uring;

const LIMIT: Duration = Duration::from_secs(20);
const OFFER: u8 = 2;
const ACK: u8 = 5;
/// More blocks than one send holds, and a short one at the end.
const IMAGE_BYTES: usize = 400_000;

struct World {
    scratch: Scratch,
    server: Process,
    dhcp: SocketAddr,
    tftp: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
}

impl World {
    /// A server with this line in `[tuning]`.
    fn new(name: &str, tuning: &str, is_refused: bool) -> Self {
        let scratch = Scratch::new(name);
        let root = scratch.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("image"), image()).unwrap();
        let dhcp = common::free_port();
        fs::write(scratch.path().join("ringboot.toml"), configuration(dhcp, tuning)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["serve", "--config"]).arg(scratch.path().join("ringboot.toml"));
        if is_refused {
            refuse_io_uring(&mut command);
        }
        let server = Process::start(command);
        let line =
            |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
        let ready = server
            .stdout
            .wait_for(LIMIT, line)
            .unwrap_or_else(|why| panic!("{why:?}: {}", server.stderr.text()));
        let addresses = |key: &str| {
            let word = ready.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap();
            word.split(',').map(|address| address.parse().unwrap()).collect()
        };
        Self { scratch, server, dhcp, tftp: addresses("tftp="), http: addresses("http=") }
    }

    fn ringboot(&self, arguments: &[&str], is_refused: bool) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(arguments).arg("--config").arg(self.scratch.path().join("ringboot.toml"));
        if is_refused {
            refuse_io_uring(&mut command);
        }
        run(command, LIMIT)
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ringboot(&["status", "--json"], false).ok().stdout).unwrap()
    }

    /// One machine's way: its address, then its image in several shapes, over both families.
    fn boots_a_machine(&self) {
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(LIMIT)).unwrap();
        let (kind, address) = exchange(&relay, self.dhcp, 1, None);
        assert_eq!(kind, OFFER);
        assert_eq!(exchange(&relay, self.dhcp, 3, Some(address)), (ACK, address));
        for &server in &self.tftp {
            for (block, window) in [(512, 1), (1408, 1), (1408, 16), (1024, 32)] {
                assert!(
                    fetch(server, block, window) == image(),
                    "{server} blksize {block} windowsize {window}"
                );
            }
        }
        for &server in &self.http {
            let answer = by_http(server);
            let body = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            assert!(
                answer[..body].starts_with(b"HTTP/1.1 200 ") && answer[body..] == image(),
                "{server}"
            );
        }
    }

    fn stop(mut self) -> String {
        assert!(self.server.stop(LIMIT).success(), "{}", self.server.stderr.text());
        self.server.stderr.text()
    }
}

fn configuration(dhcp: SocketAddr, tuning: &str) -> String {
    format!(
        "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"admin.sock\"\nuser = \
         \"root\"\n\
         [tftp]\nlisten = [\"127.0.0.1:0\", \"[::1]:0\"]\n[http]\nlisten = [\"127.0.0.1:0\", \
         \"[::1]:0\"]\n\
         [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {}\n[[dhcp.subnet]]\nsubnet = \
         \"127.77.0.0/16\"\n\
         relay = true\nmode = \"server\"\nclients = \"any\"\npools = \
         [\"127.77.1.1-127.77.1.9\"]\n[tuning]\n{tuning}\n",
        dhcp.port()
    )
}

fn image() -> Vec<u8> {
    (0..IMAGE_BYTES).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// A relayed message and the kind and address of its answer.
fn exchange(
    relay: &UdpSocket,
    server: SocketAddr,
    kind: u8,
    wanted: Option<Ipv4Addr>,
) -> (u8, Ipv4Addr) {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
    bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
    bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 7, 1]);
    bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
    if let Some(address) = wanted {
        bytes.extend_from_slice(&[50, 4]);
        bytes.extend_from_slice(&address.octets());
        bytes.extend_from_slice(&[54, 4, 127, 0, 0, 1]);
    }
    bytes.extend_from_slice(&[82, 8, 5, 4, 127, 77, 0, 0, 19, 0, 255]);
    relay.send_to(&bytes, server).unwrap();
    let mut answer = [0; 1500];
    let len = relay.recv(&mut answer).unwrap();
    let reply = Packet::parse_reply(&answer[..len]).unwrap();
    (reply.option(53).unwrap()[0], reply.yiaddr)
}

/// The answer that has the image.
fn by_http(server: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /image HTTP/1.1\r\nHost: boot\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// The image by TFTP.
fn fetch(server: SocketAddr, block_bytes: usize, window: u16) -> Vec<u8> {
    let client = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("\0\x01image\0octet\0blksize\0{block_bytes}\0windowsize\0{window}\0");
    client.send_to(request.as_bytes(), server).unwrap();
    let mut packet = vec![0; block_bytes + 4];
    let (len, tid) = client.recv_from(&mut packet).unwrap();
    assert_eq!(packet[..2], [0, 6], "{:?}", &packet[..len]);
    let (mut file, mut block) = (Vec::new(), 0u16);
    loop {
        client.send_to(&[[0, 4], block.to_be_bytes()].concat(), tid).unwrap();
        for _ in 0..window {
            let len = client.recv(&mut packet).unwrap();
            block = block.wrapping_add(1);
            assert_eq!(packet[..4], [[0, 3], block.to_be_bytes()].concat());
            file.extend_from_slice(&packet[4..len]);
            if len < block_bytes + 4 {
                client.send_to(&[[0, 4], block.to_be_bytes()].concat(), tid).unwrap();
                return file;
            }
        }
    }
}

#[test]
fn where_the_kernel_refuses_a_ring_machines_boot_by_epoll_and_it_is_said_once() {
    let world = World::new("datapath-refused", "", true);
    world.boots_a_machine();
    let status = world.status();
    assert_eq!(status["datapath"], "epoll");
    assert!(
        status["no_ring_because"].as_str().unwrap().contains("kernel.io_uring_disabled"),
        "{status}"
    );
    let text = world.ringboot(&["status"], false).ok().stdout;
    assert!(
        text.contains("datapath   epoll") && text.contains("because  the kernel refuses io_uring"),
        "{text}"
    );
    let log = world.stop();
    assert_eq!(log.matches("epoll").count(), 1, "{log}");
    assert!(
        log.contains("serving by epoll") && log.contains("Set kernel.io_uring_disabled=0"),
        "{log}"
    );
}

#[test]
fn machines_boot_alike_over_either_datapath_that_is_asked_for() {
    for name in ["io_uring", "epoll"] {
        let world = World::new("datapath-named", &format!("datapath = \"{name}\""), false);
        world.boots_a_machine();
        let status = world.status();
        assert_eq!(
            (&status["datapath"], &status["no_ring_because"]),
            (&Value::from(name), &Value::Null)
        );
        let rings = fs::read_dir(format!("/proc/{}/fd", world.server.pid())).unwrap().flatten();
        let has_ring = rings
            .map(|fd| fs::read_link(fd.path()))
            .any(|link| link.is_ok_and(|l| l.ends_with("anon_inode:[io_uring]")));
        assert_eq!(has_ring, name == "io_uring");
        let log = world.stop();
        assert!(!log.contains("epoll"), "what was asked for need not be explained: {log}");
    }
}

#[test]
fn a_ring_that_must_be_and_is_refused_ends_the_start_and_check_foresees_it() {
    let scratch = Scratch::new("datapath-must");
    fs::create_dir(scratch.path().join("root")).unwrap();
    let file = scratch.path().join("ringboot.toml");
    let checked = |tuning: &str| {
        fs::write(&file, configuration(common::free_port(), tuning)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["check", "--config"]).arg(&file);
        refuse_io_uring(&mut command);
        run(command, LIMIT)
    };
    assert!(
        checked("").ok().stdout.contains("note: the server will use epoll"),
        "it is no error that there is no ring"
    );
    assert!(!checked("datapath = \"epoll\"").ok().stdout.contains("io_uring"));
    let foreseen = checked("datapath = \"io_uring\"").failed().stdout;
    assert!(
        foreseen.starts_with("fatal: ") && foreseen.contains(": the kernel refuses io_uring"),
        "{foreseen}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
    command.args(["serve", "--config"]).arg(&file);
    refuse_io_uring(&mut command);
    let output = run(command, LIMIT).failed();
    assert!(
        output.stderr.contains("the kernel refuses io_uring") && !output.stdout.contains("READY"),
        "{}",
        output.stderr
    );
}
