//! `ringboot demo`: runs a server and a rack of simulated machines, kills the server half-way, and
//! reports. It needs no configuration and leaves nothing behind.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use rusqlite::{Connection, OpenFlags};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::fleet::{
    ContentMap, Fleet, FleetPace, FleetProgress, FleetReport, ImageSizes, LeaseAudit,
    PrivateServer, ServerAddresses,
};
use crate::model::machine::Mac;
use crate::store::DATABASE;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Number of machines, all switched on at once
    #[arg(
        long,
        default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX)
    )]
    clients: u32,
    /// Exit after the report instead of serving until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Size of the made-up kernel
    #[arg(long, hide = true, default_value_t = 8, value_name = "MIB")]
    kernel_mib: u32,
    /// Size of the made-up initial disk
    #[arg(long, hide = true, default_value_t = 32, value_name = "MIB")]
    initrd_mib: u32,
}

/// Far below the 60,000 addresses of the demo's pool and the million sockets of a process, and more
/// than two cores can serve.
const CLIENTS_MAX: i64 = 20_000;

/// Divides the waits of firmware: a demo need not show how long 4 s are.
const HASTE: u32 = 4;

/// How often the bar moves and the demo checks for the half-way mark.
const TICK: Duration = Duration::from_millis(20);

const MIB: u64 = 1 << 20;

/// Exit code 0 only when every machine booted and no lease was lost or doubled.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    show(arguments).unwrap_or_else(|error| {
        complain!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

