//! The judgement of a server's status.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// How bad it is. The words are those of monitoring plugins (Nagios, Icinga, Checkmk, Zabbix).
    HealthLevel {
        /// Everything that the configuration promises is served.
        Ok => "OK",
        /// Everything is served, and somebody should look soon.
        Warning => "WARNING",
        /// Some machines are not served.
        Critical => "CRITICAL",
        /// Nobody can tell.
        Unknown => "UNKNOWN",
    }
}

/// Whether all is well, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthReport {
    /// The worst of the reasons.
    pub level: HealthLevel,
    /// Sentences, the worst first. Empty where all is well.
    pub because: Vec<String>,
}

impl Default for HealthReport {
    fn default() -> Self {
        Self { level: HealthLevel::Unknown, because: Vec::new() }
    }
}
