//! A search on a terminal: a table with a curve for each knob, the verdict as a sentence, and the
//! lines for the configuration.

use std::fmt::Write;

use super::bench::{TuneRun, format_seconds};
use super::goal::TuneGoal;
use super::knobs::{KNOBS, find_knob_spec};
use super::search::{
    KnobValues, KnobVerdict, MARGIN, RoundRatios, TriedKnob, WON_AFTER, compute_median,
};
use crate::width::count_output_columns;
use crate::width::wrap_sentence;

/// Columns of a curve.
const CURVE_COLUMNS: usize = 30;
/// The ratios at its ends, unless a value is beyond them.
const CURVE_ENDS: (f64, f64) = (0.9, 1.1);
/// The greatest ratio of a curve; a `>` marks values beyond it.
const CURVE_MAX: f64 = 2.0;

/// The rule as a sentence, which is printed above every result.
pub(super) fn describe_tune_rule(rounds: usize) -> String {
    let percent = MARGIN * 100.0;
    let won =
        WON_AFTER.map(|(rounds, lost)| format!("{} of {rounds}", rounds - lost)).join(", or ");
    format!(
        "The value with the best median of {rounds} rounds runs again, with only the present value \
         beside it, and is taken if it needs at least {percent:.0} % less in {won} rounds. Ratios \
         are of runs in the same round; less is better."
    )
}

/// One knob: every value with median, ratio, range and curve, and the verdict.
pub(super) fn format_tried_knob(tried: &TriedKnob, goal: TuneGoal) -> String {
    let about = find_knob_spec(tried.knob)
        .map_or(String::new(), |spec| format!("{}: {}", spec.key(), spec.about));
    let scale = RatioScale::for_knob(tried);
    let [value, time, ratio, range] = ["value", goal.name(), "ratio", "range"];
    let mut out = format!(
        "\n  {about}\n  {value:>13}{time:>10}{ratio:>7}  {range:<11}  {}\n",
        scale.format_header()
    );
    let mut rows: Vec<(u64, String)> =
        tried.values.iter().map(|tries| (tries.value, scale.format_row(tries))).collect();
    let runs = (find_least(&tried.reference_runs), find_greatest(&tried.reference_runs));
    let own = format!("runs from {} to {}", format_seconds(runs.0), format_seconds(runs.1));
    let now = compute_median(&tried.reference_runs).unwrap_or_default();
    let (value, now) = (tried.reference, format_seconds(now));
    rows.push((value, format!("  now {value:>9}{now:>10}{:>7}  {own}\n", "1.00")));
    rows.sort_by_key(|(value, _)| *value);
    out.extend(rows.into_iter().map(|(_, row)| row));
    out + &wrap_sentence(&describe_knob_verdict(tried))
}

fn describe_knob_verdict(tried: &TriedKnob) -> String {
    let TriedKnob { knob, reference, .. } = tried;
    match &tried.verdict {
        KnobVerdict::Won { value, confirmation } => {
            format!("{knob} = {value} is taken: {}.", format_ratios(confirmation))
        }
        KnobVerdict::NotConfirmed { value, confirmation } => {
            format!(
                "{value} was the best in the rounds, but not in the confirmation beside \
                 {reference}: {}. Not changed.",
                format_ratios(confirmation)
            )
        }
        KnobVerdict::LeftAlone => format!("No value is better than {reference}: not changed."),
        KnobVerdict::TimeIsOver => {
            format!("The budget ended before the verdict: {knob} stays {reference}.")
        }
    }
}

/// `0.91 (0.88-0.94), better in 6 of 6 rounds`.
pub(super) fn format_ratios(ratios: &RoundRatios) -> String {
    let (least, greatest) = ratios.range();
    let (median, won, rounds) = (ratios.median(), ratios.count_won(), ratios.0.len());
    format!("{median:.2} ({least:.2}-{greatest:.2}), better in {won} of {rounds} rounds")
}

/// `45 % less (30 to 54)`: the gain of these ratios, its median and its range.
pub(super) fn format_gain(ratios: &RoundRatios) -> String {
    let percent = |ratio: f64| (1.0 - ratio) * 100.0;
    let (least, greatest) = ratios.range();
    let (median, least, greatest) = (percent(ratios.median()), percent(greatest), percent(least));
    format!("{median:.0} % less ({least:.0} to {greatest:.0})")
}

