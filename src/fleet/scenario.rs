//! What machines do in a run: reads a scenario file, and names the line of an error.
//!
//! docs/loadtest.md describes the file. The load generator has the built-in scenarios.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::arrival::{ArrivalPattern, parse_duration};
use super::content::{ContentMap, ExpectedContent};
use super::limits::{MACHINES_MAX, REPEAT_MAX, WEIGHT_MAX};
use super::models::FirmwareModel;
use super::schedule::ArrivalRate;
use ringboot_observe::events::MachineStage;
use ringboot_protocol::tftp::client::{AskedOption, ClientBehaviour};
use ringboot_protocol::tftp::limits::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN};

/// A load without its server.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name: of a built-in scenario, or of the file.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// The default number of machines.
    pub clients: Option<u32>,
    /// The default of when machines start.
    pub arrival: ArrivalPattern,
    /// Machines begin again until then; None: each runs once.
    pub duration: Option<Duration>,
    /// Boots and requests that begin before do not count.
    pub warm_up: Duration,
    /// Names and sizes in bytes of files that a server must offer besides those of firmware.
    pub files: BTreeMap<String, u64>,
    /// The `[[machine]]` tables, in the order of the file.
    pub roles: Vec<MachineRole>,
}

/// The task of a part of the machines.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineRole {
    /// Its share of the machines, by the sum of all weights.
    pub weight: u32,
    /// What these machines do.
    pub does: RoleTask,
    /// The rate of requests of these machines together; None: each machine makes its next one after
    /// its answer. Only for steps.
    pub rate: Option<ArrivalRate>,
}

/// What machines of one role do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleTask {
    /// The whole boot of this firmware, from DISCOVER to the last byte of the initrd.
    Boot(FirmwareModel),
    /// These requests, one after the other.
    Steps(Vec<ScenarioStep>),
}

/// A request without firmware, with its repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioStep {
    /// The request of each repetition.
    pub request: StepRequest,
    /// How often it is made.
    pub repeat: u32,
}

/// The request of a plain step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepRequest {
    /// DISCOVER to ACK. Later requests use the leased address.
    Dhcp,
    /// A name, with the options and timers of this client.
    Tftp {
        /// The file name of the RRQ.
        name: String,
        /// Options, timers and retries of the client.
        behaviour: ClientBehaviour,
    },
    /// A path below the root.
    Http {
        /// The path, with its leading slash.
        path: String,
        /// Use the connection of the previous request and keep it; else use a new one.
        keep: bool,
        /// This many bytes from a random place, another one each time; None: the whole file.
        range: Option<u64>,
    },
}

impl StepRequest {
    /// The stage under which its time counts.
    pub(super) fn stage(&self) -> MachineStage {
        match self {
            Self::Dhcp => MachineStage::Dhcp,
            Self::Tftp { .. } => MachineStage::Loader,
            Self::Http { .. } => MachineStage::File,
        }
    }
}

/// An error of a scenario file, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}: {what}")]
pub struct ScenarioError {
    /// The scenario file.
    pub path: String,
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong, without its place.
    pub what: String,
}

impl MachineRole {
    /// Machines with this firmware.
    pub fn booting(weight: u32, model: FirmwareModel) -> Self {
        Self { weight, does: RoleTask::Boot(model), rate: None }
    }

    /// Machines with these steps, each after the answer to the previous one.
    pub fn stepping(weight: u32, steps: Vec<ScenarioStep>) -> Self {
        Self { weight, does: RoleTask::Steps(steps), rate: None }
    }
}

impl RoleTask {
    /// Whether any part of it uses DHCP.
    pub fn uses_dhcp(&self) -> bool {
        match self {
            Self::Boot(_) => true,
            Self::Steps(steps) => steps.iter().any(|step| step.request == StepRequest::Dhcp),
        }
    }

    /// Whether any part of it fetches a file.
    pub(super) fn fetches_files(&self) -> bool {
        match self {
            Self::Boot(_) => true,
            Self::Steps(steps) => steps.iter().any(|step| step.request != StepRequest::Dhcp),
        }
    }
}

impl Scenario {
    /// Reads the text of a file. The scenario has the name of the file.
    pub fn parse(path: &str, text: &str) -> Result<Self, ScenarioError> {
        let read = DeTable::parse(text)
            .map_err(|error| make_complaint(&error.span().unwrap_or(0..0), error.message()));
        read.and_then(|table| Self::read(path, table.into_inner())).map_err(
            |ScenarioComplaint { at, what }| ScenarioError {
                path: path.to_owned(),
                line: text.get(..at).unwrap_or_default().matches('\n').count() + 1,
                what,
            },
        )
    }

