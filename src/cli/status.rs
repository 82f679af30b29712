//! `ringboot status`: the state of the running server on one screen, or in one line for a monitor.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::check;
use super::client::{NoServer, Order, Server};
use super::output;
use crate::api::health;
use crate::api::types::{
    CoreStatus, DhcpStatus, FindingEntry, FindingSeverity, HealthLevel, LinkState, QuirkCounts,
    ServerStatus, StoreStatus, StoreTrust, SubnetStatus, ThreadStatus,
};
use crate::api::values::{format_count, format_span};

const PATH: &str = "/v1/status";
/// Errors of the configuration that the screen lists; `check` lists all.
const ERRORS_SHOWN_MAX: usize = 10;
/// A thread that is busy with one task for this long gets a line. In seconds.
const STUCK_S: u64 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Print one JSON object with every counter
    #[arg(long)]
    json: bool,
    /// For monitors: print one line, and exit as monitoring plugins do: 0 OK, 1 warning, 2
    /// critical, 3 unknown
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.exit_code {
        return report_health(arguments);
    }
    arguments.server.carry_out(&Order::get(PATH), |status: ServerStatus| match arguments.json {
        true => output::say(&output::in_json(&status), ExitCode::SUCCESS),
        false => output::say_folded(&format_status(&status), ExitCode::SUCCESS),
    })
}

/// The answer for a monitor. No server is critical; a server that cannot be asked is unknown.
fn report_health(arguments: &Arguments) -> ExitCode {
    let (level, text) = match arguments.server.ask::<ServerStatus>(&Order::get(PATH)) {
        Ok(status) => {
            let json = arguments.json.then(|| output::in_json(&status));
            (status.health.level, json.unwrap_or_else(|| health::summarize(&status)))
        }
        Err(error) => {
            let is_down = error.is::<NoServer>();
            let level = if is_down { HealthLevel::Critical } else { HealthLevel::Unknown };
            (level, format!("{level}: {}\n", format!("{error:#}").replace('\n', "; ")))
        }
    };
    output::say(&text, ExitCode::from(plugin_code(level)))
}

/// The exit codes of monitoring plugins.
fn plugin_code(level: HealthLevel) -> u8 {
    match level {
        HealthLevel::Ok => 0,
        HealthLevel::Warning => 1,
        HealthLevel::Critical => 2,
        HealthLevel::Unknown => 3,
    }
}

fn format_status(status: &ServerStatus) -> String {
    let mut text = String::new();
    let ServerStatus { version, pid, up_s, generation, .. } = status;
    let _ = writeln!(
        text,
        "ringboot {version} (pid {pid}), up {up_s} s, configuration generation {generation}"
    );
    write_findings(&mut text, &status.findings);
    for table in &status.after_restart {
        let _ = writeln!(text, "  PENDING    changes in {table} take effect after a restart");
    }
    write_sockets(&mut text, status);
    status.subnets.iter().for_each(|subnet| write_subnet(&mut text, subnet));
    // A server that answers no DHCP has neither a table of leases nor a store.
    if let Some(dhcp) = &status.dhcp {
        write_leases(&mut text, dhcp);
        dhcp.store.iter().for_each(|store| write_store(&mut text, store));
    }
    write_datapath(&mut text, status);
    status.cores.iter().for_each(|core| write_core(&mut text, core));
    if let Some(storm) = &status.storm {
        let _ = writeln!(text, "  storm      {}", storm.said);
    }
    write_quirks(&mut text, &status.quirks);
    write_memory(&mut text, status);
    status.threads.iter().for_each(|thread| write_thread(&mut text, thread));
    text
}

fn write_findings(text: &mut String, findings: &[FindingEntry]) {
    let of = |severity| findings.iter().filter(move |finding| finding.severity == severity);
    for error in of(FindingSeverity::Error).take(ERRORS_SHOWN_MAX) {
        let _ = writeln!(text, "  ERROR      {}", check::format_sentence(error));
    }
    let errors = of(FindingSeverity::Error).count();
    let warnings = of(FindingSeverity::Warning).count();
    if errors + warnings > 0 {
        let _ = writeln!(
            text,
            "  config     {errors} errors and {warnings} warnings when it was read: `ringboot \
             check` checks it again"
        );
    }
}

