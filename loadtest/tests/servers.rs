//! Small loads run to their end against the servers that people boot racks with, dnsmasq and nginx,
//! and against ringboot.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/common"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod common {
    pub mod net;
    pub mod process;
    pub mod root;
    pub mod watched;

    pub use process::need;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::net::Net;
use common::process::{Process, run};
use common::root::pattern_file;
use serde_json::Value;

const MACHINES: u32 = 40;
/// What each fetches: the first by TFTP, the others by HTTP.
const FILES: [(&str, usize); 3] =
    [("pxelinux.0", 42_430), ("vmlinuz", 2_000_001), ("initrd.img", 5_000_000)];
const TFTP: &str = "127.0.0.1:69";
const HTTP: &str = "127.0.0.1:80";
/// Of a run of seconds, on a machine whose cores are busy.
const LIMIT: Duration = Duration::from_secs(120);

/// A namespace with the files that its servers offer.
struct Lab {
    net: Net,
    scratch: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for (name, octets) in FILES {
            pattern_file(&scratch.path().join("root").join(name), octets);
        }
        Self { net: Net::new(), scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn dnsmasq(&self) -> Process {
        common::need(&[("dnsmasq", "dnsmasq-base")]);
        let mut command = self.net.command("dnsmasq");
        command.args([
            "--conf-file=/dev/null",
            "--keep-in-foreground",
            "--log-facility=-",
            "--port=0",
            "--user=root",
        ]);
        command.arg("--enable-tftp").arg(format!("--tftp-root={}", self.path("root").display()));
        let server = Process::start(command);
        server.stderr.wait_line("TFTP root is", LIMIT);
        server
    }

    /// It says nothing when it listens: its process file is written then.
    fn nginx(&self) -> Process {
        let (here, root) = (self.scratch.path().display(), self.path("root"));
        let configuration = format!(
            "daemon off; master_process off; user root; pid {here}/nginx.pid; error_log stderr;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; client_body_temp_path {here}/1; proxy_temp_path \
             {here}/2;\n\
             fastcgi_temp_path {here}/3; uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;\n\
             server {{ listen {HTTP}; root {}; }} }}\n",
            root.display()
        );
        fs::write(self.path("nginx.conf"), configuration).unwrap();
        let mut command = self.net.command(nginx());
        command
            .args(["-e", "stderr", "-p"])
            .arg(self.scratch.path())
            .arg("-c")
            .arg(self.path("nginx.conf"));
        let server = Process::start(command);
        self.wait_port(80);
        server
    }

    fn ringboot(&self) -> Process {
        let mut command =
            self.net.command(Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("ringboot"));
        command.args(["serve", "--root"]).arg(self.path("root"));
        let server = Process::start(command);
        server.stdout.wait_line("READY", LIMIT);
        server
    }

    /// Returns when somebody listens there.
    fn wait_port(&self, port: u16) {
        let script = format!("until exec 3<>/dev/tcp/127.0.0.1/{port}; do :; done 2>/dev/null");
        let mut command = self.net.command("bash");
        command.args(["-c", &script]);
        run(command, LIMIT).ok();
    }

    fn loadtest(&self, arguments: &[&str]) -> Value {
        let mut command = self.net.command(env!("CARGO_BIN_EXE_loadtest"));
        command
            .args(["--quiet", "--clients", &MACHINES.to_string(), "--json"])
            .arg(self.path("report.json"));
        command.args(arguments);
        run(command, LIMIT).ok();
        serde_json::from_str(&fs::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }

    /// All machines fetch all files, and every octet is right.
    fn assert_all_fetch(&self) {
        let names = FILES.map(|(name, _)| name).join(",");
        let root = self.path("root");
        let here = [
            "--server",
            "127.0.0.1",
            "--tftp",
            TFTP,
            "--http",
            HTTP,
            "--no-dhcp",
            "--files",
            &names,
        ];
        let report =
            self.loadtest(&[&here[..], &["--verify-root", root.to_str().unwrap()]].concat());
        assert_whole(&report);
        let octets: usize = FILES.iter().map(|(_, octets)| octets).sum();
        assert!(
            report["summary"]["bytes"].as_u64() >= Some(u64::from(MACHINES) * octets as u64),
            "{}",
            report["summary"]
        );
    }
}

#[track_caller]
fn assert_whole(report: &Value) {
    let summary = &report["summary"];
    assert_eq!(
        (&summary["booted"], &summary["failed"]),
        (&MACHINES.into(), &0.into()),
        "{}",
        report["failures"]
    );
    assert_eq!(summary["checked"], true);
}

/// Where it is installed, else where tests/run.sh has unpacked it.
fn nginx() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/root/usr/sbin/nginx");
    let found =
        [PathBuf::from("/usr/sbin/nginx"), unpacked].into_iter().find(|path| path.is_file());
    found.expect("nginx is missing: run tests/run.sh, which unpacks it under target/peers")
}

#[test]
fn a_rack_fetches_from_dnsmasq_and_nginx() {
    let lab = Lab::new();
    let _servers = [lab.dnsmasq(), lab.nginx()];
    lab.assert_all_fetch();
}

#[test]
fn a_rack_fetches_from_ringboot() {
    let lab = Lab::new();
    let _server = lab.ringboot();
    lab.assert_all_fetch();
}

#[test]
fn a_server_is_reached_over_ipv6_and_by_its_name() {
    let lab = Lab::new();
    let mut command =
        lab.net.command(Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("ringboot"));
    command.args(["serve", "--root"]).arg(lab.path("root"));
    command.args(["--tftp", "[::1]:69", "--tftp", TFTP, "--http", "[::1]:80", "--http", HTTP]);
    let server = Process::start(command);
    server.stdout.wait_line("READY", LIMIT);
    let (names, root) = (FILES.map(|(name, _)| name).join(","), lab.path("root"));
    for (name, shown, sources) in
        [("::1", "::1", 1), ("[::1]", "::1", 1), ("localhost", "localhost (127.0.0.1)", MACHINES)]
    {
        let words = [
            "--server",
            name,
            "--no-dhcp",
            "--files",
            &names,
            "--verify-root",
            root.to_str().unwrap(),
        ];
        let report = lab.loadtest(&words);
        assert_whole(&report);
        assert_eq!(report["run"]["server"], shown);
        assert_eq!(report["summary"]["sources"], sources, "{name}");
    }
    for (words, why) in [
        (
            &["--server", "::1", "--dhcp", "--relay", "127.77.0.2:0"][..],
            "name the server by its IPv4 address instead of ::1",
        ),
        (
            &["--server", "nosuch.invalid", "--no-dhcp", "--files", "a"],
            "nosuch.invalid is neither an address nor a known host name",
        ),
        (&["--server", "::1", "--tftp", "::1", "--no-dhcp", "--files", "a"], "has no port"),
        (
            &["--server", "::1", "--source-addresses", "10.9.0.0/24", "--no-dhcp", "--files", "a"],
            "needs IPv4",
        ),
    ] {
        let mut command = lab.net.command(env!("CARGO_BIN_EXE_loadtest"));
        let output = command.args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(why), "{output:?}");
    }
}

#[test]
fn a_rack_boots_from_a_private_ringboot() {
    let lab = Lab::new();
    let report = lab.loadtest(&["--kernel-mib", "1", "--initrd-mib", "3"]);
    assert_whole(&report);
    assert_eq!(report["run"]["server"], "private");
}
