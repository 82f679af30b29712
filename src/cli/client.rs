//! How commands reach what they ask about: one HTTP request on the admin socket, or, where no
//! server runs, the store that it left.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::types::ApiProblem;
use crate::config::ADMIN_SOCKET;
use crate::control::load::{DEFAULT_CONFIG, read_config_file};
use crate::store::{NoState, StateDirectory};

/// How long the server may take to answer; a backup of a large database on a slow disk is the
/// longest.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer in JSON larger than this (bytes) is none of the server's: 16,384 machines are a
/// quarter of it.
const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// What stands for itself in a path or a query (RFC 3986), hardware addresses as they are read.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// What a server is asked for.
#[derive(Clone, Debug)]
pub(super) struct Order {
    method: &'static str,
    path: String,
    /// In JSON.
    body: Option<String>,
}

impl Order {
    pub(super) fn get(path: &str) -> Self {
        Self { method: "GET", path: path.to_owned(), body: None }
    }

    pub(super) fn post(path: &str) -> Self {
        Self { method: "POST", ..Self::get(path) }
    }

    pub(super) fn put(path: &str) -> Self {
        Self { method: "PUT", ..Self::get(path) }
    }

    pub(super) fn delete(path: &str) -> Self {
        Self { method: "DELETE", ..Self::get(path) }
    }

    /// Something below that path.
    pub(super) fn below(mut self, name: impl ToString) -> Self {
        let name = name.to_string();
        self.path = format!("{}/{}", self.path, utf8_percent_encode(&name, ENCODED));
        self
    }

    /// A parameter of the query, where it has a value.
    pub(super) fn query(mut self, key: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            let value = value.to_string();
            let mark = if self.path.contains('?') { '&' } else { '?' };
            self.path =
                format!("{}{mark}{key}={}", self.path, utf8_percent_encode(&value, ENCODED));
        }
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> anyhow::Result<Self> {
        self.body = Some(serde_json::to_string(body)?);
        Ok(self)
    }
}

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
    pub(super) fn ask<T: DeserializeOwned>(&self, order: &Order) -> anyhow::Result<T> {
        let socket = self.path()?;
        Socket::reach(&socket).ok_or(NoServer(socket))?.ask(order)
    }

    /// One request for a command that has nothing else to do. Exit 1: no server was reached, or the
    /// server's problem is said; 2: usage or configuration.
    pub(super) fn carry_out<T: DeserializeOwned>(
        &self,
        order: &Order,
        tell: impl FnOnce(T) -> ExitCode,
    ) -> ExitCode {
        if let Err(error) = self.path() {
            complain!("{error:#}");
            return ExitCode::from(2);
        }
        match self.ask(order) {
            Ok(told) => tell(told),
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
pub(super) struct SocketPlace {
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
    Store(StateDirectoryArgument),
}

impl SocketPlace {
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
            return Ok(Source::Store(StateDirectoryArgument { path: state.clone() }));
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
            None => Source::Store(StateDirectoryArgument { path: config.state }),
        })
    }
}

/// What a server that answers on this socket says; None where there is none.
pub(super) fn told<T: DeserializeOwned>(
    socket: Option<&Path>,
    path: &str,
) -> Option<anyhow::Result<T>> {
    Some(Socket::reach(socket?)?.ask(&Order::get(path)))
}

/// A state directory that no server was reached for.
#[derive(Debug)]
pub(super) struct StateDirectoryArgument {
    path: PathBuf,
}

impl StateDirectoryArgument {
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

impl StateDirectoryArgument {
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

    /// One request and its answer; a problem is an error.
    pub(super) fn ask<T: DeserializeOwned>(self, order: &Order) -> anyhow::Result<T> {
        let answer = self.answer(order)?;
        if answer.status.is_success() { answer.read() } else { Err(answer.into_problem()) }
    }

    /// One request and its answer, a problem as well.
    pub(super) fn answer(self, order: &Order) -> anyhow::Result<Answer> {
        self.send(order)?.collect(order)
    }

    /// Writes what the server sends; an answer that is not whole is an error. Returns its length in
    /// bytes.
    pub(super) fn download(self, path: &str, into: &mut impl Write) -> anyhow::Result<u64> {
        let order = Order::get(path);
        let reply = self.send(&order)?;
        if !reply.status.is_success() {
            return Err(reply.collect(&order)?.into_problem());
        }
        let length = reply.length;
        let copied =
            io::copy(&mut reply.body.take(length), into).context("writing what the server sent")?;
        if copied != length {
            bail!("the server broke off after {copied} of {length} bytes");
        }
        Ok(copied)
    }

