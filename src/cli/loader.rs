//! `ringboot loader list`: boot loaders of this machine's packages and of the root, and the
//! packages with a missing one.

use std::path::PathBuf;
use std::process::ExitCode;

use super::client;
use super::output;
use crate::api::loaders::{loader_list, shown_path};
use crate::api::types::LoaderList;
use crate::boot::loaders::ARCHITECTURES;
use crate::control::load;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List loaders by architecture with path, version and signature
    List(LoaderListArguments),
}

#[derive(Debug, clap::Args)]
struct LoaderListArguments {
    /// Search the root of this configuration too [default: /etc/ringboot/ringboot.toml if it
    /// exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Search this root too
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The admin socket of the server to ask, instead of the configured one
    #[arg(long, value_name = "PATH", conflicts_with = "root")]
    socket: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exit 2: a configuration was named and cannot be read.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Command::List(list) = &arguments.command;
    let is_named = list.config.is_some() || list.root.is_some();
    let config = match load::read_named_config(list.config.as_deref(), list.root.as_deref()) {
        Ok((config, _)) => Some(config),
        Err(error) if is_named => {
            complain!("{error:#}");
            return ExitCode::from(2);
        }
        Err(_) => None,
    };
    let (root, socket) =
        config.map_or((None, None), |config| (Some(config.root), config.server.admin_socket));
    let socket = list.socket.clone().or(socket);
    // A server that serves another root has another list.
    let shown_root = root.as_deref().map(shown_path);
    let told = client::ask_if_running::<LoaderList>(socket.as_deref(), "/v1/loaders")
        .and_then(Result::ok)
        .filter(|told| list.socket.is_some() || told.root == shown_root);
    let listed = told.unwrap_or_else(|| loader_list(root.as_deref()));
    output::say(
        &if list.json { output::in_json(&listed) } else { as_table(&listed) },
        ExitCode::SUCCESS,
    )
}

fn as_table(listed: &LoaderList) -> String {
    let mut text = format!("{:<11} {:<24} {:<36} {:<9} PATH\n", "KEY", "NAME", "VERSION", "SIGNED");
    for (key, _) in ARCHITECTURES {
        for loader in listed.loaders.iter().filter(|loader| loader.key == key) {
            let signed = match loader.signed {
                Some(true) => "signed",
                Some(false) => "unsigned",
                None => "-",
            };
            let version = loader.version.as_deref().unwrap_or("-");
            let (name, path) = (&loader.name, &loader.path);
            text.push_str(&format!("{key:<11} {name:<24} {version:<36} {signed:<9} {path}\n"));
        }
        for missing in listed.missing.iter().filter(|missing| missing.key == key) {
            text.push_str(&format!("{key:<11} none found; packages: {}\n", missing.packages));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let mut list: LoaderList = sample();
        (list.loaders[0].key, list.missing[0].key) = ("bios".to_owned(), "bios".to_owned());
        assert_shown(&[list], as_table, &[("root", "it is the one that was asked about")]);
    }
}
