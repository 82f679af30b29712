//! `ringboot why` against a real server: each way in which a boot stops is provoked, and its
//! sentence is read.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ringboot::dhcp::packet::Packet;

#[path = "why/causes.rs"]
mod causes;
mod common;
#[path = "why/expected.rs"]
mod expected;
#[path = "why/lab.rs"]
mod lab;
#[path = "why/table.rs"]
mod table;

use common::Scratch;
use common::process::{Output, Process, run};
use expected::tells;
use ringboot::observe::cause::StopCause;

/// A client that falls silent is given up after half a minute (T-42).
const LIMIT: Duration = Duration::from_secs(90);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x10];
/// No message type at all.
const BOOTP: u8 = 0;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const UEFI_X64: u16 = 7;
const UEFI_ARM64: u16 = 11;
const SUBNET: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 0);
const OURS: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A state directory and a root with a configuration: DHCP for relays, TFTP, a loader, a menu.
struct World {
    scratch: Scratch,
    port: u16,
}

/// A running server.
struct Server {
    process: Process,
    tftp: SocketAddr,
    http: SocketAddr,
    dhcp: SocketAddr,
    relay: UdpSocket,
}

impl World {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.path().join("root")).unwrap();
        // A server starts only with a loader that could be one, and with what its menu names.
        let mut loader = vec![7; 5 * 512];
        let head = ringboot::boot::pe::build_x64_program();
        loader[..head.len()].copy_from_slice(&head);
        std::fs::write(scratch.path().join("root/shimx64.efi"), loader).unwrap();
        std::fs::create_dir(scratch.path().join("root/debian")).unwrap();
        std::fs::write(scratch.path().join("root/debian/linux"), "kernel").unwrap();
        let port = common::free_port().port();
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[log]\nlevel = \"debug\"\n[server]\nadmin-socket \
             = \"admin.sock\"\n[boot]\nuefi-x64 = \"shimx64.efi\"\n\
             [menu]\ntitle = \"Rack\"\n[[menu.entry]]\nlabel = \"install\"\ntitle = \
             \"Install\"\nkernel = \"debian/linux\"\n\
             [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n\
             [[dhcp.subnet]]\nsubnet = \"127.77.0.0/16\"\nrelay = true\nmode = \"server\"\nclients \
             = \"any\"\npools = [\"127.77.1.1-127.77.1.2\"]\n"
        );
        std::fs::write(scratch.path().join("ringboot.toml"), text).unwrap();
        Self { scratch, port }
    }

    fn start(&self) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["serve", "--tftp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"]);
        command.arg(self.scratch.path().join("ringboot.toml"));
        let process = Process::start(command);
        let find =
            |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
        let ready = process
            .stdout
            .wait_for(LIMIT, find)
            .unwrap_or_else(|why| panic!("{why:?}: {}", process.stderr.text()));
        let address = |key: &str| {
            ready.split_whitespace().find_map(|word| word.strip_prefix(key)?.parse().ok()).unwrap()
        };
        let (tftp, http) = (address("tftp="), address("http="));
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(LIMIT)).unwrap();
        Server { process, tftp, http, dhcp: SocketAddr::from((OURS, self.port)), relay }
    }

    fn ask(&self, who: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command
            .args(["why", who, "--config"])
            .arg(self.scratch.path().join("ringboot.toml"))
            .args(more);
        run(command, LIMIT)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// What it says of the test's machine.
    fn why(&self) -> String {
        self.ask("52:54:00:12:34:10", &[]).ok().stdout
    }

    /// Asks again until the answer has these words: an event waits for the log thread.
    fn why_until(&self, words: &str) -> String {
        until(words, || self.ask("52-54-00-12-34-10", &[]).stdout)
    }

    /// The same of the history on the disk, which is a second behind, whatever the server
    /// remembers.
    fn kept_until(&self, words: &str) -> String {
        until(words, || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
            command.args(["why", "525400123410", "--state"]).arg(self.scratch.path().join("state"));
            run(command, LIMIT).stdout
        })
    }
}

fn until(words: &str, ask: impl Fn() -> String) -> String {
    let deadline = Instant::now() + LIMIT;
    loop {
        let said = ask();
        if said.contains(words) {
            return said;
        }
        assert!(Instant::now() < deadline, "no {words:?} in:\n{said}");
    }
}

