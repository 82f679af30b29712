//! What is wrong with a configuration.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// How bad a finding is.
    FindingSeverity {
        /// Nothing could be served, or what must not be: `serve` does not start with it, and a
        /// reload is refused.
        Fatal => "fatal",
        /// Some machine does not get what the configuration promises. Everything else is served.
        Error => "error",
        /// It works, and may be a mistake.
        Warning => "warning",
        /// Worth knowing.
        Note => "note",
    }
}

/// One thing that was found in the configuration, in a file, or on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingEntry {
    pub severity: FindingSeverity,
    /// The file in which it is. Null: it is in no file.
    pub file: Option<String>,
    /// Line of the file, from 1. Null: the file as a whole.
    pub line: Option<usize>,
    /// Column in characters, from 1. Null: the whole line.
    pub column: Option<usize>,
    /// What is wrong.
    pub text: String,
    /// A way out. Null where there is none to give.
    pub hint: Option<String>,
}

/// All findings on a configuration, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    pub findings: Vec<FindingEntry>,
    /// How many findings are fatal or errors.
    pub errors: usize,
    /// How many findings are warnings.
    pub warnings: usize,
}
