//! What the host does to the server: logs and disks that fail, signals, kernel errors, threads that
//! die.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::common::process::{Output, Process, need, run};
use super::common::seccomp;
use super::common::wire::{Dhcp, mac};
use super::common::{Scratch, free_port};

const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");
const LIMIT: Duration = Duration::from_secs(60);
/// A download that is still running when the server is told to stop. Octets.
const LARGE: usize = 30_000_000;

/// A server on loopback: DHCP for relays, TFTP, HTTP and the admin socket.
struct Host {
    scratch: Scratch,
    http: SocketAddr,
    dhcp: SocketAddr,
}

impl Host {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        fs::create_dir(scratch.path().join("root")).unwrap();
        fs::write(scratch.path().join("root/large"), vec![b'x'; LARGE]).unwrap();
        fs::write(scratch.path().join("root/small"), "small").unwrap();
        let host = Self { scratch, http: free_port(), dhcp: free_port() };
        host.configure("");
        host
    }

    /// With more tables at the end, after the subnet's.
    fn configure(&self, more: &str) {
        let (http, tftp, port) = (self.http, free_port(), self.dhcp.port());
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nworkers = 1\nadmin-socket = \
             \"admin.sock\"\nuser = \"root\"\n\
             [tftp]\nlisten = [\"{tftp}\"]\n[http]\nlisten = [\"{http}\"]\n\
             [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n\
             [[dhcp.subnet]]\nsubnet = \"127.0.0.0/8\"\nrelay = true\nmode = \"server\"\nclients = \
             \"any\"\n\
             pools = [\"127.77.1.1-127.77.1.99\"]\n{more}"
        );
        fs::write(self.path("ringboot.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Started by a shell that ends in `exec "$@"` with its standard error where the script sends
    /// it.
    fn start(&self, script: &str) -> Process {
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg("bash");
        command.args([BINARY, "serve", "--config"]).arg(self.path("ringboot.toml"));
        command.current_dir(self.scratch.path());
        let process = Process::start(command);
        process.stdout.wait_line("READY", LIMIT);
        process
    }

    fn ringboot(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(self.path("ringboot.toml"));
        run(command, Duration::from_secs(20))
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.ringboot(&["status", "--json"]).ok().stdout).unwrap()
    }

    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    /// The whole answer.
    fn get(&self, path: &str) -> Vec<u8> {
        let mut answer = Vec::new();
        self.ask(path).read_to_end(&mut answer).unwrap();
        answer
    }
}

/// A relay on loopback, through which machines get their leases.
struct Relay {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Relay {
    fn new(host: &Host) -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").unwrap(), server: host.dhcp }
    }

    /// The answer's kind and address; None: silence for so long.
    fn ask(&self, mut message: Dhcp, wait: Duration) -> Option<(u8, Ipv4Addr)> {
        message.giaddr = Ipv4Addr::LOCALHOST;
        // Option 82: the answer goes to the port that the relay speaks from (RFC 8357).
        let payload = message.with(82, &[19, 0]).payload();
        self.socket.send_to(&payload, self.server).unwrap();
        let until = Instant::now() + wait;
        let mut bytes = [0; 1500];
        loop {
            let left =
                until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).unwrap();
            match self.socket.recv(&mut bytes) {
                Ok(length) if bytes[4..8] == payload[4..8] => {
                    let kind = bytes[240..length]
                        .windows(3)
                        .find(|window| window[..2] == [53, 1])
                        .map(|window| window[2]);
                    let address = <[u8; 4]>::try_from(&bytes[16..20]).unwrap();
                    return Some((kind.unwrap(), Ipv4Addr::from(address)));
                }
                Ok(_) => {}
                Err(_) if Instant::now() >= until => return None,
                Err(_) => {}
            }
        }
    }

    fn discover(&self, number: u32, wait: Duration) -> Option<Ipv4Addr> {
        self.ask(Dhcp::discover(mac(number), number), wait)
            .filter(|answer| answer.0 == 2)
            .map(|answer| answer.1)
    }

    fn request(&self, number: u32, address: Ipv4Addr, wait: Duration) -> Option<Ipv4Addr> {
        let request = Dhcp::request(mac(number), number + 1_000_000, Ipv4Addr::LOCALHOST, address);
        self.ask(request, wait).filter(|answer| answer.0 == 5).map(|answer| answer.1)
    }

    /// Asks as clients do, until there is a lease.
    fn lease(&self, number: u32, limit: Duration) -> Ipv4Addr {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(address) = self.discover(number, Duration::from_millis(300))
                && let Some(address) = self.request(number, address, Duration::from_millis(1000))
            {
                return address;
            }
        }
        panic!("machine {number} has no lease after {limit:?}");
    }
}

