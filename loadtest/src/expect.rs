//! What a run must reach to be accepted: `--expect 'p99 boot < 60s'`, and the verdict on a report.

use std::fmt;
use std::str::FromStr;

use ringboot_fleet::PrettyMicroseconds;
use ringboot_observe::events::MachineStage;

use crate::json::verdict::ExpectationVerdict;
use crate::json::{ReportDocument, TimeDistribution, spell_stage_name};
use crate::width::{count_output_columns, wrap_sentence};

/// Spans of several stages, by the name of their field in the report.
const SPANS: [&str; 2] = ["boot", "to_kernel"];

/// One condition on a report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunExpectation {
    /// As typed.
    text: String,
    figure: ExpectedFigure,
    relation: BoundRelation,
    /// In the unit of the figure: machines, a share of them, microseconds, or bytes a second.
    bound: ExpectedBound,
}

/// A figure of the report.
#[derive(Clone, Debug, PartialEq)]
enum ExpectedFigure {
    Booted,
    Failed,
    Retries,
    Wall,
    Rate,
    /// Leases, transfers or requests a second.
    Throughput(&'static str),
    /// The longest time in which no machine got an answer.
    Silence,
    /// The greatest delay of the load generator.
    Late,
    Quantile(QuantileKind, String),
}

/// The kinds of plain steps that have a rate.
const THROUGHPUTS: [&str; 3] = ["leases", "transfers", "requests"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum QuantileKind {
    P50,
    P90,
    P99,
    P999,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum BoundRelation {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ExpectedBound {
    Count(f64),
    /// Of all machines, 0 to 1.
    Share(f64),
    Microseconds(f64),
    BytesPerSecond(f64),
    PerSecond(f64),
}

impl FromStr for RunExpectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "an expectation is `all booted`, or a figure, one of < <= > >= ==, and \
                            a bound: `p99 boot < 60s`, `failed <= 1%`";
        let text = text.trim();
        if text == "all booted" {
            let (figure, relation, bound) =
                (ExpectedFigure::Booted, BoundRelation::Equal, ExpectedBound::Share(1.0));
            return Ok(Self { text: text.to_owned(), figure, relation, bound });
        }
        let at = text.find(['<', '>', '=']).ok_or(FORM)?;
        let (figure, rest) = text.split_at(at);
        let end = rest.find(|c| !matches!(c, '<' | '>' | '=')).unwrap_or(rest.len());
        let (sign, bound) = rest.split_at(end);
        let relation = match sign {
            "<" => BoundRelation::Less,
            "<=" => BoundRelation::AtMost,
            ">" => BoundRelation::More,
            ">=" => BoundRelation::AtLeast,
            "=" | "==" => BoundRelation::Equal,
            _ => return Err(format!("`{sign}` is no comparison; {FORM}")),
        };
        let figure: ExpectedFigure = figure.trim().parse()?;
        let bound: ExpectedBound = bound.trim().parse()?;

        // Without this check a bound in another unit would compare as a bare number, and only after
        // the run.
        if !figure.accepts_bound(bound) {
            return Err(format!("{} is measured in {}", figure.describe(), figure.unit()));
        }
        Ok(Self { text: text.to_owned(), figure, relation, bound })
    }
}

impl FromStr for ExpectedFigure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (quantile, of) = match words[..] {
            ["booted"] => return Ok(Self::Booted),
            ["failed"] => return Ok(Self::Failed),
            ["retries"] => return Ok(Self::Retries),
            ["wall"] => return Ok(Self::Wall),
            ["rate"] => return Ok(Self::Rate),
            ["silence"] => return Ok(Self::Silence),
            ["late"] => return Ok(Self::Late),
            [word] if THROUGHPUTS.contains(&word) => {
                let name = THROUGHPUTS.into_iter().find(|name| *name == word).unwrap_or_default();
                return Ok(Self::Throughput(name));
            }
            [quantile, ref of @ ..] if !of.is_empty() => (quantile, of.join("_")),
            _ => {
                return Err(format!(
                    "`{text}` is no figure: there are booted, failed, retries, wall, rate, \
                     silence, late, leases, transfers, requests, and p50, p90, p99, p99.9 or max \
                     of boot, to_kernel or a stage"
                ));
            }
        };
        let quantile = match quantile {
            "p50" => QuantileKind::P50,
            "p90" => QuantileKind::P90,
            "p99" => QuantileKind::P99,
            "p99.9" => QuantileKind::P999,
            "max" => QuantileKind::Max,
            _ => return Err(format!("`{quantile}` is none of p50, p90, p99, p99.9 and max")),
        };

        // A report spells a stage with `_`. The words were joined so above, so `answer file` is a
        // name, too.
        if SPANS.contains(&of.as_str()) || list_stage_names().any(|stage| stage == of) {
            return Ok(Self::Quantile(quantile, of));
        }
        let known: Vec<String> =
            SPANS.into_iter().map(str::to_owned).chain(list_stage_names()).collect();
        Err(format!("there is no `{of}`: stages are {}", known.join(", ")))
    }
}

