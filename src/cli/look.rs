//! `ringboot look`: what is known of other DHCP servers on each subnet, and the order to forget it
//! and to look again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Server;
use super::output;
use crate::api::looks::PATH;
use crate::api::values::each;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Forget what was found, and look again: no address is offered for the 2 seconds of a first
    /// look
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
        output::say(
            &if arguments.json { output::in_json(found) } else { lines(found) },
            ExitCode::SUCCESS,
        )
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
        let is_over =
            found["again"] == false && each(&found["looks"]).all(|look| look["looking"] == false);
        if is_over || Instant::now() >= until {
            return Ok(found);
        }
    }
}

/// The sentences of the log.
fn lines(found: &Value) -> String {
    let said =
        found["looks"].as_array().into_iter().flatten().filter_map(|look| look["said"].as_str());
    let mut lines: String = said.map(|said| format!("{said}\n")).collect();
    if lines.is_empty() {
        lines.push_str("no subnet is served by an interface, so no other server is looked for\n");
    }
    lines
}
