//! What is known of other DHCP servers, as JSON, and the wish to look again.

use std::time::Instant;

use http::StatusCode;
use serde_json::{Value, json};

use super::admin_socket::{Answer, Routes};
use super::values::span;
use crate::dhcp::subnet::HoldReason;
use crate::serve::dhcp::other_servers::Finding as SegmentFinding;
use crate::serve::handle::Handle;

pub const PATH: &str = "/v1/looks";

/// How old what is known is: ` 3 min ago, and is asked again in 2 min`.
pub fn since(finding: &SegmentFinding) -> String {
    let ago = |at: Option<Instant>| at.map(|at| span(at.elapsed().as_secs()));
    let next =
        finding.next_look.map(|at| span(at.saturating_duration_since(Instant::now()).as_secs()));
    match (finding.others.is_empty(), ago(finding.answered), ago(finding.looked)) {
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

/// Adds the resources.
pub fn routes(routes: Routes, handle: &Handle) -> Routes {
    let (listing, forgetting) = (handle.clone(), handle.clone());
    routes
        .get(PATH, move |_| answer(&listing, false))
        .post(PATH, move |_| answer(&forgetting, true))
}

fn answer(handle: &Handle, again: bool) -> Answer {
    let Some(overview) = handle.overview() else {
        return Answer::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "starting or stopping",
            "ask again in a moment",
        );
    };
    let Some(findings) = overview.findings.as_ref() else {
        return Answer::problem(
            StatusCode::CONFLICT,
            "no DHCP is answered",
            "no subnet has `mode = \"server\"`",
        );
    };
    if again {
        findings.look_again();
        return Answer::ok(json!({ "again": true }));
    }
    // Asked before the rest is read: what is read then is of the new look.
    let is_ordered = findings.is_to_look_again();
    let looks: Vec<Value> = findings.read().segments.iter().map(one).collect();
    Answer::ok(json!({ "looks": looks, "again": is_ordered }))
}

fn one(finding: &SegmentFinding) -> Value {
    let ago_s = |at: Option<Instant>| at.map(|at| at.elapsed().as_secs());
    json!({
        "subnet": finding.network.to_string(),
        "interface": finding.interface,
        "said": finding.sentence(&since(finding)),
        "looking": finding.held == Some(HoldReason::Looking),
        "answered_s": ago_s(finding.answered),
        "looked_s": ago_s(finding.looked),
        "next_look_s": finding.next_look.map(|at| at.saturating_duration_since(Instant::now(
            )).as_secs()),
    })
}
