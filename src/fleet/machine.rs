//! One simulated machine from power-on to its kernel and initial disk, in the steps of its firmware.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::context::Context;
use super::dhcp::{Answer, Speaker};
use super::failure::Failure;
use super::http::{Agent, Http};
use super::limits::CHAINED_SCRIPTS_MAX;
use super::menu::{self, Choice, Ipxe};
use super::relay::{Port, Relay, Xids};
use super::tftp::{Fetched, Tftp};
use super::url::{Scheme, Url};
use super::{Fetch, Lease, Model};
use crate::observe::events::Stage;
use crate::tftp::client::Behaviour;

/// A machine before it is switched on.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) context: Rc<Context>,
    pub(super) port: Port,
    pub(super) errand: Errand,
}

/// What a machine is there for.
#[derive(Debug)]
pub(super) enum Errand {
    Boot {
        relay: Rc<Relay>,
        model: Model,
        xids: Xids,
        /// The menu entry that the person at the console picks.
        pick: Rc<str>,
    },
    Fetch(Rc<[Fetch]>),
}

/// What came of one machine.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What the machine was given last; None where it never got an address.
    pub(super) lease: Option<Lease>,
    /// Each finished step and how long it took.
    pub(super) steps: Vec<(Stage, Duration)>,
    pub(super) end: Result<(), Failure>,
}

impl Machine {
    /// Switches the machine on.
    pub(super) async fn boot(self) -> Outcome {
        let Self { context, port, errand } = self;
        let mut outcome = Outcome { lease: None, steps: Vec::new(), end: Ok(()) };
        let mut steps = Steps { begun: Instant::now(), done: &mut outcome.steps };
        outcome.end = match errand {
            Errand::Fetch(files) => fetch_all(&context, port, &files, &mut steps).await,
            Errand::Boot { relay, model, mut xids, pick } => {
                let boot = Boot { context: &context, port, pick: &pick };
                match relay.acquire(port, model.speaker(), &mut xids).await {
                    Ok(answer) => {
                        steps.done(Stage::Dhcp);
                        outcome.lease = Some(Lease::of(port, &answer));
                        boot.load(model, answer, &mut steps).await
                    }
                    Err(failure) => Err(failure),
                }
            }
        };
        context.progress.add_machine(outcome.end.is_ok());
        outcome
    }
}

impl Lease {
    fn of(port: Port, answer: &Answer) -> Self {
        let lease_s = answer.lease_s.unwrap_or(0);
        Self { machine: port.circuit, mac: port.mac, address: answer.address, lease_s }
    }
}

/// The files of a machine that has nothing else to do.
async fn fetch_all(context: &Context, port: Port, files: &[Fetch], steps: &mut Steps<'_>) -> Result<(), Failure> {
    let address = context.wire.unleased(port.circuit, *context.tftp.ip());
    let tftp = Tftp::new(context, address, u64::from(port.circuit));
    let mut http = Http::new(context, Agent::Ipxe, address);
    for file in files {
        match file {
            Fetch::Tftp(name) => {
                must(&tftp, &Behaviour::ipxe(), name).await?;
                steps.done(Stage::Loader);
            }
            Fetch::TftpAs(name, behaviour) => {
                must(&tftp, behaviour, name).await?;
                steps.done(Stage::Loader);
            }
            Fetch::Http(url) => {
                http.fetch(&parsed(url)?, false).await?;
                steps.done(Stage::File);
            }
            Fetch::HttpOnce(url) => {
                Http::new(context, Agent::Grub, address).fetch(&parsed(url)?, false).await?;
                steps.done(Stage::File);
            }
        }
    }
    Ok(())
}

fn parsed(url: &str) -> Result<Url, Failure> {
    Url::parse(url).ok_or_else(|| Failure::BadUrl(url.to_owned()))
}

/// A machine that has an address and goes on with its loader.
struct Boot<'a> {
    context: &'a Context,
    port: Port,
    pick: &'a str,
}

