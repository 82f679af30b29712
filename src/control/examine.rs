//! Decides with the checks of `ringboot check` whether the server may start with a configuration,
//! or reload it.

use std::path::Path;

use super::check::{self, CheckSubject, FileReader};
use super::load::WrongText;
use super::loaders::{self, BorrowedFiles};
use crate::config::Config;
use crate::guard::UserAccount;
use crate::images::runs_as_root;
use crate::observe::finding::{CheckFinding, CheckSeverity};

/// A configuration with a fatal finding.
#[derive(Debug, thiserror::Error)]
#[error("`ringboot check` finds these faults:{}",
    .0.iter().map(|finding| format!("\n{finding}")).collect::<String>())]
pub struct NotRight(Vec<CheckFinding>);

/// The findings in an error of reading or examining a configuration.
pub fn explain_unread_config(error: &anyhow::Error) -> Vec<CheckFinding> {
    match (error.downcast_ref::<WrongText>(), error.downcast_ref::<NotRight>()) {
        (Some(WrongText(problems)), _) => check::report_problems(problems),
        (None, Some(NotRight(findings))) => findings.clone(),
        (None, None) => vec![CheckFinding::fatal(format!("{error:#}"), "")],
    }
}

/// A configuration that may be served.
#[derive(Debug)]
pub struct ExaminedConfig {
    /// Loaders that the server serves from packages.
    pub borrowed: BorrowedFiles,
    /// Its findings, none of them fatal, the worst first.
    pub remarks: Vec<CheckFinding>,
}

/// Settles the loaders and checks configuration and files as `ringboot check` does. A fatal finding
/// is an error: then the server starts and publishes nothing. Other findings become remarks.
pub fn examine_config(
    config: &mut Config,
    no_dhcp: bool,
    account: Option<&UserAccount>,
) -> anyhow::Result<ExaminedConfig> {
    let wants_dhcp = config.dhcp.is_wanted() && !no_dhcp;
    // This fills in keys of `[boot]`, which the checks below read.
    let borrowed = loaders::settle_loaders(
        &mut config.snapshot.dhcp.boot,
        &config.root,
        wants_dhcp,
        Path::new("/"),
    );
    let subject = CheckSubject {
        config,
        borrowed: &borrowed,
        wants_dhcp,
        reader: choose_file_reader(account),
        is_service: false,
    };

    // The worst severity sorts first, so the first finding decides whether the server may start.
    let mut findings = check::check_configuration(subject);
    findings.sort_by_key(|finding| finding.severity);
    if findings.first().is_some_and(|finding| finding.severity == CheckSeverity::Fatal) {
        return Err(NotRight(findings).into());
    }
    Ok(ExaminedConfig { remarks: findings, borrowed })
}

/// The user who will open the served files.
pub fn choose_file_reader(account: Option<&UserAccount>) -> FileReader {
    match account {
        Some(account) => FileReader::User { uid: account.ids.uid, gid: account.ids.gid },
        None if runs_as_root() => FileReader::Root,
        None => FileReader::Caller,
    }
}
