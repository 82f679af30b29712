//! Safe by default: ringboot looks for other DHCP servers, serves machines that boot, and waits for
//! interfaces.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::Scratch;
use common::capture::{Capture, REQUESTS};
use common::net::{BRIDGE, Client, Net, SERVER};
use common::process::{self, Output, Process, run};
use common::root;
use common::server::{self, Server};
use dhcproto::v4::{Message, MessageType, OptionCode};

const LIMIT: Duration = Duration::from_secs(60);
const MAC: &str = "52:54:00:c1:1e:01";
const OTHER_MAC: &str = "52:54:00:c1:1e:02";
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 2);
/// What makes udhcpc a BIOS ROM.
const ROM: [&str; 4] = ["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"];

/// A bridge with a capture; servers and clients come as a test wants them.
struct Lab {
    capture: Capture,
    net: Net,
    scratch: Scratch,
}

impl Lab {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let net = Net::new();
        let capture = Capture::start(&net, REQUESTS, &scratch.path().join("wire.pcap"));
        Self { capture, net, scratch }
    }

    /// ringboot with the classic network and these lines in its subnet.
    fn ringboot(&self, lines: &str) -> Server {
        let detail = "[log]\nlevel = \"debug\"\n[boot]\nbios = \"pxelinux.0\"\n";
        Server::start(
            &self.net,
            &self.scratch,
            &format!("{}{lines}\n{detail}", server::configuration(&self.scratch)),
        )
    }

    /// What a command says of the running server.
    fn ask(&self, command: &str) -> String {
        let mut asked = self.net.command(env!("CARGO_BIN_EXE_ringboot"));
        asked.args([command, "--config"]).arg(self.scratch.path().join("ringboot.toml"));
        run(asked, LIMIT).stdout
    }

    /// A real dnsmasq on the same bridge, ready to answer.
    fn dnsmasq(&self, more: &[&str]) -> (Client, Process) {
        self.dnsmasq_on(BRIDGE, OTHER, more)
    }

    /// The same on another bridge, in the /24 of its address.
    fn dnsmasq_on(&self, bridge: &str, address: Ipv4Addr, more: &[&str]) -> (Client, Process) {
        common::need(&[("dnsmasq", "dnsmasq-base")]);
        let host = self.net.client_on(bridge, OTHER_MAC);
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        let [a, b, c, _] = address.octets();
        let mut command = host.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--log-facility=-",
            "--port=0",
            "--conf-file=/dev/null",
            "--user=root",
        ]);
        command.args(["--interface=eth0", "--dhcp-authoritative"]);
        command.arg(format!("--dhcp-range={a}.{b}.{c}.200,{a}.{b}.{c}.220,10m"));
        command
            .arg(format!(
                "--dhcp-leasefile={}",
                self.scratch.path().join("dnsmasq.leases").display()
            ))
            .args(more);
        let dnsmasq = Process::start(command);
        dnsmasq.stderr.wait_line("DHCP, IP range", LIMIT);
        (host, dnsmasq)
    }

    fn udhcpc(&self, client: &Client, arguments: &[&str]) -> Output {
        common::need(&[("udhcpc", "udhcpc")]);
        let mut command = client.command("udhcpc");
        command
            .args(["-f", "-n", "-q", "-i", "eth0", "-T", "1", "-s"])
            .arg(process::client_script("udhcpc.sh"))
            .args(arguments);
        run(command, LIMIT)
    }

    /// What `ringboot why` tells of a machine, as soon as it has these words.
    fn why(&self, mac: &str, words: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
            command.args(["why", mac, "--config"]).arg(self.scratch.path().join("ringboot.toml"));
            let said = run(command, LIMIT).stdout;
            if said.contains(words) {
                return said;
            }
            assert!(Instant::now() < deadline, "no {words:?} in:\n{said}");
        }
    }

    /// Messages of ours that were on the wire.
    fn ours(&self) -> Vec<MessageType> {
        from(&self.capture, SERVER.parse().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.net.command(env!("CARGO_BIN_EXE_ringboot"));
        command.args(arguments).arg("--config").arg(self.scratch.path().join("ringboot.toml"));
        command
    }

    /// What a command of ours says.
    fn said(&self, arguments: &[&str]) -> String {
        run(self.command(arguments), LIMIT).ok().stdout
    }
}

