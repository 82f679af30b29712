//! Shared parts of all plots: scales with round ticks, labels, and escaped text.

use std::fmt::Write;

use ringboot_fleet::PrettyMicroseconds;
use ringboot_observe::events::MachineStage;

use crate::json;

/// Width of every plot in its own units; the page scales it.
pub(crate) const WIDTH: f64 = 960.0;
/// Room for the labels left of a plot.
pub(crate) const LEFT: f64 = 74.0;
/// Room right of it, for the last tick's label.
pub(crate) const RIGHT: f64 = 24.0;

/// Maps values to positions along an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AxisScale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl AxisScale {
    /// Value `from` lies at position `start`, `to` at `end`.
    pub(crate) fn new(values: (f64, f64), positions: (f64, f64)) -> Self {
        let (from, to) = values;
        let to = if to > from { to } else { from + 1.0 };
        Self { from, to, start: positions.0, end: positions.1 }
    }

    /// The x axis of a plot for values from 0.
    pub(crate) fn across(most: f64) -> Self {
        Self::new((0.0, most), (LEFT, WIDTH - RIGHT))
    }

    pub(crate) fn at(&self, value: f64) -> f64 {
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.start + share * (self.end - self.start)
    }

    /// Round values within the scale, about `wanted` of them.
    pub(crate) fn ticks(&self, wanted: f64) -> Vec<f64> {
        let step = round_step((self.to - self.from) / wanted);
        let first = (self.from / step).ceil();
        let mut ticks = Vec::new();
        let mut tick = first * step;
        while tick <= self.to + step * 1e-9 {
            ticks.push(tick);
            tick += step;
        }
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= least * 0.999);
    digit.unwrap_or(10.0) * power
}

/// A tick of time, shorter than a measured one: `20 ms`, `1.5 s`.
pub(crate) fn format_tick_time(microseconds: f64) -> String {
    match microseconds {
        0.0 => "0".to_owned(),
        us if us >= 1e6 => format!("{} s", trim_decimals(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", trim_decimals(us / 1e3)),
        us => format!("{} \u{b5}s", trim_decimals(us)),
    }
}

/// A measured time.
pub(crate) fn format_measured_time(microseconds: u64) -> String {
    PrettyMicroseconds(microseconds).to_string()
}

/// At most two decimals, none of them a trailing zero.
pub(crate) fn trim_decimals(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Escapes text for an element or an attribute.
pub(crate) fn escape_report_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// The class that gives a stage its colour.
pub(crate) fn spell_stage_class(stage: MachineStage) -> String {
    format!("s-{}", json::spell_stage_name(stage))
}

/// A stage in the words of legends and tables.
pub(crate) fn spell_stage_title(stage: MachineStage) -> &'static str {
    if stage == MachineStage::Dhcp { "DHCP" } else { stage.as_str() }
}

/// The opening tag of a plot, with a label for screen readers.
pub(crate) fn open_plot(out: &mut String, height: f64, label: &str) {
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape_report_text(label)
    );
}

/// Vertical grid lines with their labels below the plot.
pub(crate) fn draw_x_axis(out: &mut String, ticks: &[(f64, String)], top: f64, bottom: f64) {
    for (x, words) in ticks {
        let _ = write!(out, "<path class=\"grid\" d=\"M{x:.1} {top}V{bottom}\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{words}</text>",
            bottom + 16.0
        );
    }
}

/// Horizontal grid lines with their labels left of the plot.
pub(crate) fn draw_y_axis(out: &mut String, ticks: &[(f64, String)]) {
    for (y, words) in ticks {
        let _ = write!(out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/>", WIDTH - RIGHT);
        let (x, y) = (LEFT - 8.0, y + 4.0);
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{words}</text>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_scale() {
        assert_eq!(AxisScale::across(5.2).ticks(6.0), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(AxisScale::across(730.0).ticks(4.0), [0.0, 200.0, 400.0, 600.0]);
        let nothing = AxisScale::across(0.0);
        assert!(nothing.at(0.0).is_finite() && nothing.ticks(4.0).len() > 1);
        assert!((AxisScale::across(10.0).at(10.0) - (WIDTH - RIGHT)).abs() < 1e-9);
    }

    #[test]
    fn numbers_are_written_short() {
        assert_eq!(
            [format_tick_time(1_500_000.0), format_tick_time(20_000.0), format_tick_time(100.0)],
            ["1.5 s", "20 ms", "100 \u{b5}s"]
        );
        assert_eq!(
            [trim_decimals(2.0), trim_decimals(0.25), trim_decimals(100.0)],
            ["2", "0.25", "100"]
        );
    }

    #[test]
    fn a_name_cannot_end_its_element() {
        assert_eq!(
            escape_report_text("</script><b a=\"'&"),
            "&lt;/script&gt;&lt;b a=&quot;&#39;&amp;"
        );
    }
}
