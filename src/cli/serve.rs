//! `ringboot serve`: reads the configuration, puts the rooms together, runs until SIGTERM.

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
    /// Configuration file [default: /etc/ringboot/ringboot.toml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve this directory by TFTP and HTTP; without --config no DHCP is answered
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Answer TFTP here, in place of the configured addresses; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    tftp: Vec<SocketAddr>,
    /// Answer HTTP here, in place of the configured addresses; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    http: Vec<SocketAddr>,
    /// Answer no DHCP, whatever the configuration says
    #[arg(long)]
    no_dhcp: bool,
    /// At most so many boot cores [default: one for each processor of the affinity mask, less one
    /// for DHCP]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    workers: Option<u16>,
    /// The admin socket, in place of the configured one [default without a configuration:
    /// /run/ringboot/admin.sock, where it can be made]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How much is logged, in place of the configured level
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    log_level: Option<Level>,
    /// Log more than the configuration says: -v one level more, -vv two
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

fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(LEVELS).try_map(|name| name.parse::<Level>())
}

/// What a process may open by default, where the kernel does not tell.
const USUAL_OPEN_FILES: u64 = 1024;

/// Runs the command. Exit 2: usage, configuration or what it names; 1: could not start, or a core
/// ended by itself.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let overrides = arguments.overrides();
    let (config, file) = match read_serve_config(&overrides) {
        Ok(read) => read,
        Err(error) => {
            sink::log_last_words(&format!("{error:#}"), None);
            return ExitCode::from(2);
        }
    };
    let facility = config.log.facility;
    sink::start_logging(config.log.level, facility);
    // Before the first thread is started.
    if let Err(error) = guard::forbid_new_privileges() {
        tracing::warn!("programs that are started may still gain privileges: {error}");
    }
    // A mapping and a connection hold one each: the usual 1,024 are fewer than either may be.
    let open_files = raise_open_files().unwrap_or_else(|error| {
        tracing::warn!("the limit of open files stays as it is: {error}");
        USUAL_OPEN_FILES
    });
    match plan(config, file.as_deref(), &overrides, open_files)
        .and_then(|plan| Ok(supervisor::run(plan)?))
    {
        Ok(()) => {
            sink::flush_log();
            ExitCode::SUCCESS
        }
        Err(error) => {
            sink::log_last_words(&format!("{error:#}"), facility);
            // 2 is "do not start me again like this" to the unit.
            if error.is::<NotRight>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
