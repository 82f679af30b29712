//! Reads the configuration for `serve`, `check` and a reload: from a file or from `--root`, with
//! the overrides of the command line.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tracing::Level;

use crate::config::{ADMIN_SOCKET, Config, ConfigProblems};

/// Read when neither --config nor --root is given.
pub const DEFAULT_CONFIG: &str = "/etc/ringboot/ringboot.toml";

/// The file name that means standard input.
const STANDARD_INPUT: &str = "-";
/// Log levels, from the fewest lines to the most.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The options of `serve` that override the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigOverrides {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--root`
    pub root: Option<PathBuf>,
    /// `--tftp`; empty: the configured addresses.
    pub tftp: Vec<SocketAddr>,
    /// `--http`; empty: the configured addresses.
    pub http: Vec<SocketAddr>,
    /// `--no-dhcp`
    pub no_dhcp: bool,
    /// `--workers`
    pub workers: Option<u16>,
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<Level>,
    /// `-v`: how many levels above the configured one.
    pub verbose: u8,
}

impl ConfigOverrides {
    /// True for `--root` without `--config`: then no file is read.
    pub fn is_by_root_alone(&self) -> bool {
        self.config.is_none() && self.root.is_some()
    }

    fn choose_level(&self, configured: Level) -> Level {
        if let Some(level) = self.log_level {
            return level;
        }
        let configured_at =
            LEVELS.iter().position(|name| configured.as_str().eq_ignore_ascii_case(name));
        let wanted_at = configured_at.unwrap_or(0) + usize::from(self.verbose);
        LEVELS[wanted_at.min(LEVELS.len() - 1)].parse().unwrap_or(configured)
    }
}

/// The text of a configuration has faults.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is wrong\n{0}")]
pub struct WrongText(pub ConfigProblems);

/// Reads and checks a configuration file. `-` is standard input; relative names start from the
/// working directory then.
pub fn read_config_file(file: &Path) -> anyhow::Result<Config> {
    if file == Path::new(STANDARD_INPUT) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("reading standard input")?;
        return Ok(Config::parse_bytes("<stdin>", &bytes).map_err(WrongText)?);
    }
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Config::parse_bytes(&file.to_string_lossy(), &bytes).map_err(WrongText)?)
}

/// The configuration of `serve` with these options.
pub fn read_serve_config(overrides: &ConfigOverrides) -> anyhow::Result<Config> {
    if overrides.config.as_deref() == Some(Path::new(STANDARD_INPUT)) {
        bail!(
            "a reload reads the configuration again, so it must be a file\n  hint: only `ringboot \
             check --config -` reads standard input"
        );
    }
    let (mut config, _) =
        read_named_config(overrides.config.as_deref(), overrides.root.as_deref())?;

    if !overrides.tftp.is_empty() {
        config.tftp.listen.clone_from(&overrides.tftp);
    }
    // URLs in boot options and in menus have the port of the first listener.
    if let Some(first) = overrides.http.first() {
        config.http.listen.clone_from(&overrides.http);
        config.snapshot.dhcp.http_port = first.port();
    }
    config.log.level = overrides.choose_level(config.log.level);
    // Without a file no key names a socket. Commands look at the usual path then.
    let usual = overrides.is_by_root_alone().then(|| PathBuf::from(ADMIN_SOCKET));
    config.server.admin_socket = overrides.socket.clone().or(config.server.admin_socket).or(usual);
    Ok(config)
}

/// The configuration that --config and --root name, and its file.
pub fn read_named_config(
    file: Option<&Path>,
    root: Option<&Path>,
) -> anyhow::Result<(Config, Option<PathBuf>)> {
    // `--root` alone reads no file, also where the usual one exists: it serves that directory, and
    // answers no DHCP.
    let file = match (file, root) {
        (Some(file), _) => Some(file.to_path_buf()),
        (None, Some(_)) => None,
        (None, None) if Path::new(DEFAULT_CONFIG).exists() => Some(PathBuf::from(DEFAULT_CONFIG)),
        (None, None) => bail!(
            "nothing to serve: there is no {DEFAULT_CONFIG}\n  hint: `ringboot serve --root DIR` \
             serves a directory by TFTP and HTTP without any configuration; --config FILE names \
             another file"
        ),
    };

    let mut config = match (&file, root) {
        (Some(file), _) => read_config_file(file)?,
        (None, Some(root)) => Config::for_root(root),
        (None, None) => bail!("nothing to serve"),
    };

    // With both options the root of the command line counts.
    if let Some(root) = root {
        config.root = root.to_path_buf();
    }
    Ok((config, file))
}
