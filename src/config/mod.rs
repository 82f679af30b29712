//! The configuration: `file` reads the keys that the operator wrote, `resolve` turns them into
//! `settings`, and `problem` describes each fault.

use std::path::{Path, PathBuf};
use std::sync::Arc;

mod file;
mod places;
mod problem;
pub mod reference;
mod resolve;
mod settings;

pub use file::find_value_kind;
pub use places::{ConfigPlace, ConfigPlaces};
pub use problem::{ConfigProblem, ConfigProblems};
pub use resolve::{ADMIN_SOCKET, exposes_machine};
pub use settings::{
    Config, DatapathChoice, DhcpSettings, HttpSettings, LogSettings, ServerSettings, TftpClient,
    TftpOptions, TftpSettings, TuningSettings,
};

impl Config {
    /// Reads and checks a configuration. `path` names the file in complaints; relative directories
    /// start from the directory of that file.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigProblems> {
        let mut complaints = problem::ConfigComplaints::new(path, text);
        let base = Path::new(path).parent().unwrap_or(Path::new(""));
        let config = match file::read_config_text(text, &mut complaints) {
            Some(file) => resolve::resolve_file(base, file, &mut complaints),
            None => resolve::resolve_defaults(),
        };
        let config = complaints.into_result(config)?;
        Ok(Self { places: Arc::new(ConfigPlaces::new(path, text)), ..config })
    }

    /// The same for the bytes of a file, which may not be UTF-8.
    pub fn parse_bytes(path: &str, bytes: &[u8]) -> Result<Self, ConfigProblems> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(path, text),
            Err(error) => Err(problem::build_encoding_problem(path, bytes, error.valid_up_to())),
        }
    }

    /// The configuration of `serve --root DIR` without a file: TFTP and HTTP for every client, no
    /// DHCP, no menu, no limits per address (T-65, H-34).
    pub fn for_root(root: impl Into<PathBuf>) -> Self {
        let mut config = Self { root: root.into(), ..resolve::resolve_defaults() };
        config.tftp.per_source = None;
        config.tftp.requests_per_second = None;
        config.http.per_source = None;
        config.server.admin_socket = None;
        config
    }
}

#[cfg(test)]
mod tests;
