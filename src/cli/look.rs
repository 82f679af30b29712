//! `ringboot look`: what is known of other DHCP servers on each subnet, and the order to forget it
//! and to look again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::client::{Order, Server};
use super::output;
use crate::api::types::{LookList, LookOrder};

const PATH: &str = "/v1/looks";

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
    let tell = |found: LookList| {
        output::say(
            &if arguments.json { output::in_json(&found) } else { lines(&found) },
            ExitCode::SUCCESS,
        )
    };
    if !arguments.again {
        return arguments.server.carry_out(&Order::get(PATH), tell);
    }
    arguments.server.carry_out(&Order::post(PATH), |_: LookOrder| match looked(&arguments.server) {
        Ok(found) => tell(found),
        Err(error) => {
            complain!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// What the new look has found, or that it goes on.
fn looked(server: &Server) -> anyhow::Result<LookList> {
    let until = Instant::now() + AGAIN_MAX;
    loop {
        // The order to look is read within a second.
        std::thread::sleep(AGAIN_ASKED_EVERY);
        let found: LookList = server.ask(&Order::get(PATH))?;
        let is_over = !found.again && found.looks.iter().all(|look| !look.looking);
        if is_over || Instant::now() >= until {
            return Ok(found);
        }
    }
}

/// The sentences of the log.
fn lines(found: &LookList) -> String {
    let mut lines: String = found.looks.iter().map(|look| format!("{}\n", look.said)).collect();
    if lines.is_empty() {
        lines.push_str("no subnet is served by an interface, so no other server is looked for\n");
    }
    lines
}
