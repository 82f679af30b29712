//! A whole server for one run on this host: scratch directory, images, configuration and a child
//! process, all removed afterwards.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
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

use super::arrival::ArrivalPattern;
use super::content::{ContentMap, ExpectedContent};
use super::limits::{READY_WAIT, START_TRIES_MAX};
use super::models::FirmwareModel;
use super::net::lessor::{DhcpAccess, DhcpRoute};
use super::net::wire::WireSettings;
use super::pace::FleetPace;
use super::plan::{FleetPlan, ServerAddresses};
use super::scenario::MachineRole;
use super::veth::{LINK, LOOPBACK, PrivateNetwork, VethLink};
use ringboot_io::engine::orphan::die_with_parent;
use ringboot_protocol::boot::pe;

/// Sizes of the images that a private server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSizes {
    /// Bytes of the generated kernel.
    pub kernel: u64,
    /// Bytes of the generated initrd.
    pub initrd: u64,
}

/// An additional line of a private server's configuration: `tuning.spin-us=20` on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSetting {
    /// One of `TABLES`.
    pub table: String,
    /// A key of that table, such as `spin-us`.
    pub key: String,
    /// The value as written in the file; the server checks it.
    pub value: String,
}

/// The tables that a setting may have.
const TABLES: [&str; 5] = ["server", "tftp", "http", "log", "tuning"];

impl FromStr for ServerSetting {
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
        let is_key = !key.is_empty()
            && key.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
        if !is_key || value.contains('\n') {
            return Err(format!("{text:?} is not one line of a configuration"));
        }
        Ok(Self { table: table.to_owned(), key: key.to_owned(), value: value.to_owned() })
    }
}

/// Label of the one menu entry.
const ENTRY: &str = "demo";

/// All firmware models that the private server has loaders for.
const MODELS: [FirmwareModel; 3] =
    [FirmwareModel::BiosPxelinux, FirmwareModel::UefiPxe, FirmwareModel::BiosIpxe];

/// Why a private server does not start.
#[derive(Debug, thiserror::Error)]
pub enum NoPrivateServer {
    /// The scratch directory cannot be made.
    #[error("cannot make the scratch directory {path}: {error}")]
    Scratch {
        /// The directory that the run needs.
        path: PathBuf,
        /// The error of the host.
        error: io::Error,
    },
    /// The server program does not start.
    #[error("cannot start {program}: {error}")]
    Program {
        /// The file of the server program.
        program: PathBuf,
        /// The error of the host.
        error: io::Error,
    },
    #[error("no free port on 127.0.0.1: {0}")]
    /// No port was free, or a socket failed.
    Ports(io::Error),
    #[error("the server did not become ready; the end of its log:\n{0}")]
    /// The server ended or stayed silent; the text is the end of its log.
    NotReady(String),
}

/// A server with its images and its state, on its own ports. Dropping it ends the process and
/// removes everything.
#[derive(Debug)]
pub struct PrivateServer {
    // Before the directory, so that the process ends first.
    child: Option<ServerProcess>,
    program: PathBuf,
    scratch: ScratchDirectory,
    contents: ContentMap,
    servers: ServerAddresses,
    settings: Vec<ServerSetting>,
    /// None: on loopback.
    link: Option<VethLink>,
    /// Processor time of processes that have ended.
    spent: Duration,
    /// Names of loaders that are real ones, found on this host.
    real_loaders: Vec<&'static str>,
}

impl PrivateServer {
    /// Generates the images and starts `program serve`, with these additional files; returns when
    /// the server is ready.
    pub fn start(
        program: &Path,
        images: ImageSizes,
        files: &ContentMap,
        seed: u64,
    ) -> Result<Self, NoPrivateServer> {
        Self::start_with(program, images, files, seed, &[], None)
    }