/// What a server has sent.
fn from(capture: &Capture, server: Ipv4Addr) -> Vec<MessageType> {
    let sent = capture.dhcp().into_iter().filter(|(_, message)| server_of(message) == Some(server));
    sent.filter_map(|(_, message)| message.opts().msg_type()).collect()
}

fn server_of(message: &Message) -> Option<Ipv4Addr> {
    let is_reply =
        !matches!(message.opts().msg_type(), Some(MessageType::Discover | MessageType::Request));
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(dhcproto::v4::DhcpOption::ServerIdentifier(address)) if is_reply => Some(*address),
        _ => None,
    }
}

fn wait_log(server: &Server, words: &str) -> String {
    server.log_line(words, LIMIT)
}

#[test]
fn beside_another_server_nothing_leaves_and_it_is_named() {
    let lab = Lab::new("polite-other");
    let (_host, _dnsmasq) = lab.dnsmasq(&["--no-ping"]);
    let server = lab.ringboot("clients = \"any\"");
    let client = lab.net.client(MAC);
    // From the first moment on, so that some of these come while it looks.
    let bound = lab.udhcpc(&client, &["-t", "10"]).ok().stdout;
    assert!(bound.contains(&format!("server={OTHER}")), "{bound}");
    let said = wait_log(&server, "ringboot is silent on 192.168.4.0/24");
    assert!(
        said.contains(&OTHER.to_string())
            && said.contains(OTHER_MAC)
            && said.contains("allow-other-servers"),
        "{said}"
    );
    lab.udhcpc(&client, &["-t", "10"]).ok();
    lab.udhcpc(&lab.net.client("52:54:00:c1:1e:03"), &[&ROM[..], &["-t", "10"]].concat()).ok();
    wait_log(&server, &format!("the DHCP server {OTHER} ({OTHER_MAC}) answered there"));
    assert_eq!(lab.ours(), [], "not one packet:\n{}", lab.capture);
    let why = lab.why(MAC, "It chose another DHCP server");
    assert!(
        why.contains(&format!("the DHCP server {OTHER} ({OTHER_MAC}) answered there")),
        "{why}"
    );
    for command in ["status", "check"] {
        let said = lab.ask(command);
        assert!(
            said.contains(&format!("the DHCP server {OTHER} ({OTHER_MAC}) answered there")),
            "{command}: {said}"
        );
    }
    server.stop();
    let database =
        rusqlite::Connection::open(lab.scratch.path().join("state/ringboot.db")).unwrap();
    let select = "SELECT subnet, mac, address FROM other_servers";
    let row: (String, String, String) =
        database.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!(row, ("192.168.4.0/24".to_owned(), OTHER_MAC.to_owned(), OTHER.to_string()));
}

#[test]
fn a_server_that_comes_later_is_found_when_a_client_takes_its_address() {
    let lab = Lab::new("polite-later");
    let server = lab.ringboot("clients = \"known\"");
    wait_log(&server, "no other DHCP server answers on br0");
    let (_host, _dnsmasq) = lab.dnsmasq(&["--no-ping"]);
    lab.udhcpc(&lab.net.client(MAC), &["-t", "10"]).ok();
    let said = wait_log(&server, "ringboot is silent on 192.168.4.0/24");
    assert!(said.contains(OTHER_MAC), "{said}");
    server.stop();
}

/// It pings an address for three seconds before it offers it, but answers an INFORM at once.
#[test]
fn beside_a_server_that_pings_nothing_leaves_from_the_first_start_on() {
    let lab = Lab::new("polite-ping");
    let (_host, _dnsmasq) = lab.dnsmasq(&[]);
    let server = lab.ringboot("clients = \"any\"");
    let bound = lab.udhcpc(&lab.net.client(MAC), &["-t", "20"]).ok().stdout;
    assert!(bound.contains(&format!("server={OTHER}")), "{bound}");
    wait_log(&server, "ringboot is silent on 192.168.4.0/24");
    lab.udhcpc(&lab.net.client("52:54:00:c1:1e:03"), &[&ROM[..], &["-t", "20"]].concat()).ok();
    assert_eq!(lab.ours(), [], "not one packet:\n{}", lab.capture);
    server.stop();
}

