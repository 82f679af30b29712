//! A server whose state is on a small disk of its own and whose clock can be turned, with a witness
//! on its wire.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::common::Scratch;
use super::common::honest::Honest;
use super::common::net::{BRIDGE, Net};
use super::common::process::{Process, run};
use super::common::server;
use super::common::witness::Witness;

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// What one step of an honest machine may take in all, with everything that is done to the server.
const PATIENCE: Duration = Duration::from_secs(60);
/// Room of the disk with the state: for the history at its largest (32 MiB) and the leases, and
/// soon filled.
const DISK: &str = "size=96m,mode=0700";

pub(crate) struct Site {
    // Namespaces of clients go before the server's.
    pub honest: Honest,
    pub witness: Witness,
    process: Option<Process>,
    holder: Process,
    pub net: Net,
    pub scratch: Scratch,
    /// Logs of servers that have ended.
    past: String,
    /// Further keys of the subnet.
    lines: &'static str,
}

impl Site {
    pub(crate) fn new(
        datapath: &str,
        lines: &'static str,
        patient: impl FnOnce(Honest) -> Honest,
    ) -> Self {
        super::common::need(&[
            ("nsenter", "util-linux"),
            ("unshare", "util-linux"),
            ("faketime", "faketime"),
        ]);
        let scratch = Scratch::new(&format!("attack-{datapath}"));
        let net = Net::new();
        let root = server::root(&scratch);
        Honest::lay_out(&root);
        super::blows::lay_out(&root);
        fs::create_dir_all(scratch.path().join("state")).unwrap();
        fs::write(scratch.path().join("clock"), "+0").unwrap();
        let boot_id = scratch.path().join("boot-id");
        fs::write(&boot_id, "boot-0").unwrap();
        let mount = format!(
            "mount -t tmpfs -o {DISK} tmpfs {} && mount --bind {} /proc/sys/kernel/random/boot_id \
             && echo mounted && exec sleep 36000",
            state(&scratch).display(),
            boot_id.display()
        );
        let mut holding = Command::new("unshare");
        holding.args(["--mount", "--propagation", "private", "sh", "-c", &mount]);
        let holder = Process::start(holding);
        holder.stdout.wait_line("mounted", READY_LIMIT);
        let honest = patient(Honest::new(&net).stubborn(PATIENCE));
        let witness = Witness::open(net.name(), BRIDGE);
        let mut site = Self {
            honest,
            witness,
            process: None,
            holder,
            net,
            scratch,
            past: String::new(),
            lines,
        };
        site.configure(datapath, 600);
        site.start();
        site
    }

    /// Writes the configuration with this lease time.
    pub(crate) fn configure(&self, datapath: &str, lease_s: u32) {
        let text = server::configuration(&self.scratch)
            .replace("[server]\n", "[server]\nworkers = 1\n")
            .replace("default-lease-time = 600", &format!("default-lease-time = {lease_s}"));
        let text = format!(
            "{text}clients = \"any\"\n{}\n[tuning]\ndatapath = \"{datapath}\"\nimage-memory = \
             67108864\n",
            self.lines
        );
        fs::write(self.configuration(), text).unwrap();
    }

    fn configuration(&self) -> PathBuf {
        self.scratch.path().join("ringboot.toml")
    }

    /// Starts the server, inside the holder's view of the disk, and waits until it is ready.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.pid()));
        command.args([
            "ip",
            "netns",
            "exec",
            self.net.name(),
            env!("CARGO_BIN_EXE_ringboot"),
            "serve",
            "--config",
        ]);
        command.arg(self.configuration());
        command
            .env("LD_PRELOAD", libfaketime())
            .env("FAKETIME_TIMESTAMP_FILE", self.scratch.path().join("clock"));
        command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // The times of files stay the kernel's: some calls for them would be faked, and some not.
        command.env("NO_FAKE_STAT", "1");
        let process = Process::start(command);
        let ready =
            |text: &String| text.lines().any(|line| line.starts_with("READY")).then_some(());
        let waited = process.stdout.wait_for(READY_LIMIT, ready);
        assert!(
            waited.is_ok(),
            "{waited:?}: no READY line:\n{}{}",
            process.stdout.text(),
            process.stderr.text()
        );
        self.process = Some(process);
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("a server that was started")
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal("KILL");
        process.wait(STOP_LIMIT).expect("the end of a killed process");
        self.past.push_str(&process.stderr.text());
    }

    /// SIGTERM, to the end.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let status = process.stop(STOP_LIMIT);
        assert!(status.success(), "{status} after SIGTERM:\n{}", process.stderr.text());
        self.past.push_str(&process.stderr.text());
    }

    /// SIGTERM, and kill -9 where the server has not ended by then.
    pub(crate) fn stop_or_kill(&mut self, patience: Duration) {
        let Some(process) = &mut self.process else { return };
        process.signal("TERM");
        let Some(status) = process.wait(patience) else { return self.kill() };
        assert!(status.success(), "{status} after SIGTERM:\n{}", process.stderr.text());
        self.past.push_str(&process.stderr.text());
        self.process = None;
    }

    /// The last lines of all servers' logs.
    pub(crate) fn log(&self) -> String {
        let now = self.process.as_ref().map(|process| process.stderr.text()).unwrap_or_default();
        let all: Vec<&str> = self.past.lines().chain(now.lines()).collect();
        all[all.len().saturating_sub(60)..].join("\n")
    }

    /// Turns the server's wall clock: `+3600` is an hour ahead.
    pub(crate) fn turn_clock(&self, seconds: i64) {
        let (next, clock) =
            (self.scratch.path().join("clock-next"), self.scratch.path().join("clock"));
        fs::write(&next, format!("{seconds:+}")).unwrap();
        fs::rename(next, clock).unwrap();
    }

    /// The next server runs on a host that was started anew, by what its kernel says.
    pub(crate) fn boot(&self, name: &str) {
        fs::write(self.scratch.path().join("boot-id"), name).unwrap();
    }

    /// The state's disk as the server sees it.
    pub(crate) fn disk(&self) -> PathBuf {
        let state = state(&self.scratch);
        Path::new("/proc")
            .join(self.holder.pid().to_string())
            .join("root")
            .join(state.strip_prefix("/").unwrap())
    }

    /// TFTP transfers that the server has not ended.
    pub(crate) fn transfers(&self) -> u64 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
        command.args(["status", "--json", "--config"]).arg(self.configuration());
        let status: Value = serde_json::from_str(&run(command, STOP_LIMIT).ok().stdout).unwrap();
        let cores = status["cores"].as_array().unwrap().iter();
        cores.map(|core| core["tftp"]["transfers"].as_u64().expect("a number")).sum()
    }

    /// Open descriptors and resident megabytes of the server.
    pub(crate) fn resources(&self) -> (usize, u64) {
        let of_process = Path::new("/proc").join(self.process().pid().to_string());
        let descriptors =
            fs::read_dir(of_process.join("fd")).map(Iterator::count).unwrap_or_default();
        let status = fs::read_to_string(of_process.join("status")).unwrap_or_default();
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes =
            anonymous.and_then(|words| words.split_whitespace().next()?.parse::<u64>().ok());
        (descriptors, kilobytes.unwrap_or_default() / 1024)
    }
}

fn state(scratch: &Scratch) -> PathBuf {
    scratch.path().join("state")
}

fn libfaketime() -> PathBuf {
    let multiarch =
        format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(
        Path::new(&multiarch).exists(),
        "{multiarch} is missing: install the Debian package faketime"
    );
    multiarch.into()
}
