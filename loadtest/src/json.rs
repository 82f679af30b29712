//! The report as data, version 1: written to a file, read back by `compare`, and the source of the
//! table and the page.

mod circumstances;
pub(crate) mod details;
pub(crate) mod many;
mod spelling;
pub(crate) mod spread;
mod summary;
mod times;
pub(crate) mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

use anyhow::{Context, ensure};
use ringboot_fleet::{BootRecord, FleetReport, SeriesBucket};
use ringboot_observe::events::MachineStage;
use serde::{Deserialize, Serialize};

use crate::drops::KernelDrops;
use details::{FailedMachineEntry, GeneratorLateness, ProtocolRates, SilenceEntry};
use many::{MergedPart, RepeatedRuns};
use spelling::count_milliseconds;
use verdict::ExpectationVerdict;

pub(crate) use circumstances::RunCircumstances;
pub(crate) use spelling::{format_utc, spell_stage_name};
pub(crate) use summary::RunSummary;
pub(crate) use times::TimeDistribution;

/// The version of the format. A new field needs no new version; no field changes its meaning.
pub(crate) const VERSION: u32 = 1;

/// One run, as docs/loadtest-report.md describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReportDocument {
    pub(crate) version: u32,
    pub(crate) summary: RunSummary,
    pub(crate) run: RunDescription,
    /// By the name of the stage; stages that no machine entered are absent.
    pub(crate) stages: BTreeMap<String, TimeDistribution>,
    /// DISCOVER to OFFER, and REQUEST to ACK. Reports of the first versions do not have them.
    #[serde(default)]
    pub(crate) dhcp_offer: TimeDistribution,
    #[serde(default)]
    pub(crate) dhcp_ack: TimeDistribution,
    /// Power-on to the kernel's last byte, of machines that loaded one.
    pub(crate) to_kernel: TimeDistribution,
    /// Power-on to the end, of machines that booted.
    pub(crate) boot: TimeDistribution,
    pub(crate) failures: Vec<CauseEntry>,
    /// The failed machines one by one; at most the first 10,000.
    #[serde(default)]
    pub(crate) failed_machines: Vec<FailedMachineEntry>,
    #[serde(default)]
    pub(crate) rates: ProtocolRates,
    #[serde(default)]
    pub(crate) lateness: GeneratorLateness,
    #[serde(default)]
    pub(crate) silences: Vec<SilenceEntry>,
    /// Drops of the server's kernel; None if the server is not on this host.
    #[serde(default)]
    pub(crate) server_drops: Option<KernelDrops>,
    /// Known limits of the run, printed before it began.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    #[serde(default)]
    pub(crate) oddities: Vec<OddityEntry>,
    pub(crate) series: Vec<SeriesPoint>,
    pub(crate) machines: Vec<BootRow>,
    /// Limits other than the server's speed, each a sentence.
    pub(crate) limits: Vec<String>,
    /// Whether each `--expect` is met.
    #[serde(default)]
    pub(crate) verdicts: Vec<ExpectationVerdict>,
    /// All runs of `--repeat`; None for a single run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repeats: Option<RepeatedRuns>,
    /// The reports that were merged into this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<MergedPart>,
}

/// The command, the server and the host of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunDescription {
    pub(crate) command_line: Vec<String>,
    pub(crate) server: String,
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) started: String,
    /// The same in milliseconds since 1970; 0 in reports of the first versions.
    #[serde(default)]
    pub(crate) started_ms: u64,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) loadtest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CauseEntry {
    pub(crate) cause: String,
    pub(crate) stage: String,
    pub(crate) machines: u32,
    /// The whole sentence of the first machine.
    #[serde(default)]
    pub(crate) example: String,
}

/// A fault that clients tolerated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OddityEntry {
    pub(crate) what: String,
    pub(crate) times: u64,
}

/// The counts between the previous point and `t_ms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeriesPoint {
    pub(crate) t_ms: u64,
    pub(crate) bytes: u64,
    pub(crate) booted: u32,
    pub(crate) failed: u32,
    pub(crate) client_cpu_ms: u64,
}

/// One boot, as an array: start, end, booted, model, microseconds of each stage, the stage in which
/// it stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BootRow(
    pub(crate) u64,
    pub(crate) u64,
    pub(crate) bool,
    pub(crate) String,
    pub(crate) [u32; MachineStage::ALL.len()],
    pub(crate) Option<String>,
);

