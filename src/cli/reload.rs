//! `ringboot reload`: the running server reads, checks and publishes its configuration; after an
//! error it keeps the old one.

use std::fmt::Write;
use std::process::ExitCode;

use super::check;
use super::client::{Order, Server};
use super::output;
use crate::api::types::ReloadReport;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The exit code where some changes need a restart.
const AFTER_RESTART: u8 = 3;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.server.carry_out(&Order::post("/v1/reload"), |done: ReloadReport| {
        let is_in_force = done.after_restart.is_empty();
        let code = if is_in_force { ExitCode::SUCCESS } else { ExitCode::from(AFTER_RESTART) };
        output::say(
            &if arguments.json { output::in_json(&done) } else { format_report(&done) },
            code,
        )
    })
}

fn format_report(done: &ReloadReport) -> String {
    let mut text = format!("reloaded: generation {}\n", done.generation);
    for table in &done.after_restart {
        let _ = writeln!(text, "  changes in {table} take effect after a restart");
    }
    text + &check::format_findings(&done.findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let done: ReloadReport = sample();
        assert_shown(&[done], format_report, &[]);
    }
}
