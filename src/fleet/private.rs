//! A whole server for one run on this machine: scratch directory, images, configuration, a child
//! process; all gone afterwards.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::arrival::Arrival;
use super::content::{Content, Contents};
use super::limits::{READY_WAIT, START_TRIES_MAX};
use super::models::Model;
use super::net::lessor::{Lessor, Way};
use super::net::wire::Wire;
use super::pace::Pace;
use super::plan::{Plan, Servers};
use super::scenario::Role;
use ringboot_io::engine::orphan::die_with_parent;
use ringboot_protocol::boot::pe;

/// Sizes of the images that a private server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Octets.
    pub kernel: u64,
    /// Octets.
    pub initrd: u64,
}

/// A line of a private server's configuration beside those that it needs: `tuning.spin-us=20` on a
/// command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// One of [`TABLES`].
    pub table: String,
    pub key: String,
    /// As it is written in the file; whether it is right is for the server to say.
    pub value: String,
}

/// The tables that settings may be of.
const TABLES: [&str; 5] = ["server", "tftp", "http", "log", "tuning"];

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('=').and_then(|(name, value)| Some((name.split_once('.')?, value)));
        let Some(((table, key), value)) = parts.filter(|((table, _), _)| TABLES.contains(table))
        else {
            return Err(format!(
                "{text:?} is not TABLE.KEY=VALUE with a table of {}",
                TABLES.join(", ")
            ));
        };
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '-';
        if key.is_empty() || !key.chars().all(plain) || value.contains('\n') {
            return Err(format!("{text:?} is not one line of a configuration"));
        }
        Ok(Self { table: table.to_owned(), key: key.to_owned(), value: value.to_owned() })
    }
}

/// Label of the one menu entry.
const ENTRY: &str = "demo";

/// The first relay agent's address; the pool of the same subnet begins far above any rack.
const RELAY: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);

/// All firmware models that the private server has loaders for.
const MODELS: [Model; 3] = [Model::BiosPxelinux, Model::UefiPxe, Model::BiosIpxe];

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum NoServer {
    #[error("cannot make the scratch directory {path}: {error}")]
    Scratch { path: PathBuf, error: io::Error },
    #[error("cannot start {program}: {error}")]
    Program { program: PathBuf, error: io::Error },
    #[error("no free port on 127.0.0.1: {0}")]
    Ports(io::Error),
    #[error("the server did not become ready; the end of its log:\n{0}")]
    NotReady(String),
}

/// A server with its images and its state, on ports of its own. Dropping it ends the process and
/// removes everything.
#[derive(Debug)]
pub struct PrivateServer {
    // Before the directory: the process goes first.
    child: Option<Running>,
    program: PathBuf,
    scratch: Scratch,
    contents: Contents,
    servers: Servers,
    settings: Vec<Setting>,
    /// Processor time of incarnations that have ended.
    spent: Duration,
    /// Names of loaders that are real ones, found on this machine.
    real_loaders: Vec<&'static str>,
}

impl PrivateServer {
    /// Makes the images and starts `program serve`, with these files beside its own; returns when
    /// it says that it is ready.
    pub fn start(
        program: &Path,
        images: Images,
        files: &Contents,
        seed: u64,
    ) -> Result<Self, NoServer> {
        Self::start_with(program, images, files, seed, &[])
    }

    /// The same with these lines in its configuration.
    pub fn start_with(
        program: &Path,
        images: Images,
        files: &Contents,
        seed: u64,
        settings: &[Setting],
    ) -> Result<Self, NoServer> {
        let scratch = Scratch::make()?;
        let (mut contents, real_loaders) = images.contents(seed);
        for (name, content) in files.iter() {
            contents.insert(name, content.clone());
        }
        let unwritable = |error| NoServer::Scratch { path: scratch.path.clone(), error };
        contents.write_below(&scratch.path.join("root")).map_err(unwritable)?;
        fs::create_dir(scratch.path.join("state")).map_err(unwritable)?;
        let servers = free_ports().map_err(NoServer::Ports)?;
        let program = program.to_owned();
        let (spent, settings) = (Duration::ZERO, settings.to_vec());
        let mut server = Self {
            child: None,
            program,
            scratch,
            contents,
            servers,
            settings,
            spent,
            real_loaders,
        };
        // A port that was free a moment ago may be somebody else's by now, a second demo's for one.
        // Whatever else is wrong stays wrong.
        for _ in 1..START_TRIES_MAX {
            match server.restart() {
                Err(NoServer::NotReady(_)) if !server.servers.are_free() => {}
                started => return started.map(|()| server),
            }
            server.servers = free_ports().map_err(NoServer::Ports)?;
            // What the log has is of ports that are no longer asked for; where it cannot be
            // removed, it is told twice.
            let _ = fs::remove_file(server.log_file());
        }
        server.restart()?;
        Ok(server)
    }

