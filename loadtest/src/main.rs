//! The load generator's command line: a thin face on the library's fleet.

mod bars;
mod compare;
mod html;
mod json;
mod meter;
mod network;
mod table;

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use clap::Parser;
use ringboot::fleet::{
    Content, Contents, Fetch, Fleet, Images, Model, Pace, Plan, PrivateServer, Report, Task, limits,
};

use json::{Circumstances, Document};
use meter::Meter;

/// Switches on simulated machines against a boot server and reports what they saw.
///
/// Alone it starts a private server on loopback: the `ringboot` beside this program.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Machines, all switched on at once
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    clients: u32,
    /// Divides the waits of firmware; 1 waits as long as firmware does
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    haste: u32,
    /// Runs with one seed use the same hardware addresses and transaction ids
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    network: network::Network,
    #[command(flatten)]
    private: Private,
    #[command(flatten)]
    other: Other,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Compare(compare::Arguments),
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Report")]
struct Output {
    /// Write the report to this file as JSON (docs/loadtest-report.md)
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report to this file as one page with plots, readable without a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print nothing but errors: neither progress nor the report
    #[arg(long)]
    quiet: bool,
    /// Measure the processor time and memory of this process and its children [default: the private server]
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
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Another server")]
struct Other {
    /// A server that runs already; DHCP reaches it as from a relay agent
    #[arg(long, value_name = "ADDR")]
    server: Option<Ipv4Addr>,
    /// Its TFTP [default: port 69 of --server]
    #[arg(long, value_name = "ADDR:PORT", requires = "server")]
    tftp: Option<SocketAddrV4>,
    /// Its HTTP [default: port 80 of --server]
    #[arg(long, value_name = "ADDR:PORT", requires = "no_dhcp")]
    http: Option<SocketAddrV4>,
    /// Its DHCP [default: port 67 of --server]
    #[arg(long, value_name = "ADDR:PORT", requires = "server")]
    dhcp: Option<SocketAddrV4>,
    /// The relay agent's address, one of this host in the machines' subnet. Port 0 asks for answers at any port (RFC 8357);
    /// port 67 suits every server, but needs the privilege to bind it
    #[arg(long, value_name = "ADDR:PORT", requires = "server", conflicts_with = "no_dhcp")]
    relay: Option<SocketAddrV4>,
    /// The menu entry that everybody picks
    #[arg(long, value_name = "LABEL", requires = "relay")]
    entry: Option<String>,
    /// Speak no DHCP and read no menu: every machine fetches --files
    #[arg(long, requires = "server", requires = "files")]
    no_dhcp: bool,
    /// The first by TFTP, the others by HTTP; `tftp:NAME` and `http:PATH` say otherwise
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "no_dhcp")]
    files: Vec<String>,
    /// Compare every octet with the files of the same names in this directory
    #[arg(long, value_name = "DIR", requires = "server")]
    verify_root: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Compare(sides)) => compare::run(sides),
        None => run(&arguments),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "loadtest: {error:#}");
        ExitCode::from(2)
    })
}

/// Exit code 1 when a machine failed.
fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let pace = Pace { haste: arguments.haste, patience: limits::PATIENCE };
    let (plan, server) = match arguments.other.server {
        Some(server) => (other_plan(arguments, server, pace)?, None),
        None => {
            let server = arguments.private.start(arguments.seed)?;
            (server.plan(arguments.clients, pace, arguments.seed), Some(server))
        }
    };
    let plan = Plan { wire: arguments.network.wire(), ..plan };
    let (report, around) = measured(arguments, plan, server.as_ref())?;
    arguments.output.write(&Document::new(&report, &around))?;
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the plan with a look at what it costs both sides.
fn measured(
    arguments: &Arguments,
    plan: Plan,
    server: Option<&PrivateServer>,
) -> anyhow::Result<(Report, Circumstances)> {
    let output = &arguments.output;
    let scenario = if matches!(plan.task, Task::Boot { .. }) { "boot" } else { "fetch" };
    let pid = output.pid.or_else(|| server.and_then(PrivateServer::pid));
    let server_meter = pid.map(Meter::begin).transpose()?;
    let own_meter = Meter::of_ourselves()?;
    let started = SystemTime::now();
    let report = bars::run(&Fleet::new(plan), arguments.clients, output.quiet)?;
    let around = Circumstances {
        server: arguments.other.server.map_or("private".to_owned(), |address| address.to_string()),
        scenario: scenario.to_owned(),
        seed: arguments.seed,
        started,
        client: own_meter.end(),
        server_spent: server_meter.map(|meter| meter.end()),
    };
    Ok((report, around))
}

