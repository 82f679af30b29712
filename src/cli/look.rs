//! `ringboot look`: shows what the server knows of other DHCP servers on each subnet, and makes it
//! look again.

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
    /// Forget the result and look again: for the 2 seconds of a look the server offers no address
    #[arg(long)]
    again: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How long the command waits for the new look; a look takes 2 s.
const AGAIN_MAX: Duration = Duration::from_secs(6);
const AGAIN_ASKED_EVERY: Duration = Duration::from_millis(200);

/// Exit 0: printed; 1: no server, or one without DHCP; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    if !arguments.again {
        return arguments
            .server
            .carry_out(&Order::get(PATH), |found| print_looks(&found, arguments.json));
    }
    arguments.server.carry_out(&Order::post(PATH), |_: LookOrder| {
        match wait_for_look(&arguments.server) {
            Ok(found) => print_looks(&found, arguments.json),
            Err(error) => {
                complain!("{error:#}");
                ExitCode::FAILURE
            }
        }
    })
}

fn print_looks(found: &LookList, json: bool) -> ExitCode {
    let text = if json { output::in_json(found) } else { lines(found) };
    output::say(&text, ExitCode::SUCCESS)
}

/// Waits for the result of the new look; a look that goes on is in the result too.
fn wait_for_look(server: &Server) -> anyhow::Result<LookList> {
    let until = Instant::now() + AGAIN_MAX;
    loop {
        // The server begins to look within a second.
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
        lines.push_str(
            "no subnet is served on an interface, so the server looks for no other server\n",
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let list: LookList = sample();
        assert_shown(
            &[list],
            lines,
            &[
                ("again", "the command waits until the new look has begun"),
                ("looks.answered_s", "`said` has it in words"),
                ("looks.interface", "`said` has it in words"),
                ("looks.looked_s", "`said` has it in words"),
                ("looks.looking", "`said` has it in words"),
                ("looks.next_look_s", "`said` has it in words"),
                ("looks.subnet", "`said` has it in words"),
            ],
        );
    }
}
