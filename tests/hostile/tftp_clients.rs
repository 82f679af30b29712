//! What forged and stubborn TFTP clients do: requests that nobody made, guessed ports, transfers
//! that stand still, too many files.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ringboot::model::machine::Mac;

use super::common::honest::Honest;
use super::common::net::{BRIDGE, Client, Net, SERVER};
use super::common::process::run;
use super::common::server::{self, Server};
use super::common::wire::Wire;
use super::common::{Scratch, inside};
use super::{DATAPATHS, alone};

const LIMIT: Duration = Duration::from_secs(30);
/// Descriptors that are left to a server of few: more than it keeps back for lookups.
const ROOM: usize = 40;
/// Hardware address of the server's bridge, and of whoever forges.
const BRIDGE_MAC: Mac = Mac([0x52, 0x54, 0x00, 0x00, 0x04, 0x96]);
const FORGER_MAC: Mac = Mac([0x52, 0x54, 0x00, 0xc1, 0x07, 0x02]);

/// A server of files without DHCP and with one boot core, honest machines, and somebody who owns
/// 192.168.4.192 to .255.
struct Files {
    honest: Honest,
    forger: Forger,
    server: Server,
    net: Net,
    _scratch: Scratch,
}

struct Forger {
    wire: Wire,
    client: Client,
}

impl Files {
    fn new(name: &str, datapath: &str, tftp: &str, lay_out: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new(name);
        let net = Net::new();
        let root = server::root(&scratch);
        Honest::lay_out(&root);
        lay_out(&root);
        let text = format!(
            "root = \"{}\"\nstate = \"{}\"\n[server]\nworkers = 1\ninterfaces = \
             [\"{BRIDGE}\"]\nadmin-socket = \"admin.sock\"\n\
             user = \"root\"\n[tftp]\n{tftp}\n[tuning]\ndatapath = \"{datapath}\"\n",
            root.display(),
            scratch.path().join("state").display(),
        );
        let server = Server::start(&net, &scratch, &text);
        Self {
            honest: Honest::without_dhcp(&net),
            forger: Forger::new(&net),
            server,
            net,
            _scratch: scratch,
        }
    }

    /// Memory that the server has, or has had at most (`VmRSS`, `VmHWM` of proc_pid_status(5)),
    /// bytes.
    fn memory(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Lines of the log since it had so many bytes.
    fn said_since(&self, octets: usize) -> usize {
        self.server.log()[octets..].lines().count()
    }
}

impl Forger {
    fn new(net: &Net) -> Self {
        let client = net.client("52:54:00:c1:07:02");
        client.ip(&["addr", "add", "192.168.4.200/24", "dev", "eth0"]);
        client.ip(&["route", "add", "local", "192.168.4.192/26", "dev", "lo"]);
        Self { wire: Wire::open(client.name(), "eth0"), client }
    }

    fn send(&self, from: SocketAddrV4, port: u16, payload: &[u8]) {
        let to = SocketAddrV4::new(SERVER.parse().unwrap(), port);
        self.wire.send_datagram(FORGER_MAC, BRIDGE_MAC, from, to, payload);
    }

    /// The next datagram of the server within this time, to whom, and the port that it came from.
    fn hear(&self, wait: Duration) -> Option<(SocketAddrV4, u16, Vec<u8>)> {
        let until = Instant::now() + wait;
        loop {
            let datagram = self.wire.datagram(until)?;
            if datagram.from.ip().to_string() == SERVER {
                return Some((datagram.to, datagram.from.port(), datagram.payload));
            }
        }
    }

    /// Octets that have come to this side of the bridge.
    fn received(&self) -> u64 {
        let mut command = Command::new("ip");
        command.args(["-n", self.client.name(), "-j", "-s", "link", "show", "eth0"]);
        let said = run(command, LIMIT).ok().stdout;
        let rx = said.split("\"rx\":{\"bytes\":").nth(1).unwrap_or_else(|| panic!("{said}"));
        rx.split(',').next().unwrap().parse().unwrap()
    }
}

fn owned(host: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, host), port)
}

fn rrq(name: &str, mode: &str, options: &str) -> Vec<u8> {
    [b"\0\x01", name.as_bytes(), b"\0", mode.as_bytes(), b"\0", options.as_bytes()].concat()
}

fn ack(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 4, high, low]
}

