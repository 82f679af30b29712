//! The figures of two sides: medians, spread, ratios, and the verdict on each difference.

use serde::Serialize;

use crate::json::spread::{FigureSpread, FigureUnit, FigureValues};
use crate::json::{ReportDocument, TimeDistribution, spell_stage_name};

/// The fewest runs of a side whose spread counts as the noise.
const RUNS_MIN: usize = 3;

/// Two sides, figure by figure.
#[derive(Debug, Serialize)]
pub(super) struct SideComparison {
    pub(super) version: u32,
    pub(super) a: SideName,
    pub(super) b: SideName,
    pub(super) figures: Vec<ComparedFigure>,
    /// Sentences that qualify the comparison.
    pub(super) notes: Vec<String>,
    /// Two equal sides could differ in as many figures.
    pub(super) may_be_chance: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct SideName {
    pub(super) name: String,
    pub(super) runs: usize,
}

/// One figure of both sides.
#[derive(Debug, Serialize)]
pub(super) struct ComparedFigure {
    pub(super) name: String,
    pub(super) unit: FigureUnit,
    /// True if a greater value is better.
    pub(super) more_is_better: bool,
    pub(super) a: FigureValues,
    pub(super) b: FigureValues,
    /// Median of B by median of A; None if A's median is 0.
    pub(super) ratio: Option<f64>,
    /// The least and the greatest ratio of any two runs.
    pub(super) ratio_range: Option<(f64, f64)>,
    pub(super) verdict: DifferenceVerdict,
}

/// All figures that every one of these reports has.
pub(crate) fn collect_spreads(runs: &[ReportDocument]) -> Vec<FigureSpread> {
    let main = list_measures(&[], &[]).len();
    let mut spreads = Vec::new();
    for (place, measure) in list_measures(runs, &[]).into_iter().enumerate() {
        let Some(values) = measure.read_values(runs) else { continue };
        let FigureMeasure { name, unit, .. } = measure;
        spreads.push(FigureSpread { name, unit, is_main: place < main, values });
    }
    spreads
}

/// The verdict on a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum DifferenceVerdict {
    #[serde(rename = "B is better")]
    Better,
    #[serde(rename = "B is worse")]
    Worse,
    /// The ranges overlap, or the medians differ by less than the spread of either side or than the
    /// figure's own step.
    #[serde(rename = "inside the noise")]
    Noise,
    /// Not enough runs to know the noise.
    #[serde(rename = "too few runs")]
    Unknown,
}

impl SideComparison {
    pub(super) fn new(
        name_a: &str,
        name_b: &str,
        a: &[ReportDocument],
        b: &[ReportDocument],
    ) -> Self {
        let figures: Vec<ComparedFigure> =
            list_measures(a, b).iter().filter_map(|measure| measure.compare_sides(a, b)).collect();
        let mut notes = collect_side_notes([(name_a, a), (name_b, b)]);
        let chance = note_chance_differences(&figures, a.len(), b.len());
        let may_be_chance = chance.is_some();
        notes.extend(chance);
        let a = SideName { name: name_a.to_owned(), runs: a.len() };
        let b = SideName { name: name_b.to_owned(), runs: b.len() };
        Self { version: 1, a, b, figures, notes, may_be_chance }
    }
}

/// A figure to be read from a report.
struct FigureMeasure {
    name: String,
    unit: FigureUnit,
    more_is_better: bool,
    /// The resolution of its source, in its unit.
    step: f64,
    read: FigureReading,
}

type FigureReading = Box<dyn Fn(&ReportDocument) -> Option<f64>>;
type QuantileReading = fn(&TimeDistribution) -> u64;
type ReportFact = fn(&ReportDocument) -> String;

/// Seconds: processor time has steps of 10 ms, and both ends of a span may be off by one.
const PROCESSOR_STEP_S: f64 = 0.02;