/// While it pings for a client it hears nothing: the look goes on until it must have heard us.
#[test]
fn beside_a_server_that_is_busy_with_a_ping_nothing_leaves() {
    let lab = Lab::new("polite-busy");
    let (_host, _dnsmasq) = lab.dnsmasq(&[]);
    let client = lab.net.client(MAC);
    std::thread::scope(|scope| {
        // Asks once a second. It may give up while dnsmasq pings for the look's own DISCOVER: what
        // counts is who has answered.
        let asking = scope.spawn(|| lab.udhcpc(&client, &["-t", "20"]));
        let of_client = |message: &Message| message.chaddr() == [0x52, 0x54, 0, 0xc1, 0x1e, 1];
        lab.capture.wait_dhcp("its DISCOVER", LIMIT, of_client);
        let server = lab.ringboot("clients = \"any\"");
        asking.join().unwrap();
        assert!(from(&lab.capture, OTHER).contains(&MessageType::Offer), "{}", lab.capture);
        wait_log(&server, "ringboot is silent on 192.168.4.0/24");
        assert_eq!(lab.ours(), [], "not one packet:\n{}", lab.capture);
        server.stop();
    });
}

const SECOND: &str = "br1";
const SECOND_SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 6, 150);
const SECOND_OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 6, 2);

/// The classic configuration with these lines in its subnet, and a second subnet on a second
/// bridge.
fn two_segments(lab: &Lab, first: &str, second: &str) -> String {
    let second = format!(
        "[[dhcp.subnet]]\nsubnet = \"192.168.6.0/24\"\ninterface = \"{SECOND}\"\nmode = \
         \"server\"\nclients = \"any\"\n\
         pools = [\"192.168.6.10-192.168.6.20\"]\n{second}\n"
    );
    let classic =
        server::configuration(&lab.scratch).replace(&format!("interfaces = [\"{BRIDGE}\"]\n"), "");
    // The level of the log stays that of the server: another one would take effect after a restart.
    format!("{classic}clients = \"any\"\n{first}\n{second}[log]\nlevel = \"debug\"\n")
}

#[test]
fn a_reload_adds_a_segment_and_is_silent_there_beside_another_server() {
    let lab = Lab::new("polite-reload");
    lab.net.bridge(SECOND, &format!("{SECOND_SERVER}/24"));
    let wire =
        Capture::start_on(&lab.net, SECOND, REQUESTS, &lab.scratch.path().join("second.pcap"));
    let (_host, dnsmasq) = lab.dnsmasq_on(SECOND, SECOND_OTHER, &[]);
    let server = lab.ringboot("clients = \"any\"");
    let (old, new) = (lab.net.client(MAC), lab.net.client_on(SECOND, "52:54:00:c1:1e:05"));
    lab.udhcpc(&old, &["-t", "20"]).ok();
    let file = lab.scratch.path().join("ringboot.toml");
    std::fs::write(&file, two_segments(&lab, "", "")).unwrap();
    lab.said(&["reload"]);
    let bound = lab.udhcpc(&new, &["-t", "20"]).ok().stdout;
    assert!(bound.contains(&format!("server={SECOND_OTHER}")), "{bound}");
    let said = wait_log(&server, "ringboot is silent on 192.168.6.0/24");
    assert!(said.contains(&SECOND_OTHER.to_string()) && said.contains(OTHER_MAC), "{said}");
    assert_eq!(from(&wire, SECOND_SERVER), [], "not one packet:\n{wire}");
    // The first segment has gone on: its client renews at once, and nobody looks there again.
    let again = Instant::now();
    lab.udhcpc(&old, &["-t", "20"]).ok();
    assert!(again.elapsed() < Duration::from_millis(1500), "{:?}", again.elapsed());
    let status = lab.said(&["status"]);
    assert!(status.contains(&format!("{SECOND}:67")), "{status}");
    assert!(
        status.contains(&format!("    also     the DHCP server {SECOND_OTHER} ({OTHER_MAC})")),
        "{status}"
    );

    // Beside it, when a reload says so.
    std::fs::write(&file, two_segments(&lab, "", "allow-other-servers = true")).unwrap();
    lab.said(&["reload"]);
    let offer = |message: &Message| {
        is(message, MessageType::Offer) && server_of(message) == Some(SECOND_SERVER)
    };
    lab.udhcpc(&new, &["-t", "20"]).ok();
    wire.wait_dhcp("an OFFER of ours", LIMIT, offer);
    let status = lab.said(&["status"]);
    assert!(status.contains(&format!("the DHCP server {SECOND_OTHER} ({OTHER_MAC})")), "{status}");
    let checked = run(lab.command(&["check"]), LIMIT).stdout;
    assert!(
        checked.contains(&format!("the DHCP server {SECOND_OTHER} ({OTHER_MAC})")),
        "{checked}"
    );

    // And silent at once when a reload takes it away.
    std::fs::write(
        &file,
        two_segments(&lab, "", "").replacen(
            "mode = \"server\"\nclients",
            "mode = \"off\"\nclients",
            1,
        ),
    )
    .unwrap();
    drop(dnsmasq);
    lab.said(&["reload"]);
    let before = from(&wire, SECOND_SERVER).len();
    lab.udhcpc(&new, &["-t", "3"]).failed();
    assert_eq!(from(&wire, SECOND_SERVER).len(), before, "{wire}");
    let status = lab.said(&["status"]);
    assert!(!status.contains(&format!("{SECOND}:67")), "{status}");
    server.stop();
}