/// Loads a file block by block; None where no answer or an ERROR comes.
fn load(client: &Client, name: &str, mode: &str, options: &str) -> Option<Vec<u8>> {
    let request = rrq(name, mode, options);
    inside::run(client.name(), move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let server = SocketAddr::new(SERVER.parse().unwrap(), 69);
        let (mut file, mut bytes) = (Vec::new(), vec![0; 2048]);
        // As firmware does it: a request without an answer is sent again.
        let mut answer = None;
        for _ in 0..5 {
            socket.send_to(&request, server).unwrap();
            answer = socket.recv_from(&mut bytes).ok();
            if answer.is_some() {
                break;
            }
        }
        let (mut octets, tid) = answer?;
        let size = if bytes[1] == 6 { 1024 } else { 512 };
        let mut block = 0u16;
        loop {
            match bytes[1] {
                6 => {}
                3 if bytes[2..4] == block.wrapping_add(1).to_be_bytes() => {
                    block = block.wrapping_add(1);
                    file.extend_from_slice(&bytes[4..octets]);
                }
                3 => {}
                _ => return None,
            }
            socket.send_to(&ack(block), tid).unwrap();
            if bytes[1] == 3 && octets < size + 4 {
                return Some(file);
            }
            octets = socket.recv_from(&mut bytes).ok()?.0;
        }
    })
}

#[test]
fn forged_requests_for_texts_and_templates_make_no_copies_and_a_real_client_gets_every_octet() {
    let _alone = alone();
    let lay_out = |root: &Path| {
        for n in 0..4 {
            std::fs::write(root.join(format!("lines{n}.txt")), vec![b'\n'; 16 << 20]).unwrap();
        }
        std::fs::write(root.join("text.txt"), "a line\n\rand more\n".repeat(20_000)).unwrap();
        let rendered =
            "{% for i in range(20000) %}{{ i }} of a long list, the same for all\n{% endfor %}";
        std::fs::write(root.join("list.txt.j2"), rendered).unwrap();
    };
    let site = Files::new("hostile-tftp-copies", "io_uring", "", lay_out);
    let before = site.honest.run(Duration::from_secs(2));
    let memory = site.memory("VmRSS");
    let mut answered = 0;
    for n in 0..480 {
        let from = owned(192 + (n % 60) as u8, 3000 + n);
        let options = ["", "blksize\x001024\0", "windowsize\x008\0"][usize::from(n) % 3];
        site.forger.send(from, 69, &rrq(&format!("lines{}.txt", n % 4), "netascii", options));
        while site.forger.hear(Duration::from_micros(200)).is_some() {
            answered += 1;
        }
    }
    for n in 0..48 {
        site.forger.send(owned(192 + n, 4000), 69, &rrq("list.txt", "octet", "blksize\x001024\0"));
    }
    let during = site.honest.run(Duration::from_secs(2));
    while site.forger.hear(Duration::from_millis(100)).is_some() {
        answered += 1;
    }
    let grown = site.memory("VmHWM").saturating_sub(memory);
    println!("{answered} answers, {} MiB more", grown >> 20);
    assert!(answered >= 480, "{answered}: the requests were heard");
    assert!(grown < 96 << 20, "{} MiB for requests that nobody made", grown >> 20);
    during.assert_no_worse(&before, 20);

    let client = site.net.client_with_address(180);
    let lines = "a line\r\n\r\0and more\r\n".repeat(20_000);
    for options in ["", "blksize\x001024\0"] {
        assert!(
            load(&client, "text.txt", "netascii", options).as_deref() == Some(lines.as_bytes()),
            "{options:?}"
        );
    }
    let list: String =
        (0..20_000).map(|i| format!("{i} of a long list, the same for all\n")).collect();
    for options in ["", "blksize\x001024\0"] {
        assert!(
            load(&client, "list.txt", "octet", options).as_deref() == Some(list.as_bytes()),
            "{options:?}"
        );
    }
    site.server.stop();
}

