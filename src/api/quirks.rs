//! Limits of machines: what is learnt, pinned, configured and shipped, and how it is changed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use http::StatusCode;

use super::error::{ApiError, BodyFault, ServerFault};
use super::extract::{Json, PathText};
use super::state::{ApiState, in_background};
use super::types::{
    ApiProblem, ForgottenQuirk, PinnedQuirk, QuirkCounts, QuirkEntry, QuirkKind, QuirkLimits,
    QuirkList, QuirkOrigin,
};
use crate::boot::quirks::{FirmwareQuirk, FixedQuirk, QuirkAllowance, QuirkSubject, SHIPPED};
use crate::control::quirks::QuirkKeeper;
use crate::model::machine::{Firmware, Mac};
use crate::store::{DATABASE, SqliteStore, StoreError};

/// Smallest and largest `blksize` (RFC 2348).
const BLKSIZES: std::ops::RangeInclusive<u16> = 8..=65_464;

/// Lists the limits of firmware with their reasons.
///
/// A pinned limit goes before a configured one, that before a learnt one, and that before a shipped
/// one.
#[utoipa::path(
    get,
    path = "/v1/quirks",
    tag = "quirks",
    responses((status = 200, description = "Every limit.", body = QuirkList), ServerFault),
)]
pub async fn list_quirks(State(api): State<Arc<ApiState>>) -> Result<Json<QuirkList>, ApiError> {
    in_background(move || Ok(quirk_list(&merge_limits(api.learnt_quirks(), &api.fixed_quirks()))))
        .await
}

/// Pins a limit of a machine, a maker or a vendor class.
///
/// Learning does not change a pinned limit. At least one of the three limits is required; null, or
/// a limit that is left out, sets none.
#[utoipa::path(
    put,
    path = "/v1/quirks/{subject}",
    tag = "quirks",
    params(("subject" = String, Path, description = "Hardware address, the first half of one, or \
        vendor class such as `pxe+uefi-x64`.", example = "52:54:00:12:34:10")),
    request_body(content = QuirkLimits, description = "What the server grants at most."),
    responses(
        (status = 200, description = "The limit is pinned.", body = PinnedQuirk),
        (status = 409, description = "The server answers no DHCP, so it knows no machine.",
            body = ApiProblem, content_type = "application/problem+json"),
        BodyFault,
        ServerFault,
    ),
)]
pub async fn pin_quirk(
    State(api): State<Arc<ApiState>>,
    PathText(subject): PathText,
    Json(limits): Json<QuirkLimits>,
) -> Result<Json<PinnedQuirk>, ApiError> {
    in_background(move || {
        let subject = parse_subject(&subject)?;
        let allowance = check_limits(limits)?;
        find_keeper(&api)?.pin(subject, allowance).map_err(report_not_stored)?;
        Ok(PinnedQuirk { subject: subject.to_string(), limits: allowance.into() })
    })
    .await
}

/// Drops a learnt or pinned limit.
///
/// The next transfer tries without it. Limits of the configuration change only there.
#[utoipa::path(
    delete,
    path = "/v1/quirks/{subject}",
    tag = "quirks",
    params(("subject" = String, Path, description = "The subject in the list.",
        example = "52:54:00:12:34:10")),
    responses(
        (status = 200, description = "The limit is dropped.", body = ForgottenQuirk),
        (status = 400, description = "The path names no subject.",
            body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "There is no such limit.",
            body = ApiProblem, content_type = "application/problem+json"),
        (status = 409, description = "The server answers no DHCP, so it knows no machine.",
            body = ApiProblem, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn forget_quirk(
    State(api): State<Arc<ApiState>>,
    PathText(subject): PathText,
) -> Result<Json<ForgottenQuirk>, ApiError> {
    in_background(move || {
        let subject = parse_subject(&subject)?;
        if !find_keeper(&api)?.forget(subject).map_err(report_not_stored)? {
            let detail = explain_no_limit(subject);
            return Err(ApiError::new(StatusCode::NOT_FOUND, "no such limit", detail));
        }
        Ok(ForgottenQuirk { subject: subject.to_string() })
    })
    .await
}

fn parse_subject(text: &str) -> Result<QuirkSubject, ApiError> {
    text.parse().map_err(|error: crate::boot::quirks::NoSubject| {
        ApiError::new(StatusCode::BAD_REQUEST, "no such subject", error.to_string())
    })
}

fn find_keeper(api: &ApiState) -> Result<&QuirkKeeper, ApiError> {
    api.known.quirks.as_deref().ok_or_else(|| {
        let detail = "the server knows machines by their leases, which [[quirk]] needs too";
        ApiError::new(StatusCode::CONFLICT, "this server answers no DHCP", detail)
    })
}

fn report_not_stored(error: StoreError) -> ApiError {
    let detail = format!("{error}; the change counts until the next start");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "not stored", detail)
}

/// The limits of a request, within the bounds of `ringboot quirk pin`.
fn check_limits(limits: QuirkLimits) -> Result<QuirkAllowance, ApiError> {
    if limits.windowsize == Some(0) {
        return Err(report_wrong_limit("windowsize must be at least 1"));
    }
    if limits.blksize.is_some_and(|bytes| !BLKSIZES.contains(&bytes)) {
        return Err(report_wrong_limit("blksize must be from 8 to 65464"));
    }
    let allowance = QuirkAllowance::from(limits);
    if allowance.is_empty() {
        return Err(report_wrong_limit("windowsize, blksize or http_rate is required"));
    }
    Ok(allowance)
}

fn report_wrong_limit(detail: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "no such limit", detail)
}

