//! What the resources look at, beside what runs now.

use std::path::PathBuf;
use std::sync::Arc;

use crate::control::load::ConfigOverrides;
use crate::control::quirks::QuirkKeeper;
use crate::observe::journal::MachineJournal;

/// What is known of machines.
#[derive(Clone, Debug)]
pub struct Known {
    pub journal: Arc<MachineJournal>,
    /// None: no DHCP, no machine.
    pub quirks: Option<Arc<QuirkKeeper>>,
}

/// What the resources look at.
#[derive(Debug)]
pub struct Inside {
    pub known: Known,
    /// None: no configuration, no store.
    pub database: Option<PathBuf>,
    pub overrides: ConfigOverrides,
}
