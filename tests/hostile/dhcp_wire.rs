//! Floods, links that take nothing, and errors of the kernel against the DHCP core and the UDP
//! drivers.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringboot::dhcp::frame;
use ringboot::model::machine::Mac;
use serde_json::Value;

use super::common::honest::{Honest, Met};
use super::common::net::{BRIDGE, Client, Net, SERVER};
use super::common::process::{Process, run};
use super::common::server::{self, Server};
use super::common::wire::{Dhcp, Wire, mac};
use super::common::{self, Scratch, SetOnDrop, inside};
use super::{DATAPATHS, alone};

const LIMIT: Duration = Duration::from_secs(30);
/// What systemd allows between two signs of life.
const WATCHDOG: Duration = Duration::from_secs(4);
/// How much worse a step of an honest machine may get while the server is attacked: the faults that
/// these tests are about made it a hundred times as long, or endless.
const TIMES: u32 = 20;
/// Hardware address of the server's bridge.
const SERVER_MAC: Mac = Mac([0x52, 0x54, 0, 0, 4, 0x96]);

/// A server under a watchdog that answers all transfers from one socket, fifty honest machines, and
/// a hostile station on the same bridge.
struct Site {
    honest: Honest,
    hostile: Client,
    server: Server,
    heart: Heart,
    net: Net,
    scratch: Scratch,
}

impl Site {
    fn new(name: &str, datapath: &str, lines: &str) -> Self {
        Self::with(name, datapath, lines, |_| ())
    }

