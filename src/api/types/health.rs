//! The health of a server.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// The level of monitoring plugins (Nagios, Icinga, Checkmk, Zabbix).
    HealthLevel {
        /// The server does everything that the configuration promises.
        Ok => "OK",
        /// The server does everything, but an operator should look soon.
        Warning => "WARNING",
        /// The server does not serve some machines.
        Critical => "CRITICAL",
        /// The state of the server is unknown.
        Unknown => "UNKNOWN",
    }
}

/// The health of the server with its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthReport {
    /// The worst of the reasons.
    pub level: HealthLevel,
    /// The reasons as sentences, the worst first. Empty: nothing is wrong.
    pub because: Vec<String>,
}

impl Default for HealthReport {
    fn default() -> Self {
        Self { level: HealthLevel::Unknown, because: Vec::new() }
    }
}
