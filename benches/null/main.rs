//! Servers that do as little as a client lets them: the load generator's ceiling, and the floor of
//! what any server costs.
//!
//! `cargo build --release && cargo run --release --example null [ROW]` measures the ceiling: what
//! the generator's one core does against these servers, and against ringboot in the same rows.
//! Server on the first core, machines on the second. The ceiling is what one whole core of the
//! machines' side would do: units over processor seconds of their thread. Ringboot's figure is over
//! wall time, so a busy host flatters the ratio.
//!
//! `null serve tftp|http|dhcp` is one of these servers alone, for `benches/peers`: the floor.
#![allow(missing_debug_implementations)]

mod datagrams;
mod dhcp;
mod http;
mod row;
mod serve;
mod tftp;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringboot::engine::affinity;
use ringboot::fleet::{
    ContentMap, Fleet, FleetPace, FleetPlan, FleetProgress, FleetReport, ImageSizes, PrivateServer,
    limits,
};

use clap::Parser;

use row::{Row, Unit};
use serve::Responder;

/// A row is client-limited where the ceiling is not so many times ringboot's own figure.
const HEADROOM: f64 = 1.3;

#[derive(Debug, Parser)]
#[command(about = "The ceiling of the load generator", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Only rows whose name has one of these words
    rows: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Serves until it is killed
    Serve {
        #[command(subcommand)]
        responder: Responder,
    },
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Serve { responder }) => responder.serve(),
        None => measure_ceilings(&arguments.rows),
    }
}

fn measure_ceilings(wanted: &[String]) -> io::Result<()> {
    let cores = affinity::list_allowed_processors()?;
    let &[servers, machines, ..] = cores.as_slice() else {
        return Err(io::Error::other("two processors are needed"));
    };
    // Children inherit the mask.
    affinity::pin_to_processors(&[servers])?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "| row | against nothing | machines' CPU | ceiling of a core | ringboot | ceiling / \
         ringboot | |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for row in row::all() {
        if !wanted.is_empty() && !wanted.iter().any(|word| row.name.contains(word.as_str())) {
            continue;
        }
        let null = measure(row.against_nothing()?, &row, machines)?;
        let real = against_ringboot(&row, machines)?;
        write_row(&mut out, &row, &null, real.as_ref())?;
    }
    Ok(())
}

/// What one run of a row came to.
struct Figure {
    /// Files, leases or octets of the row's unit.
    amount: f64,
    wall: Duration,
    /// Processor time of the machines' thread, the kernel's part of it included.
    processor: Duration,
    failed: u32,
}

impl Figure {
    fn rate(&self) -> f64 {
        self.amount / self.wall.as_secs_f64()
    }

    fn ceiling(&self) -> f64 {
        self.amount / self.processor.as_secs_f64()
    }
}

/// Runs a fleet on a thread of its own on this core.
fn measure(plan: FleetPlan, row: &Row, core: usize) -> io::Result<Figure> {
    // The name is for profiles.
    let run = thread::Builder::new().name("machines".to_owned()).spawn(
        move || -> io::Result<(FleetReport, Duration)> {
            affinity::pin_to_processors(&[core])?;
            let before = on_processor()?;
            let report = Fleet::new(plan).run(&Arc::new(FleetProgress::default()))?;
            Ok((report, on_processor()?.saturating_sub(before)))
        },
    )?;
    let (report, processor) =
        run.join().map_err(|_| io::Error::other("the fleet has panicked"))??;
    let leases =
        || report.steps().find(|(name, _)| *name == "DHCP").map_or(0, |(_, times)| times.len());
    let amount = match row.unit {
        Unit::Megabytes => report.megabytes(),
        Unit::Requests => f64::from(row.requests()),
        Unit::Leases => f64::from(u32::try_from(leases()).unwrap_or(0)),
    };
    Ok(Figure { amount, wall: report.wall, processor, failed: report.failed() })
}

/// None where the row cannot be asked of a whole server, or there is none beside this program.
fn against_ringboot(row: &Row, core: usize) -> io::Result<Option<Figure>> {
    let Some(program) = server_program() else { return Ok(None) };
    let images = ImageSizes { kernel: row.octets, initrd: 1 };
    if row.is_dhcp() {
        return Ok(None);
    }
    let server = PrivateServer::start(&program, images, &ContentMap::default(), row::SEED)
        .map_err(io::Error::other)?;
    let plan = server.make_plan(row.machines, pace(), row::SEED);
    let plan = FleetPlan { roles: row.roles("demo/vmlinuz"), wire: row.wire(), ..plan };
    measure(plan, row, core).map(Some)
}

fn server_program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let program = own.parent().and_then(Path::parent)?.join("ringboot");
    program.is_file().then_some(program)
}

fn pace() -> FleetPace {
    FleetPace { haste: 1, idle_waits: false, gives_up: false, patience: limits::PATIENCE }
}

/// Nanoseconds that the calling thread has been on a processor (proc(5), schedstat).
fn on_processor() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| io::Error::other("no schedstat"))
}

fn write_row(
    out: &mut impl Write,
    row: &Row,
    null: &Figure,
    real: Option<&Figure>,
) -> io::Result<()> {
    let unit = row.unit.per_second();
    let (against, verdict) = match real {
        None => ("-".to_owned(), "| - | not measured"),
        Some(real) => {
            let ratio = null.ceiling() / real.rate();
            let verdict = if ratio < HEADROOM { "client-limited" } else { "" };
            (format!("{:.0} {unit} | {ratio:.2}", real.rate()), verdict)
        }
    };
    let separator = if real.is_some() { " | " } else { " " };
    let failed = null.failed + real.map_or(0, |real| real.failed);
    let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    writeln!(
        out,
        "| {} | {:.0} {unit} | {:.2} s of {:.2} | {:.0} {unit} | \
         {against}{separator}{verdict}{failures} |",
        row.name,
        null.rate(),
        null.processor.as_secs_f64(),
        null.wall.as_secs_f64(),
        null.ceiling(),
    )?;
    out.flush()
}
