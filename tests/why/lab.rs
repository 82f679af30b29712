//! Causes that take a network of their own: another DHCP server on it, an interface that is not
//! there, limits of an address.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use ringboot::model::machine::Mac;
use ringboot::observe::cause::StopCause;

use super::common::net::{Client, Net, SERVER};
use super::common::process::{Process, run};
use super::common::server::{self, Server};
use super::common::wire::{Dhcp, Wire};
use super::common::{Scratch, inside, need};
use super::expected::tells;
use super::{LIMIT, until};

const MACHINE: Mac = Mac([0x52, 0x54, 0, 0xc1, 0x1e, 0x05]);
const BEHIND: Mac = Mac([0x52, 0x54, 0, 0xc1, 0x1e, 0x06]);
const LOOKING: Mac = Mac([0x52, 0x54, 0, 0xc1, 0x1e, 0x07]);
const OTHER: &str = "192.168.4.2";

fn asked(net: &Net, scratch: &Scratch, arguments: &[&str]) -> String {
    let mut command: Command = net.command(env!("CARGO_BIN_EXE_ringboot"));
    command.args(arguments).arg("--config").arg(scratch.path().join("ringboot.toml"));
    run(command, LIMIT).stdout
}

/// A dnsmasq that leaves our machines alone: nobody answers them.
fn dnsmasq(net: &Net, scratch: &Scratch) -> (Client, Process) {
    need(&[("dnsmasq", "dnsmasq-base")]);
    let host = net.client("52:54:00:c1:1e:02");
    host.ip(&["addr", "add", &format!("{OTHER}/24"), "dev", "eth0"]);
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
    command.args([MACHINE, BEHIND, LOOKING].map(|mac| format!("--dhcp-host={mac},ignore")));
    let dnsmasq = Process::start(command);
    dnsmasq.stderr.wait_line("DHCP, IP range", LIMIT);
    (host, dnsmasq)
}

#[test]
fn beside_another_server_its_age_is_told_and_a_reload_looks_again() {
    let (scratch, net) = (Scratch::new("why-lab"), Net::new());
    let (_host, mut other) = dnsmasq(&net, &scratch);
    let beyond = "clients = \"any\"\n[[dhcp.subnet]]\nsubnet = \"192.168.7.0/24\"\ninterface = \
                  \"br7\"\nrelay = true\n\
                  mode = \"server\"\npools = [\"192.168.7.10-192.168.7.20\"]\n[log]\nlevel = \
                  \"debug\"\n";
    let configuration =
        server::configuration(&scratch).replace("[\"br0\"]", "[\"br0\", \"br7\"]") + beyond;
    let server = Server::start(&net, &scratch, &configuration);
    let silent = server.log_line("ringboot is silent on 192.168.4.0/24", LIMIT);
    assert!(silent.contains(" WARN ") && silent.contains(" answered on br0: "), "{silent}");
    let client = net.client("52:54:00:c1:1e:08");
    let wire = Wire::open(client.name(), "eth0");
    let why =
        |mac: Mac, words: &str| until(words, || asked(&net, &scratch, &["why", &mac.to_string()]));

    assert!(wire.say(&Dhcp::discover(MACHINE, 1)));
    let said = why(MACHINE, "was not answered");
    tells(
        &said,
        StopCause::OtherServer,
        &[
            &format!("the DHCP server {OTHER} (52:54:00:c1:1e:02)"),
            "ringboot.toml:",
            "Now: it answered ",
        ],
    );
    for command in ["look", "status", "check"] {
        let said = asked(&net, &scratch, &[command]);
        assert!(said.contains(" s ago, and is asked "), "{command} tells no age:\n{said}");
    }
    // A relay agent brings a message of a subnet whose own interface is not there.
    let mut relayed = Dhcp::discover(BEHIND, 2);
    relayed.giaddr = Ipv4Addr::new(192, 168, 7, 1);
    let (from, to) = (
        SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 9), 67),
        SocketAddrV4::new(SERVER.parse().unwrap(), 67),
    );
    let bridge = Mac([0x52, 0x54, 0, 0, 4, 0x96]);
    assert!(wire.send(&relayed.frame_from(from, bridge, to)));
    tells(&why(BEHIND, "was not answered"), StopCause::NoInterface, &["192.168.7.0/24 ("]);

    // It is switched off: an operator's reload looks at once, not in a minute.
    other.stop(LIMIT);
    let begun = Instant::now();
    let reload = asked(&net, &scratch, &["reload"]);
    let deadline = Instant::now() + LIMIT;
    let said = loop {
        assert!(wire.say(&Dhcp::discover(LOOKING, 3)));
        let said = asked(&net, &scratch, &["why", &LOOKING.to_string()]);
        if said.contains("looking for other") || Instant::now() > deadline {
            break said;
        }
    };
    tells(&said, StopCause::Looking, &[]);
    server.log_line("no other DHCP server answers on br0", LIMIT);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?} after {reload}", begun.elapsed());
    let said = asked(&net, &scratch, &["look"]);
    assert!(said.contains("no other DHCP server answers on br0 (last look "), "{said}");
    let again = asked(&net, &scratch, &["look", "--again"]);
    assert!(again.contains("(last look ") && !again.contains("are looked for"), "{again}");
    super::table::every_line_is_in_the_docs(&server.log());
    server.stop();
}

#[test]
fn a_request_beyond_the_limit_of_its_address_waits_and_is_told_so() {
    let (scratch, net) = (Scratch::new("why-turn"), Net::new());
    let root = server::root(&scratch);
    std::fs::write(root.join("first"), vec![1; 5000]).unwrap();
    std::fs::write(root.join("second"), vec![2; 5000]).unwrap();
    let text = format!(
        "root = \"{}\"\nstate = \"state\"\n[server]\nadmin-socket = \"admin.sock\"\nuser = \
         \"root\"\n[tftp]\nper-source = 1\n",
        root.display()
    );
    let server = Server::start(&net, &scratch, &text);
    let client = net.client_with_address(9);
    let ask = |name: &'static str| {
        inside::run(client.name(), move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(format!("\0\x01{name}\0octet\0").as_bytes(), (SERVER, 69)).unwrap();
            socket
        })
    };
    let why = |words: &str| until(words, || asked(&net, &scratch, &["why", "192.168.4.9"]));
    let _first = ask("first");
    assert!(why("is loading first").contains("It is loading first by TFTP, block 1 of 10"));
    let _second = ask("second");
    let waits = why("waits for its turn");
    tells(&waits, StopCause::WaitsForItsTurn, &["It has requested second"]);
    server.stop();
}
