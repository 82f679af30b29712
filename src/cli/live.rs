//! `ringboot check --live [HOST]`: walks boot chains over the sockets of the running server and
//! names the first broken link of each.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;

use super::client::{Order, Server};
use super::output;
use crate::api::types::{EndedWalk, WalkFirmware, WalkOffer, WalkRequest};
use crate::boot::names::parse_menu_name;
use crate::config::{Config, ConfigPlaces};
use crate::control::loaders;
use crate::dhcp::subnet::{AnsweringMode, ClientAdmission, Subnet};
use crate::fleet::walk::{self, BrokenChain, ChainReport, WalkStart};
use crate::model::machine::{Firmware, Mac};
use crate::model::network::Ipv4Network;
use crate::observe::events::MachineStage;
use crate::template;

const PATH: &str = "/v1/walks";
/// Chains in one run: each may take some seconds.
const CHAINS_MAX: usize = 256;
/// Offers in one chain. An iPXE that was loaded requests an address once more; one that loads iPXE
/// again would never end.
const OFFERS_MAX: usize = 3;
/// The unknown machine of a walk: a locally administered address.
const UNKNOWN: Mac = Mac([0x02, 0x72, 0x62, 0x77, 0x6c, 0x6b]);

/// The chains to walk.
pub(super) struct Wanted<'a> {
    pub(super) config: &'a Config,
    pub(super) file: &'a Path,
    /// Overrides the socket of the configuration.
    pub(super) socket: Option<&'a Path>,
    /// Empty: every reserved machine and an unknown one.
    pub(super) host: &'a str,
    pub(super) firmware: Option<&'a str>,
    pub(super) json: bool,
}

