//! `ringboot check`: reports faults before a machine is switched on. Exit 1 after an error.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::output;
use super::{client, live};
use crate::api::checks::{Judge, check_report, collect_findings, describe_server};
use crate::api::types::{CheckReport, FindingEntry, ServerStatus};
use crate::api::values::format_count;
use crate::config::Config;
use crate::control::check::FileReader;
use crate::control::examine::{choose_file_reader, explain_unread_config};
use crate::control::load;
use crate::control::loaders;
use crate::engine::privileges::{self, ProcessIds};
use crate::fleet::walk;
use crate::guard;
use crate::observe::finding::CheckFinding;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file; `-` is standard input [default: /etc/ringboot/ringboot.toml if it
    /// exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check this directory instead of the configured root; without --config check what `serve
    /// --root` would serve
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The admin socket of the running server, instead of the configured one
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Check a configuration for another host: of this host read the root only, if it exists or
    /// --root names it
    #[arg(long, conflicts_with_all = ["live", "socket"])]
    no_host: bool,
    /// Exit 1 after a warning too
    #[arg(long)]
    strict: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Instead walk boot chains over the sockets of the running server: of HOST (a hardware
    /// address, or the name or address of a reservation), else of every reserved machine and an
    /// unknown one
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "")]
    live: Option<String>,
    /// Walk as this firmware [default: the last one of HOST that the server saw, else every one
    /// with a loader]
    #[arg(
        long,
        value_name = "KIND",
        requires = "live",
        value_parser = walk::KINDS.map(|(name, ..)| name)
    )]
    firmware: Option<String>,
}

/// Runs the command. Exit 2: usage, or a configuration that cannot be read.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (mut config, file) =
        match load::read_named_config(arguments.config.as_deref(), arguments.root.as_deref()) {
            Ok(read) => read,
            Err(error) => return report_unread_config(&error, arguments.json),
        };
    let wants_dhcp = config.dhcp.is_wanted();
    if let Some(host) = &arguments.live {
        let Some(file) = &file else {
            complain!(
                "--live walks the loaders, the menu and the machines of a configuration, and \
                 --root has none: --config FILE names a configuration; the log of `ringboot serve \
                 -v` has each requested file"
            );
            return ExitCode::from(2);
        };
        // The server fills in loaders that the file leaves out; the walk must know the same ones.
        loaders::settle_loaders(
            &mut config.snapshot.dhcp.boot,
            &config.root,
            wants_dhcp,
            Path::new("/"),
        );
        let (json, firmware, socket) =
            (arguments.json, arguments.firmware.as_deref(), arguments.socket.as_deref());
        return live::run(&live::Wanted { config: &config, file, socket, host, firmware, json });
    }

    let findings = match arguments.no_host {
        true => {
            // A root that the command line names is checked even if it does not exist here.
            let has_root = arguments.root.is_some() || config.root.exists();
            collect_findings(
                &mut config,
                wants_dhcp,
                Judge { reader: FileReader::Elsewhere { has_root }, is_service: false },
                None,
            )
        }
        false => {
            check_this_host(&mut config, wants_dhcp, file.as_deref(), arguments.socket.as_deref())
        }
    };

    let report = check_report(findings);
    let is_wrong = report.errors > 0 || arguments.strict && report.warnings > 0;
    let code = if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    output::say(&if arguments.json { output::in_json(&report) } else { as_text(&report) }, code)
}

fn check_this_host(
    config: &mut Config,
    wants_dhcp: bool,
    file: Option<&Path>,
    socket: Option<&Path>,
) -> Vec<CheckFinding> {
    // The file may not be the served one: ask the running server for its state, not for its
    // findings.
    let socket = socket.or(config.server.admin_socket.as_deref());
    let told = client::ask_if_running::<ServerStatus>(socket, "/v1/status").transpose();
    let unheard = told.as_ref().err().map(|error| {
        CheckFinding::note(format!("the running server did not report its state: {error:#}"))
    });
    let status = told.ok().flatten();
    let is_service = file.is_some_and(|file| file == Path::new(load::DEFAULT_CONFIG));
    let (reader, remark) = choose_reader(config, status.as_ref(), is_service);
    let running = status.map(describe_server);
    let remark = remark.map(|remark| remark.at_position(config.places.find_key("server", "user")));
    let mut findings: Vec<CheckFinding> = unheard.into_iter().chain(remark).collect();
    findings.extend(collect_findings(
        config,
        wants_dhcp,
        Judge { reader, is_service },
        running.as_ref(),
    ));
    findings
}

/// The user who will open the files: that of the running server, else the user that `serve` would
/// become from here, else the one that the configuration names.
fn choose_reader(
    config: &Config,
    status: Option<&ServerStatus>,
    is_service: bool,
) -> (FileReader, Option<CheckFinding>) {
    let own = privileges::read_own_ids();
    if let Some(status) = status {
        let ids = ProcessIds { uid: status.user.uid, gid: status.user.gid };
        return (identify_reader(ids, own), None);
    }
    if own.uid != 0 {
        // A user who checks a file of his own serves it himself.
        let name = config.server.user.as_deref().or(is_service.then_some(guard::DEFAULT_USER));
        let named = name.and_then(|name| privileges::find_user_ids(name).ok().flatten());
        return (named.map_or(FileReader::Caller, |ids| identify_reader(ids, own)), None);
    }
    match guard::choose_account(config.server.user.as_deref()) {
        Ok(Some(account)) => (choose_file_reader(Some(&account)), None),
        Ok(None) => {
            (FileReader::Root, Some(guard::report_kept_root(config.server.user.as_deref())))
        }
        Err(error) => (FileReader::Root, Some(CheckFinding::fatal(error.to_string(), ""))),
    }
}

fn identify_reader(ids: ProcessIds, own: ProcessIds) -> FileReader {
    match ids {
        ProcessIds { uid: 0, .. } => FileReader::Root,
        ids if ids.uid == own.uid => FileReader::Caller,
        ProcessIds { uid, gid } => FileReader::User { uid, gid },
    }
}

/// Reports a configuration that cannot be read, as a finding where JSON is wanted.
fn report_unread_config(error: &anyhow::Error, json: bool) -> ExitCode {
    let code = ExitCode::from(2);
    if json {
        return output::say(&output::in_json(&check_report(explain_unread_config(error))), code);
    }
    complain!("{error:#}");
    code
}

/// Position and sentence of a finding: `ringboot.toml:4:8: what`.
pub(super) fn format_sentence(finding: &FindingEntry) -> String {
    let FindingEntry { file, line, column, text, .. } = finding;
    let Some(file) = file else { return text.clone() };
    let numbers = [line, column].into_iter().flatten();
    let place = numbers.fold(file.clone(), |place, number| format!("{place}:{number}"));
    format!("{place}: {text}")
}

/// Findings as text: one line each, and one for the hint.
pub(super) fn format_findings(findings: &[FindingEntry]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{}: {}\n", finding.severity, format_sentence(finding)));
        text.extend(finding.hint.iter().map(|hint| format!("  hint: {hint}\n")));
    }
    text
}

fn as_text(report: &CheckReport) -> String {
    let errors = format_count(report.errors as u64, "error");
    let warnings = format_count(report.warnings as u64, "warning");
    format_findings(&report.findings) + &format!("{errors}, {warnings}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let report: CheckReport = sample();
        assert_shown(&[report], as_text, &[]);
    }
}
