//! Parts of a report on several runs: the spread of `--repeat`, and the reports that `loadtest
//! merge` joined.

use serde::{Deserialize, Serialize};

use super::spread::FigureSpread;
use super::summary::RunSummary;

/// All runs of `--repeat`; the rest of the report is of the middle run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RepeatedRuns {
    /// Which of the runs the report is, from 0.
    pub(crate) middle: usize,
    /// In their order.
    pub(crate) runs: Vec<RunSummary>,
    pub(crate) figures: Vec<FigureSpread>,
}

/// One report of those that were merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MergedPart {
    pub(crate) file: String,
    pub(crate) started: String,
    pub(crate) seed: u64,
    pub(crate) machines: u32,
    pub(crate) booted: u32,
    pub(crate) failed: u32,
    pub(crate) wall_s: f64,
    pub(crate) client_was_limit: bool,
}