    fn send(self, order: &Order) -> anyhow::Result<Reply> {
        let shown = self.path.display().to_string();
        let mut stream = self.stream.with_context(|| {
            format!("{shown} cannot be opened: it is for root and the service's group")
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Order { method, path, body } = order;
        let mut request = format!("{method} {path} HTTP/1.0\r\n");
        if let Some(body) = body {
            let length = body.len();
            request += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        request = request + "\r\n" + body.as_deref().unwrap_or_default();
        stream.write_all(request.as_bytes()).with_context(|| format!("writing to {shown}"))?;
        Reply::read(shown, BufReader::new(stream))
    }
}

/// The head of an answer, and its body to read.
struct Reply {
    /// The socket.
    shown: String,
    status: StatusCode,
    length: u64,
    /// Who answered, and its version.
    server: Option<String>,
    body: BufReader<UnixStream>,
}

impl Reply {
    fn read(shown: String, mut stream: BufReader<UnixStream>) -> anyhow::Result<Self> {
        let (mut status, mut length, mut server) = (None, None, None);
        let mut line = String::new();
        while stream.read_line(&mut line).with_context(|| format!("reading from {shown}"))? > 2 {
            match line.split_once(':') {
                _ if status.is_none() => status = status_of(&line),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok();
                }
                Some((name, value)) if name.eq_ignore_ascii_case("server") => {
                    server = Some(value.trim().replace('/', " "));
                }
                _ => {}
            }
            line.clear();
        }
        match (status, length) {
            (Some(status), Some(length)) => {
                Ok(Self { shown, status, length, server, body: stream })
            }
            _ => bail!("what answers on {shown} is no ringboot"),
        }
    }

    fn collect(self, order: &Order) -> anyhow::Result<Answer> {
        let mut text = Vec::new();
        self.body
            .take(self.length.min(ANSWER_BYTES_MAX))
            .read_to_end(&mut text)
            .context("reading the server's answer")?;
        let asked = format!("{} {}", order.method, order.path);
        Ok(Answer { shown: self.shown, status: self.status, server: self.server, asked, text })
    }
}

/// Of `HTTP/1.0 200 OK`.
fn status_of(line: &str) -> Option<StatusCode> {
    line.split_whitespace().nth(1)?.parse().ok()
}

/// An answer that is there as a whole.
#[derive(Debug)]
pub(super) struct Answer {
    shown: String,
    pub(super) status: StatusCode,
    server: Option<String>,
    asked: String,
    text: Vec<u8>,
}

impl Answer {
    /// What it says. Another version may say it otherwise: the error names it.
    pub(super) fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.text).map_err(|error| {
            let server = self.server.as_deref().unwrap_or("a server that tells no version");
            anyhow!(
                "{server} answers on {}, and this is ringboot {}, which does not understand its \
                 answer to {}: {error}",
                self.shown,
                env!("CARGO_PKG_VERSION"),
                self.asked
            )
        })
    }

    /// A problem of RFC 9457 as an error.
    pub(super) fn into_problem(self) -> anyhow::Error {
        match self.read::<ApiProblem>() {
            Ok(problem) => anyhow!("{}: {}", problem.title, problem.detail),
            Err(error) => error,
        }
    }
}

/// An error with a way out, on a line of its own.
pub(super) fn hinted(error: &anyhow::Error, hint: &str) -> anyhow::Error {
    anyhow!("{error:#}\n  hint: {hint}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::api::types::{BootStory, ForgottenQuirk};

    #[test]
    fn names_and_queries_are_encoded() {
        let order = Order::get("/v1/leases")
            .query("state", Some("in-use"))
            .query("machine", None::<&str>)
            .query("subnet", Some("10.7.0.0/24"));
        assert_eq!(order.path, "/v1/leases?state=in-use&subnet=10.7.0.0%2F24");
        let order = Order::delete("/v1/quirks").below("pxe+uefi-x64");
        assert_eq!((order.method, order.path.as_str()), ("DELETE", "/v1/quirks/pxe%2Buefi-x64"));
        assert_eq!(Order::put("/v1/quirks").below("52:54:00").path, "/v1/quirks/52:54:00");
    }

    /// Answers one request with this head and body.
    fn told_by(head: &str, body: &str) -> Answer {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let length = body.len();
        let answer = format!("HTTP/1.0 200 OK\r\n{head}Content-Length: {length}\r\n\r\n{body}");
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            (&stream).write_all(answer.as_bytes()).unwrap();
        });
        let answer = Socket::reach(&path).unwrap().answer(&Order::get("/v1/any")).unwrap();
        server.join().unwrap();
        answer
    }

    #[test]
    fn what_a_newer_server_says_beside_is_left_aside() {
        let answer = told_by("", r#"{ "subject": "52:54:00", "not_known_yet": [1] }"#);
        let forgotten = answer.read::<ForgottenQuirk>().unwrap();
        assert_eq!(forgotten, ForgottenQuirk { subject: "52:54:00".to_owned() });
    }

    #[test]
    fn an_answer_that_is_not_understood_names_the_version_of_the_server() {
        let text = r#"{ "machine": "52:54:00:00:00:01" }"#;
        let said = told_by("Server: ringboot/9.8.7\r\n", text).read::<BootStory>().unwrap_err();
        for words in ["ringboot 9.8.7 answers on", "missing field `began_ms`", "GET /v1/any"] {
            assert!(said.to_string().contains(words), "{said}");
        }
        let said = told_by("", text).read::<BootStory>().unwrap_err().to_string();
        assert!(said.starts_with("a server that tells no version answers on"), "{said}");
    }
}
