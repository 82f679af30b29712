//! One simulated machine from power-on to its kernel and initial disk, in the steps of its firmware.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Lease;
use super::context::Context;
use super::dhcp::{Answer, Speaker};
use super::failure::Failure;
use super::http::{Agent, Http};
use super::limits::{AGAIN_AFTER_FAILURE, CHAINED_SCRIPTS_MAX};
use super::menu::{self, Choice, Ipxe};
use super::progress::take_step_retries;
use super::report::Report;
use super::requests::Requests;
use super::scenario::{self, Does};
use super::segment::{Port, Segment, Xids};
use super::tftp::{Fetched, Tftp};
use super::url::{Scheme, Url};
use crate::boot::machine::Arch;
use crate::observe::events::Stage;
use crate::tftp::client::Behaviour;

/// Which firmware a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// A BIOS ROM that loads PXELINUX.
    BiosPxelinux,
    /// iPXE in the card's ROM, on BIOS.
    BiosIpxe,
    /// OVMF's PXE stack that loads shim, which loads GRUB.
    UefiPxe,
}

/// A machine before it is switched on, and again.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) context: Rc<Context>,
    pub(super) port: Port,
    /// None where there is no DHCP.
    pub(super) segment: Option<Rc<Segment>>,
    pub(super) xids: Xids,
    pub(super) errand: Errand,
}

/// What a machine is there for.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    Boot {
        model: Model,
        /// The menu entry that the person at the console picks.
        pick: Rc<str>,
    },
    Steps {
        steps: Rc<[scenario::Step]>,
        http: SocketAddrV4,
    },
}

/// What came of one boot.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Number of the machine in its fleet.
    pub(super) machine: u32,
    pub(super) model: &'static str,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// From power-on to the kernel's last octet.
    pub(super) to_kernel: Option<Duration>,
    /// All steps of one stage together, in the order of [`Stage::ALL`].
    pub(super) stages: [Duration; Stage::ALL.len()],
    pub(super) end: Result<(), Stopped>,
}

/// Where and why a boot went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    /// The step that did not end.
    pub(super) stage: Stage,
    /// Of that step.
    pub(super) retries: u64,
    pub(super) failure: Failure,
}

impl Machine {
    /// Switches the machine on; where there is a time until which machines begin again, again and again.
    pub(super) async fn live(mut self, run_begun: Instant, until: Option<Instant>, report: Rc<RefCell<Report>>) {
        let goes_on = || until.is_some_and(|until| Instant::now() < until);
        let mut lease = None;
        loop {
            report.borrow_mut().power_on();
            let outcome = self.boot(until, &report, &mut lease).await;
            let failed = outcome.end.is_err();
            report.borrow_mut().add(run_begun, outcome);
            if failed && goes_on() {
                sleep(AGAIN_AFTER_FAILURE).await;
            }
            // Steps have been repeated already, on the connections that they have.
            if matches!(self.errand, Errand::Steps { .. }) || !goes_on() {
                break;
            }
        }
        report.borrow_mut().leases.extend(lease);
    }

    async fn boot(
        &mut self,
        until: Option<Instant>,
        report: &Rc<RefCell<Report>>,
        lease: &mut Option<Lease>,
    ) -> Outcome {
        let mut steps = Steps::new(self.errand.first_stage(), Rc::clone(report));
        let begun = steps.begun;
        let end = match self.errand.clone() {
            Errand::Steps { steps: asked, http } => {
                Requests::new(self, http).all(&asked, until, &mut steps, lease).await
            }
            Errand::Boot { model, pick } => match self.acquire(model.speaker()).await {
                Ok(answer) => {
                    *lease = Some(Lease::of(self.port, &answer));
                    let boot = Boot { context: &self.context, port: self.port, rom: model.rom(), arch: model.arch() };
                    boot.load(model, answer, &pick, &mut steps).await
                }
                Err(failure) => Err(failure),
            },
        };
        self.context.progress.add_machine(end.is_ok());
        let end = match end {
            Ok(()) => {
                steps.end();
                Ok(())
            }
            Err(failure) => Err(Stopped { stage: steps.now, retries: take_step_retries(), failure }),
        };
        let Steps { to_kernel, stages, .. } = steps;
        let machine = self.port.circuit;
        Outcome { machine, model: self.errand.model(), begun, ended: Instant::now(), to_kernel, stages, end }
    }