    /// `prepare` is called when the bridge is there, and the server is not.
    fn with(name: &str, datapath: &str, lines: &str, prepare: impl FnOnce(&Net)) -> Self {
        let (scratch, net) = (Scratch::new(name), Net::new());
        prepare(&net);
        Honest::lay_out(&server::root(&scratch));
        let configuration =
            server::configuration(&scratch).replace("[server]\n", "[server]\nworkers = 1\n");
        let configuration = configuration
            .replace(&format!("[\"{BRIDGE}\"]"), &format!("[\"{BRIDGE}\", \"{OTHER_BRIDGE}\"]"));
        let text = format!(
            "{configuration}clients = \"any\"\n{lines}\n[tuning]\ndatapath = \
             \"{datapath}\"\ntid-sockets = 1\n"
        );
        let notify = scratch.path().join("notify");
        let heart = Heart::new(&notify);
        let environment = [
            ("NOTIFY_SOCKET", notify.to_str().unwrap().to_owned()),
            ("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()),
        ];
        let server = Server::start_in(&net, &scratch, &text, &environment);
        server.log_line(&format!("no other DHCP server answers on {BRIDGE}"), LIMIT);
        let hostile = net.client("52:54:00:c1:66:01");
        Self { honest: Honest::new(&net), hostile, server, heart, net, scratch }
    }

    fn status(&self) -> Value {
        let mut command = self.net.command(env!("CARGO_BIN_EXE_ringboot"));
        command
            .args(["status", "--json", "--config"])
            .arg(self.scratch.path().join("ringboot.toml"));
        serde_json::from_str(&run(command, LIMIT).ok().stdout).unwrap()
    }

    /// Sends what `make` makes, so many a second, until the flood is dropped. 0: as many as the
    /// machine can.
    fn flood(&self, a_second: u32, make: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> Flood {
        Flood::new(&self.hostile, a_second, make)
    }
}

/// Frames without end.
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Flood {
    fn new(
        client: &Client,
        a_second: u32,
        mut make: impl FnMut(u32) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let wire = Wire::open(client.name(), "eth0");
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (started, mut sent) = (Instant::now(), 0);
            while !told.load(Ordering::Relaxed) {
                let due = if a_second == 0 {
                    sent + 64
                } else {
                    (started.elapsed().as_secs_f64() * f64::from(a_second)) as u32
                };
                while sent < due {
                    wire.send(&make(sent));
                    sent += 1;
                }
                if a_second > 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            sent
        });
        Self { is_over, thread: Some(thread) }
    }

    /// How many were sent.
    fn end(mut self) -> u32 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// What systemd hears.
struct Heart {
    socket: UnixDatagram,
}

impl Heart {
    fn new(path: &std::path::Path) -> Self {
        Self { socket: UnixDatagram::bind(path).unwrap() }
    }

    /// The longest silence between two signs of life while `work` is done, its ends included.
    fn longest_silence<R>(&self, work: impl FnOnce() -> R) -> (Duration, R) {
        let is_over = AtomicBool::new(false);
        self.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        std::thread::scope(|scope| {
            let listener = scope.spawn(|| {
                let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
                while !is_over.load(Ordering::Relaxed) {
                    let mut bytes = [0; 200];
                    let heard = self.socket.recv(&mut bytes);
                    longest = longest.max(last.elapsed());
                    if heard.is_ok_and(|length| bytes[..length].starts_with(b"WATCHDOG=1")) {
                        last = Instant::now();
                    }
                }
                longest
            });
            let ends_listener = SetOnDrop(&is_over);
            let done = work();
            drop(ends_listener);
            (listener.join().unwrap(), done)
        })
    }
}

/// Every machine has booted, and no step has become much slower. A busy machine loses a datagram of
/// DHCP now and then, and its client asks again after 4 s and 8 s.
fn assert_served(before: &Met, during: &Met) {
    assert_eq!(
        (before.failed, during.failed),
        (0, 0),
        "before:\n{}\nnow:\n{}",
        before.report,
        during.report
    );
    for ((name, now), (_, then)) in during.p99.iter().zip(&before.p99) {
        let lost = Duration::from_secs(if *name == "DHCP" { 13 } else { 0 });
        let most = (*then).max(Duration::from_millis(50)) * TIMES + lost;
        assert!(
            *now <= most,
            "{name}: {now:?}, at most {most:?}; before:\n{}\nnow:\n{}",
            before.report,
            during.report
        );
    }
}

/// To the server's port 67, from a client of this address.
fn to_server(message: &Dhcp, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (SocketAddrV4::new(from, 68), SocketAddrV4::new(to, 67));
    frame::build_ethernet_frame(message.mac, SERVER_MAC, from, to, payload).unwrap()
}

fn server_address() -> Ipv4Addr {
    SERVER.parse().unwrap()
}

/// Every way in which an answer may need the hardware address of somebody who is not there.
fn wants_an_answer_at_an_address_of_nobody(n: u32) -> Vec<u8> {
    let nobody = Ipv4Addr::new(192, 168, 4, 151 + (n / 4 % 100) as u8);
    let mut message = Dhcp::new(8, mac(n % 16), n);
    message.ciaddr = nobody;
    match n % 4 {
        0 => to_server(&message, nobody, server_address(), &message.payload()),
        1 => {
            (message.kind, message.broadcast) = (1, false);
            message.frame()
        }
        2 => {
            let mut infiniband = message.payload();
            (infiniband[1], infiniband[2]) = (32, 0);
            to_server(&message, nobody, server_address(), &infiniband)
        }
        _ => {
            (message.kind, message.giaddr, message.ciaddr) = (1, nobody, Ipv4Addr::UNSPECIFIED);
            to_server(&message, nobody, server_address(), &message.payload())
        }
    }
}

#[test]
fn answers_to_addresses_that_nobody_has_hold_up_nobody() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-nobody", datapath, "relay = true");
        let before = site.honest.run(Duration::from_secs(3));
        let flood = site.flood(4000, wants_an_answer_at_an_address_of_nobody);
        let (silence, during) =
            site.heart.longest_silence(|| site.honest.run(Duration::from_secs(6)));
        let sent = flood.end();
        println!(
            "{datapath}: {sent} sent, watchdog silent for {silence:?}\n{}\n{}",
            before.report, during.report
        );
        assert_served(&before, &during);
        assert!(silence < WATCHDOG, "no sign of life for {silence:?}");
        let dhcp = &site.status()["dhcp"];
        assert!(
            dhcp["informs"].as_u64() > Some(1000) && dhcp["answered"].as_u64() > Some(1000),
            "{dhcp}"
        );
        site.server.stop();
    }
}

