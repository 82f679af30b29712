//! `ringboot look`: what is known of other DHCP servers on each subnet, and the order to forget it and to look again.

use std::process::ExitCode;

use http::StatusCode;
use serde_json::{Value, json};

use super::client::Server;
use crate::control::admin::{Answer, Routes};
use crate::serve::supervisor::Handle;

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

/// Exit 0: it was told; 1: no server, or one without DHCP; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let method = if arguments.again { "POST" } else { "GET" };
    arguments.server.carry_out(method, "/v1/looks", |found| {
        super::say(&if arguments.json { super::in_json(found) } else { lines(found) }, ExitCode::SUCCESS)
    })
}

/// The sentences of the log.
fn lines(found: &Value) -> String {
    let said = found["looks"].as_array().into_iter().flatten().filter_map(|look| look["said"].as_str());
    let mut lines: String = said.map(|said| format!("{said}\n")).collect();
    if found["again"] == true {
        lines.push_str("what was found is forgotten, and looked for again: `ringboot look` tells\n");
    } else if lines.is_empty() {
        lines.push_str("no subnet is served by an interface, so no other server is looked for\n");
    }
    lines
}

/// Adds the resources.
pub(super) fn routes(routes: Routes, handle: &Handle) -> Routes {
    let (listing, forgetting) = (handle.clone(), handle.clone());
    routes.get("/v1/looks", move |_| answer(&listing, false)).post("/v1/looks", move |_| answer(&forgetting, true))
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
    let looks: Vec<Value> = findings
        .read()
        .segments
        .iter()
        .map(|one| json!({ "subnet": one.network.to_string(), "interface": one.interface, "said": one.said }))
        .collect();
    Answer::ok(json!({ "looks": looks }))
}