impl Server {
    fn stop(mut self) {
        let status = self.process.stop(LIMIT);
        assert!(status.success(), "{status}: {}", self.process.stderr.text());
        table::every_line_is_in_the_docs(&self.process.stderr.text());
    }

    fn say(&self, message: &Message) {
        self.relay.send_to(&message.bytes(), self.dhcp).unwrap();
    }

    /// The next reply's type and address.
    fn hear(&self) -> (u8, Ipv4Addr) {
        let mut bytes = [0; 1500];
        let len = self.relay.recv(&mut bytes).unwrap();
        let reply = Packet::parse_reply(&bytes[..len]).unwrap();
        (reply.option(53).unwrap()[0], reply.yiaddr)
    }

    /// DISCOVER to ACK.
    fn lease(&self, mac: [u8; 6], arch: u16) -> Ipv4Addr {
        let message = Message { kind: DISCOVER, mac, arch, ..Message::default() };
        self.say(&message);
        let (kind, address) = self.hear();
        assert_eq!(kind, OFFER);
        self.say(&Message {
            kind: REQUEST,
            requested: Some(address),
            chosen: Some(OURS),
            ..message
        });
        assert_eq!(self.hear(), (ACK, address));
        address
    }

    /// The first answer to a TFTP request of this machine, and the socket that it came to.
    fn read(&self, machine: Ipv4Addr, name: &str) -> (UdpSocket, Vec<u8>, SocketAddr) {
        let client = UdpSocket::bind((machine, 0)).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.send_to(&[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat(), self.tftp).unwrap();
        let mut bytes = [0; 600];
        let (len, tid) = client.recv_from(&mut bytes).unwrap();
        (client, bytes[..len].to_vec(), tid)
    }

    /// Reads the loader to its end.
    fn load(&self, machine: Ipv4Addr) {
        self.fetch(machine, "shimx64.efi");
    }

    /// Reads a file to its end.
    fn fetch(&self, machine: Ipv4Addr, name: &str) {
        let (client, first, tid) = self.read(machine, name);
        let last = go_on(&client, first, tid);
        assert_eq!(last[..2], [0, 3], "{name}: {last:?}");
        client.send_to(&[0, 4, last[2], last[3]], tid).unwrap();
    }

    /// A connection of this machine with a request on it, and no byte of the answer read. What it
    /// can take without being read is little.
    fn get(&self, machine: Ipv4Addr, path: &str) -> TcpStream {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(&SocketAddr::from((machine, 0)).into()).unwrap();
        socket.connect(&self.http.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        stream
    }
}

/// Acknowledges block after block until one is short, or no block; that one is not acknowledged.
fn go_on(client: &UdpSocket, mut data: Vec<u8>, tid: SocketAddr) -> Vec<u8> {
    let mut bytes = [0; 600];
    while data.len() == 516 && data[1] == 3 {
        client.send_to(&[0, 4, data[2], data[3]], tid).unwrap();
        let len = client.recv(&mut bytes).unwrap();
        data = bytes[..len].to_vec();
    }
    data
}

/// A relayed message; option 82 says which subnet it is for and that answers go to the port it came
/// from (D-48, D-74).
#[derive(Clone, Copy)]
struct Message {
    kind: u8,
    mac: [u8; 6],
    arch: u16,
    requested: Option<Ipv4Addr>,
    chosen: Option<Ipv4Addr>,
    subnet: Ipv4Addr,
    /// What it says of itself in option 60; None: a system, which says nothing of booting.
    class: Option<&'static [u8]>,
    /// False: it came to our own address, not by a relay.
    is_relayed: bool,
    /// Octets of option 61.
    identifier: u8,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            kind: DISCOVER,
            mac: MAC,
            arch: UEFI_X64,
            requested: None,
            chosen: None,
            subnet: SUBNET,
            class: Some(b"PXEClient"),
            is_relayed: true,
            identifier: 0,
        }
    }
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
        bytes[4..8].copy_from_slice(&self.mac[2..]);
        if self.is_relayed {
            bytes[24..28].copy_from_slice(&OURS.octets());
        }
        bytes[28..34].copy_from_slice(&self.mac);
        bytes.extend_from_slice(&[99, 130, 83, 99]);
        if self.kind != BOOTP {
            bytes.extend_from_slice(&[53, 1, self.kind]);
        }
        if let Some(class) = self.class {
            bytes.extend_from_slice(&[60, u8::try_from(class.len()).unwrap()]);
            bytes.extend_from_slice(class);
            bytes.extend_from_slice(&[93, 2]);
            bytes.extend_from_slice(&self.arch.to_be_bytes());
        }
        if self.identifier > 0 {
            bytes.extend_from_slice(&[61, self.identifier]);
            bytes.resize(bytes.len() + usize::from(self.identifier), 9);
        }
        for (option, address) in [(50, self.requested), (54, self.chosen)] {
            if let Some(address) = address {
                bytes.extend_from_slice(&[option, 4]);
                bytes.extend_from_slice(&address.octets());
            }
        }
        if self.is_relayed {
            bytes.extend_from_slice(&[82, 8, 5, 4]);
            bytes.extend_from_slice(&self.subnet.octets());
            bytes.extend_from_slice(&[19, 0]);
        }
        bytes.push(255);
        bytes
    }
}