#[test]
fn a_reload_looks_before_the_first_offer_on_a_segment_that_it_adds_and_on_another_interface() {
    let lab = Lab::new("polite-reload-look");
    lab.net.bridge(SECOND, &format!("{SECOND_SERVER}/24"));
    let wire =
        Capture::start_on(&lab.net, SECOND, REQUESTS, &lab.scratch.path().join("second.pcap"));
    // Root has been given away by the time that the second socket is bound.
    let as_nobody = |text: &str| text.replace("user = \"root\"", "user = \"nobody\"");
    std::fs::set_permissions(lab.scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let configuration = format!(
        "{}clients = \"any\"\n[log]\nlevel = \"debug\"\n",
        server::configuration(&lab.scratch)
    );
    let server = Server::start(&lab.net, &lab.scratch, &as_nobody(&configuration));
    let client = lab.net.client_on(SECOND, "52:54:00:c1:1e:05");
    let two = as_nobody(&two_segments(&lab, "", ""));
    std::fs::write(lab.scratch.path().join("ringboot.toml"), two).unwrap();
    lab.said(&["reload"]);
    let bound = lab.udhcpc(&client, &["-t", "20"]).ok().stdout;
    assert!(bound.contains(&format!("server={SECOND_SERVER}")), "{bound}");
    let messages = wire.dhcp();
    let at = |kind| messages.iter().find(|(_, message)| is(message, kind)).expect("bound above").0;
    assert!(at(MessageType::Offer) - at(MessageType::Discover) >= Duration::from_secs(2), "{wire}");
    server.stop();
}

/// The old stack still runs on this very machine: `check` names it before anything is tried, and
/// `serve` ends.
#[test]
fn a_dnsmasq_on_the_same_machine_is_named_as_the_holder_of_its_ports() {
    common::need(&[("dnsmasq", "dnsmasq-base")]);
    let lab = Lab::new("polite-busy");
    let mut command = lab.net.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--log-facility=-",
        "--port=0",
        "--conf-file=/dev/null",
        "--user=root",
    ]);
    command.args([
        "--interface=br0",
        "--dhcp-range=192.168.4.200,192.168.4.220,10m",
        "--enable-tftp",
    ]);
    command.arg(format!("--tftp-root={}", server::root(&lab.scratch).display()));
    command
        .arg(format!("--dhcp-leasefile={}", lab.scratch.path().join("dnsmasq.leases").display()));
    let dnsmasq = Process::start(command);
    dnsmasq.stderr.wait_line("TFTP root is", LIMIT);
    let file = lab.scratch.path().join("ringboot.toml");
    std::fs::write(&file, server::configuration(&lab.scratch)).unwrap();
    let ringboot = |what: &str| {
        let mut command = lab.net.command(env!("CARGO_BIN_EXE_ringboot"));
        command.args([what, "--config"]).arg(&file);
        run(command, LIMIT).failed()
    };
    let said = ringboot("check").stdout;
    for words in [
        "DHCP cannot listen on 0.0.0.0:67: dnsmasq (pid ",
        "fatal: TFTP cannot listen on 0.0.0.0:69: dnsmasq (pid ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let output = ringboot("serve");
    assert!(
        output.stderr.contains("dnsmasq (pid ") && !output.stdout.contains("READY"),
        "{}",
        output.stderr
    );
}

