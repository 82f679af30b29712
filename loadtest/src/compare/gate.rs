//! `--fail-if`: when a comparison ends with exit code 1, by the same rule of noise as its table.

use std::str::FromStr;

use anyhow::{bail, ensure};

use super::figures::{ComparedFigure, DifferenceVerdict, SideComparison};

/// One condition of --fail-if.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FailIf {
    /// As typed.
    text: String,
    /// Words of a figure's name; None means any figure.
    figure: Option<Vec<String>>,
    /// Worse by more than this share of A's median.
    more_than: f64,
}

impl FromStr for FailIf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "--fail-if is `worse`, `FIGURE worse` or `FIGURE worse 10%`, such as \
                            `boot p99 worse 10%`";
        let words: Vec<&str> = text.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "worse").ok_or(FORM)?;
        let more_than = match &words[at + 1..] {
            [] => 0.0,
            [percent] => {
                let number =
                    percent.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
                number.filter(|number| *number >= 0.0).ok_or(FORM)? / 100.0
            }
            _ => return Err(FORM.to_owned()),
        };
        let figure = (at > 0).then(|| sort_words(words[..at].iter().copied()));
        if figure.is_none() && more_than > 0.0 {
            return Err(format!("a percentage needs a figure before `worse`; {FORM}"));
        }
        Ok(Self { text: text.trim().to_owned(), figure, more_than })
    }
}

/// Sorts the words, so that `p99 boot` and `boot p99` are one name.
fn sort_words<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut words: Vec<String> = words.map(str::to_lowercase).collect();
    words.sort();
    words
}

impl FailIf {
    /// The figures in which B is worse; empty if the condition is not met. An error with too few
    /// runs.
    pub(super) fn judge(&self, comparison: &SideComparison) -> anyhow::Result<Vec<String>> {
        let Some(name) = &self.figure else { return find_worse_figures(comparison) };
        let mut figures = comparison.figures.iter();
        let found = figures.find(|figure| sort_words(figure.name.split_whitespace()) == *name);
        let Some(figure) = found else {
            let there: Vec<&str> =
                comparison.figures.iter().map(|figure| figure.name.as_str()).collect();
            bail!(
                "--fail-if '{}': the two sides have no such figure in common; there are {}",
                self.text,
                there.join(", ")
            );
        };

        // Too few runs are an error and no PASS, because the noise is unknown.
        ensure_known_verdict(figure)?;

        // If A's median is 0, B's worsening has no share of it and exceeds every bound.
        let is_more = measure_worsening(figure).is_none_or(|share| share > self.more_than);
        Ok(if figure.verdict == DifferenceVerdict::Worse && is_more {
            vec![describe_worse_figure(figure)]
        } else {
            Vec::new()
        })
    }
}

/// All worse figures, unless chance explains so few.
fn find_worse_figures(comparison: &SideComparison) -> anyhow::Result<Vec<String>> {
    comparison.figures.iter().try_for_each(ensure_known_verdict)?;
    let worse: Vec<String> = comparison
        .figures
        .iter()
        .filter(|figure| figure.verdict == DifferenceVerdict::Worse)
        .map(describe_worse_figure)
        .collect();
    Ok(if comparison.may_be_chance { Vec::new() } else { worse })
}

fn ensure_known_verdict(figure: &ComparedFigure) -> anyhow::Result<()> {
    ensure!(
        figure.verdict != DifferenceVerdict::Unknown,
        "--fail-if needs at least 3 runs of each side: with fewer the noise is unknown"
    );
    Ok(())
}

/// The share of A's median by which B is worse; None if A's median is 0.
fn measure_worsening(figure: &ComparedFigure) -> Option<f64> {
    figure.ratio.map(|ratio| if figure.more_is_better { 1.0 - ratio } else { ratio - 1.0 })
}

fn describe_worse_figure(figure: &ComparedFigure) -> String {
    let by = measure_worsening(figure)
        .map_or(String::new(), |share| format!(" by {:.0} %", share * 100.0));
    format!("{}{by}", figure.name)
}

/// The last line of a comparison with --fail-if.
pub(super) fn format_gate_line(worse: &[String]) -> String {
    if worse.is_empty() {
        "PASS\n".to_owned()
    } else {
        format!("FAIL: B is worse in {}\n", worse.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::ReportDocument;
    use crate::json::tests::made_up;

    /// Runs whose walls are a little apart, as real ones are.
    fn side(wall_s: f64, runs: u32) -> Vec<ReportDocument> {
        let run = |number: u32| {
            let mut report = made_up(20);
            report.summary.wall_s = wall_s * (1.0 + f64::from(number) / 1000.0);
            report
        };
        (0..runs).map(run).collect()
    }

    fn judged(text: &str, a: f64, b: f64, runs: u32) -> anyhow::Result<Vec<String>> {
        text.parse::<FailIf>().unwrap().judge(&SideComparison::new(
            "x",
            "y",
            &side(a, runs),
            &side(b, runs),
        ))
    }

    #[test]
    fn what_is_worse_beyond_the_noise_fails_and_what_is_better_does_not() {
        assert_eq!(judged("worse", 1.0, 2.0, 5).unwrap(), ["wall by 100 %"]);
        assert_eq!(judged("wall worse", 1.0, 2.0, 3).unwrap(), ["wall by 100 %"]);
        for (text, a, b) in
            [("worse", 2.0, 1.0), ("wall worse", 1.0, 1.0), ("boot p99 worse", 1.0, 2.0)]
        {
            assert_eq!(judged(text, a, b, 5).unwrap(), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_figure_may_be_worse_by_so_much() {
        assert!(judged("wall worse 90%", 1.0, 2.0, 3).unwrap().len() == 1);
        assert!(judged("wall worse 110%", 1.0, 2.0, 3).unwrap().is_empty());
    }

    #[test]
    fn what_chance_makes_is_no_failure_and_what_nobody_knows_is_an_error() {
        // One figure of a score, with three runs a side.
        assert!(judged("worse", 1.0, 2.0, 3).unwrap().is_empty());
        let error = judged("worse", 1.0, 2.0, 2).unwrap_err().to_string();
        assert!(error.contains("needs at least 3 runs of each side"), "{error}");
        let error = judged("p99 bot worse", 1.0, 2.0, 3).unwrap_err().to_string();
        assert!(error.contains("no such figure in common; there are wall, throughput"), "{error}");
    }

    #[test]
    fn what_is_no_reason_is_refused() {
        for wrong in
            ["", "better", "wall worse 10", "wall worse 10% more", "worse 10%", "wall worse -1%"]
        {
            assert!(wrong.parse::<FailIf>().is_err(), "{wrong}");
        }
        assert_eq!(
            "p99 boot worse".parse::<FailIf>().unwrap().figure,
            "boot p99 worse".parse::<FailIf>().unwrap().figure
        );
    }
}