#[track_caller]
fn holds(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
}

#[test]
fn a_machine_that_was_never_seen() {
    let world = World::new("why-unseen");
    world.start().stop();
    let said = world.ask("5254.0012.3410", &[]);
    assert_eq!(said.status.code(), Some(1));
    tells(&said.stdout, StopCause::NeverSeen, &["52:54:00:12:34:10\n", "PortFast", "boot order"]);
    assert_eq!(world.ask("127.77.1.1", &[]).status.code(), Some(1));
    assert_eq!(world.ask("nobody", &[]).status.code(), Some(2));
    let elsewhere = world.scratch.path().join("elsewhere");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
    command.args(["why", "52:54:00:12:34:10", "--state"]).arg(&elsewhere);
    let said = run(command, LIMIT);
    assert_eq!(said.status.code(), Some(1));
    holds(&said.stderr, &["elsewhere/history.db", "--state DIR"]);
    assert!(!elsewhere.exists(), "asking makes no files");
}

#[test]
fn an_offer_that_was_never_requested() {
    let world = World::new("why-offer");
    let server = world.start();
    for _ in 0..3 {
        server.say(&Message::default());
        assert_eq!(server.hear().0, OFFER);
    }
    server.stop();
    tells(
        &world.why(),
        StopCause::NotRequested,
        &[
            "PXE firmware on x64 UEFI",
            "dhcp",
            "x 2",
            "option 93 = 7",
            "offered 127.77.1.",
            "(3 x) and never requested",
        ],
    );
}

#[test]
fn a_pool_that_is_full() {
    let world = World::new("why-full");
    let server = world.start();
    server.lease([2, 0, 0, 0, 0, 1], UEFI_X64);
    server.lease([2, 0, 0, 0, 0, 2], UEFI_X64);
    server.say(&Message::default());
    let said = world.why_until("The pool is full: no address is free in subnet 127.77.0.0/16");
    tells(&said, StopCause::PoolFull, &["larger `pools`"]);
    server.stop();
}

#[test]
fn no_loader_for_an_architecture() {
    let world = World::new("why-arch");
    let server = world.start();
    server.lease(MAC, UEFI_ARM64);
    server.stop();
    let said = world.why();
    let words = [
        "There is no loader for PXE firmware on arm64 UEFI, architecture 11",
        "[boot] uefi-arm64 is not set",
    ];
    tells(&said, StopCause::NoLoader, &words);
}

#[test]
fn requests_that_are_refused_again_and_again() {
    let world = World::new("why-nak");
    let server = world.start();
    let elsewhere = Some(Ipv4Addr::new(10, 1, 1, 1));
    for _ in 0..2 {
        server.say(&Message::default());
        assert_eq!(server.hear().0, OFFER);
        server.say(&Message {
            kind: REQUEST,
            requested: elsewhere,
            chosen: Some(OURS),
            ..Message::default()
        });
        assert_eq!(server.hear().0, NAK);
    }
    server.stop();
    tells(&world.why(), StopCause::RefusedAgain, &["may not have (2 NAKs)", "wrong network"]);
}

