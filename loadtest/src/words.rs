//! The result of a run in sentences: boots, or requests, transfers and leases.

use crate::json::ReportDocument;

/// The number of machines that booted, or did all their steps.
pub(crate) fn format_headline(report: &ReportDocument) -> String {
    let summary = &report.summary;
    let did = if summary.firmware { "booted" } else { "did all their steps" };
    format!("{} of {} machines {did} in {:.2} s", summary.booted, summary.machines, summary.wall_s)
}

/// A line for each kind of plain request, with its rate.
pub(crate) fn format_rate_lines(report: &ReportDocument) -> Vec<String> {
    let kinds = [
        ("leases", "dhcp", report.rates.leases_per_s),
        ("transfers", "loader", report.rates.transfers_per_s),
        ("requests", "file", report.rates.requests_per_s),
    ];
    let mut lines = Vec::new();
    for (what, stage, rate) in kinds {
        let Some(rate) = rate else { continue };
        let count = report.stages.get(stage).map_or(0, |times| times.count);
        lines.push(format!("{count} {what}, {} {what}/s", format_rate_number(rate)));
    }
    lines
}

/// Three significant digits.
fn format_rate_number(rate: f64) -> String {
    match rate {
        ..10.0 => format!("{rate:.2}"),
        10.0..100.0 => format!("{rate:.1}"),
        _ => format!("{rate:.0}"),
    }
}

/// Bytes of files; None if no machine was to fetch one.
pub(crate) fn describe_bytes(report: &ReportDocument) -> Option<String> {
    let summary = &report.summary;
    if summary.bytes == 0 && !summary.fetches {
        return None;
    }
    let (megabytes, rate) = (summary.bytes as f64 / 1e6, summary.bytes_per_s / 1e6);
    let amount = if summary.bytes < 1_000_000 {
        format!("{} bytes", summary.bytes)
    } else {
        format!("{megabytes:.0} MB")
    };
    Some(format!("{amount}, {rate:.0} MB/s, {}", summary.proved))
}

/// The machines that failed by a cause in this stage: the first few by name, the others as a count.
pub(crate) fn list_failed_machines(
    report: &ReportDocument,
    cause: &str,
    stage: &str,
    all: u32,
) -> Option<String> {
    let failed = report
        .failed_machines
        .iter()
        .filter(|failed| failed.stage == stage && failed.cause == cause);
    let names: Vec<String> = failed
        .take(NAMES_SHOWN_MAX)
        .map(|failed| format!("{} (machine {})", failed.mac, failed.machine))
        .collect();
    let others = (all as usize).saturating_sub(names.len());
    let more = if others > 0 { format!(" and {others} more") } else { String::new() };
    (!names.is_empty()).then(|| names.join(", ") + &more)
}

/// Machines of one cause that are named.
const NAMES_SHOWN_MAX: usize = 3;