/// All winners beside the present values, by every goal: the gain and its price.
pub(super) fn format_joint_result(
    runs: &[TuneRun],
    ratios: &RoundRatios,
    goal: TuneGoal,
    timed: bool,
) -> String {
    let mut out = format!(
        "\n  all winners together beside the present values, in {} rounds of their own\n",
        ratios.0.len()
    );
    for (index, other) in TuneGoal::ALL.into_iter().enumerate() {
        let (Some(now), Some(then)) =
            (compute_goal_median(runs, index, false), compute_goal_median(runs, index, true))
        else {
            continue;
        };
        let ratio = if other == goal { ratios.median() } else { then / now };
        let (name, words, now, then) =
            (other.name(), other.describe(timed), format_seconds(now), format_seconds(then));
        // A String takes whatever is written to it.
        let _ = writeln!(out, "  {name:>8}{now:>10} ->{then:>10}  {ratio:.2}  {words}");
    }
    out
}

/// The median of this goal over the runs with the winners' values, or over those without.
fn compute_goal_median(runs: &[TuneRun], goal: usize, has_winners: bool) -> Option<f64> {
    let goals = runs
        .iter()
        .filter(|run| run.values.is_empty() != has_winners)
        .filter_map(|run| run.goals?[goal]);
    compute_median(&goals.collect::<Vec<f64>>())
}

/// The winners as lines of a configuration, each with its old value.
pub(super) fn format_config_block(
    best: &KnobValues,
    now: &ringboot::config::Config,
    about: &[String],
) -> String {
    let mut out: String = about.iter().map(|line| format!("# {line}\n")).collect();
    let mut table = "";
    for spec in KNOBS.iter().filter(|spec| best.contains_key(spec.name)) {
        if spec.table != table {
            table = spec.table;
            let _ = writeln!(out, "[{table}]");
        }
        let _ =
            writeln!(out, "{} = {}  # was {}", spec.name, best[spec.name], spec.read_value(now));
    }
    out
}

/// Whether a curve fits into the line.
fn has_curve_room() -> bool {
    count_output_columns() >= 80
}

/// Ratios on a line of characters.
struct RatioScale {
    least: f64,
    greatest: f64,
}

impl RatioScale {
    fn for_knob(tried: &TriedKnob) -> Self {
        let ratios = || tried.values.iter().flat_map(|tries| tries.ratios.0.iter().copied());
        Self {
            least: ratios().fold(CURVE_ENDS.0, f64::min),
            greatest: ratios().fold(CURVE_ENDS.1, f64::max).min(CURVE_MAX),
        }
    }

    fn format_header(&self) -> String {
        let (least, greatest) = (format!("{:.2}", self.least), format!("{:.2}", self.greatest));
        let gap = CURVE_COLUMNS.saturating_sub(least.len() + greatest.len());
        if has_curve_room() {
            format!("{least}{}{greatest}", " ".repeat(gap))
        } else {
            String::new()
        }
    }

    fn format_row(&self, tries: &super::search::TriedValue) -> String {
        let value = tries.value;
        if tries.failed || tries.runs.is_empty() {
            return format!(
                "      {value:>9}  {}\n",
                if tries.failed { "machines failed" } else { "not measured" }
            );
        }
        let (time, ratio) = (
            format_seconds(compute_median(&tries.runs).unwrap_or_default()),
            tries.ratios.median(),
        );
        let (least, greatest) = tries.ratios.range();
        let range = format!("{least:.2}-{greatest:.2}");
        let curve = if has_curve_room() { self.draw_curve(&tries.ratios) } else { String::new() };
        let line = format!("      {value:>9}{time:>10}{ratio:>7.2}  {range:<11}  {curve}");
        format!("{}\n", line.trim_end())
    }