#[test]
fn another_server_was_chosen_and_a_network_that_is_not_configured() {
    let world = World::new("why-other");
    let server = world.start();
    server.say(&Message::default());
    let (_, address) = server.hear();
    let other = Some(Ipv4Addr::new(10, 9, 9, 9));
    server.say(&Message {
        kind: REQUEST,
        requested: Some(address),
        chosen: other,
        ..Message::default()
    });
    let said = world.why_until("It chose another DHCP server, 10.9.9.9.");
    tells(&said, StopCause::ChoseOther, &["Switch 10.9.9.9 off"]);
    server.say(&Message { subnet: Ipv4Addr::new(127, 99, 0, 0), ..Message::default() });
    let said = world.why_until("It is not admitted");
    tells(&said, StopCause::NoSubnetBehind, &["no subnet is configured for 127.99.0.0"]);
    server.stop();
}

#[test]
fn a_lease_and_no_file_then_a_missing_kernel_with_the_line_that_asks_for_it() {
    let world = World::new("why-missing");
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    tells(&world.why_until("requested no file"), StopCause::NoFileAskedFor, &["port 69"]);
    server.load(machine);
    let said = world.why_until("shimx64.efi was sent completely");
    tells(&said, StopCause::LoaderDoesNotRun, &["Secure Boot"]);
    assert_eq!(server.read(machine, "revocations_sku.efi").1[..4], [0, 5, 0, 1]);
    std::fs::remove_file(world.scratch.path().join("root/debian/linux")).unwrap();
    assert_eq!(server.read(machine, "debian/linux").1[..4], [0, 5, 0, 1]);
    server.stop();
    let words = "debian/linux is missing; kernel of the menu entry `install` asks for it.";
    holds(&world.why(), &["revocations_sku.efi: no such file", words]);
    let by_address = world.ask(&machine.to_string(), &["--json"]).ok().stdout;
    holds(&by_address, &["\"machine\": \"52:54:00:12:34:10\"", "\"stage\": \"loader\"", words]);
}

#[test]
fn a_template_that_fails_is_told_with_its_line() {
    let world = World::new("why-template");
    std::fs::write(world.scratch.path().join("root/ks.cfg.j2"), "lang en\n{{ nonsense }}\n")
        .unwrap();
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    assert_eq!(server.read(machine, "ks.cfg").1[1], 5);
    server.stop();
    let words =
        ["answer file", "A template failed: ks.cfg.j2:2:", "there is no variable `nonsense`"];
    tells(&world.why(), StopCause::TemplateFailed, &words);
}

#[test]
fn a_transfer_that_stalls_is_told_with_its_block() {
    let world = World::new("why-stall");
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    let (client, first, tid) = server.read(machine, "shimx64.efi");
    assert_eq!(first[..4], [0, 3, 0, 1]);
    client.send_to(&[0, 4, 0, 1], tid).unwrap();
    client.send_to(&[0, 4, 0, 2], tid).unwrap();
    let mut bytes = [0; 600];
    while bytes[..4] != [0, 3, 0, 3] {
        client.recv(&mut bytes).unwrap();
        if bytes[..4] == [0, 3, 0, 2] {
            client.send_to(&[0, 4, 0, 2], tid).unwrap();
        }
    }
    server.process.stderr.wait_line("fell silent", LIMIT);
    server.stop();
    let words = ["shimx64.efi stalled at block 3: it fell silent in the middle.", "packet loss"];
    tells(&world.why(), StopCause::Stalled, &words);
}

#[test]
fn a_request_that_is_refused_once() {
    let world = World::new("why-refused");
    let server = world.start();
    server.say(&Message::default());
    assert_eq!(server.hear().0, OFFER);
    let elsewhere = Some(Ipv4Addr::new(10, 1, 1, 1));
    server.say(&Message {
        kind: REQUEST,
        requested: elsewhere,
        chosen: Some(OURS),
        ..Message::default()
    });
    assert_eq!(server.hear().0, NAK);
    server.stop();
    tells(
        &world.why(),
        StopCause::Refused,
        &["Its request for 10.1.1.1 was refused", "wrong network", "DISCOVER by itself"],
    );
}