/// All figures that reports of both sides may have.
fn list_measures(a: &[ReportDocument], b: &[ReportDocument]) -> Vec<FigureMeasure> {
    // The order is that of the table. `collect_spreads` calls these figures the main ones, and
    // those of stages not.
    let mut measures = vec![
        build_measure("wall", FigureUnit::Seconds, |report| Some(report.summary.wall_s)),
        build_measure("throughput", FigureUnit::MegabytesPerSecond, |report| {
            Some(report.summary.bytes_per_s / 1e6)
        }),
        build_measure("failed", FigureUnit::Count, |report| Some(report.summary.failed.into())),
        build_measure("retries", FigureUnit::Count, |report| Some(report.summary.retries as f64)),
        FigureMeasure {
            step: PROCESSOR_STEP_S,
            ..build_measure("server CPU", FigureUnit::Seconds, |report| report.summary.server_cpu_s)
        },
        build_measure("CPU for a GB", FigureUnit::Seconds, ReportDocument::server_cpu_s_per_gb),
        build_measure("server memory", FigureUnit::Bytes, |report| {
            report.summary.server_rss_max_bytes.map(|bytes| bytes as f64)
        }),
        build_measure("boot p50", FigureUnit::Microseconds, |report| {
            read_finished_quantile(&report.boot, |times| times.p50_us)
        }),
        build_measure("boot p99", FigureUnit::Microseconds, |report| {
            read_finished_quantile(&report.boot, |times| times.p99_us)
        }),
        build_measure("boot max", FigureUnit::Microseconds, |report| {
            read_finished_quantile(&report.boot, |times| times.max_us)
        }),
        build_measure("to kernel p50", FigureUnit::Microseconds, |report| {
            read_finished_quantile(&report.to_kernel, |times| times.p50_us)
        }),
    ];

    // The stages of one report are enough: a figure that another report lacks is left out.
    let Some(any) = a.first().or(b.first()) else { return measures };
    let quantiles: [(_, QuantileReading); 2] =
        [("p50", |times| times.p50_us), ("p99", |times| times.p99_us)];
    for (stage, _) in any.stages_in_order() {
        for (quantile, value) in quantiles {
            let key = spell_stage_name(stage);
            measures.push(FigureMeasure {
                name: format!("{} {quantile}", stage.as_str()),
                read: Box::new(move |report| {
                    read_finished_quantile(report.stages.get(&key)?, value)
                }),
                ..build_measure("", FigureUnit::Microseconds, |_| None)
            });
        }
    }
    measures
}

fn build_measure(
    name: &str,
    unit: FigureUnit,
    read: fn(&ReportDocument) -> Option<f64>,
) -> FigureMeasure {
    FigureMeasure {
        name: name.to_owned(),
        unit,
        more_is_better: unit == FigureUnit::MegabytesPerSecond,
        step: 0.0,
        read: Box::new(read),
    }
}

/// None if no machine finished it.
fn read_finished_quantile(times: &TimeDistribution, value: QuantileReading) -> Option<f64> {
    (times.count > 0).then(|| value(times) as f64)
}

impl FigureMeasure {
    /// None if a report of either side lacks the figure.
    fn compare_sides(&self, a: &[ReportDocument], b: &[ReportDocument]) -> Option<ComparedFigure> {
        let (a, b) = (self.read_values(a)?, self.read_values(b)?);
        Some(ComparedFigure {
            name: self.name.clone(),
            unit: self.unit,
            more_is_better: self.more_is_better,
            ratio: compute_ratio(b.median, a.median),
            ratio_range: compute_ratio(b.min, a.max).zip(compute_ratio(b.max, a.min)),
            verdict: self.judge_difference(&a, &b),
            a,
            b,
        })
    }

    /// None if a report lacks the figure.
    fn read_values(&self, reports: &[ReportDocument]) -> Option<FigureValues> {
        FigureValues::from_runs(reports.iter().map(&self.read).collect::<Option<Vec<f64>>>()?)
    }