/// SIGTERM while a download runs: it is served to its end, and the server says that all is well.
fn stops_in_order(host: &Host, mut server: Process) {
    let mut download = host.ask("/large");
    let mut answer = vec![0; 100_000];
    download.read_exact(&mut answer).unwrap();
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    download.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > LARGE, "{} octets of {LARGE}", answer.len());
    let begun = Instant::now();
    let status = server.wait(Duration::from_secs(20)).expect("it stops");
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn no_destination_of_the_log_ends_freezes_or_slows_the_server() {
    need(&[("bash", "bash")]);
    let destinations = [
        ("full", r#"exec "$@" 2>/dev/full"#),
        ("closed", r#"exec "$@" 2> >(exec true)"#),
        // Opened for reading and writing: nobody reads, and it is no broken pipe either.
        ("blocked", r#"mkfifo pipe; exec "$@" 2<>pipe"#),
    ];
    for (name, script) in destinations {
        let host = Host::new(&format!("host-log-{name}"));
        let server = host.start(script);
        // More lines than a pipe takes.
        let begun = Instant::now();
        for _ in 0..1500 {
            assert!(host.get("/not-there").starts_with(b"HTTP/1.1 404"));
        }
        let took = begun.elapsed();
        assert!(host.get("/small").ends_with(b"small"));
        let begun = Instant::now();
        let threads = host.status()["threads"].clone();
        for wanted in ["rb-log", "rb-journal", "rb-admin", "rb-signals", "rb-store"] {
            assert!(
                threads.as_array().unwrap().iter().any(|one| one["name"] == wanted),
                "{name}: {wanted} in {threads}"
            );
        }
        host.ringboot(&["reload"]).ok();
        server.signal("HUP");
        assert!(begun.elapsed() < Duration::from_secs(10), "{name}: {:?}", begun.elapsed());
        println!(
            "{name}: 1500 answers in {took:?}, log lines lost: {}",
            host.status()["drops"]["log_lines"]
        );
        stops_in_order(&host, server);
    }
}

const SHORT: Duration = Duration::from_millis(500);

/// The state directory on a small disk of its own, which is seen by the server alone.
const SMALL_DISK: &str = r#"mkdir -p state; mount -t tmpfs -o size=1m tmpfs state; exec "$@""#;

impl Host {
    /// Starts it with a small disk. The path is the state directory as the server sees it.
    fn start_on_small_disk(&self, before: &str) -> (Process, PathBuf) {
        let script = SMALL_DISK.replace("exec", &format!("{before}; exec"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", &script, "bash"]);
        command.args([BINARY, "serve", "--config"]).arg(self.path("ringboot.toml"));
        command.current_dir(self.scratch.path());
        let process = Process::start(command);
        process.stdout.wait_line("READY", LIMIT);
        let inside =
            PathBuf::from(format!("/proc/{}/root{}", process.pid(), self.path("state").display()));
        (process, inside)
    }

    /// Waits until the server says this of its store.
    fn wait_store(&self, state: &str) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            let store = self.status()["dhcp"]["store"].clone();
            if store["state"] == state {
                return store;
            }
            assert!(Instant::now() < until, "not {state}: {store}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Fills a disk to its last byte.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let mut piece = vec![0; 64 * 1024];
    while !piece.is_empty() {
        if file.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
}

#[test]
fn a_full_disk_stops_offers_and_no_file_and_is_over_when_there_is_room() {
    need(&[("unshare", "util-linux")]);
    let host = Host::new("host-full-disk");
    let (mut server, state) = host.start_on_small_disk("true");
    let relay = Relay::new(&host);
    let first = relay.lease(1, LIMIT);
    fill(&state.join("fill"));
    // Commits fail as soon as the log of the database must grow.
    let until = Instant::now() + LIMIT;
    let mut number = 100;
    while host.status()["dhcp"]["store"]["state"] != "broken" {
        assert!(Instant::now() < until, "{}", host.status());
        if let Some(address) = relay.discover(number, SHORT) {
            relay.request(number, address, SHORT);
        }
        number += 1;
    }
    assert!(
        (0..5).filter_map(|more| relay.discover(1000 + more, SHORT)).count() <= 1,
        "offers that no lease can follow"
    );
    assert!(host.get("/small").ends_with(b"small"), "files are served");
    let told = host.ringboot(&["status"]).ok().stdout;
    assert!(told.contains("NO NEW LEASES"), "{told}");
    let line = server.stderr.wait_line("THE LEASE STORE IS BROKEN", LIMIT);
    println!("{line}");
    fs::remove_file(state.join("fill")).unwrap();
    host.wait_store("sound");
    let second = relay.lease(2, LIMIT);
    assert_eq!(relay.lease(1, LIMIT), first);
    assert_ne!(first, second);
    let store = host.status()["dhcp"]["store"].clone();
    println!("{store}");
    assert!(
        store["failed_commits"].as_u64().unwrap() > 0
            && store["offers_withheld"].as_u64().unwrap() > 0,
        "{store}"
    );
    assert!(server.stop(LIMIT).success());
}

/// Addresses by machine, out of the database that a server has left.
fn leases(host: &Host) -> Vec<(String, String)> {
    let connection = rusqlite::Connection::open(host.path("state/ringboot.db")).unwrap();
    let mut statement =
        connection.prepare("SELECT mac, address FROM leases WHERE state = 'bound'").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn state_files_that_are_removed_or_torn_under_the_server_cost_no_lease() {
    type Harm = fn(&Host);
    let harms: [(&str, Harm); 4] = [
        ("removed", |host| fs::remove_file(host.path("state/ringboot.db")).unwrap()),
        ("all removed", |host| fs::remove_dir_all(host.path("state")).unwrap()),
        ("log removed", |host| fs::remove_file(host.path("state/ringboot.db-wal")).unwrap()),
        ("torn", |host| {
            for part in ["ringboot.db", "ringboot.db-wal"] {
                fs::write(host.path("state").join(part), vec![0x5a; 100_000]).unwrap();
            }
        }),
    ];
    for (name, harm) in harms {
        let host = Host::new("host-state");
        let mut server = host.start(r#"exec "$@""#);
        let relay = Relay::new(&host);
        let mut held: Vec<(u32, Ipv4Addr)> =
            (1..=10).map(|number| (number, relay.lease(number, LIMIT))).collect();
        harm(&host);
        held.extend((11..=20).map(|number| (number, relay.lease(number, LIMIT))));
        server.stderr.wait_line("written anew from memory", LIMIT);
        host.wait_store("sound");
        server.signal("KILL");
        server.wait(LIMIT);
        let found = leases(&host);
        for (number, address) in &held {
            let machine = mac(*number).to_string();
            assert!(
                found.contains(&(machine, address.to_string())),
                "{name}: {number} {address} in {found:?}"
            );
        }
        let mut server = host.start(r#"exec "$@""#);
        for (number, address) in held {
            assert_eq!(relay.lease(number, LIMIT), address, "{name}: as before");
        }
        assert!(server.stop(LIMIT).success());
    }
}

#[test]
fn a_removed_lock_lets_no_second_server_in() {
    let host = Host::new("host-lock");
    let mut server = host.start(r#"exec "$@""#);
    for name in ["lock", "ringboot.db"] {
        fs::remove_file(host.path("state").join(name)).unwrap();
        let second = Host::new("host-lock-second");
        let text = fs::read_to_string(second.path("ringboot.toml")).unwrap();
        let text = text.replace("\"state\"", &format!("\"{}\"", host.path("state").display()));
        fs::write(second.path("ringboot.toml"), text).unwrap();
        let refused = second.ringboot(&["serve"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(
            refused.stderr.contains("another ringboot runs with the state directory"),
            "{refused:?}"
        );
    }
    server.stderr.wait_line("it is there again", LIMIT);
    assert!(server.stop(LIMIT).success());
}

#[test]
fn files_are_served_while_the_database_cannot_be_read_and_dhcp_follows_when_it_can() {
    let host = Host::new("host-start");
    fs::create_dir(host.path("state")).unwrap();
    fs::write(host.path("state/ringboot.db"), vec![0x5a; 100_000]).unwrap();
    let mut server = host.start(r#"exec "$@""#);
    let relay = Relay::new(&host);
    assert_eq!(relay.discover(1, SHORT), None);
    assert!(host.get("/small").ends_with(b"small"));
    let said = server.stderr.wait_line("NO DHCP IS ANSWERED", LIMIT);
    let damaged = "state/ringboot.db is damaged (file is not a database)";
    assert!(
        said.contains(damaged)
            && said.contains("`ringboot restore FILE`")
            && said.contains("or move it away"),
        "{said}"
    );
    assert_eq!(host.status()["dhcp"]["store"]["state"], "unread");
    fs::rename(host.path("state/ringboot.db"), host.path("state/ringboot.db.mine")).unwrap();
    relay.lease(1, LIMIT);
    host.wait_store("sound");
    assert!(server.stop(LIMIT).success());

    // A row that nobody understands takes its address with it, and nothing else.
    let connection = rusqlite::Connection::open(host.path("state/ringboot.db")).unwrap();
    connection.execute("UPDATE leases SET mac = 'nobody'", []).unwrap();
    drop(connection);
    let mut server = host.start(r#"exec "$@""#);
    relay.lease(2, LIMIT);
    server.stderr.wait_line("is set aside", LIMIT);
    assert!(server.stop(LIMIT).success());
}

#[test]
fn a_server_starts_on_a_full_disk_and_answers_dhcp_when_there_is_room() {
    need(&[("unshare", "util-linux")]);
    let host = Host::new("host-start-full");
    let (mut server, state) =
        host.start_on_small_disk("dd if=/dev/zero of=state/fill bs=4096 status=none");
    assert!(host.get("/small").ends_with(b"small"));
    let relay = Relay::new(&host);
    assert_eq!(relay.discover(1, SHORT), None);
    fs::remove_file(state.join("fill")).unwrap();
    relay.lease(1, LIMIT);
    host.wait_store("sound");
    assert!(server.stop(LIMIT).success());
}

/// The thread of this name.
fn thread_of(server: &Process, name: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid()))
        .unwrap()
        .map(|task| task.unwrap().path());
    let is_it = |task: &PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let task = tasks.into_iter().find(is_it).unwrap_or_else(|| panic!("no thread {name}"));
    task.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Ends when it is told to. A call that is to fail when its tracer goes fails otherwise (ENOSYS):
/// errors must be over by then.
struct Injection(Process);

impl Drop for Injection {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.pid().to_string()).status();
        let _ = self.0.wait(LIMIT);
    }
}

/// A kernel that answers these threads otherwise, until it is dropped: `inject` as strace(1) has
/// it.
fn inject(server: &Process, threads: &[&str], inject: &str) -> Injection {
    need(&[("strace", "strace")]);
    let mut command = Command::new("strace");
    for name in threads {
        command.args(["-p", &thread_of(server, name)]);
    }
    let calls = inject.split(':').next().unwrap();
    command.args([
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={calls}"),
        "-e",
        &format!("inject={inject}"),
    ]);
    let strace = Process::start(command);
    strace.stderr.wait_line("attached", LIMIT);
    Injection(strace)
}

#[test]
fn errors_of_the_ring_that_pass_by_themselves_end_no_core() {
    let host = Host::new("host-ring");
    let mut server = host.start(r#"exec "$@""#);
    let relay = Relay::new(&host);
    for (number, error) in ["EAGAIN", "EBUSY", "EINTR", "ENOMEM"].into_iter().enumerate() {
        let held = inject(
            &server,
            &["rb-http-0", "rb-dhcp"],
            &format!("io_uring_enter:error={error}:when=1..5+2"),
        );
        for more in 1..=5 {
            assert!(host.get("/small").ends_with(b"small"), "{error}");
            relay.lease(10 * u32::try_from(number).unwrap() + more, LIMIT);
        }
        drop(held);
    }
    assert!(server.stop(LIMIT).success());
    // The other way: what a machine without memory says to epoll.
    host.configure("[tuning]\ndatapath = \"epoll\"\n");
    let mut server = host.start(r#"exec "$@""#);
    let held = inject(&server, &["rb-http-0", "rb-dhcp"], "epoll_wait:error=ENOMEM:when=1..5+2");
    for more in 51..=55 {
        assert!(host.get("/small").ends_with(b"small"));
        relay.lease(more, LIMIT);
    }
    drop(held);
    assert!(server.stop(LIMIT).success());
}

#[test]
fn a_core_that_is_refused_a_ring_serves_by_epoll() {
    let host = Host::new("host-no-ring");
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(host.path("ringboot.toml"));
    seccomp::refuse_buffer_rings(&mut command);
    let mut server = Process::start(command);
    server.stdout.wait_line("READY", LIMIT);
    assert!(host.get("/small").ends_with(b"small"));
    Relay::new(&host).lease(1, LIMIT);
    server.stderr.wait_line("serves by epoll", LIMIT);
    assert_eq!(host.status()["cores_without_ring"], 3, "TFTP, HTTP and DHCP");
    assert!(server.stop(LIMIT).success());
    // Whoever asks for rings and nothing else is told.
    host.configure("[tuning]\ndatapath = \"io_uring\"\n");
    let mut command = Command::new(BINARY);
    command.args(["serve", "--config"]).arg(host.path("ringboot.toml"));
    seccomp::refuse_buffer_rings(&mut command);
    let refused = run(command, LIMIT);
    assert!(refused.status.code() == Some(1) && refused.stderr.contains("ENOMEM"), "{refused:?}");
}

#[test]
fn the_admin_socket_outlives_a_shortage_and_clients_that_pile_up() {
    let host = Host::new("host-admin");
    let mut server = host.start(r#"exec "$@""#);
    let held = inject(&server, &["rb-admin"], "accept4:error=EMFILE:when=1..5");
    host.status();
    drop(held);
    server.stderr.wait_line("the admin socket cannot accept a client", LIMIT);
    // As many as there are places say nothing: each loses its place after a while, and others come
    // in.
    let socket = host.path("admin.sock");
    let silent: Vec<_> =
        (0..80).map_while(|_| std::os::unix::net::UnixStream::connect(&socket).ok()).collect();
    assert!(silent.len() > 64);
    host.status();
    drop(silent);
    assert!(server.stop(LIMIT).success());
}

#[test]
fn threads_that_stand_still_are_said_once_and_shown_without_systemd() {
    let host = Host::new("host-stuck");
    let mut server = host.start(r#"exec "$@""#);
    let relay = Relay::new(&host);
    relay.lease(1, LIMIT);
    let core = inject(&server, &["rb-http-0"], "io_uring_enter:delay_enter=15000000");
    let store = inject(&server, &["rb-store"], "fdatasync:delay_enter=15000000");
    let address = relay.discover(2, LIMIT).unwrap();
    assert_eq!(relay.request(2, address, SHORT), None, "its lease is not durable");
    for thread in ["rb-http-0", "rb-store"] {
        server.stderr.wait_line(&format!("the thread {thread} stands still"), LIMIT);
    }
    let told = host.ringboot(&["status"]).ok().stdout;
    for words in [
        "STUCK      the thread rb-http-0",
        "STUCK      the thread rb-store",
        "; 1 commit in the queue",
    ] {
        assert!(told.contains(words), "{words} in {told}");
    }
    drop((core, store));
    for thread in ["rb-http-0", "rb-store"] {
        server.stderr.wait_line(&format!("the thread {thread} goes on"), LIMIT);
    }
    assert!(host.get("/small").ends_with(b"small"));
    let log = server.stderr.text();
    assert_eq!(log.matches("the thread rb-http-0 stands still").count(), 1, "{log}");
    assert!(server.stop(LIMIT).success());
}

#[test]
fn a_drain_ends_in_time_whatever_is_asked_meanwhile_and_a_core_that_is_cut_off_is_no_success() {
    let host = Host::new("host-drain");
    let mut server = host.start(r#"exec "$@""#);
    let held = inject(&server, &["rb-http-0"], "io_uring_enter:delay_enter=60000000");
    let begun = Instant::now();
    server.signal("TERM");
    while !server.stderr.text().contains("cut off") {
        // Whoever asks meanwhile makes it last no longer.
        host.ringboot(&["status"]);
        server.signal("HUP");
        std::thread::sleep(Duration::from_millis(500));
        assert!(begun.elapsed() < Duration::from_secs(25), "{}", server.stderr.text());
    }
    // A thread that is held back by a tracer keeps its process from ending.
    drop(held);
    let status = server.wait(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(1));
    assert!(server.stderr.text().contains("rb-http-0"), "{}", server.stderr.text());
}

#[test]
fn why_asked_right_after_the_answer_knows_it() {
    let host = Host::new("host-why");
    let mut server = host.start(r#"exec "$@""#);
    let relay = Relay::new(&host);
    // Beside a load on both processors.
    let until = Instant::now() + Duration::from_secs(5);
    let load: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                while Instant::now() < until {
                    std::hint::spin_loop()
                }
            })
        })
        .collect();
    for number in 1..=20 {
        let address = relay.lease(number, LIMIT);
        let told = host.ringboot(&["why", &mac(number).to_string()]);
        assert!(
            told.stdout.contains(&address.to_string()) && told.stdout.contains(" lease: "),
            "{number}: {told:?}"
        );
    }
    load.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(server.stop(LIMIT).success());
}

#[test]
fn ready_does_not_wait_for_a_large_history_and_invented_machines_take_no_place_from_others() {
    const STRANGERS: u32 = 16_384;
    let host = Host::new("host-history");
    let mut server = host.start(r#"exec "$@""#);
    assert!(server.stop(LIMIT).success());
    let connection = rusqlite::Connection::open(host.path("state/history.db")).unwrap();
    let text = "x".repeat(300);
    let insert = format!(
        "INSERT INTO entries VALUES ('52:54:00:00:00:01', 0, 0, 1000, '10.0.0.1', 'loader', \
         'sent', 'pxelinux.0', NULL, 9, 'sent');
         WITH RECURSIVE machine(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM machine WHERE n + 1 < \
         {STRANGERS}),
             slot(s) AS (SELECT 0 UNION ALL SELECT s + 1 FROM slot WHERE s < 15)
         INSERT INTO entries SELECT printf('02:00:00:%02x:%02x:00', n / 256, n % 256), s, s, 2000 \
         + n, NULL, 'dhcp', 'nak',
             NULL, NULL, NULL, '{text}' FROM machine, slot"
    );
    connection.execute_batch(&insert).unwrap();
    drop(connection);
    let size = fs::metadata(host.path("state/history.db")).unwrap().len();
    let begun = Instant::now();
    let mut server = host.start(r#"exec "$@""#);
    let ready = begun.elapsed();
    let until = Instant::now() + LIMIT;
    while !host.ringboot(&["why", "52:54:00:00:00:01"]).stdout.contains("pxelinux.0") {
        assert!(Instant::now() < until, "a machine that booted is forgotten");
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
    println!(
        "history of {} MB: READY after {ready:?}, read after {:?}, {resident}",
        size / 1_000_000,
        begun.elapsed()
    );
    assert!(ready < Duration::from_secs(3), "{ready:?}");
    let kilobytes: u64 = resident.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 250_000, "{resident}");
    assert!(server.stop(LIMIT).success());
}

#[test]
fn a_syslog_daemon_that_does_not_read_costs_lines_and_no_time() {
    let host = Host::new("host-syslog");
    host.configure("[log]\nfacility = \"daemon\"\n");
    let _daemon = std::os::unix::net::UnixDatagram::bind(host.path("log")).unwrap();
    let server = host.start(r#"RINGBOOT_SYSLOG_SOCKET=$PWD/log exec "$@" 2>/dev/full"#);
    let begun = Instant::now();
    for _ in 0..300 {
        assert!(host.get("/not-there").starts_with(b"HTTP/1.1 404"));
    }
    host.ringboot(&["reload"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    stops_in_order(&host, server);
}

#[test]
fn a_history_that_is_removed_is_kept_anew() {
    let host = Host::new("host-history-gone");
    let mut server = host.start(r#"exec "$@""#);
    let relay = Relay::new(&host);
    relay.lease(1, LIMIT);
    let known = |number: u32| {
        let database = rusqlite::Connection::open(host.path("state/history.db")).unwrap();
        let count = "SELECT count(*) FROM entries WHERE mac = ?1";
        database
            .query_row(count, [mac(number).to_string()], |row| row.get::<_, i64>(0))
            .unwrap_or(0)
    };
    let wait = |number| {
        let until = Instant::now() + LIMIT;
        while known(number) < 2 {
            assert!(Instant::now() < until, "machine {number} is not kept");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    wait(1);
    for part in ["history.db", "history.db-wal", "history.db-shm"] {
        let _ = fs::remove_file(host.path("state").join(part));
    }
    relay.lease(2, LIMIT);
    // By the server's own hand, not by this test's connection.
    std::thread::sleep(Duration::from_millis(1500));
    wait(2);
    wait(1);
    assert!(server.stop(LIMIT).success());
}