impl From<QuirkLimits> for QuirkAllowance {
    fn from(limits: QuirkLimits) -> Self {
        let QuirkLimits { windowsize, blksize, http_rate } = limits;
        Self { window: windowsize, blksize, http_rate }
    }
}

impl From<QuirkAllowance> for QuirkLimits {
    fn from(allowance: QuirkAllowance) -> Self {
        let QuirkAllowance { window, blksize, http_rate } = allowance;
        Self { windowsize: window, blksize, http_rate }
    }
}

/// Why there is no limit to forget.
pub fn explain_no_limit(subject: QuirkSubject) -> String {
    format!(
        "{subject} has no learnt or pinned limit; limits of [[quirk]] change only in the \
         configuration"
    )
}

/// A limit with its origin.
#[derive(Debug)]
pub struct MachineLimit {
    subject: QuirkSubject,
    allowance: QuirkAllowance,
    origin: QuirkOrigin,
    /// In Unix seconds; None for a configured or shipped limit.
    since_s: Option<u64>,
    works_s: Option<u64>,
    on_trial: bool,
    why: String,
}

/// Every limit of any machine.
pub fn merge_limits(known: Vec<FirmwareQuirk>, fixed: &[FixedQuirk]) -> Vec<MachineLimit> {
    let known = known.into_iter().map(|quirk| MachineLimit {
        subject: quirk.subject,
        allowance: quirk.allowance,
        origin: if quirk.pinned { QuirkOrigin::Pinned } else { QuirkOrigin::Learnt },
        since_s: Some(quirk.since_s),
        works_s: quirk.works_s,
        on_trial: quirk.on_trial,
        why: quirk.why,
    });
    let fixed = fixed.iter().map(|one| {
        fixed_limit(one, QuirkOrigin::Configured, "[[quirk]] in the configuration sets it")
    });
    let shipped = SHIPPED.iter().map(|(one, why)| fixed_limit(one, QuirkOrigin::Shipped, why));
    known.chain(fixed).chain(shipped).collect()
}

fn fixed_limit(one: &FixedQuirk, origin: QuirkOrigin, why: &str) -> MachineLimit {
    let FixedQuirk { subject, allowance } = *one;
    MachineLimit {
        subject,
        allowance,
        origin,
        since_s: None,
        works_s: None,
        on_trial: false,
        why: why.to_owned(),
    }
}

/// The limits in the store of a stopped server; none without a database.
pub fn stored_quirks(state: &Path) -> anyhow::Result<Vec<FirmwareQuirk>> {
    let database = state.join(DATABASE);
    Ok(if database.exists() { SqliteStore::quirks_in(&database)? } else { Vec::new() })
}

/// The answer for these limits.
pub fn quirk_list(limits: &[MachineLimit]) -> QuirkList {
    QuirkList { quirks: limits.iter().map(quirk_entry).collect() }
}

fn quirk_entry(limit: &MachineLimit) -> QuirkEntry {
    QuirkEntry {
        subject: limit.subject.to_string(),
        kind: match limit.subject {
            QuirkSubject::Machine(_) => QuirkKind::Machine,
            QuirkSubject::Oui(_) => QuirkKind::Oui,
            QuirkSubject::Class(_) => QuirkKind::VendorClass,
        },
        limits: limit.allowance.into(),
        origin: limit.origin,
        since_s: limit.since_s,
        works_s: limit.works_s,
        on_trial: limit.on_trial,
        why: limit.why.clone(),
    }
}

