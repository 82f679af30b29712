//! The load generator's command line: a thin face on the library's fleet.

mod bars;
mod child;
mod compare;
mod csv;
mod dhcp;
mod drops;
mod expect;
mod foreseen;
mod hdr;
mod histogram;
mod host;
mod html;
mod interrupt;
mod json;
mod limit;
mod merge;
mod meter;
mod network;
mod other;
mod output;
mod repeat;
mod scenario;
mod table;
mod ticker;
mod tune;
mod width;
mod words;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use clap::{CommandFactory, Parser};
use ringboot::cli::manual;
use ringboot_fleet::{Images, Pace, Plan, PrivateServer, Report, Scenario, Setting, limits};

use json::{Circumstances, Document};
use meter::Meter;
use output::{Output, accepted, write_to};

/// Switches on simulated machines against a boot server and reports what they saw.
///
/// Alone it starts a private server on loopback: the `ringboot` beside this program.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    what: scenario::Flags,
    #[command(flatten)]
    network: network::Network,
    #[command(flatten)]
    private: Private,
    #[command(flatten)]
    other: other::Other,
    #[command(flatten)]
    dhcp: dhcp::Dhcp,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    measuring: Measuring,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Compare(compare::Arguments),
    Limit(limit::Arguments),
    Merge(merge::Arguments),
    Tune(tune::Arguments),
    /// Lists the built-in scenarios
    Scenarios,
    Files(scenario::Files),
    /// Print what makes a shell complete loadtest's commands and options
    Completions(manual::CompletionsArguments),
    /// Print the manual page, or write all of them into a directory
    Man(manual::ManArguments),
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measuring")]
struct Measuring {
    /// Make the run so often, each time with a new private server; the report is the run in the
    /// middle, with the spread of all. What is expected must be met by every run
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    repeat: u32,
    /// Measure the processor time and memory of this process and its children [default: the private
    /// server]
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A private server")]
struct Private {
    /// The server program [default: the `ringboot` beside this program]
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    ringboot: Option<PathBuf>,
    /// Size of the made-up kernel
    #[arg(long, default_value_t = 8, value_name = "MIB", conflicts_with = "server")]
    kernel_mib: u32,
    /// Size of the made-up initial disk
    #[arg(long, default_value_t = 32, value_name = "MIB", conflicts_with = "server")]
    initrd_mib: u32,
    /// A line of its configuration, such as tuning.spin-us=0 or tftp.windowsize-max=8; may be given
    /// several times
    #[arg(long, value_name = "TABLE.KEY=VALUE", conflicts_with = "server")]
    set: Vec<Setting>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Compare(sides)) => compare::run(sides),
        Some(Command::Limit(search)) => limit::run(search),
        Some(Command::Merge(reports)) => merge::run(reports),
        Some(Command::Tune(search)) => tune::run(search),
        Some(Command::Scenarios) => scenario::list(),
        Some(Command::Files(files)) => files.write(),
        Some(Command::Completions(shell)) => {
            print(&manual::completions(shell, Arguments::command()))
        }
        Some(Command::Man(pages)) => print_manual(pages),
        None => run(&arguments),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "loadtest: {error:#}");
        ExitCode::from(2)
    })
}

