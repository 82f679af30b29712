//! The verdict on an expectation, as the report carries it.

use serde::{Deserialize, Serialize};

/// An expectation and what was measured, as the report has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExpectationVerdict {
    pub(crate) expected: String,
    pub(crate) measured: String,
    pub(crate) is_met: bool,
}