#[test]
fn acks_leave_and_the_watchdog_is_fed_while_more_comes_than_can_be_answered() {
    const HONEST: u32 = 20;
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-overload", datapath, "");
        let client = site.net.client("52:54:00:c1:67:01");
        let wire = Wire::open(client.name(), "eth0");
        let offers: Vec<_> = (0..HONEST)
            .map(|n| {
                let message = Dhcp { broadcast: false, ..Dhcp::discover(mac(1000 + n), n) };
                wire.ask(&message, LIMIT).expect("an offer").message.yiaddr()
            })
            .collect();
        // To the server alone: the bridge must not bring the flood to everybody.
        let discover = |n: u32| {
            let message = Dhcp { broadcast: false, ..Dhcp::discover(mac(n % 32), n) };
            to_server(&message, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &message.payload())
        };
        let flood = site.flood(0, discover);
        std::thread::sleep(Duration::from_secs(1));
        let (silence, slowest) = site.heart.longest_silence(|| {
            let mut slowest = Duration::ZERO;
            for (n, offer) in (0..HONEST).zip(&offers) {
                let asked = Instant::now();
                let request = Dhcp {
                    broadcast: false,
                    ..Dhcp::request(mac(1000 + n), 5000 + n, server_address(), *offer)
                };
                let mut tries = (0..30).map(|_| wire.ask(&request, Duration::from_millis(300)));
                let ack = tries.find_map(|answer| answer).map(|answer| answer.kind());
                assert_eq!(
                    ack,
                    Some(5),
                    "{datapath}: machine {n} after {:?}: {}",
                    asked.elapsed(),
                    site.status()["dhcp"]
                );
                slowest = slowest.max(asked.elapsed());
            }
            // Two times what systemd allows.
            std::thread::sleep((2 * WATCHDOG).saturating_sub(slowest));
            slowest
        });
        let sent = flood.end();
        let dhcp = &site.status()["dhcp"];
        println!(
            "{datapath}: {sent} sent, watchdog silent for {silence:?}, slowest ACK {slowest:?}: \
             {dhcp}"
        );
        assert!(silence < WATCHDOG, "{datapath}: no sign of life for {silence:?}");
        assert!(dhcp["acks"].as_u64() >= Some(HONEST.into()), "{dhcp}");
        site.server.stop();
    }
}

#[test]
fn an_exhausted_pool_is_said_once_a_second_and_counted() {
    const SECONDS: u64 = 3;
    let _alone = alone();
    let site = Site::new("hostile-exhausted", DATAPATHS[0], "conflict-detection = false");
    let wire = Wire::open(site.hostile.name(), "eth0");
    let until = Instant::now() + LIMIT;
    let mut next = 0;
    // The clients lease, because an offer that no client requests makes room for another one. Only
    // a client without a lease can mean that the pool is exhausted: the test asks the server only
    // then, since starting a command for each address takes longer than all the leases.
    loop {
        let leased = wire.lease(mac(next), next, Duration::from_millis(500));
        if leased.is_none() && site.status()["dhcp"]["exhausted"] != 0 {
            break;
        }
        assert!(Instant::now() < until, "a pool without an end: {}", site.status());
        next += 1;
    }
    let (started, said) = (Instant::now(), lines(&site.server, "no address is free"));
    let flood = site.flood(20_000, |n| Dhcp::discover(mac(100_000 + n), n).frame());
    std::thread::sleep(Duration::from_secs(SECONDS));
    let sent = flood.end();
    let counted = site.status()["dhcp"]["exhausted"].as_u64().unwrap();
    let said = lines(&site.server, "no address is free") - said;
    println!("{sent} sent, {counted} counted, {said} lines");
    assert!(counted > 1000, "{counted} of {sent}");
    assert!(
        said as u64 <= started.elapsed().as_secs() + 2,
        "{said} lines of {counted}:\n{}",
        site.server.log()
    );
    site.server.log_line("similar lines were left out", LIMIT);
    site.server.stop();
}

fn lines(server: &Server, words: &str) -> usize {
    server.log().lines().filter(|line| line.contains(words)).count()
}

/// The second segment of the server: its bridge and our address there.
const OTHER_BRIDGE: &str = "br1";
const OTHER_ADDRESS: &str = "10.9.0.1";

/// A subnet on that segment. The interfaces of the server are both.
fn other_subnet() -> String {
    format!(
        "[[dhcp.subnet]]\nsubnet = \"10.9.0.0/24\"\ninterface = \"{OTHER_BRIDGE}\"\nmode = \
         \"server\"\nclients = \"any\"\n\
         pools = [\"10.9.0.20-10.9.0.60\"]\n"
    )
}