#[test]
fn an_address_that_was_declined_and_a_message_that_is_left_to_others() {
    let world = World::new("why-declined");
    let server = world.start();
    let address = server.lease(MAC, UEFI_X64);
    server.say(&Message {
        kind: DECLINE,
        requested: Some(address),
        chosen: Some(OURS),
        ..Message::default()
    });
    let said = world.why_until("It declined");
    tells(&said, StopCause::Declined, &[&format!("declined {address}: something else"), "arping"]);
    // INIT-REBOOT of a machine that nobody here knows (D-24): another server may know it.
    let stranger = [2, 0, 0, 0, 0, 9];
    let requested = Some(Ipv4Addr::new(127, 77, 1, 2));
    server.say(&Message { kind: REQUEST, mac: stranger, requested, ..Message::default() });
    let asks = || world.ask("02:00:00:00:00:09", &[]).stdout;
    let deadline = Instant::now() + LIMIT;
    while !asks().contains("was not answered") {
        assert!(Instant::now() < deadline, "{}", asks());
    }
    tells(&asks(), StopCause::UnknownClient, &["another server may have one"]);
    server.stop();
}

/// An operator's `sqlite3` in the middle of a transaction: no ACK without a durable lease, and the
/// reason is told.
#[test]
fn a_lease_that_the_store_cannot_keep() {
    let world = World::new("why-store");
    let server = world.start();
    server.say(&Message::default());
    let (kind, address) = server.hear();
    assert_eq!(kind, OFFER);
    let operator = rusqlite::Connection::open(world.path("state/ringboot.db")).unwrap();
    operator.execute_batch("BEGIN IMMEDIATE").unwrap();
    server.say(&Message {
        kind: REQUEST,
        requested: Some(address),
        chosen: Some(OURS),
        ..Message::default()
    });
    let said = world.why_until("could not serve it");
    tells(&said, StopCause::LeaseNotKept, &["the store could not keep the lease"]);
    operator.execute_batch("ROLLBACK").unwrap();
    server.stop();
}

#[test]
fn files_that_are_missing_are_told_with_the_rule_or_as_what_the_loader_asks_for() {
    let world = World::new("why-asked");
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    server.load(machine);
    assert_eq!(server.read(machine, "grubx64.efi").1[..4], [0, 5, 0, 1]);
    let said = world.why_until("grubx64.efi is missing");
    tells(&said, StopCause::Missing, &["beside the loader or menu"]);
    server.load(machine);
    // The end of a transfer is an ACK that nobody answers: the server has seen it when it tells of
    // it.
    until("sent twice", || {
        let said = world.ask("52-54-00-12-34-10", &[]).stdout;
        if said.matches("shimx64.efi sent by TFTP").count() > 1 {
            format!("sent twice: {said}")
        } else {
            said
        }
    });
    std::fs::remove_file(world.path("root/shimx64.efi")).unwrap();
    // Over HTTP a machine is known by its address as over TFTP.
    let mut answer = String::new();
    server.get(machine, "/shimx64.efi").read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 404 "), "{answer}");
    let said = world.why_until("shimx64.efi is missing");
    tells(&said, StopCause::MissingNamed, &["HTTP refused shimx64.efi", "correct [boot] uefi-x64"]);
    server.stop();
}

