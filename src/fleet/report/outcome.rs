//! What came of one boot.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use ringboot_observe::events::Stage;
use ringboot_protocol::model::machine::Mac;

/// What came of one boot.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Number of the machine in its fleet.
    pub(crate) machine: u32,
    pub(crate) mac: Mac,
    pub(crate) model: &'static str,
    /// It began in the warm-up: no figure has it, but a failure is told.
    pub(crate) is_warm_up: bool,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// From power-on to the kernel's last octet.
    pub(crate) to_kernel: Option<Duration>,
    /// All steps of one stage together, in the order of [`Stage::ALL`].
    pub(crate) stages: [Duration; Stage::ALL.len()],
    pub(crate) end: Result<(), Stopped>,
}

/// Where and why a boot went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// The step that did not end.
    pub(crate) stage: Stage,
    /// Of that step.
    pub(crate) retries: u64,
    pub(crate) failure: Failure,
}