fn list_stage_names() -> impl Iterator<Item = String> {
    MachineStage::ALL.into_iter().map(spell_stage_name)
}

impl FromStr for ExpectedBound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(at);
        let number: f64 =
            number.parse().map_err(|_| format!("`{text}` does not begin with a number"))?;
        Ok(match unit.trim() {
            "" => Self::Count(number),
            "%" => Self::Share(number / 100.0),
            "us" => Self::Microseconds(number),
            "ms" => Self::Microseconds(number * 1e3),
            "s" => Self::Microseconds(number * 1e6),
            "min" => Self::Microseconds(number * 60e6),
            "kB/s" => Self::BytesPerSecond(number * 1e3),
            "MB/s" => Self::BytesPerSecond(number * 1e6),
            "GB/s" => Self::BytesPerSecond(number * 1e9),
            "/s" => Self::PerSecond(number),
            unit => {
                return Err(format!(
                    "`{unit}` is none of %, us, ms, s, min, kB/s, MB/s, GB/s and /s"
                ));
            }
        })
    }
}

impl ExpectedFigure {
    fn accepts_bound(&self, bound: ExpectedBound) -> bool {
        match self {
            Self::Booted | Self::Failed => {
                matches!(bound, ExpectedBound::Count(_) | ExpectedBound::Share(_))
            }
            Self::Retries => matches!(bound, ExpectedBound::Count(_)),
            Self::Wall | Self::Silence | Self::Late | Self::Quantile(..) => {
                matches!(bound, ExpectedBound::Microseconds(_))
            }
            Self::Throughput(_) => matches!(bound, ExpectedBound::PerSecond(_)),
            Self::Rate => matches!(bound, ExpectedBound::BytesPerSecond(_)),
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Booted | Self::Failed => "machines, or % of them",
            Self::Retries => "a number without a unit",
            Self::Wall | Self::Silence | Self::Late | Self::Quantile(..) => "us, ms, s or min",
            Self::Throughput(_) => "/s",
            Self::Rate => "kB/s, MB/s or GB/s",
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Booted => "booted".to_owned(),
            Self::Failed => "failed".to_owned(),
            Self::Retries => "retries".to_owned(),
            Self::Wall => "wall".to_owned(),
            Self::Rate => "rate".to_owned(),
            Self::Throughput(name) => (*name).to_owned(),
            Self::Silence => "silence".to_owned(),
            Self::Late => "late".to_owned(),
            Self::Quantile(quantile, of) => format!("{quantile} {of}"),
        }
    }
}

impl fmt::Display for QuantileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
        })
    }
}

impl QuantileKind {
    fn read_from(self, times: &TimeDistribution) -> u64 {
        match self {
            Self::P50 => times.p50_us,
            Self::P90 => times.p90_us,
            Self::P99 => times.p99_us,
            Self::P999 => times.p999_us,
            Self::Max => times.max_us,
        }
    }
}

impl BoundRelation {
    fn holds(self, measured: f64, bound: f64) -> bool {
        match self {
            Self::Less => measured < bound,
            Self::AtMost => measured <= bound,
            Self::More => measured > bound,
            Self::AtLeast => measured >= bound,
            Self::Equal => (measured - bound).abs() < f64::EPSILON,
        }
    }
}

impl ExpectedBound {
    fn as_number(self) -> f64 {
        let (Self::Count(number)
        | Self::Share(number)
        | Self::Microseconds(number)
        | Self::BytesPerSecond(number)
        | Self::PerSecond(number)) = self;
        number
    }
}

