//! How commands reach what they ask about: one HTTP request on the admin socket, or, where no
//! server runs, the store that it left.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::StatusCode;
use serde_json::Value;

use crate::api::admin_socket::Answer;
use crate::config::ADMIN_SOCKET;
use crate::control::load::{DEFAULT_CONFIG, read_config_file};
use crate::store::{NoState, StateDirectory};

/// How long the server may take to answer; a backup of a large database on a slow disk is the
/// longest.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer in JSON larger than this (bytes) is none of the server's: 16,384 machines are a
/// quarter of it.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

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

/// Nobody answers where a server would.
#[derive(Debug, thiserror::Error)]
#[error("no server answers on {}: is `ringboot serve` running?", .0.display())]
pub(super) struct NoServer(pub(super) PathBuf);

impl Server {
    /// The server of this configuration file.
    pub(super) fn of(config: PathBuf, socket: Option<PathBuf>) -> Self {
        Self { config, socket }
    }

    /// One request and its answer. An error means that no server was reached, or is the server's
    /// problem in its own words.
    pub(super) fn ask(&self, method: &str, path: &str) -> anyhow::Result<Value> {
        let socket = self.path()?;
        let server = Socket::reach(&socket).ok_or(NoServer(socket))?;
        body(server.ask(method, path)?)
    }

    /// One request for a command that has nothing else to do. Exit 1: no server was reached, or the
    /// server's problem is said; 2: usage or configuration.
    pub(super) fn carry_out(
        &self,
        method: &str,
        path: &str,
        tell: impl FnOnce(&Value) -> ExitCode,
    ) -> ExitCode {
        if let Err(error) = self.path() {
            complain!("{error:#}");
            return ExitCode::from(2);
        }
        match self.ask(method, path) {
            Ok(told) => tell(&told),
            Err(error) => {
                complain!("{error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let config = match read_config_file(&self.config) {
            Ok(config) => config,
            // The server runs with what the file said before: while it is being edited, status and
            // why are wanted most. Of another file than the usual one nobody knows where its server
            // listens.
            Err(_)
                if self.config == Path::new(DEFAULT_CONFIG) && Path::new(ADMIN_SOCKET).exists() =>
            {
                return Ok(ADMIN_SOCKET.into());
            }
            Err(error) => {
                return Err(hinted(
                    &error,
                    "--config FILE names another file, --socket PATH the socket itself",
                ));
            }
        };
        match config.server.admin_socket {
            Some(socket) => Ok(socket),
            None => bail!(
                "{} switches the admin socket off (admin-socket = \"\")",
                self.config.display()
            ),
        }
    }
}

/// Which server a command speaks to, and where the store is when that server does not run.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Place {
    /// Configuration file that names admin socket and state directory [default:
    /// /etc/ringboot/ringboot.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin socket itself, in place of the one that the configuration names
    #[arg(long, value_name = "PATH", conflicts_with = "state")]
    socket: Option<PathBuf>,
    /// Ask no server, and read this state directory
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state: Option<PathBuf>,
}

/// Where a command finds what it wants.
#[derive(Debug)]
pub(super) enum Source {
    Server(Socket),
    Store(State),
}

impl Place {
    /// Does a command's work there, and says its error. Exit 1: the work failed; 2: usage or
    /// configuration, and nothing was done.
    pub(super) fn carry_out(
        &self,
        work: impl FnOnce(Source) -> anyhow::Result<ExitCode>,
    ) -> ExitCode {
        let (code, done) = match self.source() {
            Ok(source) => (ExitCode::FAILURE, work(source)),
            Err(error) => (ExitCode::from(2), Err(error)),
        };
        done.unwrap_or_else(|error| {
            complain!("{error:#}");
            code
        })
    }

    /// The server where one answers, else its store. An error is one of usage or of the
    /// configuration.
    pub(super) fn source(&self) -> anyhow::Result<Source> {
        if let Some(state) = &self.state {
            return Ok(Source::Store(State { path: state.clone() }));
        }
        if let Some(server) = self.socket.as_deref().and_then(Socket::reach) {
            return Ok(Source::Server(server));
        }
        let config =
            match read_config_file(self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))) {
                Ok(config) => config,
                Err(error) => {
                    let is_usual = self.socket.is_none() && self.config.is_none();
                    let usual = is_usual.then(|| Socket::reach(Path::new(ADMIN_SOCKET))).flatten();
                    let hint = "--config FILE names another file, --state DIR the directory itself";
                    return usual.map(Source::Server).ok_or_else(|| hinted(&error, hint));
                }
            };
        let configured = config.server.admin_socket.filter(|_| self.socket.is_none());
        Ok(match configured.as_deref().and_then(Socket::reach) {
            Some(server) => Source::Server(server),
            None => Source::Store(State { path: config.state }),
        })
    }
}

/// What a server that answers on this socket says; None where there is none, or where it has no
/// such answer for us.
pub(super) fn told(socket: Option<&Path>, path: &str) -> Option<Value> {
    let answer = Socket::reach(socket?)?.ask("GET", path).ok()?;
    answer.status.is_success().then_some(answer.body)
}

