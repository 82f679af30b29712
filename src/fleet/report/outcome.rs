//! What came of one boot.

use std::time::{Duration, Instant};

use crate::fleet::failure::Failure;
use crate::model::machine::Mac;
use crate::observe::events::Stage;

/// What came of one boot.
#[derive(Debug)]
pub(in crate::fleet) struct Outcome {
    /// Number of the machine in its fleet.
    pub(in crate::fleet) machine: u32,
    pub(in crate::fleet) mac: Mac,
    pub(in crate::fleet) model: &'static str,
    /// It began in the warm-up: no figure has it, but a failure is told.
    pub(in crate::fleet) is_warm_up: bool,
    pub(in crate::fleet) begun: Instant,
    pub(in crate::fleet) ended: Instant,
    /// From power-on to the kernel's last octet.
    pub(in crate::fleet) to_kernel: Option<Duration>,
    /// All steps of one stage together, in the order of [`Stage::ALL`].
    pub(in crate::fleet) stages: [Duration; Stage::ALL.len()],
    pub(in crate::fleet) end: Result<(), Stopped>,
}

/// Where and why a boot went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fleet) struct Stopped {
    /// The step that did not end.
    pub(in crate::fleet) stage: Stage,
    /// Of that step.
    pub(in crate::fleet) retries: u64,
    pub(in crate::fleet) failure: Failure,
}
