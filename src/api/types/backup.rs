//! A copy of the lease database.

use utoipa::ToSchema;

/// A SQLite database, which `ringboot restore` reads.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct DatabaseFile(pub String);
