//! Where log lines go: standard error for people, with priorities for the journal, or datagrams to syslog.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// The system's syslog socket.
const SYSLOG_SOCKET: &str = "/dev/log";
/// Names another socket in tests.
const SYSLOG_SOCKET_VARIABLE: &str = "RINGBOOT_SYSLOG_SOCKET";
/// How long a line waits for a syslog daemon that does not read; then it goes to standard error.
const SYSLOG_WAIT: Duration = Duration::from_millis(200);

/// Starts logging for the whole process. `facility` sends lines to syslog (RFC 5424 section 6.2.1 has the numbers). READY is no
/// log line: it goes to standard output.
pub fn start(level: Level, facility: Option<u8>) {
    let format = tracing_subscriber::fmt().with_max_level(level).with_target(false);
    // Another subscriber is there already only in tests that run several servers in one process.
    let _ = match facility {
        Some(facility) => {
            let path = std::env::var_os(SYSLOG_SOCKET_VARIABLE).map_or(PathBuf::from(SYSLOG_SOCKET), PathBuf::from);
            let lines = Prefixed { facility, tag: format!("ringboot[{}]: ", std::process::id()) };
            format.with_ansi(false).event_format(lines).with_writer(Syslog::new(path)).try_init()
        }
        None if stderr_is_the_journal() => {
            // The journal adds time and process itself, and reads a priority off the line (sd-daemon(3)).
            let lines = Prefixed { facility: 0, tag: String::new() };
            format.with_ansi(false).event_format(lines).with_writer(io::stderr).try_init()
        }
        None => format.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr).try_init(),
    };
}

/// Why the process ends: to standard error in any case, which the journal takes as errors, line by line, and to syslog.
pub fn last_words(text: &str, facility: Option<u8>) {
    if stderr_is_the_journal() {
        text.lines().for_each(|line| eprintln!("<{}>{line}", severity(Level::ERROR)));
    } else {
        eprintln!("ringboot: {text}");
    }
    if facility.is_some() {
        tracing::error!("{text}");
    }
}

/// systemd.exec(5): JOURNAL_STREAM names the device and inode of the journal's stream; it is inherited by children whose
/// standard error goes elsewhere, so the numbers decide.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let Ok(meta) = std::fs::File::from(stderr).metadata() else { return false };
    stream == format!("{}:{}", meta.dev(), meta.ino())
}

/// `<priority>tag: text`, once for each line of a message, as sd-daemon(3) and RFC 3164 read it. No time: whoever receives it
/// on the same machine puts his own, in his own zone.
struct Prefixed {
    facility: u8,
    tag: String,
}

impl<S, N> FormatEvent<S, N> for Prefixed
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let priority = u16::from(self.facility) * 8 + severity(*event.metadata().level());
        text.lines().try_for_each(|line| writeln!(out, "<{priority}>{}{line}", self.tag))
    }
}

/// RFC 5424 table 2.
fn severity(level: Level) -> u16 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

/// The socket of a syslog daemon, found again when the daemon was restarted.
struct Syslog {
    path: PathBuf,
    socket: Mutex<Option<UnixDatagram>>,
}

impl Syslog {
    fn new(path: PathBuf) -> Self {
        Self { path, socket: Mutex::new(None) }
    }

    fn send(&self, line: &[u8]) -> io::Result<()> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = socket.as_ref() {
            match open.send(line) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => {}
            }
        }
        let fresh = socket.insert(connect(&self.path)?);
        fresh.send(line).map(drop)
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SYSLOG_WAIT))?;
    socket.connect(path)?;
    Ok(socket)
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Lines<'a>;

    fn make_writer(&'a self) -> Lines<'a> {
        Lines(self)
    }
}

/// One message, which is written in one piece: each line becomes a datagram.
struct Lines<'a>(&'a Syslog);

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            // A line that syslog does not take is not lost while somebody reads standard error.
            if self.0.send(line).is_err() {
                io::stderr().write_all(&[line, b"\n"].concat())?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_restarted_syslog_daemon_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let syslog = Syslog::new(path.clone());
        assert!(syslog.send(b"nobody listens").is_err());
        for daemon in 1..=2 {
            let socket = UnixDatagram::bind(&path).unwrap();
            Lines(&syslog).write_all(b"<190>one\n<190>two\n").unwrap();
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
