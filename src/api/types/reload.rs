//! What a reload did.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FindingEntry;

/// The configuration was read again and is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReloadReport {
    /// Number of the new configuration.
    pub generation: u64,
    /// Tables of the configuration whose changes take effect after a restart.
    pub after_restart: Vec<String>,
    /// What is wrong with it. Everything else is in force.
    pub findings: Vec<FindingEntry>,
}
