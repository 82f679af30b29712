//! Findings about a configuration.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// How bad a finding is.
    FindingSeverity {
        /// The server could serve nothing, or would serve what it must not: `serve` does not start
        /// with it, and a reload is refused.
        Fatal => "fatal",
        /// Some machine does not get what the configuration promises. The server serves the rest.
        Error => "error",
        /// A likely mistake; the server does what the configuration says.
        Warning => "warning",
        /// A fact that explains the configuration; nothing is wrong.
        Note => "note",
    }
}

/// One finding about the configuration, a file or this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingEntry {
    /// How bad it is.
    pub severity: FindingSeverity,
    /// The file to mend. Null: the finding is about no file.
    pub file: Option<String>,
    /// Line of the file, from 1. Null: the file as a whole.
    pub line: Option<usize>,
    /// Column in characters, from 1. Null: the whole line.
    pub column: Option<usize>,
    /// The finding as a sentence.
    pub text: String,
    /// What to do about it. Null: `text` says it.
    pub hint: Option<String>,
}

/// All findings about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// The worst first.
    pub findings: Vec<FindingEntry>,
    /// The number of findings that are fatal or errors.
    pub errors: usize,
    /// The number of findings that are warnings.
    pub warnings: usize,
}
