//! Safe by default: root is given away, the log goes where it is wanted, the watchdog hears of a
//! core that stands still.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

mod common;

use common::process::{Process, run};

const LIMIT: Duration = Duration::from_secs(30);
const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");

/// A user that every Linux has.
const NOBODY: &str = "nobody";
const NOBODY_ID: u32 = 65_534;

/// A directory that every user may pass, as /var/lib and /srv are.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

struct World {
    directory: tempfile::TempDir,
    dhcp: SocketAddr,
}

impl World {
    /// `more` is one more line for each of `[server]` and `[log]`.
    fn new(server: &str, log: &str) -> Self {
        let directory = open_directory();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("root/hello.txt"), "hello\n").unwrap();
        let port = common::free_port().port();
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \
             \"admin.sock\"\n{server}\n[log]\n{log}\n\
             [tftp]\nlisten = [\"127.0.0.1:0\"]\n[http]\nlisten = [\"127.0.0.1:0\"]\n\
             [dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = {port}\n\
             [[dhcp.subnet]]\nsubnet = \"127.0.0.0/8\"\nrelay = true\nmode = \"server\"\nclients = \
             \"any\"\npools = [\"127.77.1.1-127.77.4.250\"]\n"
        );
        fs::write(directory.path().join("ringboot.toml"), text).unwrap();
        Self { directory, dhcp: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serve(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(self.path("ringboot.toml"));
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("JOURNAL_STREAM");
        command
    }

    fn start(&self, command: Command) -> Served {
        let process = Process::start(command);
        let find =
            |text: &String| text.lines().find(|line| line.starts_with("READY")).map(str::to_owned);
        let ready = process
            .stdout
            .wait_for(LIMIT, find)
            .unwrap_or_else(|why| panic!("{why:?}: {}", process.stderr.text()));
        let address = |key: &str| {
            let word = ready.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap();
            word.parse::<SocketAddr>().unwrap()
        };
        Served { tftp: address("tftp="), http: address("http="), process }
    }
}

struct Served {
    process: Process,
    tftp: SocketAddr,
    http: SocketAddr,
}

impl Served {
    fn stop(mut self) -> String {
        let status = self.process.stop(LIMIT);
        let log = self.process.stderr.text();
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// The status file of every thread, by the thread's name.
    fn threads(&self) -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap();
        let read = |path: &Path, name| fs::read_to_string(path.join(name)).unwrap();
        tasks
            .map(|task| task.unwrap().path())
            .map(|task| (read(&task, "comm"), read(&task, "status")))
            .collect()
    }
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {status}")).trim()
}

/// The next datagram. A receive with a time limit is cut short when the process is stopped and goes
/// on (signal(7)).
fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 1500];
    loop {
        match socket.recv_from(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            answer => {
                let (len, from) = answer.unwrap();
                bytes.truncate(len);
                return (bytes, from);
            }
        }
    }
}

/// DISCOVER, OFFER, REQUEST, ACK through a relay on loopback.
fn dora(server: SocketAddr) {
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    relay.set_read_timeout(Some(LIMIT)).unwrap();
    let say = |kind: u8, requested: Option<&[u8]>| {
        let mut bytes = vec![0; 236];
        bytes[..8].copy_from_slice(&[1, 1, 6, 1, 0, 0, 0, 7]);
        bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 7]);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
        if let Some(address) = requested {
            bytes.extend_from_slice(&[50, 4]);
            bytes.extend_from_slice(address);
            bytes.extend_from_slice(&[54, 4, 127, 0, 0, 1]);
        }
        // Option 82: the answer goes to the port that the relay speaks from (RFC 8357).
        bytes.extend_from_slice(&[82, 2, 19, 0, 255]);
        relay.send_to(&bytes, server).unwrap();
        receive(&relay).0
    };
    let kind = |answer: &[u8]| {
        answer[240..].windows(3).find(|window| window[..2] == [53, 1]).map(|window| window[2])
    };
    let offer = say(1, None);
    assert_eq!(kind(&offer), Some(2));
    let acknowledged = say(3, Some(&offer[16..20]));
    assert_eq!((kind(&acknowledged), &acknowledged[16..20]), (Some(5), &offer[16..20]));
}