    /// `|` is the present value, `o` the median, `-` the range, `>` a range that continues.
    fn draw_curve(&self, ratios: &RoundRatios) -> String {
        let mut curve = vec![' '; CURVE_COLUMNS];
        let (least, greatest) = ratios.range();
        curve[self.find_column(least)..=self.find_column(greatest)].fill('-');
        curve[self.find_column(1.0)] = '|';
        curve[self.find_column(ratios.median())] = 'o';
        if greatest > self.greatest {
            curve[CURVE_COLUMNS - 1] = '>';
        }
        curve.into_iter().collect()
    }

    fn find_column(&self, ratio: f64) -> usize {
        let share = ((ratio - self.least) / (self.greatest - self.least)).clamp(0.0, 1.0);
        // A share of a few columns.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = (share * (CURVE_COLUMNS - 1) as f64).round() as usize;
        place
    }
}

fn find_least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn find_greatest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::search::TriedValue;
    use super::*;

    fn tried(verdict: KnobVerdict) -> TriedKnob {
        let tries = |value, ratios: &[f64]| TriedValue {
            value,
            runs: ratios.iter().map(|ratio| 2.0 * ratio).collect(),
            ratios: RoundRatios(ratios.to_vec()),
            failed: ratios.is_empty(),
        };
        TriedKnob {
            knob: "windowsize-max",
            reference: 32,
            reference_runs: vec![2.0, 1.9, 2.2],
            values: vec![
                tries(4, &[1.5, 2.6, 1.6]),
                tries(16, &[0.98, 1.0, 1.03]),
                tries(64, &[0.8, 0.85, 0.9]),
                tries(128, &[]),
            ],
            verdict,
        }
    }

    #[test]
    fn a_knob_is_a_table_with_a_curve_in_80_columns() {
        let won = KnobVerdict::Won {
            value: 64,
            confirmation: RoundRatios(vec![0.8, 0.82, 0.9, 0.81, 0.83, 0.8]),
        };
        let text = format_tried_knob(&tried(won), TuneGoal::Wall);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let line = |start: &str| {
            text.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned()
        };
        assert_eq!(line("[tftp]"), "  [tftp] windowsize-max: blocks in one window of TFTP");
        assert_eq!(line("now"), "  now        32    2.00 s   1.00  runs from 1.90 s to 2.20 s");
        assert_eq!(line("16"), "             16    2.00 s   1.00  0.98-1.03        -o-");
        assert_eq!(line("64"), "             64    1.70 s   0.85  0.80-0.90    -o-  |");
        assert!(
            line("4 ").ends_with("1.60  1.50-2.60         |           --o--------->"),
            "{text}"
        );
        assert!(line("128").ends_with("machines failed"), "{text}");
        assert!(
            text.contains(
                "windowsize-max = 64 is taken: 0.81 (0.80-0.90), better in 6 of 6 rounds."
            ),
            "{text}"
        );
    }

    #[test]
    fn what_is_left_alone_is_said_with_its_reason() {
        let lost = RoundRatios(vec![0.9, 1.04, 1.1, 1.0]);
        let not = format_tried_knob(
            &tried(KnobVerdict::NotConfirmed { value: 64, confirmation: lost }),
            TuneGoal::Wall,
        );
        let not = not.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            not.contains("beside 32: 1.02 (0.90-1.10), better in 1 of 4 rounds. Not changed."),
            "{not}"
        );
        assert!(
            format_tried_knob(&tried(KnobVerdict::LeftAlone), TuneGoal::Cpu)
                .contains("No value is better than 32: not changed.")
        );
    }

    #[test]
    fn a_gain_is_what_the_ratios_leave_of_the_whole() {
        let ratios = RoundRatios(vec![0.55, 0.46, 0.7, 0.54, 0.6]);
        assert_eq!(format_gain(&ratios), "45 % less (30 to 54)");
    }

    #[test]
    fn a_block_names_what_each_value_was() {
        let now = ringboot::config::Config::for_root("/");
        let best = KnobValues::from([("spin-us", 0), ("gso-segments", 16), ("windowsize-max", 64)]);
        assert_eq!(
            format_config_block(&best, &now, &["Found today.".to_owned()]),
            "# Found today.\n[tftp]\nwindowsize-max = 64  # was 32\n[tuning]\ngso-segments = 16  # \
             was 64\nspin-us = 0  # was 50\n"
        );
    }
}