/// The values with blanks between.
fn join_with_blanks<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn write_sockets(text: &mut String, status: &ServerStatus) {
    let sockets = &status.sockets;
    let dhcp = join_with_blanks(&sockets.dhcp);
    let dhcp = if dhcp.is_empty() { "not answered" } else { &dhcp };
    let _ = writeln!(text, "  root       {}", status.root);
    let _ = writeln!(text, "  tftp       {}", join_with_blanks(&sockets.tftp));
    let _ = writeln!(text, "  http       {}", join_with_blanks(&sockets.http));
    let _ = writeln!(text, "  dhcp       {dhcp}");
    for interface in &status.interfaces {
        let (name, mtu) = (&interface.name, interface.mtu);
        let addresses = join_with_blanks(&interface.addresses);
        let blank = if addresses.is_empty() { "" } else { " " };
        let link = match interface.link {
            LinkState::Up => String::new(),
            link => format!(", {}", link.as_str().to_uppercase()),
        };
        let _ = writeln!(text, "  interface  {name} mtu {mtu}{blank}{addresses}{link}");
    }
}

fn write_subnet(text: &mut String, subnet: &SubnetStatus) {
    let by = match &subnet.interface {
        Some(name) => format!("interface {name}"),
        None => "relays".to_owned(),
    };
    let _ = write!(text, "  subnet     {} by {by}, mode {}", subnet.subnet, subnet.mode);
    // A subnet with reservations alone has no addresses that could run out.
    if let Some(pool) = subnet.pool.as_ref().filter(|pool| pool.addresses > 0) {
        let _ = write!(text, ", {}", pool.said);
    }
    if let Some(since_s) = subnet.pool.as_ref().and_then(|pool| pool.full_since_s) {
        let _ = write!(text, ", FULL since {}", format_span(since_s));
    }
    if subnet.install_by_default {
        text.push_str(", INSTALLS BY DEFAULT");
    }
    if let Some(why) = &subnet.silent_because {
        let _ = write!(text, ", SILENT: {why}");
    }
    text.push('\n');
    for other in &subnet.other_servers {
        let age = other.answered_s.map(|s| format!(", answered {} ago", format_span(s)));
        let _ = writeln!(
            text,
            "    also     the DHCP server {} ({}){}",
            other.address,
            other.mac,
            age.unwrap_or_default()
        );
    }
}

/// Writes the counts that are not 0 in one line; no line where all are 0.
fn write_counts(text: &mut String, name: &str, counts: &[(u64, &str)]) {
    let said = join_counts(counts);
    if !said.is_empty() {
        let _ = writeln!(text, "    {name:8} {said}");
    }
}

