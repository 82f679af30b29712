//! `ringboot reload`: the running server checks its configuration and publishes it; where that could not be served it keeps the old one.

use std::fmt::Write;
use std::process::ExitCode;

use super::check;
use super::client::Server;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0: published, whatever is remarked of it; 1: not reloaded, or no server; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.server.carry_out("POST", "/v1/reload", |done| {
        if arguments.json {
            return super::say(&super::in_json(done), ExitCode::SUCCESS);
        }
        let mut text = format!("reloaded: generation {}\n", done["generation"]);
        for table in done["after_restart"].as_array().into_iter().flatten().filter_map(|name| name.as_str()) {
            let _ = writeln!(text, "  changes in {table} take effect after a restart");
        }
        super::say(&(text + &check::lines(&done["findings"])), ExitCode::SUCCESS)
    })
}