    /// Ends the process as a power cut would (SIGKILL): nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
        self.spent = self.processor_time();
        self.child = None;
    }

    /// Starts the server on what the last incarnation left.
    pub fn restart(&mut self) -> Result<(), NoServer> {
        let file = self.scratch.path.join("ringboot.toml");
        let written = fs::write(&file, self.configuration());
        written.map_err(|error| NoServer::Scratch { path: file.clone(), error })?;
        self.child = Some(Running::start(&self.program, &file, &self.log_file())?);
        Ok(())
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|running| running.child.id())
    }

    /// Processor time of the server, all incarnations together, in steps of 10 ms.
    pub fn processor_time(&self) -> Duration {
        let running = self.child.as_ref().and_then(|running| processor_time(running.child.id()));
        self.spent + running.unwrap_or_default()
    }

    /// That many machines against this server, a third of each firmware.
    pub fn plan(&self, machines: u32, pace: Pace, seed: u64) -> Plan {
        Plan {
            machines,
            roles: MODELS.map(|model| Role::booting(1, model)).to_vec(),
            arrival: Arrival::All,
            duration: None,
            within: None,
            warm_up: Duration::ZERO,
            // The server goes with its leases, and may be asked for them before.
            lessor: Some(Lessor {
                way: Way::Relay { agent: SocketAddrV4::new(RELAY, 0), server: self.servers.dhcp },
                keeps_leases: true,
            }),
            tftp: self.servers.tftp.into(),
            http: self.servers.http.into(),
            pick: ENTRY.to_owned(),
            contents: self.contents.clone(),
            pace,
            wire: Wire::default(),
            seed,
        }
    }

    /// Where it listens.
    pub fn servers(&self) -> Servers {
        self.servers
    }

    /// Where the server keeps its leases.
    pub fn state(&self) -> PathBuf {
        self.scratch.path.join("state")
    }

    /// Loaders that came from this machine's packages; the others are made up.
    pub fn real_loaders(&self) -> &[&'static str] {
        &self.real_loaders
    }

    /// False once the process has ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(None)))
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path.join("server.log")
    }

    fn configuration(&self) -> String {
        let Servers { dhcp, tftp, http } = self.servers;
        let path = self.scratch.path.display();
        format!(
            r#"root = "{path}/root"
state = "{path}/state"

[server]
advertise = "{address}"
admin-socket = "{path}/admin.sock"
user = "root"
{server}
[tftp]
listen = ["{tftp}"]
{of_tftp}
[http]
listen = ["{http}"]
{of_http}
[log]
{log}
[tuning]
{tuning}

[dhcp]
listen-address = "{address}"
listen-port = {dhcp_port}

[[dhcp.subnet]]
subnet = "127.77.0.0/16"
relay = true
mode = "server"
clients = "any"
pools = ["127.77.16.1-127.77.255.250"]

[boot]
bios = "{LPXELINUX}"
uefi-x64 = "{SHIM}"
uefi-http = "http://{http}/{IPXE}"
ipxe = "http://{http}/boot.ipxe"

[menu]
title = "ringboot"

[[menu.entry]]
label = "{ENTRY}"
title = "A system that is made up"
kernel = "http://{http}/{KERNEL}"
initrd = "http://{http}/{INITRD}"

# For loaders that know no HTTP.
[[menu.entry]]
label = "{ENTRY}-by-name"
title = "The same, below the root"
kernel = "{KERNEL}"
initrd = "{INITRD}"
"#,
            address = dhcp.ip(),
            dhcp_port = dhcp.port(),
            server = self.lines("server"),
            of_tftp = self.lines("tftp"),
            of_http = self.lines("http"),
            log = self.lines("log"),
            tuning = self.lines("tuning"),
        )
    }

    /// The settings of a table, a line each.
    fn lines(&self, table: &str) -> String {
        let of_table = self.settings.iter().filter(|setting| setting.table == table);
        of_table.map(|Setting { key, value, .. }| format!("{key} = {value}\n")).collect()
    }
}