#[test]
fn a_link_that_takes_nothing_holds_up_no_other() {
    const TRANSFERS: u8 = 120;
    common::need(&[("tc", "iproute2")]);
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::with("hostile-slow-link", datapath, &other_subnet(), |net| {
            net.bridge(OTHER_BRIDGE, &format!("{OTHER_ADDRESS}/24"));
        });
        site.server.log_line(&format!("no other DHCP server answers on {OTHER_BRIDGE}"), LIMIT);
        let slow = site.net.client_on(OTHER_BRIDGE, "52:54:00:c1:68:01");
        slow.ip(&["addr", "add", "10.9.0.2/24", "dev", "eth0"]);
        slow.ip(&["route", "add", "local", "10.9.0.128/25", "dev", "lo"]);
        let before = site.honest.run(Duration::from_secs(3));
        // Transfers of whole windows are agreed upon while the link is fast.
        let transfers = inside::run(slow.name(), || {
            let open = |n: u8| (0..2).map(move |_| transfer(Ipv4Addr::new(10, 9, 0, 128 + n)));
            (0..TRANSFERS).flat_map(open).collect::<Vec<_>>()
        });
        let mut tc = site.net.command("tc");
        tc.args([
            "qdisc",
            "add",
            "dev",
            OTHER_BRIDGE,
            "root",
            "tbf",
            "rate",
            "8kbit",
            "burst",
            "4096",
            "limit",
            "1000000000",
        ]);
        run(tc, LIMIT).ok();
        for transfer in &transfers {
            transfer.send(&[0, 4, 0, 0]).unwrap();
        }
        let flood = Flood::new(&slow, 3000, |n| {
            Dhcp { broadcast: n % 2 == 0, ..Dhcp::discover(mac(n % 32), n) }.frame()
        });
        let (started, used) = (Instant::now(), processor_time(&site.server, "rb-tftp-0"));
        let (silence, during) =
            site.heart.longest_silence(|| site.honest.run(Duration::from_secs(5)));
        let (time, used) = (started.elapsed(), processor_time(&site.server, "rb-tftp-0") - used);
        let sent = flood.end();
        let dhcp = &site.status()["dhcp"];
        println!(
            "{datapath}: {sent} sent, watchdog silent for {silence:?}, TFTP used {used:?} of \
             {time:?}, {dhcp}"
        );
        println!("{}\n{}", before.report, during.report);
        assert!(
            used < time / 2,
            "{datapath}: the core looks without pause for room that does not come"
        );
        assert!(dhcp["unsent"].as_u64() > Some(0), "{datapath}: the link took everything: {dhcp}");
        assert_served(&before, &during);
        assert!(silence < WATCHDOG, "no sign of life for {silence:?}");
        drop(transfers);
        let started = Instant::now();
        site.server.stop();
        println!("{datapath}: stopped after {:?}", started.elapsed());
    }
}

/// A client that has agreed upon windows of 64 blocks, and has not asked for the first yet.
fn transfer(from: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let request = b"\0\x01honest/kernel\0octet\0blksize\x001468\0windowsize\x0064\0";
    socket.send_to(request, (OTHER_ADDRESS, 69)).unwrap();
    let mut answer = [0; 600];
    let (_, server) = socket.recv_from(&mut answer).unwrap();
    assert_eq!(answer[1], 6, "an OACK");
    socket.connect(server).unwrap();
    socket
}

#[test]
fn a_relays_answer_leaves_by_the_route_that_is_now_from_the_address_that_was_asked() {
    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
    const ASKED: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
    let _alone = alone();
    for datapath in DATAPATHS {
        let relayed = "[[dhcp.subnet]]\nsubnet = \"10.7.0.0/24\"\nrelay = true\nmode = \
                       \"server\"\nclients = \"any\"\n\
                       pools = [\"10.7.0.20-10.7.0.60\"]\n";
        let site = Site::with("hostile-route", datapath, relayed, |net| {
            net.bridge(OTHER_BRIDGE, &format!("{OTHER_ADDRESS}/24"));
            net.ip(&["addr", "add", &format!("{ASKED}/32"), "dev", "lo"]);
            net.ip(&["route", "add", "10.7.0.0/24", "via", "10.9.0.2"]);
        });
        let router = site.net.client_on(OTHER_BRIDGE, "52:54:00:c1:69:01");
        router.ip(&["addr", "add", "10.9.0.2/24", "dev", "eth0"]);
        let (asking, hearing) =
            (Wire::open(site.hostile.name(), "eth0"), Wire::open(router.name(), "eth0"));
        let ask = |message: &Dhcp, from: Ipv4Addr| {
            let (from, to) = (SocketAddrV4::new(from, 67), SocketAddrV4::new(ASKED, 67));
            assert!(asking.send(&message.frame_from(from, SERVER_MAC, to)));
            hearing.answer(Instant::now() + LIMIT).expect("an answer on the other bridge")
        };
        let mut discover = Dhcp::discover(mac(1), 7);
        discover.giaddr = RELAY;
        let offer = ask(&discover, RELAY);
        assert_eq!(
            (offer.kind(), *offer.source.ip(), offer.source.port()),
            (2, ASKED, 67),
            "{datapath}: {offer:?}"
        );
        // A renewal from behind the same router, and the way there has changed since.
        let address = offer.message.yiaddr();
        let mut request = Dhcp::request(mac(1), 8, offer.server().unwrap(), address);
        request.giaddr = RELAY;
        assert_eq!(ask(&request, RELAY).kind(), 5);
        let mut renewal = Dhcp::new(3, mac(1), 9);
        renewal.ciaddr = address;
        let ack = ask(&renewal, address);
        assert_eq!((ack.kind(), *ack.source.ip()), (5, ASKED), "{datapath}: {ack:?}");
        let before = site.status()["dhcp"]["failed"].as_u64().unwrap();
        site.net.ip(&["route", "del", "10.7.0.0/24"]);
        discover.xid = 10;
        assert!(asking.send(&discover.frame_from(
            SocketAddrV4::new(RELAY, 67),
            SERVER_MAC,
            SocketAddrV4::new(ASKED, 67)
        )));
        let until = Instant::now() + LIMIT;
        while site.status()["dhcp"]["failed"].as_u64() == Some(before) {
            assert!(
                Instant::now() < until,
                "an answer without a route counts as one: {}",
                site.status()["dhcp"]
            );
        }
        site.server.stop();
    }
}

