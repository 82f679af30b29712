//! The admin socket: each resource of a running server, each command with the server running and
//! stopped, and whose files remain.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

mod common;

use common::process::{Output, Process, run};

const LIMIT: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");
const MAC: &str = "52:54:00:00:00:07";
/// A user that every Linux has.
const NOBODY: &str = "nobody";
const NOBODY_ID: u32 = 65_534;

/// A configuration in a directory that every user may pass.
struct World {
    directory: tempfile::TempDir,
    dhcp: SocketAddr,
    tftp: SocketAddr,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let free = common::free_port;
        let world = Self { directory, dhcp: free(), tftp: free() };
        world.configure("127.77.1.1-127.77.1.9", "admin.sock");
        world
    }

    fn configure(&self, pool: &str, socket: &str) {
        let (tftp, port) = (self.tftp, self.dhcp.port());
        let text = format!(
            "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"{socket}\"\nuser = \
             \"{NOBODY}\"\n\
             [tftp]\nlisten = [\"{tftp}\"]\n[http]\nlisten = []\n[dhcp]\nlisten-address = \
             \"127.0.0.1\"\nlisten-port = {port}\n\
             [[dhcp.subnet]]\nsubnet = \"127.0.0.0/8\"\nrelay = true\nmode = \"server\"\nclients = \
             \"any\"\npools = [\"{pool}\"]\n"
        );
        fs::write(self.path("ringboot.toml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Process {
        self.start_with(Command::new(BINARY))
    }

    fn start_with(&self, mut command: Command) -> Process {
        command.args(["serve", "--config"]).arg(self.path("ringboot.toml"));
        let process = Process::start(command);
        let ready = process.stdout.wait_for(LIMIT, |text| text.starts_with("READY").then_some(()));
        assert!(ready.is_ok(), "{}", process.stderr.text());
        process
    }

    fn ringboot(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(self.path("ringboot.toml"));
        run(command, LIMIT)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ringboot(arguments).stdout).unwrap()
    }

    /// Status line with headers, and body.
    fn request(&self, method: &str, path: &str, header: &str) -> (String, Vec<u8>) {
        let mut stream = UnixStream::connect(self.path("admin.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\n{header}\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        (String::from_utf8_lossy(&bytes[..end]).into_owned(), bytes[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (String, Value) {
        let (head, body) = self.request("GET", path, "");
        (head, serde_json::from_slice(&body).unwrap())
    }

    /// A machine leases an address by a relay on loopback; the address.
    fn lease(&self) -> String {
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(LIMIT)).unwrap();
        let say = |kind: u8, requested: &[u8]| {
            let mut bytes = vec![0; 236];
            bytes[..8].copy_from_slice(&[1, 1, 6, 1, 0, 0, 0, 7]);
            bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
            bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 7]);
            bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, kind]);
            bytes.extend_from_slice(requested);
            bytes.extend_from_slice(&[82, 2, 19, 0, 255]);
            relay.send_to(&bytes, self.dhcp).unwrap();
            let mut answer = [0; 1500];
            relay.recv(&mut answer).unwrap();
            [answer[16], answer[17], answer[18], answer[19]]
        };
        let [a, b, c, d] = say(1, &[]);
        say(3, &[50, 4, a, b, c, d, 54, 4, 127, 0, 0, 1]);
        format!("{a}.{b}.{c}.{d}")
    }

    /// Everything in the state directory belongs to the user who serves.
    fn belongs_to_nobody(&self, after: &str) {
        assert_eq!(
            fs::metadata(self.path("state")).unwrap().uid(),
            NOBODY_ID,
            "state, after {after}"
        );
        for entry in fs::read_dir(self.path("state")).unwrap() {
            let entry = entry.unwrap();
            let meta = fs::symlink_metadata(entry.path()).unwrap();
            assert_eq!(
                (meta.uid(), meta.gid()),
                (NOBODY_ID, NOBODY_ID),
                "{:?}, after {after}",
                entry.file_name()
            );
        }
    }
}

