//! The result of a reload.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FindingEntry;

/// The new configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReloadReport {
    /// Number of the new configuration.
    pub generation: u64,
    /// Tables of the configuration whose changes take effect after a restart.
    pub after_restart: Vec<String>,
    /// Findings about it, none of them fatal.
    pub findings: Vec<FindingEntry>,
}