impl RunExpectation {
    /// The expectation as typed.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the report meets the expectation. A figure that no machine reached misses it.
    pub(crate) fn judge(&self, report: &ReportDocument) -> ExpectationVerdict {
        let (measured, is_met) = match self.measure_figure(report) {
            Some((number, said)) => (said, self.relation.holds(number, self.bound.as_number())),
            None => ("no machine reached it".to_owned(), false),
        };
        ExpectationVerdict { expected: self.text.clone(), measured, is_met }
    }

    /// The figure in the unit of the bound, and as text.
    fn measure_figure(&self, report: &ReportDocument) -> Option<(f64, String)> {
        let summary = &report.summary;
        match &self.figure {
            ExpectedFigure::Booted => self.measure_machines(summary.booted, summary.machines),
            ExpectedFigure::Failed => self.measure_machines(summary.failed, summary.machines),
            ExpectedFigure::Retries => Some((summary.retries as f64, summary.retries.to_string())),
            ExpectedFigure::Wall => {
                Some((summary.wall_s * 1e6, format!("{:.2} s", summary.wall_s)))
            }
            ExpectedFigure::Rate => {
                Some((summary.bytes_per_s, format!("{:.1} MB/s", summary.bytes_per_s / 1e6)))
            }
            ExpectedFigure::Throughput(name) => {
                let per_second = match *name {
                    "leases" => report.rates.leases_per_s,
                    "transfers" => report.rates.transfers_per_s,
                    _ => report.rates.requests_per_s,
                }?;
                Some((per_second, format!("{per_second:.1}/s")))
            }
            ExpectedFigure::Silence => {
                let us = report
                    .silences
                    .iter()
                    .map(|silence| silence.longest_ms * 1000)
                    .max()
                    .unwrap_or(0);
                Some((us as f64, PrettyMicroseconds(us).to_string()))
            }
            ExpectedFigure::Late => {
                let us = report.lateness.power_on.max_us.max(report.lateness.request.max_us);
                Some((us as f64, PrettyMicroseconds(us).to_string()))
            }
            ExpectedFigure::Quantile(quantile, of) => {
                let times = match of.as_str() {
                    "boot" => Some(&report.boot),
                    "to_kernel" => Some(&report.to_kernel),
                    stage => report.stages.get(stage),
                };
                let us = quantile.read_from(times.filter(|times| times.count > 0)?);
                Some((us as f64, PrettyMicroseconds(us).to_string()))
            }
        }
    }

    /// The count or its share of all machines, whichever the unit of the bound asks for. No
    /// machines have no share.
    fn measure_machines(&self, count: u32, all: u32) -> Option<(f64, String)> {
        let text = format!("{count} of {all}");
        if !matches!(self.bound, ExpectedBound::Share(_)) {
            return Some((f64::from(count), text));
        }
        let share = f64::from(count) / f64::from(all);
        (all > 0).then(|| (share, format!("{text} ({:.2} %)", share * 100.0)))
    }
}

/// A line for each expectation, and the verdict; empty without expectations.
pub(crate) fn format_expectations(verdicts: &[ExpectationVerdict]) -> String {
    let missed = verdicts.iter().filter(|verdict| !verdict.is_met).count();
    let lines: String = verdicts.iter().map(format_verdict_line).collect();
    match (verdicts.len(), missed) {
        (0, _) => lines,
        (_, 0) => format!("{lines}PASS\n"),
        (all, _) => format!("{lines}FAIL: {missed} of {all} not met\n"),
    }
}