/// A state directory that no server was reached for.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
}

impl State {
    /// Looks into it, under its lock. Whatever SQLite lays beside a database meanwhile belongs to
    /// the owner of the directory afterwards: what root leaves behind, the service could not open.
    pub(super) fn visit<T>(
        &self,
        look: impl FnOnce(&Path) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if !self.path.exists() {
            // Asking makes no directory; `look` says what is missing.
            return look(&self.path);
        }
        let lock = match StateDirectory::lock(&self.path) {
            Ok(lock) => Some(lock),
            // A server that has no admin socket: SQLite lets others read beside it.
            Err(NoState::InUse(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let seen = look(&self.path);
        StateDirectory::give_all_to_owner(&self.path)
            .with_context(|| format!("giving the files in {} to its owner", self.path.display()))?;
        drop(lock);
        seen
    }
}

impl State {
    /// Changes it, under its lock: not where a server runs.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&StateDirectory) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if !self.path.exists() {
            bail!("there is no state directory {}; --state DIR names another", self.path.display());
        }
        let state = match StateDirectory::lock(&self.path) {
            Err(NoState::InUse(path)) => {
                bail!(
                    "a server that cannot be reached runs with {}: --socket PATH names its admin \
                     socket",
                    path.display()
                )
            }
            lock => lock?,
        };
        let changed = change(&state);
        StateDirectory::give_all_to_owner(&self.path)
            .with_context(|| format!("giving the files in {} to its owner", self.path.display()))?;
        changed
    }
}

/// A connection to a server's admin socket, for one request.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// An error: somebody answers there, and not to us.
    stream: io::Result<UnixStream>,
}

impl Socket {
    /// None: nobody answers there.
    pub(super) fn reach(path: &Path) -> Option<Self> {
        let stream = UnixStream::connect(path);
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        if stream.as_ref().is_err_and(|error| nobody.contains(&error.kind())) {
            return None;
        }
        Some(Self { path: path.to_owned(), stream })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One request and its answer in JSON, a problem as well.
    pub(super) fn ask(self, method: &str, path: &str) -> anyhow::Result<Answer> {
        let (status, length, mut body) = self.send(method, path)?;
        read_json(status, length, &mut body)
    }

    /// Writes what the server sends; an answer that is not whole is an error. Returns its length in
    /// bytes.
    pub(super) fn download(self, path: &str, into: &mut impl Write) -> anyhow::Result<u64> {
        let (status, length, mut body) = self.send("GET", path)?;
        if !status.is_success() {
            return Err(problem(&read_json(status, length, &mut body)?.body));
        }
        let copied =
            io::copy(&mut body.take(length), into).context("writing what the server sent")?;
        if copied != length {
            bail!("the server broke off after {copied} of {length} bytes");
        }
        Ok(copied)
    }

    fn send(
        self,
        method: &str,
        path: &str,
    ) -> anyhow::Result<(StatusCode, u64, BufReader<UnixStream>)> {
        let shown = self.path.display().to_string();
        let reading = || format!("reading from {shown}");
        let mut stream = self.stream.with_context(|| {
            format!("{shown} cannot be opened: it is for root and the service's group")
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.0\r\n\r\n")
            .with_context(|| format!("writing to {shown}"))?;
        let mut stream = BufReader::new(stream);
        let (mut status, mut length, mut line) = (None, None, String::new());
        while stream.read_line(&mut line).with_context(reading)? > 2 {
            if status.is_none() {
                status =
                    line.split_whitespace().nth(1).and_then(|code| code.parse::<StatusCode>().ok());
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
            line.clear();
        }
        match (status, length) {
            (Some(status), Some(length)) => Ok((status, length, stream)),
            _ => bail!("what answers on {shown} is no ringboot"),
        }
    }
}

fn read_json(
    status: StatusCode,
    length: u64,
    body: &mut BufReader<UnixStream>,
) -> anyhow::Result<Answer> {
    let mut bytes = Vec::new();
    body.take(length.min(ANSWER_BYTES_MAX))
        .read_to_end(&mut bytes)
        .context("reading the server's answer")?;
    let body = serde_json::from_slice(&bytes).context("the server's answer is not JSON")?;
    Ok(Answer { status, tag: None, body })
}

/// The body of an answer; a problem is an error.
pub(super) fn body(answer: Answer) -> anyhow::Result<Value> {
    if answer.status.is_success() { Ok(answer.body) } else { Err(problem(&answer.body)) }
}

/// An error with a way out, on a line of its own.
pub(super) fn hinted(error: &anyhow::Error, hint: &str) -> anyhow::Error {
    anyhow!("{error:#}\n  hint: {hint}")
}

/// A problem of RFC 9457 as an error.
fn problem(body: &Value) -> anyhow::Error {
    let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    anyhow!("{}: {}", word("title"), word("detail"))
}
