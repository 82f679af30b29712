//! Shell completions and manual pages from the definition of a command line, for ringboot and
//! loadtest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    /// The shell that reads the script
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// Write the program's page and one for each command into this directory
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl ManArguments {
    /// The directory for all pages. None: one page goes to standard output.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

/// The script by which a shell completes the commands and options of a program.
pub fn generate_completions(
    arguments: &CompletionsArguments,
    mut command: clap::Command,
) -> Vec<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    script
}

/// The program's page; empty where all pages were written into a directory.
pub fn generate_man(arguments: &ManArguments, command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // There is no page of `help`.
    let command = command.disable_help_subcommand(true);
    match &arguments.directory {
        Some(directory) => {
            fs::create_dir_all(directory)?;
            clap_mangen::generate_to(command, directory)?;
        }
        None => clap_mangen::Man::new(command).render(&mut page)?,
    }
    Ok(page)
}
