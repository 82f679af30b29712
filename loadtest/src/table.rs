//! The report on a terminal: a table of stages and a summary, readable in 80 columns.

use std::fmt::{self, Write};
use std::time::Duration;

use ringboot_fleet::PrettyMicroseconds;

use crate::expect;
use crate::json::{ReportDocument, TimeDistribution, spell_stage_name};
use crate::repeat;
use crate::width::{TableColumn, TableLayout, count_output_columns, wrap_sentence};
use crate::words;

/// Causes of failure that the table lists: it stays on one screen, and the file has all of them.
const CAUSES_SHOWN_MAX: usize = 6;

/// The whole report as text.
pub(crate) fn format_report_table(report: &ReportDocument) -> String {
    let mut out = String::new();
    // A String takes whatever is written to it.
    let _ = write_stage_rows(&mut out, report);
    out += &format_summary(report);
    if report.summary.interrupted {
        out.push_str(&wrap_sentence("! interrupted: the report is of the run until then"));
    }
    for limit in &report.limits {
        out.push_str(&wrap_sentence(&format!("! {limit}")));
    }
    for failed in report.failures.iter().take(CAUSES_SHOWN_MAX) {
        let (machines, stage) = (failed.machines, &failed.stage);
        out.push_str(&wrap_sentence(&format!(
            "{machines} failed: {} ({stage})",
            failed.describe()
        )));
        if let Some(who) = words::list_failed_machines(report, &failed.cause, stage, machines) {
            out.push_str(&wrap_sentence(&format!("  they are {who}")));
        }
    }
    for odd in &report.oddities {
        out.push_str(&wrap_sentence(&format!("put up with {} {}", odd.times, odd.what)));
    }
    out + &repeat::format_repeat_spread(report) + &expect::format_expectations(&report.verdicts)
}

/// Name, count, five quantiles, retransmissions. A narrow terminal keeps the slow end.
const STAGES: [TableColumn; 8] = [
    TableColumn::text(13, 0),
    TableColumn::number(7, 0),
    TableColumn::number(10, 1),
    TableColumn::number(10, 3),
    TableColumn::number(10, 0),
    TableColumn::number(10, 4),
    TableColumn::number(10, 0),
    TableColumn::number(9, 2),
];

fn write_stage_rows(out: &mut String, report: &ReportDocument) -> fmt::Result {
    let layout = TableLayout::new(&STAGES, count_output_columns());
    out.write_str(
        &layout.line(&["stage", "count", "p50", "p90", "p99", "p99.9", "max", "retrans"]),
    )?;
    let stages = report.stages_in_order().map(|(stage, times)| (spell_stage_name(stage), times));
    let whole = if report.summary.firmware { "whole boot" } else { "all steps" };
    let spans = [("to kernel".to_owned(), &report.to_kernel), (whole.to_owned(), &report.boot)];
    for (name, times) in stages.chain(spans) {
        let TimeDistribution {
            count, p50_us, p90_us, p99_us, p999_us, max_us, retransmits, ..
        } = times;

        // A stage that no machine finished still has the retransmissions of those that gave up in
        // it. The two spans have none.
        if *count == 0 && retransmits.is_none() {
            continue;
        }
        let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(|us| {
            if *count > 0 { PrettyMicroseconds(*us).to_string() } else { "-".to_owned() }
        });
        let retransmits = retransmits.map_or(String::new(), |number| number.to_string());
        out.write_str(&layout.line(&[
            &name,
            &count.to_string(),
            &p50,
            &p90,
            &p99,
            &p999,
            &max,
            &retransmits,
        ]))?;
    }
    writeln!(out)
}

fn format_summary(report: &ReportDocument) -> String {
    let summary = &report.summary;
    let mut lines =
        vec![format!("{}, {} retries", words::format_headline(report), summary.retries)];
    lines.extend(words::format_rate_lines(report).into_iter().chain(words::describe_bytes(report)));
    if summary.warm_up_s > 0.0 {
        let warm_up_s = summary.warm_up_s;
        lines.push(format!(
            "boots and requests of the first {warm_up_s:.1} s (the warm-up) are not counted, \
             except failures"
        ));
    }
    if summary.released > 0 {
        lines.push(format!("{} addresses released", summary.released));
    }
    if let Some(times) = summary.slowest_to_median.filter(|_| summary.firmware) {
        lines.push(format!("the slowest boot took {times:.2} times as long as the median one"));
    }
    if let Some(processor_s) = summary.server_cpu_s {
        let a_gigabyte = report
            .server_cpu_s_per_gb()
            .map_or(String::new(), |cost| format!(", {cost:.2} CPU-s/GB"));
        let now = summary.server_rss_bytes.unwrap_or(0) as f64 / 1e6;
        let most = summary.server_rss_max_bytes.unwrap_or(0) as f64 / 1e6;
        lines.push(format!(
            "server: {processor_s:.2} CPU-s{a_gigabyte}, {now:.0} MB resident (at most {most:.0} \
             MB)"
        ));
    }
    if let Some(processor_s) = summary.client_cpu_s {
        let busy = summary.client_busy * 100.0;
        lines.push(format!(
            "load generator: {processor_s:.2} CPU-s, its core busy {busy:.0} % of the time"
        ));
    }
    lines.iter().map(|line| wrap_sentence(line)).collect()
}

/// An approximate time in the unit that a person would choose.
pub(crate) fn format_rough_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::tests::made_up;

    #[test]
    fn a_report_is_readable_in_80_columns() {
        let text = format_report_table(&made_up(500));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let header = text.lines().next().unwrap();
        for column in ["stage", "count", "p50", "p90", "p99", "p99.9", "max", "retrans"] {
            assert!(header.contains(column), "{header}");
        }
        let kernel = text.lines().find(|line| line.trim_start().starts_with("kernel")).unwrap();
        assert_eq!(
            kernel.split_whitespace().collect::<Vec<_>>()[..4],
            ["kernel", "500", "1.40", "s"],
            "{kernel}"
        );
        for words in [
            "450 of 500 machines booted in 5.00 s, 12 retries",
            "! the load generator was the limit",
            "50 failed: ",
        ] {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
    }

    #[test]
    fn a_rough_time_is_never_rounded_to_another_unit() {
        let said = [300, 1_000, 61_000, 119_999, 120_000, 600_000]
            .map(|ms| format_rough_time(Duration::from_millis(ms)));
        assert_eq!(said, ["300 ms", "1 s", "61 s", "119 s", "2 min", "10 min"]);
    }
}
