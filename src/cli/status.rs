//! `ringboot status`: what the running server does, on one screen, or in one line for a monitor.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::check;
use super::client::{NoServer, Server};
use super::output;
use crate::api::health::{self, Level};
use crate::api::values::{each, joined, number, span, word};

/// Errors in the configuration that are named; `check` names all.
const ERRORS_SHOWN_MAX: usize = 10;
/// A thread that is at one thing for so long is worth a line. Seconds.
const STUCK_S: u64 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// As JSON, with every counter
    #[arg(long)]
    json: bool,
    /// For monitors: one line that says whether all is well, and the exit codes of monitoring
    /// plugins: 0 well, 1 warning, 2 critical, 3 unknown
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.exit_code {
        return watch(arguments);
    }
    arguments.server.carry_out("GET", "/v1/status", |status| match arguments.json {
        true => output::say(&output::in_json(status), ExitCode::SUCCESS),
        false => output::tell(&table(status), ExitCode::SUCCESS),
    })
}

/// What a monitor wants: no server is as bad as one that does not serve; where nobody can tell,
/// that is said.
fn watch(arguments: &Arguments) -> ExitCode {
    let (level, text) = match arguments.server.ask("GET", "/v1/status") {
        Ok(status) if arguments.json => (Level::of(&status["health"]), output::in_json(&status)),
        Ok(status) => (Level::of(&status["health"]), health::summary(&status)),
        Err(error) => {
            let level = if error.is::<NoServer>() { Level::Critical } else { Level::Unknown };
            (level, format!("{}: {}\n", level.word(), format!("{error:#}").replace('\n', "; ")))
        }
    };
    output::say(&text, ExitCode::from(level as u8))
}

fn table(status: &Value) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "ringboot {} (pid {}), up {} s, configuration generation {}",
        word(&status["version"]),
        status["pid"],
        status["up_s"],
        status["generation"]
    );
    write_findings(&mut text, &status["findings"]);
    for table in each(&status["after_restart"]) {
        let _ =
            writeln!(text, "  PENDING    changes in {} take effect after a restart", word(table));
    }
    write_sockets(&mut text, status);
    each(&status["subnets"]).for_each(|subnet| write_subnet(&mut text, subnet));
    if let Some(dhcp) = status["dhcp"].as_object() {
        write_leases(&mut text, dhcp);
    }
    write_store(&mut text, &status["dhcp"]["store"]);
    write_datapath(&mut text, status);
    each(&status["cores"]).for_each(|core| write_core(&mut text, core));
    write_quirks(&mut text, &status["quirks"]);
    write_memory(&mut text, status);
    each(&status["threads"]).for_each(|thread| write_thread(&mut text, thread));
    text
}

fn write_findings(text: &mut String, findings: &Value) {
    let errors = || each(findings).filter(|finding| finding["severity"] == "error");
    for error in errors().take(ERRORS_SHOWN_MAX) {
        let _ = writeln!(text, "  ERROR      {}", check::sentence(error));
    }
    let warnings = each(findings).filter(|finding| finding["severity"] == "warning").count();
    if errors().count() + warnings > 0 {
        let _ = writeln!(
            text,
            "  config     {} errors and {warnings} warnings when it was read: `ringboot check` \
             looks again",
            errors().count()
        );
    }
}

fn write_sockets(text: &mut String, status: &Value) {
    let _ = writeln!(text, "  root       {}", word(&status["root"]));
    let _ = writeln!(text, "  tftp       {}", joined(&status["sockets"]["tftp"]));
    let _ = writeln!(text, "  http       {}", joined(&status["sockets"]["http"]));
    let dhcp = joined(&status["sockets"]["dhcp"]);
    let _ = writeln!(
        text,
        "  dhcp       {}",
        if dhcp.is_empty() { "not answered".to_owned() } else { dhcp }
    );
    for interface in each(&status["interfaces"]) {
        let (name, addresses) = (word(&interface["name"]), joined(&interface["addresses"]));
        let link = match word(&interface["link"]) {
            "up" | "" => String::new(),
            link => format!(", {}", link.to_uppercase()),
        };
        let blank = if addresses.is_empty() { "" } else { " " };
        let _ =
            writeln!(text, "  interface  {name} mtu {}{blank}{addresses}{link}", interface["mtu"]);
    }
}

fn write_subnet(text: &mut String, subnet: &Value) {
    let by = subnet["interface"]
        .as_str()
        .map_or("relays".to_owned(), |name| format!("interface {name}"));
    let _ = write!(
        text,
        "  subnet     {} by {by}, mode {}",
        word(&subnet["subnet"]),
        word(&subnet["mode"])
    );
    let pool = &subnet["pool"];
    if number(&pool["addresses"]) > 0 {
        let _ = write!(text, ", {}", word(&pool["said"]));
    }
    if let Some(since_s) = pool["full_since_s"].as_u64() {
        let _ = write!(text, ", FULL since {}", span(since_s));
    }
    if subnet["install_by_default"] == true {
        text.push_str(", INSTALLS BY DEFAULT");
    }
    if let Some(why) = subnet["silent_because"].as_str() {
        let _ = write!(text, ", SILENT: {why}");
    }
    text.push('\n');
    for other in each(&subnet["other_servers"]) {
        let age = other["answered_s"]
            .as_u64()
            .map_or_else(String::new, |s| format!(", answered {} ago", span(s)));
        let _ = writeln!(
            text,
            "    also     the DHCP server {} ({}){age}",
            word(&other["address"]),
            word(&other["mac"])
        );
    }
}

