//! Whether a configuration may be served: the judgement of `check`, before a start and before a
//! reload.

use std::path::Path;

use super::check::{self, CheckSubject, FileReader};
use super::load::WrongText;
use super::loaders::{self, BorrowedFiles};
use crate::config::Config;
use crate::guard::UserAccount;
use crate::images::runs_as_root;
use crate::observe::finding::{CheckFinding, CheckSeverity};

/// What the configuration names is not there, or not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("`ringboot check` finds this wrong:{}",
    .0.iter().map(|finding| format!("\n{finding}")).collect::<String>())]
pub struct NotRight(Vec<CheckFinding>);

/// Why there is no configuration, one by one.
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
    pub borrowed: BorrowedFiles,
    /// What is wrong with it all the same, the worst first.
    pub remarks: Vec<CheckFinding>,
}

/// Settles the loaders and asks what `ringboot check` asks of configuration and files. What is
/// fatal is an error: nothing is started or published. Whatever else is wrong is remarked, and
/// keeps nobody from what is right.
pub fn examine_config(
    config: &mut Config,
    no_dhcp: bool,
    account: Option<&UserAccount>,
) -> anyhow::Result<ExaminedConfig> {
    let wants_dhcp = config.dhcp.is_wanted() && !no_dhcp;
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
    let mut findings = check::check_configuration(subject);
    findings.sort_by_key(|finding| finding.severity);
    if findings.first().is_some_and(|finding| finding.severity == CheckSeverity::Fatal) {
        return Err(NotRight(findings).into());
    }
    Ok(ExaminedConfig { remarks: findings, borrowed })
}

/// Who opens the files that are served.
pub fn choose_file_reader(account: Option<&UserAccount>) -> FileReader {
    match account {
        Some(account) => FileReader::User { uid: account.ids.uid, gid: account.ids.gid },
        None if runs_as_root() => FileReader::Root,
        None => FileReader::Caller,
    }
}