    /// The same with these lines in its configuration, and on its side of this link; None: on
    /// loopback.
    pub fn start_with(
        program: &Path,
        images: ImageSizes,
        files: &ContentMap,
        seed: u64,
        settings: &[ServerSetting],
        link: Option<VethLink>,
    ) -> Result<Self, NoPrivateServer> {
        let scratch = ScratchDirectory::make()?;
        let (mut contents, real_loaders) = images.make_contents(seed);
        for (name, content) in files.iter() {
            contents.insert(name, content.clone());
        }
        let unwritable = |error| NoPrivateServer::Scratch { path: scratch.path.clone(), error };
        contents.write_below(&scratch.path.join("root")).map_err(unwritable)?;
        fs::create_dir(scratch.path.join("state")).map_err(unwritable)?;
        let servers = match &link {
            Some(_) => LINK_SERVERS,
            None => find_free_ports().map_err(NoPrivateServer::Ports)?,
        };
        let program = program.to_owned();
        let (spent, settings) = (Duration::ZERO, settings.to_vec());
        let mut server = Self {
            child: None,
            program,
            scratch,
            contents,
            servers,
            settings,
            link,
            spent,
            real_loaders,
        };
        // Nobody else is on a link. On loopback another program, such as a second demo, may have
        // taken a free port meanwhile. Any other error would come again.
        let tries = if server.link.is_some() { 1 } else { START_TRIES_MAX };
        for _ in 1..tries {
            match server.restart() {
                Err(NoPrivateServer::NotReady(_)) if !server.servers.are_free() => {}
                started => return started.map(|()| server),
            }
            server.servers = find_free_ports().map_err(NoPrivateServer::Ports)?;
            // The log is about the old ports. If it cannot be removed, its lines appear twice.
            let _ = fs::remove_file(server.log_file());
        }
        server.restart()?;
        Ok(server)
    }

    /// Ends the process as a power cut would (SIGKILL), without flushing.
    pub fn kill(&mut self) {
        self.spent = self.processor_time();
        self.child = None;
    }

    /// Starts the server again with the state of the last process.
    pub fn restart(&mut self) -> Result<(), NoPrivateServer> {
        let file = self.scratch.path.join("ringboot.toml");
        let written = fs::write(&file, self.format_configuration());
        written.map_err(|error| NoPrivateServer::Scratch { path: file.clone(), error })?;
        let (program, log, link) = (&self.program, self.log_file(), self.link.as_ref());
        self.child = Some(ServerProcess::start(program, &file, &log, link)?);
        Ok(())
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|running| running.child.id())
    }

    /// Processor time of all processes of the server together, in steps of 10 ms.
    pub fn processor_time(&self) -> Duration {
        let running =
            self.child.as_ref().and_then(|running| read_processor_time(running.child.id()));
        self.spent + running.unwrap_or_default()
    }

    /// A plan of this many machines against this server, a third of each firmware.
    pub fn make_plan(&self, machines: u32, pace: FleetPace, seed: u64) -> FleetPlan {
        FleetPlan {
            machines,
            roles: MODELS.map(|model| MachineRole::booting(1, model)).to_vec(),
            arrival: ArrivalPattern::All,
            duration: None,
            within: None,
            warm_up: Duration::ZERO,
            // The server ends with its leases, and an audit may ask for them before.
            lessor: Some(DhcpAccess {
                way: DhcpRoute::Relay {
                    agent: SocketAddrV4::new(self.network().relay, 0),
                    server: self.servers.dhcp,
                },
                keeps_leases: true,
            }),
            tftp: self.servers.tftp.into(),
            http: self.servers.http.into(),
            pick: ENTRY.to_owned(),
            contents: self.contents.clone(),
            pace,
            wire: WireSettings {
                sources: self.link.as_ref().map(|_| LINK.machines),
                ..WireSettings::default()
            },
            seed,
        }
    }

    fn network(&self) -> PrivateNetwork {
        if self.link.is_some() { LINK } else { LOOPBACK }
    }

    /// The link between the server and the machines; None: they are on loopback.
    pub fn link(&self) -> Option<&VethLink> {
        self.link.as_ref()
    }

    /// The addresses of its sockets.
    pub fn servers(&self) -> ServerAddresses {
        self.servers
    }

    /// The directory of its leases.
    pub fn state(&self) -> PathBuf {
        self.scratch.path.join("state")
    }

    /// Loaders from this host's packages; the others are generated.
    pub fn real_loaders(&self) -> &[&'static str] {
        &self.real_loaders
    }

    /// False once the process has ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(None)))
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        read_log_tail(&self.log_file())
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path.join("server.log")
    }

    fn format_configuration(&self) -> String {
        let ServerAddresses { dhcp, tftp, http } = self.servers;
        let PrivateNetwork { machines, pool, .. } = self.network();

        // Only the user who started the server may read the scratch directory (0700). The server
        // must therefore stay that user: as `ringboot` it could not read its root.
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
subnet = "{machines}"
relay = true
mode = "server"
clients = "any"
pools = ["{pool}"]

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
            server = self.format_table("server"),
            of_tftp = self.format_table("tftp"),
            of_http = self.format_table("http"),
            log = self.format_table("log"),
            tuning = self.format_table("tuning"),
        )
    }

    /// The settings of a table, a line each.
    fn format_table(&self, table: &str) -> String {
        let of_table = self.settings.iter().filter(|setting| setting.table == table);
        of_table.map(|ServerSetting { key, value, .. }| format!("{key} = {value}\n")).collect()
    }
}