    /// DISCOVER to ACK.
    pub(super) async fn acquire(&mut self, speaker: Speaker) -> Result<Answer, Failure> {
        let segment = self.segment.as_ref().ok_or(Failure::DhcpSilent)?;
        segment.acquire(self.port, speaker, &mut self.xids).await
    }
}

impl Errand {
    pub(super) fn new(does: &Does, http: SocketAddrV4, pick: &str) -> Self {
        match does {
            Does::Boot(model) => Self::Boot { model: *model, pick: Rc::from(pick) },
            Does::Steps(steps) => Self::Steps { steps: Rc::from(steps.as_slice()), http },
        }
    }

    fn first_stage(&self) -> Stage {
        match self {
            Self::Boot { .. } => Stage::Dhcp,
            Self::Steps { steps, .. } => steps.first().map_or(Stage::File, |step| step.request.stage()),
        }
    }

    /// The name of who does this, for the report.
    fn model(&self) -> &'static str {
        match self {
            Self::Boot { model, .. } => model.name(),
            Self::Steps { .. } => "steps",
        }
    }
}

impl Lease {
    pub(super) fn of(port: Port, answer: &Answer) -> Self {
        let lease_s = answer.lease_s.unwrap_or(0);
        Self { machine: port.circuit, mac: port.mac, address: answer.address, lease_s }
    }
}

/// A machine that has an address and goes on with its loader.
pub(super) struct Boot<'a> {
    pub(super) context: &'a Context,
    pub(super) port: Port,
    /// Who fetches the first file.
    pub(super) rom: Behaviour,
    pub(super) arch: Arch,
}

impl<'a> Boot<'a> {
    async fn load(&self, model: Model, answer: Answer, pick: &str, steps: &mut Steps) -> Result<(), Failure> {
        let file = answer.boot_file.ok_or(Failure::NoBootFile)?;
        // iPXE in the card is its own loader.
        steps.enter(if model == Model::BiosIpxe { Stage::Menu } else { Stage::Loader });
        let mut loaded = match model {
            Model::BiosPxelinux => self.pxelinux(answer.address, &file, steps).await?,
            Model::UefiPxe => self.shim_and_grub(answer.address, &file, steps).await?,
            Model::BiosIpxe => self.ipxe(answer.address, &file).await?,
        };
        let choice = loaded.pick(pick).await?;
        loaded.images(choice, steps).await
    }

    /// ROM, lpxelinux, its modules, its search for a configuration with all the misses that belong to it (B-1).
    pub(super) async fn pxelinux(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut Steps,
    ) -> Result<Loaded<'a>, Failure> {
        let tftp = self.tftp(address);
        let pxelinux = Behaviour::pxelinux();
        let folder = folder(loader);
        must(&tftp, &self.rom, loader).await?;
        let core = if self.arch == Arch::Bios { "ldlinux.c32" } else { "ldlinux.e64" };
        must(&tftp, &pxelinux, &format!("{folder}{core}")).await?;
        steps.enter(Stage::Menu);
        let (name, text) = self.search(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        if let Some(program) = menu::pxelinux(&text, "").program {
            // The menu program, its libraries, and the configuration once more.
            for name in [program.as_str(), "libcom32.c32", "libutil.c32"] {
                must(&tftp, &pxelinux, &under(&folder, name)).await?;
            }
            self.search(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        }
        let Port { mac, uuid, .. } = self.port;
        let http = Http::new(self.context, Agent::Syslinux { mac, uuid }, address);
        Ok(Loaded { tftp, http, behaviour: pxelinux, language: Language::Pxelinux { folder }, name, text })
    }

    /// OVMF's size probe and fetch, shim's misses and its fetch of GRUB, GRUB's lists and its search for a configuration.
    pub(super) async fn shim_and_grub(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut Steps,
    ) -> Result<Loaded<'a>, Failure> {
        let tftp = self.tftp(address);
        let shim = Behaviour::shim();
        must(&tftp, &self.rom, loader).await?;
        let (asides, second_stage) = shim_names(&folder(loader), self.arch);
        for name in asides {
            tftp.fetch(&shim, &name, false).await?;
        }
        must(&tftp, &shim, &second_stage).await?;
        steps.enter(Stage::Menu);
        self.grub_menu(address, loader).await
    }