impl ReportDocument {
    pub(crate) fn new(report: &FleetReport, around: &RunCircumstances) -> Self {
        let mut limits = report.list_limits();

        // The fleet knows only what its machines saw. The server's process and the kernel's
        // counters are known here.
        if around.server_spent == Some(None) {
            limits.push("the server's process ended before the run did".to_owned());
        }
        limits.extend(around.drops.iter().flat_map(KernelDrops::describe));
        Self {
            version: VERSION,
            summary: RunSummary::from_report(report, around),
            run: RunDescription::from_circumstances(around),
            stages: report
                .stages
                .iter()
                .map(|(stage, seen)| (spell_stage_name(*stage), TimeDistribution::from_stage(seen)))
                .collect(),
            dhcp_offer: TimeDistribution::from_histogram(&report.dhcp_times.offers),
            dhcp_ack: TimeDistribution::from_histogram(&report.dhcp_times.acks),
            to_kernel: TimeDistribution::from_histogram(&report.kernels),
            boot: TimeDistribution::from_histogram(&report.boots),
            failures: CauseEntry::list_failures(report),
            failed_machines: report
                .failed_machines
                .iter()
                .map(FailedMachineEntry::from_failed)
                .collect(),
            rates: ProtocolRates::from_report(report),
            lateness: GeneratorLateness::from_report(report),
            silences: SilenceEntry::list_silences(report),
            server_drops: around.drops,
            warnings: around.warnings.clone(),
            oddities: OddityEntry::list_oddities(report),
            series: report.series.buckets().iter().map(SeriesPoint::from_bucket).collect(),
            machines: report.records.iter().map(BootRow::from_record).collect(),
            limits,
            // --expect, --repeat and `merge` fill these in later.
            verdicts: Vec::new(),
            repeats: None,
            parts: Vec::new(),
        }
    }

    /// The stages of the report, in the order of a boot.
    pub(crate) fn stages_in_order(
        &self,
    ) -> impl Iterator<Item = (MachineStage, &TimeDistribution)> {
        MachineStage::ALL
            .into_iter()
            .filter_map(|stage| Some((stage, self.stages.get(&spell_stage_name(stage))?)))
    }

    /// CPU-seconds of the server for a gigabyte (10^9 bytes).
    pub(crate) fn server_cpu_s_per_gb(&self) -> Option<f64> {
        let gigabytes = self.summary.bytes as f64 / 1e9;
        (gigabytes > 0.0).then_some(self.summary.server_cpu_s? / gigabytes)
    }

    /// The entry of this report in a merged one.
    pub(crate) fn to_merged_part(&self, file: &str) -> MergedPart {
        let RunSummary { machines, booted, failed, wall_s, client_was_limit, .. } = self.summary;
        let (file, started, seed) = (file.to_owned(), self.run.started.clone(), self.run.seed);
        MergedPart { file, started, seed, machines, booted, failed, wall_s, client_was_limit }
    }

    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let shown = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
        Self::parse(&text).with_context(|| shown.to_string())
    }

    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let version = serde_json::from_str::<serde_json::Value>(text)
            .ok()
            .and_then(|any| any.get("version")?.as_u64());
        ensure!(
            version == Some(u64::from(VERSION)),
            "this is no report of --json, version {VERSION}"
        );
        serde_json::from_str(text).context("the report is incomplete")
    }

    /// JSON with a line for each field, stage, point and machine: readable, and good for `diff` and
    /// `grep`.
    pub(crate) fn to_json(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        writeln!(out, "{{\"version\": {},", self.version)?;
        writeln!(out, "\"summary\": {},", encode_json_value(&self.summary)?)?;
        writeln!(out, "\"run\": {},", encode_json_value(&self.run)?)?;
        writeln!(out, "\"limits\": {},", encode_json_value(&self.limits)?)?;
        writeln!(out, "\"verdicts\": {},", encode_json_value(&self.verdicts)?)?;
        if let Some(repeats) = &self.repeats {
            writeln!(out, "\"repeats\": {},", encode_json_value(repeats)?)?;
        }
        if !self.parts.is_empty() {
            writeln!(out, "\"parts\": {},", encode_json_array(&self.parts)?)?;
        }

        // `stages` is in the order of the names. The file has the order of a boot.
        let stages: io::Result<Vec<String>> = self
            .stages_in_order()
            .map(|(stage, times)| {
                Ok(format!(
                    "{}: {}",
                    encode_json_value(&spell_stage_name(stage))?,
                    encode_json_value(times)?
                ))
            })
            .collect();
        writeln!(out, "\"stages\": {{\n{}\n}},", stages?.join(",\n"))?;
        writeln!(out, "\"dhcp_offer\": {},", encode_json_value(&self.dhcp_offer)?)?;
        writeln!(out, "\"dhcp_ack\": {},", encode_json_value(&self.dhcp_ack)?)?;
        writeln!(out, "\"to_kernel\": {},", encode_json_value(&self.to_kernel)?)?;
        writeln!(out, "\"boot\": {},", encode_json_value(&self.boot)?)?;
        writeln!(out, "\"failures\": {},", encode_json_array(&self.failures)?)?;
        writeln!(out, "\"failed_machines\": {},", encode_json_array(&self.failed_machines)?)?;
        writeln!(out, "\"rates\": {},", encode_json_value(&self.rates)?)?;
        writeln!(out, "\"lateness\": {},", encode_json_value(&self.lateness)?)?;
        writeln!(out, "\"silences\": {},", encode_json_value(&self.silences)?)?;
        writeln!(out, "\"server_drops\": {},", encode_json_value(&self.server_drops)?)?;
        writeln!(out, "\"warnings\": {},", encode_json_value(&self.warnings)?)?;
        writeln!(out, "\"oddities\": {},", encode_json_array(&self.oddities)?)?;
        writeln!(out, "\"series\": {},", encode_json_array(&self.series)?)?;
        writeln!(out, "\"machines\": {}}}", encode_json_array(&self.machines)?)?;
        Ok(out)
    }
}

