//! The verdict on an expectation in the report.

use serde::{Deserialize, Serialize};

/// An expectation, its measured figure and whether it is met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExpectationVerdict {
    pub(crate) expected: String,
    pub(crate) measured: String,
    pub(crate) is_met: bool,
}