    /// A GRUB that the firmware starts itself.
    pub(super) async fn grub(&self, address: Ipv4Addr, loader: &str, steps: &mut Steps) -> Result<Loaded<'a>, Failure> {
        must(&self.tftp(address), &self.rom, loader).await?;
        steps.enter(Stage::Menu);
        self.grub_menu(address, loader).await
    }

    async fn grub_menu(&self, address: Ipv4Addr, loader: &str) -> Result<Loaded<'a>, Failure> {
        let (tftp, grub, folder) = (self.tftp(address), Behaviour::grub(), folder(loader));
        let (cpu, platform) = grub_platform(self.arch);
        for list in ["command.lst", "fs.lst", "crypto.lst", "terminal.lst"] {
            tftp.fetch(&grub, &format!("/{folder}grub/{cpu}-{platform}/{list}"), false).await?;
        }
        let (name, text) = self.search(&tftp, &grub, self.grub_names(&folder, address)).await?;
        let server = self.context.tftp.ip().to_string();
        let known = [
            ("root", format!("tftp,{server}")),
            ("net_default_server", server),
            ("grub_cpu", cpu.to_owned()),
            ("grub_platform", platform.to_owned()),
        ];
        let http = Http::new(self.context, Agent::Grub, address);
        let language = Language::Grub { known: known.map(|(name, value)| (name.to_owned(), value)).into() };
        Ok(Loaded { tftp, http, behaviour: grub, language, name, text })
    }

    /// The script that DHCP named.
    pub(super) async fn ipxe(&self, address: Ipv4Addr, script: &str) -> Result<Loaded<'a>, Failure> {
        let tftp = self.tftp(address);
        let Port { mac, uuid, .. } = self.port;
        let (buildarch, _) = grub_platform(self.arch);
        let platform = if self.arch == Arch::Bios { "pcbios" } else { "efi" };
        let known = [
            ("mac", mac.to_string()),
            ("net0/mac", mac.to_string()),
            ("net0/mac:hexhyp", mac.dashed()),
            ("mac:hexhyp", mac.dashed()),
            ("uuid", uuid.to_string()),
            ("net0/ip", address.to_string()),
            ("ip", address.to_string()),
            ("buildarch", if self.arch == Arch::Bios { "x86_64" } else { buildarch }.to_owned()),
            ("platform", platform.to_owned()),
        ];
        let known = known.map(|(name, value)| (name.to_owned(), value)).into();
        let at = Url::parse(script).unwrap_or_else(|| tftp_url(self.context, script));
        let mut http = Http::new(self.context, Agent::Ipxe, address);
        let behaviour = Behaviour::ipxe();
        let text = fetch(&tftp, &behaviour, &mut http, &at, true).await?;
        let (name, text) = (at.to_string(), String::from_utf8_lossy(&text).into_owned());
        Ok(Loaded { tftp, http, behaviour, language: Language::Ipxe { at, known }, name, text })
    }

    fn tftp(&self, address: Ipv4Addr) -> Tftp<'a> {
        Tftp::new(self.context, address, u64::from(self.port.circuit))
    }

    /// Asks for one name after the other, as loaders do, until there is a file; gives the name too.
    async fn search(
        &self,
        tftp: &Tftp<'_>,
        loader: &Behaviour,
        names: Vec<String>,
    ) -> Result<(String, String), Failure> {
        for name in names {
            if let Fetched::File(text) = tftp.fetch(loader, &name, true).await? {
                return Ok((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
        Err(Failure::NoMenu)
    }

    /// UUID, hardware address, the address in hexadecimal shortened digit by digit, `default` (B-1).
    fn pxelinux_names(&self, folder: &str, address: Ipv4Addr) -> Vec<String> {
        let Port { mac, uuid, .. } = self.port;
        let mut names = vec![uuid.to_string(), format!("01-{}", mac.dashed())];
        names.extend(shortened(address));
        names.push("default".to_owned());
        names.into_iter().map(|name| format!("{folder}pxelinux.cfg/{name}")).collect()
    }

    /// The same with GRUB's names, in the loader's folder first (Red Hat), then in `grub/` (Debian) (B-7, B-8).
    fn grub_names(&self, folder: &str, address: Ipv4Addr) -> Vec<String> {
        let Port { mac, uuid, .. } = self.port;
        let mut names = vec![format!("grub.cfg-{uuid}"), format!("grub.cfg-01-{}", mac.dashed())];
        names.extend(shortened(address).map(|digits| format!("grub.cfg-{digits}")));
        names.push("grub.cfg".to_owned());
        names.push("grub/grub.cfg".to_owned());
        names.into_iter().map(|name| format!("/{folder}{name}")).collect()
    }
}

/// A loader that runs and has its menu.
pub(super) struct Loaded<'a> {
    tftp: Tftp<'a>,
    pub(super) http: Http<'a>,
    behaviour: Behaviour,
    language: Language,
    /// The name or URL under which the menu was found.
    pub(super) name: String,
    pub(super) text: String,
}

/// A menu that one can come back to.
pub(super) struct Home {
    at: Option<Url>,
    name: String,
    text: String,
}

/// How a loader reads its menu and finds the names in it.
enum Language {
    Pxelinux {
        folder: String,
    },
    Grub {
        known: Vec<(String, String)>,
    },
    Ipxe {
        /// Where the script stands.
        at: Url,
        known: Vec<(String, String)>,
    },
}

impl Loaded<'_> {
    /// What a person could pick, the default first. A script without a menu has one nameless entry: itself.
    pub(super) fn labels(&self) -> Vec<String> {
        let labels = match &self.language {
            Language::Pxelinux { .. } => menu::pxelinux_labels(&self.text),
            Language::Grub { .. } => menu::grub_labels(&self.text),
            Language::Ipxe { .. } => menu::ipxe_labels(&self.text),
        };
        let is_bare = labels.is_empty() && matches!(self.language, Language::Ipxe { .. });
        if is_bare { vec![String::new()] } else { labels }
    }

    /// Where the menu was found, to come back to after an entry has led elsewhere.
    pub(super) fn home(&self) -> Home {
        let at = match &self.language {
            Language::Ipxe { at, .. } => Some(at.clone()),
            Language::Pxelinux { .. } | Language::Grub { .. } => None,
        };
        Home { at, name: self.name.clone(), text: self.text.clone() }
    }

    pub(super) fn go_home(&mut self, home: &Home) {
        if let (Language::Ipxe { at, .. }, Some(home)) = (&mut self.language, &home.at) {
            at.clone_from(home);
        }
        self.name.clone_from(&home.name);
        self.text.clone_from(&home.text);
    }

    /// The entry with this label; for iPXE by way of the scripts that the first one leads to.
    pub(super) async fn pick(&mut self, label: &str) -> Result<Choice, Failure> {
        let none = || Failure::NoEntry(label.to_owned());
        match &self.language {
            Language::Pxelinux { .. } => menu::pxelinux(&self.text, label).choice.ok_or_else(none),
            Language::Grub { known } => menu::grub(&self.text, label, &borrowed(known)).ok_or_else(none),
            Language::Ipxe { .. } => self.run_script(label).await,
        }
    }

    async fn run_script(&mut self, label: &str) -> Result<Choice, Failure> {
        for _ in 0..CHAINED_SCRIPTS_MAX {
            let Language::Ipxe { at, known } = &mut self.language else { break };
            match menu::ipxe(&self.text, label, &borrowed(known)) {
                None => return Err(Failure::NoEntry(label.to_owned())),
                Some(Ipxe::Boot(choice)) => return Ok(choice),
                Some(Ipxe::Chain(next)) => {
                    *at = at.join(&next).ok_or(Failure::BadUrl(next))?;
                    let text = fetch(&self.tftp, &self.behaviour, &mut self.http, at, true).await?;
                    self.name = at.to_string();
                    self.text = String::from_utf8_lossy(&text).into_owned();
                }
            }
        }
        Err(Failure::NoMenu)
    }

    /// The kernel and every initial disk, from where the menu says they are.
    async fn images(&mut self, choice: Choice, steps: &mut Steps) -> Result<(), Failure> {
        let initrds = choice.initrds.into_iter().map(|name| (name, Stage::Initrd));
        for (name, stage) in std::iter::once((choice.kernel, Stage::Kernel)).chain(initrds) {
            steps.enter(stage);
            self.fetch(&name).await?;
        }
        Ok(())
    }

    /// One file of an entry.
    pub(super) async fn fetch(&mut self, name: &str) -> Result<(), Failure> {
        let place = match &self.language {
            Language::Pxelinux { folder } => Place::of(name, folder),
            Language::Grub { .. } => Place::of_grub(name),
            Language::Ipxe { at, .. } => at.join(name).map(Place::Url),
        };
        match place.ok_or_else(|| Failure::BadUrl(name.to_owned()))? {
            Place::Tftp(path) => must(&self.tftp, &self.behaviour, &path).await,
            Place::Url(url) => fetch(&self.tftp, &self.behaviour, &mut self.http, &url, false).await.map(drop),
        }
    }
}

fn borrowed(known: &[(String, String)]) -> Vec<(&str, &str)> {
    known.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Where a loader finds a name of its menu.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tftp(String),
    Url(Url),
}

impl Place {
    /// PXELINUX: a URL, or a path beside the loader.
    fn of(name: &str, folder: &str) -> Option<Self> {
        if name.contains("://") { Url::parse(name).map(Self::Url) } else { Some(Self::Tftp(under(folder, name))) }
    }

    /// GRUB: `(http,address:port)/path`, `(tftp,address)/path`, or a path on the TFTP server that GRUB came from.
    fn of_grub(name: &str) -> Option<Self> {
        let Some((device, path)) = name.strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
            return Some(Self::Tftp(name.to_owned()));
        };
        match device.split_once(',') {
            Some(("http", server)) => Url::parse(&format!("http://{server}{path}")).map(Self::Url),
            Some(("tftp", _)) => Some(Self::Tftp(path.to_owned())),
            _ if device == "tftp" => Some(Self::Tftp(path.to_owned())),
            _ => None,
        }
    }
}

