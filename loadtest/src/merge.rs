//! `loadtest merge`: the reports of several load generators that ran at the same time, as one.

mod parts;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;

use crate::json::Document;
use crate::json::many::Part;
use crate::output::{Output, accepted};

/// Joins the reports of several load generators, which ran at the same time, into one
///
/// Machines, failures, octets and histograms are added; time runs from the first start to the last
/// end, by the clocks of the generators. The verdict of --expect is of all machines. Say another
/// --seed on each generator where machines ask for addresses.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What --json has written on each of them
    #[arg(required = true, num_args = 2.., value_name = "REPORT")]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Exit code as of a run: 1 when a machine failed, or, with --expect, when something expected is
/// not met.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut reports = Vec::new();
    for file in &arguments.reports {
        let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        reports.push((name, Document::read(file)?));
    }
    let mut report = merged(&reports)?;
    let expected = &arguments.output.expect;
    report.verdicts = expected.iter().map(|expectation| expectation.judge(&report)).collect();
    arguments.output.write(&report)?;
    if !arguments.output.quiet {
        for Part { file, machines, booted, started, wall_s, .. } in &report.parts {
            writeln!(
                io::stderr(),
                "  {file}: {booted} of {machines} in {wall_s:.2} s from {started}"
            )?;
        }
    }
    Ok(if accepted(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn merged(reports: &[(String, Document)]) -> anyhow::Result<Document> {
    let begun = reports.iter().map(|(_, report)| report.run.started_ms).min().unwrap_or(0);
    ensure!(
        begun > 0 && reports.iter().all(|(_, report)| parts::can_be_added(report)),
        "a report of an older loadtest carries neither its moment nor its histograms: run it again"
    );
    let all: Vec<parts::Placed<'_>> = reports
        .iter()
        .map(|(name, report)| parts::Placed {
            name,
            report,
            after_ms: report.run.started_ms - begun,
        })
        .collect();
    parts::added(&all)
}

#[cfg(test)]
mod tests;
