//! One file per command, and the table of contents that picks one.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod demo;
mod dhcp;
mod serve;
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
    /// Tell the last boot of one machine, and where it stopped
    Why(why::Arguments),
    /// The whole product on this machine: a server, simulated machines, a report; no configuration, no root
    Demo(demo::Arguments),
}

/// Parses argv and runs the command it names. Exit codes: 0 fine, 1 the answer is no, 2 wrong usage or configuration.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Why(arguments) => why::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}
