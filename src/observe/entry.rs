//! One event of one machine, as it is remembered.

use std::net::IpAddr;

use super::events::{EventKind, MachineStage};

/// One event of one machine, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Unix milliseconds.
    pub at_ms: u64,
    pub address: Option<IpAddr>,
    pub stage: MachineStage,
    pub kind: EventKind,
    /// The log's sentence.
    pub text: String,
}

/// The hint of a template's error stands on a line of its own.
pub(super) fn join_text_lines(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
