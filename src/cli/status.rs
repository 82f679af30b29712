//! `ringboot status`: what the running server does, on one screen.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::check;
use super::client::Server;

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
}

/// Exit 0: it runs; 1: no server, or it is starting or stopping; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.server.carry_out("GET", "/v1/status", |status| {
        let text = if arguments.json { super::in_json(status) } else { table(status) };
        super::say(&text, ExitCode::SUCCESS)
    })
}

/// A line of those counts that are not 0; none where all are.
fn write_counts(text: &mut String, name: &str, counts: &[(&str, &str)], of: &serde_json::Map<String, Value>) {
    let count = |key: &str| of.get(key).and_then(Value::as_u64).filter(|count| *count > 0);
    let said: Vec<String> = counts.iter().filter_map(|(key, what)| Some(format!("{} {what}", count(key)?))).collect();
    if !said.is_empty() {
        let _ = writeln!(text, "    {name:8} {}", said.join(", "));
    }
}

fn table(status: &Value) -> String {
    let mut text = String::new();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list =
        |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        text,
        "ringboot {} (pid {}), up {} s, configuration generation {}",
        word(&status["version"]),
        status["pid"],
        status["up_s"],
        status["generation"]
    );
    let findings = status["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let errors = || findings.iter().filter(|finding| finding["severity"] == "error");
    for error in errors().take(ERRORS_SHOWN_MAX) {
        let _ = writeln!(text, "  ERROR      {}", check::sentence(error));
    }
    let (errors, warnings) =
        (errors().count(), findings.iter().filter(|finding| finding["severity"] == "warning").count());
    if errors + warnings > 0 {
        let _ = writeln!(
            text,
            "  config     {errors} errors and {warnings} warnings when it was read: `ringboot check` looks again"
        );
    }
    let _ = writeln!(text, "  root       {}", word(&status["root"]));
    let _ = writeln!(text, "  tftp       {}", list(&status["sockets"]["tftp"]));
    let _ = writeln!(text, "  http       {}", list(&status["sockets"]["http"]));
    let dhcp = list(&status["sockets"]["dhcp"]);
    let _ = writeln!(text, "  dhcp       {}", if dhcp.is_empty() { "not answered".to_owned() } else { dhcp });
    for interface in status["interfaces"].as_array().into_iter().flatten() {
        let (name, addresses) = (word(&interface["name"]), list(&interface["addresses"]));
        let link = match word(&interface["link"]) {
            link if link == "up" || link.is_empty() => String::new(),
            link => format!(", {}", link.to_uppercase()),
        };
        let _ = writeln!(text, "  interface  {name} mtu {} {addresses}{link}", interface["mtu"]);
    }
    for subnet in status["subnets"].as_array().into_iter().flatten() {
        let by = subnet["interface"].as_str().map_or("relays".to_owned(), |name| format!("interface {name}"));
        let installs = if subnet["install_by_default"] == true { ", INSTALLS BY DEFAULT" } else { "" };
        let silent = match (subnet["silent_because"].as_str(), subnet["other_server"].as_str()) {
            (Some(why), _) => format!(", SILENT: {why}"),
            (None, Some(other)) => format!(", beside {other}"),
            (None, None) => String::new(),
        };
        let _ = writeln!(
            text,
            "  subnet     {} by {by}, mode {}{installs}{silent}",
            word(&subnet["subnet"]),
            word(&subnet["mode"])
        );
        for other in subnet["other_servers"].as_array().into_iter().flatten() {
            let _ =
                writeln!(text, "    also     the DHCP server {} ({})", word(&other["address"]), word(&other["mac"]));
        }
    }
    if let Some(dhcp) = status["dhcp"].as_object() {
        let _ = writeln!(
            text,
            "  leases     {} known, {} commits pending, {} requests, {} answers",
            dhcp["leases"], dhcp["commits_pending"], dhcp["received"], dhcp["answered"]
        );
        let refusals = [("declines", "declined"), ("naks", "refused"), ("exhausted", "with no address free")];
        write_counts(&mut text, "refused", &refusals, dhcp);
        let losses = [
            ("dropped", "messages (too many at once)"),
            ("dropped_commits", "requests (the store is behind)"),
            ("unsent", "answers (their way is full)"),
            ("failed", "answers (the kernel refused them)"),
        ];
        write_counts(&mut text, "lost", &losses, dhcp);
    }
    let store = &status["dhcp"]["store"];
    if let Some(why) = store["why"].as_str() {
        let what = if store["state"] == "unread" { "NO DHCP IS ANSWERED" } else { "NO NEW LEASES" };
        let _ = writeln!(text, "  STORE      {what} for {} s: {why}", store["since_s"]);
    }
    if number(&store["oldest_ms"]) >= 1000 * STUCK_S {
        let (queued, seconds) = (&store["queued"], number(&store["oldest_ms"]) / 1000);
        let _ = writeln!(text, "  STORE      {queued} commits wait, and none was finished for {seconds} s");
    }
    let _ = writeln!(text, "  datapath   {}, control on cpu {}", word(&status["datapath"]), status["control_cpu"]);
    if number(&status["cores_without_ring"]) > 0 {
        let _ = writeln!(text, "    but      {} cores by epoll: see the log", status["cores_without_ring"]);
    }
    if let Some(why) = status["no_ring_because"].as_str() {
        let _ = writeln!(text, "    because  {why}");
    }
    for core in status["cores"].as_array().into_iter().flatten() {
        let (tftp, http) = (&core["tftp"], &core["http"]);
        let _ = writeln!(
            text,
            "  core       cpu {}: {} transfers, {} TFTP requests ({} dropped), {} HTTP requests ({} refused), {} MB by HTTP",
            core["cpu"],
            tftp["transfers"],
            tftp["requests"],
            tftp["dropped"],
            http["requests"],
            http["refused"],
            number(&http["bytes_sent"]) / 1_000_000
        );
        if number(&http["in_line"]) > 0 {
            let _ = writeln!(
                text,
                "    storm    {} large files at full speed, {} in line behind them",
                http["at_full_speed"], http["in_line"]
            );
        }
    }
    let quirks = &status["quirks"];
    if ["machines", "groups", "on_trial"].iter().any(|key| number(&quirks[*key]) > 0) {
        let _ = writeln!(
            text,
            "  quirks     {} machines and {} makers or classes get less than they ask for ({} pinned), {} on trial without: \
             `ringboot quirk list`",
            quirks["machines"], quirks["groups"], quirks["pinned"], quirks["on_trial"]
        );
    }
    let _ = writeln!(text, "  mappings   {}", status["mappings"]);
    let memory = &status["image_memory"];
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
    let drops = &status["drops"];
    let _ = writeln!(
        text,
        "  drops      {} datagrams (full receive buffers), {} events, {} log lines",
        drops["sockets"], drops["events"], drops["log_lines"]
    );
    for thread in status["threads"].as_array().into_iter().flatten() {
        let (name, busy_s, panics) =
            (word(&thread["name"]), number(&thread["busy_ms"]) / 1000, number(&thread["panics"]));
        if busy_s >= STUCK_S {
            let _ = writeln!(text, "  STUCK      the thread {name} has been at one thing for {busy_s} s");
        }
        if panics > 0 {
            let _ = writeln!(
                text,
                "  thread     {name} was begun again {panics} times after a fault of its own: see the log"
            );
        }
    }
    text
}
