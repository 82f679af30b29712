//! `loadtest merge`: the reports of several load generators that ran at the same time, as one.

mod parts;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;

use crate::json::ReportDocument;
use crate::json::many::MergedPart;
use crate::output::{OutputFlags, is_report_accepted};

/// Joins the reports of several load generators, which ran at the same time, into one
///
/// The joined report adds machines, failures, bytes and histograms; time runs from the first start
/// to the last end, by the clocks of the generators. The verdict of --expect is of all machines. If
/// machines ask for addresses, give each generator its own --seed.
#[derive(Debug, clap::Args)]
pub(crate) struct MergeArguments {
    /// The JSON report of each generator
    #[arg(required = true, num_args = 2.., value_name = "REPORT")]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputFlags,
}

/// Exit code as of a run: 1 if a machine failed, or, with --expect, if the report misses one.
pub(crate) fn run_merge(arguments: &MergeArguments) -> anyhow::Result<ExitCode> {
    let mut reports = Vec::new();
    for file in &arguments.reports {
        let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        reports.push((name, ReportDocument::read(file)?));
    }
    let mut report = merge_named_reports(&reports)?;
    let expected = &arguments.output.expect;
    report.verdicts = expected.iter().map(|expectation| expectation.judge(&report)).collect();
    arguments.output.write(&report)?;
    if !arguments.output.quiet {
        for MergedPart { file, machines, booted, started, wall_s, .. } in &report.parts {
            writeln!(
                io::stderr(),
                "  {file}: {booted} of {machines} in {wall_s:.2} s from {started}"
            )?;
        }
    }
    Ok(if is_report_accepted(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn merge_named_reports(reports: &[(String, ReportDocument)]) -> anyhow::Result<ReportDocument> {
    let begun = reports.iter().map(|(_, report)| report.run.started_ms).min().unwrap_or(0);
    ensure!(
        begun > 0 && reports.iter().all(|(_, report)| parts::is_mergeable(report)),
        "a report of an older loadtest has neither its start time nor its histograms: run it again"
    );
    let all: Vec<parts::PlacedReport<'_>> = reports
        .iter()
        .map(|(name, report)| parts::PlacedReport {
            name,
            report,
            after_ms: report.run.started_ms - begun,
        })
        .collect();
    parts::add_reports(&all)
}

#[cfg(test)]
mod tests;