/// The steps of a boot as they begin and end: no time lies between them.
pub(super) struct Steps {
    pub(super) now: Stage,
    power_on: Instant,
    begun: Instant,
    to_kernel: Option<Duration>,
    stages: [Duration; Stage::ALL.len()],
    /// Where each finished step is entered.
    report: Rc<RefCell<Report>>,
}

impl Steps {
    pub(super) fn new(first: Stage, report: Rc<RefCell<Report>>) -> Self {
        let begun = Instant::now();
        Self { now: first, power_on: begun, begun, to_kernel: None, stages: Default::default(), report }
    }

    /// One step ends, the next begins.
    pub(super) fn enter(&mut self, stage: Stage) {
        self.end();
        self.now = stage;
    }

    fn end(&mut self) {
        let now = Instant::now();
        let took = now - self.begun;
        if let Some(sum) = self.stages.get_mut(self.now as usize) {
            *sum += took;
        }
        if self.now == Stage::Kernel {
            self.to_kernel = Some(now - self.power_on);
        }
        self.report.borrow_mut().add_step(self.now, took, take_step_retries());
        self.begun = now;
    }
}

/// Fetches a file that has to be there.
pub(super) async fn must(tftp: &Tftp<'_>, loader: &Behaviour, name: &str) -> Result<(), Failure> {
    match tftp.fetch(loader, name, false).await? {
        Fetched::File(_) => Ok(()),
        Fetched::Missing => Err(Failure::TftpMissing(name.to_owned())),
    }
}

