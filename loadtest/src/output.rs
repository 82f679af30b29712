//! Writes a report to files or standard output, and decides whether it is accepted.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::expect::RunExpectation;
use crate::json::ReportDocument;
use crate::{csv, hdr, html, table};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Report")]
pub(crate) struct OutputFlags {
    /// A condition for exit code 0, such as 'all booted', 'p99 boot < 60s' or 'failed <= 1%'; may
    /// be repeated [default: no machine failed]
    #[arg(long, value_name = "FIGURE OP BOUND")]
    pub(crate) expect: Vec<RunExpectation>,
    /// Write the report to this file as JSON (docs/loadtest-report.md); - is standard output, and
    /// nothing else is printed there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report to this file as one page with plots, readable without a network; - is
    /// standard output
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a row for each machine to this file, for a spreadsheet (CSV); - is standard output
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the times of each stage to this file as an HdrHistogram log (V2); - is standard output
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Print only errors: neither progress nor the report
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl OutputFlags {
    pub(crate) fn write(&self, report: &ReportDocument) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            write_output_file(file, &report.to_json().context("the report")?)?;
        }
        if let Some(file) = &self.html {
            write_output_file(file, html::build_report_page(report).as_bytes())?;
        }
        if let Some(file) = &self.csv {
            write_output_file(file, csv::format_csv(report).as_bytes())?;
        }
        if let Some(file) = &self.hdr {
            write_output_file(file, &hdr::write_hdr_log(report)?)?;
        }

        // Standard output has one form: a table below it would spoil the file for a program.
        if !self.quiet
            && ![&self.json, &self.html, &self.csv, &self.hdr]
                .into_iter()
                .flatten()
                .any(|file| is_stdout(file))
        {
            io::stdout().lock().write_all(table::format_report_table(report).as_bytes())?;
        }
        Ok(())
    }
}

/// Whether the report meets every expectation or, without any, no machine failed in any run.
pub(crate) fn is_report_accepted(report: &ReportDocument) -> bool {
    if !report.verdicts.is_empty() {
        return report.verdicts.iter().all(|verdict| verdict.is_met);
    }
    let mut repeated = report.repeats.iter().flat_map(|repeats| &repeats.runs);
    report.summary.failed == 0 && repeated.all(|summary| summary.failed == 0)
}

pub(crate) fn is_stdout(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Writes to this file; `-` is standard output.
pub(crate) fn write_output_file(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if is_stdout(file) {
        let mut out = io::stdout().lock();
        return out
            .write_all(bytes)
            .and_then(|()| out.flush())
            .context("cannot write to standard output");
    }
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}
