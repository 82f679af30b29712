//! Reload: the server reads its configuration again.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use super::error::{ApiError, MoreDetail, ServerFault};
use super::extract::Json;
use super::state::{ApiState, in_background};
use super::types::{ApiProblem, ReloadReport};
use super::words::finding_entries;
use crate::serve::handle::ReloadRefusal;

/// Reads, checks and publishes the configuration file.
///
/// After a fatal finding the old configuration stays in force, and the problem has every finding in
/// `findings`.
#[utoipa::path(
    post,
    path = "/v1/reload",
    tag = "reload",
    responses(
        (status = 200, description = "The new configuration is in force.", body = ReloadReport),
        (status = 409, description = "The old configuration stays in force.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn reload_configuration(
    State(api): State<Arc<ApiState>>,
) -> Result<Json<ReloadReport>, ApiError> {
    in_background(move || match api.handle.reload() {
        Ok(done) => Ok(ReloadReport {
            generation: done.generation,
            after_restart: done.after_restart,
            findings: finding_entries(&done.remarks),
        }),
        Err(ReloadRefusal { why, findings }) => {
            let title = "not reloaded, the old configuration stays";
            let findings = MoreDetail::Findings(finding_entries(&findings));
            Err(ApiError::new(StatusCode::CONFLICT, title, why).with_more(findings))
        }
    })
    .await
}