const LPXELINUX: &str = "lpxelinux.0";
const SHIM: &str = "bootnetx64.efi";
const IPXE: &str = "ipxe.efi";
const KERNEL: &str = "demo/vmlinuz";
const INITRD: &str = "demo/initrd.img";

/// Loaders: name under the root, places where packages put the real one, octets of a made-up one
/// (those of the real one).
const LOADERS: [(&str, &[&str], u64); 8] = [
    (LPXELINUX, &["/usr/lib/PXELINUX/lpxelinux.0", "/usr/share/syslinux/lpxelinux.0"], 75_072),
    (
        "ldlinux.c32",
        &["/usr/lib/syslinux/modules/bios/ldlinux.c32", "/usr/share/syslinux/ldlinux.c32"],
        119_524,
    ),
    (SHIM, &["/usr/lib/shim/shimx64.efi.signed", "/boot/efi/EFI/fedora/shimx64.efi"], 1_048_504),
    (
        "grubx64.efi",
        &[
            "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
            "/boot/efi/EFI/fedora/grubx64.efi",
        ],
        3_843_520,
    ),
    (IPXE, &["/usr/lib/ipxe/ipxe.efi", "/usr/share/ipxe/ipxe.efi"], 850_528),
    // A Raspberry Pi's; packages put them where it boots from.
    ("start4.elf", &[], 2_257_760),
    ("fixup4.dat", &[], 5_448),
    ("bcm2711-rpi-4-b.dtb", &[], 52_593),
];

impl Images {
    fn contents(self, seed: u64) -> (Contents, Vec<&'static str>) {
        let mut contents = Contents::default();
        let mut real = Vec::new();
        for (number, (name, places, octets)) in (1..).zip(LOADERS) {
            let found = places.iter().find_map(|place| fs::read(place).ok());
            let made_up = made_up(name, seed.wrapping_add(number), octets);
            if found.is_some() {
                real.push(name);
            }
            contents.insert(name, found.map_or(made_up, |file| Content::Kept(Arc::from(file))));
        }
        let config = format!("arm_64bit=1\nkernel={KERNEL}\ninitramfs {INITRD} followkernel\n");
        contents.insert("config.txt", Content::Kept(Arc::from(config.into_bytes())));
        contents.insert(KERNEL, Content::Generated { seed: seed ^ u64::MAX, octets: self.kernel });
        contents
            .insert(INITRD, Content::Generated { seed: !seed.rotate_left(1), octets: self.initrd });
        (contents, real)
    }
}

/// A made-up UEFI program has a real one's head: the server looks at what it tells firmware to
/// start.
fn made_up(name: &str, seed: u64, octets: u64) -> Content {
    let body = Content::Generated { seed, octets };
    if !name.ends_with(".efi") {
        return body;
    }
    let mut bytes = pe::made_up_x64().to_vec();
    // A Vec takes whatever is written to it.
    let _ = body.write_to(&mut bytes);
    Content::Kept(Arc::from(bytes))
}

/// Ports that nobody has at this moment: bound, asked for, let go.
fn free_ports() -> io::Result<Servers> {
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let (dhcp, tftp, http) =
        (UdpSocket::bind(any)?, UdpSocket::bind(any)?, TcpListener::bind(any)?);
    let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    Ok(Servers {
        dhcp: at(dhcp.local_addr()?.port()),
        tftp: at(tftp.local_addr()?.port()),
        http: at(http.local_addr()?.port()),
    })
}

