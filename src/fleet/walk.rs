//! A walk: follows one machine's boot chain, file by file, over the running sockets, in the steps
//! of its firmware.
//!
//! The steps are those of the simulated machines. A walk follows every entry of the menu, reads
//! only a sample of a large file, and records each file.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use super::clients::fetch::{fetch_required_file, fetch_url};
use super::clients::http::{HttpAgent, HttpFetcher};
use super::clients::tftp::TftpFetcher;
use super::clients::url::Url;
use super::failure::BootFailure;
use super::limits::{WALK_HASTE, WALK_PATIENCE};
use super::models::menu::BootChoice;
use super::models::{
    BootingMachine, LoaderKind, RunningLoader, find_loader_folder, list_shim_names,
};
use super::net::checker::WalkedFile;
use super::net::context::FleetContext;
use super::net::dhcp;
use super::net::dhcp::{ClientMessage, DhcpMessageType, DhcpSpeaker, RelayHop};
use super::net::segment::MachinePort;
use super::pace::FleetPace;
use super::report::FleetReport;
use super::report::steps::BootSteps;
use ringboot_io::engine::net;
use ringboot_observe::events::MachineStage;
use ringboot_protocol::boot::pe::{self, BootProgram, PeMachine};
use ringboot_protocol::model::machine::{Arch, Firmware, FirmwareRole, Mac, Uuid};
use ringboot_protocol::tftp::client::ClientBehaviour;

/// The firmware that a walk can follow: its name, how it identifies itself, and the key of `[boot]`
/// that names its loader.
pub const KINDS: [(&str, Firmware, &str); 9] = [
    ("bios", Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::Bios) }, "bios"),
    ("uefi-x64", Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiX64) }, "uefi-x64"),
    ("uefi-ia32", Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiIa32) }, "uefi-ia32"),
    ("uefi-arm64", Firmware { role: FirmwareRole::Pxe, arch: Some(Arch::UefiArm64) }, "uefi-arm64"),
    (
        "uefi-http",
        Firmware { role: FirmwareRole::HttpBoot, arch: Some(Arch::UefiX64) },
        "uefi-http",
    ),
    ("ipxe", Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::Bios) }, "ipxe"),
    ("ipxe-x64", Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiX64) }, "ipxe"),
    ("ipxe-ia32", Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiIa32) }, "ipxe"),
    ("ipxe-arm64", Firmware { role: FirmwareRole::Ipxe, arch: Some(Arch::UefiArm64) }, "ipxe"),
];

/// The name of a firmware in [`KINDS`].
pub fn spell_firmware_kind(firmware: Firmware) -> Option<&'static str> {
    KINDS.iter().find(|(_, known, _)| *known == firmware).map(|(name, ..)| *name)
}

/// The UUID of a walked machine: the real one is unknown.
pub fn make_walk_uuid(mac: Mac) -> Uuid {
    let mut uuid = [0x40; 16];
    uuid[10..].copy_from_slice(&mac.0);
    Uuid(uuid)
}

/// The DISCOVER of this firmware; `relay` is the address of the relay agent. None: the firmware is
/// unknown.
pub fn build_discover(firmware: Firmware, mac: Mac, relay: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let arch = firmware.arch?;
    let speaker = match (firmware.role, arch) {
        (FirmwareRole::Pxe, Arch::Bios) => DhcpSpeaker::BiosRom,
        (FirmwareRole::Pxe, _) => DhcpSpeaker::UefiPxe(arch.number()),
        (FirmwareRole::HttpBoot, Arch::UefiIa32) => DhcpSpeaker::UefiHttp(15),
        (FirmwareRole::HttpBoot, Arch::UefiX64) => DhcpSpeaker::UefiHttp(16),
        (FirmwareRole::HttpBoot, Arch::UefiArm64) => DhcpSpeaker::UefiHttp(19),
        (FirmwareRole::Ipxe, _) => DhcpSpeaker::Ipxe(arch.number()),
        _ => return None,
    };
    let xid = u32::from_be_bytes([mac.0[2], mac.0[3], mac.0[4], mac.0[5]]);
    let ask = ClientMessage {
        speaker,
        mac,
        uuid: make_walk_uuid(mac),
        xid,
        nth: 0,
        server: None,
        address: None,
        kind: DhcpMessageType::Discover,
    };
    let through = relay.map(|relay| RelayHop { relay, circuit: 0, own_port: false });
    Some(dhcp::encode_client_message(&ask, through.as_ref()))
}

