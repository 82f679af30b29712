//! One file per command, and the table of contents that picks one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Parser, Subcommand};

use crate::config::Config;

mod check;
mod demo;
mod dhcp;
mod json;
mod loader;
mod serve;

/// Read when neither --config nor --root is given.
const DEFAULT_CONFIG: &str = "/etc/ringboot/ringboot.toml";

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
    /// The whole product on this machine: a server, simulated machines, a report; no configuration, no root
    Demo(demo::Arguments),
}

/// Parses argv and runs the command it names. Exit codes: 0 fine, 1 the answer is no, 2 wrong usage or configuration.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Loader(arguments) => loader::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}

/// The configuration that --config and --root ask for, and the file that it comes from.
fn read(file: Option<&Path>, root: Option<&Path>) -> anyhow::Result<(Config, Option<PathBuf>)> {
    let file = match (file, root) {
        (Some(file), _) => Some(file.to_path_buf()),
        (None, Some(_)) => None,
        (None, None) if Path::new(DEFAULT_CONFIG).exists() => Some(PathBuf::from(DEFAULT_CONFIG)),
        (None, None) => bail!(
            "no configuration: there is no {DEFAULT_CONFIG}\n  hint: --root DIR takes a directory without any configuration, as \
             `ringboot serve --root DIR` serves it by TFTP and HTTP; --config FILE names another file"
        ),
    };
    let mut config = match (&file, root) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            Config::parse(&file.to_string_lossy(), &text)
                .map_err(|problems| anyhow!("the configuration is not right\n{problems}"))?
        }
        (None, Some(root)) => Config::for_root(root),
        (None, None) => bail!("no configuration"),
    };
    if let Some(root) = root {
        config.root = root.to_path_buf();
    }
    Ok((config, file))
}

/// Writes to standard output; whoever has closed it wants no more.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
