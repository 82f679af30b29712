//! What a command writes to standard output, and the exit code that follows from it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::text;

/// Writes to standard output and ends with this code, or as [`written`] says.
pub(super) fn say(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()), code)
}

/// The same of what people read: on a terminal no line is wider than it is.
pub(super) fn tell(text: &str, code: ExitCode) -> ExitCode {
    let width = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
    match width {
        Some((terminal_size::Width(columns), _)) => say(&text::folded(text, columns.into()), code),
        None => say(text, code),
    }
}

/// This code, or 1 where the text did not get there: a full disk, say. Whoever has closed the
/// output (`| head`) wants no more, and that is fine.
pub(super) fn written(done: io::Result<()>, code: ExitCode) -> ExitCode {
    match done {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain!("writing to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// The one form of JSON, which the admin socket has too.
pub(super) fn in_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
