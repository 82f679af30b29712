//! Throughput over time: megabytes a second, and the number of machines that were done.

use std::fmt::Write;

use super::chart::{
    AxisScale, draw_x_axis, draw_y_axis, format_tick_time, open_plot, trim_decimals,
};
use crate::json::{ReportDocument, SeriesPoint};

const TOP: f64 = 12.0;
const BOTTOM: f64 = 190.0;

/// Bytes a second, each bucket a step; below it the share of the time that the generator's thread
/// was busy.
pub(crate) fn draw_bytes(report: &ReportDocument) -> String {
    let rates: Vec<f64> = pair_point_lengths(&report.series)
        .map(|(point, length_s)| point.bytes as f64 / 1e6 / length_s)
        .collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    // A little air above the highest step.
    let Some((mut out, x, y)) =
        draw_plot_frame(report, most * 1.05, "megabytes a second over time")
    else {
        return String::new();
    };
    let mut path = format!("M{:.1} {BOTTOM}", x.at(0.0));
    for (point, rate) in report.series.iter().zip(&rates) {
        let _ = write!(path, "V{:.1}H{:.1}", y.at(*rate), x.at(point.t_ms as f64));
    }
    let _ = writeln!(out, "<path class=\"area\" d=\"{path}V{BOTTOM}Z\"/>");
    let mut start = 0.0;
    for ((point, length_s), rate) in pair_point_lengths(&report.series).zip(&rates) {
        let (left, right) = (x.at(start), x.at(point.t_ms as f64));
        start = point.t_ms as f64;
        let busy = point.client_cpu_ms as f64 / 10.0 / length_s;
        let words = format!(
            "{}: {rate:.0} MB/s, generator {busy:.0} % busy",
            format_tick_time(start * 1000.0)
        );
        let (width, height) = (right - left, BOTTOM - TOP);
        let _ = write!(
            out,
            "<rect class=\"hit\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
             height=\"{height}\">"
        );
        let _ = writeln!(out, "<title>{words}</title></rect>");
    }
    out.push_str("</svg>\n");
    out
}

/// Machines that have booted or failed up to each moment.
pub(crate) fn draw_machines(report: &ReportDocument) -> String {
    let machines = f64::from(report.summary.machines);
    let Some((mut out, x, y)) = draw_plot_frame(report, machines, "machines done over time") else {
        return String::new();
    };
    for (class, count) in [
        ("booted", (|point: &SeriesPoint| point.booted) as fn(&SeriesPoint) -> u32),
        ("failed", |point| point.failed),
    ] {
        // A point counts the machines of its own interval. The curve is their sum until then.
        let mut sum = 0u32;
        let mut path = format!("M{:.1} {BOTTOM}", x.at(0.0));
        for point in &report.series {
            sum += count(point);
            let _ = write!(path, "L{:.1} {:.1}", x.at(point.t_ms as f64), y.at(sum.into()));
        }
        if sum > 0 {
            let _ = writeln!(
                out,
                "<path class=\"line {class}\" d=\"{path}\"><title>{sum} {class}</title></path>"
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Axes from the start of the run to its last point, and from 0 to `most`.
fn draw_plot_frame(
    report: &ReportDocument,
    most: f64,
    label: &str,
) -> Option<(String, AxisScale, AxisScale)> {
    let mut out = String::new();
    open_plot(&mut out, BOTTOM + 24.0, label);
    let x = AxisScale::across(report.series.last()?.t_ms as f64);
    let ticks: Vec<_> =
        x.ticks(8.0).into_iter().map(|ms| (x.at(ms), format_tick_time(ms * 1000.0))).collect();
    draw_x_axis(&mut out, &ticks, TOP, BOTTOM);
    let y = AxisScale::new((0.0, most), (BOTTOM, TOP));
    let ticks: Vec<_> =
        y.ticks(5.0).into_iter().map(|value| (y.at(value), trim_decimals(value))).collect();
    draw_y_axis(&mut out, &ticks);
    Some((out, x, y))
}

/// Each point with the seconds since the previous one.
fn pair_point_lengths(points: &[SeriesPoint]) -> impl Iterator<Item = (&SeriesPoint, f64)> {
    let before = std::iter::once(0).chain(points.iter().map(|point| point.t_ms));
    points
        .iter()
        .zip(before)
        .map(|(point, before)| (point, (point.t_ms.saturating_sub(before).max(1)) as f64 / 1000.0))
}
