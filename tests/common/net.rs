//! Network namespaces: one per test with the server's bridge, and one per client, all gone when
//! dropped.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::process::run;

/// The server's address in every test, as in the classic set-up.
pub const SERVER: &str = "192.168.4.150";
/// The server's IPv6 address in every test.
pub const SERVER_V6: &str = "fd00:4::150";
/// The interface that the server serves.
pub const BRIDGE: &str = "br0";

/// Names of ours are `ringboot-PID-NUMBER`, so that the next run can tell and delete what a killed
/// run left behind.
const PREFIX: &str = "ringboot-";
/// Every `ip` command takes milliseconds; this is for a machine under full load.
const IP_LIMIT: Duration = Duration::from_secs(20);

/// A namespace with `br0` (192.168.4.150/24, fd00:4::150/64), where the server and the virtual
/// machines live.
pub struct Net {
    namespace: String,
    clients: AtomicU32,
}

impl Net {
    pub fn new() -> Self {
        super::need(&[("ip", "iproute2")]);
        let user = std::fs::metadata("/proc/self").map(|of_us| of_us.uid());
        assert!(
            user.is_ok_and(|id| id == 0),
            "this test makes network namespaces: run it as root (tests/run.sh does)"
        );
        delete_stale();
        let net = Self { namespace: unique_name(), clients: AtomicU32::new(0) };
        ip(&["netns", "add", &net.namespace]);
        net.ip(&["link", "set", "lo", "up"]);
        // A fixed address keeps the bridge from changing its own when the first port joins.
        net.ip(&[
            "link",
            "add",
            BRIDGE,
            "address",
            "52:54:00:00:04:96",
            "type",
            "bridge",
            "forward_delay",
            "0",
        ]);
        net.ip(&["link", "set", BRIDGE, "up"]);
        net.ip(&["addr", "add", &format!("{SERVER}/24"), "dev", BRIDGE]);
        net.ip(&["addr", "add", &format!("{SERVER_V6}/64"), "dev", BRIDGE, "nodad"]);
        net.plug(BRIDGE);
        net
    }

    /// Another switch behind the bridge: it has a carrier before the first client comes, as the
    /// segment of a server has.
    fn plug(&self, bridge: &str) {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let (port, end) = (format!("uplink{number}"), format!("switch{number}"));
        self.ip(&["link", "add", &port, "type", "veth", "peer", "name", &end]);
        for one in [&port, &end] {
            self.ip(&["link", "set", one, "addrgenmode", "none"]);
        }
        self.ip(&["link", "set", &end, "up"]);
        self.ip(&["link", "set", &port, "master", bridge, "up"]);
    }

    /// A command that will run in the server's namespace.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        inside(&self.namespace, program.as_ref())
    }

    /// Of the server's namespace.
    pub fn name(&self) -> &str {
        &self.namespace
    }

    /// A tap device on the bridge, for one virtual machine.
    pub fn tap(&self) -> String {
        let tap = format!("tap{}", self.clients.fetch_add(1, Ordering::Relaxed));
        self.ip(&["tuntap", "add", "dev", &tap, "mode", "tap"]);
        self.ip(&["link", "set", &tap, "master", BRIDGE, "up"]);
        tap
    }

    /// One more bridge: a second segment, on which the server has this address.
    pub fn bridge(&self, name: &str, address: &str) {
        self.ip(&["link", "add", name, "type", "bridge", "forward_delay", "0"]);
        self.ip(&["link", "set", name, "up"]);
        self.ip(&["addr", "add", address, "dev", name]);
        self.plug(name);
    }

    /// A namespace of its own for a client, with `eth0` on the bridge and no address yet.
    pub fn client(&self, mac: &str) -> Client {
        self.client_on(BRIDGE, mac)
    }

    /// The same on another bridge.
    pub fn client_on(&self, bridge: &str, mac: &str) -> Client {
        let number = self.clients.fetch_add(1, Ordering::Relaxed);
        let port = format!("port{number}");
        let client =
            Client { namespace: format!("{}-c{number}", self.namespace), port: port.clone() };
        ip(&["netns", "add", &client.namespace]);
        self.ip(&[
            "link",
            "add",
            &port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "address",
            mac,
            "netns",
            &client.namespace,
        ]);
        self.ip(&["link", "set", &port, "master", bridge, "up"]);
        client.ip(&["link", "set", "lo", "up"]);
        client.ip(&["link", "set", "eth0", "up"]);
        client
    }

    /// A client that has addresses already: `192.168.4.HOST` and `fd00:4::HOST`.
    pub fn client_with_address(&self, host: u8) -> Client {
        let client = self.client(&format!("52:54:00:c1:00:{host:02x}"));
        client.ip(&["addr", "add", &format!("192.168.4.{host}/24"), "dev", "eth0"]);
        client.ip(&["addr", "add", &format!("fd00:4::{host}/64"), "dev", "eth0", "nodad"]);
        client
    }

    /// `ip` with these arguments in the server's namespace.
    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.namespace.as_str()], arguments].concat());
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        delete(&self.namespace);
    }
}

/// A client's namespace; delete it before the server's.
pub struct Client {
    namespace: String,
    port: String,
}

impl Client {
    /// A command that will run in the client's namespace.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        inside(&self.namespace, program.as_ref())
    }

    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.namespace.as_str()], arguments].concat());
    }

    /// Its port of the bridge, in the server's namespace.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// Of its namespace, for `ip link set ... netns`.
    pub fn name(&self) -> &str {
        &self.namespace
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        delete(&self.namespace);
    }
}

fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn inside(namespace: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

fn ip(arguments: &[&str]) -> String {
    let mut command = Command::new("ip");
    command.args(arguments);
    run(command, IP_LIMIT).ok().stdout
}

/// Ends what still runs inside, then removes the name; errors do not matter, the next run tries
/// again.
fn delete(namespace: &str) {
    let pids = Command::new("ip").args(["netns", "pids", namespace]).output();
    for pid in pids
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
        .lines()
    {
        let _ = Command::new("sh").arg("-c").arg(format!("kill -KILL {pid}")).output();
    }
    let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
}

/// Namespaces of ours whose test process has gone.
fn delete_stale() {
    let Ok(names) = std::fs::read_dir("/run/netns") else { return };
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            delete(&name);
        }
    }
}
