//! One run in its own process, so that no run finds leftovers of another one.

use std::process::{Command, Stdio};

use anyhow::Context;
use ringboot_io::engine::orphan::die_with_parent;

use crate::interrupt;
use crate::json::ReportDocument;

/// How a run ended.
#[derive(Debug)]
pub(crate) enum ChildOutcome {
    Report(Box<ReportDocument>),
    Interrupted,
    /// Without a report; the text of its standard error.
    Failed(String),
}

/// Runs this program with these arguments, and waits for its report.
pub(crate) fn run_child_process(arguments: &[String]) -> anyhow::Result<ChildOutcome> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new(program);
    command.args(arguments).args(["--quiet", "--json", "/dev/stdout"]).stdin(Stdio::null());
    // A search that is killed leaves no run behind, and no namespaces of a run.
    die_with_parent(&mut command);
    let output = command.output().context("cannot start a run")?;
    match output.status.code() {
        // Exit code 1 means that machines failed: that is a result.
        Some(0 | 1) => Ok(ChildOutcome::Report(Box::new(ReportDocument::parse(
            &String::from_utf8_lossy(&output.stdout),
        )?))),
        Some(code) if code == i32::from(interrupt::EXIT) => Ok(ChildOutcome::Interrupted),
        _ => {
            let text = String::from_utf8_lossy(&output.stderr);
            let text = text.trim().trim_start_matches("loadtest: ");
            Ok(ChildOutcome::Failed(if text.is_empty() {
                output.status.to_string()
            } else {
                text.to_owned()
            }))
        }
    }
}
