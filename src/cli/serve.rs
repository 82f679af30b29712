//! `ringboot serve`: reads the configuration, starts the server, runs until SIGTERM.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tracing::Level;

use crate::control::examine::NotRight;
use crate::control::load::{ConfigOverrides, LEVELS, read_serve_config};
use crate::engine::open_files::raise_open_files;
use crate::guard;
use crate::observe::sink;
use crate::setup::plan::plan;
use crate::setup::supervisor;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file [default: /etc/ringboot/ringboot.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve this directory by TFTP and HTTP; without --config the server answers no DHCP
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Answer TFTP on this address instead of the configured ones; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    tftp: Vec<SocketAddr>,
    /// Answer HTTP on this address instead of the configured ones; may be repeated
    #[arg(long, value_name = "ADDR:PORT")]
    http: Vec<SocketAddr>,
    /// Answer no DHCP, whatever the configuration says
    #[arg(long)]
    no_dhcp: bool,
    /// At most this many boot cores [default: the processors of the affinity mask, less one for
    /// DHCP]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// The admin socket, instead of the configured one [default without a configuration:
    /// /run/ringboot/admin.sock, if it can be created]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The log level, instead of the configured one
    #[arg(long, value_name = "LEVEL", value_parser = level_parser())]
    log_level: Option<Level>,
    /// Raise the configured log level: -v by one, -vv by two
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "log_level")]
    verbose: u8,
}

impl Arguments {
    fn overrides(&self) -> ConfigOverrides {
        let Self { config, root, tftp, http, no_dhcp, workers, socket, log_level, verbose } =
            self.clone();
        ConfigOverrides { config, root, tftp, http, no_dhcp, workers, socket, log_level, verbose }
    }
}

fn level_parser() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(LEVELS).try_map(|name| name.parse::<Level>())
}

/// The usual limit of open files, where the kernel does not report it.
const USUAL_OPEN_FILES: u64 = 1024;

/// Runs the command. Exit 2: usage, or a fault of the configuration or its files; 1: could not
/// start, or a core ended by itself.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let overrides = arguments.overrides();
    let config = match read_serve_config(&overrides) {
        Ok(read) => read,
        Err(error) => {
            sink::log_last_words(&format!("{error:#}"), None);
            return ExitCode::from(2);
        }
    };
    let facility = config.log.facility;
    sink::start_logging(config.log.level, facility);
    // Before the first thread starts, since threads inherit it.
    if let Err(error) = guard::forbid_new_privileges() {
        tracing::warn!("child processes may still gain privileges: {error}");
    }
    // Each mapping and each connection needs a descriptor: the usual 1,024 are too few.
    let open_files = raise_open_files().unwrap_or_else(|error| {
        tracing::warn!("the limit of open files cannot be raised: {error}");
        USUAL_OPEN_FILES
    });
    match plan(config, &overrides, open_files).and_then(|plan| Ok(supervisor::run(plan)?)) {
        Ok(()) => {
            sink::flush_log();
            ExitCode::SUCCESS
        }
        Err(error) => {
            sink::log_last_words(&format!("{error:#}"), facility);
            // The unit does not restart the service after exit code 2.
            if error.is::<NotRight>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