/// The limits of one machine, a sentence for each.
pub fn describe_limits(
    mut all: Vec<MachineLimit>,
    mac: Mac,
    firmware: Option<Firmware>,
) -> Vec<String> {
    all.retain(|listed| !listed.on_trial);
    all.sort_by_key(|listed| listed.origin);
    let mut had = QuirkAllowance::default();
    let mut said = Vec::new();
    // A shipped limit counts after every other one, whatever its subject is.
    let passes = [false, true].into_iter().flat_map(|shipped| {
        QuirkSubject::iter_including(mac, firmware)
            .map(move |subject| (subject, shipped))
            .collect::<Vec<_>>()
    });
    for (subject, shipped) in passes {
        let in_pass = all.iter().filter(|listed| {
            listed.subject == subject && (listed.origin == QuirkOrigin::Shipped) == shipped
        });
        for listed in in_pass {
            let QuirkAllowance { window, blksize, http_rate } = listed.allowance;
            let new = QuirkAllowance {
                window: window.filter(|_| had.window.is_none()),
                blksize: blksize.filter(|_| had.blksize.is_none()),
                http_rate: http_rate.filter(|_| had.http_rate.is_none()),
            };
            if new.is_empty() {
                continue;
            }
            had = had.or(new);
            let since =
                listed.since_s.map(|s| format!(" on {}", format_date(s))).unwrap_or_default();
            let of = if matches!(subject, QuirkSubject::Machine(_)) {
                String::new()
            } else {
                format!(", as all of {subject}")
            };
            said.push(format!(
                "{new} because {}{of} ({}{since})",
                listed.why,
                listed.origin.as_str()
            ));
        }
    }
    said
}

/// Counts learnt and pinned limits, for `status`.
pub fn quirk_counts(quirks: &[FirmwareQuirk]) -> QuirkCounts {
    let in_force = || quirks.iter().filter(|quirk| !quirk.on_trial);
    let machines =
        in_force().filter(|quirk| matches!(quirk.subject, QuirkSubject::Machine(_))).count();
    QuirkCounts {
        machines,
        groups: in_force().count() - machines,
        pinned: in_force().filter(|quirk| quirk.pinned).count(),
        on_trial: quirks.iter().filter(|quirk| quirk.on_trial).count(),
    }
}

/// A time as HTTP-date.
pub fn format_date(unix_s: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix_s));
    httpdate::fmt_http_date(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn a_pin_has_one_limit_at_least_and_each_within_its_bounds() {
        let granted = |json: &str| check_limits(serde_json::from_str(json).unwrap());
        assert_eq!(
            granted(r#"{ "windowsize": 1, "http_rate": 9, "blksize": null }"#),
            Ok(QuirkAllowance { window: Some(1), blksize: None, http_rate: NonZeroU64::new(9) })
        );
        for wrong in
            ["{}", r#"{ "windowsize": 0 }"#, r#"{ "blksize": 7 }"#, r#"{ "blksize": 65465 }"#]
        {
            let error = granted(wrong).unwrap_err();
            assert_eq!(error.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        }
    }

    #[test]
    fn a_machine_is_told_the_reason_that_counts() {
        let quirk = |subject: &str, window, pinned, why: &str| FirmwareQuirk {
            subject: subject.parse().unwrap(),
            allowance: QuirkAllowance { window: Some(window), ..QuirkAllowance::default() },
            pinned,
            since_s: 0,
            works_s: None,
            on_trial: false,
            class: None,
            why: why.into(),
        };
        let known = || {
            vec![
                quirk("02:00:00", 4, false, "3 machines"),
                quirk("02:00:00:00:00:01", 1, false, "two failed"),
            ]
        };
        let fixed = [FixedQuirk {
            subject: "02:00:00".parse().unwrap(),
            allowance: QuirkAllowance { window: Some(8), blksize: Some(1024), http_rate: None },
        }];
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let own = describe_limits(merge_limits(known(), &fixed), mac(1), None);
        assert_eq!(
            own,
            [
                "windowsize 1 because two failed (learnt on Thu, 01 Jan 1970 00:00:00 GMT)",
                "blksize 1024 because [[quirk]] in the configuration sets it, as all of 02:00:00 \
                 (configured)"
            ]
        );
        let other = describe_limits(merge_limits(known(), &[]), mac(2), None);
        assert_eq!(
            other,
            ["windowsize 4 because 3 machines, as all of 02:00:00 (learnt on Thu, 01 Jan 1970 \
                 00:00:00 GMT)"]
        );
        assert!(describe_limits(merge_limits(known(), &[]), Mac([4; 6]), None).is_empty());
    }
}
