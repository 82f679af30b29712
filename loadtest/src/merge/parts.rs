//! Adds the parts of several reports.

use std::collections::BTreeMap;

use crate::drops::KernelDrops;
use crate::histogram;
use crate::json::details::{GeneratorLateness, ProtocolRates, SilenceEntry};
use crate::json::{
    BootRow, CauseEntry, OddityEntry, ReportDocument, RunDescription, RunSummary, SeriesPoint,
    TimeDistribution, VERSION,
};

/// The most points of time, machines, and failed machines of a report, as in the fleet's own
/// reports.
const POINTS_MAX: u64 = 1000;
const MACHINES_MAX: usize = 20_000;
const FAILED_MACHINES_MAX: usize = 10_000;
/// The least distance of points, milliseconds.
const POINT_MS: u64 = 100;

/// A report, and its start after the first one.
pub(super) struct PlacedReport<'a> {
    pub(super) name: &'a str,
    pub(super) report: &'a ReportDocument,
    pub(super) after_ms: u64,
}

impl PlacedReport<'_> {
    fn end_s(&self) -> f64 {
        self.after_ms as f64 / 1e3 + self.report.summary.wall_s
    }
}

/// True if the report has a start time and a histogram for every distribution.
pub(super) fn is_mergeable(report: &ReportDocument) -> bool {
    let GeneratorLateness { power_on, request } = &report.lateness;
    let ReportDocument { dhcp_offer, dhcp_ack, to_kernel, boot, .. } = report;
    let spans = [dhcp_offer, dhcp_ack, to_kernel, boot, power_on, request];
    let all = report.stages.values().chain(spans);
    report.run.started_ms > 0
        && all.into_iter().all(|times| times.count == 0 || times.histogram.is_some())
}

pub(super) fn add_reports(all: &[PlacedReport<'_>]) -> anyhow::Result<ReportDocument> {
    let wall_s = all.iter().map(PlacedReport::end_s).fold(0.0, f64::max);
    let times = |of: fn(&ReportDocument) -> &TimeDistribution| {
        sum_times(all.iter().map(|placed| of(placed.report)))
    };
    let boot = times(|report| &report.boot)?;
    let stages = add_stages(all)?;
    let summary = add_summaries(all, wall_s, &boot);
    Ok(ReportDocument {
        version: VERSION,
        rates: compute_merged_rates(&stages, &summary),
        run: describe_merged_run(all),
        stages,
        dhcp_offer: times(|report| &report.dhcp_offer)?,
        dhcp_ack: times(|report| &report.dhcp_ack)?,
        to_kernel: times(|report| &report.to_kernel)?,
        boot,
        failures: add_failures(all),
        failed_machines: collect_from_reports(
            all,
            |report| &report.failed_machines,
            FAILED_MACHINES_MAX,
        ),
        lateness: GeneratorLateness {
            power_on: times(|report| &report.lateness.power_on)?,
            request: times(|report| &report.lateness.request)?,
        },
        silences: pick_longest_silences(all),
        oddities: sum_oddities(all),
        series: add_series(all, wall_s),
        machines: add_machine_rows(all),
        // All generators counted on the same server host: take the one that saw most.
        server_drops: all
            .iter()
            .filter_map(|placed| placed.report.server_drops)
            .max_by_key(KernelDrops::count_total),
        warnings: name_sentences(all, |report| &report.warnings),
        limits: collect_limits(all),
        verdicts: Vec::new(),
        repeats: None,
        parts: all.iter().map(|placed| placed.report.to_merged_part(placed.name)).collect(),
        summary,
    })
}

/// Histograms and retransmissions added.
fn sum_times<'a>(
    all: impl Iterator<Item = &'a TimeDistribution>,
) -> anyhow::Result<TimeDistribution> {
    let mut whole = None;
    let mut retransmits = None;

    // Quantiles cannot be added, so the histograms are. A distribution without retransmissions in
    // any report has none in the sum, which differs from 0.
    for times in all {
        retransmits =
            times.retransmits.map_or(retransmits, |more| Some(retransmits.unwrap_or(0) + more));
        let Some(text) = &times.histogram else { continue };
        let one = histogram::decode_histogram(text)?;
        whole = match whole {
            None => Some(one),
            Some(mut whole) => {
                whole += one;
                Some(whole)
            }
        };
    }
    let times = whole.as_ref().map(TimeDistribution::from_histogram).unwrap_or_default();
    Ok(TimeDistribution { retransmits, ..times })
}

