//! Addresses from real servers in network namespaces: each machine gets its own, and all are given
//! back, on Ctrl-C as well.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/common"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod common {
    pub mod net;
    pub mod process;
    pub mod watched;

    pub use process::need;
}

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::net::{BRIDGE, Client, Net, SERVER};
use common::process::Process;
use serde_json::Value;

/// Of anything that takes milliseconds, on a machine whose cores are busy.
const LIMIT: Duration = Duration::from_secs(60);
const MACHINES: usize = 50;

/// The machines' side: an interface on the server's network.
struct Lab {
    // Before the server's namespace.
    client: Client,
    net: Net,
    scratch: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let net = Net::new();
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::write(
            scratch.path().join("dora.toml"),
            "about = \"leases\"\n[[machine]]\nsteps = [{ dhcp = true }]\n",
        )
        .unwrap();
        Self { client: net.client_with_address(9), net, scratch }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Returns once the server says these words.
    fn serve(&self, command: Command, words: &str) -> Process {
        let server = Process::start(command);
        let ready = |text: &String| text.contains(words).then_some(());
        let (told, printed) = (server.stderr.wait_for(LIMIT, ready), server.stdout.text());
        assert!(told.is_ok() || printed.contains(words), "{}{printed}", server.stderr.text());
        server
    }

    fn dnsmasq(&self) -> Process {
        common::need(&[("dnsmasq", "dnsmasq-base")]);
        let mut command = self.net.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--log-facility=-",
            "--conf-file=/dev/null",
            "--pid-file",
            "--port=0",
        ]);
        command.args([
            "--user=root",
            "--no-ping",
            "--dhcp-authoritative",
            "--interface",
            BRIDGE,
            "--bind-interfaces",
        ]);
        command.args([
            "--dhcp-lease-max=1000",
            "--dhcp-range=192.168.4.20,192.168.4.250,255.255.255.0,1h",
        ]);
        command.arg(format!("--dhcp-leasefile={}", self.file("leases").display()));
        self.serve(command, "DHCP, IP range")
    }

    fn loadtest(&self, arguments: &[&str]) -> Command {
        let mut command = self.client.command(env!("CARGO_BIN_EXE_loadtest"));
        command.args(["--server", SERVER, "--dhcp", "--scenario"]).arg(self.file("dora.toml"));
        command.args(["--json".as_ref(), self.file("report.json").as_path()]).args(arguments);
        command
    }

    /// Runs so many machines to the end; the report.
    fn load(&self, arguments: &[&str]) -> Value {
        let mut load =
            Process::start(self.loadtest(&[&["--clients", "50", "--yes"], arguments].concat()));
        let status = load.wait(LIMIT).unwrap_or_else(|| panic!("{}", load.stderr.text()));
        assert_eq!(status.code(), Some(0), "{}{}", load.stdout.text(), load.stderr.text());
        serde_json::from_str(&fs::read_to_string(self.file("report.json")).unwrap()).unwrap()
    }
}

/// Addresses that dnsmasq's log has after these words.
fn addresses(dnsmasq: &Process, words: &str) -> HashSet<String> {
    let text = dnsmasq.stderr.text();
    let rest = |line: &str| Some(line.split_once(words)?.1.split_whitespace().next()?.to_owned());
    text.lines().filter_map(rest).collect()
}

fn wait_until_given_back(dnsmasq: &Process, count: usize, leases: &Path) {
    let all = |text: &String| (text.matches("DHCPRELEASE(").count() >= count).then_some(());
    assert!(dnsmasq.stderr.wait_for(LIMIT, all).is_ok(), "{}", dnsmasq.stderr.text());
    let given = addresses(dnsmasq, "DHCPACK(br0) ");
    assert_eq!(given, addresses(dnsmasq, "DHCPRELEASE(br0) "));
    assert!(!dnsmasq.stderr.text().contains("unknown lease"), "{}", dnsmasq.stderr.text());
    // The lines come before the file: a question that is answered comes after it.
    let kept = fs::read_to_string(leases).unwrap();
    assert!(kept.lines().count() <= 1, "{kept}");
}