pub(super) async fn fetch(
    tftp: &Tftp<'_>,
    loader: &Behaviour,
    http: &mut Http<'_>,
    url: &Url,
    keep: bool,
) -> Result<Vec<u8>, Failure> {
    if url.scheme == Scheme::Http {
        return http.fetch(url, keep).await;
    }
    // B-13: one leading slash of a TFTP URL is dropped.
    let name = url.path.strip_prefix('/').unwrap_or(&url.path);
    match tftp.fetch(loader, name, keep).await? {
        Fetched::File(text) => Ok(text),
        Fetched::Missing => Err(Failure::TftpMissing(name.to_owned())),
    }
}

fn tftp_url(context: &Context, name: &str) -> Url {
    Url { scheme: Scheme::Tftp, server: context.tftp, path: format!("/{}", name.trim_start_matches('/')) }
}

/// The directory of a loader, with its slash; empty at the root (B-2).
pub(super) fn folder(loader: &str) -> String {
    loader.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

/// What shim asks for beside itself: files that are normally absent, and GRUB (B-10).
pub(super) fn shim_names(folder: &str, arch: Arch) -> ([String; 3], String) {
    let asides = ["revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi"];
    let grub = match arch {
        Arch::UefiIa32 => "grubia32.efi",
        Arch::UefiArm64 => "grubaa64.efi",
        _ => "grubx64.efi",
    };
    (asides.map(|name| format!("{folder}{name}")), format!("{folder}{grub}"))
}

/// `$grub_cpu` and `$grub_platform`.
fn grub_platform(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::Bios => ("i386", "pc"),
        Arch::UefiIa32 => ("i386", "efi"),
        Arch::UefiArm64 => ("arm64", "efi"),
        Arch::UefiX64 | Arch::Other(_) => ("x86_64", "efi"),
    }
}

