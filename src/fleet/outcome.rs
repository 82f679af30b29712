//! What came of one boot.

use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::model::machine::Mac;
use crate::observe::events::Stage;

/// What came of one boot.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Number of the machine in its fleet.
    pub(super) machine: u32,
    pub(super) mac: Mac,
    pub(super) model: &'static str,
    /// It began in the warm-up: no figure has it, but a failure is told.
    pub(super) is_warm_up: bool,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// From power-on to the kernel's last octet.
    pub(super) to_kernel: Option<Duration>,
    /// All steps of one stage together, in the order of [`Stage::ALL`].
    pub(super) stages: [Duration; Stage::ALL.len()],
    pub(super) end: Result<(), Stopped>,
}

/// Where and why a boot went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    /// The step that did not end.
    pub(super) stage: Stage,
    /// Of that step.
    pub(super) retries: u64,
    pub(super) failure: Failure,
}