fn fetch_both(served: &Served) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.send_to(b"\0\x01hello.txt\0octet\0", served.tftp).unwrap();
    let (data, tid) = receive(&client);
    assert_eq!(data, b"\0\x03\0\x01hello\n");
    client.send_to(b"\0\x04\0\x01", tid).unwrap();
    common::need(&[("curl", "curl")]);
    let mut curl = Command::new("curl");
    curl.args(["-sS", &format!("http://{}/hello.txt", served.http)]);
    assert_eq!(run(curl, LIMIT).ok().stdout, "hello\n");
}

fn owner(path: &Path) -> (u32, u32) {
    let meta =
        fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (meta.uid(), meta.gid())
}

#[test]
fn s33_no_thread_is_root_after_the_start_and_everything_is_still_served() {
    let world = World::new(&format!("user = \"{NOBODY}\""), "");
    // Supplementary groups of whoever starts it must be gone as well.
    common::need(&[("setpriv", "util-linux")]);
    let mut command = Command::new("setpriv");
    command.args(["--groups", "4,6", BINARY, "serve", "--config"]).arg(world.path("ringboot.toml"));
    let served = world.start(command);
    let threads = served.threads();
    assert!(threads.len() >= 8, "{threads:?}");
    // CAP_NET_BIND_SERVICE (10) and CAP_NET_RAW (13).
    let kept = format!("{:016x}", 1 << 10 | 1 << 13);
    for (name, status) in &threads {
        assert_eq!(field(status, "Uid"), vec![NOBODY_ID.to_string(); 4].join("\t"), "{name}");
        assert_eq!(field(status, "Gid"), vec![NOBODY_ID.to_string(); 4].join("\t"), "{name}");
        assert_eq!(field(status, "Groups"), "", "{name}");
        assert_eq!(field(status, "NoNewPrivs"), "1", "{name}");
        for set in ["CapEff", "CapPrm"] {
            let has = field(status, set);
            assert!(has == kept || has == format!("{:016x}", 0), "{name}: {set} {has}");
        }
        assert_eq!(field(status, "CapBnd"), kept, "{name}: what is given away is never had again");
        assert_eq!(field(status, "CapInh"), format!("{:016x}", 0), "{name}");
        assert_eq!(field(status, "CapAmb"), format!("{:016x}", 0), "{name}");
        let opens_sockets =
            ["rb-dhcp", "rb-interfaces", "ringboot", "rb-ready"].contains(&name.trim());
        assert!(
            opens_sockets || field(status, "CapEff") == format!("{:016x}", 0),
            "{name} opens files only"
        );
    }
    dora(world.dhcp);
    fetch_both(&served);
    for name in ["", "lock", "ringboot.db", "ringboot.db-wal", "ringboot.db-shm", "history.db"] {
        assert_eq!(owner(&world.path("state").join(name)), (NOBODY_ID, NOBODY_ID), "state/{name}");
    }
    let log = served.stop();
    assert!(log.contains("root is given away: user nobody"), "{log}");
}

#[test]
fn what_root_has_written_the_user_can_open_tomorrow() {
    let world = World::new(&format!("user = \"{NOBODY}\""), "");
    let first = world.start(world.serve());
    dora(world.dhcp);
    first.stop();
    // The next start is without root, as under systemd.
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        NOBODY,
        "--regid",
        "nogroup",
        "--clear-groups",
        BINARY,
        "serve",
        "--config",
    ]);
    command.arg(world.path("ringboot.toml"));
    let second = world.start(command);
    let log = second.stop();
    assert!(log.contains("ringboot.db: 1"), "{log}");
}

