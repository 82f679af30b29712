//! One event of one machine, as it is remembered.

use std::net::IpAddr;

use super::events::{Kind, Stage};

/// One event of one machine, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unix milliseconds.
    pub at_ms: u64,
    pub address: Option<IpAddr>,
    pub stage: Stage,
    pub kind: Kind,
    /// The log's sentence.
    pub text: String,
}

/// The hint of a template's error stands on a line of its own.
pub(super) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
