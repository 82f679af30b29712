//! An error, in the words of RFC 9457.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::FindingEntry;

/// Problem details (RFC 9457), sent as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiProblem {
    /// Always `about:blank`: the status and the title say which problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is wrong, the same words for every problem of this kind.
    pub title: String,
    /// Status code of the answer.
    pub status: u16,
    /// What is wrong this time, and what to do about it.
    pub detail: String,
    /// Methods that the resource has. Only with status 405.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub allow: Option<Vec<String>>,
    /// What is wrong with the configuration, one by one. Only where a reload was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub findings: Option<Vec<FindingEntry>>,
}
