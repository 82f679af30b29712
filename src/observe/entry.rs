//! One event of one machine, as the journal remembers it.

use std::net::IpAddr;

use super::events::{EventKind, MachineStage};

/// One event of one machine, as the journal remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// When the journal thread received the event, in Unix milliseconds.
    pub at_ms: u64,
    /// The machine's address at that time; None while it had none.
    pub address: Option<IpAddr>,
    /// The step of the boot to which the event belongs.
    pub stage: MachineStage,
    /// What happened, with the facts by which `cause` judges.
    pub kind: EventKind,
    /// The sentence of the log, cut to `journal::TEXT_BYTES_MAX`.
    pub text: String,
}

/// Joins the lines of a sentence: the error of a template has its hint on a second line.
pub(super) fn join_text_lines(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