#[test]
fn a_file_that_is_there_and_not_given() {
    let world = World::new("why-denied");
    std::fs::write(world.path("root/secret"), "secret").unwrap();
    std::fs::set_permissions(world.path("root/secret"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    server.load(machine);
    assert_eq!(server.read(machine, "secret").1[..4], [0, 5, 0, 2]);
    server.stop();
    tells(
        &world.why(),
        StopCause::Unreadable,
        &["secret was not served: secret: ", "`chmod o+r` the file"],
    );
}

#[test]
fn a_transfer_that_the_machine_ended_by_itself() {
    let world = World::new("why-abort");
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    let (client, _, tid) = server.read(machine, "shimx64.efi");
    client.send_to(b"\0\x05\0\x03disk full\0", tid).unwrap();
    let said = world.why_until("ended the transfer");
    tells(
        &said,
        StopCause::Aborted,
        &["transfer of shimx64.efi by itself, with TFTP error 3", "screen"],
    );
    server.stop();
}

#[test]
fn a_file_that_was_overwritten_while_it_was_sent() {
    let world = World::new("why-changed");
    std::fs::write(world.path("root/big.img"), vec![1; 100_000]).unwrap();
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    let (client, first, tid) = server.read(machine, "big.img");
    assert_eq!(first[..4], [0, 3, 0, 1]);
    std::fs::write(world.path("root/big.img"), vec![2; 100_000]).unwrap();
    assert_eq!(go_on(&client, first, tid)[..2], [0, 5], "no mix of two versions is completed");
    server.stop();
    tells(&world.why(), StopCause::Changed, &["big.img was changed", "mv new file"]);
}

#[test]
fn a_loader_that_finds_no_menu() {
    let world = World::new("why-no-menu");
    let file = world.path("ringboot.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, after) = (text.find("[menu]").unwrap(), text.find("[dhcp]").unwrap());
    std::fs::write(&file, format!("{}{}", &text[..before], &text[after..])).unwrap();
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    server.load(machine);
    assert_eq!(server.read(machine, "pxelinux.cfg/default").1[..4], [0, 5, 0, 1]);
    server.stop();
    tells(&world.why(), StopCause::NoMenu, &["shimx64.efi found no menu.", "Write a [menu]"]);
}

#[test]
fn a_machine_at_its_menu_and_one_that_came_to_the_end() {
    let world = World::new("why-menu");
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    server.load(machine);
    server.fetch(machine, "pxelinux.cfg/default");
    let said = world.why_until("It waits at the menu");
    tells(&said, StopCause::AtMenu, &["install-by-default = true"]);
    server.fetch(machine, "debian/linux");
    let said = world.why_until("It got every file that it requested");
    holds(
        &said,
        &["It got every file that it requested", "kernel       debian/linux sent by TFTP, 6 bytes"],
    );
    assert!(!said.contains("It waits at the menu"), "{said}");
    server.stop();
}

#[test]
fn a_transfer_that_never_gets_its_first_acknowledgement_and_a_connection_that_takes_nothing() {
    let world = World::new("why-silent");
    let image = std::fs::File::create(world.path("root/big.img")).unwrap();
    image.set_len(64 << 20).unwrap();
    let server = world.start();
    let machine = server.lease(MAC, UEFI_X64);
    let connection = server.get(machine, "/big.img");
    let silent = server.lease([2, 0, 0, 0, 0, 7], UEFI_X64);
    let (_client, first, _) = server.read(silent, "shimx64.efi");
    assert_eq!(first[..4], [0, 3, 0, 1]);
    let said = until("stalled at block 1", || world.ask("02:00:00:00:00:07", &[]).stdout);
    tells(&said, StopCause::StalledAtFirst, &["it acknowledged no block", "port-range"]);
    let said = world.why_until("closed its HTTP connection");
    tells(&said, StopCause::TooSlow, &["it read too slowly"]);
    drop(connection);
    server.stop();
}

#[test]
fn the_history_survives_kill_9_and_stays_bounded() {
    const BOUND: usize = 64;
    let world = World::new("why-kill");
    let mut server = world.start();
    server.say(&Message::default());
    assert_eq!(server.hear().0, OFFER);
    let before = world.kept_until("(1 x) and never requested");
    server.process.signal("KILL");
    server.process.wait(LIMIT).unwrap();
    holds(&world.why(), &["(1 x) and never requested"]);
    let server = world.start();
    assert_eq!(
        world.why().lines().nth(2),
        before.lines().nth(2),
        "the same line after the restart"
    );
    for _ in 0..BOUND + 20 {
        server.say(&Message::default());
        assert_eq!(server.hear().0, OFFER);
    }
    server.stop();
    holds(&world.why(), &[&format!("({BOUND} x) and never requested")]);
    let database =
        rusqlite::Connection::open(world.scratch.path().join("state/history.db")).unwrap();
    let rows: i64 =
        database.query_row("SELECT count(*) FROM entries", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 64);
}
