//! One file per command, and the table of contents that picks one.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use serde_json::Value;

use crate::control::templates;

mod backup;
mod check;
mod client;
mod control;
mod demo;
mod dhcp;
mod lease;
mod live;
mod loader;
mod look;
mod machines;
mod manual;
mod now;
mod quirk;
mod reload;
mod resources;
mod serve;
mod status;
mod walks;
mod why;

/// One program that boots a rack: DHCP, TFTP, HTTP, boot menus and answer files.
#[derive(Debug, Parser)]
#[command(
    name = "ringboot",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve boot files (and addresses, where the configuration names a subnet) until SIGTERM
    Serve(serve::Arguments),
    /// Look at configuration, files, ports and firewall without starting anything
    Check(check::Arguments),
    /// Boot loaders that are found on this machine
    Loader(loader::Arguments),
    /// What the running server does: sockets, subnets, cores, counters
    Status(status::Arguments),
    /// Who has which address, what was declined and who is silenced for it; let go of an address
    Lease(lease::Arguments),
    /// What the running server knows of other DHCP servers on its subnets; forget it, and look again
    Look(look::Arguments),
    /// Let the running server check its configuration and publish it; on error it keeps the old one
    Reload(reload::Arguments),
    /// Tell the last boot of one machine, and where it stopped
    Why(why::Arguments),
    /// What firmware cannot do although it asks for it: list, pin and forget limits of machines, makers and classes
    Quirk(quirk::Arguments),
    /// The whole product on this machine: a server, simulated machines, a report; no configuration, no root
    Demo(demo::Arguments),
    /// Copy the lease database into a new file, while the server runs or not
    Backup(backup::BackupArguments),
    /// Put a backup in the place of the lease database of a server that does not run
    Restore(backup::RestoreArguments),
    /// Print what makes a shell complete ringboot's commands and options
    Completions(manual::CompletionsArguments),
    /// Print the manual page, or write all of them into a directory
    Man(manual::ManArguments),
}

/// Parses argv and runs the command it names. Exit codes: 0 fine, 1 the answer is no, 2 wrong usage or configuration.
pub fn main() -> ExitCode {
    // Not for people: what `serve` and `check` start to render templates.
    if std::env::args_os().nth(1).is_some_and(|command| command == templates::COMMAND) {
        return if templates::serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // --help and --version, too.
        Err(said) if !said.use_stderr() => return written(said.print(), ExitCode::SUCCESS),
        Err(wrong) => wrong.exit(),
    };
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Loader(arguments) => loader::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Lease(arguments) => lease::run(&arguments),
        Command::Look(arguments) => look::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Why(arguments) => why::run(&arguments),
        Command::Quirk(arguments) => quirk::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Backup(arguments) => backup::back_up(&arguments),
        Command::Restore(arguments) => backup::restore(&arguments),
        Command::Completions(arguments) => manual::completions(&arguments, &mut Arguments::command()),
        Command::Man(arguments) => manual::man(&arguments, Arguments::command()),
    }
}

/// Writes to standard output and ends with this code, or as [`written`] says.
fn say(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()), code)
}

/// This code, or 1 where the text did not get there: a full disk, say. Whoever has closed the output (`| head`) wants no more, and that is
/// fine.
fn written(done: io::Result<()>, code: ExitCode) -> ExitCode {
    match done {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("ringboot: writing to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}

/// The one form of JSON, which the admin socket has too.
fn in_json(value: &Value) -> String {
    format!("{value:#}\n")
}