fn show(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (sender, news) = channel();
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
    let interrupts = sender.clone();
    thread::spawn(move || signals.forever().try_for_each(|_| interrupts.send(News::Interrupt)));

    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let images = ImageSizes {
        kernel: u64::from(arguments.kernel_mib) * MIB,
        initrd: u64::from(arguments.initrd_mib) * MIB,
    };
    let seed = u64::from(std::process::id());
    let mut server = PrivateServer::start(&program, images, &ContentMap::default(), seed)?;
    say(&introduction(arguments, &server))?;

    // The fleet runs on a thread of its own; its report comes as news, like Ctrl-C.
    let pace = FleetPace {
        haste: HASTE,
        idle_waits: false,
        gives_up: false,
        patience: crate::fleet::limits::PATIENCE,
    };
    let fleet = Arc::new(Fleet::new(server.make_plan(arguments.clients, pace, seed)));
    let progress = Arc::new(FleetProgress::default());
    let (running, counts) = (Arc::clone(&fleet), Arc::clone(&progress));
    thread::spawn(move || sender.send(News::Booted(running.run(&counts).map(Box::new))));

    let octets = u64::from(arguments.clients) * (images.kernel + images.initrd);
    let Some((report, outage)) = watch(&mut server, &progress, arguments.clients, octets, &news)?
    else {
        return Ok(ExitCode::FAILURE);
    };
    let rows = read_stored_leases(&server.state()).context("the lease audit")?;
    let mut audit = fleet.audit(&report).context("the lease audit")?;
    audit.compare_store(&report.leases, &rows);
    let clean = report.failed() == 0 && audit.is_clean() && outage.is_some();
    say(&conclusion(&server, &report, &audit, outage))?;
    if report.failed() > 0 {
        say(&format!("\nThe end of the server's log:\n{}", server.log_tail()))?;
    }
    if !arguments.once {
        say(&invitation(server.servers()))?;
        while let Ok(News::Booted(_)) = news.recv() {}
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the main thread waits for.
enum News {
    Booted(io::Result<Box<FleetReport>>),
    Interrupt,
}

/// Shows the progress of the fleet, and kills and restarts the server half-way. Returns the report
/// and the length of the outage; None after Ctrl-C.
fn watch(
    server: &mut PrivateServer,
    progress: &FleetProgress,
    clients: u32,
    octets: u64,
    news: &Receiver<News>,
) -> anyhow::Result<Option<(Box<FleetReport>, Option<Duration>)>> {
    let bar = ProgressBar::new(octets)
        .with_style(ProgressStyle::with_template(BAR)?.progress_chars("=> "));
    let mut outage = None;
    loop {
        match news.recv_timeout(TICK) {
            Ok(News::Booted(report)) => {
                bar.finish_and_clear();
                return Ok(Some((report.context("the fleet cannot run")?, outage)));
            }
            Ok(News::Interrupt) => {
                bar.finish_and_clear();
                say("interrupted: the server and its files are removed\n")?;
                return Ok(None);
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("the fleet ended without a report"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }

        // Machines that start over after the outage load their files twice.
        bar.set_position(progress.octets().min(octets));
        bar.set_message(format!("{} of {clients} machines booted", progress.booted()));

        let half_way = progress.octets() >= octets / 2 || progress.booted() >= clients.div_ceil(2);
        if outage.is_none() && half_way {
            bar.println("  half-way: killing the server (kill -9) and starting it again");
            let pulled = Instant::now();
            server.kill();
            server.restart().context("the server does not start again after kill -9")?;
            outage = Some(pulled.elapsed());
        }
    }
}

/// The bound leases in the database, read beside the running server.
fn read_stored_leases(state: &Path) -> anyhow::Result<Vec<(Mac, Ipv4Addr)>> {
    let store =
        Connection::open_with_flags(state.join(DATABASE), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = store.prepare("SELECT mac, address FROM leases WHERE state = 'bound'")?;
    let rows =
        statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        row.map_err(Into::into).and_then(|(mac, address)| Ok((mac.parse()?, address.parse()?)))
    })
    .collect()
}

const BAR: &str = "  [{bar:40}] {bytes:>10} of {total_bytes} {binary_bytes_per_sec}  {msg}";

fn introduction(arguments: &Arguments, server: &PrivateServer) -> String {
    let ServerAddresses { dhcp, tftp, http } = server.servers();
    let real = match server.real_loaders() {
        [] => "made up (no syslinux, shim or GRUB packages here)".to_owned(),
        names => format!("real {}", names.join(", ")),
    };
    format!(
        "ringboot demo: DHCP {dhcp}, TFTP {tftp}, HTTP {http}\n\
         {} machines: a third each BIOS + PXELINUX, UEFI + shim + GRUB, iPXE\n\
         loaders: {real}; kernel {} MiB, initrd {} MiB, made up\n",
        arguments.clients, arguments.kernel_mib, arguments.initrd_mib
    )
}

fn conclusion(
    server: &PrivateServer,
    report: &FleetReport,
    audit: &LeaseAudit,
    outage: Option<Duration>,
) -> String {
    let gigabytes = report.megabytes() / 1000.0;
    let mut text = format!("{report}\n");
    let processor = server.processor_time().as_secs_f64();
    let _ = writeln!(
        text,
        "  server: {processor:.2} CPU-s, {:.2} CPU-s/GB",
        processor / gigabytes.max(f64::EPSILON)
    );
    let _ = match outage {
        Some(outage) => {
            writeln!(
                text,
                "  killed with -9 half-way, ready again after {:.0} ms; machines that were loading \
                 by TFTP then waited for\n  their firmware's own timeouts before they started over",
                outage.as_secs_f64() * 1e3
            )
        }
        // A small run may pass half-way and end between two ticks of `watch`.
        None => writeln!(text, "  never killed: the machines were done before half-way"),
    };
    let (lost, doubled) = (audit.lost.len(), audit.doubled.len());
    let _ = writeln!(
        text,
        "  lease audit: {} leases, {lost} lost, {doubled} doubled (every machine asked again, and \
         the database read)",
        audit.leases
    );
    for lease in audit.lost.iter().chain(&audit.doubled).take(LEASES_SHOWN_MAX) {
        let _ = writeln!(text, "    {} had {}", lease.mac, lease.address);
    }
    text.push_str(
        "  (loopback is not a NIC: machines and server share this computer's cores and memory)\n",
    );
    text
}

/// Lost or doubled leases that the report lists.
const LEASES_SHOWN_MAX: usize = 5;

fn invitation(ServerAddresses { tftp, http, .. }: ServerAddresses) -> String {
    format!(
        "\nStill serving; Ctrl-C ends it and removes everything. Try:\n  curl \
         http://{http}/boot.ipxe\n  curl -r 0-99 http://{http}/demo/vmlinuz | xxd | head -3\n  \
         curl tftp://{tftp}/pxelinux.cfg/default\n"
    )
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