/// Those counts that are not 0, in one line; none where all are.
fn write_counts(text: &mut String, name: &str, counts: &[(&str, &str)], of: &Map<String, Value>) {
    let said = counted(counts, of);
    if !said.is_empty() {
        let _ = writeln!(text, "    {name:8} {said}");
    }
}

fn counted(counts: &[(&str, &str)], of: &Map<String, Value>) -> String {
    let count = |key: &str| of.get(key).and_then(Value::as_u64).filter(|count| *count > 0);
    let said: Vec<String> =
        counts.iter().filter_map(|(key, what)| Some(format!("{} {what}", count(key)?))).collect();
    said.join(", ")
}

fn write_leases(text: &mut String, dhcp: &Map<String, Value>) {
    let states = [
        ("bound", "bound"),
        ("offered", "offered"),
        ("ended", "ended or given back"),
        ("kept_back", "kept back"),
    ];
    let by_state = match counted(&states, dhcp) {
        none if none.is_empty() => none,
        some => format!(" ({some})"),
    };
    let _ = writeln!(
        text,
        "  leases     {} known{by_state}, {} commits pending, {} requests, {} answers",
        dhcp["leases"], dhcp["commits_pending"], dhcp["received"], dhcp["answered"]
    );
    let refusals =
        [("declines", "declined"), ("naks", "refused"), ("exhausted", "with no address free")];
    write_counts(text, "refused", &refusals, dhcp);
    let losses = [
        ("dropped", "messages (too many at once)"),
        ("dropped_commits", "requests (the store is behind)"),
        ("unsent", "answers (their way is full)"),
        ("failed", "answers (the kernel refused them)"),
    ];
    write_counts(text, "lost", &losses, dhcp);
}

fn write_store(text: &mut String, store: &Value) {
    if let Some(why) = store["why"].as_str() {
        let what = if store["state"] == "unread" { "NO DHCP IS ANSWERED" } else { "NO NEW LEASES" };
        let _ = writeln!(text, "  STORE      {what} for {} s: {why}", store["since_s"]);
    }
    if number(&store["oldest_ms"]) >= 1000 * STUCK_S {
        let (queued, seconds) = (&store["queued"], number(&store["oldest_ms"]) / 1000);
        let _ = writeln!(
            text,
            "  STORE      {queued} commits wait, and none was finished for {seconds} s"
        );
    }
}

fn write_datapath(text: &mut String, status: &Value) {
    let _ = writeln!(
        text,
        "  datapath   {}, control on cpu {}",
        word(&status["datapath"]),
        status["control_cpu"]
    );
    if number(&status["cores_without_ring"]) > 0 {
        let _ = writeln!(
            text,
            "    but      {} cores by epoll: see the log",
            status["cores_without_ring"]
        );
    }
    if let Some(why) = status["no_ring_because"].as_str() {
        let _ = writeln!(text, "    because  {why}");
    }
}

fn write_core(text: &mut String, core: &Value) {
    let (tftp, http) = (&core["tftp"], &core["http"]);
    let _ = writeln!(
        text,
        "  core       cpu {}: {} transfers, {} TFTP requests ({} dropped), {} HTTP requests ({} \
         refused), {} MB by HTTP",
        core["cpu"],
        tftp["transfers"],
        tftp["requests"],
        tftp["dropped"],
        http["requests"],
        http["refused"],
        number(&http["bytes_sent"]) / 1_000_000
    );
    if number(&http["in_line"]) > 0 {
        let (fast, behind) = (&http["at_full_speed"], &http["in_line"]);
        let _ = writeln!(
            text,
            "    storm    {fast} large files at full speed, {behind} in line behind them"
        );
    }
}

fn write_quirks(text: &mut String, quirks: &Value) {
    if ["machines", "groups", "on_trial"].iter().any(|key| number(&quirks[*key]) > 0) {
        let _ = writeln!(
            text,
            "  quirks     {} machines and {} makers or classes get less than they ask for ({} \
             pinned), {} on trial without: `ringboot quirk list`",
            quirks["machines"], quirks["groups"], quirks["pinned"], quirks["on_trial"]
        );
    }
}

fn write_memory(text: &mut String, status: &Value) {
    let (memory, drops) = (&status["image_memory"], &status["drops"]);
    let _ = writeln!(text, "  mappings   {}", status["mappings"]);
    let mb = |key: &str| number(&memory[key]) / 1_000_000;
    let locked = match mb("unlocked") {
        0 => String::new(),
        unlocked => format!(", {unlocked} MB NOT LOCKED (RLIMIT_MEMLOCK)"),
    };
    let _ = writeln!(
        text,
        "  memory     {} of {} MB hold boot images{locked}, {} pieces evicted",
        mb("resident"),
        mb("budget"),
        memory["evictions"]
    );
    let _ = writeln!(
        text,
        "  drops      {} datagrams (full receive buffers), {} events, {} log lines",
        drops["sockets"], drops["events"], drops["log_lines"]
    );
}

fn write_thread(text: &mut String, thread: &Value) {
    let (name, busy_s, panics) =
        (word(&thread["name"]), number(&thread["busy_ms"]) / 1000, number(&thread["panics"]));
    if busy_s >= STUCK_S {
        let _ =
            writeln!(text, "  STUCK      the thread {name} has been at one thing for {busy_s} s");
    }
    if panics > 0 {
        let _ = writeln!(
            text,
            "  thread     {name} was begun again {panics} times after a fault of its own: see the \
             log"
        );
    }
}