#[test]
fn every_resource_of_a_running_server() {
    let world = World::new();
    let mut server = world.start();
    let address = world.lease();
    let (_, index) = world.get("/v1/");
    let listed: Vec<&str> = index["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect();
    for path in [
        "/v1/status",
        "/v1/configuration",
        "/v1/machines",
        "/v1/check",
        "/v1/loaders",
        "/v1/backup",
        "/v1/reload",
    ] {
        assert!(listed.contains(&path), "{path} in {listed:?}");
    }
    // The journal of the server is asked, which is not a second old as its file is.
    // The ACK may be here before the log thread has heard of it.
    let started = Instant::now();
    let (head, story) = loop {
        let (head, story) = world.get(&format!("/v1/machines/{MAC}"));
        if story["lines"].as_array().is_some_and(|lines| lines.len() >= 2)
            || started.elapsed() > LIMIT
        {
            break (head, story);
        }
    };
    assert!(head.contains(" 200 ") && !head.contains("etag"), "{head}");
    assert_eq!((&story["machine"], &story["address"]), (&MAC.into(), &address.as_str().into()));
    assert!(story["lines"].as_array().unwrap().len() >= 2 && story["quiet_ms"].is_u64(), "{story}");
    assert_eq!(world.get(&format!("/v1/machines/{address}")).1["lines"], story["lines"]);
    let (_, machines) = world.get("/v1/machines");
    let machine = &machines["machines"][0];
    assert_eq!(
        (&machine["machine"], &machine["address"], &machine["stage"]),
        (&MAC.into(), &address.as_str().into(), &"dhcp".into())
    );
    assert_eq!(machine["cause"], story["cause"]);

    let (head, unknown) = world.get("/v1/machines/52:54:00:00:00:08");
    assert!(head.contains(" 404 ") && head.contains("application/problem+json"), "{head}");
    assert!(
        unknown["cause"].as_str().unwrap().contains("no DISCOVER")
            && unknown["next_step"].is_string()
    );
    let (head, _) = world.get("/v1/machines/node1");
    assert!(head.contains(" 400 ") && head.contains("application/problem+json"), "{head}");

    let (_, check) = world.get("/v1/check");
    assert_eq!(check["errors"], 0, "{check}");
    let (_, loaders) = world.get("/v1/loaders");
    assert!(
        loaders["loaders"].is_array() && loaders["root"].as_str().unwrap().ends_with("/root"),
        "{loaders}"
    );
    let (head, copy) = world.request("GET", "/v1/backup", "");
    assert!(
        head.contains("application/vnd.sqlite3") && copy.starts_with(b"SQLite format 3\0"),
        "{head}"
    );
    assert!(!world.path("state/ringboot.db.sending").exists());
    assert!(server.stop(LIMIT).success());
}

#[test]
fn a_tag_stands_for_one_generation_of_one_start() {
    let world = World::new();
    let tag =
        |head: &str| head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let mut server = world.start();
    let (head, first) = world.get("/v1/configuration");
    let old = tag(&head);
    assert_eq!(
        (&first["generation"], &first["subnets"][0]["pools"][0]),
        (&1.into(), &"127.77.1.1-127.77.1.9".into())
    );
    let if_changed = format!("If-None-Match: {old}\r\n");
    let (head, body) = world.request("GET", "/v1/configuration", &if_changed);
    assert!(head.contains(" 304 ") && body.is_empty() && tag(&head) == old, "{head}");
    world.configure("127.77.2.1-127.77.2.9", "admin.sock");
    world.ringboot(&["reload"]).ok();
    let (head, body) = world.request("GET", "/v1/configuration", &if_changed);
    assert!(head.contains(" 200 ") && tag(&head) != old, "{head}");
    assert!(String::from_utf8_lossy(&body).contains("127.77.2.1-127.77.2.9"));
    assert!(server.stop(LIMIT).success());
    // Generation 1 again, and another configuration.
    let mut server = world.start();
    let (head, _) = world.request("GET", "/v1/configuration", &if_changed);
    assert!(head.contains(" 200 "), "{head}");
    let (head, _) = world.request("GET", "/v1/status", &if_changed);
    assert!(
        head.contains(" 200 ") && !head.contains("etag"),
        "counters change by themselves: {head}"
    );
    assert!(server.stop(LIMIT).success());
}

/// Clients that keep their connection and say nothing hold a place of 64, and not for ever.
#[test]
fn idle_clients_take_places_and_lose_them() {
    const PLACES: usize = 64;
    const WITHOUT_A_PLACE: Duration = Duration::from_millis(500);
    let world = World::new();
    let mut server = world.start();
    let connect = || {
        let stream = UnixStream::connect(world.path("admin.sock")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    };
    let mut idle: Vec<UnixStream> = (0..PLACES).map(|_| connect()).collect();
    idle.iter_mut().for_each(|stream| stream.write_all(b"GET /v1/status HT").unwrap());
    let mut late = connect();
    late.write_all(b"GET /v1/status HTTP/1.0\r\n\r\n").unwrap();
    late.set_read_timeout(Some(WITHOUT_A_PLACE)).unwrap();
    assert!(late.read(&mut [0]).is_err(), "64 clients have all places");
    drop(idle.pop());
    late.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    // The head of a request has its time, and then the connection is closed.
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    assert!(server.stop(LIMIT).success());
}

/// One form of JSON for each thing, whoever is asked.
#[test]
fn commands_say_the_same_with_the_server_running_and_stopped() {
    let world = World::new();
    let mut server = world.start();
    let address = world.lease();
    let running = world.json(&["why", MAC, "--json"]);
    let loaders = world.json(&["loader", "list", "--json"]);
    assert_eq!(loaders, world.get("/v1/loaders").1);
    world.ringboot(&["backup", world.path("running.db").to_str().unwrap()]).ok();
    let check = world.ringboot(&["check"]).ok().stdout;
    assert!(
        !check.contains(&world.tftp.to_string()),
        "what the server holds is as it should be: {check}"
    );
    assert_eq!(world.json(&["check", "--json"])["errors"], 0);
    assert_eq!(world.json(&["status", "--json"])["pid"], server.pid());
    let unknown = world.ringboot(&["why", "127.77.3.3"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(server.stop(LIMIT).success());

    let mut stopped = world.json(&["why", &address, "--json"]);
    stopped["quiet_ms"] = running["quiet_ms"].clone();
    assert_eq!(stopped, running);
    assert_eq!(world.json(&["loader", "list", "--json"]), loaders);
    let done = world.ringboot(&["backup", world.path("stopped.db").to_str().unwrap()]).ok().stdout;
    assert!(done.starts_with("1 leases in "), "{done}");
    let check = world.ringboot(&["check"]).ok().stdout;
    assert!(!check.contains("runs here"), "{check}");
    let again = world.ringboot(&["why", "127.77.3.3"]);
    assert_eq!((again.status.code(), again.stdout), (Some(1), unknown.stdout));
    for name in ["running.db", "stopped.db"] {
        let meta = fs::metadata(world.path(name)).unwrap();
        assert_eq!(
            (meta.permissions().mode() & 0o777, meta.uid()),
            (0o600, 0),
            "{name} belongs to whoever asked"
        );
        let rows: i64 = rusqlite::Connection::open(world.path(name))
            .unwrap()
            .query_row("SELECT count(*) FROM leases", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 1, "{name}");
    }
}

#[test]
fn a_backup_by_the_socket_is_never_written_over_and_none_is_left_half_done() {
    let world = World::new();
    let mut server = world.start();
    let target = world.path("there.db");
    fs::write(&target, "mine").unwrap();
    let said = world.ringboot(&["backup", target.to_str().unwrap()]).failed();
    assert!(said.stderr.contains("exists: name a file that does not"), "{}", said.stderr);
    assert_eq!(fs::read(&target).unwrap(), b"mine");
    for name in ["ringboot.db", "ringboot.db-wal", "ringboot.db-shm"] {
        fs::rename(
            world.path("state").join(name),
            world.path("state").join(format!("away-{name}")),
        )
        .unwrap();
    }
    let (head, problem) = world.get("/v1/backup");
    assert!(head.contains(" 404 ") && problem["title"] == "no lease database", "{head} {problem}");
    let none = world.path("none.db");
    let said = world.ringboot(&["backup", none.to_str().unwrap()]).failed();
    assert!(
        said.stderr.contains("there is no lease database") && !none.exists(),
        "{}",
        said.stderr
    );
    let _ = server.stop(LIMIT);
}

/// What root looks at with the server stopped, the server must be able to open afterwards.
#[test]
fn root_leaves_no_file_behind_that_the_service_cannot_open() {
    common::need(&[("setpriv", "util-linux")]);
    let world = World::new();
    let mut server = world.start();
    world.lease();
    // What has happened is kept within a second.
    let state = world.path("state");
    let kept = || {
        let mut command = Command::new(BINARY);
        command.args(["why", MAC, "--state"]).arg(&state);
        run(command, LIMIT).status.success()
    };
    let deadline = Instant::now() + LIMIT;
    while !kept() {
        assert!(Instant::now() < deadline, "{}", server.stderr.text());
    }
    // As after a power cut: what is not in the databases yet is in their logs, and the socket's
    // name is still there.
    server.signal("KILL");
    server.wait(LIMIT).unwrap();
    world.belongs_to_nobody("the server");
    let copy = world.path("copy.db");
    let copy = copy.to_str().unwrap();
    for arguments in [
        &["why", MAC][..],
        &["backup", copy],
        &["check"],
        &["loader", "list"],
        &["restore", copy],
        &["why", MAC],
    ] {
        for name in ["lock", "history.db-shm", "ringboot.db-shm"] {
            let _ = fs::remove_file(world.path("state").join(name));
        }
        world.ringboot(arguments).ok();
        world.belongs_to_nobody(arguments[0]);
    }
    // What an operator's own tools have left is put right as well.
    lchown(world.path("state/history.db"), Some(0), Some(0)).unwrap();
    world.ringboot(&["why", MAC]).ok();
    world.belongs_to_nobody("files of root");
    // The next start is without root, as under systemd.
    world.configure("127.77.1.1-127.77.1.9", "state/admin.sock");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", "nogroup", "--clear-groups", BINARY]);
    let mut server = world.start_with(command);
    world.lease();
    assert!(world.ringboot(&["why", MAC]).ok().stdout.contains(MAC));
    assert!(server.stop(LIMIT).success(), "{}", server.stderr.text());
    let log = server.stderr.text();
    assert!(log.contains("ringboot.db: 1") && !log.contains("will know nothing"), "{log}");
}

#[test]
fn a_server_without_a_socket_is_read_beside_and_its_lock_is_respected() {
    let world = World::new();
    world.configure("127.77.1.1-127.77.1.9", "");
    let mut server = world.start();
    world.lease();
    let copy = world.path("copy.db");
    let copy = copy.to_str().unwrap();
    let done = world.ringboot(&["backup", copy]).ok().stdout;
    assert!(done.starts_with("1 leases in "), "{done}");
    let said = world.ringboot(&["restore", copy]).failed();
    assert!(said.stderr.contains("stop it first"), "{}", said.stderr);
    world.belongs_to_nobody("commands beside the server");
    assert!(server.stop(LIMIT).success());
}
