//! `ringboot reload`: the running server checks its configuration and publishes it; where that
//! could not be served it keeps the old one.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::Value;

use super::check;
use super::client::Server;
use super::output;
use crate::api::values::{each, word};

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
    arguments.server.carry_out("POST", "/v1/reload", |done| {
        let is_in_force = each(&done["after_restart"]).next().is_none();
        let code = if is_in_force { ExitCode::SUCCESS } else { ExitCode::from(AFTER_RESTART) };
        output::say(&if arguments.json { output::in_json(done) } else { plain(done) }, code)
    })
}

fn plain(done: &Value) -> String {
    let mut text = format!("reloaded: generation {}\n", done["generation"]);
    for table in each(&done["after_restart"]) {
        let _ = writeln!(text, "  changes in {} take effect after a restart", word(table));
    }
    text + &check::lines(&done["findings"])
}