    /// The files that a server must offer. Their contents are a function of name and size, so that
    /// the writer and the checker of a file need not share them.
    pub fn make_contents(&self) -> ContentMap {
        let mut contents = ContentMap::default();
        for (name, octets) in &self.files {
            contents.insert(
                name,
                ExpectedContent::Generated { seed: hash_name(name), octets: *octets },
            );
        }
        contents
    }

    fn read(path: &str, table: DeTable<'_>) -> Result<Self, ScenarioComplaint> {
        let file = path.rsplit_once('/').map_or(path, |(_, file)| file);
        let mut scenario = Self {
            name: file.strip_suffix(".toml").unwrap_or(file).to_owned(),
            about: String::new(),
            clients: None,
            arrival: ArrivalPattern::All,
            duration: None,
            warm_up: Duration::ZERO,
            files: BTreeMap::new(),
            roles: Vec::new(),
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "about" => scenario.about = read_toml_string(&value)?.to_owned(),
                "clients" => scenario.clients = Some(read_toml_number(&value, 1, MACHINES_MAX)?),
                "arrival" => scenario.arrival = parse_toml_text(&value, str::parse)?,
                "duration" => scenario.duration = Some(parse_toml_text(&value, parse_duration)?),
                "warm-up" => scenario.warm_up = parse_toml_text(&value, parse_duration)?,
                "files" => scenario.files = read_scenario_files(value)?,
                "machine" => scenario.roles = read_toml_tables(value, read_role)?,
                _ => {
                    return Err(complain_unknown_key(
                        &key,
                        "about, clients, arrival, duration, warm-up, [files], [[machine]]",
                    ));
                }
            }
        }
        if scenario.roles.is_empty() {
            return Err(make_complaint(&(0..0), "there is no [[machine]]"));
        }
        Ok(scenario)
    }
}

/// The numbers of the roles of machine 0, 1, 2, ... by their weights, mixed as evenly as possible.
pub(super) fn deal_roles(roles: &[MachineRole]) -> impl Iterator<Item = usize> {
    let whole: i64 = roles.iter().map(|role| i64::from(role.weight)).sum();
    let mut due = vec![0; roles.len()];
    std::iter::from_fn(move || {
        for (due, role) in due.iter_mut().zip(roles) {
            *due += i64::from(role.weight);
        }
        // The first of those that have waited longest.
        let (next, due) = due.iter_mut().enumerate().rev().max_by_key(|(_, due)| **due)?;
        *due -= whole;
        Some(next)
    })
}

/// An error at its place in the text.
struct ScenarioComplaint {
    at: usize,
    what: String,
}

type TomlValue<'a> = Spanned<DeValue<'a>>;
type TomlKey<'a> = Spanned<std::borrow::Cow<'a, str>>;

fn make_complaint(span: &Range<usize>, what: impl Into<String>) -> ScenarioComplaint {
    ScenarioComplaint { at: span.start, what: what.into() }
}

fn complain_unknown_key(key: &TomlKey<'_>, known: &str) -> ScenarioComplaint {
    make_complaint(&key.span(), format!("unknown key {}; known keys here: {known}", key.get_ref()))
}

fn read_toml_string<'v>(value: &'v TomlValue<'_>) -> Result<&'v str, ScenarioComplaint> {
    value
        .get_ref()
        .as_str()
        .ok_or_else(|| make_complaint(&value.span(), "a text in quotes is expected"))
}

/// A text that this function reads.
fn parse_toml_text<T>(
    value: &TomlValue<'_>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ScenarioComplaint> {
    read(read_toml_string(value)?).map_err(|what| make_complaint(&value.span(), what))
}

fn read_toml_number<T: TryFrom<i64>>(
    value: &TomlValue<'_>,
    least: i64,
    most: u32,
) -> Result<T, ScenarioComplaint> {
    if let Some(number) = value.get_ref().as_integer()
        && let Ok(number) = i64::from_str_radix(number.as_str(), number.radix())
        && (least..=i64::from(most)).contains(&number)
        && let Ok(number) = T::try_from(number)
    {
        return Ok(number);
    }
    Err(make_complaint(&value.span(), format!("a number from {least} to {most} is expected")))
}

