//! `ringboot look`: what is known of other DHCP servers on each subnet, and the order to forget it and to look again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;
use super::text::{each, span};
use crate::control::admin::{Answer, Routes};
use crate::dhcp::subnet::Held;
use crate::serve::dhcp::other_servers::Finding as SegmentFinding;
use crate::serve::supervisor::Handle;

const PATH: &str = "/v1/looks";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Forget what was found, and look again: no address is offered for the 2 seconds of a first look
    #[arg(long)]
    again: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Longer than a first look takes.
const AGAIN_MAX: Duration = Duration::from_secs(6);
const AGAIN_ASKED_EVERY: Duration = Duration::from_millis(200);

/// Exit 0: it was told; 1: no server, or one without DHCP; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let tell = |found: &Value| {
        super::say(&if arguments.json { super::in_json(found) } else { lines(found) }, ExitCode::SUCCESS)
    };
    if !arguments.again {
        return arguments.server.carry_out("GET", PATH, tell);
    }
    arguments.server.carry_out("POST", PATH, |_| match looked(&arguments.server) {
        Ok(found) => tell(&found),
        Err(error) => {
            complain!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// What the new look has found, or that it goes on.
fn looked(server: &Server) -> anyhow::Result<Value> {
    let until = Instant::now() + AGAIN_MAX;
    loop {
        // The order to look is read within a second.
        std::thread::sleep(AGAIN_ASKED_EVERY);
        let found = server.ask("GET", PATH)?;
        let is_over = found["again"] == false && each(&found["looks"]).all(|look| look["looking"] == false);
        if is_over || Instant::now() >= until {
            return Ok(found);
        }
    }
}

/// The sentences of the log.
fn lines(found: &Value) -> String {
    let said = found["looks"].as_array().into_iter().flatten().filter_map(|look| look["said"].as_str());
    let mut lines: String = said.map(|said| format!("{said}\n")).collect();
    if lines.is_empty() {
        lines.push_str("no subnet is served by an interface, so no other server is looked for\n");
    }
    lines
}

/// How old what is known is: ` 3 min ago, and is asked again in 2 min`.
pub(super) fn since(finding: &SegmentFinding) -> String {
    let ago = |at: Option<Instant>| at.map(|at| span(at.elapsed().as_secs()));
    let next = finding.next_look.map(|at| span(at.saturating_duration_since(Instant::now()).as_secs()));
    match (finding.others.is_empty(), ago(finding.answered), ago(finding.looked)) {
        (false, Some(answered), _) => {
            let next = next.map_or_else(|| "now".to_owned(), |next| format!("again in {next}"));
            format!(" {answered} ago, and is asked {next}")
        }
        (true, _, Some(looked)) => {
            let next = next.map_or_else(|| "one is under way".to_owned(), |next| format!("the next in {next}"));
            format!(" (last look {looked} ago, {next})")
        }
        _ => String::new(),
    }
}

/// Adds the resources.
pub(super) fn routes(routes: Routes, handle: &Handle) -> Routes {
    let (listing, forgetting) = (handle.clone(), handle.clone());
    routes.get(PATH, move |_| answer(&listing, false)).post(PATH, move |_| answer(&forgetting, true))
}

fn answer(handle: &Handle, again: bool) -> Answer {
    let Some(overview) = handle.overview() else {
        return Answer::problem(StatusCode::SERVICE_UNAVAILABLE, "starting or stopping", "ask again in a moment");
    };
    let Some(findings) = overview.findings.as_ref() else {
        return Answer::problem(StatusCode::CONFLICT, "no DHCP is answered", "no subnet has `mode = \"server\"`");
    };
    if again {
        findings.look_again();
        return Answer::ok(json!({ "again": true }));
    }
    // Asked before the rest is read: what is read then is of the new look.
    let is_ordered = findings.is_to_look_again();
    let looks: Vec<Value> = findings.read().segments.iter().map(one).collect();
    Answer::ok(json!({ "looks": looks, "again": is_ordered }))
}

fn one(finding: &SegmentFinding) -> Value {
    let ago_s = |at: Option<Instant>| at.map(|at| at.elapsed().as_secs());
    json!({
        "subnet": finding.network.to_string(),
        "interface": finding.interface,
        "said": finding.sentence(&since(finding)),
        "looking": finding.held == Some(Held::Looking),
        "answered_s": ago_s(finding.answered),
        "looked_s": ago_s(finding.looked),
        "next_look_s": finding.next_look.map(|at| at.saturating_duration_since(Instant::now()).as_secs()),
    })
}
