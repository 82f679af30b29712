//! How commands speak to the running server: one HTTP request on its admin socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use super::serve::DEFAULT_CONFIG;
use crate::config::{ADMIN_SOCKET, Config};

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which server a command speaks to.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The server's configuration file, which names its admin socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The admin socket itself, in place of the one that the configuration names
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Server {
    /// One request and its answer. An error means that no server was reached, or is the server's problem in its own words.
    pub(super) fn ask(&self, method: &str, path: &str) -> anyhow::Result<Value> {
        let socket = self.path()?;
        let mut stream = UnixStream::connect(&socket).with_context(|| {
            format!(
                "no server answers on {} (is `ringboot serve` running, and may you open its socket?)",
                socket.display()
            )
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("reading from {}", socket.display()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| anyhow!("the server's answer has no body"))?;
        let value: Value = serde_json::from_str(body).context("the server's answer is not JSON")?;
        if head.split_whitespace().nth(1) == Some("200") {
            return Ok(value);
        }
        let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        bail!("{}: {}", word("title"), word("detail"))
    }

    fn path(&self) -> anyhow::Result<PathBuf> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => self.configured(),
        }
    }

    fn configured(&self) -> anyhow::Result<PathBuf> {
        let file: &Path = &self.config;
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("reading {} (--config FILE or --socket PATH names another)", file.display()))?;
        let config = match Config::parse(&file.to_string_lossy(), &text) {
            Ok(config) => config,
            // The server runs with what the file said before: while it is being edited, status and why are wanted most.
            Err(_) if Path::new(ADMIN_SOCKET).exists() => return Ok(ADMIN_SOCKET.into()),
            Err(problems) => bail!("{problems}"),
        };
        match config.server.admin_socket {
            Some(socket) => Ok(socket),
            None => bail!("{} switches the admin socket off (admin-socket = \"\")", file.display()),
        }
    }
}
