//! A running server takes a new configuration over, or keeps the old one; `status` says what it
//! runs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use ringboot::dhcp::packet::Packet;

mod common;

use common::Scratch;
use common::process::{Output, Process, run};

const LIMIT: Duration = Duration::from_secs(20);
const OFFER: u8 = 2;

struct World {
    scratch: Scratch,
    server: Process,
    dhcp: SocketAddr,
    tftp: SocketAddr,
}

impl World {
    fn new(name: &str) -> Self {
        Self::with(name, |text| text)
    }

    /// With another configuration at the start.
    fn with(name: &str, change: impl FnOnce(String) -> String) -> Self {
        let scratch = Scratch::new(name);
        fs::create_dir(scratch.path().join("root")).unwrap();
        let free = common::free_port;
        let (dhcp, tftp) = (free(), free());
        write(&scratch, dhcp, tftp, "127.77.1.1-127.77.1.9", "One");
        let file = scratch.path().join("ringboot.toml");
        fs::write(&file, change(fs::read_to_string(&file).unwrap())).unwrap();
        let server = Self::serve(&scratch);
        Self { scratch, server, dhcp, tftp }
    }

    fn serve(scratch: &Scratch) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["serve", "--config"]).arg(scratch.path().join("ringboot.toml"));
        let server = Process::start(command);
        let ready = server.stdout.wait_for(LIMIT, |text| text.starts_with("READY").then_some(()));
        assert!(ready.is_ok(), "{}", server.stderr.text());
        server
    }

    /// After a stop.
    fn start(&mut self) {
        self.server = Self::serve(&self.scratch);
    }

    fn configure(&self, pool: &str, title: &str) {
        write(&self.scratch, self.dhcp, self.tftp, pool, title);
    }

    fn ringboot(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(arguments).arg("--config").arg(self.scratch.path().join("ringboot.toml"));
        run(command, LIMIT)
    }

    /// The address that a machine is offered.
    fn offered(&self, machine: u8) -> Ipv4Addr {
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(LIMIT)).unwrap();
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 1]);
        bytes[24..28].copy_from_slice(&[127, 0, 0, 1]);
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 7, machine]);
        bytes.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 60, 9]);
        bytes.extend_from_slice(b"PXEClient");
        bytes.extend_from_slice(&[93, 2, 0, 0, 82, 8, 5, 4, 127, 77, 0, 0, 19, 0, 255]);
        relay.send_to(&bytes, self.dhcp).unwrap();
        let mut answer = [0; 1500];
        let len = relay.recv(&mut answer).unwrap();
        let reply = Packet::parse_reply(&answer[..len]).unwrap();
        assert_eq!(reply.option(53), Some(&[OFFER][..]));
        reply.yiaddr
    }

    /// What the admin socket answers, whatever its status.
    fn post(&self, path: &str) -> serde_json::Value {
        let mut stream =
            std::os::unix::net::UnixStream::connect(self.scratch.path().join("admin.sock"))
                .unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        write!(stream, "POST {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// The default menu as PXELINUX reads it.
    fn menu(&self) -> String {
        String::from_utf8_lossy(&self.first_block("pxelinux.cfg/default")[4..]).into_owned()
    }

    /// The first answer to a read request, acknowledged; then the client has had enough.
    fn first_block(&self, name: &str) -> Vec<u8> {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.send_to(&[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat(), self.tftp).unwrap();
        let mut bytes = [0; 600];
        let (len, tid) = client.recv_from(&mut bytes).unwrap();
        let last: &[u8] = if len < 516 { b"\0\x04\0\x01" } else { b"\0\x05\0\x00enough\0" };
        client.send_to(last, tid).unwrap();
        bytes[..len].to_vec()
    }
}

fn write(scratch: &Scratch, dhcp: SocketAddr, tftp: SocketAddr, pool: &str, title: &str) {
    let text = format!(
        "root = \"root\"\nstate = \"state\"\n[server]\nadmin-socket = \"admin.sock\"\nuser = \
         \"root\"\n[tftp]\nlisten = [\"{tftp}\"]\n[http]\n\
         listen = []\n[dhcp]\nlisten-address = \"127.0.0.1\"\nlisten-port = \
         {}\n[[dhcp.subnet]]\nsubnet = \"127.77.0.0/16\"\n\
         relay = true\nmode = \"server\"\nclients = \"any\"\npools = [\"{pool}\"]\n[menu]\ntitle = \
         \"{title}\"\n",
        dhcp.port()
    );
    fs::write(scratch.path().join("ringboot.toml"), text).unwrap();
}

#[test]
fn reload_publishes_pools_and_menus_without_a_restart() {
    let mut world = World::new("reload");
    assert!(world.menu().contains("TITLE One"));
    let first = world.offered(1);
    assert!((1..=9).contains(&first.octets()[3]) && first.octets()[2] == 1, "{first}");
    world.configure("127.77.2.1-127.77.2.9", "Two");
    assert!(world.menu().contains("TITLE One"), "nothing changes by itself");
    let said = world.ringboot(&["reload"]).ok();
    assert_eq!(said.stdout, "reloaded: generation 2\n");
    assert!(world.menu().contains("TITLE Two"));
    assert_eq!(world.offered(2).octets()[2], 2);
    // SIGHUP does the same.
    world.configure("127.77.3.1-127.77.3.9", "Three");
    world.server.signal("HUP");
    world.server.stderr.wait_line("generation 3", LIMIT);
    assert!(world.menu().contains("TITLE Three"));
    assert!(world.server.stop(LIMIT).success());
}

/// Under the root nothing waits for a reload: the very next request sees what is there, small files
/// and mapped ones.
#[test]
fn files_that_are_added_replaced_and_removed_are_seen_by_the_next_request() {
    let mut world = World::new("reload-files");
    let file = world.scratch.path().join("root/x.img");
    for size in [100, 400, 200_000] {
        assert_eq!(world.first_block("x.img")[..4], [0, 5, 0, 1], "not there yet");
        for (round, how) in [(1, "added"), (2, "written over"), (3, "renamed over")] {
            let new = vec![round; size];
            if round == 3 {
                let other = world.scratch.path().join("root/new");
                fs::write(&other, &new).unwrap();
                fs::rename(&other, &file).unwrap();
            } else {
                fs::write(&file, &new).unwrap();
            }
            let seen = world.first_block("x.img");
            assert_eq!(
                (&seen[..4], &seen[4..]),
                (&[0, 3, 0, 1][..], &new[..size.min(512)]),
                "{how}, {size} octets"
            );
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(world.first_block("x.img")[..4], [0, 5, 0, 1], "removed");
    }
    assert!(
        world.ringboot(&["status"]).ok().stdout.contains("generation 1"),
        "and nothing was reloaded"
    );
    assert!(world.server.stop(LIMIT).success());
}

#[test]
fn a_wrong_configuration_is_refused_with_the_list_and_the_old_one_stays() {
    let mut world = World::new("reload-wrong");
    world.configure("10.0.0.1-10.0.0.9", "Two\\u0007");
    let said = world
        .ringboot(&[
            "reload",
            "--socket",
            world.scratch.path().join("admin.sock").to_str().unwrap(),
        ])
        .failed();
    assert_eq!(said.status.code(), Some(1));
    for words in [
        "the old configuration stays",
        "ringboot.toml:18:10",
        "ringboot.toml:20:9",
        "outside subnet",
    ] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
    assert!(world.menu().contains("TITLE One"));
    world.server.signal("HUP");
    world.server.stderr.wait_line("not reloaded", LIMIT);
    assert!(world.menu().contains("TITLE One"));
    assert!(world.server.stop(LIMIT).success());
}

/// What would not have been started is not published either.
#[test]
fn a_configuration_that_nobody_could_be_served_by_is_refused_and_the_old_one_stays() {
    let mut world = World::new("reload-check");
    world.configure("127.77.1.1-127.77.1.9", "Two");
    let file = world.scratch.path().join("ringboot.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("root = \"root\"", "root = \"/etc\"")).unwrap();
    let said = world.ringboot(&["reload"]).failed();
    let place = format!("fatal: {}:1:8: the root /etc would expose this machine", file.display());
    for words in ["the old configuration stays", &place] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
    let problem = world.post("/v1/reload");
    let found = &problem["findings"][0];
    let (place, line) = (file.display().to_string(), serde_json::Value::from(1));
    assert_eq!(
        (&found["severity"], &found["file"], &found["line"]),
        (&"fatal".into(), &place.into(), &line),
        "{problem}"
    );
    assert!(world.menu().contains("TITLE One"));
    assert!(world.server.stop(LIMIT).success());
}

/// One wrong name takes nothing else with it: what is right is published, and what is wrong is said
/// wherever somebody looks.
#[test]
fn a_reload_with_something_wrong_publishes_the_rest_and_says_it_everywhere() {
    let mut world = World::new("reload-remarks");
    let file = world.scratch.path().join("ringboot.toml");
    let entry = "default = \"install\"\n[[menu.entry]]\nlabel = \"install\"\ntitle = \"i\"\nkernel \
                 = \"gone\"\narguments = \"auto=true ks=http://x/ks\"\n";
    let text = fs::read_to_string(&file).unwrap().replace("title = \"One\"", "title = \"Two\"");
    let text = text.replace("clients = \"any\"", "clients = \"any\"\ninstall-by-default = true");
    fs::write(&file, format!("{text}{entry}[boot]\nbios = \"nothing.0\"\n")).unwrap();
    let said = world.ringboot(&["reload"]).ok().stdout;
    let kernel = format!(
        "kernel of the entry `install`: there is no gone under {}",
        world.scratch.path().join("root").display()
    );
    let sentences = [
        ("error", "[boot] bios = \"nothing.0\" names no file under the root"),
        ("error", &kernel),
        ("warning", "every machine that boots on 127.77.0.0/16 INSTALLS BY ITSELF"),
    ];
    assert!(said.starts_with("reloaded: generation 2\n"), "{said}");
    assert!(world.menu().contains("TITLE Two") && world.offered(1).octets()[2] == 1);
    let check = world.ringboot(&["check"]).failed();
    assert_eq!(check.status.code(), Some(1));
    let status = world.ringboot(&["status"]).ok().stdout;
    let json: serde_json::Value =
        serde_json::from_str(&world.ringboot(&["status", "--json"]).ok().stdout).unwrap();
    let (text, shown) = (fs::read_to_string(&file).unwrap(), file.display().to_string());
    for ((severity, sentence), key) in
        sentences.into_iter().zip(["bios = ", "kernel = ", "install-by-default = "])
    {
        let (at, line) = (1..).zip(text.lines()).find(|(_, line)| line.starts_with(key)).unwrap();
        let column = line.find("= ").unwrap() + 3;
        let placed = format!("{shown}:{at}:{column}: {sentence}");
        let line = format!("\n{severity}: {placed}");
        assert!(said.contains(&line), "{line}: {said}");
        assert!(format!("\n{}", check.stdout).contains(&line), "{line}: {}", check.stdout);
        let log = if severity == "error" { "ERROR" } else { "WARN" };
        let log = format!("{log} {placed}");
        assert!(world.server.stderr.text().contains(&log), "{log}: {}", world.server.stderr.text());
        let mut findings = json["findings"].as_array().unwrap().iter();
        let found = findings
            .find(|finding| finding["text"].as_str().unwrap().starts_with(sentence))
            .unwrap();
        let fields = (found["file"].as_str(), found["line"].as_u64(), found["column"].as_u64());
        assert_eq!(fields, (Some(shown.as_str()), Some(at), Some(column as u64)), "{found}");
        assert!(
            severity == "warning" || status.contains(&format!("  ERROR      {placed}")),
            "{status}"
        );
    }
    assert!(status.contains("  config     2 errors and "), "{status}");
    // What was wrong is put right: it is said no more.
    world.configure("127.77.1.1-127.77.1.9", "Three");
    assert_eq!(world.ringboot(&["reload"]).ok().stdout, "reloaded: generation 3\n");
    assert!(!world.ringboot(&["status"]).ok().stdout.contains("  ERROR "));
    assert!(world.server.stop(LIMIT).success());
}

#[test]
fn what_a_reload_cannot_carry_is_named() {
    let mut world = World::new("reload-restart");
    let other = common::free_port();
    write(&world.scratch, world.dhcp, other, "127.77.1.1-127.77.1.9", "Two");
    let said = world.ringboot(&["reload"]);
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    let words = "changes in [tftp] take effect after a restart";
    assert!(said.stdout.contains(words), "{}", said.stdout);
    assert!(world.menu().contains("TITLE Two"));
    assert!(world.ringboot(&["status"]).stdout.contains(&format!("  PENDING    {words}")));
    let checked = world.ringboot(&["check"]).stdout;
    assert!(
        checked.contains(&format!(
            "warning: {words} of the running server (pid {})",
            world.server.pid()
        )),
        "{checked}"
    );
    // It is as it was at the start: nothing waits any more.
    world.configure("127.77.1.1-127.77.1.9", "Two");
    assert_eq!(world.ringboot(&["reload"]).ok().stdout, "reloaded: generation 3\n");
    assert!(!world.ringboot(&["status"]).stdout.contains("PENDING"));
    assert!(world.server.stop(LIMIT).success());
}

/// Nothing was served by DHCP: the first subnet is published, and nobody is given an address.
#[test]
fn a_first_subnet_waits_for_a_restart_and_everybody_says_so() {
    let mut world =
        World::with("reload-first", |text| text.replace("mode = \"server\"", "mode = \"off\""));
    let off = world.ringboot(&["status"]).stdout;
    assert!(off.contains("127.77.0.0/16 by relays, mode off\n"), "{off}");
    world.configure("127.77.1.1-127.77.1.9", "Two");
    let said = world.ringboot(&["reload"]);
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    let status = world.ringboot(&["status"]).stdout;
    for words in [
        "  PENDING    changes in [dhcp], of which nothing was served, take effect after a \
         restart\n",
        "127.77.0.0/16 by relays, mode server, SILENT: takes effect after a restart\n",
    ] {
        assert!(status.contains(words), "{words}: {status}");
    }
    let checked = world.ringboot(&["check"]).stdout;
    assert!(
        checked.contains("warning: changes in [dhcp], of which nothing was served, take effect"),
        "{checked}"
    );
    assert!(
        checked.contains("offers nothing on 127.77.0.0/16: takes effect after a restart"),
        "{checked}"
    );
    assert!(world.server.stop(LIMIT).success());
}

/// Each wrong file, and the rest beside it: by a reload, and by a start.
#[test]
fn whatever_is_wrong_in_one_place_is_named_and_the_rest_is_served() {
    let mut world = World::new("reload-damage");
    let root = world.scratch.path().join("root");
    let file = world.scratch.path().join("ringboot.toml");
    let put = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), bytes).unwrap();
    };
    put("page", b"<html><body>404</body></html>");
    put("empty", b"");
    put("closed.0", b"\xea\x05");
    fs::set_permissions(root.join("closed.0"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    put("a.cfg.j2", b"x\n{% endfo %}\n");
    put("b.cfg.j2", b"{{ hostnam | default('x') }}");
    put("pxelinux.cfg/01-00-00-00-00-00-00", b"\xff\xfe broken");
    put("right", b"right");
    let entry = |label: &str, kernel: &str| {
        format!("[[menu.entry]]\nlabel = \"{label}\"\nkernel = \"{kernel}\"\n")
    };
    let text = fs::read_to_string(&file).unwrap();
    let more = [
        entry("a", "page"),
        entry("b", "empty"),
        entry("c", "right"),
        "[boot]\nbios = \"closed.0\"\n".to_owned(),
    ];
    fs::write(&file, format!("{text}{}", more.concat())).unwrap();
    let shown = |name: &str| root.join(name).display().to_string();
    let place = |line: &str| {
        let text = fs::read_to_string(&file).unwrap();
        let (at, written) = (1..).zip(text.lines()).find(|(_, written)| *written == line).unwrap();
        format!("{}:{at}:{}: ", file.display(), written.find('"').unwrap() + 1)
    };
    let sentences = [
        place("kernel = \"page\"") + "kernel of the entry `a` is an HTML page",
        place("kernel = \"empty\"") + "kernel of the entry `b` is an empty file",
        place("kernel = \"right\"") + "kernel of the entry `c` is a text file",
        place("bios = \"closed.0\"")
            + "[boot] bios = \"closed.0\": "
            + &shown("closed.0")
            + " may not be read",
        shown("a.cfg.j2") + ":2:4: template: ",
        shown("b.cfg.j2") + ":1:4: template: there is no variable `hostnam`",
    ];
    let everywhere = |world: &World, said: &str, from: usize| {
        assert_eq!(world.first_block("right"), b"\0\x03\0\x01right");
        assert!(world.menu().contains("TITLE One"));
        world.offered(1);
        let log = world.server.stderr.text();
        let status = world.ringboot(&["status"]).ok().stdout;
        let checked = world.ringboot(&["check"]).failed().stdout;
        for sentence in &sentences {
            assert!(log[from..].contains(&format!("ERROR {sentence}")), "{sentence}: {log}");
            assert!(status.contains(&format!("  ERROR      {sentence}")), "{sentence}: {status}");
            for said in [said, &checked] {
                assert!(said.contains(&format!("error: {sentence}")), "{sentence}: {said}");
            }
        }
    };
    let from = world.server.stderr.text().len();
    let said = world.ringboot(&["reload"]).ok().stdout;
    everywhere(&world, &said, from);
    assert!(world.server.stop(LIMIT).success());
    world.start();
    everywhere(&world, &said, 0);
    assert!(world.server.stop(LIMIT).success());
}

#[test]
fn status_says_what_runs_and_that_nothing_does() {
    let mut world = World::new("status");
    world.offered(1);
    let said = world.ringboot(&["status"]).ok().stdout;
    for words in [
        "generation 1",
        &world.tftp.to_string(),
        "127.77.0.0/16 by relays, mode server",
        "io_uring",
        "1 requests, 1 answers",
        "interface  lo mtu 65536 127.0.0.1",
        "core       cpu ",
        "mappings   0",
        "memory     0 of ",
        " MB hold boot images, 0 pieces evicted",
        "drops      0 datagrams (full receive buffers), 0 events",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let json = world.ringboot(&["status", "--json"]).ok().stdout;
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["pid"], world.server.pid());
    assert_eq!(status["cores"][0]["tftp"]["requests"], 0);
    assert!(world.server.stop(LIMIT).success());
    let gone = world.ringboot(&["status"]).failed();
    assert!(gone.stderr.contains("no server answers on"), "{}", gone.stderr);
    assert!(!world.scratch.path().join("admin.sock").exists());
}
