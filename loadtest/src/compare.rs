//! `loadtest compare`: compares two servers, two builds, or two sets of report files, figure by
//! figure, and separates differences from noise.

mod figures;
mod gate;
mod shown;
mod side;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};

use crate::child::{self, ChildOutcome};
use crate::json::ReportDocument;
use figures::SideComparison;
pub(crate) use figures::collect_spreads;
use gate::FailIf;
use side::ComparisonSide;

/// Compares two servers, two builds of ringboot, or reports of earlier runs
///
/// A and B are each one of: report files or directories of them (A1.json,A2.json,dir); a running
/// server, optionally with its TFTP and HTTP ports and the process to measure (ADDR, ADDR:69,80,
/// ADDR:69,80@PID); a server program, started as a private server (ringboot:PROGRAM). NAME= before
/// any of them sets its name. Servers are loaded alternately, A B A B, each run in a new process.
/// Arguments after `--` go to every run.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArguments {
    /// The side to which the ratios refer
    #[arg(value_name = "[NAME=]A", value_parser = side::parse_side_a)]
    a: ComparisonSide,
    /// The side that is compared with A
    #[arg(value_name = "[NAME=]B", value_parser = side::parse_side_b)]
    b: ComparisonSide,
    /// Runs of each server; with fewer than 3 the noise is unknown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Exit code 1 if B is worse beyond the noise: `worse` in more figures than chance explains,
    /// `boot p99 worse` in this figure, `boot p99 worse 10%` by more than 10 %; may be repeated
    /// [default: 0 for every outcome]
    #[arg(long, value_name = "FIGURE worse [N%]")]
    fail_if: Vec<FailIf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Arguments of each run, such as --clients 500 --no-dhcp --files pxelinux.0,vmlinuz
    #[arg(last = true, value_name = "LOADTEST ARGUMENTS")]
    rest: Vec<String>,
}

pub(crate) fn run_compare(arguments: &CompareArguments) -> anyhow::Result<ExitCode> {
    let mut sides = [(&arguments.a, Vec::new()), (&arguments.b, Vec::new())];
    let driven = sides.iter().any(|(side, _)| side.is_driven());
    ensure!(
        driven || arguments.rest.is_empty(),
        "both sides are reports of earlier runs: arguments after -- have no effect"
    );

    // Reports come before runs: an unreadable file is an error at once, and not after minutes.
    for (side, reports) in &mut sides {
        *reports = side.read_reports()?;
    }

    // The sides alternate within a round, so that other load on the machine affects both.
    for round in 1..=arguments.runs {
        for (side, reports) in sides.iter_mut().filter(|(side, _)| side.is_driven()) {
            let report = drive_side(side, &arguments.rest)?;
            let (name, line) = (side.name(), format_report_line(&report));
            let _ = writeln!(io::stderr(), "  run {round} of {}, {name}: {line}", arguments.runs);
            reports.push(report);
        }
    }
    let [(a, of_a), (b, of_b)] = sides;
    let comparison = SideComparison::new(a.name(), b.name(), &of_a, &of_b);
    let text = if arguments.json {
        serde_json::to_string_pretty(&comparison)? + "\n"
    } else {
        shown::format_comparison(&comparison)
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    gate_comparison(arguments, &comparison)
}

/// Prints the verdict of --fail-if below the table, or, with --json, on standard error.
fn gate_comparison(
    arguments: &CompareArguments,
    comparison: &SideComparison,
) -> anyhow::Result<ExitCode> {
    if arguments.fail_if.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let mut worse = Vec::new();
    for reason in &arguments.fail_if {
        worse.extend(reason.judge(comparison)?);
    }
    worse.dedup();
    let verdict = gate::format_gate_line(&worse);
    if arguments.json {
        io::stderr().write_all(verdict.as_bytes())?;
    } else {
        io::stdout().lock().write_all(verdict.as_bytes())?;
    }
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn drive_side(side: &ComparisonSide, rest: &[String]) -> anyhow::Result<ReportDocument> {
    let arguments = [&side.run_arguments()[..], rest].concat();
    match child::run_child_process(&arguments)
        .with_context(|| format!("the run of {}", side.name()))?
    {
        ChildOutcome::Report(report) => Ok(*report),
        ChildOutcome::Interrupted => bail!("{}: the run was interrupted", side.name()),
        ChildOutcome::Failed(why) => bail!("{}: {why}", side.name()),
    }
}

fn format_report_line(report: &ReportDocument) -> String {
    let summary = &report.summary;
    let (wall_s, rate) = (summary.wall_s, summary.bytes_per_s / 1e6);
    format!("{} of {} booted in {wall_s:.2} s, {rate:.0} MB/s", summary.booted, summary.machines)
}
