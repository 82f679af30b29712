//! An error as problem details (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FindingEntry;

/// Problem details (RFC 9457), sent as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiProblem {
    /// Always `about:blank`: status and title identify the problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem; the same text for every problem of that kind.
    pub title: String,
    /// Status code of the answer.
    pub status: u16,
    /// The cause of this problem, and what to do about it.
    pub detail: String,
    /// Methods of the resource. Only with status 405.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub allow: Option<Vec<String>>,
    /// Findings about the configuration. Only after a refused reload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub findings: Option<Vec<FindingEntry>>,
}