const LPXELINUX: &str = "lpxelinux.0";
const SHIM: &str = "bootnetx64.efi";
const IPXE: &str = "ipxe.efi";
const KERNEL: &str = "demo/vmlinuz";
const INITRD: &str = "demo/initrd.img";

/// Loaders: name under the root, places where packages put the real one, size of a generated one
/// (the size of the real one).
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
    // The files of a Raspberry Pi; packages put them into its boot directory.
    ("start4.elf", &[], 2_257_760),
    ("fixup4.dat", &[], 5_448),
    ("bcm2711-rpi-4-b.dtb", &[], 52_593),
];

impl ImageSizes {
    fn make_contents(self, seed: u64) -> (ContentMap, Vec<&'static str>) {
        let mut contents = ContentMap::default();
        let mut real = Vec::new();
        for (number, (name, places, octets)) in (1..).zip(LOADERS) {
            // A real loader of this host makes the load real. A generated one has the size of the
            // real one, so that hosts without the packages measure the same.
            let found = places.iter().find_map(|place| fs::read(place).ok());
            let made_up = make_up_content(name, seed.wrapping_add(number), octets);
            if found.is_some() {
                real.push(name);
            }
            contents
                .insert(name, found.map_or(made_up, |file| ExpectedContent::Kept(Arc::from(file))));
        }

        // A Raspberry Pi reads no menu: this file names its kernel and initrd.
        let config = format!("arm_64bit=1\nkernel={KERNEL}\ninitramfs {INITRD} followkernel\n");
        contents.insert("config.txt", ExpectedContent::Kept(Arc::from(config.into_bytes())));

        // Seeds differ from file to file, so that the bytes of one never pass for those of another.
        contents.insert(
            KERNEL,
            ExpectedContent::Generated { seed: seed ^ u64::MAX, octets: self.kernel },
        );
        contents.insert(
            INITRD,
            ExpectedContent::Generated { seed: !seed.rotate_left(1), octets: self.initrd },
        );
        (contents, real)
    }
}

/// A generated UEFI program has the head of a real one, because the server checks it.
fn make_up_content(name: &str, seed: u64, octets: u64) -> ExpectedContent {
    let body = ExpectedContent::Generated { seed, octets };
    if !name.ends_with(".efi") {
        return body;
    }
    let mut bytes = pe::build_x64_program().to_vec();
    // Writing to a Vec never fails.
    let _ = body.write_to(&mut bytes);
    ExpectedContent::Kept(Arc::from(bytes))
}

/// On a link every port is free, so they are the usual ones.
const LINK_SERVERS: ServerAddresses = ServerAddresses {
    dhcp: SocketAddrV4::new(LINK.server, 67),
    tftp: SocketAddrV4::new(LINK.server, 69),
    http: SocketAddrV4::new(LINK.server, 80),
};

/// Ports that are free at this moment: bound, read, closed.
fn find_free_ports() -> io::Result<ServerAddresses> {
    let any = make_loopback_address(0);
    let (dhcp, tftp, http) =
        (UdpSocket::bind(any)?, UdpSocket::bind(any)?, TcpListener::bind(any)?);
    Ok(ServerAddresses {
        dhcp: make_loopback_address(dhcp.local_addr()?.port()),
        tftp: make_loopback_address(tftp.local_addr()?.port()),
        http: make_loopback_address(http.local_addr()?.port()),
    })
}

fn make_loopback_address(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(LOOPBACK.server, port)
}

