//! `--repeat`: several runs as one report, which is the run in the middle, with the spread of the
//! main figures beside it.

use crate::compare::spreads;
use crate::json::Document;
use crate::json::many::Repeats;
use crate::json::spread::Spread;
use crate::json::verdict::Verdict;
use crate::width::{Column, Layout, columns, wrapped};

/// The report of all runs; one run is its own. An interrupted run counts only where there is no
/// other.
pub(crate) fn joined(mut runs: Vec<Document>) -> Option<Document> {
    let interrupted = runs.last().is_some_and(|run| run.summary.interrupted);
    if interrupted && runs.len() > 1 {
        runs.pop();
    }
    if runs.len() < 2 {
        let mut only = runs.pop()?;
        only.summary.interrupted |= interrupted;
        return Some(only);
    }
    let middle = middle(&runs);
    let mut report = runs.get(middle)?.clone();
    report.verdicts = verdicts(&runs);
    report.repeats = Some(Repeats {
        middle,
        runs: runs.iter().map(|run| run.summary.clone()).collect(),
        figures: spreads(&runs),
    });
    report.summary.interrupted |= interrupted;
    Some(report)
}

/// The run with the median of the time that people wait for: the last machine of a hundred, or the
/// end of the run where none booted.
fn middle(runs: &[Document]) -> usize {
    let all_booted = runs.iter().all(|run| run.boot.count > 0);
    let waited =
        |run: &Document| if all_booted { run.boot.p99_us as f64 } else { run.summary.wall_s };
    let mut order: Vec<(usize, f64)> = runs.iter().map(waited).enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    order.get((runs.len() - 1) / 2).map_or(0, |(number, _)| *number)
}

/// What is expected must be met by every run.
fn verdicts(runs: &[Document]) -> Vec<Verdict> {
    let expected = runs.first().map_or(0, |run| run.verdicts.len());
    let one = |place: usize| {
        let of_all: Vec<&Verdict> = runs.iter().filter_map(|run| run.verdicts.get(place)).collect();
        let met = of_all.iter().filter(|verdict| verdict.is_met).count();
        let measured: Vec<&str> = of_all.iter().map(|verdict| verdict.measured.as_str()).collect();
        Some(Verdict {
            expected: of_all.first()?.expected.clone(),
            measured: format!("met in {met} of {} runs: {}", of_all.len(), measured.join(", ")),
            is_met: met == of_all.len(),
        })
    };
    (0..expected).filter_map(one).collect()
}

/// Name, median, least, greatest, how far they lie apart.
const SPREAD: [Column; 5] = [
    Column::text(18, 0),
    Column::number(10, 0),
    Column::number(11, 1),
    Column::number(11, 0),
    Column::number(9, 2),
];

/// The lines of a report that tell how far the runs lie apart; empty where there was one run.
pub(crate) fn text(report: &Document) -> String {
    let Some(Repeats { middle, runs, figures }) = &report.repeats else { return String::new() };
    let all = runs.len();
    let mut out = wrapped(&format!(
        "All above is run {} of {all}, the one in the middle. All {all} runs:",
        middle + 1
    ));
    let layout = Layout::new(&SPREAD, columns());
    out += &layout.line(&["figure", "median", "least", "greatest", "apart"]);
    for figure in figures.iter().filter(|figure| figure.is_main) {
        let Spread { name, values, .. } = figure;
        let [median, least, greatest] =
            [values.median, values.min, values.max].map(|value| figure.unit.shown(value));
        out += &layout.line(&[name, &median, &least, &greatest, &values.apart()]);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::tests::made_up;

    fn run(p99_us: u64, wall_s: f64) -> Document {
        let mut run = made_up(100);
        (run.boot.p99_us, run.summary.wall_s) = (p99_us, wall_s);
        run.verdicts =
            vec!["p99 boot < 2s".parse::<crate::expect::Expectation>().unwrap().judge(&run)];
        run
    }

    #[test]
    fn several_runs_are_the_one_in_the_middle_with_their_spread() {
        let report =
            joined(vec![run(1_900_000, 5.0), run(2_500_000, 4.0), run(1_000_000, 6.0)]).unwrap();
        assert_eq!((report.boot.p99_us, report.repeats.as_ref().unwrap().middle), (1_900_000, 0));
        let verdict = &report.verdicts[0];
        assert!(!verdict.is_met, "not by every run");
        assert_eq!(verdict.measured, "met in 2 of 3 runs: 1.90 s, 2.50 s, 1.00 s");
        let text = text(&report);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let line = |name: &str| {
            text.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned()
        };
        let words = |name| line(name).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words("wall"), "wall 5.00 s 4.00 s 6.00 s 40 %");
        assert_eq!(words("boot p99"), "boot p99 1.90 s 1.00 s 2.50 s 79 %");
        assert!(text.starts_with("  All above is run 1 of 3, the one in the middle."), "{text}");
    }

    #[test]
    fn one_run_is_its_own_report() {
        let report = joined(vec![run(1_000_000, 5.0)]).unwrap();
        assert_eq!(
            (&report.repeats, report.verdicts[0].measured.as_str(), text(&report)),
            (&None, "1.00 s", String::new())
        );
        assert_eq!(joined(Vec::new()), None);
    }

    #[test]
    fn an_interrupted_run_is_left_out_and_not_forgotten() {
        let mut last = run(9_000_000, 1.0);
        last.summary.interrupted = true;
        let report = joined(vec![run(1_000_000, 5.0), run(1_100_000, 5.0), last.clone()]).unwrap();
        assert!(report.summary.interrupted && report.repeats.unwrap().runs.len() == 2);
        let report = joined(vec![run(1_000_000, 5.0), last.clone()]).unwrap();
        assert!(report.summary.interrupted && report.boot.p99_us == 1_000_000);
        assert!(joined(vec![last]).unwrap().summary.interrupted);
    }
}
