//! `ringboot reload`: the running server checks its configuration and publishes it; where that
//! could not be served it keeps the old one.

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

/// The exit code where not all of it is in force.
const AFTER_RESTART: u8 = 3;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.server.carry_out(&Order::post("/v1/reload"), |done: ReloadReport| {
        let is_in_force = done.after_restart.is_empty();
        let code = if is_in_force { ExitCode::SUCCESS } else { ExitCode::from(AFTER_RESTART) };
        output::say(&if arguments.json { output::in_json(&done) } else { plain(&done) }, code)
    })
}

fn plain(done: &ReloadReport) -> String {
    let mut text = format!("reloaded: generation {}\n", done.generation);
    for table in &done.after_restart {
        let _ = writeln!(text, "  changes in {table} take effect after a restart");
    }
    text + &check::lines(&done.findings)
}