/// A name of PXELINUX: from the root with a leading slash or `::` (T-62), else beside the loader.
fn under(folder: &str, name: &str) -> String {
    match name.strip_prefix("::") {
        Some(path) => path.to_owned(),
        None if name.starts_with('/') => name.to_owned(),
        None => format!("{folder}{name}"),
    }
}

/// `7F4D0101`, `7F4D010`, ... `7`.
fn shortened(address: Ipv4Addr) -> impl Iterator<Item = String> {
    let digits = format!("{:08X}", u32::from(address));
    (1..=digits.len()).rev().filter_map(move |length| digits.get(..length).map(str::to_owned))
}

impl Model {
    pub const ALL: [Self; 3] = [Self::BiosPxelinux, Self::BiosIpxe, Self::UefiPxe];

    /// The name in scenarios and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::BiosPxelinux => "bios-pxelinux",
            Self::UefiPxe => "uefi-pxe",
            Self::BiosIpxe => "bios-ipxe",
        }
    }

    /// Who speaks DHCP when this machine is switched on.
    pub(super) fn speaker(self) -> Speaker {
        match self {
            Self::BiosPxelinux => Speaker::BiosRom,
            Self::UefiPxe => Speaker::UefiPxe(Arch::UefiX64.number()),
            Self::BiosIpxe => Speaker::Ipxe(Arch::Bios.number()),
        }
    }

    /// Who fetches the first file by TFTP.
    fn rom(self) -> Behaviour {
        match self {
            Self::UefiPxe => Behaviour::edk2(),
            Self::BiosPxelinux | Self::BiosIpxe => Behaviour::ipxe(),
        }
    }

    fn arch(self) -> Arch {
        match self {
            Self::UefiPxe => Arch::UefiX64,
            Self::BiosPxelinux | Self::BiosIpxe => Arch::Bios,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn b1_the_address_is_asked_for_digit_by_digit() {
        let names: Vec<_> = shortened(Ipv4Addr::new(192, 168, 4, 26)).collect();
        assert_eq!(names.first().unwrap(), "C0A8041A");
        assert_eq!(names.last().unwrap(), "C");
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn b10_shim_asks_beside_itself_for_what_is_absent_and_for_grub() {
        let (asides, second_stage) = shim_names(&folder("efi/bootnetx64.efi"), Arch::UefiX64);
        assert!(asides.iter().all(|name| name.starts_with("efi/")), "{asides:?}");
        assert_eq!(second_stage, "efi/grubx64.efi");
        assert_eq!(shim_names(&folder("bootnetx64.efi"), Arch::UefiX64).1, "grubx64.efi");
    }

    #[test]
    fn b2_b9_names_of_a_menu_lead_to_tftp_or_http() {
        assert_eq!(folder("pxelinux.0"), "");
        assert_eq!(folder("a/b/pxelinux.0"), "a/b/");
        assert_eq!(Place::of("linux", "a/"), Some(Place::Tftp("a/linux".to_owned())));
        assert_eq!(Place::of("::linux", "a/"), Some(Place::Tftp("linux".to_owned())));
        assert_eq!(Place::of("/linux", "a/"), Some(Place::Tftp("/linux".to_owned())));
        let url = Url::parse("http://127.0.0.1:8080/k").unwrap();
        assert_eq!(Place::of("http://127.0.0.1:8080/k", ""), Some(Place::Url(url.clone())));
        assert_eq!(Place::of_grub("(http,127.0.0.1:8080)/k"), Some(Place::Url(url)));
        assert_eq!(Place::of_grub("(tftp,127.0.0.1)/k"), Some(Place::Tftp("/k".to_owned())));
        assert_eq!(Place::of_grub("/k"), Some(Place::Tftp("/k".to_owned())));
        assert_eq!(Place::of_grub("(hd0)/k"), None);
    }
}
