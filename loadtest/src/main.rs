//! The load generator's command line on top of the fleet of simulated machines.

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
use ringboot_fleet::{
    FleetPace, FleetPlan, FleetReport, ImageSizes, LinkRate, PrivateServer, Scenario,
    ServerSetting, VethLink, WireSettings, limits,
};

use json::{ReportDocument, RunCircumstances};
use meter::ProcessMeter;
use output::{OutputFlags, is_report_accepted, write_output_file};

/// Boots simulated machines from a boot server and reports times, rates and failures.
///
/// Without --server it starts a private server on loopback: the `ringboot` beside this program.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct LoadtestArguments {
    #[command(subcommand)]
    command: Option<LoadtestCommand>,
    #[command(flatten)]
    what: scenario::ScenarioFlags,
    #[command(flatten)]
    network: network::NetworkFlags,
    #[command(flatten)]
    private: PrivateFlags,
    #[command(flatten)]
    other: other::ServerFlags,
    #[command(flatten)]
    dhcp: dhcp::DhcpFlags,
    #[command(flatten)]
    output: OutputFlags,
    #[command(flatten)]
    measuring: MeasureFlags,
}

#[derive(Debug, clap::Subcommand)]
enum LoadtestCommand {
    Compare(compare::CompareArguments),
    Limit(limit::LimitArguments),
    Merge(merge::MergeArguments),
    Tune(tune::TuneArguments),
    /// Lists the built-in scenarios
    Scenarios,
    Files(scenario::FilesArguments),
    /// Print a script with which a shell completes loadtest's commands and options
    Completions(manual::CompletionsArguments),
    /// Print the manual page, or write all of them into a directory
    Man(manual::ManArguments),
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measuring")]
struct MeasureFlags {
    /// Make the run N times, each with a new private server; the report is of the middle run, with
    /// the spread of all. Every run must meet the expectations
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    repeat: u32,
    /// Measure the processor time and memory of this process and its child processes [default: the
    /// private server]
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A private server")]
struct PrivateFlags {
    /// The server program [default: the `ringboot` beside this program]
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    ringboot: Option<PathBuf>,
    /// Size of the generated kernel
    #[arg(long, default_value_t = 8, value_name = "MIB", conflicts_with = "server")]
    kernel_mib: u32,
    /// Size of the generated initrd
    #[arg(long, default_value_t = 32, value_name = "MIB", conflicts_with = "server")]
    initrd_mib: u32,
    /// A line of its configuration, such as tuning.spin-us=0 or tftp.windowsize-max=8; may be
    /// repeated
    #[arg(long, value_name = "TABLE.KEY=VALUE", conflicts_with = "server")]
    set: Vec<ServerSetting>,
    /// Not over loopback: make two network namespaces with a link between them, the server on one
    /// side and the machines on the other (needs root and --yes). RATE: 1gbit, 10gbit, 100mbit, or
    /// unshaped
    #[arg(long, value_name = "RATE", conflicts_with_all = ["server", "source_addresses"])]
    link: Option<LinkRate>,
}

fn main() -> ExitCode {
    let arguments = LoadtestArguments::parse();
    let done = match &arguments.command {
        Some(LoadtestCommand::Compare(sides)) => compare::run_compare(sides),
        Some(LoadtestCommand::Limit(search)) => limit::run_limit(search),
        Some(LoadtestCommand::Merge(reports)) => merge::run_merge(reports),
        Some(LoadtestCommand::Tune(search)) => tune::run_tune(search),
        Some(LoadtestCommand::Scenarios) => scenario::list_scenarios(),
        Some(LoadtestCommand::Files(files)) => files.write(),
        Some(LoadtestCommand::Completions(shell)) => {
            print_bytes(&manual::generate_completions(shell, LoadtestArguments::command()))
        }
        Some(LoadtestCommand::Man(pages)) => print_manual(pages),
        None => run_loadtest(&arguments),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "loadtest: {error:#}");
        ExitCode::from(2)
    })
}