#[test]
fn interfaces_are_followed_while_packets_to_clients_flood() {
    let _alone = alone();
    let site = Site::new("hostile-port-68", DATAPATHS[0], &other_subnet());
    let reply = |n: u32| {
        let message = Dhcp::new(2, mac(7), n);
        let from = SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 66), 67);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
        frame::build_ethernet_frame(
            mac(7),
            Mac([0xff; 6]),
            from,
            to,
            &message.reply_payload(Ipv4Addr::new(192, 168, 4, 67)),
        )
        .unwrap()
    };
    let floods = [site.flood(0, reply), site.flood(0, reply)];
    site.net.bridge(OTHER_BRIDGE, &format!("{OTHER_ADDRESS}/24"));
    site.server.log_line(&format!("interface {OTHER_BRIDGE} is there: DHCP listens on it"), LIMIT);
    drop(floods);
    site.server.stop();
}

/// Errors that pass by themselves, on a third of all calls of the threads with UDP sockets.
#[test]
fn a_kernel_short_of_memory_ends_nothing() {
    common::need(&[("strace", "strace")]);
    let _alone = alone();
    for (datapath, call, error) in [
        ("io_uring", "io_uring_enter", "EAGAIN"),
        ("io_uring", "io_uring_enter", "ENOMEM"),
        ("io_uring", "io_uring_enter", "EBUSY"),
        ("io_uring", "io_uring_enter", "EINTR"),
        ("epoll", "epoll_wait", "ENOMEM"),
        ("epoll", "recvmmsg", "ENOMEM"),
    ] {
        let site = Site::new("hostile-shortage", datapath, "");
        let mut strace = Command::new("strace");
        for task in ["rb-dhcp", "rb-tftp-0"] {
            strace.args(["-p", &thread_of(&site.server, task)]);
        }
        strace.args(["-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:error={error}:when=5+3")]);
        let injecting = Process::start(strace);
        injecting.stderr.wait_line("attached", LIMIT);
        let during = site.honest.run(Duration::from_secs(1));
        assert_eq!(
            during.failed,
            0,
            "{datapath} {call} {error}:\n{}\n{}",
            during.report,
            site.server.log()
        );
        // First: a tracer that is killed leaves a call behind that the kernel does not know.
        site.server.stop();
        drop(injecting);
    }
}

/// What a thread has used of its processor (proc(5): fields 14 and 15 in hundredths of a second).
fn processor_time(server: &Server, name: &str) -> Duration {
    let task = format!("/proc/{pid}/task/{}/stat", thread_of(server, name), pid = server.pid());
    let stat = std::fs::read_to_string(task).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let hundredths: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * hundredths)
}

fn thread_of(server: &Server, name: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid()))
        .unwrap()
        .map(|task| task.unwrap().path());
    let has_name = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).unwrap().trim() == name
    };
    let task = tasks.into_iter().find(has_name).unwrap_or_else(|| panic!("no thread {name}"));
    task.file_name().unwrap().to_str().unwrap().to_owned()
}
