//! The load generator's ceiling: what its one core does against servers that do nothing, and
//! against ringboot in the same rows.
//!
//! `cargo build --release && cargo run --release --example null [ROW]`. Server on the first core,
//! machines on the second. The ceiling is what one whole core of the machines' side would do: units
//! over processor seconds of their thread. Ringboot's figure is over wall time, so a busy host
//! flatters the ratio.
#![allow(missing_debug_implementations)]

mod dhcp;
mod http;
mod row;
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

use row::{Row, Unit};

/// A row is client-limited where the ceiling is not so many times ringboot's own figure.
const HEADROOM: f64 = 1.3;

fn main() -> io::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
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
