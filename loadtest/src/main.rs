//! The load generator's command line: a thin face on the library's fleet.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use ringboot::fleet::{Fleet, Images, Pace, PrivateServer, Progress, Report, limits};

/// Switches on simulated machines against a boot server and reports what they saw.
///
/// Alone it starts a private server on loopback: the `ringboot` beside this program.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Machines, all switched on at once
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    clients: u32,
    /// The server program to start [default: the `ringboot` beside this program]
    #[arg(long, value_name = "FILE")]
    ringboot: Option<PathBuf>,
    /// Size of the made-up kernel
    #[arg(long, default_value_t = 8, value_name = "MIB")]
    kernel_mib: u32,
    /// Size of the made-up initial disk
    #[arg(long, default_value_t = 32, value_name = "MIB")]
    initrd_mib: u32,
    /// Divides the waits of firmware; 1 waits as long as firmware does
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    haste: u32,
    /// Runs with one seed use the same hardware addresses and transaction ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    const MIB: u64 = 1 << 20;
    let images =
        Images { kernel: u64::from(arguments.kernel_mib) * MIB, initrd: u64::from(arguments.initrd_mib) * MIB };
    let program = arguments.ringboot.clone().map_or_else(beside, Ok)?;
    let server = PrivateServer::start(&program, images, arguments.seed)?;
    let pace = Pace { haste: arguments.haste, patience: limits::PATIENCE };
    let fleet = Fleet::new(server.plan(arguments.clients, pace, arguments.seed));
    let report = fleet.run(&Arc::new(Progress::default()))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{report}")?;
    let processor_s = server.processor_time().as_secs_f64();
    writeln!(out, "  server: {processor_s:.2} CPU-s, {:.2} CPU-s/GB", processor_s / (report.megabytes() / 1000.0))?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, json(&report, processor_s)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The server program in this program's own directory.
fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let program = own.with_file_name("ringboot");
    anyhow::ensure!(program.is_file(), "no server program at {}; name one with --ringboot FILE", program.display());
    Ok(program)
}

/// Numbers only, so nothing needs quoting.
fn json(report: &Report, processor_s: f64) -> String {
    format!(
        "{{\"summary\": {{\"machines\": {}, \"booted\": {}, \"failed\": {}, \"wall_s\": {:.6}, \"bytes\": {}, \
         \"retries\": {}, \"server_cpu_s\": {processor_s:.2}}}}}\n",
        report.machines,
        report.booted,
        report.failed(),
        report.wall.as_secs_f64(),
        report.octets,
        report.retries,
    )
}
