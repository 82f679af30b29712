//! `ringboot reload`: the running server checks its configuration and publishes it; where that could not be served it keeps the old one.

use std::fmt::Write;
use std::process::ExitCode;

use super::check;
use super::client::Server;
use super::text::{each, word};

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

/// Exit 0: published and in force, whatever is remarked of it; 1: not reloaded, or no server; 2: usage or configuration; 3: published, and
/// some of it takes a restart.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.server.carry_out("POST", "/v1/reload", |done| {
        if arguments.json {
            return super::say(&super::in_json(done), ExitCode::SUCCESS);
        }
        let mut text = format!("reloaded: generation {}\n", done["generation"]);
        let mut code = ExitCode::SUCCESS;
        for table in each(&done["after_restart"]) {
            let _ = writeln!(text, "  changes in {} take effect after a restart", word(table));
            code = ExitCode::from(AFTER_RESTART);
        }
        super::say(&(text + &check::lines(&done["findings"])), code)
    })
}
