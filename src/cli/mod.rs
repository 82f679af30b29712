//! One file per command, and the table of contents that picks one.

use std::process::ExitCode;

pub mod demo;

/// Parses argv and runs the command it names. Exit codes: 0 fine, 1 the answer is no, 2 wrong usage or configuration.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