fn add_stages(all: &[PlacedReport<'_>]) -> anyhow::Result<BTreeMap<String, TimeDistribution>> {
    let mut names: Vec<&String> =
        all.iter().flat_map(|placed| placed.report.stages.keys()).collect();
    names.sort();
    names.dedup();
    let mut stages = BTreeMap::new();
    for name in names {
        let times = sum_times(all.iter().filter_map(|placed| placed.report.stages.get(name)))?;
        stages.insert(name.clone(), times);
    }
    Ok(stages)
}

fn add_summaries(all: &[PlacedReport<'_>], wall_s: f64, boot: &TimeDistribution) -> RunSummary {
    let each = || all.iter().map(|placed| &placed.report.summary);
    let sum = |of: fn(&RunSummary) -> u32| each().map(of).sum::<u32>();
    let bytes: u64 = each().map(|one| one.bytes).sum();
    RunSummary {
        machines: sum(|one| one.machines),
        booted: sum(|one| one.booted),
        failed: sum(|one| one.failed),
        wall_s,
        bytes,
        bytes_per_s: bytes as f64 / wall_s.max(f64::EPSILON),
        checked: each().all(|one| one.checked),
        retries: each().map(|one| one.retries).sum(),
        released: sum(|one| one.released),
        interrupted: each().any(|one| one.interrupted),
        firmware: each().any(|one| one.firmware),
        fetches: each().any(|one| one.fetches),
        proved: describe_proofs(all),
        wrong_contents: sum(|one| one.wrong_contents),
        warm_up_s: find_greatest(all, |one| one.warm_up_s),
        never_begun: each().map(|one| one.never_begun).sum(),
        waited: each().map(|one| one.waited).sum(),
        slowest_to_median: (boot.p50_us > 0).then(|| boot.max_us as f64 / boot.p50_us as f64),
        sources: sum(|one| one.sources),
        client_cpu_s: each().filter_map(|one| one.client_cpu_s).reduce(|a, b| a + b),
        client_busy: find_greatest(all, |one| one.client_busy),
        client_waiting: find_greatest(all, |one| one.client_waiting),
        client_was_limit: each().any(|one| one.client_was_limit),
        // All generators measured the same server: take the greatest value.
        server_cpu_s: each().filter_map(|one| one.server_cpu_s).reduce(f64::max),
        server_thread_cpu_s: each().filter_map(|one| one.server_thread_cpu_s).reduce(f64::max),
        server_rss_bytes: each().filter_map(|one| one.server_rss_bytes).max(),
        server_rss_max_bytes: each().filter_map(|one| one.server_rss_max_bytes).max(),
    }
}

/// The greatest value of any summary, or 0.
fn find_greatest(all: &[PlacedReport<'_>], of: fn(&RunSummary) -> f64) -> f64 {
    all.iter().map(|placed| of(&placed.report.summary)).fold(0.0, f64::max)
}

/// Counts of plain requests by the whole time.
fn compute_merged_rates(
    stages: &BTreeMap<String, TimeDistribution>,
    summary: &RunSummary,
) -> ProtocolRates {
    let rate = |stage: &str| {
        let count = stages.get(stage).map_or(0, |times| times.count);
        (!summary.firmware && count > 0).then(|| count as f64 / summary.wall_s.max(f64::EPSILON))
    };
    ProtocolRates {
        leases_per_s: rate("dhcp"),
        transfers_per_s: rate("loader"),
        requests_per_s: rate("file"),
    }
}

fn describe_merged_run(all: &[PlacedReport<'_>]) -> RunDescription {
    // The merged time axis begins with the report that began first.
    let first = all.iter().min_by_key(|placed| placed.after_ms).map(|placed| &placed.report.run);
    RunDescription {
        command_line: std::env::args().collect(),
        server: join_run_words(all, |run| &run.server),
        scenario: join_run_words(all, |run| &run.scenario),
        seed: first.map_or(0, |run| run.seed),
        started: first.map(|run| run.started.clone()).unwrap_or_default(),
        started_ms: first.map_or(0, |run| run.started_ms),
        kernel: join_run_words(all, |run| &run.kernel),
        processor: join_run_words(all, |run| &run.processor),
        cpus: all.iter().map(|placed| placed.report.run.cpus).sum(),
        loadtest: join_run_words(all, |run| &run.loadtest),
    }
}

/// The different words of all runs, sorted.
fn join_run_words(all: &[PlacedReport<'_>], of: fn(&RunDescription) -> &str) -> String {
    let mut words: Vec<&str> = all.iter().map(|placed| of(&placed.report.run)).collect();
    words.sort_unstable();
    words.dedup();
    words.join(", ")
}

fn add_failures(all: &[PlacedReport<'_>]) -> Vec<CauseEntry> {
    let mut causes: Vec<CauseEntry> = Vec::new();
    for failed in all.iter().flat_map(|placed| &placed.report.failures) {
        match causes
            .iter_mut()
            .find(|known| known.cause == failed.cause && known.stage == failed.stage)
        {
            Some(known) => known.machines += failed.machines,
            None => causes.push(failed.clone()),
        }
    }
    causes.sort_by_key(|failed| std::cmp::Reverse(failed.machines));
    causes
}

fn sum_oddities(all: &[PlacedReport<'_>]) -> Vec<OddityEntry> {
    let mut whole: Vec<OddityEntry> = Vec::new();
    for odd in all.iter().flat_map(|placed| &placed.report.oddities) {
        match whole.iter_mut().find(|known| known.what == odd.what) {
            Some(known) => known.times += odd.times,
            None => whole.push(odd.clone()),
        }
    }
    whole
}

/// The longest silence of each protocol in any report, although another generator may have had
/// answers meanwhile.
fn pick_longest_silences(all: &[PlacedReport<'_>]) -> Vec<SilenceEntry> {
    let mut longest: Vec<SilenceEntry> = Vec::new();
    for placed in all {
        for silence in &placed.report.silences {
            let silence =
                SilenceEntry { at_ms: silence.at_ms + placed.after_ms, ..silence.clone() };
            match longest.iter_mut().find(|known| known.protocol == silence.protocol) {
                Some(known) if known.longest_ms < silence.longest_ms => *known = silence,
                Some(_) => {}
                None => longest.push(silence),
            }
        }
    }
    longest
}

/// Each point goes to the common point at or after it.
fn add_series(all: &[PlacedReport<'_>], wall_s: f64) -> Vec<SeriesPoint> {
    // Milliseconds of a run of a week at most.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole_ms = (wall_s * 1e3) as u64 + 1;
    let width = whole_ms.div_ceil(POINTS_MAX).max(POINT_MS);
    let mut points: BTreeMap<u64, SeriesPoint> = BTreeMap::new();
    for (placed, point) in
        all.iter().flat_map(|placed| placed.report.series.iter().map(move |point| (placed, point)))
    {
        let t_ms = (point.t_ms + placed.after_ms).div_ceil(width) * width;
        let sum = points.entry(t_ms).or_insert(SeriesPoint {
            t_ms,
            bytes: 0,
            booted: 0,
            failed: 0,
            client_cpu_ms: 0,
        });
        sum.bytes += point.bytes;
        sum.booted += point.booted;
        sum.failed += point.failed;
        sum.client_cpu_ms += point.client_cpu_ms;
    }
    points.into_values().collect()
}

fn add_machine_rows(all: &[PlacedReport<'_>]) -> Vec<BootRow> {
    let mut whole: Vec<BootRow> = Vec::new();
    for placed in all {
        let after_us = placed.after_ms * 1000;
        whole.extend(placed.report.machines.iter().map(|machine| {
            let mut machine = machine.clone();
            machine.0 += after_us;
            machine.1 += after_us;
            machine
        }));
    }
    whole.sort_by_key(|machine| machine.0);
    whole.truncate(MACHINES_MAX);
    whole
}

fn collect_from_reports<T: Clone>(
    all: &[PlacedReport<'_>],
    of: fn(&ReportDocument) -> &Vec<T>,
    most: usize,
) -> Vec<T> {
    all.iter().flat_map(|placed| of(placed.report)).take(most).cloned().collect()
}

/// The limits of each report, by its name, and those of the reports together.
fn collect_limits(all: &[PlacedReport<'_>]) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let last_start_s = all.iter().map(|placed| placed.after_ms as f64 / 1e3).fold(0.0, f64::max);
    let first_end_s = all.iter().map(PlacedReport::end_s).fold(f64::INFINITY, f64::min);
    if last_start_s >= first_end_s {
        whole.push(format!(
            "the runs did not overlap: one ended {:.1} s before another began, so the server never \
             had the whole load at once",
            last_start_s - first_end_s
        ));
    }
    if let Some((a, b)) = find_same_machines(all) {
        whole.push(format!(
            "{a} and {b} have the same seed: their machines had the same hardware addresses and \
             shared leases; use another --seed for each"
        ));
    }
    whole.extend(name_sentences(all, |report| &report.limits));
    whole
}

/// The sentences of each report, after its name.
fn name_sentences(
    all: &[PlacedReport<'_>],
    of: fn(&ReportDocument) -> &Vec<String>,
) -> Vec<String> {
    let mut sentences = Vec::new();
    for PlacedReport { name, report, .. } in all {
        sentences.extend(of(report).iter().map(|said| format!("{name}: {said}")));
    }
    sentences
}

/// The proof of contents that all reports share, or each with its name.
fn describe_proofs(all: &[PlacedReport<'_>]) -> String {
    let first = all.first().map_or("", |placed| placed.report.summary.proved.as_str());
    if all.iter().all(|placed| placed.report.summary.proved == first) {
        return first.to_owned();
    }
    all.iter()
        .map(|placed| format!("{}: {}", placed.name, placed.report.summary.proved))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Two generators whose machines asked for addresses with the same hardware addresses.
fn find_same_machines<'a>(all: &[PlacedReport<'a>]) -> Option<(&'a str, &'a str)> {
    let mut seeds: BTreeMap<u64, &str> = BTreeMap::new();
    for placed in all.iter().filter(|placed| placed.report.stages.contains_key("dhcp")) {
        if let Some(other) = seeds.insert(placed.report.run.seed, placed.name) {
            return Some((other, placed.name));
        }
    }
    None
}
