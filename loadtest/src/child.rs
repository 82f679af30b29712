//! One run by a process of its own: no run finds what another one left behind.

use std::process::{Command, Stdio};

use anyhow::Context;

use crate::interrupt;
use crate::json::ReportDocument;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum ChildOutcome {
    Report(Box<ReportDocument>),
    Interrupted,
    /// Without a report; what it said on standard error.
    Failed(String),
}

/// Runs this program with these arguments, and waits for its report.
pub(crate) fn run_child_process(arguments: &[String]) -> anyhow::Result<ChildOutcome> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(arguments).args(["--quiet", "--json", "/dev/stdout"]).stdin(Stdio::null());
    let output = command.output().context("cannot start a run")?;
    match output.status.code() {
        // 1 says that machines failed: that is a result.
        Some(0 | 1) => Ok(ChildOutcome::Report(Box::new(ReportDocument::parse(
            &String::from_utf8_lossy(&output.stdout),
        )?))),
        Some(code) if code == i32::from(interrupt::EXIT) => Ok(ChildOutcome::Interrupted),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("loadtest: ");
            Ok(ChildOutcome::Failed(if said.is_empty() {
                output.status.to_string()
            } else {
                said.to_owned()
            }))
        }
    }
}