/// The OFFER as a client reads it: address, siaddr, boot file.
pub fn read_offer_facts(bytes: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, Option<String>)> {
    dhcp::decode_dhcp_answer(bytes)
        .map(|answer| (answer.address, answer.next_server, answer.boot_file))
}

/// What a machine knows before its loader starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkStart {
    /// Its hardware address, for menus and answer files.
    pub mac: Mac,
    /// The firmware whose steps the walk follows.
    pub firmware: Firmware,
    /// The address that it would have.
    pub address: Ipv4Addr,
    /// Its TFTP server.
    pub tftp: SocketAddrV4,
    /// The boot file of its OFFER.
    pub boot_file: String,
    /// The loopback address that the server treats as this machine.
    pub source: Ipv4Addr,
}

/// A fetched file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFile {
    /// `tftp NAME` or a URL.
    pub name: String,
    /// Bytes of the whole file.
    pub octets: u64,
    /// Fetched bytes: fewer for a sample.
    pub received: u64,
    /// From the request to the last byte.
    pub took: Duration,
}

/// One complete link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootChainLink {
    /// The stage of a boot in which a machine would fetch these files.
    pub stage: MachineStage,
    /// The label of its menu entry.
    pub entry: Option<String>,
    /// In the order of the requests.
    pub files: Vec<ChainFile>,
}

/// The break of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenChain {
    /// The stage of a boot that would fail.
    pub stage: MachineStage,
    /// The label of its menu entry; None before the menu.
    pub entry: Option<String>,
    /// The request, and the reason why it failed.
    pub what: String,
    /// The name in the menu; empty if no menu names it.
    pub name: String,
    /// The menu that names it, and its line there (0: no particular one).
    pub menu: Option<(String, usize)>,
    /// The server rendered the menu from the configuration.
    pub is_rendered: bool,
}

/// The result of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainReport {
    /// The complete links, in the order of the boot.
    pub links: Vec<BootChainLink>,
    /// The parts that the walk did not follow, and why.
    pub notes: Vec<String>,
    /// The first broken link; None for a complete chain.
    pub broken: Option<BrokenChain>,
    /// The loader is an iPXE, which asks for an address once more: the chain goes on with that.
    pub goes_on_as: Option<Firmware>,
}

/// Follows the chain from its loader to its answer files. An error is one of this process, not of
/// the chain.
pub fn walk_chain(start: &WalkStart) -> std::io::Result<ChainReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    // For a server at one of these addresses the walk uses the address that ringboot treats as the
    // machine. For any other server it uses the host's own.
    let ours = net::list_interfaces().unwrap_or_default().into_iter().flat_map(|one| one.addresses);
    let ours = ours.filter_map(|network| match network {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    });
    let pace = FleetPace {
        haste: WALK_HASTE,
        idle_waits: false,
        gives_up: false,
        patience: WALK_PATIENCE,
    };
    let context = FleetContext::with_walk(start.tftp.into(), pace, start.source, ours.collect());
    let mut walker =
        ChainWalker { context: &context, start, walked: ChainReport::default(), entry: None };
    if let Err(broken) = tokio::task::LocalSet::new().block_on(&runtime, walker.follow_chain()) {
        walker.walked.broken = Some(*broken);
    }
    Ok(walker.walked)
}

struct ChainWalker<'a> {
    context: &'a FleetContext,
    start: &'a WalkStart,
    walked: ChainReport,
    /// The menu entry that the walk follows.
    entry: Option<String>,
}

type WalkStep<T = ()> = Result<T, Box<BrokenChain>>;