#[test]
fn acks_to_guessed_ports_bring_a_victim_no_more_than_a_window_or_two() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let lay_out = |root: &Path| {
            std::fs::File::create(root.join("big")).unwrap().set_len(40 << 20).unwrap()
        };
        let site = Files::new("hostile-tftp-guess", datapath, "", lay_out);
        // All ports, as anybody can learn them.
        let mut ports = BTreeSet::new();
        for n in 0..400u16 {
            site.forger.send(owned(200, 5000 + n), 69, &rrq("big", "octet", "blksize\x00512\0"));
            let Some((to, tid, _)) = site.forger.hear(Duration::from_secs(3)) else { break };
            ports.insert(tid);
            site.forger.send(to, tid, b"\0\x05\0\0bye\0");
        }
        println!("{datapath}: {} ports", ports.len());
        let before = site.forger.received();
        let mut sent = 0;
        for n in 0..8u16 {
            let victim = owned(210, 6000 + n);
            let mut say = |port, payload: &[u8]| {
                site.forger.send(victim, port, payload);
                sent += payload.len() as u64 + 42;
            };
            say(69, &rrq("big", "octet", "blksize\x001468\0windowsize\x0032\0"));
            std::thread::sleep(Duration::from_millis(20));
            for block in [0, 32, 64, 96] {
                ports.iter().for_each(|port| say(*port, &ack(block)));
            }
        }
        // What timers send again is the victim's as well.
        std::thread::sleep(Duration::from_secs(4));
        let brought = site.forger.received() - before;
        println!("{datapath}: {sent} octets sent, {brought} to the victim");
        assert!(brought < 250_000, "{brought} octets to a victim for {sent}");
        site.server.stop();
    }
}

#[test]
fn transfers_that_stand_still_make_room_in_a_full_table_and_it_is_said_once() {
    const PORTS: u16 = 9_000;
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Files::new(
            "hostile-tftp-still",
            datapath,
            "per-source = 0\nrequests-per-second = 0",
            |_| {},
        );
        let before = site.honest.run(Duration::from_secs(2));
        let mut confirmed = 0;
        for port in (0..PORTS).step_by(50) {
            for host in [200, 201] {
                let mut open: HashMap<SocketAddrV4, ()> = HashMap::new();
                for port in port..port + 50 {
                    let from = owned(host, 10_000 + port);
                    site.forger.send(from, 69, &rrq("honest/loader", "octet", "timeout\x00255\0"));
                    open.insert(from, ());
                }
                while !open.is_empty() {
                    let Some((to, tid, _)) = site.forger.hear(Duration::from_millis(200)) else {
                        break;
                    };
                    if open.remove(&to).is_some() {
                        site.forger.send(to, tid, &ack(0));
                        confirmed += 1;
                    }
                }
            }
        }
        println!("{datapath}: {confirmed} transfers that will never move");
        assert!(confirmed >= 16_384, "{confirmed}: the table is full");
        let during = site.honest.run(Duration::from_secs(4));
        during.assert_no_worse(&before, 20);
        let said =
            site.server.log().matches("places for TFTP transfers of a core are taken").count();
        assert_eq!(said, 1, "{}", site.server.log());
        drop(site);
    }
}

#[test]
fn more_files_than_have_a_place_are_busy_for_a_moment_and_never_an_error() {
    const FILES: u16 = 4_500;
    let _alone = alone();
    let lay_out = |root: &Path| {
        for n in 0..FILES {
            std::fs::File::create(root.join(format!("image{n}")))
                .unwrap()
                .set_len(100_000)
                .unwrap();
        }
    };
    let site = Files::new(
        "hostile-tftp-files",
        "io_uring",
        "per-source = 0\nrequests-per-second = 0",
        lay_out,
    );
    let before = site.honest.run(Duration::from_secs(2));
    let errors = |until_silent: Duration, confirm: bool| {
        let mut errors = 0;
        while let Some((to, tid, payload)) = site.forger.hear(until_silent) {
            errors += u32::from(payload.starts_with(b"\0\x05"));
            if confirm && payload.starts_with(b"\0\x06") {
                site.forger.send(to, tid, &ack(0));
            }
        }
        errors
    };
    // Nobody acknowledges: they hold nothing. Then everybody does, and stands still.
    let mut refused = 0;
    for confirm in [false, true] {
        for n in 0..FILES {
            let from = owned(if confirm { 202 } else { 203 }, 10_000 + n);
            site.forger.send(from, 69, &rrq(&format!("image{n}"), "octet", "timeout\x0060\0"));
            if n % 20 == 0 {
                refused += errors(Duration::from_millis(5), confirm);
            }
        }
        refused += errors(Duration::from_millis(300), confirm);
        let during = site.honest.run(Duration::from_secs(4));
        during.assert_no_worse(&before, if confirm { 1000 } else { 20 });
    }
    assert_eq!(refused, 0, "busy is silence");
    site.server.stop();
}