#[test]
fn files_that_the_user_may_not_read_are_refused_and_not_served_with_roots_eyes() {
    let world = World::new(&format!("user = \"{NOBODY}\""), "");
    fs::write(world.path("root/secret"), "secret").unwrap();
    fs::set_permissions(world.path("root/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let served = world.start(world.serve());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.send_to(b"\0\x01secret\0octet\0", served.tftp).unwrap();
    let (answer, _) = receive(&client);
    assert_eq!(answer[..4], [0, 5, 0, 2], "{}", String::from_utf8_lossy(&answer));
    served.stop();
}

#[test]
fn staying_root_is_said_loudly_and_an_unknown_user_is_refused() {
    let world = World::new("user = \"root\"", "");
    let log = world.start(world.serve()).stop();
    assert!(log.contains("WARN") && log.contains("STAYS ROOT"), "{log}");
    let world = World::new("user = \"no-such-user\"", "");
    let output = run(world.serve(), LIMIT).failed();
    assert!(output.stderr.contains("\"no-such-user\": there is no such user"), "{}", output.stderr);
    assert!(!output.stdout.contains("READY"));
}

/// `ringboot demo` starts its server so; a change of user makes the kernel forget it.
#[test]
fn a_server_that_shall_end_with_its_parent_still_does_so_after_it_has_changed_its_user() {
    common::need(&[("setpriv", "util-linux")]);
    let world = World::new(&format!("user = \"{NOBODY}\""), "");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "setpriv --pdeathsig TERM \"$@\" & wait",
        "sh",
        BINARY,
        "serve",
        "--config",
    ]);
    command.arg(world.path("ringboot.toml"));
    let mut parent = world.start(command).process;
    assert!(parent.stderr.text().contains("root is given away"));
    let children = format!("/proc/{0}/task/{0}/children", parent.pid());
    let server = fs::read_to_string(children).unwrap().trim().to_owned();
    parent.signal("KILL");
    let ended = parent.wait(LIMIT).is_some();
    if !ended {
        let _ = Command::new("kill").args(["-KILL", &server]).status();
    }
    assert!(ended && parent.stderr.text().contains("stopped"), "{}", parent.stderr.text());
}