impl ServerAddresses {
    /// Whether these ports are free at this moment.
    fn are_free(&self) -> bool {
        UdpSocket::bind(self.dhcp).is_ok()
            && UdpSocket::bind(self.tftp).is_ok()
            && TcpListener::bind(self.http).is_ok()
    }
}

/// The server process; dropping the value ends it.
#[derive(Debug)]
struct ServerProcess {
    child: Child,
}

impl ServerProcess {
    fn start(
        program: &Path,
        configuration: &Path,
        log: &Path,
        link: Option<&VethLink>,
    ) -> Result<Self, NoPrivateServer> {
        let failed = |error| NoPrivateServer::Program { program: program.to_owned(), error };
        let log_end = File::options().create(true).append(true).open(log).map_err(failed)?;
        let mut command = Command::new(program);
        // A separate process group: loadtest and demo handle Ctrl-C of the terminal.
        command.arg("serve").arg("--config").arg(configuration).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log_end);
        die_with_parent(&mut command);
        if let Some(link) = link {
            link.contain_server(&mut command);
        }
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
                Err(NoPrivateServer::NotReady(read_log_tail(log)))
            }
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // If the process has ended by itself, only the wait is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of this run, readable only by its user, removed with its contents.
#[derive(Debug)]
struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    fn make() -> Result<Self, NoPrivateServer> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringboot-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path }),
            Err(error) => Err(NoPrivateServer::Scratch { path, error }),
        }
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        // If even this fails, there is no better way.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// utime + stime of a process, all threads (proc(5): fields 14 and 15, counted after the name in
/// parentheses).
fn read_processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * MILLISECONDS_PER_TICK))
}

/// USER_HZ is 100 on every architecture that ringboot supports.
const MILLISECONDS_PER_TICK: u64 = 10;

/// Lines of the log that an error shows.
const LOG_LINES_SHOWN: usize = 12;

fn read_log_tail(file: &Path) -> String {
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
        let scratch = ScratchDirectory::make().unwrap();
        let path = scratch.path.clone();
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_program_that_never_says_ready_is_reported_with_its_log_and_leaves_nothing() {
        let before = scratch_directories();
        let images = ImageSizes { kernel: 10, initrd: 10 };
        let error =
            PrivateServer::start(Path::new("/bin/false"), images, &ContentMap::default(), 1)
                .unwrap_err();
        assert!(matches!(error, NoPrivateServer::NotReady(_)), "{error}");
        let error =
            PrivateServer::start(Path::new("/nonexistent"), images, &ContentMap::default(), 1)
                .unwrap_err();
        assert!(matches!(error, NoPrivateServer::Program { .. }), "{error}");
        assert_eq!(scratch_directories(), before);
    }

    #[test]
    fn a_setting_is_a_line_of_a_table_that_it_may_be_of() {
        let setting = "tuning.spin-us=20".parse::<ServerSetting>().unwrap();
        assert_eq!((&*setting.table, &*setting.key, &*setting.value), ("tuning", "spin-us", "20"));
        for wrong in [
            "spin-us=20",
            "dhcp.listen-port=1",
            "tuning.spin-us",
            "tuning.=1",
            "tuning.a b=1",
            "tuning.a=1\n[dhcp]",
        ] {
            assert!(wrong.parse::<ServerSetting>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_made_up_loader_is_of_its_kind() {
        let ExpectedContent::Kept(bytes) = make_up_content("bootx64.efi", 1, 10_000) else {
            panic!("kept")
        };
        let kind = pe::BootProgram::detect(&bytes);
        assert!(
            matches!(
                kind,
                pe::BootProgram::Efi { machine: pe::PeMachine::X64, is_application: true, .. }
            ),
            "{kind:?}"
        );
        assert!(matches!(make_up_content("pxelinux.0", 1, 10), ExpectedContent::Generated { .. }));
    }

    #[test]
    fn our_own_processor_time_is_readable() {
        assert!(read_processor_time(std::process::id()).is_some());
        assert_eq!(read_processor_time(0), None);
    }

    fn scratch_directories() -> usize {
        let prefix = format!("ringboot-{}-", std::process::id());
        let names = fs::read_dir(std::env::temp_dir())
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with(&prefix)).count()
    }
}