/// The tables of an array, each read by this function.
fn read_toml_tables<T>(
    value: TomlValue<'_>,
    read: impl Fn(Range<usize>, DeTable<'_>) -> Result<T, ScenarioComplaint>,
) -> Result<Vec<T>, ScenarioComplaint> {
    let span = value.span();
    let DeValue::Array(values) = value.into_inner() else {
        return Err(make_complaint(&span, "an array is expected"));
    };
    let tables = values.into_iter().map(|value| {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => read(span, table),
            _ => Err(make_complaint(&span, "a table in braces is expected")),
        }
    });
    tables.collect()
}

fn read_scenario_files(value: TomlValue<'_>) -> Result<BTreeMap<String, u64>, ScenarioComplaint> {
    let span = value.span();
    let DeValue::Table(table) = value.into_inner() else {
        return Err(make_complaint(&span, "a table is expected"));
    };
    let mut files = BTreeMap::new();
    for (name, value) in table {
        let parts: Vec<&str> = name.get_ref().split('/').collect();
        if parts.iter().any(|part| part.is_empty() || *part == "." || *part == "..") {
            return Err(make_complaint(
                &name.span(),
                format!("{} is no name below a root", name.get_ref()),
            ));
        }
        files.insert(name.get_ref().to_string(), parse_toml_text(&value, parse_bytes)?);
    }
    Ok(files)
}

fn read_role(span: Range<usize>, table: DeTable<'_>) -> Result<MachineRole, ScenarioComplaint> {
    let (mut weight, mut does, mut rate) = (1, Vec::new(), None);
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "weight" => weight = read_toml_number(&value, 1, WEIGHT_MAX)?,
            "firmware" => does.push(RoleTask::Boot(parse_toml_text(&value, find_model)?)),
            "steps" => does.push(RoleTask::Steps(read_toml_tables(value, read_step)?)),
            "rate" => rate = Some(parse_toml_text(&value, str::parse)?),
            _ => {
                return Err(complain_unknown_key(
                    &key,
                    "weight, rate, and either firmware or steps",
                ));
            }
        }
    }

    // Each of the keys `firmware` and `steps` has pushed one task, and exactly one is allowed.
    match (does.pop(), does.pop()) {
        (Some(RoleTask::Boot(_)), None) if rate.is_some() => {
            Err(make_complaint(&span, "rate belongs to steps, not to firmware"))
        }
        (Some(does), None) if does != RoleTask::Steps(Vec::new()) => {
            Ok(MachineRole { weight, does, rate })
        }
        _ => Err(make_complaint(&span, "a [[machine]] has either firmware or steps")),
    }
}

fn find_model(name: &str) -> Result<FirmwareModel, String> {
    let found = FirmwareModel::ALL.into_iter().find(|model| model.name() == name);
    found.ok_or_else(|| {
        format!(
            "no firmware {name}; there are {}",
            FirmwareModel::ALL.map(FirmwareModel::name).join(", ")
        )
    })
}

/// The keys of a step as written.
#[derive(Default)]
struct StepKeys {
    repeat: Option<u32>,
    blksize: Option<u16>,
    windowsize: Option<u16>,
    manners: Option<ClientBehaviour>,
    keep: Option<bool>,
    range: Option<u64>,
}

fn read_step(span: Range<usize>, table: DeTable<'_>) -> Result<ScenarioStep, ScenarioComplaint> {
    let (mut written, mut asked) = (StepKeys::default(), Vec::new());
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "dhcp" if value.get_ref().as_bool() == Some(true) => {
                asked.push(("dhcp", String::new()))
            }
            "dhcp" => {
                return Err(make_complaint(&value.span(), "dhcp takes only the value true"));
            }
            "tftp" => asked.push(("tftp", read_toml_string(&value)?.to_owned())),
            "http" => asked.push(("http", read_toml_string(&value)?.to_owned())),
            "repeat" => written.repeat = Some(read_toml_number(&value, 1, REPEAT_MAX)?),
            "blksize" => {
                written.blksize =
                    Some(read_toml_number(&value, BLOCK_SIZE_MIN.into(), BLOCK_SIZE_MAX.into())?)
            }
            "windowsize" => {
                written.windowsize = Some(read_toml_number(&value, 1, u16::MAX.into())?)
            }
            "as" => written.manners = Some(parse_toml_text(&value, find_manners)?),
            "connection" => written.keep = Some(parse_toml_text(&value, parse_connection_word)?),
            "range" => written.range = Some(parse_toml_text(&value, parse_bytes)?.max(1)),
            _ => {
                return Err(complain_unknown_key(
                    &key,
                    "dhcp, tftp, http, repeat, blksize, windowsize, as, connection, range",
                ));
            }
        }
    }

    // Keys of a table have no order, so whether one fits the request is known only after all of
    // them.
    let repeat = written.repeat.take().unwrap_or(1);
    let request = match (asked.pop(), asked.is_empty()) {
        (Some((kind, name)), true) => written.read_request(kind, name),
        _ => Err("a step has one of dhcp, tftp and http"),
    };
    request
        .map(|request| ScenarioStep { request, repeat })
        .map_err(|what| make_complaint(&span, what))
}