/// A datagram socket with a time limit, such as systemd and syslog daemons have.
fn listener(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// None: nothing came in time.
fn hear(socket: &UnixDatagram) -> Option<String> {
    let mut bytes = [0; 2000];
    socket.recv(&mut bytes).ok().map(|len| String::from_utf8_lossy(&bytes[..len]).into_owned())
}

#[test]
fn s22_the_log_goes_to_syslog_under_the_configured_facility() {
    let world = World::new("user = \"root\"", "facility = \"local7\"");
    let syslog = listener(&world.path("log"));
    let mut command = world.serve();
    command.env("RINGBOOT_SYSLOG_SOCKET", world.path("log"));
    let served = world.start(command);
    let tag = format!("ringboot[{}]: ", served.process.pid());
    let (mut info, mut warning) = (false, false);
    while !(info && warning) {
        let line = hear(&syslog).expect("lines of the start");
        // local7 is 23; informational is 6, warning 4.
        info |= line.starts_with(&format!("<{}>{tag}serving ", 23 * 8 + 6));
        warning |= line.starts_with(&format!("<{}>{tag}ringboot STAYS ROOT", 23 * 8 + 4));
    }
    assert_eq!(served.stop(), "", "nothing is left for standard error");
}

#[test]
fn without_a_syslog_daemon_lines_go_to_standard_error() {
    let world = World::new("user = \"root\"", "facility = \"daemon\"");
    let mut command = world.serve();
    command.env("RINGBOOT_SYSLOG_SOCKET", world.path("no-log"));
    let log = world.start(command).stop();
    assert!(log.contains("<30>ringboot[") && log.contains("]: serving "), "{log}");
}

#[test]
fn the_journal_gets_priorities_in_place_of_times() {
    let world = World::new("user = \"root\"", "");
    let journal = world.path("journal");
    let mut command = Command::new("sh");
    let script = "exec 2>\"$1\"; JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); export \
                  JOURNAL_STREAM; shift; exec \"$@\"";
    command
        .args(["-c", script, "sh"])
        .arg(&journal)
        .args([BINARY, "serve", "--config"])
        .arg(world.path("ringboot.toml"));
    let mut served = world.start(command);
    assert!(served.process.stop(LIMIT).success());
    let lines = fs::read_to_string(&journal).unwrap();
    assert!(lines.lines().all(|line| line.starts_with('<')), "{lines}");
    assert!(lines.contains("\n<6>serving ") && lines.contains("<4>ringboot STAYS ROOT"), "{lines}");
    // A child of a service whose standard error goes elsewhere inherits the variable all the same.
    let mut command = world.serve();
    command.env("JOURNAL_STREAM", "1:1");
    let log = world.start(command).stop();
    assert!(log.contains(" WARN ringboot STAYS ROOT"), "{log}");
}

#[test]
fn the_watchdog_is_fed_while_every_core_goes_on_and_only_then() {
    common::need(&[("strace", "strace")]);
    const TIMEOUT: Duration = Duration::from_millis(800);
    let world = World::new("user = \"root\"", "");
    let systemd = listener(&world.path("notify"));
    let mut command = world.serve();
    command
        .env("NOTIFY_SOCKET", world.path("notify"))
        .env("WATCHDOG_USEC", TIMEOUT.as_micros().to_string());
    let served = world.start(command);
    assert!(hear(&systemd).unwrap().contains("READY=1"));
    let mut last = Instant::now();
    for _ in 0..5 {
        assert!(hear(&systemd).unwrap().contains("WATCHDOG=1"));
        assert!(last.elapsed() < LIMIT);
        last = Instant::now();
    }
    // One core is held back in its next system call, the others go on.
    let tasks = fs::read_dir(format!("/proc/{}/task", served.process.pid())).unwrap();
    let core = tasks
        .map(|task| task.unwrap().path())
        .find(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == "rb-dhcp");
    let core = core.unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let mut strace = Command::new("strace");
    strace.args(["-p", &core, "-o", "/dev/null", "-e", "trace=io_uring_enter"]);
    strace.args(["-e", &format!("inject=io_uring_enter:delay_enter={}", LIMIT.as_micros())]);
    let held = Process::start(strace);
    held.stderr.wait_line("attached", LIMIT);
    systemd.set_read_timeout(Some(TIMEOUT)).unwrap();
    let started = Instant::now();
    while hear(&systemd).is_some() {
        assert!(started.elapsed() < LIMIT, "still fed");
    }
    served.process.signal("KILL");
}

#[test]
fn sighup_ends_nothing() {
    let world = World::new("user = \"root\"", "");
    let served = world.start(world.serve());
    served.process.signal("HUP");
    served.process.stderr.wait_line("configuration reloaded", LIMIT);
    fetch_both(&served);
    served.stop();
}

#[test]
fn a_backup_of_a_running_server_comes_back_after_it_is_stopped() {
    let world = World::new(&format!("user = \"{NOBODY}\""), "");
    let served = world.start(world.serve());
    dora(world.dhcp);
    let ringboot = |command: &str| {
        let mut words = Command::new(BINARY);
        words.args([command, "--config"]).arg(world.path("ringboot.toml")).arg(world.path("copy"));
        run(words, LIMIT)
    };
    assert!(ringboot("backup").ok().stdout.starts_with("1 leases in "));
    assert_eq!(fs::metadata(world.path("copy")).unwrap().permissions().mode() & 0o777, 0o600);
    let again = ringboot("backup").failed();
    assert!(again.stderr.contains("exists") && again.status.code() == Some(1), "{}", again.stderr);
    let early = ringboot("restore").failed();
    assert!(early.stderr.contains("stop it first"), "{}", early.stderr);
    served.stop();
    let restored = ringboot("restore").ok();
    assert!(
        restored.stdout.contains("1 leases restored") && restored.stdout.contains("before-restore"),
        "{restored:?}"
    );
    for name in ["ringboot.db", "ringboot.db.before-restore", "lock"] {
        assert_eq!(owner(&world.path("state").join(name)), (NOBODY_ID, NOBODY_ID), "{name}");
    }
    let log = world.start(world.serve()).stop();
    assert!(log.contains("ringboot.db: 1"), "{log}");
}

#[test]
fn a_database_of_an_older_ringboot_is_kept_beside_and_one_of_a_newer_is_refused() {
    let world = World::new(&format!("user = \"{NOBODY}\""), "");
    let served = world.start(world.serve());
    dora(world.dhcp);
    served.stop();
    let database = || rusqlite::Connection::open(world.path("state/ringboot.db")).unwrap();
    // As the first ringboot left it.
    database()
        .execute_batch(
            "DROP TABLE machines; DROP TABLE other_servers; DROP TABLE quirks; PRAGMA \
                        user_version = 1",
        )
        .unwrap();
    let served = world.start(world.serve());
    let kept = world.path("state/ringboot.db.schema-1.bak");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(owner(&kept), (NOBODY_ID, NOBODY_ID), "the user that serves can restore it");
    dora(world.dhcp);
    let log = served.stop();
    assert!(log.contains("schema 1 becomes ") && log.contains("ringboot.db: 1"), "{log}");
    let version = |path: &Path| -> i64 {
        let copy = rusqlite::Connection::open(path).unwrap();
        copy.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(version(&kept), 1);
    assert!(version(&world.path("state/ringboot.db")) > 1);
    database().execute_batch("PRAGMA user_version = 99").unwrap();
    let served = world.start(world.serve());
    let log = served.stop();
    let words = "NO DHCP IS ANSWERED, files are: ";
    let line = log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("written by a newer ringboot (schema 99, this one knows 5)"), "{line}");
    assert_eq!(version(&world.path("state/ringboot.db")), 99, "left as it is");
}

/// What the unit grants, in a network of its own with the real ports: 67 on an interface, 69 and
/// 80.
#[test]
fn the_capabilities_of_the_unit_are_enough_without_root() {
    common::need(&[("unshare", "util-linux"), ("setpriv", "util-linux"), ("ip", "iproute2")]);
    let world = World::new("", "");
    let text = "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"state/admin.sock\"\n\
                [[dhcp.subnet]]\nsubnet = \"127.0.0.0/8\"\ninterface = \"lo\"\nmode = \"server\"\n\
                pools = [\"127.77.1.1-127.77.4.250\"]\n";
    fs::write(world.path("ringboot.toml"), text).unwrap();
    fs::create_dir(world.path("state")).unwrap();
    fs::set_permissions(world.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(world.path("state"), Some(NOBODY_ID), Some(NOBODY_ID)).unwrap();
    let script = "ip link set lo up; caps=$1; shift; exec setpriv --reuid nobody --regid nogroup \
                  --clear-groups --no-new-privs --inh-caps -all,$caps --ambient-caps -all,$caps \
                  --bounding-set -all,$caps \"$@\"";
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "sh",
        "-c",
        script,
        "sh",
        &unit_capabilities(),
        BINARY,
        "serve",
        "--config",
    ]);
    command.arg(world.path("ringboot.toml"));
    let mut process = Process::start(command);
    let ready = |text: &String| {
        text.lines().any(|line| line.starts_with("READY") && line.contains(":67")).then_some(())
    };
    let is_ready = process.stdout.wait_for(LIMIT, ready).is_ok();
    let log = process.stderr.text();
    assert!(is_ready && !log.contains("WARN"), "{log}");
    assert!(process.stop(LIMIT).success());
}

