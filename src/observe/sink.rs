//! Where log lines go: standard error for people, with priorities for the journal, or datagrams to
//! syslog.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};

use std::sync::OnceLock;
use std::time::Duration;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::lines::{LogDestination, LogQueue};

/// The system's syslog socket.
const SYSLOG_SOCKET: &str = "/dev/log";
/// Environment variable with another path of that socket, for tests.
const SYSLOG_SOCKET_VARIABLE: &str = "RINGBOOT_SYSLOG_SOCKET";
/// How long a line waits for a syslog daemon that does not read; then it goes to standard error.
const SYSLOG_WAIT: Duration = Duration::from_millis(200);

/// How long the end of the process waits for its last lines to be written.
const LAST_LINES_MAX: Duration = Duration::from_secs(1);

/// The queue of this process; empty before [`start_logging`].
static LINES: OnceLock<LogQueue> = OnceLock::new();

/// True for a terminal with colours whose user did not set NO_COLOR (https://no-color.org).
fn wants_colours() -> bool {
    io::stderr().is_terminal()
        && has_colours(std::env::var_os("NO_COLOR"), std::env::var_os("TERM"))
}

fn has_colours(no_color: Option<OsString>, term: Option<OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty()) && term.is_none_or(|term| term != "dumb")
}

/// Starts logging for the whole process. Lines wait in a queue until [`start_log_writer`] is
/// called. `facility` sends lines to syslog (RFC 5424 section 6.2.1 has the numbers). READY is no
/// log line: it goes to standard output.
pub fn start_logging(level: Level, facility: Option<u8>) {
    // A facility means syslog; standard error otherwise.
    let destination: Box<dyn LogDestination> = match facility {
        Some(_) => {
            let path = std::env::var_os(SYSLOG_SOCKET_VARIABLE)
                .map_or(PathBuf::from(SYSLOG_SOCKET), PathBuf::from);
            Box::new(SyslogSocket::new(path))
        }
        None => Box::new(StandardError),
    };
    if LINES.set(LogQueue::new(destination)).is_err() {
        return;
    }

    let format = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .log_internal_errors(false)
        .with_writer(|| LogQueueWriter);
    // `try_init` fails only in tests that run several servers in one process.
    let _ = match facility {
        Some(facility) => {
            let lines =
                PrefixedFormat { facility, tag: format!("ringboot[{}]: ", std::process::id()) };
            format.with_ansi(false).event_format(lines).try_init()
        }
        None if is_stderr_journal() => {
            // The systemd journal adds time and process itself, and reads a priority at the start
            // of the line (sd-daemon(3)).
            let lines = PrefixedFormat { facility: 0, tag: String::new() };
            format.with_ansi(false).event_format(lines).try_init()
        }
        None => format.with_ansi(wants_colours()).try_init(),
    };
    std::panic::set_hook(Box::new(log_panic));
}

/// Starts the thread that writes. It has the capabilities and privileges of the caller.
pub fn start_log_writer() {
    LINES.get().into_iter().for_each(LogQueue::start);
}

/// Log lines that were dropped because the queue was full, or that could not be written.
pub fn count_lost_lines() -> u64 {
    LINES.get().map_or(0, LogQueue::count_lost)
}

/// Waits at most `LAST_LINES_MAX` for the last lines. The process calls it before it ends.
pub fn flush_log() {
    LINES.get().into_iter().for_each(|lines| {
        lines.start();
        lines.wait_until_written(LAST_LINES_MAX);
    });
}

/// Writes why the process ends to standard error, and to syslog where the log goes there. The
/// systemd journal gets each line with the priority of an error.
pub fn log_last_words(text: &str, facility: Option<u8>) {
    let words = match is_stderr_journal() {
        true => text
            .lines()
            .map(|line| format!("<{}>{line}\n", map_syslog_severity(Level::ERROR)))
            .collect(),
        false => format!("ringboot: {text}\n"),
    };
    match LINES.get() {
        Some(lines) => lines.push_words(words.as_bytes()),
        // Logging has not started, so no serving thread can wait for this write.
        None => drop(io::stderr().write_all(words.as_bytes())),
    }
    if facility.is_some() {
        tracing::error!("{text}");
    }
    flush_log();
}

/// The panic hook: a panic goes into the log like every other line, without waiting.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(String::new, |location| format!(" at {location}"));
    let payload = panic.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let message = literal
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!("the thread {name} panicked{place}: {message}");
    if name == "main" {
        flush_log();
    }
}

/// Pushes each formatted message into the queue of the log thread.
struct LogQueueWriter;

impl Write for LogQueueWriter {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        if let Some(lines) = LINES.get() {
            lines.push(message);
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct StandardError;

impl LogDestination for StandardError {
    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        io::stderr().write_all(message)
    }
}

/// True where standard error is the systemd journal. JOURNAL_STREAM has the device and inode of the
/// journal's stream (systemd.exec(5)). A child process inherits the variable although its standard
/// error may go elsewhere, so this function compares the numbers.
fn is_stderr_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(meta) = std::fs::File::from(stderr).metadata() else { return false };
    stream == format!("{}:{}", meta.dev(), meta.ino())
}

/// `<priority>tag: text` for each line of a message, as sd-daemon(3) and RFC 3164 read it. Without
/// a time: the receiver on the same machine adds its own.
struct PrefixedFormat {
    facility: u8,
    tag: String,
}

impl<S, N> FormatEvent<S, N> for PrefixedFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let priority =
            u16::from(self.facility) * 8 + map_syslog_severity(*event.metadata().level());
        text.lines().try_for_each(|line| writeln!(out, "<{priority}>{}{line}", self.tag))
    }
}

/// The severity number of a level (RFC 5424 table 2).
fn map_syslog_severity(level: Level) -> u16 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The socket of a syslog daemon; a failed send connects again, since the daemon may have
/// restarted.
struct SyslogSocket {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl SyslogSocket {
    fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(open) = self.socket.as_ref() {
            match open.send(line) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            }
        }
        let fresh = self.socket.insert(connect_syslog(&self.path)?);
        fresh.send(line).map(drop)
    }
}

fn connect_syslog(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SYSLOG_WAIT))?;
    socket.connect(path)?;
    Ok(socket)
}

impl LogDestination for SyslogSocket {
    /// Sends each line as one datagram.
    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        for line in message.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            // A line that syslog does not accept goes to standard error instead.
            if self.send(line).is_err() {
                io::stderr().write_all(&[line, b"\n"].concat())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_said_no_gets_no_colours() {
        let of = |no_color: Option<&str>, term: Option<&str>| {
            has_colours(no_color.map(Into::into), term.map(Into::into))
        };
        assert!(of(None, None) && of(None, Some("xterm")) && of(Some(""), Some("xterm")));
        assert!(!of(Some("1"), Some("xterm")) && !of(Some("0"), None) && !of(None, Some("dumb")));
    }

    #[test]
    fn a_restarted_syslog_daemon_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut syslog = SyslogSocket::new(path.clone());
        assert!(syslog.send(b"nobody listens").is_err());
        for daemon in 1..=2 {
            let socket = UnixDatagram::bind(&path).unwrap();
            syslog.write(b"<190>one\n<190>two\n").unwrap();
            for expected in [&b"<190>one"[..], b"<190>two"] {
                let mut bytes = [0; 100];
                let len = socket.recv(&mut bytes).unwrap();
                assert_eq!(&bytes[..len], expected, "daemon {daemon}");
            }
            drop(socket);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
