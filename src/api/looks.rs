//! Looks for other DHCP servers: their results, and a new look.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;

use super::error::{ApiError, ServerFault};
use super::extract::Json;
use super::state::{ApiState, in_background};
use super::types::{ApiProblem, LookList, LookOrder, SubnetLook};
use super::values::format_span;
use crate::dhcp::subnet::HoldReason;
use crate::serve::dhcp::other_servers::SegmentFinding;

/// Shows the result of the look for other DHCP servers on each subnet with an interface.
///
/// A subnet on which another server answers is silent, unless `allow-other-servers` is set.
#[utoipa::path(
    get,
    path = "/v1/looks",
    tag = "looks",
    responses(
        (status = 200, description = "The results with their age.", body = LookList),
        (status = 409, description = "The server answers no DHCP.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn list_looks(State(api): State<Arc<ApiState>>) -> Result<Json<LookList>, ApiError> {
    in_background(move || {
        let overview = api.overview()?;
        let findings = overview.findings.as_ref().ok_or_else(ApiError::no_dhcp)?;
        // Read before the results, so that results without `again` belong to the new look.
        let again = findings.is_to_look_again();
        let looks = findings.read().segments.iter().map(subnet_look).collect();
        Ok(LookList { looks, again })
    })
    .await
}

/// Forgets the results and looks again, as at the first start.
///
/// The server offers no address on a subnet until its look ends, which takes about 2 seconds.
#[utoipa::path(
    post,
    path = "/v1/looks",
    tag = "looks",
    responses(
        (status = 200, description = "The look begins within a second.", body = LookOrder),
        (status = 409, description = "The server answers no DHCP.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn look_again(State(api): State<Arc<ApiState>>) -> Result<Json<LookOrder>, ApiError> {
    in_background(move || {
        let overview = api.overview()?;
        overview.findings.as_ref().ok_or_else(ApiError::no_dhcp)?.look_again();
        Ok(LookOrder { again: true })
    })
    .await
}

/// The age of a result: ` 3 min ago, and is asked again in 2 min`.
pub fn describe_age(finding: &SegmentFinding) -> String {
    let answered = count_age_s(finding.answered).map(format_span);
    let looked = count_age_s(finding.looked).map(format_span);
    let next = finding
        .next_look
        .map(|at| format_span(at.saturating_duration_since(Instant::now()).as_secs()));
    match (finding.others.is_empty(), answered, looked) {
        (false, Some(answered), _) => {
            let next = next.map_or_else(|| "now".to_owned(), |next| format!("again in {next}"));
            format!(" {answered} ago, and is asked {next}")
        }
        (true, _, Some(looked)) => {
            let next = next.map_or_else(
                || "one is under way".to_owned(),
                |next| format!("the next in {next}"),
            );
            format!(" (last look {looked} ago, {next})")
        }
        _ => String::new(),
    }
}

fn count_age_s(at: Option<Instant>) -> Option<u64> {
    at.map(|at| at.elapsed().as_secs())
}

fn subnet_look(finding: &SegmentFinding) -> SubnetLook {
    let next = finding.next_look;
    SubnetLook {
        subnet: finding.network.to_string(),
        interface: finding.interface.clone(),
        said: finding.sentence(&describe_age(finding)),
        looking: finding.held == Some(HoldReason::Looking),
        answered_s: count_age_s(finding.answered),
        looked_s: count_age_s(finding.looked),
        next_look_s: next.map(|at| at.saturating_duration_since(Instant::now()).as_secs()),
    }
}