#[test]
fn beside_another_server_it_serves_when_told_so() {
    let lab = Lab::new("polite-beside");
    let (_host, _dnsmasq) = lab.dnsmasq(&["--no-ping"]);
    let server = lab.ringboot("clients = \"any\"\nallow-other-servers = true");
    let said = wait_log(&server, "is served beside it");
    assert!(said.contains(OTHER_MAC), "{said}");
    for command in ["status", "check"] {
        let said = lab.ask(command);
        assert!(
            said.contains(&format!("the DHCP server {OTHER} ({OTHER_MAC})")),
            "{command}: {said}"
        );
    }
    let client = lab.net.client(MAC);
    lab.udhcpc(&client, &["-t", "10"]).ok();
    let offer = |message: &Message| {
        message.opts().msg_type() == Some(MessageType::Offer) && server_of(message) != Some(OTHER)
    };
    lab.capture.wait_dhcp("an OFFER of ours", LIMIT, offer);
    server.stop();
}

#[test]
fn alone_it_offers_after_two_seconds_and_a_restart_with_leases_sooner() {
    let lab = Lab::new("polite-alone");
    let client = lab.net.client(MAC);
    let server = lab.ringboot("clients = \"any\"");
    let bound = lab.udhcpc(&client, &["-t", "20"]).ok().stdout;
    assert!(bound.contains(&format!("server={SERVER}")), "{bound}");
    wait_log(&server, "no other DHCP server answers on br0");
    let messages = lab.capture.dhcp();
    let look = messages
        .iter()
        .find(|(_, message)| message.chaddr()[0] & 2 != 0 && is(message, MessageType::Discover));
    let (looked, look) = look.expect("a DISCOVER of its own");
    assert!(look.flags().broadcast(), "{look:?}");
    let offered = messages
        .iter()
        .find(|(_, message)| is(message, MessageType::Offer))
        .expect("bound above")
        .0;
    assert!(offered - *looked >= Duration::from_secs(2), "{:?}", offered - *looked);
    server.stop();
    let server = lab.ringboot("clients = \"any\"");
    let started = Instant::now();
    lab.udhcpc(&client, &["-t", "20"]).ok();
    assert!(started.elapsed() < Duration::from_millis(2500), "{:?}", started.elapsed());
    server.stop();
}

fn is(message: &Message, kind: MessageType) -> bool {
    message.opts().msg_type() == Some(kind)
}

#[test]
fn d52_a_client_that_never_booted_gets_nothing_and_once_it_has_it_is_served_also_after_a_restart() {
    let lab = Lab::new("polite-clients");
    let client = lab.net.client(MAC);
    let server = lab.ringboot("");
    wait_log(&server, "no other DHCP server answers on br0");
    lab.udhcpc(&client, &["-t", "3"]).failed();
    wait_log(&server, "says nothing of network boot");
    assert_eq!(lab.ours(), []);
    let why = lab.why(MAC, "It is not admitted");
    assert!(
        why.contains("says nothing of network boot, and never did (`clients = \"pxe\"`"),
        "{why}"
    );
    lab.udhcpc(&client, &[&ROM[..], &["-t", "10"]].concat()).ok();
    lab.udhcpc(&client, &["-t", "10"]).ok();
    server.stop();
    // Its lease has long ended, and another machine has had the address since: that it booted once
    // is known all the same.
    let database =
        rusqlite::Connection::open(lab.scratch.path().join("state/ringboot.db")).unwrap();
    assert_eq!(database.execute("DELETE FROM leases", []).unwrap(), 1);
    drop(database);
    let server = lab.ringboot("");
    lab.udhcpc(&client, &["-t", "20"]).ok();
    lab.udhcpc(&lab.net.client(OTHER_MAC), &["-t", "3"]).failed();
    server.stop();
}

