//! `ringboot reload`: the running server checks its configuration and publishes it; where that could not be served it keeps the old one.

use std::io::Write;
use std::process::ExitCode;

use super::check;
use super::client::Server;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    server: Server,
}

/// Exit 0: published, whatever is remarked of it; 1: not reloaded, or no server.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let said = arguments.server.ask("POST", "/v1/reload");
    let mut out = std::io::stdout().lock();
    match said {
        Ok(done) => {
            let _ = writeln!(out, "reloaded: generation {}", done["generation"]);
            for table in done["after_restart"].as_array().into_iter().flatten().filter_map(|name| name.as_str()) {
                let _ = writeln!(out, "  changes in {table} take effect after a restart");
            }
            let _ = write!(out, "{}", check::lines(&done["findings"]));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringboot: {error:#}");
            ExitCode::FAILURE
        }
    }
}
