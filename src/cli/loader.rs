//! `ringboot loader list`: boot loaders of this machine's packages and of the root, and which package brings a missing one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::client;
use crate::boot::loaders::{ARCHITECTURES, packages, version};
use crate::boot::pe::Program;
use crate::control::load;
use crate::control::loaders::{Found, in_packages, in_root, program};

/// A loader larger than this (bytes) is not searched for its version.
const SEARCHED_MAX: u64 = 16 * 1024 * 1024;
/// The resource that a running server has this under.
const PATH: &str = "/v1/loaders";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Loaders by architecture: where they are, their version, whether they are signed
    List(List),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Look into the root of this configuration too [default: /etc/ringboot/ringboot.toml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look into this root too
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The admin socket of a server whose list is wanted, in place of the one that the configuration names
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
    let config = match load::read_named(list.config.as_deref(), list.root.as_deref()) {
        Ok((config, _)) => Some(config),
        Err(error) if is_named => {
            complain!("{error:#}");
            return ExitCode::from(2);
        }
        Err(_) => None,
    };
    let (root, socket) = config.map_or((None, None), |config| (Some(config.root), config.server.admin_socket));
    let socket = list.socket.clone().or(socket);
    // A server that serves another root has another list.
    let told = client::told(socket.as_deref(), PATH)
        .filter(|told| list.socket.is_some() || told["root"] == shown(root.as_deref()));
    let listed = told.unwrap_or_else(|| listing(root.as_deref()));
    super::say(&if list.json { super::in_json(&listed) } else { as_table(&listed) }, ExitCode::SUCCESS)
}

/// The loaders of a root and of this machine's packages.
pub(super) fn listing(root: Option<&Path>) -> Value {
    let found = root.iter().flat_map(|root| in_root(root)).chain(in_packages(Path::new("/")));
    let rows: Vec<Value> = found.filter_map(|found| row(&found)).collect();
    let missing: Vec<Value> = ARCHITECTURES
        .into_iter()
        .filter(|(key, _)| rows.iter().all(|row| row["key"] != *key))
        .map(|(key, arch)| json!({ "key": key, "packages": packages(arch) }))
        .collect();
    json!({ "root": shown(root), "loaders": rows, "missing": missing })
}

/// A name that is not UTF-8 is no JSON.
fn shown(root: Option<&Path>) -> Value {
    root.map_or(Value::Null, |root| json!(root.to_string_lossy()))
}

fn row(found: &Found) -> Option<Value> {
    let key = ARCHITECTURES.iter().find(|(_, arch)| *arch == found.arch).map(|(key, _)| *key)?;
    // None: this kind of file carries no signature.
    let signed = match program(&found.path) {
        Ok(Program::Efi { is_signed, .. }) => Some(is_signed),
        _ => None,
    };
    let is_small = std::fs::metadata(&found.path).is_ok_and(|file| file.len() <= SEARCHED_MAX);
    let bytes = if is_small { std::fs::read(&found.path).ok() } else { None };
    let version = bytes.as_deref().and_then(version);
    let path = found.path.to_string_lossy();
    Some(json!({ "key": key, "name": found.name, "path": path, "version": version, "signed": signed }))
}

fn as_table(listed: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let of = |list: &str, key: &str| {
        let all = listed[list].as_array().into_iter().flatten();
        all.filter(|one| one["key"] == key).cloned().collect::<Vec<_>>()
    };
    let mut text = format!("{:<11} {:<24} {:<36} {:<9} PATH\n", "KEY", "NAME", "VERSION", "SIGNED");
    for (key, _) in ARCHITECTURES {
        for row in of("loaders", key) {
            let signed = row["signed"].as_bool().map_or("-", |signed| if signed { "signed" } else { "unsigned" });
            let (name, version, path) = (word(&row["name"]), word(&row["version"]), word(&row["path"]));
            text.push_str(&format!("{key:<11} {name:<24} {version:<36} {signed:<9} {path}\n"));
        }
        for missing in of("missing", key) {
            text.push_str(&format!("{key:<11} none found; packages: {}\n", word(&missing["packages"])));
        }
    }
    text
}