#[test]
fn d52_known_serves_machines_with_a_reservation_and_no_others_however_they_ask() {
    let lab = Lab::new("polite-known");
    let host = format!("[[dhcp.subnet.host]]\nmac = \"{MAC}\"\naddress = \"192.168.4.5\"\n");
    let server = lab.ringboot(&format!("clients = \"known\"\n{host}"));
    let bound = lab.udhcpc(&lab.net.client(MAC), &["-t", "20"]).ok().stdout;
    assert!(bound.contains("ip=192.168.4.5"), "{bound}");
    let before = lab.ours().len();
    lab.udhcpc(&lab.net.client(OTHER_MAC), &[&ROM[..], &["-t", "3"]].concat()).failed();
    let why = lab.why(OTHER_MAC, "It is not admitted");
    assert!(why.contains("the client has no reservation (`clients = \"known\"`"), "{why}");
    assert_eq!(lab.ours().len(), before, "{}", lab.capture);
    server.stop();
}

#[test]
fn d20_advertise_is_in_siaddr_in_option_66_and_in_urls() {
    let lab = Lab::new("polite-advertise");
    let advertised = Ipv4Addr::new(203, 0, 113, 5);
    let configuration = server::configuration(&lab.scratch)
        .replace("[server]\n", &format!("[server]\nadvertise = \"{advertised}\"\n"));
    let boot = "clients = \"any\"\n[boot]\nbios = \"pxelinux.0\"\nuefi-http = \
                \"ipxe.efi\"\n[menu]\n\
                [[menu.entry]]\nlabel = \"x\"\nkernel = \"k\"\n";
    for name in ["k", "pxelinux.0"] {
        root::write(&server::root(&lab.scratch).join(name), b"\xea raw");
    }
    root::write(
        &server::root(&lab.scratch).join("ipxe.efi"),
        &ringboot::boot::pe::build_x64_program(),
    );
    let server = Server::start(&lab.net, &lab.scratch, &format!("{configuration}{boot}"));
    let offer_to = |mac: &'static str, class: &str, arch: &str| {
        let client = lab.net.client(mac);
        lab.udhcpc(&client, &["-t", "20", "-V", class, "-x", arch]).ok();
        let octets: Vec<u8> =
            mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        let wanted =
            move |message: &Message| is(message, MessageType::Offer) && message.chaddr() == octets;
        (client, lab.capture.wait_dhcp("an OFFER", LIMIT, wanted).1)
    };
    let (_bios, offer) = offer_to(MAC, ROM[1], "0x5d:0000");
    assert_eq!(offer.siaddr(), advertised);
    let name = offer.opts().get(OptionCode::TFTPServerName);
    let said = dhcproto::v4::DhcpOption::TFTPServerName(advertised.to_string().into_bytes());
    assert_eq!(name, Some(&said));
    let (http, offer) = offer_to(OTHER_MAC, "HTTPClient:Arch:00016:UNDI:003001", "0x5d:0010");
    let file = offer.opts().get(OptionCode::BootfileName);
    let url = dhcproto::v4::DhcpOption::BootfileName(
        format!("http://{advertised}/ipxe.efi").into_bytes(),
    );
    assert_eq!(file, Some(&url));
    // What is rendered for a machine names the same address.
    http.ip(&["addr", "add", "192.168.4.222/24", "dev", "eth0"]);
    common::need(&[("curl", "curl")]);
    let mut curl = http.command("curl");
    curl.args(["-sS", &format!("http://{SERVER}/boot.ipxe")]);
    let script = run(curl, LIMIT).ok().stdout;
    assert!(script.contains(&format!("http://{advertised}/")), "{script}");
    server.stop();
}

