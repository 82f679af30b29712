//! The client of the admin socket: one HTTP request for each command, or the store of a stopped
//! server.

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

/// How long the server may take to answer: a backup of a large database on a slow disk takes the
/// longest.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer in JSON, in bytes: the list of 16,384 machines is a quarter of it.
const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3) and the colons of hardware
/// addresses.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// One request to a server.
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

    /// Appends a component to the path.
    pub(super) fn below(mut self, name: impl ToString) -> Self {
        let name = name.to_string();
        self.path = format!("{}/{}", self.path, utf8_percent_encode(&name, ENCODED));
        self
    }

    /// Adds a parameter to the query, if it has a value.
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

/// The options that name the server of a command.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The server's configuration file, which names its admin socket
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The admin socket itself, instead of the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// No process answers on the admin socket.
#[derive(Debug, thiserror::Error)]
#[error("no server answers on {}: is `ringboot serve` running?", .0.display())]
pub(super) struct NoServer(pub(super) PathBuf);

impl Server {
    /// The server of this configuration file.
    pub(super) fn new(config: PathBuf, socket: Option<PathBuf>) -> Self {
        Self { config, socket }
    }

    /// Sends one request and reads its answer. An error: no server was reached, or it is the
    /// problem that the server reported.
    pub(super) fn ask<T: DeserializeOwned>(&self, order: &Order) -> anyhow::Result<T> {
        let socket = self.path()?;
        Socket::reach(&socket).ok_or(NoServer(socket))?.ask(order)
    }

    /// Runs a command that consists of one request. Exit 1: no server was reached, or it reported a
    /// problem; 2: usage or configuration.
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
            // The server still runs with the former file: `status` and `why` are needed most while
            // the file is edited. The socket of another file than the usual one is unknown.
            Err(_)
                if self.config == Path::new(DEFAULT_CONFIG) && Path::new(ADMIN_SOCKET).exists() =>
            {
                return Ok(ADMIN_SOCKET.into());
            }
            Err(error) => {
                return Err(with_hint(
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

/// The options that name the server of a command, or the store of a stopped server.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SocketPlace {
    /// Configuration file that names admin socket and state directory [default:
    /// /etc/ringboot/ringboot.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin socket itself, instead of the configured one
    #[arg(long, value_name = "PATH", conflicts_with = "state")]
    socket: Option<PathBuf>,
    /// Read this state directory, and ask no server
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state: Option<PathBuf>,
}

/// The source of what a command shows or changes.
#[derive(Debug)]
pub(super) enum Source {
    Server(Socket),
    Store(StateDirectoryArgument),
}

impl SocketPlace {
    /// Runs a command's work with its source, and prints its error. Exit 1: the work failed; 2:
    /// usage or configuration, and nothing was done.
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

    /// The server if one answers, else its store. An error is one of usage or of the configuration.
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
                    // The server still runs with the former file, and so with the usual socket:
                    // commands must work while the file is being edited.
                    let is_usual = self.socket.is_none() && self.config.is_none();
                    let usual = is_usual.then(|| Socket::reach(Path::new(ADMIN_SOCKET))).flatten();
                    let hint = "--config FILE names another file, --state DIR the directory itself";
                    return usual.map(Source::Server).ok_or_else(|| with_hint(&error, hint));
                }
            };

        // The operator named a socket, and no process answers there. The socket of the file would
        // be another server.
        let configured = config.server.admin_socket.filter(|_| self.socket.is_none());
        Ok(match configured.as_deref().and_then(Socket::reach) {
            Some(server) => Source::Server(server),
            None => Source::Store(StateDirectoryArgument { path: config.state }),
        })
    }
}

/// The answer of the server on this socket; None where no server answers.
pub(super) fn ask_if_running<T: DeserializeOwned>(
    socket: Option<&Path>,
    path: &str,
) -> Option<anyhow::Result<T>> {
    Some(Socket::reach(socket?)?.ask(&Order::get(path)))
}

/// The state directory of a server that was not reached.
#[derive(Debug)]
pub(super) struct StateDirectoryArgument {
    path: PathBuf,
}

