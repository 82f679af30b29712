//! Percentile curves: how long each stage took the median machine, one in ten, one in a hundred;
//! both axes logarithmic.

use std::fmt::Write;

use super::chart::{
    AxisScale, LEFT, RIGHT, WIDTH, draw_x_axis, draw_y_axis, format_measured_time,
    format_tick_time, open_plot, spell_stage_class, spell_stage_title,
};
use crate::json::{ReportDocument, TimeDistribution};

const TOP: f64 = 12.0;
const BOTTOM: f64 = 300.0;

/// The plot; empty if no machine finished a stage.
pub(crate) fn draw_curves(report: &ReportDocument) -> String {
    let curves: Vec<(String, &str, &TimeDistribution)> = report
        .stages_in_order()
        .map(|(stage, times)| (spell_stage_class(stage), spell_stage_title(stage), times))
        .chain([("s-boot".to_owned(), "whole boot", &report.boot)])
        .filter(|(_, _, times)| times.count > 0)
        .collect();

    // The y axis is logarithmic and has no place for 0.
    let all = || curves.iter().flat_map(|(_, _, times)| times.curve.iter());
    let count = curves.iter().map(|(_, _, times)| times.count).max().unwrap_or(0);
    let (Some(least), Some(most)) =
        (all().map(|at| at.1.max(1)).min(), all().map(|at| at.1.max(1)).max())
    else {
        return String::new();
    };
    let mut out = String::new();
    open_plot(&mut out, BOTTOM + 42.0, "percentile curves of each stage");
    let x = draw_quantile_axis(&mut out, count);
    let (low, high) = (least as f64 * 0.8, most as f64 * 1.2);
    let y = AxisScale::new((low.log10(), high.log10()), (BOTTOM, TOP));
    let ticks: Vec<_> =
        list_round_times(low, high).map(|us| (y.at(us.log10()), format_tick_time(us))).collect();
    draw_y_axis(&mut out, &ticks);
    for (class, name, times) in &curves {
        draw_curve(&mut out, class, name, times, &x, &y);
    }
    out.push_str("</svg>\n");
    out
}

/// Microseconds of the ticks: powers of ten, with twice and five times each if they are few.
fn list_round_times(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let digits: &[f64] = if high / low < 2000.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let powers = (0..10).map(|power| 10f64.powi(power));
    powers
        .flat_map(move |power| digits.iter().map(move |digit| digit * power))
        .filter(move |us| (low..=high).contains(us))
}

/// Draws the x axis: 0 %, 90 %, 99 % at equal distances, as far as `count` machines reach.
fn draw_quantile_axis(out: &mut String, count: u64) -> AxisScale {
    let most = compute_rarity(1.0, count).max(1.0);
    let scale = AxisScale::new((0.0, most), (LEFT, WIDTH - RIGHT));
    let shown = [
        (0.0, "0 %"),
        (0.5, "50 %"),
        (0.75, "75 %"),
        (0.9, "90 %"),
        (0.95, "95 %"),
        (0.99, "99 %"),
    ];
    let shown = shown.into_iter().chain([(0.999, "99.9 %"), (0.9999, "99.99 %")]);

    // A tick close to the end would lie under the label `max`.
    let ticks: Vec<_> = shown
        .map(|(quantile, words)| (compute_rarity(quantile, u64::MAX), words))
        .filter(|(at, _)| *at <= most * 0.97)
        .map(|(at, words)| (scale.at(at), words.to_owned()))
        .chain([(scale.at(most), "max".to_owned())])
        .collect();
    draw_x_axis(out, &ticks, TOP, BOTTOM);
    let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, BOTTOM + 36.0);
    let _ = writeln!(
        out,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">share of the machines that were not \
         slower</text>"
    );
    scale
}

/// -log10 of the share of machines that are slower. The slowest of `count` stands for one in twice
/// as many.
fn compute_rarity(quantile: f64, count: u64) -> f64 {
    -(1.0 - quantile).max(0.5 / count.max(1) as f64).log10()
}

fn draw_curve(
    out: &mut String,
    class: &str,
    name: &str,
    times: &TimeDistribution,
    x: &AxisScale,
    y: &AxisScale,
) {
    let mut path = String::new();
    let mut dots = String::new();

    // A dot is invisible until the reader points at it: it has the words of its place on the curve.
    for (quantile, us) in &times.curve {
        let (x, y) =
            (x.at(compute_rarity(*quantile, times.count)), y.at(((*us).max(1) as f64).log10()));
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        let (percent, words) = (quantile * 100.0, format_measured_time(*us));
        let _ = write!(
            dots,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"><title>{name}, {percent} %: \
             {words}</title></circle>"
        );
    }
    let _ = writeln!(out, "<g class=\"curve {class}\"><path d=\"{path}\"/>{dots}</g>");
}