#[test]
fn d35_firmware_has_its_lease_for_minutes_and_a_system_for_half_a_day() {
    let lab = Lab::new("polite-times");
    let client = lab.net.client(MAC);
    let lines = server::configuration(&lab.scratch)
        .replace("default-lease-time = 600\n", "")
        .replace("max-lease-time = 7200\n", "");
    let server = Server::start(&lab.net, &lab.scratch, &lines);
    let firmware = lab.udhcpc(&client, &[&ROM[..], &["-t", "10"]].concat()).ok().stdout;
    assert!(firmware.contains("lease=600"), "{firmware}");
    let system = lab.udhcpc(&client, &["-t", "10"]).ok().stdout;
    assert!(system.contains("lease=43200"), "{system}");
    server.stop();
}

#[test]
fn d51_an_interface_is_waited_for_and_found_again_after_it_was_deleted() {
    let lab = Lab::new("polite-late-interface");
    let configuration = server::configuration(&lab.scratch)
        .replace(BRIDGE, "late0")
        .replace("192.168.4.", "192.168.9.");
    // At first it is there without an address, which is no better.
    run(ip_command(&lab.net, &["link", "add", "late0", "type", "bridge"]), LIMIT).ok();
    let server =
        Server::start(&lab.net, &lab.scratch, &format!("{configuration}clients = \"any\"\n"));
    wait_log(&server, "interface late0 has no IPv4 address");
    run(ip_command(&lab.net, &["link", "del", "late0"]), LIMIT).ok();
    assert!(!server.ready_line().contains("dhcp="), "{}", server.ready_line());
    wait_log(&server, "interface late0 is not there");
    for mac in [MAC, OTHER_MAC] {
        let client = lab.net.client("52:54:00:c1:1e:77");
        let ip = |arguments: &[&str]| run(ip_command(&lab.net, arguments), LIMIT).ok();
        // A cable of its own: one end here, the other at the client.
        ip(&["link", "add", "late0", "type", "veth", "peer", "name", "peer0", "address", mac]);
        ip(&["link", "set", "peer0", "netns", client.name()]);
        client.ip(&["link", "set", "peer0", "up"]);
        ip(&["addr", "add", "192.168.9.150/24", "dev", "late0"]);
        ip(&["link", "set", "late0", "up"]);
        let bound = lab.udhcpc(&client, &["-i", "peer0", "-t", "20"]).ok().stdout;
        assert!(bound.contains("server=192.168.9.150"), "{bound}");
        ip(&["link", "del", "late0"]);
        server.log_lines("interface late0 is gone", if mac == MAC { 1 } else { 2 }, LIMIT);
    }
    server.stop();
}

#[test]
fn d51_an_interface_that_comes_with_other_addresses_is_named_with_the_line_of_the_subnet() {
    let lab = Lab::new("polite-late-misplaced");
    let configuration = server::configuration(&lab.scratch)
        .replace(BRIDGE, "late0")
        .replace("192.168.4.", "192.168.9.");
    let line = configuration.lines().position(|line| line.starts_with("subnet")).unwrap() + 1;
    let server = Server::start(&lab.net, &lab.scratch, &configuration);
    wait_log(&server, "interface late0 is not there");
    lab.net.bridge("late0", "10.9.9.9/24");
    let words = format!(
        "ringboot.toml:{line}: subnet 192.168.9.0/24 is not on interface late0, which has 10.9.9.9"
    );
    wait_log(&server, &words);
    let status = lab.said(&["status"]);
    assert!(status.contains("SILENT: ") && status.contains(&words), "{status}");
    let reloaded = run(lab.command(&["reload"]), LIMIT).ok();
    let place =
        format!("error: {}", words.replacen(&format!(":{line}:"), &format!(":{line}:10:"), 1));
    let said = format!("{}/{place}", lab.scratch.path().display()).replace("/error: ", "/");
    assert!(reloaded.stdout.contains(&format!("error: {said}")), "{}", reloaded.stdout);
    server.stop();
}