impl StepKeys {
    fn read_request(self, kind: &str, name: String) -> Result<StepRequest, &'static str> {
        let of_tftp = self.blksize.is_some() || self.windowsize.is_some() || self.manners.is_some();
        let of_http = self.keep.is_some() || self.range.is_some();
        match kind {
            "tftp" if of_http => Err("connection and range belong to http"),
            "http" | "dhcp" if of_tftp => Err("blksize, windowsize and as belong to tftp"),
            "dhcp" if of_http => Err("connection and range belong to http"),
            "dhcp" => Ok(StepRequest::Dhcp),
            "http" => {
                let path = format!("/{}", name.trim_start_matches('/'));
                Ok(StepRequest::Http { path, keep: self.keep.unwrap_or(true), range: self.range })
            }
            _ => match self.manners {
                Some(_) if self.blksize.is_some() || self.windowsize.is_some() => {
                    Err("as sets the options: leave out blksize and windowsize")
                }
                Some(behaviour) => Ok(StepRequest::Tftp { name, behaviour }),
                None => Ok(StepRequest::Tftp {
                    name,
                    behaviour: build_plain_behaviour(self.blksize, self.windowsize),
                }),
            },
        }
    }
}

/// A client without firmware that asks only for these options.
fn build_plain_behaviour(blksize: Option<u16>, windowsize: Option<u16>) -> ClientBehaviour {
    let asks = [blksize.map(AskedOption::Blksize), windowsize.map(AskedOption::Windowsize)];
    ClientBehaviour {
        name: "plain",
        asks: asks.into_iter().flatten().collect(),
        ..ClientBehaviour::generic(0, 0)
    }
}

fn find_manners(name: &str) -> Result<ClientBehaviour, String> {
    Ok(match name {
        "edk2" => ClientBehaviour::edk2(),
        "shim" => ClientBehaviour::shim(),
        "ipxe" => ClientBehaviour::ipxe(),
        "grub" => ClientBehaviour::grub(),
        "pxelinux" => ClientBehaviour::pxelinux(),
        "u-boot" => ClientBehaviour::uboot(1),
        "pi3" => ClientBehaviour::pi3(),
        "pi4" => ClientBehaviour::pi4(),
        _ => {
            return Err(format!(
                "no loader {name}; there are edk2, shim, ipxe, grub, pxelinux, u-boot, pi3, pi4"
            ));
        }
    })
}

fn parse_connection_word(word: &str) -> Result<bool, String> {
    match word {
        "keep" => Ok(true),
        "close" => Ok(false),
        _ => Err(format!("a connection is \"keep\" or \"close\", not {word:?}")),
    }
}

/// The largest generated file, in bytes: a TiB.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// A size as people write it: `4096`, `4KiB`, `8MiB`, `1GiB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("{text:?} is no size: 4096, 4KiB, 8MiB or 1GiB")),
    };
    let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|octets| *octets <= FILE_BYTES_MAX)
        .ok_or_else(|| format!("{text:?} is no size up to a TiB"))
}