fn format_verdict_line(verdict: &ExpectationVerdict) -> String {
    let word = if verdict.is_met { "PASS" } else { "FAIL" };
    let line = format!("  {word}  {}: {}\n", verdict.expected, verdict.measured);
    if line.chars().count() <= count_output_columns() { line } else { wrap_sentence(&line) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::details::SilenceEntry;
    use crate::json::tests::made_up;

    /// A hundred machines, of which ten failed.
    fn judged(text: &str) -> ExpectationVerdict {
        text.parse::<RunExpectation>().unwrap().judge(&made_up(100))
    }

    #[test]
    fn each_figure_is_held_against_its_bound_in_its_unit() {
        let report = made_up(100);
        let p99_s = report.boot.p99_us as f64 / 1e6;
        for (text, is_met) in [
            ("all booted", false),
            ("booted >= 90", true),
            ("booted > 90", false),
            ("booted == 90%", true),
            ("failed <= 10", true),
            ("failed < 10", false),
            ("failed <= 10%", true),
            ("failed <= 9.9%", false),
            ("failed=10", true),
            ("retries < 13", true),
            ("retries < 12", false),
            ("wall <= 5s", true),
            ("wall < 5000ms", false),
            ("wall < 1min", true),
            ("rate >= 400MB/s", true),
            ("rate > 0.4 GB/s", false),
            ("max kernel > 1us", true),
            ("p50 to_kernel > 0us", true),
            ("p50 to kernel > 0us", true),
        ] {
            assert_eq!(judged(text).is_met, is_met, "{text}: {:?}", judged(text));
        }
        for (sign, is_met) in [("<", false), ("<=", true), (">=", true), (">", false)] {
            let text = format!("p99 boot {sign} {}us", report.boot.p99_us);
            assert_eq!(judged(&text).is_met, is_met, "{text}, {p99_s} s");
        }
        assert_eq!(judged("failed <= 1%").measured, "10 of 100 (10.00 %)");
        assert_eq!(judged("failed <= 1").measured, "10 of 100");
    }

    #[test]
    fn requests_a_second_silence_and_lateness_are_figures_too() {
        let mut report = made_up(100);
        report.rates.requests_per_s = Some(5000.0);
        report.lateness.power_on.max_us = 900;
        let silence =
            |longest_ms| SilenceEntry { protocol: "HTTP".into(), longest_ms, at_ms: 0, waiting: 3 };
        report.silences = vec![silence(40), silence(2000)];
        let is_met = |text: &str| text.parse::<RunExpectation>().unwrap().judge(&report).is_met;
        for text in [
            "requests >= 5000/s",
            "silence <= 2s",
            "silence > 1999ms",
            "late < 1ms",
            "late >= 900us",
        ] {
            assert!(is_met(text), "{text}");
        }
        for text in ["requests > 5000/s", "silence < 2s", "late < 900us", "leases > 0/s"] {
            assert!(!is_met(text), "{text}");
        }
        for wrong in ["requests > 5000", "rate > 5000/s", "silence < 2"] {
            assert!(wrong.parse::<RunExpectation>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_nobody_came_to_is_not_met() {
        let mut report = made_up(100);
        report.boot = TimeDistribution::default();
        let verdict = "p99 boot < 60s".parse::<RunExpectation>().unwrap().judge(&report);
        assert_eq!((verdict.measured.as_str(), verdict.is_met), ("no machine reached it", false));
        report.summary.machines = 0;
        report.summary.booted = 0;
        assert!(!"all booted".parse::<RunExpectation>().unwrap().judge(&report).is_met);
    }

    #[test]
    fn what_is_no_expectation_is_told_with_what_there_is() {
        for (text, words) in [
            ("fast", "an expectation is `all booted`"),
            ("p99 bot < 60s", "there is no `bot`: stages are boot, to_kernel, "),
            ("p98 boot < 60s", "`p98` is none of p50, p90, p99, p99.9 and max"),
            ("boot < 60s", "`boot` is no figure"),
            ("p99 boot < 60", "p99 boot is measured in us, ms, s or min"),
            ("failed < 60s", "failed is measured in machines"),
            ("p99 boot <> 60s", "`<>` is no comparison"),
            ("p99 boot < s", "`s` does not begin with a number"),
            ("p99 boot < 60h", "`h` is none of %"),
        ] {
            let said = text.parse::<RunExpectation>().unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn the_verdict_is_one_word_at_the_end() {
        let verdicts = |texts: &[&str]| texts.iter().map(|text| judged(text)).collect::<Vec<_>>();
        assert_eq!(format_expectations(&[]), "");
        assert_eq!(
            format_expectations(&verdicts(&["failed <= 10"])),
            "  PASS  failed <= 10: 10 of 100\nPASS\n"
        );
        let said = format_expectations(&verdicts(&["failed <= 10", "all booted"]));
        assert!(
            said.ends_with("  FAIL  all booted: 90 of 100 (90.00 %)\nFAIL: 1 of 2 not met\n"),
            "{said}"
        );
    }
}
