//! The server under test: `ringboot serve` in a test's namespace, from READY to its exit code.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Scratch;
use super::net::{BRIDGE, Client, Net, SERVER};
use super::process::Process;

const BINARY: &str = env!("CARGO_BIN_EXE_ringboot");
/// From start to READY, on a machine whose cores are busy.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// From SIGTERM to exit.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running server; killed when dropped without `stop`.
pub struct Server {
    process: Process,
}

impl Server {
    /// Writes the configuration beside the root and serves it; returns when every socket answers.
    pub fn start(net: &Net, scratch: &Scratch, configuration: &str) -> Self {
        Self::start_in(net, scratch, configuration, &[])
    }

    /// The same with these environment variables.
    pub fn start_in(
        net: &Net,
        scratch: &Scratch,
        configuration: &str,
        environment: &[(&str, String)],
    ) -> Self {
        Self::start_by(net.command(BINARY), scratch, configuration, environment)
    }

    /// The same on another host of the segment.
    pub fn start_on(host: &Client, scratch: &Scratch, configuration: &str) -> Self {
        Self::start_by(host.command(BINARY), scratch, configuration, &[])
    }

    /// The same, as if the host had been started anew: its kernel tells another boot.
    pub fn start_after_boot(
        net: &Net,
        scratch: &Scratch,
        configuration: &str,
        environment: &[(&str, String)],
        boot: &str,
    ) -> Self {
        let id = scratch.path().join("boot-id");
        std::fs::write(&id, boot).expect("the name of a boot");
        let mut command = net.command("sh");
        // `ip netns exec` has a mount namespace of its own.
        let mounted =
            "mount --bind \"$BOOT_ID\" /proc/sys/kernel/random/boot_id && exec \"$0\" \"$@\"";
        command.args(["-c", mounted, BINARY]).env("BOOT_ID", id);
        Self::start_by(command, scratch, configuration, environment)
    }

    fn start_by(
        mut command: Command,
        scratch: &Scratch,
        configuration: &str,
        environment: &[(&str, String)],
    ) -> Self {
        let file = scratch.path().join("ringboot.toml");
        std::fs::write(&file, configuration).expect("the configuration file");
        command.args(["serve", "--config"]).arg(&file);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        let server = Self { process: Process::start(command) };
        server.wait_ready();
        server
    }

    /// Serves a directory over TFTP and HTTP without configuration and without DHCP.
    pub fn start_root(net: &Net, root: &Path) -> Self {
        let mut command = net.command(BINARY);
        command.args(["serve", "--root"]).arg(root);
        let server = Self { process: Process::start(command) };
        server.wait_ready();
        server
    }

    /// All that it logged.
    pub fn log(&self) -> String {
        self.process.stderr.text()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for a line of its log; fails the test where none comes.
    pub fn log_line(&self, words: &str, limit: Duration) -> String {
        self.process.stderr.wait_line(words, limit)
    }

    /// Waits until that many lines of its log hold these words.
    pub fn log_lines(&self, words: &str, count: usize, limit: Duration) {
        let enough = |text: &String| {
            (text.lines().filter(|line| line.contains(words)).count() >= count).then_some(())
        };
        let waited = self.process.stderr.wait_for(limit, enough);
        assert!(waited.is_ok(), "{waited:?}: {count} lines with {words:?} in:\n{}", self.log());
    }

    /// What it said on standard output when every socket answered.
    pub fn ready_line(&self) -> String {
        self.process.stdout.wait_line("READY", READY_LIMIT)
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.process.signal("KILL");
        self.process.wait(STOP_LIMIT).expect("the end of a killed process");
    }

    /// SIGTERM; fails the test unless the server drains and exits with 0.
    pub fn stop(mut self) {
        let status = self.process.stop(STOP_LIMIT);
        assert!(status.success(), "{status} after SIGTERM:\n{}", self.log());
    }

    fn wait_ready(&self) {
        let ready =
            |text: &String| text.lines().any(|line| line.starts_with("READY")).then_some(());
        if let Err(missing) = self.process.stdout.wait_for(READY_LIMIT, ready) {
            panic!(
                "{missing:?}: no READY line from the server:\n{}{}",
                self.process.stdout.text(),
                self.log()
            );
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the end of the server's log:\n{}", self.process.stderr.tail(60));
        }
    }
}

/// The directory that is served.
pub fn root(scratch: &Scratch) -> PathBuf {
    let root = scratch.path().join("root");
    std::fs::create_dir_all(&root).expect("a root directory");
    root
}

/// The classic set-up's network as a configuration. It ends inside the subnet's table: what a test
/// appends is more keys of that subnet, then tables of its own.
pub fn configuration(scratch: &Scratch) -> String {
    format!(
        r#"root = "{root}"
state = "{state}"

[server]
interfaces = ["{BRIDGE}"]
admin-socket = "admin.sock"
user = "root"

[[dhcp.subnet]]
subnet = "192.168.4.0/24"
interface = "{BRIDGE}"
mode = "server"
pools = ["192.168.4.10-192.168.4.100"]
routers = ["192.168.4.1"]
domain-name = "example.test"
domain-name-servers = ["{SERVER}"]
default-lease-time = 600
max-lease-time = 7200
"#,
        root = root(scratch).display(),
        state = scratch.path().join("state").display(),
    )
}
