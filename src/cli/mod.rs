//! The command line: one file for each command, and the choice among them.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::{say, written};
use crate::render;

/// Prints an error to standard error. Where that fails (a full disk, a closed pipe), the exit code
/// still shows the error.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "ringboot: {}", format_args!($($text)*));
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
    /// Check configuration, files, ports and firewall without starting anything
    Check(check::Arguments),
    /// List the boot loaders of this machine
    Loader(loader::Arguments),
    /// Show what the running server does: sockets, subnets, cores, counters
    Status(status::Arguments),
    /// List every machine that the server knows with its state: failed, booting, at its menu,
    /// booted
    Machines(machine_list::Arguments),
    /// List leases, declined addresses and the machines limited for them; free an address
    Lease(lease::Arguments),
    /// Show what the running server knows of other DHCP servers on its subnets; look again
    Look(look::Arguments),
    /// Make the running server read its configuration again; after an error it keeps the old one
    Reload(reload::Arguments),
    /// Show the last boot of one machine, and where it stopped
    Why(why::Arguments),
    /// List, pin and forget limits of firmware that cannot do what it negotiates
    Quirk(quirk::Arguments),
    /// Run a server and simulated machines on this machine, and report; needs no configuration and
    /// no root
    Demo(demo::Arguments),
    /// Copy the lease database into a new file; the server may run
    Backup(backup::BackupArguments),
    /// Replace the lease database of a stopped server by a backup
    Restore(backup::RestoreArguments),
    /// Print the script by which a shell completes ringboot's commands and options
    Completions(manual::CompletionsArguments),
    /// Print the manual page, or write all of them into a directory
    Man(ManPages),
}

/// Pages of commands, and of the configuration.
#[derive(Debug, clap::Args)]
struct ManPages {
    #[command(flatten)]
    manual: manual::ManArguments,
    /// Print the manual page of the configuration file with every key, ringboot.toml(5); DIR gets
    /// it too
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        default_missing_value = "roff",
        conflicts_with = "directory"
    )]
    configuration: Option<configuration_page::Format>,
}

/// Parses argv and runs its command. The exit codes are in `exit::TABLE`.
pub fn main() -> ExitCode {
    // No command for people: `serve` and `check` start it to render templates.
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
        // --help and --version come as an error too.
        Err(help) if !help.use_stderr() => return written(help.print(), ExitCode::SUCCESS),
        Err(error) => error.exit(),
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
            let script = manual::generate_completions(&arguments, command_line());
            say(&String::from_utf8_lossy(&script), ExitCode::SUCCESS)
        }
        Command::Man(arguments) => man(&arguments),
    }
}

fn man(arguments: &ManPages) -> ExitCode {
    if let Some(format) = arguments.configuration {
        return say(&configuration_page::render_page(format), ExitCode::SUCCESS);
    }
    let written = manual::generate_man(&arguments.manual, command_line()).and_then(|page| {
        let page_5 = configuration_page::render_page(configuration_page::Format::Roff);
        arguments
            .manual
            .directory()
            .map_or(Ok(()), |path| std::fs::write(path.join(configuration_page::FILE), page_5))?;
        Ok(page)
    });
    match written {
        Ok(render_page) => say(&String::from_utf8_lossy(&render_page), ExitCode::SUCCESS),
        Err(error) => {
            complain!("man: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command_line() -> clap::Command {
    exit::describe_codes(Arguments::command())
}
