//! The stage waterfall: the time of each stage in the median boot and in the slowest.

use std::fmt::Write;

use ringboot_observe::events::MachineStage;

use super::chart::{
    self, AxisScale, draw_x_axis, format_measured_time, open_plot, spell_stage_class,
};
use crate::json::{BootRow, ReportDocument};

const ROW: f64 = 46.0;
const BAR: f64 = 26.0;

/// The plot, or a sentence if no machine booted.
pub(crate) fn draw_waterfall(report: &ReportDocument) -> String {
    let mut booted: Vec<&BootRow> = report.machines.iter().filter(|machine| machine.2).collect();
    booted.sort_by_key(|machine| machine.took_us());

    // The median is a real boot, the faster one of two in the middle: a mean of two boots has no
    // stages.
    let (Some(median), Some(slowest)) = (booted.get((booted.len().max(1) - 1) / 2), booted.last())
    else {
        return "<p class=\"none\">No machine booted.</p>".to_owned();
    };
    let mut out = String::new();
    let rows = [("median", median), ("slowest", slowest)];
    let bottom = ROW * 2.0 + 4.0;
    let scale = AxisScale::across(slowest.took_us() as f64);
    open_plot(&mut out, bottom + 24.0, "stages of the median and of the slowest boot");
    let ticks: Vec<_> = scale
        .ticks(7.0)
        .into_iter()
        .map(|us| (scale.at(us), chart::format_tick_time(us)))
        .collect();
    draw_x_axis(&mut out, &ticks, 4.0, bottom);
    for (row, (name, machine)) in (0u32..).zip(rows) {
        let y = f64::from(row) * ROW + 12.0;
        draw_boot_bar(&mut out, name, machine, y, &scale);
    }
    out.push_str("</svg>\n");
    out
}

fn draw_boot_bar(out: &mut String, name: &str, machine: &BootRow, y: f64, scale: &AxisScale) {
    let (middle, x) = (y + BAR / 2.0 + 4.0, chart::LEFT - 8.0);
    let _ = writeln!(
        out,
        "<text class=\"name\" x=\"{x}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>"
    );
    let mut begun = 0.0;
    for (stage, us) in MachineStage::ALL.into_iter().zip(machine.4) {
        if us == 0 {
            continue;
        }
        let (start, end) = (scale.at(begun), scale.at(begun + f64::from(us)));
        begun += f64::from(us);
        // A gap of one unit tells neighbours apart where their colours do not.
        let width = (end - start - 1.0).max(0.8);
        let (title, words) = (chart::spell_stage_title(stage), format_measured_time(us.into()));
        let _ = write!(
            out,
            "<rect class=\"{}\" x=\"{start:.1}\" y=\"{y}\" width=\"{width:.1}\"",
            spell_stage_class(stage)
        );
        let _ = writeln!(out, " height=\"{BAR}\" rx=\"2\"><title>{title}: {words}</title></rect>");
        if width > f64::from(WIDTH_OF_WORDS) {
            let x = start + width / 2.0;
            let _ = writeln!(
                out,
                "<text class=\"on\" x=\"{x:.1}\" y=\"{middle}\" \
                 text-anchor=\"middle\">{words}</text>"
            );
        }
    }
}

/// A bar wider than this has room for its time.
const WIDTH_OF_WORDS: u8 = 64;
