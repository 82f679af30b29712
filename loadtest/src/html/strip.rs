//! The strip: each machine a line from power-on to its end, coloured by stage, in the order of
//! power-on.

use std::fmt::Write;

use ringboot_observe::events::MachineStage;

use super::chart::{AxisScale, format_tick_time, spell_stage_class};
use crate::json::{self, BootRow, ReportDocument};

/// Units across the strip: finer than any screen.
const UNITS: f64 = 3000.0;
/// Height of one machine's line if there are few, and of the strip if there are many; pixels.
const LINE_PX: usize = 12;
const STRIP_PX: usize = 640;

/// Machines switched on within a tenth of a second are grouped by model; without that the strip of
/// a storm is unreadable.
const TOGETHER_US: u64 = 100_000;

/// The plot with its axis; the page's script describes the machine under the pointer.
pub(crate) fn draw_strip(report: &ReportDocument) -> String {
    let mut machines: Vec<(usize, &BootRow)> = report.machines.iter().enumerate().collect();
    machines.sort_by_key(|&(_, machine)| (machine.0 / TOGETHER_US, machine.3.as_str(), machine.0));
    let Some(end) = machines.iter().map(|(_, machine)| machine.1).max() else {
        return String::new();
    };
    let scale = AxisScale::new((0.0, end as f64), (0.0, UNITS));
    let (rows, height) = (machines.len(), (machines.len() * LINE_PX).min(STRIP_PX));
    // Lines thinner than a pixel overlap a little: side by side they would let the paper shine
    // through.
    let width = if rows > STRIP_PX { 1.5 } else { 1.0 };
    let mut out = format!(
        "<div class=\"strip\" style=\"height:{height}px;stroke-width:{width}\"><svg viewBox=\"0 \
         -0.5 {UNITS} {rows}\""
    );
    out.push_str(
        " preserveAspectRatio=\"none\" role=\"img\" aria-label=\"each machine from \
                  power-on to its end\">\n",
    );
    for (index, stage) in MachineStage::ALL.into_iter().enumerate() {
        let path = draw_span_path(&machines, &scale, |machine| find_finished_span(machine, index));
        if !path.is_empty() {
            let _ = writeln!(out, "<path class=\"{}\" d=\"{path}\"/>", spell_stage_class(stage));
        }
    }
    let failed = draw_span_path(&machines, &scale, find_unfinished_span);
    if !failed.is_empty() {
        let _ = writeln!(out, "<path class=\"failed\" d=\"{failed}\"/>");
    }
    out.push_str("</svg><p id=\"told\"></p></div>\n<div class=\"axis\">");
    for tick in scale.ticks(8.0) {
        let percent = scale.at(tick) / UNITS * 100.0;
        let _ = write!(out, "<span style=\"left:{percent:.2}%\">{}</span>", format_tick_time(tick));
    }
    out.push_str("</div>\n");
    out.push_str(&encode_strip_data(&machines));
    out
}

/// When a machine's stage began and how long it took, microseconds.
fn find_finished_span(machine: &BootRow, index: usize) -> Option<(u64, u64)> {
    let before: u64 = machine.4.iter().take(index).map(|us| u64::from(*us)).sum();
    let took = *machine.4.get(index)?;
    (took > 0).then_some((machine.0 + before, u64::from(took)))
}

/// The same of the stage in which a machine stopped.
fn find_unfinished_span(machine: &BootRow) -> Option<(u64, u64)> {
    let done: u64 = machine.4.iter().map(|us| u64::from(*us)).sum();
    (!machine.2).then(|| (machine.0 + done, machine.took_us().saturating_sub(done)))
}

/// One path for all lines of a colour: a tenth of the bytes of an element for each.
fn draw_span_path(
    machines: &[(usize, &BootRow)],
    scale: &AxisScale,
    span: impl Fn(&BootRow) -> Option<(u64, u64)>,
) -> String {
    let mut path = String::new();
    for (row, (_, machine)) in machines.iter().enumerate() {
        let Some((start, took)) = span(machine) else { continue };
        let (left, right) =
            (scale.at(start as f64).round(), scale.at((start + took) as f64).round());
        if right > left {
            let _ = write!(path, "M{left} {row}H{right}");
        }
    }
    path
}

/// The data of each row for the page's script: number, start and end in ms, model, the stage in
/// which the machine stopped.
fn encode_strip_data(machines: &[(usize, &BootRow)]) -> String {
    let mut models: Vec<&str> = machines.iter().map(|(_, machine)| machine.3.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    let stages: Vec<String> = MachineStage::ALL.into_iter().map(json::spell_stage_name).collect();
    let rows: Vec<_> = machines
        .iter()
        .map(|(number, machine)| {
            let model = models.binary_search(&machine.3.as_str()).unwrap_or(0);
            let stopped =
                machine.5.as_ref().and_then(|name| stages.iter().position(|stage| stage == name));
            (number, machine.0 / 1000, machine.1 / 1000, model, stopped)
        })
        .collect();
    let json = serde_json::json!({ "models": models, "stages": stages, "rows": rows }).to_string();
    // "</script>" within a name would end the element.
    format!(
        "<script id=\"rows\" type=\"application/json\">{}</script>\n",
        json.replace('<', "\\u003c")
    )
}
