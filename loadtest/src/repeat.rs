//! `--repeat`: several runs as one report, the one of the middle run, with the spread of the main
//! figures of all runs.

use crate::compare::collect_spreads;
use crate::json::ReportDocument;
use crate::json::many::RepeatedRuns;
use crate::json::spread::FigureSpread;
use crate::json::verdict::ExpectationVerdict;
use crate::width::{TableColumn, TableLayout, count_output_columns, wrap_sentence};

/// The report of all runs; a single run is its own report. An interrupted run counts only if it is
/// the only one.
pub(crate) fn join_repeats(mut runs: Vec<ReportDocument>) -> Option<ReportDocument> {
    let interrupted = runs.last().is_some_and(|run| run.summary.interrupted);
    if interrupted && runs.len() > 1 {
        runs.pop();
    }
    if runs.len() < 2 {
        let mut only = runs.pop()?;
        only.summary.interrupted |= interrupted;
        return Some(only);
    }

    // The report is that of one real run: stages, machines and series of several runs would not fit
    // together.
    let middle = find_middle_run(&runs);
    let mut report = runs.get(middle)?.clone();
    report.verdicts = judge_every_run(&runs);
    report.repeats = Some(RepeatedRuns {
        middle,
        runs: runs.iter().map(|run| run.summary.clone()).collect(),
        figures: collect_spreads(&runs),
    });

    // The interrupted run itself was left out, but the exit code must still say 130.
    report.summary.interrupted |= interrupted;
    Some(report)
}

/// The run with the median time: the p99 of the boot, or the wall time if in some run none booted.
fn find_middle_run(runs: &[ReportDocument]) -> usize {
    let all_booted = runs.iter().all(|run| run.boot.count > 0);
    let waited =
        runs.iter().map(|run| if all_booted { run.boot.p99_us as f64 } else { run.summary.wall_s });
    let mut order: Vec<(usize, f64)> = waited.enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    order.get((runs.len() - 1) / 2).map_or(0, |(number, _)| *number)
}

/// Joins the verdicts of all runs: every run must meet each expectation.
fn judge_every_run(runs: &[ReportDocument]) -> Vec<ExpectationVerdict> {
    let expected = runs.first().map_or(0, |run| run.verdicts.len());
    (0..expected).filter_map(|place| join_verdicts(runs, place)).collect()
}

/// The verdicts of all runs on the expectation at this place.
fn join_verdicts(runs: &[ReportDocument], place: usize) -> Option<ExpectationVerdict> {
    let verdicts: Vec<&ExpectationVerdict> =
        runs.iter().filter_map(|run| run.verdicts.get(place)).collect();
    let met = verdicts.iter().filter(|verdict| verdict.is_met).count();
    let measured: Vec<&str> = verdicts.iter().map(|verdict| verdict.measured.as_str()).collect();
    Some(ExpectationVerdict {
        expected: verdicts.first()?.expected.clone(),
        measured: format!("met in {met} of {} runs: {}", verdicts.len(), measured.join(", ")),
        is_met: met == verdicts.len(),
    })
}

/// Name, median, least, greatest, spread.
const SPREAD: [TableColumn; 5] = [
    TableColumn::text(18, 0),
    TableColumn::number(10, 0),
    TableColumn::number(11, 1),
    TableColumn::number(11, 0),
    TableColumn::number(9, 2),
];

/// The lines of a report with the spread of the runs; empty for one run.
pub(crate) fn format_repeat_spread(report: &ReportDocument) -> String {
    let Some(RepeatedRuns { middle, runs, figures }) = &report.repeats else {
        return String::new();
    };
    let all = runs.len();
    let mut out = wrap_sentence(&format!(
        "The report above is of run {} of {all}, the middle one. All {all} runs:",
        middle + 1
    ));
    let layout = TableLayout::new(&SPREAD, count_output_columns());
    out += &layout.line(&["figure", "median", "least", "greatest", "apart"]);
    for figure in figures.iter().filter(|figure| figure.is_main) {
        let FigureSpread { name, values, .. } = figure;
        let [median, least, greatest] =
            [values.median, values.min, values.max].map(|value| figure.unit.format_value(value));
        out += &layout.line(&[name, &median, &least, &greatest, &values.format_spread()]);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::tests::made_up;

    fn run(p99_us: u64, wall_s: f64) -> ReportDocument {
        let mut run = made_up(100);
        (run.boot.p99_us, run.summary.wall_s) = (p99_us, wall_s);
        run.verdicts =
            vec!["p99 boot < 2s".parse::<crate::expect::RunExpectation>().unwrap().judge(&run)];
        run
    }

    #[test]
    fn several_runs_are_the_one_in_the_middle_with_their_spread() {
        let report =
            join_repeats(vec![run(1_900_000, 5.0), run(2_500_000, 4.0), run(1_000_000, 6.0)])
                .unwrap();
        assert_eq!((report.boot.p99_us, report.repeats.as_ref().unwrap().middle), (1_900_000, 0));
        let verdict = &report.verdicts[0];
        assert!(!verdict.is_met, "not by every run");
        assert_eq!(verdict.measured, "met in 2 of 3 runs: 1.90 s, 2.50 s, 1.00 s");
        let text = format_repeat_spread(&report);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let line = |name: &str| {
            text.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned()
        };
        let words = |name| line(name).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words("wall"), "wall 5.00 s 4.00 s 6.00 s 40 %");
        assert_eq!(words("boot p99"), "boot p99 1.90 s 1.00 s 2.50 s 79 %");
        assert!(text.starts_with("  The report above is of run 1 of 3, the middle one."), "{text}");
    }

    #[test]
    fn one_run_is_its_own_report() {
        let report = join_repeats(vec![run(1_000_000, 5.0)]).unwrap();
        assert_eq!(
            (&report.repeats, report.verdicts[0].measured.as_str(), format_repeat_spread(&report)),
            (&None, "1.00 s", String::new())
        );
        assert_eq!(join_repeats(Vec::new()), None);
    }

    #[test]
    fn an_interrupted_run_is_left_out_and_not_forgotten() {
        let mut last = run(9_000_000, 1.0);
        last.summary.interrupted = true;
        let report =
            join_repeats(vec![run(1_000_000, 5.0), run(1_100_000, 5.0), last.clone()]).unwrap();
        assert!(report.summary.interrupted && report.repeats.unwrap().runs.len() == 2);
        let report = join_repeats(vec![run(1_000_000, 5.0), last.clone()]).unwrap();
        assert!(report.summary.interrupted && report.boot.p99_us == 1_000_000);
        assert!(join_repeats(vec![last]).unwrap().summary.interrupted);
    }
}