impl StateDirectoryArgument {
    /// Reads the directory under its lock. Gives files that SQLite created beside a database to the
    /// owner of the directory: the service could not open files of root.
    pub(super) fn visit<T>(
        &self,
        look: impl FnOnce(&Path) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        if !self.path.exists() {
            // Reading must not create a directory; `look` reports what is missing.
            return look(&self.path);
        }
        let lock = match StateDirectory::lock(&self.path) {
            Ok(lock) => Some(lock),
            // A server without an admin socket runs: SQLite lets others read beside it.
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
    /// Changes the directory under its lock; an error while a server runs.
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
                    "a server that was not reached runs with {}: --socket PATH names its admin \
                     socket",
                    path.display()
                )
            }
            lock => lock?,
        };

        // After an error too: SQLite may have made files, which the service could not open if root
        // owned them.
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
    /// An error: the socket exists, but this user may not connect.
    stream: io::Result<UnixStream>,
}

impl Socket {
    /// Connects to the socket. None: no process listens on it.
    pub(super) fn reach(path: &Path) -> Option<Self> {
        let stream = UnixStream::connect(path);
        let no_listener = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        if stream.as_ref().is_err_and(|error| no_listener.contains(&error.kind())) {
            return None;
        }
        Some(Self { path: path.to_owned(), stream })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends one request and reads its answer; a problem is an error.
    pub(super) fn ask<T: DeserializeOwned>(self, order: &Order) -> anyhow::Result<T> {
        let answer = self.exchange(order)?;
        if answer.status.is_success() { answer.read() } else { Err(answer.into_problem()) }
    }

    /// Sends one request and returns its answer, also a problem.
    pub(super) fn exchange(self, order: &Order) -> anyhow::Result<Answer> {
        self.send(order)?.collect(order)
    }

    /// Writes the body of an answer into `into`; an incomplete body is an error. Returns its length
    /// in bytes.
    pub(super) fn download(self, path: &str, into: &mut impl Write) -> anyhow::Result<u64> {
        let order = Order::get(path);
        let reply = self.send(&order)?;
        if !reply.status.is_success() {
            return Err(reply.collect(&order)?.into_problem());
        }
        let length = reply.length;
        let copied = io::copy(&mut reply.body.take(length), into)
            .context("copying the answer of the server")?;
        if copied != length {
            bail!("the server closed the connection after {copied} of {length} bytes");
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

/// The head of an answer; its body is still in the socket.
struct Reply {
    /// The path of the socket, for errors.
    shown: String,
    status: StatusCode,
    length: u64,
    /// The program and its version, from the header `Server`.
    server: Option<String>,
    body: BufReader<UnixStream>,
}

impl Reply {
    fn read(shown: String, mut stream: BufReader<UnixStream>) -> anyhow::Result<Self> {
        let (mut status, mut length, mut server) = (None, None, None);
        let mut line = String::new();
        // The line that ends the head has two bytes, CR LF. No byte is the end of the stream.
        while stream.read_line(&mut line).with_context(|| format!("reading from {shown}"))? > 2 {
            match line.split_once(':') {
                _ if status.is_none() => status = parse_status_line(&line),
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
            _ => bail!("the process that answers on {shown} is not ringboot"),
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

/// The status code in `HTTP/1.0 200 OK`.
fn parse_status_line(line: &str) -> Option<StatusCode> {
    line.split_whitespace().nth(1)?.parse().ok()
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    shown: String,
    pub(super) status: StatusCode,
    server: Option<String>,
    asked: String,
    text: Vec<u8>,
}

impl Answer {
    /// Parses the JSON. Another version may have another form: the error names both versions.
    pub(super) fn read<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.text).map_err(|error| {
            let server = self.server.as_deref().unwrap_or("a server without a version");
            anyhow!(
                "{server} answers on {}, and this is ringboot {}, which cannot read its answer to \
                 {}: {error}",
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

/// An error with a hint on a line of its own.
pub(super) fn with_hint(error: &anyhow::Error, hint: &str) -> anyhow::Error {
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
        let answer = Socket::reach(&path).unwrap().exchange(&Order::get("/v1/any")).unwrap();
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
        assert!(said.starts_with("a server without a version answers on"), "{said}");
    }
}