#[test]
fn machines_on_the_wire_have_addresses_of_their_own_and_give_all_back() {
    let lab = Lab::new();
    let dnsmasq = lab.dnsmasq();
    for _ in 0..2 {
        let report = lab.load(&["--interface", "eth0"]);
        let summary = &report["summary"];
        assert_eq!(
            (&summary["booted"], &summary["released"]),
            (&MACHINES.into(), &MACHINES.into())
        );
        assert_eq!(report["stages"]["dhcp"]["count"], MACHINES);
    }
    assert_eq!(
        addresses(&dnsmasq, "DHCPACK(br0) ").len(),
        MACHINES,
        "the same machines, the same addresses"
    );
    wait_until_given_back(&dnsmasq, 2 * MACHINES, &lab.file("leases"));
}

#[test]
fn machines_behind_a_relay_agent_of_this_host_do_the_same() {
    let lab = Lab::new();
    let dnsmasq = lab.dnsmasq();
    let report = lab.load(&["--relay", "192.168.4.9:67"]);
    assert_eq!(report["summary"]["released"], MACHINES);
    wait_until_given_back(&dnsmasq, MACHINES, &lab.file("leases"));
}

#[test]
fn ctrl_c_gives_back_what_machines_have_by_then() {
    let lab = Lab::new();
    let dnsmasq = lab.dnsmasq();
    for (signal, arguments) in
        [("INT", ["--interface", "eth0"]), ("TERM", ["--relay", "192.168.4.9:67"])]
    {
        let before = dnsmasq.stderr.text().matches("DHCPACK(").count();
        let slowly = ["--clients", "200", "--arrival", "ramp:100s", "--yes", "--quiet"];
        let mut load = Process::start(lab.loadtest(&[&slowly[..], &arguments].concat()));
        let some = |text: &String| (text.matches("DHCPACK(").count() >= before + 5).then_some(());
        assert!(dnsmasq.stderr.wait_for(LIMIT, some).is_ok(), "{}", load.stderr.text());
        load.signal(signal);
        let status = load.wait(LIMIT).unwrap();
        assert_eq!(status.code(), Some(130), "{}", load.stderr.text());
        // What was measured until then is not thrown away.
        let report: Value =
            serde_json::from_str(&fs::read_to_string(lab.file("report.json")).unwrap()).unwrap();
        let summary = &report["summary"];
        assert_eq!(summary["interrupted"], true, "{summary}");
        // The last answer may still have been on its way.
        assert!(summary["booted"].as_u64() >= Some(4) && summary["failed"] == 0, "{summary}");
        assert_eq!(report["stages"]["dhcp"]["count"], summary["booted"], "{report}");
        wait_until_given_back(&dnsmasq, before + 5, &lab.file("leases"));
    }
}

#[test]
fn a_server_off_loopback_is_loaded_only_with_yes() {
    let lab = Lab::new();
    let mut load =
        Process::start(lab.loadtest(&["--clients", "100", "--interface", "eth0", "--quiet"]));
    assert_eq!(load.wait(LIMIT).unwrap().code(), Some(2));
    let said = load.stderr.text();
    assert!(
        said.contains("100, by broadcast on eth0") && said.contains("39.4 % of the 254"),
        "{said}"
    );
    assert!(said.contains("add --yes"), "{said}");
}

#[test]
fn an_address_of_another_network_fails_its_machine_and_is_given_back() {
    let lab = Lab::new();
    let dnsmasq = lab.dnsmasq();
    lab.client.ip(&["addr", "flush", "dev", "eth0"]);
    lab.client.ip(&["addr", "add", "192.168.5.9/24", "dev", "eth0"]);
    let mut load =
        Process::start(lab.loadtest(&["--clients", "5", "--yes", "--interface", "eth0"]));
    assert_eq!(load.wait(LIMIT).unwrap().code(), Some(1));
    let report: Value =
        serde_json::from_str(&fs::read_to_string(lab.file("report.json")).unwrap()).unwrap();
    assert_eq!(report["failures"][0]["cause"], "DHCP: an address of another network");
    assert_eq!(
        (&report["failures"][0]["machines"], &report["summary"]["released"]),
        (&5.into(), &5.into())
    );
    wait_until_given_back(&dnsmasq, 5, &lab.file("leases"));
}