#[test]
fn a_flood_of_requests_is_a_few_lines_in_the_log() {
    let _alone = alone();
    let site = Files::new("hostile-tftp-log", "io_uring", "", |root| {
        std::fs::create_dir(root.join("directory")).unwrap();
    });
    let before = site.honest.run(Duration::from_secs(2));
    let octets = site.server.log().len();
    let until = Instant::now() + Duration::from_secs(3);
    let mut sent = 0u32;
    while Instant::now() < until {
        for _ in 0..50 {
            let from = owned(192 + (sent % 60) as u8, 1024 + (sent / 60 % 60_000) as u16);
            let name = ["honest/loader", "directory", "../x", "nothing"][sent as usize % 4];
            site.forger.send(from, 69, &rrq(name, "octet", ""));
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let said = site.said_since(octets);
    println!("{sent} requests, {said} lines");
    assert!(sent > 10_000 && said < 400, "{sent} requests, {said} lines:\n{}", site.server.log());
    let after = site.honest.run(Duration::from_secs(2));
    after.assert_no_worse(&before, 20);
    assert!(site.server.log().contains("similar lines were left out"), "{}", site.server.log());
    site.server.stop();
}

/// The first bytes of the answer to a request; None where none comes in time.
fn first_answer(client: &Client, name: &str) -> Option<[u8; 4]> {
    let request = rrq(name, "octet", "");
    inside::run(client.name(), move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.send_to(&request, (SERVER, 69)).unwrap();
        let mut bytes = [0; 2048];
        let (_, tid) = socket.recv_from(&mut bytes).ok()?;
        socket.send_to(b"\0\x05\0\0bye\0", tid).unwrap();
        bytes.first_chunk().copied()
    })
}

/// How many connections to port 80 wait to be accepted where this process is.
fn waiting_connections(pid: u32) -> u64 {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let is_port = |address: &str| address.ends_with(":0050");
    let listeners = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Local address, state 0A (listening), and the length of the queue behind the colon.
        let is_listener = is_port(fields.get(1)?) && fields.get(3)? == &"0A";
        is_listener.then(|| u64::from_str_radix(fields[4].split(':').nth(1).unwrap(), 16).unwrap())
    });
    let lengths: Vec<u64> = listeners.collect();
    assert!(!lengths.is_empty(), "{table}");
    lengths.iter().sum()
}

#[test]
fn without_a_descriptor_left_files_are_served_and_missing_ones_are_missing() {
    let _alone = alone();
    let lay_out = |root: &Path| {
        (0..30)
            .for_each(|n| std::fs::write(root.join(format!("new{n}")), vec![b'x'; 600]).unwrap());
    };
    for datapath in DATAPATHS {
        let site = Files::new("hostile-tftp-descriptors", datapath, "", lay_out);
        let before = site.honest.run(Duration::from_secs(2));
        let pid = site.server.pid();
        let open = || -> BTreeSet<usize> {
            let names = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            names.filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect()
        };
        let taken = open();
        let most = (0..).filter(|fd| !taken.contains(fd)).nth(ROOM).unwrap();
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid.to_string(), &format!("--nofile={most}:{most}")]);
        run(command, LIMIT).ok();
        // Whatever is left goes to connections that ask for nothing.
        let connect = || {
            TcpStream::connect_timeout(&SocketAddr::new(SERVER.parse().unwrap(), 80), LIMIT)
                .unwrap()
        };
        let connections = inside::run(site.forger.client.name(), move || {
            let mut connections: Vec<TcpStream> = (0..200).map(|_| connect()).collect();
            connections.iter_mut().for_each(|stream| stream.write_all(b"GET").unwrap());
            connections
        });
        let until = Instant::now() + LIMIT;
        let left = || most - open().range(..most).count();
        // One that is free for a moment, because a client was turned away, is taken by the next.
        while left() > 0 {
            assert!(Instant::now() < until, "{} descriptors are left of {most}", left());
            std::thread::sleep(Duration::from_millis(20));
        }
        let client = site.net.client_with_address(180);
        for n in 0..30 {
            assert_eq!(first_answer(&client, "honest/menu"), Some([0, 3, 0, 1]), "{datapath}: {n}");
            assert_eq!(
                first_answer(&client, &format!("new{n}")),
                Some([0, 3, 0, 1]),
                "{datapath}: {n}"
            );
            assert_eq!(
                first_answer(&client, &format!("none{n}")),
                Some([0, 5, 0, 1]),
                "{datapath}: {n}"
            );
        }
        drop(connections);
        // Whoever comes while the server closes 200 connections may be told to come again, and does
        // so after two seconds.
        let until = Instant::now() + LIMIT;
        while left() < ROOM / 2 || waiting_connections(pid) > 0 {
            assert!(Instant::now() < until, "{} descriptors of {ROOM} are free again", left());
            std::thread::sleep(Duration::from_millis(20));
        }
        site.honest.run(Duration::from_secs(3)).assert_no_worse(&before, 200);
        site.server.stop();
    }
}