/// Exit 0: every chain is complete; 1: one is broken, or no server answers; 2: there is no such
/// machine.
pub(super) fn run(wanted: &Wanted<'_>) -> ExitCode {
    // No server was asked so far, so a wrong name is a fault of usage and has the exit code 2.
    let machines = match choose_machines(wanted) {
        Ok(machines) => machines,
        Err(error) => {
            complain!("{error:#}");
            return ExitCode::from(2);
        }
    };
    match walk_all(wanted, &machines) {
        Ok(chains) => {
            let broken = chains.iter().filter(|chain| chain.fault.is_some()).count();
            let code = if broken > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            output::say(
                &if wanted.json { as_json(chains, broken) } else { as_text(&chains, broken) },
                code,
            )
        }
        Err(error) => {
            complain!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A machine to walk, and its subnet.
struct WalkedMachine {
    mac: Mac,
    name: String,
    subnet: Option<Ipv4Network>,
    /// True: walk with the firmware that the server last saw. False: with every one that has a
    /// loader.
    is_known: bool,
}

/// The JSON of `--json`.
#[derive(Serialize)]
struct WalkReport {
    chains: Vec<Chain>,
    broken: usize,
}

/// One chain and its result.
#[derive(Serialize)]
struct Chain {
    machine: String,
    firmware: String,
    #[serde(rename = "links")]
    lines: Vec<ChainLink>,
    notes: Vec<String>,
    #[serde(rename = "broken")]
    fault: Option<Fault>,
}

/// A link that is whole.
#[derive(Serialize)]
struct ChainLink {
    stage: String,
    text: String,
}

/// The first broken link.
#[derive(Serialize)]
struct Fault {
    stage: String,
    entry: Option<String>,
    what: String,
    /// The line of the configuration or menu that caused it.
    place: String,
    /// The server's sentence about it, if it had one.
    #[serde(rename = "server")]
    said: Option<String>,
}

fn choose_machines(wanted: &Wanted<'_>) -> anyhow::Result<Vec<WalkedMachine>> {
    let subnets = &wanted.config.snapshot.dhcp.subnets;
    let served = || subnets.iter().filter(|subnet| subnet.mode == AnsweringMode::Server);

    // Subnets that are off count too: the walk of a machine there names the key that keeps it out.
    let mut reserved: Vec<(WalkedMachine, Ipv4Addr, Option<String>)> = Vec::new();
    for subnet in subnets {
        for host in &subnet.reservations {
            let name = host.hostname.clone().unwrap_or_else(|| host.address.to_string());
            let machine = WalkedMachine {
                mac: host.mac,
                name: format!("{} {name}", host.mac),
                subnet: Some(subnet.network),
                is_known: true,
            };
            reserved.push((machine, host.address, host.hostname.clone()));
        }
    }

    if wanted.host.is_empty() {
        let open =
            served().filter(|subnet| subnet.clients != ClientAdmission::Known).collect::<Vec<_>>();
        // A subnet with `clients = "known"` answers no stranger, so that walk could only fail.
        let mut all = if open.is_empty() && served().next().is_some() {
            Vec::new()
        } else {
            place_machine(UNKNOWN, "an unknown machine", &open)
        };
        all.extend(reserved.into_iter().map(|(machine, ..)| machine));
        return Ok(all);
    }

    let mac: Option<Mac> = wanted.host.parse().ok();
    let named = reserved.into_iter().filter(|(machine, address, name)| {
        Some(machine.mac) == mac
            || address.to_string() == wanted.host
            || name.as_deref() == Some(wanted.host)
    });
    let named: Vec<WalkedMachine> = named.map(|(machine, ..)| machine).collect();
    match (named.is_empty(), mac) {
        (false, _) => Ok(named),
        (true, Some(mac)) => {
            Ok(place_machine(mac, &mac.to_string(), &served().collect::<Vec<_>>()))
        }
        (true, None) => {
            bail!(
                "{:?} is neither a hardware address nor the name or address of a \
                 [[dhcp.subnet.host]]",
                wanted.host
            )
        }
    }
}

/// A machine without a reservation, once on each subnet; without a subnet where there is none.
fn place_machine(mac: Mac, name: &str, subnets: &[&Subnet]) -> Vec<WalkedMachine> {
    let is_known = mac != UNKNOWN;
    if subnets.is_empty() {
        return vec![WalkedMachine { mac, name: name.to_owned(), subnet: None, is_known }];
    }
    subnets
        .iter()
        .map(|subnet| WalkedMachine {
            mac,
            name: format!("{name} on {}", subnet.network),
            subnet: Some(subnet.network),
            is_known,
        })
        .collect()
}

fn walk_all(wanted: &Wanted<'_>, machines: &[WalkedMachine]) -> anyhow::Result<Vec<Chain>> {
    let walker = Walker {
        server: Server::new(wanted.file.to_path_buf(), wanted.socket.map(Path::to_path_buf)),
        places: &wanted.config.places,
        config: wanted.config,
    };
    let mut chains = Vec::new();
    for machine in machines {
        // The hardware address of the unknown machine is made up, so no server has seen its
        // firmware.
        let last =
            machine.is_known.then(|| walker.find_last_firmware(machine)).transpose()?.flatten();
        for (kind, firmware, key) in choose_kinds(wanted, last.as_deref()) {
            if chains.len() == CHAINS_MAX {
                bail!("more than {CHAINS_MAX} chains: name one machine with --live HOST");
            }
            chains.push(walker.walk_machine(machine, kind, firmware, key)?);
        }
    }
    if chains.is_empty() {
        bail!("nothing to walk: no machine, or no loader in [boot]");
    }
    Ok(chains)
}

/// The firmware to walk: the requested one, the one last seen, or every one with a loader in the
/// configuration.
fn choose_kinds(
    wanted: &Wanted<'_>,
    last: Option<&str>,
) -> Vec<(&'static str, Firmware, &'static str)> {
    let boot = &wanted.config.snapshot.dhcp.boot;
    let configured = loaders::list_boot_keys(boot);
    let named = wanted.firmware.or(last);
    let fitting = walk::KINDS.iter().filter(|(name, _, key)| match (named, *name) {
        (Some(named), _) => *name == named,
        // With a menu the server renders a script for iPXE.
        (None, "ipxe") => wanted.config.snapshot.menu.is_some() || boot.ipxe.is_some(),
        (None, _) => {
            name == key && configured.iter().any(|(known, value)| known == key && value.is_some())
        }
    });
    fitting.copied().collect()
}

struct Walker<'a> {
    server: Server,
    places: &'a ConfigPlaces,
    config: &'a Config,
}

impl Walker<'_> {
    /// The firmware that the server last saw the machine with.
    fn find_last_firmware(&self, machine: &WalkedMachine) -> anyhow::Result<Option<String>> {
        let offer = self.request_offer(machine, "bios")?;
        self.end_walk(&offer)?;
        Ok(offer.seen_as.map(|firmware| firmware.to_string()))
    }

    fn request_offer(&self, machine: &WalkedMachine, kind: &str) -> anyhow::Result<WalkOffer> {
        let request = WalkRequest {
            machine: machine.mac.to_string(),
            firmware: WalkFirmware::parse(kind)
                .ok_or_else(|| anyhow!("there is no firmware {kind}"))?,
            subnet: machine.subnet.map(|network| network.to_string()),
        };
        self.server.ask(&Order::post(PATH).json(&request)?)
    }

    /// Ends the walk. Returns the sentences of the server about it.
    fn end_walk(&self, offer: &WalkOffer) -> anyhow::Result<Vec<String>> {
        if offer.silence.is_some() {
            return Ok(Vec::new());
        }
        let ended: EndedWalk = self.server.ask(&Order::delete(PATH).below(offer.source))?;
        Ok(ended.said)
    }

    fn walk_machine(
        &self,
        machine: &WalkedMachine,
        kind: &str,
        firmware: Firmware,
        key: &'static str,
    ) -> anyhow::Result<Chain> {
        let (name, kind) = (machine.name.clone(), kind.to_owned());
        let mut chain = Chain {
            machine: name,
            firmware: kind.clone(),
            lines: Vec::new(),
            notes: Vec::new(),
            fault: None,
        };
        let (mut kind, mut firmware, mut key) = (kind, firmware, key);
        for _ in 0..OFFERS_MAX {
            let offer = self.request_offer(machine, &kind)?;
            let Some(start) = self.check_offer(&offer, machine, firmware, key, &mut chain) else {
                drop(self.end_walk(&offer)?);
                return Ok(chain);
            };
            key = self.find_boot_key(&start.boot_file, key);
            let walked = walk::walk_chain(&start);
            // The walk ends before its error is returned. Otherwise its loopback address would go
            // on to stand for the machine.
            let said = self.end_walk(&offer)?;
            let walked = walked.context("the walk cannot run")?;
            chain.add(&walked);
            if let Some(broken) = &walked.broken {
                chain.fault = Some(self.build_fault(broken, key, &said));
                return Ok(chain);
            }
            // An iPXE that was loaded requests an address itself, and gets another boot file.
            let Some(next) = walked.goes_on_as.and_then(walk::spell_firmware_kind) else {
                return Ok(chain);
            };
            let Some((name, next, next_key)) = walk::KINDS.iter().find(|(name, ..)| *name == next)
            else {
                break;
            };
            (kind, firmware) = ((*name).to_owned(), *next);
            key = next_key;
        }
        let what = "iPXE loads iPXE again in a loop".to_owned();
        chain.fault = Some(Fault::new("loader", what, self.places.find_loader(key).to_string()));
        Ok(chain)
    }

    /// Adds the offer, the link before the first file, to the chain. None: it is broken.
    fn check_offer(
        &self,
        offer: &WalkOffer,
        machine: &WalkedMachine,
        firmware: Firmware,
        key: &str,
        chain: &mut Chain,
    ) -> Option<WalkStart> {
        if let Some(silence) = &offer.silence {
            let what = format!("no OFFER: {} ({})", silence.text, offer.reasons.join("; "));
            let place = self.find_subnet_place(offer, &silence.key);
            chain.fault = Some(Fault::new("offer", what, place));
            return None;
        }
        if offer.asked {
            let reasons = offer.reasons.join("; ");
            let place = self.find_subnet_place(offer, "subnet");
            let text = format!("{} ({reasons}) {place}", offer.address);
            chain.lines.push(ChainLink { stage: "offer".to_owned(), text });
        } else {
            chain.notes.push("this server answers no DHCP: no offer was requested".to_owned());
        }

        // Such an OFFER gives a complete lease, but firmware has nothing to load after it.
        let Some(boot_file) = offer.boot_file.clone() else {
            let why = offer.no_loader.clone().unwrap_or_else(|| offer.reasons.join("; "));
            chain.fault = Some(Fault::new("offer", why, self.places.find_loader(key).to_string()));
            return None;
        };
        let WalkOffer { address, source, .. } = *offer;
        let server = offer.server.unwrap_or(Ipv4Addr::LOCALHOST);
        let tftp = SocketAddrV4::new(server, offer.tftp_port);
        Some(WalkStart { mac: machine.mac, firmware, address, tftp, boot_file, source })
    }

    /// The line of a key in the subnet of the offer.
    fn find_subnet_place(&self, offer: &WalkOffer, key: &str) -> String {
        let network = offer.subnet.as_ref().map(|network| network.parse::<Ipv4Network>());
        if let Some(Ok(network)) = network
            && let Some(place) = self.places.find_subnet(network, key)
        {
            return place.to_string();
        }
        "no [[dhcp.subnet]] matches".to_owned()
    }

    /// The key of `[boot]` that names this boot file: an iPXE may get the loader of its
    /// architecture.
    fn find_boot_key(&self, boot_file: &str, key: &'static str) -> &'static str {
        let names = |value: Option<&str>| {
            value.is_some_and(|value| boot_file.ends_with(value.trim_start_matches('/')))
        };
        let keys = loaders::list_boot_keys(&self.config.snapshot.dhcp.boot);
        let own = keys.iter().find(|(known, value)| *known == key && names(*value));
        own.or_else(|| keys.iter().find(|(_, value)| names(*value))).map_or(key, |(known, _)| known)
    }

    /// A broken link with the line that caused it.
    fn build_fault(&self, broken: &BrokenChain, key: &str, said: &[String]) -> Fault {
        let in_menu = broken.menu.as_ref().filter(|_| !broken.is_rendered).map(|(name, line)| {
            let path = self.find_menu_file(name);
            let line = if *line > 0 { format!(":{line}") } else { String::new() };
            format!("{}{line} (a menu written by hand)", path.display())
        });
        let place = in_menu
            .or_else(|| self.find_entry_place(broken))
            .unwrap_or_else(|| self.places.find_loader(key).to_string());
        // The last refusal of that file: on their way loaders try other names in vain.
        let said = said.iter().rfind(|text| concerns(text, broken)).cloned();
        let mut fault = Fault::new(broken.stage.as_str(), broken.what.clone(), place);
        (fault.entry, fault.said) = (broken.entry.clone(), said);
        fault
    }

    /// The line of the menu entry that names the missing file.
    fn find_entry_place(&self, broken: &BrokenChain) -> Option<String> {
        let key = match broken.stage {
            MachineStage::Kernel => "kernel",
            MachineStage::Initrd => "initrd",
            MachineStage::AnswerFile => "arguments",
            _ => return None,
        };
        let place = self.places.find_entry(broken.entry.as_deref()?, key, &broken.name)?;
        Some(place.to_string())
    }

    /// The file of a menu's TFTP name or URL.
    fn find_menu_file(&self, name: &str) -> PathBuf {
        let path = name
            .split_once("://")
            .map_or(name, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
        let path = path.trim_start_matches('/');
        let file = self.config.root.join(path);
        let template = self.config.root.join(format!("{path}.j2"));
        if !file.is_file() && template.is_file() && parse_menu_name(path.as_bytes()).is_some() {
            template
        } else {
            file
        }
    }
}

/// Whether a sentence of the server is about the broken link: `TFTP refused debian/linux: no such
/// file`, `HTTP refused ks.cfg.j2:2:4: ...`.
fn concerns(said: &str, broken: &BrokenChain) -> bool {
    let rest = said.split_once(" refused ").map_or("", |(_, rest)| rest);
    let name = rest.split(':').next().unwrap_or_default().trim_start_matches('/');
    let name = name.strip_suffix(template::SUFFIX).unwrap_or(name);
    !name.is_empty() && (broken.what.contains(name) || broken.name.contains(name))
}

impl Fault {
    fn new(stage: &str, what: String, place: String) -> Self {
        Self { stage: stage.to_owned(), entry: None, what, place, said: None }
    }
}

impl Chain {
    fn add(&mut self, walked: &ChainReport) {
        for link in &walked.links {
            // The files up to the menu are the same for every entry.
            let entry = link
                .entry
                .as_ref()
                .filter(|_| link.stage > MachineStage::Menu)
                .map(|entry| format!("{entry}: "));
            for file in &link.files {
                // The walk samples large files, so the line says how much of the file it read.
                let part = if file.received < file.octets {
                    format!(", read {}", size(file.received))
                } else {
                    String::new()
                };
                let text = format!(
                    "{}{} {} in {}{part}",
                    entry.as_deref().unwrap_or_default(),
                    file.name,
                    size(file.octets),
                    time(file.took)
                );
                self.lines.push(ChainLink { stage: link.stage.as_str().to_owned(), text });
            }
        }
        self.notes.extend(walked.notes.iter().cloned());
    }
}

fn size(octets: u64) -> String {
    match octets {
        0..10_240 => format!("{octets} B"),
        10_240..10_485_760 => format!("{} KiB", octets / 1024),
        _ => format!("{} MiB", octets / 1_048_576),
    }
}

fn time(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

fn as_text(chains: &[Chain], broken: usize) -> String {
    let mut text = String::new();
    for chain in chains {
        let _ = writeln!(text, "{}  {}", chain.machine, chain.firmware);
        for ChainLink { stage, text: line } in &chain.lines {
            let _ = writeln!(text, "  \u{2713} {stage:<12} {line}");
        }
        for note in &chain.notes {
            let _ = writeln!(text, "  - {note}");
        }
        if let Some(fault) = &chain.fault {
            let entry = fault
                .entry
                .as_ref()
                .map(|entry| format!(" of the entry `{entry}`"))
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "  BROKEN at {}{entry}: {}\n    behind it: {}",
                fault.stage, fault.what, fault.place
            );
            if let Some(said) = &fault.said {
                let _ = writeln!(text, "    the server says: {said}");
            }
        }
    }
    let _ = writeln!(text, "{} walked, {broken} broken", chains.len());
    text
}

fn as_json(chains: Vec<Chain>, broken: usize) -> String {
    output::in_json(&WalkReport { chains, broken })
}
