//! One file per command, and the table of contents that picks one.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::{say, written};
use crate::render;

/// Says on standard error what is wrong. Where nobody takes it (a full disk, a reader that is
/// gone), the exit code still tells.
macro_rules! complain {
    ($($said:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "ringboot: {}", format_args!($($said)*));
    }};
}

mod backup;
mod check;
mod client;
mod configuration_page;
mod demo;
mod exit;
mod lease;
mod live;
mod loader;
mod look;
mod machine_list;
pub mod manual;
mod output;
mod quirk;
mod reload;
mod serve;
mod status;
mod text;
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
    /// Every machine that the server knows and where it stands: failed, booting, at its menu,
    /// booted
    Machines(machine_list::Arguments),
    /// Who has which address, what was declined and who is silenced for it; let go of an address
    Lease(lease::Arguments),
    /// What the running server knows of other DHCP servers on its subnets; forget it, and look
    /// again
    Look(look::Arguments),
    /// Let the running server check its configuration and publish it; on error it keeps the old one
    Reload(reload::Arguments),
    /// Tell the last boot of one machine, and where it stopped
    Why(why::Arguments),
    /// What firmware cannot do although it asks for it: list, pin and forget limits of machines,
    /// makers and classes
    Quirk(quirk::Arguments),
    /// The whole product on this machine: a server, simulated machines, a report; no configuration,
    /// no root
    Demo(demo::Arguments),
    /// Copy the lease database into a new file, while the server runs or not
    Backup(backup::BackupArguments),
    /// Put a backup in the place of the lease database of a server that does not run
    Restore(backup::RestoreArguments),
    /// Print what makes a shell complete ringboot's commands and options
    Completions(manual::CompletionsArguments),
    /// Print the manual page, or write all of them into a directory
    Man(ManPages),
}

/// Pages of commands, and of the configuration.
#[derive(Debug, clap::Args)]
struct ManPages {
    #[command(flatten)]
    manual: manual::ManArguments,
    /// Print what the configuration file may say, every key of it: ringboot.toml(5), which a DIR
    /// gets too
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        default_missing_value = "roff",
        conflicts_with = "directory"
    )]
    configuration: Option<configuration_page::Format>,
}

/// Parses argv and runs the command it names. The exit codes are in `exit::TABLE`.
pub fn main() -> ExitCode {
    // Not for people: what `serve` and `check` start to render templates.
    if std::env::args_os().nth(1).is_some_and(|command| command == render::COMMAND) {
        return if render::serve_templates().is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let parsed =
        command_line().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
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
        Command::Machines(arguments) => machine_list::run(&arguments),
        Command::Lease(arguments) => lease::run(&arguments),
        Command::Look(arguments) => look::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Why(arguments) => why::run(&arguments),
        Command::Quirk(arguments) => quirk::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Backup(arguments) => backup::back_up(&arguments),
        Command::Restore(arguments) => backup::restore(&arguments),
        Command::Completions(arguments) => {
            let script = manual::completions(&arguments, command_line());
            say(&String::from_utf8_lossy(&script), ExitCode::SUCCESS)
        }
        Command::Man(arguments) => man(&arguments),
    }
}

fn man(arguments: &ManPages) -> ExitCode {
    if let Some(format) = arguments.configuration {
        return say(&configuration_page::page(format), ExitCode::SUCCESS);
    }
    let written = manual::man(&arguments.manual, command_line()).and_then(|page| {
        let page_5 = configuration_page::page(configuration_page::Format::Roff);
        arguments
            .manual
            .directory()
            .map_or(Ok(()), |path| std::fs::write(path.join(configuration_page::FILE), page_5))?;
        Ok(page)
    });
    match written {
        Ok(page) => say(&String::from_utf8_lossy(&page), ExitCode::SUCCESS),
        Err(error) => {
            complain!("man: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> clap::Command {
    exit::described(Arguments::command())
}
