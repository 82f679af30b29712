//! `ringboot completions` and `ringboot man`: what the shell and man(1) want, made from the command line's own definition.

use std::path::PathBuf;
use std::process::ExitCode;

use clap_complete::Shell;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArguments {
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArguments {
    /// Write ringboot.1 and a page for each command into this directory
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints the script.
pub(super) fn completions(arguments: &CompletionsArguments, command: &mut clap::Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "ringboot", &mut script);
    super::say(&String::from_utf8_lossy(&script), ExitCode::SUCCESS)
}

pub(super) fn man(arguments: &ManArguments, command: clap::Command) -> ExitCode {
    let mut page = Vec::new();
    let made = match &arguments.directory {
        Some(directory) => {
            std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory))
        }
        None => clap_mangen::Man::new(command).render(&mut page),
    };
    match made {
        Ok(()) => super::say(&String::from_utf8_lossy(&page), ExitCode::SUCCESS),
        Err(error) => {
            complain!("man: {error}");
            ExitCode::FAILURE
        }
    }
}
