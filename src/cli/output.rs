//! The standard output of commands, and the exit code that follows from it.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::text;

/// Writes to standard output and ends with this code, or as [`written`] says.
pub(super) fn say(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()), code)
}

/// The same for text that people read: folds lines to the width of the terminal.
pub(super) fn say_folded(text: &str, code: ExitCode) -> ExitCode {
    let width = terminal_size::terminal_size().filter(|_| io::stdout().is_terminal());
    match width {
        Some((terminal_size::Width(columns), _)) => {
            say(&text::fold_lines(text, columns.into()), code)
        }
        None => say(text, code),
    }
}

/// This code, or 1 where the text could not be written, as on a full disk. A reader that closed the
/// pipe (`| head`) is no error.
pub(super) fn written(done: io::Result<()>, code: ExitCode) -> ExitCode {
    match done {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain!("writing to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// JSON in the form of the admin socket.
pub(super) fn in_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