    fn judge_difference(&self, a: &FigureValues, b: &FigureValues) -> DifferenceVerdict {
        if a.runs.len() < RUNS_MIN || b.runs.len() < RUNS_MIN {
            return DifferenceVerdict::Unknown;
        }
        let noise = a.spread().max(b.spread()).max(self.step);
        let overlap = a.min <= b.max && b.min <= a.max;
        match b.median - a.median {
            difference if overlap || difference.abs() <= noise => DifferenceVerdict::Noise,
            difference if (difference > 0.0) == self.more_is_better => DifferenceVerdict::Better,
            _ => DifferenceVerdict::Worse,
        }
    }
}

/// B by A; None if A is 0.
fn compute_ratio(b: f64, a: f64) -> Option<f64> {
    (a > 0.0).then_some(b / a)
}

/// A note on the number of differences that chance alone makes, if it is close to theirs.
fn note_chance_differences(
    figures: &[ComparedFigure],
    runs_a: usize,
    runs_b: usize,
) -> Option<String> {
    let different = figures
        .iter()
        .filter(|figure| {
            matches!(figure.verdict, DifferenceVerdict::Better | DifferenceVerdict::Worse)
        })
        .count();
    if different == 0 {
        return None;
    }
    // Of all orders in which the runs of two equal sides may fall, two keep the sides apart.
    let orders = (1..=runs_a).fold(1.0, |orders, k| orders * (runs_b + k) as f64 / k as f64);
    let expected = figures.len() as f64 * 2.0 / orders;
    let worth_saying = expected * CHANCE_RATIO >= different as f64;
    worth_saying.then(|| {
        format!(
            "{different} of {} figures differ; with so few runs, up to {expected:.1} differ by \
             chance alone: use more --runs",
            figures.len()
        )
    })
}

/// Differences count if they are this many times as many as chance makes.
const CHANCE_RATIO: f64 = 4.0;