impl CauseEntry {
    fn list_failures(report: &FleetReport) -> Vec<Self> {
        let mut failures: Vec<Self> = report
            .failures
            .iter()
            .map(|((cause, stage), seen)| Self {
                cause: cause.clone(),
                stage: spell_stage_name(*stage),
                machines: seen.machines,
                example: seen.example.clone(),
            })
            .collect();

        // The fleet orders causes by name. Readers need the most frequent one first.
        failures.sort_by_key(|failed| std::cmp::Reverse(failed.machines));
        failures
    }

    /// The cause, with the first machine's sentence if that says more.
    pub(crate) fn describe(&self) -> String {
        let Self { cause, example, .. } = self;
        if example.is_empty() || example == cause {
            cause.clone()
        } else {
            format!("{cause}; the first: {example}")
        }
    }
}

impl OddityEntry {
    fn list_oddities(report: &FleetReport) -> Vec<Self> {
        let oddities = report.oddities.iter();
        oddities
            .map(|(kind, times)| Self { what: kind.spell_plural().to_owned(), times: *times })
            .collect()
    }
}

impl RunDescription {
    fn from_circumstances(around: &RunCircumstances) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            command_line: std::env::args().collect(),
            server: around.server.clone(),
            scenario: around.scenario.clone(),
            seed: around.seed,
            started: format_utc(around.started),
            started_ms: count_milliseconds(
                around.started.duration_since(UNIX_EPOCH).unwrap_or_default(),
            ),
            kernel: kernel.trim().to_owned(),
            processor: read_processor_model().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            loadtest: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// None on arm64, whose /proc/cpuinfo has no such line: there the architecture is the name.
fn read_processor_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl SeriesPoint {
    fn from_bucket(bucket: &SeriesBucket) -> Self {
        let SeriesBucket { end, octets, booted, failed, busy } = *bucket;
        Self {
            t_ms: count_milliseconds(end),
            bytes: octets,
            booted,
            failed,
            client_cpu_ms: count_milliseconds(busy),
        }
    }
}

impl BootRow {
    fn from_record(record: &BootRecord) -> Self {
        let stopped_in = record.stopped_in.map(spell_stage_name);
        let model = record.model.to_owned();
        Self(
            record.start_us,
            record.end_us,
            stopped_in.is_none(),
            model,
            record.stages_us,
            stopped_in,
        )
    }

