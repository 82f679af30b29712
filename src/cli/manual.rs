//! What the shell and man(1) want, made from a command line's own definition: `completions` and
//! `man` of ringboot and of loadtest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub struct ManArguments {
    /// Write the program's page and one for each command into this directory
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl ManArguments {
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

/// The script that makes a shell complete this program's commands and options.
pub fn completions(arguments: &CompletionsArguments, mut command: clap::Command) -> Vec<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    script
}

/// The program's page; nothing where all pages were written into a directory.
pub fn man(arguments: &ManArguments, command: clap::Command) -> io::Result<Vec<u8>> {
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