/// Exit code 1 when a machine failed, or, with --expect, when something expected is not met; 130
/// when the run was interrupted.
fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let scenario = arguments.other.scenario(&arguments.what)?;
    let mut runs = Vec::new();
    for number in 1..=arguments.measuring.repeat {
        let report = once(arguments, &scenario, number)?;
        let interrupted = report.summary.interrupted;
        runs.push(report);
        if interrupted {
            break;
        }
    }
    let report = repeat::joined(runs).context("no run was made")?;
    arguments.output.write(&report)?;
    if report.summary.interrupted {
        writeln!(
            io::stderr(),
            "loadtest: interrupted; addresses given back: {}",
            report.summary.released
        )?;
        return Ok(ExitCode::from(interrupt::EXIT));
    }
    Ok(if accepted(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run of those that are made, with its verdicts.
fn once(arguments: &Arguments, scenario: &Scenario, number: u32) -> anyhow::Result<Document> {
    let quiet = arguments.output.quiet;
    let pace = Pace {
        haste: 1,
        idle_waits: arguments.what.firmware_waits,
        gives_up: true,
        patience: limits::PATIENCE,
    };
    let (mut plan, server) = match &arguments.other.server {
        Some(server) => (
            arguments.other.plan(server, &arguments.dhcp, pace, arguments.what.seed, scenario)?,
            None,
        ),
        None => {
            let server = arguments.private.start(scenario, arguments.what.seed)?;
            (
                server.plan(arguments.what.clients(Some(scenario)), pace, arguments.what.seed),
                Some(server),
            )
        }
    };
    arguments.what.direct(scenario, &mut plan)?;
    plan.wire = arguments.network.wire();
    ensure!(
        plan.wire.sources.is_none() || plan.tftp.is_ipv4() && plan.http.is_ipv4(),
        "--source-addresses are of IPv4: name the server by its IPv4 address"
    );
    let speaks_dhcp = plan.roles.iter().any(|role| role.does.leases());
    ensure!(
        plan.lessor.is_some() || !speaks_dhcp,
        "machines of scenario {} ask for an address: say --dhcp instead of --no-dhcp",
        scenario.name
    );
    let pid = arguments.measuring.pid.or_else(|| server.as_ref().and_then(PrivateServer::pid));
    let warnings = foreseen::Host::read(pid).foresee(&plan);
    if !quiet && number == 1 {
        let said: String =
            warnings.iter().map(|warning| width::wrapped(&format!("! {warning}"))).collect();
        io::stderr().write_all(said.as_bytes())?;
    }
    if let Some(server) = &arguments.other.server {
        arguments.dhcp.ask_leave(server, &plan, quiet || number > 1)?;
    }
    let (report, mut around) = measured(arguments, plan, &scenario.name, pid)?;
    around.warnings = warnings;
    let mut document = Document::new(&report, &around);
    let expected = &arguments.output.expect;
    document.verdicts = expected.iter().map(|expectation| expectation.judge(&document)).collect();
    let all = arguments.measuring.repeat;
    if all > 1 && !quiet {
        writeln!(io::stderr(), "  run {number} of {all}: {}", words::headline(&document))?;
    }
    Ok(document)
}

/// Runs the plan with a look at what it costs both sides.
fn measured(
    arguments: &Arguments,
    plan: Plan,
    scenario: &str,
    pid: Option<u32>,
) -> anyhow::Result<(Report, Circumstances)> {
    let output = &arguments.output;
    let server_meter = pid.map(Meter::begin).transpose()?;
    let own_meter = Meter::of_ourselves()?;
    let started = SystemTime::now();
    let drops = drops::Watch::begin(pid, plan.tftp.ip());
    let report = bars::run(plan, output.quiet)?;
    let drops = drops.and_then(|watch| watch.end());
    let around = Circumstances {
        server: arguments.other.server.as_ref().map_or("private".to_owned(), ToString::to_string),
        scenario: scenario.to_owned(),
        seed: arguments.what.seed,
        started,
        client: own_meter.end(),
        drops,
        warnings: Vec::new(),
        server_spent: server_meter.map(|meter| meter.end()),
    };
    Ok((report, around))
}

fn print_manual(pages: &manual::ManArguments) -> anyhow::Result<ExitCode> {
    print(&manual::man(pages, Arguments::command()).context("the manual")?)
}

fn print(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    write_to(Path::new("-"), bytes)?;
    Ok(ExitCode::SUCCESS)
}

impl Private {
    fn start(&self, scenario: &Scenario, seed: u64) -> anyhow::Result<PrivateServer> {
        const MIB: u64 = 1 << 20;
        let images = Images {
            kernel: u64::from(self.kernel_mib) * MIB,
            initrd: u64::from(self.initrd_mib) * MIB,
        };
        let program = self.ringboot.clone().map_or_else(beside, Ok)?;
        Ok(PrivateServer::start_with(&program, images, &scenario.contents(), seed, &self.set)?)
    }
}

/// The server program in this program's own directory.
fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let program = own.with_file_name("ringboot");
    anyhow::ensure!(
        program.is_file(),
        "no server program at {}; name one with --ringboot FILE",
        program.display()
    );
    Ok(program)
}