    /// Microseconds from power-on to the end.
    pub(crate) fn took_us(&self) -> u64 {
        self.1.saturating_sub(self.0)
    }
}

fn encode_json_value(value: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// An array with a line for each element.
fn encode_json_array(values: &[impl Serialize]) -> io::Result<String> {
    let lines: io::Result<Vec<String>> = values.iter().map(encode_json_value).collect();
    Ok(format!("[\n{}\n]", lines?.join(",\n")))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use hdrhistogram::Histogram;

    use super::*;

    /// A report of `machines` boots made up: each takes a little longer than the one before, every
    /// tenth fails in its kernel.
    pub(crate) fn made_up(machines: u32) -> ReportDocument {
        let machine = |number: u32| {
            let start = u64::from(number) * 10;
            let stages = [3000 + number, 120_000, 9000, 400_000 + 100 * number, 800_000, 0, 0];
            if number % 10 == 9 {
                return BootRow(
                    start,
                    start + 300_000,
                    false,
                    "uefi-pxe".into(),
                    [3000, 0, 0, 0, 0, 0, 0],
                    Some("kernel".into()),
                );
            }
            let end = start + stages.iter().map(|us| u64::from(*us)).sum::<u64>();
            BootRow(start, end, true, "bios-ipxe".into(), stages, None)
        };
        let times = |scale: u64| {
            let mut times = Histogram::new_with_max(3_600_000_000, 3).unwrap();
            (0..u64::from(machines))
                .for_each(|number| times.record(scale + number * scale / 100).unwrap());
            TimeDistribution { retransmits: Some(2), ..TimeDistribution::from_histogram(&times) }
        };
        let point = |number: u64| SeriesPoint {
            t_ms: number * 100,
            bytes: 40_000_000,
            booted: 3,
            failed: 0,
            client_cpu_ms: 80,
        };
        let failed = machines / 10;
        let failed_machine = |machine: u32| FailedMachineEntry {
            machine,
            mac: format!("52:42:00:00:{:02x}:{:02x}", machine / 256, machine % 256),
            stage: "kernel".into(),
            cause: "HTTP: no answer for /<k>".into(),
            sentence: "HTTP: no answer for /<k>".into(),
        };
        ReportDocument {
            version: VERSION,
            summary: RunSummary {
                machines,
                booted: machines - failed,
                failed,
                wall_s: 5.0,
                bytes: 2_000_000_000,
                bytes_per_s: 4e8,
                checked: true,
                retries: 12,
                released: 0,
                interrupted: false,
                firmware: true,
                fetches: true,
                proved: "every octet checked".into(),
                wrong_contents: 0,
                warm_up_s: 0.0,
                never_begun: 0,
                waited: 0,
                slowest_to_median: Some(1.4),
                sources: machines,
                client_cpu_s: Some(4.5),
                client_busy: 0.94,
                client_waiting: 0.02,
                client_was_limit: true,
                server_cpu_s: Some(1.5),
                server_thread_cpu_s: Some(0.75),
                server_rss_bytes: Some(50_000_000),
                server_rss_max_bytes: Some(60_000_000),
            },
            run: RunDescription::from_circumstances(&RunCircumstances {
                server: "private".into(),
                scenario: "boot-storm".into(),
                seed: 1,
                started: UNIX_EPOCH,
                client: None,
                drops: None,
                warnings: Vec::new(),
                server_spent: None,
            }),
            stages: [("dhcp", 3000), ("loader", 120_000), ("kernel", 400_000)]
                .map(|(name, scale)| (name.to_owned(), times(scale)))
                .into(),
            dhcp_offer: times(700),
            dhcp_ack: times(1_900),
            to_kernel: times(523_000),
            boot: times(1_300_000),
            failures: vec![CauseEntry {
                cause: "HTTP: no answer for /<k>".into(),
                stage: "kernel".into(),
                machines: failed,
                example: "HTTP: no answer for /<k>".into(),
            }],
            failed_machines: (0..machines)
                .filter(|number| number % 10 == 9)
                .map(failed_machine)
                .collect(),
            rates: ProtocolRates::default(),
            lateness: GeneratorLateness::default(),
            silences: Vec::new(),
            server_drops: None,
            warnings: Vec::new(),
            oddities: vec![OddityEntry { what: "TFTP blocks that came again".into(), times: 3 }],
            series: (1..=50).map(point).collect(),
            machines: (0..machines).map(machine).collect(),
            verdicts: Vec::new(),
            repeats: None,
            parts: Vec::new(),
            limits: vec![
                "the load generator was the limit (its core was busy 94 % of the time)".into(),
            ],
        }
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("report.json");
        let report = made_up(30);
        fs::write(&file, report.to_json().unwrap()).unwrap();
        assert_eq!(ReportDocument::read(&file).unwrap(), report);
    }

    #[test]
    fn a_file_that_is_no_report_is_told_apart_from_a_broken_one() {
        let directory = tempfile::tempdir().unwrap();
        let said = |text: &str| {
            let file = directory.path().join("x.json");
            fs::write(&file, text).unwrap();
            format!("{:#}", ReportDocument::read(&file).unwrap_err())
        };
        assert!(said("{}").contains("this is no report of --json, version 1"));
        assert!(said("nonsense").contains("this is no report of --json, version 1"));
        assert!(said("{\"version\": 2}").contains("this is no report of --json, version 1"));
        assert!(said("{\"version\": 1}").contains("the report is incomplete"));
    }
}