impl Servers {
    /// Whether nobody listens at these ports at this moment.
    fn are_free(&self) -> bool {
        let is_udp_free = |at| UdpSocket::bind(at).is_ok();
        is_udp_free(self.dhcp) && is_udp_free(self.tftp) && TcpListener::bind(self.http).is_ok()
    }
}

/// The server process; ends with this value.
#[derive(Debug)]
struct Running {
    child: Child,
}

impl Running {
    fn start(program: &Path, configuration: &Path, log: &Path) -> Result<Self, NoServer> {
        let failed = |error| NoServer::Program { program: program.to_owned(), error };
        let log_end = File::options().create(true).append(true).open(log).map_err(failed)?;
        let mut command = Command::new(program);
        // A process group of its own: Ctrl-C at the terminal is for us to handle.
        command.arg("serve").arg("--config").arg(configuration).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_end);
        die_with_parent(&mut command);
        let mut running = Self { child: command.spawn().map_err(failed)? };
        let (sender, ready) = channel();
        if let Some(stdout) = running.child.stdout.take() {
            // Reads on after READY, so that the server never waits for a full pipe.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if line.starts_with("READY") {
                        let _ = sender.send(());
                    }
                }
            });
        }
        match ready.recv_timeout(READY_WAIT) {
            Ok(()) => Ok(running),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(NoServer::NotReady(log_tail(log)))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nobody to kill, and only the wait is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of this run's own, readable by nobody else, removed with all it holds.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make() -> Result<Self, NoServer> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringboot-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path }),
            Err(error) => Err(NoServer::Scratch { path, error }),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing sensible is left to do where even this fails.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// utime + stime of a process, all threads (proc(5): fields 14 and 15, counted after the name in
/// parentheses).
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * MILLISECONDS_PER_TICK))
}

/// USER_HZ is 100 on every architecture that we run on.
const MILLISECONDS_PER_TICK: u64 = 10;

/// Lines of the log that are shown when something went wrong.
const LOG_LINES_SHOWN: usize = 12;

fn log_tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines.get(shown..).unwrap_or_default().iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_scratch_directory_goes_with_its_value() {
        let scratch = Scratch::make().unwrap();
        let path = scratch.path.clone();
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_that_never_says_ready_is_reported_with_its_log_and_leaves_nothing() {
        let before = scratch_directories();
        let images = Images { kernel: 10, initrd: 10 };
        let error = PrivateServer::start(Path::new("/bin/false"), images, &Contents::default(), 1)
            .unwrap_err();
        assert!(matches!(error, NoServer::NotReady(_)), "{error}");
        let error =
            PrivateServer::start(Path::new("/nonexistent"), images, &Contents::default(), 1)
                .unwrap_err();
        assert!(matches!(error, NoServer::Program { .. }), "{error}");
        assert_eq!(scratch_directories(), before);
    }

    #[test]
    fn a_setting_is_a_line_of_a_table_that_it_may_be_of() {
        let setting = "tuning.spin-us=20".parse::<Setting>().unwrap();
        assert_eq!((&*setting.table, &*setting.key, &*setting.value), ("tuning", "spin-us", "20"));
        for wrong in [
            "spin-us=20",
            "dhcp.listen-port=1",
            "tuning.spin-us",
            "tuning.=1",
            "tuning.a b=1",
            "tuning.a=1\n[dhcp]",
        ] {
            assert!(wrong.parse::<Setting>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_made_up_loader_is_of_its_kind() {
        let Content::Kept(bytes) = made_up("bootx64.efi", 1, 10_000) else { panic!("kept") };
        let kind = pe::Program::of(&bytes);
        assert!(
            matches!(
                kind,
                pe::Program::Efi { machine: pe::Machine::X64, is_application: true, .. }
            ),
            "{kind:?}"
        );
        assert!(matches!(made_up("pxelinux.0", 1, 10), Content::Generated { .. }));
    }

    #[test]
    fn our_own_processor_time_is_readable() {
        assert!(processor_time(std::process::id()).is_some());
        assert_eq!(processor_time(0), None);
    }

    fn scratch_directories() -> usize {
        let prefix = format!("ringboot-{}-", std::process::id());
        let names = fs::read_dir(std::env::temp_dir())
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&prefix)).count()
    }
}