/// `AmbientCapabilities=` as setpriv(1) writes them: `+net_bind_service,+net_raw`.
fn unit_capabilities() -> String {
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT)).unwrap();
    let list = unit
        .lines()
        .find_map(|line| line.strip_prefix("AmbientCapabilities="))
        .unwrap()
        .to_lowercase();
    list.split_whitespace().map(|name| name.replace("cap_", "+")).collect::<Vec<_>>().join(",")
}

const UNIT: &str = "config/systemd/ringboot.service";

/// Everything that the server asks of the kernel from its start over a lease and two transfers to
/// its end is let through by the unit's filter.
#[test]
fn the_system_call_filter_of_the_unit_lets_the_whole_server_through() {
    common::need(&[
        ("strace", "strace"),
        ("setpriv", "util-linux"),
        ("systemd-analyze", "systemd"),
    ]);
    let world = World::new("", "");
    fs::create_dir(world.path("state")).unwrap();
    std::os::unix::fs::chown(world.path("state"), Some(NOBODY_ID), Some(NOBODY_ID)).unwrap();
    std::os::unix::fs::chown(world.directory.path(), Some(NOBODY_ID), Some(NOBODY_ID)).unwrap();
    let trace = world.path("trace");
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            NOBODY,
            "--regid",
            "nogroup",
            "--clear-groups",
            "strace",
            "-f",
            "-qq",
            "-o",
        ])
        .arg(&trace);
    command.args([BINARY, "serve", "--config"]).arg(world.path("ringboot.toml"));
    let mut served = world.start(command);
    dora(world.dhcp);
    fetch_both(&served);
    // strace keeps signals for itself: the server is its child.
    let pid = served.process.pid();
    let child = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    for signal in ["-HUP", "-TERM"] {
        assert!(Command::new("kill").args([signal, child.trim()]).status().unwrap().success());
        let word = if signal == "-HUP" { "reloaded" } else { "stopped" };
        served.process.stderr.wait_line(word, LIMIT);
    }
    served.process.wait(LIMIT).unwrap();
    let allowed = filter_of_the_unit();
    let called: BTreeSet<String> =
        fs::read_to_string(&trace).unwrap().lines().filter_map(called_in).collect();
    assert!(called.contains("io_uring_enter") && called.len() > 30, "{called:?}");
    let refused: Vec<&String> = called.difference(&allowed).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// `1234 openat(AT_FDCWD, ...`: the call's name; None for signals, exits and second halves.
