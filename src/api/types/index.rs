//! The table of contents of the admin API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The table of contents of the admin API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiIndex {
    /// Version of the server.
    pub version: String,
    /// Path of the OpenAPI document.
    pub openapi: String,
    /// Every operation.
    pub resources: Vec<IndexEntry>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IndexEntry {
    /// Method of HTTP, in capitals.
    pub method: String,
    /// Path, with the names of its parameters in braces.
    pub path: String,
    /// One sentence about what it does.
    pub summary: String,
}