impl Boot<'_> {
    async fn load(&self, model: Model, answer: Answer, steps: &mut Steps<'_>) -> Result<(), Failure> {
        let file = answer.boot_file.ok_or(Failure::NoBootFile)?;
        match model {
            Model::BiosPxe => self.pxelinux(answer.address, &file, steps).await,
            Model::UefiPxe => self.shim_and_grub(answer.address, &file, steps).await,
            Model::Ipxe => self.ipxe(answer.address, &file, steps).await,
        }
    }

    /// ROM, lpxelinux, its modules, its search for a configuration with all the misses that belong to it (B-1).
    async fn pxelinux(&self, address: Ipv4Addr, loader: &str, steps: &mut Steps<'_>) -> Result<(), Failure> {
        let tftp = self.tftp(address);
        let (rom, pxelinux) = (Behaviour::ipxe(), Behaviour::pxelinux());
        let folder = folder(loader);
        must(&tftp, &rom, loader).await?;
        must(&tftp, &pxelinux, &format!("{folder}ldlinux.c32")).await?;
        steps.done(Stage::Loader);
        let text = self.search(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        let read = menu::pxelinux(&text, self.pick);
        if let Some(program) = &read.program {
            // The menu program, its libraries, and the configuration once more.
            for name in [program.as_str(), "libcom32.c32", "libutil.c32"] {
                must(&tftp, &pxelinux, &under(&folder, name)).await?;
            }
            self.search(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        }
        steps.done(Stage::Menu);
        let choice = read.choice.ok_or_else(|| Failure::NoEntry(self.pick.to_string()))?;
        let Port { mac, uuid, .. } = self.port;
        let mut http = Http::new(self.context, Agent::Syslinux { mac, uuid }, address);
        let place = |name: &str| Place::of(name, &folder);
        self.images(choice, place, &tftp, &pxelinux, &mut http, steps).await
    }

    /// OVMF's size probe and fetch, shim's misses and its fetch of GRUB, GRUB's lists and its search for a configuration.
    async fn shim_and_grub(&self, address: Ipv4Addr, loader: &str, steps: &mut Steps<'_>) -> Result<(), Failure> {
        let tftp = self.tftp(address);
        let (edk2, shim, grub) = (Behaviour::edk2(), Behaviour::shim(), Behaviour::grub());
        let folder = folder(loader);
        must(&tftp, &edk2, loader).await?;
        let (asides, second_stage) = shim_names(&folder);
        for name in asides {
            tftp.fetch(&shim, &name, false).await?;
        }
        must(&tftp, &shim, &second_stage).await?;
        steps.done(Stage::Loader);
        for list in ["command.lst", "fs.lst", "crypto.lst", "terminal.lst"] {
            tftp.fetch(&grub, &format!("/{folder}grub/x86_64-efi/{list}"), false).await?;
        }
        let text = self.search(&tftp, &grub, self.grub_names(&folder, address)).await?;
        let server = self.context.tftp.ip().to_string();
        let root = format!("tftp,{server}");
        let known = [
            ("root", root.as_str()),
            ("net_default_server", &server),
            ("grub_cpu", "x86_64"),
            ("grub_platform", "efi"),
        ];
        let choice = menu::grub(&text, self.pick, &known).ok_or_else(|| Failure::NoEntry(self.pick.to_string()))?;
        steps.done(Stage::Menu);
        let mut http = Http::new(self.context, Agent::Grub, address);
        self.images(choice, Place::of_grub, &tftp, &grub, &mut http, steps).await
    }

    /// The script that DHCP named, the scripts it leads to, and what the last one boots.
    async fn ipxe(&self, address: Ipv4Addr, script: &str, steps: &mut Steps<'_>) -> Result<(), Failure> {
        let tftp = self.tftp(address);
        let rom = Behaviour::ipxe();
        let mut http = Http::new(self.context, Agent::Ipxe, address);
        let Port { mac, uuid, .. } = self.port;
        let (mac, dashed, uuid) = (mac.to_string(), mac.dashed(), uuid.to_string());
        let ip = address.to_string();
        let known = [
            ("mac", mac.as_str()),
            ("net0/mac", &mac),
            ("net0/mac:hexhyp", &dashed),
            ("mac:hexhyp", &dashed),
            ("uuid", &uuid),
            ("net0/ip", &ip),
            ("ip", &ip),
            ("buildarch", "x86_64"),
            ("platform", "pcbios"),
        ];
        let mut at = Url::parse(script).unwrap_or_else(|| tftp_url(self.context, script));
        for _ in 0..CHAINED_SCRIPTS_MAX {
            let text = fetch(&tftp, &rom, &mut http, &at, true).await?;
            match menu::ipxe(&String::from_utf8_lossy(&text), self.pick, &known) {
                None => return Err(Failure::NoEntry(self.pick.to_string())),
                Some(Ipxe::Chain(next)) => at = at.join(&next).ok_or(Failure::BadUrl(next))?,
                Some(Ipxe::Boot(choice)) => {
                    steps.done(Stage::Menu);
                    let place = |name: &str| at.join(name).map(Place::Url);
                    return self.images(choice, place, &tftp, &rom, &mut http, steps).await;
                }
            }
        }
        Err(Failure::NoMenu)
    }

    /// The kernel and every initial disk, from where the menu says they are.
    async fn images(
        &self,
        choice: Choice,
        place: impl Fn(&str) -> Option<Place>,
        tftp: &Tftp<'_>,
        loader: &Behaviour,
        http: &mut Http<'_>,
        steps: &mut Steps<'_>,
    ) -> Result<(), Failure> {
        let initrds = choice.initrds.into_iter().map(|name| (name, Stage::Initrd));
        for (name, stage) in std::iter::once((choice.kernel, Stage::Kernel)).chain(initrds) {
            match place(&name).ok_or(Failure::BadUrl(name))? {
                Place::Tftp(path) => must(tftp, loader, &path).await?,
                Place::Url(url) => drop(fetch(tftp, loader, http, &url, false).await?),
            }
            steps.done(stage);
        }
        Ok(())
    }

    fn tftp(&self, address: Ipv4Addr) -> Tftp<'_> {
        Tftp::new(self.context, address, u64::from(self.port.circuit))
    }

    /// Asks for one name after the other, as loaders do, until there is a file.
    async fn search(&self, tftp: &Tftp<'_>, loader: &Behaviour, names: Vec<String>) -> Result<String, Failure> {
        for name in names {
            if let Fetched::File(text) = tftp.fetch(loader, &name, true).await? {
                return Ok(String::from_utf8_lossy(&text).into_owned());
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

/// Steps of a boot as they end.
struct Steps<'a> {
    begun: Instant,
    done: &'a mut Vec<(Stage, Duration)>,
}

impl Steps<'_> {
    fn done(&mut self, stage: Stage) {
        let now = Instant::now();
        self.done.push((stage, now - self.begun));
        self.begun = now;
    }
}

/// Fetches a file that has to be there.
async fn must(tftp: &Tftp<'_>, loader: &Behaviour, name: &str) -> Result<(), Failure> {
    match tftp.fetch(loader, name, false).await? {
        Fetched::File(_) => Ok(()),
        Fetched::Missing => Err(Failure::TftpMissing(name.to_owned())),
    }
}

async fn fetch(
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
fn folder(loader: &str) -> String {
    loader.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

/// What shim asks for beside itself: files that are normally absent, and GRUB (B-10).
fn shim_names(folder: &str) -> ([String; 3], String) {
    let asides = ["revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi"];
    (asides.map(|name| format!("{folder}{name}")), format!("{folder}grubx64.efi"))
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
    /// Who speaks DHCP when this machine is switched on.
    pub(super) fn speaker(self) -> Speaker {
        match self {
            Self::BiosPxe => Speaker::BiosRom,
            Self::UefiPxe => Speaker::UefiPxe,
            Self::Ipxe => Speaker::Ipxe,
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
        let (asides, second_stage) = shim_names(&folder("efi/bootnetx64.efi"));
        assert!(asides.iter().all(|name| name.starts_with("efi/")), "{asides:?}");
        assert_eq!(second_stage, "efi/grubx64.efi");
        assert_eq!(shim_names(&folder("bootnetx64.efi")).1, "grubx64.efi");
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