fn called_in(line: &str) -> Option<String> {
    let call = line.split_once(char::is_whitespace)?.1.trim_start();
    let name = call.split_once('(')?.0;
    let plain =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (plain && !name.is_empty()).then(|| name.to_owned())
}

/// The filter's lines in their order: the first makes it a list of what is allowed, a `~` takes
/// away again (systemd.exec(5)).
fn filter_of_the_unit() -> BTreeSet<String> {
    let unit = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT)).unwrap();
    let mut allowed: BTreeSet<String> = members("@default");
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (list, taken) = line.strip_prefix('~').map_or((line, false), |list| (list, true));
        for name in list.split_whitespace().flat_map(members) {
            if taken {
                allowed.remove(&name)
            } else {
                allowed.insert(name)
            };
        }
    }
    allowed
}

/// A group of system calls with the groups in it; a single call is itself.
fn members(name: &str) -> BTreeSet<String> {
    if !name.starts_with('@') {
        return BTreeSet::from([name.to_owned()]);
    }
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["syscall-filter", name]);
    let listed = run(analyze, LIMIT).ok().stdout;
    let names = listed
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    names.flat_map(members).collect()
}

#[test]
fn the_unit_has_what_safety_and_the_ring_need() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join(UNIT);
    let text = fs::read_to_string(&unit).unwrap();
    for line in [
        "Type=notify",
        "User=ringboot",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_NET_RAW",
        "NoNewPrivileges=yes",
        "StateDirectory=ringboot",
        "StateDirectoryMode=0700",
        "RuntimeDirectory=ringboot",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_PACKET AF_NETLINK",
        "SystemCallFilter=io_uring_setup io_uring_enter io_uring_register",
        "ExecReload=/usr/bin/ringboot reload",
        "Restart=on-failure",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    for key in ["WatchdogSec=", "LimitMEMLOCK=", "LimitNOFILE="] {
        assert!(text.lines().any(|found| found.starts_with(key)), "{key}");
    }
    common::need(&[("systemd-analyze", "systemd")]);
    // The program is looked for where the package puts it; here it is the one just built.
    let scratch = open_directory();
    let here = scratch.path().join("ringboot.service");
    fs::write(&here, text.replace("/usr/bin/ringboot", BINARY)).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&here);
    let said = run(verify, LIMIT).ok();
    assert!(!said.stderr.contains("ringboot.service"), "{}", said.stderr);
}

#[test]
fn the_command_line_completes_itself_and_has_its_manual() {
    let scratch = open_directory();
    for (shell, words) in
        [("bash", "complete -F"), ("zsh", "#compdef ringboot"), ("fish", "complete -c ringboot")]
    {
        let mut command = Command::new(BINARY);
        command.args(["completions", shell]);
        let script = run(command, LIMIT).ok().stdout;
        assert!(script.contains(words) && script.contains("restore"), "{shell}");
    }
    let mut command = Command::new(BINARY);
    command.arg("man").arg(scratch.path());
    run(command, LIMIT).ok();
    let mut command = Command::new(BINARY);
    command.arg("--help");
    let help = run(command, LIMIT).ok().stdout;
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    // What a narrow terminal folds goes on further to the right.
    let entries =
        listed.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names: Vec<&str> = entries
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(names.contains(&"why") && names.len() >= 9, "{help}");
    let mut command = Command::new(BINARY);
    command.args(["completions", "bash"]);
    let bash = run(command, LIMIT).ok().stdout;
    for name in names {
        let page = scratch.path().join(format!("ringboot-{name}.1"));
        assert!(
            fs::read_to_string(&page).is_ok_and(|text| text.contains(".TH")),
            "{}",
            page.display()
        );
        assert!(bash.contains(&format!("ringboot,{name})")), "{name}");
    }
    assert!(fs::read_to_string(scratch.path().join("ringboot.1")).unwrap().contains(".TH"));
}