/// Notes on differences between the sides' runs, and on the limits of their runs.
fn collect_side_notes(sides: [(&str, &[ReportDocument]); 2]) -> Vec<String> {
    let mut notes = Vec::new();
    let facts: [(_, ReportFact); 5] = [
        ("machines", |report| report.summary.machines.to_string()),
        ("scenario", |report| report.run.scenario.clone()),
        ("processor", |report| report.run.processor.clone()),
        ("processors", |report| report.run.cpus.to_string()),
        ("kernel", |report| report.run.kernel.clone()),
    ];
    for (what, fact) in facts {
        let mut seen: Vec<String> =
            sides.iter().flat_map(|(_, reports)| reports.iter().map(fact)).collect();
        seen.sort();
        seen.dedup();
        if seen.len() > 1 {
            notes.push(format!("the runs differ in {what}: {}", seen.join(", ")));
        }
    }
    for (name, reports) in sides {
        let mut limits: Vec<&String> = reports.iter().flat_map(|report| &report.limits).collect();
        limits.sort();
        // Sentences with other numbers are the same limit: one of them is enough.
        limits.dedup_by_key(|limit| {
            limit.split(|character: char| character.is_ascii_digit()).next_back().map(str::to_owned)
        });
        let runs = reports.iter().filter(|report| !report.limits.is_empty()).count();
        notes.extend(
            limits.iter().map(|limit| format!("{name}, {runs} of {} runs: {limit}", reports.len())),
        );
    }
    notes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::tests::made_up;

    fn judged(a: &[f64], b: &[f64], more_is_better: bool) -> DifferenceVerdict {
        let values = |runs: &[f64]| FigureValues::from_runs(runs.to_vec()).unwrap();
        let measure = FigureMeasure {
            name: String::new(),
            unit: FigureUnit::Count,
            more_is_better,
            step: 0.1,
            read: Box::new(|_| None),
        };
        measure.judge_difference(&values(a), &values(b))
    }

    #[test]
    fn a_difference_beyond_every_spread_is_one() {
        assert_eq!(
            judged(&[10.0, 11.0, 10.5], &[20.0, 20.2, 21.0], false),
            DifferenceVerdict::Worse
        );
        assert_eq!(
            judged(&[10.0, 11.0, 10.5], &[20.0, 20.2, 21.0], true),
            DifferenceVerdict::Better
        );
        assert_eq!(
            judged(&[20.0, 20.2, 21.0], &[10.0, 11.0, 10.5], false),
            DifferenceVerdict::Better
        );
    }

    #[test]
    fn what_overlaps_or_is_less_than_a_spread_is_noise() {
        assert_eq!(
            judged(&[10.0, 12.0, 11.0], &[11.5, 14.0, 13.0], false),
            DifferenceVerdict::Noise
        );
        // Apart, but B's runs lie further from one another than from A's.
        assert_eq!(
            judged(&[10.0, 10.1, 10.2], &[10.3, 12.0, 15.0], false),
            DifferenceVerdict::Noise
        );
        // Less than the figure can tell apart.
        assert_eq!(
            judged(&[0.05, 0.05, 0.05], &[0.06, 0.06, 0.06], false),
            DifferenceVerdict::Noise
        );
        assert_eq!(judged(&[10.0], &[20.0], false), DifferenceVerdict::Unknown);
        assert_eq!(judged(&[10.0, 10.0, 10.0], &[20.0, 20.0], false), DifferenceVerdict::Unknown);
    }

    #[test]
    fn medians_and_ratios_are_of_all_runs() {
        let values = FigureValues::from_runs(vec![3.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!((values.median, values.min, values.max), (2.5, 1.0, 10.0));
        let reports = |walls: [f64; 3]| {
            walls.map(|wall_s| {
                let mut report = made_up(20);
                report.summary.wall_s = wall_s;
                report
            })
        };
        let comparison =
            SideComparison::new("x", "y", &reports([1.0, 1.1, 1.2]), &reports([2.0, 2.2, 2.4]));
        let wall = &comparison.figures[0];
        assert_eq!(
            (wall.name.as_str(), wall.ratio, wall.verdict),
            ("wall", Some(2.0), DifferenceVerdict::Worse)
        );
        let (least, most) = wall.ratio_range.unwrap();
        assert!((least - 2.0 / 1.2).abs() < 1e-9 && (most - 2.4).abs() < 1e-9);
        assert!(comparison.figures.iter().any(
            |figure| figure.name == "kernel p99" && figure.verdict == DifferenceVerdict::Noise
        ));
    }

    #[test]
    fn a_lone_difference_of_few_runs_may_be_chance() {
        let reports = |wall_s: f64| {
            let mut report = made_up(20);
            report.summary.wall_s = wall_s;
            vec![report.clone(), report.clone(), report]
        };
        let notes = SideComparison::new("x", "y", &reports(1.0), &reports(2.0)).notes;
        assert!(
            notes.iter().any(|note| note.starts_with("1 of ") && note.contains("by chance alone")),
            "{notes:?}"
        );
        let many: Vec<_> = [reports(1.0), reports(1.0), reports(1.0)].concat();
        let others: Vec<_> = [reports(2.0), reports(2.0), reports(2.0)].concat();
        let notes = SideComparison::new("x", "y", &many, &others).notes;
        assert!(!notes.iter().any(|note| note.contains("by chance")), "{notes:?}");
    }

    #[test]
    fn runs_that_did_something_else_are_named_and_so_are_limits() {
        let (a, mut b) = (made_up(20), made_up(30));
        b.limits.clear();
        let notes = collect_side_notes([("x", &[a.clone(), a]), ("y", &[b])]);
        assert_eq!(notes[0], "the runs differ in machines: 20, 30");
        assert!(
            notes.len() == 2
                && notes[1].starts_with("x, 2 of 2 runs: the load generator was the limit"),
            "{notes:?}"
        );
    }
}
