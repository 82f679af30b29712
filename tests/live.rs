//! `ringboot check --live` against a real server: a whole chain is walked, then each link is broken
//! in turn and must be named.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

mod common;

use common::Scratch;
use common::net::Net;
use common::process::{Output, Process, run};
use common::server::{self, Server};

const LIMIT: Duration = Duration::from_secs(90);
const NODE: &str = "52:54:00:12:34:10";
const STRANGER: &str = "52:54:00:99:99:99";

/// A server with DHCP for relays, three loaders, a menu with two entries, an answer file made from
/// a template.
struct World {
    scratch: Scratch,
    server: Option<Process>,
}

impl World {
    fn new(name: &str) -> Self {
        Self::with(name, |text| text)
    }

    /// With a changed configuration.
    fn with(name: &str, change: impl FnOnce(String) -> String) -> Self {
        let scratch = Scratch::new(name);
        let mut world = Self { scratch, server: None };
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dhcp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut loader = ringboot::boot::pe::build_x64_program().to_vec();
        loader.resize(20_000, 7);
        for (path, content) in [
            ("pxelinux.0", vec![0xfa; 5000]),
            ("ldlinux.c32", vec![0x7f; 3000]),
            ("shimx64.efi", loader.clone()),
            ("grubx64.efi", loader),
            ("k/linux", vec![1; 9 << 20]),
            ("k/initrd", vec![2; 700_000]),
            ("k/rescue", vec![3; 2000]),
            ("ks.cfg.j2", b"# for {{ mac }}\nreboot\n".to_vec()),
        ] {
            common::root::write(&world.path(path), &content);
        }
        let text = format!(
            r#"root = "root"
state = "state"
[server]
admin-socket = "admin.sock"
user = "root"
[http]
listen = ["127.0.0.1:{http}"]
[tftp]
listen = ["127.0.0.1:0"]
[dhcp]
listen-address = "127.0.0.1"
listen-port = {dhcp}
[[dhcp.subnet]]
subnet = "127.77.0.0/16"
relay = true
mode = "server"
pools = ["127.77.1.1-127.77.1.2"]
[[dhcp.subnet.host]]
mac = "{NODE}"
address = "127.77.2.1"
hostname = "node1"
[boot]
bios = "pxelinux.0"
uefi-x64 = "shimx64.efi"
ipxe = "boot.ipxe"
[menu]
title = "Rack"
default = "install"
[[menu.entry]]
label = "rescue"
kernel = "k/rescue"
[[menu.entry]]
label = "install"
kernel = "k/linux"
initrd = "k/initrd"
arguments = "ks=http://127.0.0.1:{http}/ks.cfg"
"#
        );
        fs::write(world.scratch.path().join("ringboot.toml"), change(text)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["serve", "--config"]).arg(world.config());
        let server = Process::start(command);
        let ready = server.stdout.wait_for(LIMIT, |text| text.starts_with("READY").then_some(()));
        assert!(ready.is_ok(), "{}", server.stderr.text());
        world.server = Some(server);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join("root").join(name)
    }

    fn config(&self) -> PathBuf {
        self.scratch.path().join("ringboot.toml")
    }

    fn ringboot(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(arguments).arg("--config").arg(self.config());
        run(command, LIMIT)
    }

    fn walk(&self, host: &str, firmware: &str) -> Output {
        self.ringboot(&["check", "--live", host, "--firmware", firmware])
    }

    /// `ringboot.toml:LINE:COLUMN` of the value of a line that begins so.
    fn place(&self, line: &str) -> String {
        let text = fs::read_to_string(self.config()).unwrap();
        let (at, written) =
            (1..).zip(text.lines()).find(|(_, written)| written.starts_with(line)).unwrap();
        let column = written.find(['"', '[']).unwrap() + 1 + usize::from(written.contains("= [\""));
        format!("ringboot.toml:{at}:{column} (")
    }