impl Output {
    fn write(&self, report: &Document) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            report.write(file)?;
        }
        if let Some(file) = &self.html {
            fs::write(file, html::page(report)).with_context(|| format!("cannot write {}", file.display()))?;
        }
        if !self.quiet {
            io::stdout().lock().write_all(table::text(report).as_bytes())?;
        }
        Ok(())
    }
}

impl Private {
    fn start(&self, seed: u64) -> anyhow::Result<PrivateServer> {
        const MIB: u64 = 1 << 20;
        let images = Images { kernel: u64::from(self.kernel_mib) * MIB, initrd: u64::from(self.initrd_mib) * MIB };
        let program = self.ringboot.clone().map_or_else(beside, Ok)?;
        Ok(PrivateServer::start(&program, images, seed)?)
    }
}

/// The server program in this program's own directory.
fn beside() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let program = own.with_file_name("ringboot");
    anyhow::ensure!(program.is_file(), "no server program at {}; name one with --ringboot FILE", program.display());
    Ok(program)
}

fn other_plan(arguments: &Arguments, server: Ipv4Addr, pace: Pace) -> anyhow::Result<Plan> {
    let other = &arguments.other;
    let at = |given: Option<SocketAddrV4>, port| given.unwrap_or(SocketAddrV4::new(server, port));
    let task = match (other.no_dhcp, other.relay, &other.entry) {
        (true, ..) => Task::Fetch(fetches(&other.files, at(other.http, 80))),
        (false, Some(relay), Some(entry)) => Task::Boot {
            dhcp: at(other.dhcp, 67),
            relay,
            models: vec![Model::BiosPxe, Model::UefiPxe, Model::Ipxe],
            pick: entry.clone(),
        },
        _ => bail!("with --server, say either --relay ADDR:PORT --entry LABEL, or --no-dhcp --files NAME,..."),
    };
    let mut contents = Contents::default();
    if let Some(directory) = &other.verify_root {
        read_below(directory, Path::new(""), &mut contents)
            .with_context(|| format!("cannot read {}", directory.display()))?;
    }
    Ok(Plan {
        machines: arguments.clients,
        task,
        tftp: at(other.tftp, 69),
        contents,
        pace,
        wire: ringboot::fleet::Wire::default(),
        seed: arguments.seed,
    })
}

fn fetches(files: &[String], http: SocketAddrV4) -> Vec<Fetch> {
    let url = |path: &str| Fetch::Http(format!("http://{http}/{}", path.trim_start_matches('/')));
    let fetch = |(index, name): (usize, &String)| match (name.strip_prefix("tftp:"), name.strip_prefix("http:")) {
        (Some(name), _) => Fetch::Tftp(name.to_owned()),
        (_, Some(path)) => url(path),
        _ if index == 0 => Fetch::Tftp(name.clone()),
        _ => url(name),
    };
    files.iter().enumerate().map(fetch).collect()
}

/// Every file below `root/below`, by its name under the root.
fn read_below(root: &Path, below: &Path, contents: &mut Contents) -> io::Result<()> {
    for entry in root.join(below).read_dir()? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_below(root, &name, contents)?;
        } else if kind.is_file() {
            contents.insert(&name.to_string_lossy(), Content::Kept(Arc::from(fs::read(entry.path())?)));
        }
    }
    Ok(())
}