fn join_counts(counts: &[(u64, &str)]) -> String {
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

fn write_leases(text: &mut String, dhcp: &DhcpStatus) {
    let by_state = join_counts(&[
        (dhcp.bound, "bound"),
        (dhcp.offered, "offered"),
        (dhcp.ended, "ended or given back"),
        (dhcp.kept_back, "kept back"),
    ]);
    let by_state = if by_state.is_empty() { by_state } else { format!(" ({by_state})") };
    let _ = writeln!(
        text,
        "  leases     {} known{by_state}, {} commits pending, {} requests, {} answers",
        dhcp.leases, dhcp.commits_pending, dhcp.received, dhcp.answered
    );

    // A server without a fault prints neither of these two lines (docs/status.md).
    let refusals = [
        (dhcp.declines, "declined"),
        (dhcp.naks, "refused"),
        (dhcp.exhausted, "with no address free"),
    ];
    write_counts(text, "refused", &refusals);
    let losses = [
        (dhcp.dropped, "messages (too many at once)"),
        (dhcp.dropped_commits, "requests (the store is behind)"),
        (dhcp.unsent, "answers (the send buffer is full)"),
        (dhcp.failed, "answers (the kernel refused them)"),
    ];
    write_counts(text, "lost", &losses);
}

fn write_store(text: &mut String, store: &StoreStatus) {
    if let Some(why) = &store.why {
        let what = match store.state {
            StoreTrust::Unread => "NO DHCP IS ANSWERED",
            StoreTrust::Broken | StoreTrust::Sound => "NO NEW LEASES",
        };
        let since_s = store.since_s.unwrap_or(0);
        let _ = writeln!(text, "  STORE      {what} for {since_s} s: {why}");
    }
    let seconds = store.oldest_ms.unwrap_or(0) / 1000;
    if seconds >= STUCK_S {
        let _ = writeln!(
            text,
            "  STORE      no commit has finished for {seconds} s; {} in the queue",
            format_count(store.queued, "commit")
        );
    }
}

fn write_datapath(text: &mut String, status: &ServerStatus) {
    let (datapath, cpu) = (&status.datapath, status.control_cpu);
    let _ = writeln!(text, "  datapath   {datapath}, control on cpu {cpu}");
    if status.cores_without_ring > 0 {
        let cores = status.cores_without_ring;
        let _ = writeln!(text, "    but      {cores} cores by epoll: see the log");
    }
    if let Some(why) = &status.no_ring_because {
        let _ = writeln!(text, "    because  {why}");
    }
}

fn write_core(text: &mut String, core: &CoreStatus) {
    let CoreStatus { cpu, tftp, http } = core;
    let _ = writeln!(
        text,
        "  core       cpu {cpu}: {} transfers, {} TFTP requests ({} dropped), {} HTTP requests \
         ({} refused), {} MB by HTTP",
        tftp.transfers,
        tftp.requests,
        tftp.dropped,
        http.requests,
        http.refused,
        http.bytes_sent / 1_000_000
    );
}

fn write_quirks(text: &mut String, quirks: &QuirkCounts) {
    let QuirkCounts { machines, groups, pinned, on_trial } = quirks;
    if machines + groups + on_trial > 0 {
        let _ = writeln!(
            text,
            "  quirks     {machines} machines and {groups} makers or classes are limited ({pinned} \
             pinned), {on_trial} on trial without: `ringboot quirk list`"
        );
    }
}

fn write_memory(text: &mut String, status: &ServerStatus) {
    let (memory, drops) = (&status.image_memory, &status.drops);
    let _ = writeln!(text, "  mappings   {}", status.mappings);
    let locked = match memory.unlocked / 1_000_000 {
        0 => String::new(),
        unlocked => format!(", {unlocked} MB NOT LOCKED (RLIMIT_MEMLOCK)"),
    };
    let _ = writeln!(
        text,
        "  memory     {} of {} MB hold boot images{locked}, {} pieces evicted",
        memory.resident / 1_000_000,
        memory.budget / 1_000_000,
        memory.evictions
    );
    let _ = writeln!(
        text,
        "  drops      {} datagrams (full receive buffers), {} events, {} log lines",
        drops.sockets, drops.events, drops.log_lines
    );
}

fn write_thread(text: &mut String, thread: &ThreadStatus) {
    let ThreadStatus { name, panics, .. } = thread;
    let busy_s = thread.busy_ms.unwrap_or(0) / 1000;
    if busy_s >= STUCK_S {
        let _ = writeln!(
            text,
            "  STUCK      the thread {name} has been busy with one task for {busy_s} s"
        );
    }
    if *panics > 0 {
        let _ = writeln!(
            text,
            "  thread     {name} was restarted {panics} times after a panic: see the log"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    /// Fields that only `--json` has, each with the reason.
    const NOT_SHOWN: &[(&str, &str)] = &[
        ("copies.budget", "memory for rendered files: for who looks for a bottleneck"),
        ("copies.held", "memory for rendered files: for who looks for a bottleneck"),
        ("copies.refused", "memory for rendered files: for who looks for a bottleneck"),
        ("cores.http.at_full_speed", "`storm` has the machines of all cores"),
        ("cores.http.in_line", "`storm` has the machines of all cores"),
        ("cores.http.aborted", "a counter for who looks for a bottleneck"),
        ("cores.http.accept_failed", "a counter for who looks for a bottleneck"),
        ("cores.http.connections", "a counter for who looks for a bottleneck"),
        ("cores.http.events_left_out", "a counter for who looks for a bottleneck"),
        ("cores.http.given_up", "a counter for who looks for a bottleneck"),
        ("cores.http.queued", "a counter for who looks for a bottleneck"),
        ("cores.http.timed_out", "a counter for who looks for a bottleneck"),
        ("cores.http.turned_away", "a counter for who looks for a bottleneck"),
        ("cores.tftp.busy", "a counter for who looks for a bottleneck"),
        ("cores.tftp.displaced", "a counter for who looks for a bottleneck"),
        ("cores.tftp.events_left_out", "a counter for who looks for a bottleneck"),
        ("cores.tftp.full", "a counter for who looks for a bottleneck"),
        ("cores.tftp.guessed", "a counter for who looks for a bottleneck"),
        ("cores.tftp.not_served", "a counter for who looks for a bottleneck"),
        ("cores.tftp.waited", "a counter for who looks for a bottleneck"),
        ("dhcp.acks", "a counter by kind of message; the sum is shown"),
        ("dhcp.discovers", "a counter by kind of message; the sum is shown"),
        ("dhcp.informs", "a counter by kind of message; the sum is shown"),
        ("dhcp.offers", "a counter by kind of message; the sum is shown"),
        ("dhcp.others", "a counter by kind of message; the sum is shown"),
        ("dhcp.releases", "a counter by kind of message; the sum is shown"),
        ("dhcp.requests", "a counter by kind of message; the sum is shown"),
        ("dhcp.sockets", "shown as sockets.dhcp, which is the same list"),
        ("dhcp.store.failed_commits", "`why` is shown while it lasts, and the log has each"),
        ("dhcp.store.offers_withheld", "it follows from what is shown of the store"),
        ("drops.kernel_shortages", "a counter for who looks for a bottleneck"),
        ("findings.hint", "`ringboot check` has the hints"),
        ("image_memory.expired", "a counter for who looks for a bottleneck"),
        ("questions_waiting.made", "a counter for who looks for a bottleneck"),
        ("questions_waiting.names", "a counter for who looks for a bottleneck"),
        ("questions_waiting.pieces", "a counter for who looks for a bottleneck"),
        ("receive_buffer", "`ringboot check` warns where it is too small"),
        ("storm.at_full_speed", "`said` has it in words"),
        ("storm.bytes_left", "`said` has it in words"),
        ("storm.bytes_per_s", "`said` has it in words"),
        ("storm.in_line", "`said` has it in words"),
        ("storm.left_s", "`said` has it in words"),
        ("subnets.looking", "`silent_because` says it in words"),
        ("subnets.pool.addresses", "`said` has it in words"),
        ("subnets.pool.bound", "`said` has it in words"),
        ("subnets.pool.ended", "`said` has it in words"),
        ("subnets.pool.free", "`said` has it in words"),
        ("subnets.pool.kept_back", "`said` has it in words"),
        ("subnets.pool.nearly_full", "`said` has it in words"),
        ("subnets.pool.offered", "`said` has it in words"),
        ("subnets.relay", "a subnet without an interface is served by relays"),
        ("user.gid", "the group follows from the user"),
        ("user.uid", "`ps` shows the user of the pid"),
    ];

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let mut status: ServerStatus = sample();
        status.findings[0].severity = FindingSeverity::Error;
        let print = |status: &ServerStatus| format_status(status) + &health::summarize(status);
        assert_shown(&[status], print, NOT_SHOWN);
    }
}
