//! The answer of a search for the limit, with its runs, as --json has them.

use serde::Serialize;

use super::gave_out::GaveOut;
use super::search::{LimitSearchEnd, MachineLevel};
use crate::json;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LimitRun {
    pub(super) machines: u32,
    pub(super) held: bool,
    pub(super) booted: u32,
    pub(super) wall_s: f64,
    pub(super) boot_p99_us: u64,
    pub(super) boot_max_us: u64,
    /// The expectations that the run missed.
    pub(super) missed: Vec<String>,
}

/// The answer of a search, as --json has it.
#[derive(Debug, Serialize)]
pub(super) struct LimitAnswer {
    pub(super) version: u32,
    /// The greatest number that held in all of its runs; null if there is none.
    pub(super) held: Option<MachineNumber>,
    /// The least number that missed; null if none did.
    pub(super) missed: Option<MachineNumber>,
    pub(super) end: LimitSearchEnd,
    pub(super) at_least: Option<u32>,
    pub(super) passed: Option<bool>,
    pub(super) within_s: f64,
    pub(super) expected: Vec<String>,
    pub(super) repeat: u32,
    pub(super) took_s: f64,
    pub(super) started: String,
    /// What gave out in the missed run with the fewest machines, in the order of importance.
    pub(super) gave_out: Vec<GaveOut>,
    pub(super) run: Option<json::RunDescription>,
    pub(super) runs: Vec<LimitRun>,
    #[serde(skip)]
    pub(super) least: u32,
}

/// A number of machines, and its certainty.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct MachineNumber {
    pub(super) machines: u32,
    #[serde(flatten)]
    pub(super) level: MachineLevel,
    /// With 95 % confidence at least this share of such runs ends in the same way.
    pub(super) share_at_least: f64,
}

impl LimitAnswer {
    pub(super) fn is_good(&self) -> bool {
        self.passed.unwrap_or(self.held.is_some())
    }
}
