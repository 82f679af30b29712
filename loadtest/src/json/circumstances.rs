//! What the fleet cannot know of its run, and the report tells beside it.

use std::time::SystemTime;

use crate::drops::KernelDrops;
use crate::meter::ProcessCost;

/// What the fleet cannot know of its run.
#[derive(Clone, Debug)]
pub(crate) struct RunCircumstances {
    pub(crate) server: String,
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) started: SystemTime,
    pub(crate) client: Option<ProcessCost>,
    pub(crate) drops: Option<KernelDrops>,
    pub(crate) warnings: Vec<String>,
    /// None where no process was named; an inner None where it ended meanwhile.
    pub(crate) server_spent: Option<Option<ProcessCost>>,
}
