//! The outcome of one boot.

use std::time::{Duration, Instant};

use crate::failure::BootFailure;
use ringboot_observe::events::MachineStage;
use ringboot_protocol::model::machine::Mac;

/// The outcome of one boot.
#[derive(Debug)]
pub(crate) struct BootOutcome {
    /// Number of the machine in its fleet.
    pub(crate) machine: u32,
    pub(crate) mac: Mac,
    pub(crate) model: &'static str,
    /// It began in the warm-up: no figure has it, except failures.
    pub(crate) is_warm_up: bool,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// From power-on to the kernel's last byte.
    pub(crate) to_kernel: Option<Duration>,
    /// The steps of each stage together, in the order of [`MachineStage::ALL`].
    pub(crate) stages: [Duration; MachineStage::ALL.len()],
    pub(crate) end: Result<(), StoppedBoot>,
}

/// Where and why a boot stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoppedBoot {
    /// The step that did not end.
    pub(crate) stage: MachineStage,
    /// Retries of that step.
    pub(crate) retries: u64,
    pub(crate) failure: BootFailure,
}