    /// The walk is broken at exactly this link, for this reason, with this line behind it.
    fn assert_broken(&self, firmware: &str, stage: &str, words: &[&str], place: &str) {
        let output = self.walk("node1", firmware);
        let said = &output.stdout;
        assert_eq!(output.status.code(), Some(1), "{output:#?}");
        assert!(
            said.contains(&format!("BROKEN at {stage}")) && said.contains("1 walked, 1 broken"),
            "{said}"
        );
        for words in words.iter().chain([&place]) {
            assert!(said.contains(words), "no {words:?} in:\n{said}");
        }
    }
}

#[test]
fn a_whole_chain_is_walked_and_leaves_nothing_behind() {
    let world = World::new("live-whole");
    let output = world.ringboot(&["check", "--live"]).ok();
    let said = &output.stdout;
    assert!(said.contains("6 walked, 0 broken"), "{said}");
    for words in [
        "an unknown machine on 127.77.0.0/16  bios",
        "an unknown machine on 127.77.0.0/16  ipxe",
        "52:54:00:12:34:10 node1  uefi-x64",
        "127.77.2.1 (PXE firmware on x64 UEFI (option 93 = 7); subnet 127.77.0.0/16",
        "tftp ldlinux.c32 3000 B",
        "tftp grubx64.efi 19 KiB",
        "tftp pxelinux.cfg/01-52-54-00-12-34-10",
        "install: http://127.0.0.1:",
        "k/linux 9216 KiB",
        "read 8192 KiB",
        "rescue: tftp ",
        "/ks.cfg 31 B",
    ] {
        assert!(said.contains(words), "no {words:?} in:\n{said}");
    }
    let json =
        world.ringboot(&["check", "--live", NODE, "--firmware", "ipxe", "--json"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let links = json["chains"][0]["links"].as_array().unwrap();
    assert_eq!((&json["broken"], &json["chains"][0]["broken"]), (&0.into(), &().into()));
    assert!(links.iter().any(|link| link["stage"] == "kernel"), "{json}");
    // No lease, no offer in memory, no event of the machine.
    let status = world.ringboot(&["status", "--json"]).ok().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(
        (&status["dhcp"]["leases"], &status["dhcp"]["answered"]),
        (&0.into(), &0.into()),
        "{status}"
    );
    let why = world.ringboot(&["why", NODE]);
    assert!(!why.stdout.contains("offered") && !why.stdout.contains("shimx64"), "{why:#?}");
    assert!(
        !world.server.as_ref().unwrap().stderr.text().contains("sent"),
        "a walk is no line of the log"
    );
}

#[test]
fn a_host_that_nobody_knows_is_wrong_usage() {
    let world = World::new("live-usage");
    let output = world.ringboot(&["check", "--live", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        output.stderr.contains("\"nobody\" is neither a hardware address"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_missing_loader_or_sibling_is_named_with_its_key() {
    let world = World::new("live-loader");
    fs::rename(world.path("grubx64.efi"), world.path("away")).unwrap();
    world.assert_broken("uefi-x64", "loader", &["no file grubx64.efi"], &world.place("uefi-x64 ="));
    fs::rename(world.path("shimx64.efi"), world.path("away")).unwrap();
    world.assert_broken(
        "uefi-x64",
        "loader",
        &["no file shimx64.efi", "the server says:"],
        &world.place("uefi-x64 ="),
    );
    fs::remove_file(world.path("ldlinux.c32")).unwrap();
    world.assert_broken("bios", "loader", &["no file ldlinux.c32"], &world.place("bios ="));
    world.assert_broken(
        "uefi-arm64",
        "offer",
        &["uefi-arm64 is not set"],
        "ringboot.toml:22:1 ([boot], without uefi-arm64)",
    );
    fs::write(world.path("shimx64.efi"), vec![1; 4000]).unwrap();
    fs::write(world.path("grubx64.efi"), vec![1; 4000]).unwrap();
    world.assert_broken(
        "uefi-x64",
        "loader",
        &["tftp shimx64.efi is no UEFI program"],
        &world.place("uefi-x64 ="),
    );
}

#[test]
fn a_menu_by_hand_is_named_with_its_line() {
    let world = World::new("live-menu");
    common::root::write(&world.path("pxelinux.cfg/default"), b"# nothing\n");
    let file = world.path("pxelinux.cfg/default").display().to_string();
    world.assert_broken(
        "bios",
        "menu",
        &["pxelinux.cfg/default has no entry"],
        "root/pxelinux.cfg/default (",
    );
    fs::write(&file, "DEFAULT a\nLABEL a\n  KERNEL k/none\n").unwrap();
    world.assert_broken("bios", "kernel", &["no file k/none"], "root/pxelinux.cfg/default:3 (");
}

#[test]
fn a_missing_kernel_initrd_or_broken_answer_file_is_named_with_its_line() {
    let world = World::new("live-images");
    fs::write(world.path("ks.cfg.j2"), "ok\n{{ nothing }}\n").unwrap();
    for firmware in ["bios", "uefi-x64", "ipxe"] {
        let words = ["of the entry `install`", "status 500 for http://127.0.0.1:", "ks.cfg.j2:2"];
        world.assert_broken(firmware, "answer file", &words, &world.place("arguments ="));
    }
    fs::rename(world.path("k/initrd"), world.path("away")).unwrap();
    for (firmware, words) in [("bios", "no file"), ("ipxe", "status 404 for http://127.0.0.1:")] {
        world.assert_broken(firmware, "initrd", &["k/initrd", words], &world.place("initrd ="));
    }
    fs::write(world.path("k/initrd"), "").unwrap();
    world.assert_broken("ipxe", "initrd", &["k/initrd is an empty file"], &world.place("initrd ="));
    fs::write(world.path("k/linux"), "<html>404 not found</html>").unwrap();
    let output = world.walk("node1", "bios");
    assert!(output.stdout.contains("k/linux is an HTML page"), "{output:#?}");
    // The search for a menu was refused some names, which has nothing to do with it.
    assert!(!output.stdout.contains("the server says"), "{output:#?}");
    let mut cut = vec![0; 3000];
    cut[0x1f1] = 4;
    cut[0x1f4..0x1f8].copy_from_slice(&9000u32.to_le_bytes());
    cut[0x202..0x206].copy_from_slice(b"HdrS");
    fs::write(world.path("k/linux"), cut).unwrap();
    world.assert_broken(
        "ipxe",
        "kernel",
        &["is cut short: 3000 bytes"],
        &world.place("kernel = \"k/linux\""),
    );
    fs::remove_file(world.path("k/linux")).unwrap();
    world.assert_broken(
        "uefi-x64",
        "kernel",
        &["no file", "k/linux"],
        &world.place("kernel = \"k/linux\""),
    );
}

#[test]
fn http_that_nobody_answers_is_named() {
    // What clients are told is an address where nothing listens for HTTP.
    let world = World::with("live-http", |text| {
        text.replace("[server]\n", "[server]\nadvertise = \"127.0.0.9\"\n")
    });
    world.assert_broken(
        "ipxe",
        "loader",
        &["was refused", "http://127.0.0.9:"],
        &world.place("ipxe ="),
    );
}

#[test]
fn a_pool_that_is_full_and_clients_that_are_not_served_are_named() {
    let world = World::with("live-pool", |text| {
        text.replace("127.77.1.1-127.77.1.2", "127.77.2.1-127.77.2.1")
            .replace("relay = true", "relay = true\nclients = \"any\"")
    });
    let output = world.walk(STRANGER, "bios");
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    assert!(
        output.stdout.contains("BROKEN at offer: no OFFER: no address is free"),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains(&world.place("pools =")), "{}", output.stdout);
    let world = World::with("live-known", |text| {
        text.replace("relay = true", "relay = true\nclients = \"known\"")
    });
    let output = world.walk(STRANGER, "bios");
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    assert!(output.stdout.contains(&world.place("clients =")), "{}", output.stdout);
}

#[test]
fn without_dhcp_the_chain_begins_at_the_loader() {
    let world =
        World::with("live-no-dhcp", |text| text.replace("mode = \"server\"", "mode = \"off\""));
    let output = world.walk("node1", "bios");
    assert!(output.stdout.contains("no offer was requested"), "{output:#?}");
    assert!(output.stdout.contains("tftp pxelinux.0 5000 B"), "{output:#?}");
}

#[test]
fn an_ipxe_that_is_loaded_asks_again_and_http_boot_goes_by_url() {
    let world = World::with("live-stages", |text| {
        text.replace("bios = \"pxelinux.0\"", "bios = \"ldlinux.c32\"\nuefi-http = \"shimx64.efi\"")
    });
    let http = world.walk("node1", "uefi-http").ok().stdout;
    assert!(http.contains("/shimx64.efi 19 KiB") && http.contains("/grubx64.efi 19 KiB"), "{http}");
    let text = fs::read_to_string(world.config())
        .unwrap()
        .replace("bios = \"ldlinux.c32\"", "bios = \"undionly.kpxe\"");
    fs::write(world.config(), text).unwrap();
    fs::write(world.path("undionly.kpxe"), vec![0xfa; 4000]).unwrap();
    world.ringboot(&["reload"]).ok();
    let chained = world.walk("node1", "bios").ok().stdout;
    assert_eq!(chained.matches("offer        127.77.2.1").count(), 2, "{chained}");
    assert!(chained.contains("tftp undionly.kpxe") && chained.contains("/boot.ipxe "), "{chained}");
    assert!(chained.contains("install: http://127.0.0.1:"), "{chained}");
}

/// On a network as it is: the server listens on an interface, and the walk comes from an address of
/// this box alone.
#[test]
fn a_subnet_on_an_interface_is_walked_and_one_with_another_server_is_named() {
    common::need(&[("dnsmasq", "dnsmasq-base")]);
    let (net, scratch) = (Net::new(), Scratch::new("live-network"));
    let root = server::root(&scratch);
    for (name, content) in
        [("pxelinux.0", vec![0xfa; 3000]), ("ldlinux.c32", vec![0x7f; 99]), ("linux", vec![1; 99])]
    {
        common::root::write(&root.join(name), &content);
    }
    let menu = "[boot]\nbios = \"pxelinux.0\"\n[menu]\n[[menu.entry]]\nlabel = \"a\"\nkernel = \
                \"linux\"\n";
    let configuration = format!("{}{menu}", server::configuration(&scratch));
    let walk = || {
        let mut command = net.command(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["check", "--live", STRANGER, "--firmware", "bios", "--config"]);
        command.arg(scratch.path().join("ringboot.toml"));
        run(command, LIMIT)
    };
    let running = Server::start(&net, &scratch, &configuration);
    // The look for other servers takes two seconds.
    let alone = (0..)
        .map(|_| walk())
        .find(|output| !output.stdout.contains("looking for other DHCP servers"))
        .unwrap();
    assert!(alone.ok().stdout.contains("kernel       a: tftp linux 99 B"));
    running.stop();
    fs::remove_dir_all(scratch.path().join("state")).unwrap();
    let host = net.client("52:54:00:c1:1e:02");
    host.ip(&["addr", "add", "192.168.4.2/24", "dev", "eth0"]);
    let mut command = host.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--log-facility=-",
        "--port=0",
        "--conf-file=/dev/null",
        "--user=root",
    ]);
    command.args(["--interface=eth0", "--no-ping", "--dhcp-range=192.168.4.200,192.168.4.220,10m"]);
    command.arg(format!("--dhcp-leasefile={}", scratch.path().join("dnsmasq.leases").display()));
    let dnsmasq = Process::start(command);
    dnsmasq.stderr.wait_line("DHCP, IP range", LIMIT);
    let running = Server::start(&net, &scratch, &configuration);
    let beside = (0..)
        .map(|_| walk())
        .find(|output| !output.stdout.contains("looking for other DHCP servers"))
        .unwrap();
    assert_eq!(beside.status.code(), Some(1), "{beside:#?}");
    for words in [
        "BROKEN at offer",
        "the DHCP server 192.168.4.2 (52:54:00:c1:1e:02)",
        "without allow-other-servers",
    ] {
        assert!(beside.stdout.contains(words), "{beside:#?}");
    }
    running.stop();
}
