//! `ringboot loader list`: boot loaders of this machine's packages and of the root, and which package brings a missing one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::serve;
use crate::boot::loaders::{ARCHITECTURES, packages, version};
use crate::boot::machine::Arch;
use crate::boot::pe::Program;
use crate::control::loaders::{Found, in_packages, in_root, program};

/// A loader larger than this (bytes) is not searched for its version.
const SEARCHED_MAX: u64 = 16 * 1024 * 1024;

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
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// One line of the table.
struct Row {
    key: &'static str,
    name: String,
    path: PathBuf,
    version: Option<String>,
    /// None: this kind of file carries no signature.
    signed: Option<bool>,
}

/// Runs the command. Exit 2: a configuration was named and cannot be read.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let Command::List(list) = &arguments.command;
    let is_named = list.config.is_some() || list.root.is_some();
    let root = match serve::read_named(list.config.as_deref(), list.root.as_deref(), false) {
        Ok((config, _)) => Some(config.root),
        Err(error) if is_named => {
            eprintln!("ringboot: {error:#}");
            return ExitCode::from(2);
        }
        Err(_) => None,
    };
    let found = root.iter().flat_map(|root| in_root(root)).chain(in_packages(Path::new("/")));
    let rows: Vec<Row> = found.filter_map(|found| row(&found)).collect();
    let missing: Vec<(&str, Arch)> =
        ARCHITECTURES.into_iter().filter(|(key, _)| rows.iter().all(|row| row.key != *key)).collect();
    super::say(&if list.json { as_json(&rows, &missing) } else { as_table(&rows, &missing) });
    ExitCode::SUCCESS
}

fn row(found: &Found) -> Option<Row> {
    let key = ARCHITECTURES.iter().find(|(_, arch)| *arch == found.arch).map(|(key, _)| *key)?;
    let signed = match program(&found.path) {
        Ok(Program::Efi { is_signed, .. }) => Some(is_signed),
        _ => None,
    };
    let is_small = std::fs::metadata(&found.path).is_ok_and(|file| file.len() <= SEARCHED_MAX);
    let bytes = if is_small { std::fs::read(&found.path).ok() } else { None };
    let version = bytes.as_deref().and_then(version);
    Some(Row { key, name: found.name.clone(), path: found.path.clone(), version, signed })
}

fn signed_word(signed: Option<bool>) -> &'static str {
    match signed {
        Some(true) => "signed",
        Some(false) => "unsigned",
        None => "-",
    }
}

fn as_table(rows: &[Row], missing: &[(&str, Arch)]) -> String {
    let mut text = format!("{:<11} {:<24} {:<36} {:<9} PATH\n", "KEY", "NAME", "VERSION", "SIGNED");
    for (key, _) in ARCHITECTURES {
        for row in rows.iter().filter(|row| row.key == key) {
            let version = row.version.as_deref().unwrap_or("-");
            let (signed, path) = (signed_word(row.signed), row.path.display());
            text.push_str(&format!("{key:<11} {:<24} {version:<36} {signed:<9} {path}\n", row.name));
        }
        for (_, arch) in missing.iter().filter(|(missing, _)| *missing == key) {
            text.push_str(&format!("{key:<11} none found; packages: {}\n", packages(*arch)));
        }
    }
    text
}

fn as_json(rows: &[Row], missing: &[(&str, Arch)]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let path = row.path.to_string_lossy();
            json!({ "key": row.key, "name": row.name, "path": path, "version": row.version, "signed": row.signed })
        })
        .collect();
    let missing: Vec<_> =
        missing.iter().map(|(key, arch)| json!({ "key": key, "packages": packages(*arch) })).collect();
    format!("{}\n", json!({ "loaders": rows, "missing": missing }))
}
