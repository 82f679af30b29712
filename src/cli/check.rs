//! `ringboot check`: says what is wrong before a machine is switched on. Exit 1 when there is an error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{live, serve};
use crate::control::check::{self, Finding, Severity, Subject};
use crate::control::loaders;
use crate::fleet::walk;
use crate::guard;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file [default: /etc/ringboot/ringboot.toml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check this directory in the place of the configured root; without --config what `serve --root` would do
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Walk boot chains over the sockets of the running server instead: those of HOST (a hardware address, or the name or
    /// address of a reservation), else of every reserved machine and of an unknown one
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "")]
    live: Option<String>,
    /// Walk as this firmware [default: the one the server last saw HOST with, else all that have a loader]
    #[arg(long, value_name = "KIND", requires = "live", value_parser = walk::KINDS.map(|(name, ..)| name))]
    firmware: Option<String>,
}

/// Runs the command. Exit 2: usage, or a configuration that cannot be read.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (mut config, file) = match serve::read_named(arguments.config.as_deref(), arguments.root.as_deref()) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("ringboot: {error:#}");
            return ExitCode::from(2);
        }
    };
    let wants_dhcp = config.dhcp.is_wanted();
    let borrowed = loaders::settle(&mut config.snapshot.boot, &config.root, wants_dhcp, Path::new("/"));
    if let Some(host) = &arguments.live {
        let Some(file) = &file else {
            eprintln!("ringboot: --live needs the configuration file of the running server (--config FILE)");
            return ExitCode::from(2);
        };
        let (json, firmware) = (arguments.json, arguments.firmware.as_deref());
        return live::run(&live::Wanted { config: &config, file, host, firmware, json });
    }
    let (account, unknown) = match guard::account(config.server.user.as_deref()) {
        Ok(account) => (account, None),
        Err(error) => (None, Some(Finding::error(error.to_string(), ""))),
    };
    let reader = serve::reader(account.as_ref());
    let subject = Subject { config: &config, borrowed: &borrowed, wants_dhcp, reader };
    let mut findings: Vec<Finding> = unknown.into_iter().chain(check::configuration(subject)).collect();
    findings.extend(check::surroundings(subject));
    findings.sort_by_key(|finding| finding.severity);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    super::say(&if arguments.json {
        as_json(&findings, errors, warnings)
    } else {
        let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        format!("{lines}{}, {}\n", plural(errors, "error"), plural(warnings, "warning"))
    });
    if errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn plural(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn as_json(findings: &[Finding], errors: usize, warnings: usize) -> String {
    let listed: Vec<_> = findings
        .iter()
        .map(|finding| {
            let hint = Some(&finding.hint).filter(|hint| !hint.is_empty());
            json!({ "severity": finding.severity.word(), "text": finding.what, "hint": hint })
        })
        .collect();
    format!("{}\n", json!({ "findings": listed, "errors": errors, "warnings": warnings }))
}