/// Exit code 1 if a machine failed, or, with --expect, if the report misses an expectation; 130 if
/// the run was interrupted.
fn run_loadtest(arguments: &LoadtestArguments) -> anyhow::Result<ExitCode> {
    let scenario = arguments.other.choose_scenario(&arguments.what)?;
    let mut runs = Vec::new();
    for number in 1..=arguments.measuring.repeat {
        let report = run_scenario_once(arguments, &scenario, number)?;
        let interrupted = report.summary.interrupted;
        runs.push(report);
        if interrupted {
            break;
        }
    }
    let report = repeat::join_repeats(runs).context("no run was made")?;

    // Every run has its report, also a failed and an interrupted one. The exit code comes after it.
    arguments.output.write(&report)?;
    if report.summary.interrupted {
        writeln!(
            io::stderr(),
            "loadtest: interrupted; addresses released: {}",
            report.summary.released
        )?;
        return Ok(ExitCode::from(interrupt::EXIT));
    }
    Ok(if is_report_accepted(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Makes one of the runs and judges it by every expectation.
fn run_scenario_once(
    arguments: &LoadtestArguments,
    scenario: &Scenario,
    number: u32,
) -> anyhow::Result<ReportDocument> {
    let quiet = arguments.output.quiet;
    let pace = FleetPace {
        haste: 1,
        idle_waits: arguments.what.firmware_waits,
        gives_up: true,
        patience: limits::PATIENCE,
    };

    // The private server and its link end when the value is dropped, so `server` must live until
    // the run is over.
    let (mut plan, server) = match &arguments.other.server {
        Some(server) => (
            arguments.other.build_plan(
                server,
                &arguments.dhcp,
                pace,
                arguments.what.seed,
                scenario,
            )?,
            None,
        ),
        None => {
            let link = arguments.private.make_link(arguments.dhcp.has_consent())?;
            let server = arguments.private.start(scenario, arguments.what.seed, link)?;
            (
                server.make_plan(arguments.what.clients(Some(scenario)), pace, arguments.what.seed),
                Some(server),
            )
        }
    };
    arguments.what.direct(scenario, &mut plan)?;
    // The sources of a private link are its own.
    let sources = plan.wire.sources.take();
    let wire = arguments.network.wire();
    plan.wire = WireSettings { sources: sources.or(wire.sources), ..wire };
    ensure!(
        plan.wire.sources.is_none() || plan.tftp.is_ipv4() && plan.http.is_ipv4(),
        "--source-addresses needs IPv4: name the server by its IPv4 address"
    );
    let speaks_dhcp = plan.roles.iter().any(|role| role.does.uses_dhcp());
    ensure!(
        plan.lessor.is_some() || !speaks_dhcp,
        "machines of scenario {} ask for an address: use --dhcp instead of --no-dhcp",
        scenario.name
    );

    // Warnings and plan are the same in each repetition: the first one shows them.
    let pid = arguments.measuring.pid.or_else(|| server.as_ref().and_then(PrivateServer::pid));
    let warnings = foreseen::HostLimits::read(pid).list_warnings(&plan);
    if !quiet && number == 1 {
        let text: String =
            warnings.iter().map(|warning| width::wrap_sentence(&format!("! {warning}"))).collect();
        io::stderr().write_all(text.as_bytes())?;
    }

    // Nothing has been sent to the server up to here. Without --yes the run ends now.
    if let Some(server) = &arguments.other.server {
        arguments.dhcp.require_consent(server, &plan, quiet || number > 1)?;
    }
    let link = server.as_ref().and_then(PrivateServer::link);
    let (report, mut around) = run_measured_plan(arguments, plan, &scenario.name, pid, link)?;
    around.warnings = warnings;
    let mut document = ReportDocument::new(&report, &around);
    let expected = &arguments.output.expect;
    document.verdicts = expected.iter().map(|expectation| expectation.judge(&document)).collect();
    let all = arguments.measuring.repeat;
    if all > 1 && !quiet {
        writeln!(io::stderr(), "  run {number} of {all}: {}", words::format_headline(&document))?;
    }
    Ok(document)
}

/// Runs the plan and measures the processor time of both sides.
fn run_measured_plan(
    arguments: &LoadtestArguments,
    plan: FleetPlan,
    scenario: &str,
    pid: Option<u32>,
    link: Option<&VethLink>,
) -> anyhow::Result<(FleetReport, RunCircumstances)> {
    let output = &arguments.output;

    // A private server runs already: the processor time of its start is not in the difference.
    let server_meter = pid.map(ProcessMeter::begin).transpose()?;
    let own_meter = ProcessMeter::begin_own()?;
    let started = SystemTime::now();
    let drops = drops::DropWatch::begin(pid, plan.tftp.ip());
    let report = bars::play_fleet(plan, output.quiet)?;
    let drops = drops.and_then(|watch| watch.end(link));
    let around = RunCircumstances {
        server: arguments.name_server(),
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
    print_bytes(&manual::generate_man(pages, LoadtestArguments::command()).context("the manual")?)
}

fn print_bytes(bytes: &[u8]) -> anyhow::Result<ExitCode> {
    write_output_file(Path::new("-"), bytes)?;
    Ok(ExitCode::SUCCESS)
}

impl LoadtestArguments {
    /// The server as the report names it.
    fn name_server(&self) -> String {
        match (&self.other.server, self.private.link) {
            (Some(server), _) => server.to_string(),
            (None, Some(rate)) => format!("private, over a link ({rate})"),
            (None, None) => "private".to_owned(),
        }
    }
}

impl PrivateFlags {
    /// Makes the link of --link and moves this thread, and all that it starts, to its machines'
    /// side.
    fn make_link(&self, has_consent: bool) -> anyhow::Result<Option<VethLink>> {
        let Some(rate) = self.link else { return Ok(None) };
        ensure!(
            has_consent,
            "--link makes two network namespaces on this host, which end with the run: add --yes"
        );
        let link = VethLink::make(rate)?;
        link.enter()?;
        Ok(Some(link))
    }

    fn start(
        &self,
        scenario: &Scenario,
        seed: u64,
        link: Option<VethLink>,
    ) -> anyhow::Result<PrivateServer> {
        const MIB: u64 = 1 << 20;
        let images = ImageSizes {
            kernel: u64::from(self.kernel_mib) * MIB,
            initrd: u64::from(self.initrd_mib) * MIB,
        };
        let program = self.ringboot.clone().map_or_else(find_server_program, Ok)?;
        let contents = scenario.make_contents();
        Ok(PrivateServer::start_with(&program, images, &contents, seed, &self.set, link)?)
    }
}

/// The server program in this program's own directory.
fn find_server_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let program = own.with_file_name("ringboot");
    anyhow::ensure!(
        program.is_file(),
        "there is no server program at {}; name one with --ringboot FILE",
        program.display()
    );
    Ok(program)
}
