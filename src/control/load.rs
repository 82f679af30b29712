//! From a file, or from none, to a configuration: what `serve`, `check` and a reload read, with
//! what the command line says in its place.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tracing::Level;

use crate::config::{ADMIN_SOCKET, Config, ConfigProblems};

/// Read when neither --config nor --root is given.
pub const DEFAULT_CONFIG: &str = "/etc/ringboot/ringboot.toml";

/// The name of a configuration that is no file.
const STANDARD_INPUT: &str = "-";
/// From little to much.
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What goes before the configuration: the command line of `serve`.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub config: Option<PathBuf>,
    pub root: Option<PathBuf>,
    pub tftp: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub no_dhcp: bool,
    pub workers: Option<u16>,
    pub socket: Option<PathBuf>,
    pub log_level: Option<Level>,
    /// Levels more than the configuration says.
    pub verbose: u8,
}

impl Overrides {
    /// True where no file says what is served.
    pub fn is_by_root_alone(&self) -> bool {
        self.config.is_none() && self.root.is_some()
    }

    fn level(&self, configured: Level) -> Level {
        let place = LEVELS
            .iter()
            .position(|name| configured.as_str().eq_ignore_ascii_case(name))
            .unwrap_or(0);
        let more = LEVELS
            .get(place + usize::from(self.verbose))
            .or(LEVELS.last())
            .and_then(|name| name.parse().ok());
        self.log_level.or(more).unwrap_or(configured)
    }
}

/// The text of a configuration is wrong.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not right\n{0}")]
pub struct WrongText(pub ConfigProblems);

/// Reads and checks a configuration file; `-` is standard input, and relative names start from the
/// working directory then.
pub fn read_file(file: &Path) -> anyhow::Result<Config> {
    if file == Path::new(STANDARD_INPUT) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).context("reading standard input")?;
        return Ok(Config::parse_bytes("<stdin>", &bytes).map_err(WrongText)?);
    }
    let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(Config::parse_bytes(&file.to_string_lossy(), &bytes).map_err(WrongText)?)
}

/// The configuration of `serve` with these arguments, and the file that it comes from.
pub fn read(overrides: &Overrides) -> anyhow::Result<(Config, Option<PathBuf>)> {
    if overrides.config.as_deref() == Some(Path::new(STANDARD_INPUT)) {
        bail!(
            "a reload reads the configuration again, so it must be a file\n  hint: `ringboot check \
             --config -` reads standard input"
        );
    }
    let (mut config, file) = read_named(overrides.config.as_deref(), overrides.root.as_deref())?;
    if !overrides.tftp.is_empty() {
        config.tftp.listen.clone_from(&overrides.tftp);
    }
    if let Some(first) = overrides.http.first() {
        config.http.listen.clone_from(&overrides.http);
        config.snapshot.dhcp.http_port = first.port();
    }
    config.log.level = overrides.level(config.log.level);
    let usual = overrides.is_by_root_alone().then(|| PathBuf::from(ADMIN_SOCKET));
    config.server.admin_socket = overrides.socket.clone().or(config.server.admin_socket).or(usual);
    Ok((config, file))
}

/// The configuration that --config and --root ask for, and the file that it comes from.
pub fn read_named(
    file: Option<&Path>,
    root: Option<&Path>,
) -> anyhow::Result<(Config, Option<PathBuf>)> {
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
        (Some(file), _) => read_file(file)?,
        (None, Some(root)) => Config::for_root(root),
        (None, None) => bail!("nothing to serve"),
    };
    if let Some(root) = root {
        config.root = root.to_path_buf();
    }
    Ok((config, file))
}