fn ip_command(net: &Net, arguments: &[&str]) -> Command {
    let mut command = net.command("ip");
    command.args(arguments);
    command
}

/// The machines of the other subnets, and whoever wants files, have no part in it.
#[test]
fn d51_a_subnet_that_is_not_on_its_interface_is_silent_and_the_rest_is_served() {
    let lab = Lab::new("polite-misplaced");
    let right = server::configuration(&lab.scratch);
    let wrong = "[[dhcp.subnet]]\nsubnet = \"10.44.0.0/24\"\ninterface = \"br0\"\nmode = \
                 \"server\"\npools = [\"10.44.0.5-10.44.0.9\"]\n";
    let configuration = format!("{right}clients = \"any\"\n{wrong}");
    let line = configuration.lines().position(|line| line.contains("10.44.0.0/24")).unwrap() + 1;
    let server = Server::start(&lab.net, &lab.scratch, &configuration);
    let place = format!(
        "ringboot.toml:{line}:10: subnet 10.44.0.0/24 is not on interface br0, which has {SERVER}"
    );
    wait_log(&server, &place);
    let checked = run(lab.command(&["check"]), LIMIT).failed();
    for words in [place.as_str(), "relay = true", "\n1 error, "] {
        assert!(checked.stdout.contains(words), "{words}: {}", checked.stdout);
    }
    let status = lab.said(&["status"]);
    assert!(status.contains("ERROR ") && status.contains(&place), "{status}");
    let client = lab.net.client(MAC);
    let bound = lab.udhcpc(&client, &["-t", "20"]).ok().stdout;
    assert!(bound.contains(&format!("server={SERVER}")), "{bound}");
    server.stop();
}

/// Byte by byte the file of the package, where the package puts it, on a machine where nobody has
/// done anything yet.
#[test]
fn s36_the_shipped_configuration_as_installed_sends_no_offer_and_says_what_to_fill_in() {
    common::need(&[("unshare", "util-linux")]);
    let lab = Lab::new("polite-shipped");
    let shipped = lab.scratch.path().join("shipped.toml");
    std::fs::write(&shipped, include_str!("../config/ringboot.toml")).unwrap();
    // /etc, /srv and /var/lib of its own; users stay known.
    let serve = |prepare: &str| {
        let script = format!(
            "mount -t tmpfs srv /srv; mount -t tmpfs lib /var/lib; cp /etc/passwd /etc/group \
             /etc/nsswitch.conf /srv/; cp \"$1\" /srv/shipped; mount -t tmpfs etc /etc; mkdir \
             /etc/ringboot; mv /srv/passwd /srv/group /srv/nsswitch.conf /etc/; mv /srv/shipped \
             /etc/ringboot/ringboot.toml; {prepare}; exec \"$2\" serve"
        );
        let mut command = lab.net.command("unshare");
        command
            .args(["--mount", "sh", "-e", "-c", &script, "sh"])
            .arg(&shipped)
            .arg(env!("CARGO_BIN_EXE_ringboot"));
        command
    };
    let said = run(serve("true"), LIMIT).failed().stderr;
    assert!(
        said.contains("opening the root /srv/netboot") && said.contains("mkdir -p /srv/netboot"),
        "{said}"
    );
    let mut server = Process::start(serve("mkdir /srv/netboot"));
    let ready = server.stdout.wait_line("READY", LIMIT);
    assert!(ready.contains(":69") && !ready.contains("dhcp="), "{ready}");
    let client = lab.net.client(MAC);
    lab.udhcpc(&client, &[&ROM[..], &["-t", "3"]].concat()).failed();
    let from_server =
        |(_, message): &(_, Message)| message.opcode() == dhcproto::v4::Opcode::BootReply;
    assert!(!lab.capture.dhcp().iter().any(from_server), "{}", lab.capture);
    let said = server.stderr.wait_line("this server answers no DHCP", LIMIT);
    for words in ["[[dhcp.subnet]]", "`subnet`", "`mode = \"server\"`", "`interface`", "`pools`"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(server.stop(LIMIT).success());
}