impl ChainWalker<'_> {
    async fn follow_chain(&mut self) -> WalkStep {
        let WalkStart { mac, firmware, address, boot_file, .. } = self.start;
        let arch = firmware.arch.unwrap_or(Arch::Bios);
        let rom = if firmware.role == FirmwareRole::Pxe && arch.is_uefi() {
            ClientBehaviour::edk2()
        } else {
            ClientBehaviour::ipxe()
        };
        let port = MachinePort { mac: *mac, uuid: make_walk_uuid(*mac), circuit: 0 };
        let boot = BootingMachine { context: self.context, port, rom, arch };
        let address = *address;
        let begun = std::time::Instant::now();
        let mut steps = BootSteps::new(
            MachineStage::Loader,
            begun,
            Rc::new(RefCell::new(FleetReport::new(1, begun))),
        );
        let loader = LoaderKind::from_name(boot_file);
        let is_http = Url::parse(boot_file).is_some() && loader != LoaderKind::Script;
        let loaded = match loader {
            _ if is_http => return self.walk_http(arch, loader).await,
            LoaderKind::Pxelinux => boot.pxelinux(address, boot_file, &mut steps).await,
            LoaderKind::Shim => boot.shim_and_grub(address, boot_file, &mut steps).await,
            LoaderKind::Grub => boot.grub(address, boot_file, &mut steps).await,
            LoaderKind::Script => boot.ipxe(address, boot_file).await,
            LoaderKind::Ipxe | LoaderKind::Unknown => {
                let tftp = TftpFetcher::new(self.context, address, 0);
                let fetched = fetch_required_file(&tftp, &boot.rom, boot_file).await;
                return self.ends_with_loader(arch, loader, fetched);
            }
        };
        // PXELINUX and GRUB look for a menu once they are loaded.
        let files = self.take_files();
        let is_menu = match loader {
            LoaderKind::Script => !files.is_empty(),
            _ => steps.now == MachineStage::Menu,
        };
        match loaded {
            Err(failure) => {
                let stage = if is_menu { MachineStage::Menu } else { MachineStage::Loader };
                self.check_loader(arch, &files)?;
                self.add_link(stage, files);
                Err(self.describe_break(stage, failure.to_string(), ""))
            }
            Ok(loaded) => {
                self.check_loader(arch, &files)?;
                let at = files
                    .iter()
                    .position(|file| is_menu_file(file, &loaded.name))
                    .unwrap_or(files.len());
                let (before, menu) = files.split_at(at);
                self.add_link(MachineStage::Loader, before.to_vec());
                self.add_link(MachineStage::Menu, menu.to_vec());
                self.follow_entries(loaded).await
            }
        }
    }

    /// UEFI HTTP Boot, or a loader that an iPXE fetches by URL.
    async fn walk_http(&mut self, arch: Arch, loader: LoaderKind) -> WalkStep {
        let (address, file) = (self.start.address, &self.start.boot_file);
        let agent = if self.start.firmware.role == FirmwareRole::HttpBoot {
            HttpAgent::Edk2
        } else {
            HttpAgent::Ipxe
        };
        let mut http = HttpFetcher::new(self.context, agent, address);

        // shim fetches GRUB from its own directory (B-10). What GRUB then fetches is not walked
        // (`ends_with_loader`).
        let mut names = vec![file.clone()];
        if loader == LoaderKind::Shim {
            names.push(list_shim_names(&find_loader_folder(file), arch).1);
        }
        for name in names {
            let fetched = match Url::parse(&name) {
                Some(url) => {
                    fetch_url(
                        &TftpFetcher::new(self.context, address, 0),
                        &ClientBehaviour::ipxe(),
                        &mut http,
                        &url,
                        false,
                    )
                    .await
                }
                None => Err(BootFailure::BadUrl(name)),
            };
            if let Err(failure) = fetched {
                return self.ends_with_loader(arch, loader, Err(failure));
            }
        }
        self.ends_with_loader(arch, loader, Ok(()))
    }

    fn ends_with_loader(
        &mut self,
        arch: Arch,
        loader: LoaderKind,
        fetched: Result<(), BootFailure>,
    ) -> WalkStep {
        let files = self.take_files();
        self.check_loader(arch, &files)?;
        self.add_link(MachineStage::Loader, files);
        fetched.map_err(|failure| {
            self.describe_break(MachineStage::Loader, failure.to_string(), "")
        })?;
        if loader == LoaderKind::Ipxe {
            self.walked.goes_on_as = Some(Firmware { role: FirmwareRole::Ipxe, arch: Some(arch) });
        } else {
            self.walked.notes.push(format!(
                "the next requests of {} are unknown: not walked",
                self.start.boot_file
            ));
        }
        Ok(())
    }

    /// Follows every entry of the menu, the default first.
    async fn follow_entries(&mut self, mut loaded: RunningLoader<'_>) -> WalkStep {
        let mut labels = loaded.list_labels();
        if labels.is_empty() {
            let what = format!("{} has no entry", loaded.name);
            return Err(self.broken_in(&loaded, MachineStage::Menu, what, "", 0));
        }
        if labels == [String::new()] {
            // A script that leads to the menu.
            let picked = loaded.pick_entry("").await;
            let files = self.take_files();
            self.add_link(MachineStage::Menu, files);
            if let Err(failure) = picked.as_ref().map(drop)
                && !matches!(failure, BootFailure::NoEntry(_))
            {
                return Err(self.broken_in(
                    &loaded,
                    MachineStage::Menu,
                    failure.to_string(),
                    "",
                    0,
                ));
            }
            labels = loaded.list_labels();
        }
        let home = loaded.home_menu();
        for label in labels {
            loaded.return_home(&home);
            self.entry = Some(label.clone()).filter(|label| !label.is_empty());
            match loaded.pick_entry(&label).await {
                Ok(choice) => self.fetch_entry(&mut loaded, choice).await?,
                Err(BootFailure::NoEntry(_)) => {
                    self.walked.notes.push(format!(
                        "entry `{label}` loads nothing from here (a local disk): not walked"
                    ));
                }
                Err(failure) => {
                    return Err(self.broken_in(
                        &loaded,
                        MachineStage::Menu,
                        failure.to_string(),
                        "",
                        0,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Fetches the files of one entry.
    async fn fetch_entry(
        &mut self,
        loaded: &mut RunningLoader<'_>,
        choice: BootChoice,
    ) -> WalkStep {
        // Scripts that `pick` fetched on the way to this entry belong to the menu.
        let files = self.take_files();
        self.add_link(MachineStage::Menu, files);
        let initrds =
            choice.initrds.iter().map(|name| (MachineStage::Initrd, name, choice.lines.initrd));
        for (stage, name, line) in
            std::iter::once((MachineStage::Kernel, &choice.kernel, choice.lines.kernel))
                .chain(initrds)
        {
            if is_named_host(name) {
                self.walked
                    .notes
                    .push(format!("{name} has a server name, which is not resolved: not walked"));
                continue;
            }
            let fetched = loaded.fetch(name).await;
            let files = self.take_files();
            if let Err(failure) = fetched {
                return Err(self.broken_in(
                    loaded,
                    stage,
                    describe_walk_failure(&failure),
                    name,
                    line,
                ));
            }

            // A server serves an empty, cut or wrong file without an error, and the machine stops
            // at it: only size and first bytes show the fault.
            if let Some(fault) = files.last().and_then(|file| find_image_fault(stage, file)) {
                return Err(self.broken_in(loaded, stage, fault, name, line));
            }
            self.add_link(stage, files);
        }

        // The installer fetches answer files long after the boot: here the break shows before a
        // machine has been installed halfway.
        for (argument, place) in list_answer_files(&choice.arguments) {
            let Some(url) = Url::parse(&place) else {
                self.walked
                    .notes
                    .push(format!("{argument} cannot be fetched from here: not walked"));
                continue;
            };
            let mut http = HttpFetcher::new(self.context, HttpAgent::Installer, self.start.address);
            let tftp = TftpFetcher::new(self.context, self.start.address, 0);
            let fetched = fetch_url(&tftp, &ClientBehaviour::ipxe(), &mut http, &url, false).await;
            let files = self.take_files();
            if let Err(failure) = fetched {
                return Err(self.broken_in(
                    loaded,
                    MachineStage::AnswerFile,
                    describe_walk_failure(&failure),
                    &argument,
                    choice.lines.arguments,
                ));
            }
            self.add_link(MachineStage::AnswerFile, files);
        }
        Ok(())
    }

    fn take_files(&self) -> Vec<WalkedFile> {
        self.context
            .walking
            .as_ref()
            .map(super::net::context::WalkContext::take_files)
            .unwrap_or_default()
    }

    fn add_link(&mut self, stage: MachineStage, files: Vec<WalkedFile>) {
        if files.is_empty() {
            return;
        }
        let files = files.into_iter().map(|WalkedFile { name, octets, received, took, .. }| {
            ChainFile { name, octets, received, took }
        });
        self.walked.links.push(BootChainLink {
            stage,
            entry: self.entry.clone(),
            files: files.collect(),
        });
    }

    /// The first file must be a program for this firmware.
    fn check_loader(&self, arch: Arch, files: &[WalkedFile]) -> WalkStep {
        let Some(file) =
            files.first().filter(|file| LoaderKind::from_name(&file.name) != LoaderKind::Script)
        else {
            return Ok(());
        };
        let wanted = match arch {
            Arch::UefiX64 => Some(PeMachine::X64),
            Arch::UefiIa32 => Some(PeMachine::Ia32),
            Arch::UefiArm64 => Some(PeMachine::Arm64),
            Arch::Bios | Arch::Other(_) => None,
        };

        // iPXE runs a script whatever its name is.
        if self.start.firmware.role == FirmwareRole::Ipxe && file.head.starts_with(b"#!ipxe") {
            return Ok(());
        }

        // UEFI HTTP Boot takes these as RAM disks (H-27), whose head is no program.
        let is_image = file.name.ends_with(".iso") || file.name.ends_with(".img");
        let program = BootProgram::detect(&file.head);
        let fits = match (wanted, program) {
            _ if is_image => file.octets > 0,
            (Some(wanted), BootProgram::Efi { machine, is_application, .. }) => {
                is_application && machine == wanted
            }
            (Some(_), _) => false,
            (None, program) => program == BootProgram::Raw,
        };
        if fits {
            return Ok(());
        }
        let what = format!(
            "{} is {}, and {arch} firmware does not start that",
            file.name,
            program.describe()
        );
        Err(self.describe_break(MachineStage::Loader, what, ""))
    }

    fn describe_break(&self, stage: MachineStage, what: String, name: &str) -> Box<BrokenChain> {
        let (entry, name) = (self.entry.clone(), name.to_owned());
        Box::new(BrokenChain { stage, entry, what, name, menu: None, is_rendered: false })
    }

    fn broken_in(
        &self,
        loaded: &RunningLoader<'_>,
        stage: MachineStage,
        what: String,
        name: &str,
        line: usize,
    ) -> Box<BrokenChain> {
        let is_rendered =
            loaded.text.lines().take(2).any(|line| line.starts_with("# rendered by ringboot"));
        let menu = Some((loaded.name.clone(), line));
        Box::new(BrokenChain { menu, is_rendered, ..*self.describe_break(stage, what, name) })
    }
}

fn describe_walk_failure(failure: &BootFailure) -> String {
    match failure {
        BootFailure::HttpStatus(name, 416) => format!("{name} is an empty file"),
        other => other.to_string(),
    }
}

fn is_menu_file(file: &WalkedFile, menu: &str) -> bool {
    file.name == menu || file.name.strip_prefix("tftp ") == Some(menu)
}

/// True if the URL's host is a name and not an address.
fn is_named_host(name: &str) -> bool {
    name.contains("://") && Url::parse(name).is_none()
}

/// The fault of a kernel or an initrd, as far as its size and first bytes show it.
fn find_image_fault(stage: MachineStage, file: &WalkedFile) -> Option<String> {
    if file.octets == 0 {
        return Some(format!("{} is an empty file", file.name));
    }
    if let Some(fault) = pe::image_fault(&file.head, stage == MachineStage::Kernel) {
        return Some(format!("{} is {fault}", file.name));
    }
    let needed = read_bzimage_length(&file.head)
        .filter(|needed| stage == MachineStage::Kernel && file.octets < *needed)?;
    Some(format!(
        "{} is cut short: {} bytes, and its header needs at least {needed}",
        file.name, file.octets
    ))
}

/// The length of an x86 kernel by its own header (Linux Documentation/arch/x86/boot.rst:
/// setup_sects, syssize).
fn read_bzimage_length(head: &[u8]) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    const PARAGRAPH_BYTES: u64 = 16;
    if head.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let sectors = match *head.get(0x1f1)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let paragraphs = u32::from_le_bytes(*head.get(0x1f4..)?.first_chunk()?);
    Some((sectors + 1) * SECTOR_BYTES + u64::from(paragraphs) * PARAGRAPH_BYTES)
}

/// The kernel arguments that name an answer file, each with the URLs that an installer would fetch.
fn list_answer_files(arguments: &str) -> Vec<(String, String)> {
    const NAMES: [&str; 11] = [
        "ks",
        "inst.ks",
        "url",
        "preseed/url",
        "autoyast",
        "autoyast2",
        "inst.auto",
        "agama.auto",
        "ignition.config.url",
        "coreos.inst.ignition_url",
        "cloud-config-url",
    ];
    let mut files = Vec::new();
    for word in arguments.split_whitespace() {
        let word = word.trim_matches(['"', '\'']);
        let Some((name, value)) = word.split_once('=') else { continue };
        if name == "ds" && value.starts_with("nocloud") {
            // cloud-init: the seed is a prefix.
            let seed = value
                .split(';')
                .find_map(|part| part.strip_prefix("s=").or(part.strip_prefix("seedfrom=")));
            let seed = seed
                .into_iter()
                .flat_map(|seed| ["meta-data", "user-data"].map(|file| format!("{seed}{file}")));
            files.extend(seed.map(|url| (word.to_owned(), url)));
        } else if NAMES.contains(&name) {
            files.push((word.to_owned(), value.trim_matches('"').to_owned()));
        }
    }
    files
}

#[cfg(test)]
mod tests;