/// FNV-1a: a name has the same seed on every host.
fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Scenario, String> {
        Scenario::parse("dir/name.toml", text).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn a_file_says_who_does_what() {
        let text = r#"
            about = "a load"
            clients = 500
            arrival = "ramp:30s"
            duration = "10s"
            [files]
            "dir/vmlinuz" = "8MiB"
            [[machine]]
            weight = 3
            firmware = "bios-pxelinux"
            [[machine]]
            rate = "200/s"
            steps = [
              { dhcp = true },
              { tftp = "vmlinuz", blksize = 1468, windowsize = 16 },
              { tftp = "vmlinuz" },
              { tftp = "vmlinuz", as = "ipxe" },
              { http = "initrd.img", connection = "close", range = "1MiB", repeat = 100 },
            ]
        "#;
        let scenario = parse(text).unwrap();
        assert_eq!((scenario.name.as_str(), scenario.clients), ("name", Some(500)));
        assert_eq!(
            (scenario.arrival, scenario.duration),
            (ArrivalPattern::Ramp(Duration::from_secs(30)), Some(Duration::from_secs(10)))
        );
        assert_eq!(scenario.make_contents().find("/dir/vmlinuz").unwrap().octets(), 8 << 20);
        assert_eq!(scenario.roles[0], MachineRole::booting(3, FirmwareModel::BiosPxelinux));
        assert_eq!(scenario.roles[1].rate, Some("200/s".parse().unwrap()));
        let RoleTask::Steps(steps) = &scenario.roles[1].does else { unreachable!() };
        let asks = |step: &ScenarioStep| match &step.request {
            StepRequest::Tftp { behaviour, .. } => behaviour.asks.clone(),
            _ => unreachable!(),
        };
        assert_eq!(steps[0].request, StepRequest::Dhcp);
        assert_eq!(asks(&steps[1]), [AskedOption::Blksize(1468), AskedOption::Windowsize(16)]);
        assert_eq!(asks(&steps[2]), []);
        assert_eq!(asks(&steps[3]), ClientBehaviour::ipxe().asks);
        let request =
            StepRequest::Http { path: "/initrd.img".to_owned(), keep: false, range: Some(1 << 20) };
        assert_eq!(steps[4], ScenarioStep { request, repeat: 100 });
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
            ("about = ", "dir/name.toml:1: "),
            ("about = 1", "dir/name.toml:1: a text in quotes is expected"),
            ("about = \"\"", "dir/name.toml:1: there is no [[machine]]"),
            ("\nclient = 5", "dir/name.toml:2: unknown key client"),
            ("\n\nclients = 0", "dir/name.toml:3: a number from 1 to"),
            ("arrival = \"soon\"", "dir/name.toml:1: \"soon\" is no arrival"),
            ("duration = \"10\"", "dir/name.toml:1: \"10\" is no time"),
            ("[files]\n\"../x\" = \"1\"", "dir/name.toml:2: ../x is no name"),
            ("[files]\nx = \"1MB\"", "dir/name.toml:2: \"1MB\" is no size"),
            (
                "\n[[machine]]\nweight = 2",
                "dir/name.toml:2: a [[machine]] has either firmware or steps",
            ),
            (
                "[[machine]]\nrate = \"5/s\"\nfirmware = \"u-boot\"",
                "dir/name.toml:1: rate belongs to steps",
            ),
            (
                "[[machine]]\nrate = \"5\"",
                "dir/name.toml:2: \"5\" is no rate: 5000/s or poisson:5000/s",
            ),
            ("warm-up = \"5\"", "dir/name.toml:1: \"5\" is no time"),
            (
                "[[machine]]\nfirmware = \"coreboot\"",
                "dir/name.toml:2: no firmware coreboot; there are ",
            ),
            (
                "[[machine]]\nsteps = [\n{ tftp = \"a\", http = \"b\" }]",
                "dir/name.toml:3: a step has one of",
            ),
            (
                "[[machine]]\nsteps = [{ http = \"a\", blksize = 512 }]",
                "dir/name.toml:2: blksize, windowsize and as",
            ),
            (
                "[[machine]]\nsteps = [{ tftp = \"a\", blksize = 7 }]",
                "dir/name.toml:2: a number from 8 to",
            ),
            (
                "[[machine]]\nsteps = [{ tftp = \"a\", as = \"bios\" }]",
                "dir/name.toml:2: no loader bios",
            ),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.starts_with(said), "{text}\n{wrong}");
        }
    }

    #[test]
    fn machines_are_dealt_out_by_weight_and_mixed() {
        let role = MachineRole::booting;
        let roles = [role(3, FirmwareModel::BiosPxelinux), role(1, FirmwareModel::UefiPxe)];
        let order: Vec<usize> = deal_roles(&roles).take(8).collect();
        assert_eq!(order.iter().sum::<usize>(), 2, "{order:?}");
        assert!(order[..4].contains(&1) && order[4..].contains(&1), "{order:?}");
        let equal = [role(1, FirmwareModel::BiosPxelinux), role(1, FirmwareModel::UefiPxe)];
        assert_eq!(deal_roles(&equal).take(3).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
