//! Limits of machines, as JSON: what is learnt, pinned and configured, and how it is changed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde_json::{Value, json};

use super::admin_socket::{Answer, Routes};
use crate::boot::quirks::{FirmwareQuirk, FixedQuirk, QuirkAllowance, QuirkSubject, SHIPPED};
use crate::control::quirks::QuirkKeeper;
use crate::model::machine::{Firmware, Mac};
use crate::store::{DATABASE, SqliteStore, StoreError};

pub fn no_limit(subject: QuirkSubject) -> String {
    format!(
        "nothing was learnt of {subject} and nothing pinned; what [[quirk]] says is changed in the \
         configuration"
    )
}

/// The resource of a running server.
pub const PATH: &str = "/v1/quirks";

/// What the running server has; `quirks` is None where no DHCP is answered, and so no machine is
/// known.
pub fn routes(
    routes: Routes,
    quirks: Option<std::sync::Arc<QuirkKeeper>>,
    fixed: impl Fn() -> Vec<FixedQuirk> + Send + Sync + 'static,
) -> Routes {
    let (pins, forgets) = (quirks.clone(), quirks.clone());
    routes
        .get(PATH, move |_| {
            let known = quirks.as_ref().map(|quirks| quirks.list()).unwrap_or_default();
            Answer::ok(list(&all(known, &fixed())))
        })
        .post("/v1/quirks/", move |rest| with(pins.as_deref(), |quirks| pin(quirks, rest)))
        .delete("/v1/quirks/", move |rest| with(forgets.as_deref(), |quirks| forget(quirks, rest)))
}

fn with(
    quirks: Option<&QuirkKeeper>,
    answer: impl FnOnce(&QuirkKeeper) -> Result<Answer, StoreError>,
) -> Answer {
    let Some(quirks) = quirks else {
        let detail =
            "machines are known by their leases; [[quirk]] in the configuration needs them too";
        return Answer::problem(StatusCode::CONFLICT, "no DHCP is answered here", detail);
    };
    answer(quirks).unwrap_or_else(|error| {
        let detail = format!("{error}; it holds until the next start");
        Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "not kept", &detail)
    })
}

fn pin(quirks: &QuirkKeeper, rest: &str) -> Result<Answer, StoreError> {
    let asked = rest
        .split_once('/')
        .and_then(|(subject, limits)| Some((subject.parse().ok()?, of_path(limits)?)));
    let Some((subject, allowance)) = asked else {
        let detail =
            "POST /v1/quirks/SUBJECT/window=N/blksize=N/http-rate=N, one of the three at least";
        return Ok(Answer::problem(StatusCode::BAD_REQUEST, "no such subject or limit", detail));
    };
    quirks.pin(subject, allowance)?;
    Ok(Answer::ok(json!({ "subject": subject.to_string(), "limits": in_json(allowance) })))
}

fn forget(quirks: &QuirkKeeper, rest: &str) -> Result<Answer, StoreError> {
    Ok(match rest.parse::<QuirkSubject>() {
        Ok(subject) if quirks.forget(subject)? => {
            Answer::ok(json!({ "subject": subject.to_string() }))
        }
        Ok(subject) => Answer::problem(StatusCode::NOT_FOUND, "no such limit", &no_limit(subject)),
        Err(error) => {
            Answer::problem(StatusCode::BAD_REQUEST, "no such subject", &error.to_string())
        }
    })
}

/// `window=1/blksize=1024`
pub fn in_path(allowance: QuirkAllowance) -> String {
    let QuirkAllowance { window, blksize, http_rate } = allowance;
    let window = window.map(|n| format!("window={n}"));
    let blksize = blksize.map(|n| format!("blksize={n}"));
    let rate = http_rate.map(|n| format!("http-rate={n}"));
    [window, blksize, rate].into_iter().flatten().collect::<Vec<_>>().join("/")
}

fn of_path(text: &str) -> Option<QuirkAllowance> {
    let mut allowance = QuirkAllowance::default();
    for pair in text.split('/') {
        match pair.split_once('=')? {
            ("window", n) => allowance.window = Some(n.parse().ok().filter(|n| *n > 0)?),
            ("blksize", n) => {
                allowance.blksize = Some(n.parse().ok().filter(|n| (8..=65_464).contains(n))?)
            }
            ("http-rate", n) => allowance.http_rate = Some(n.parse().ok()?),
            _ => return None,
        }
    }
    Some(allowance)
}

/// A limit with where it comes from.
#[derive(Debug)]
pub struct Listed {
    subject: QuirkSubject,
    allowance: QuirkAllowance,
    origin: Origin,
    /// Unix seconds; None = for ever.
    since_s: Option<u64>,
    works_s: Option<u64>,
    on_trial: bool,
    why: String,
}

/// In the order in which one goes before the other, for one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Pinned,
    Configured,
    Learnt,
    Shipped,
}

impl Origin {
    fn word(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Configured => "configured",
            Self::Learnt => "learnt",
            Self::Shipped => "shipped",
        }
    }
}

/// Everything that limits anybody.
pub fn all(known: Vec<FirmwareQuirk>, fixed: &[FixedQuirk]) -> Vec<Listed> {
    let known = known.into_iter().map(|quirk| Listed {
        subject: quirk.subject,
        allowance: quirk.allowance,
        origin: if quirk.pinned { Origin::Pinned } else { Origin::Learnt },
        since_s: Some(quirk.since_s),
        works_s: quirk.works_s,
        on_trial: quirk.on_trial,
        why: quirk.why,
    });
    let fixed = fixed
        .iter()
        .map(|one| always(one, Origin::Configured, "[[quirk]] in the configuration says so"));
    let shipped = SHIPPED.iter().map(|(one, why)| always(one, Origin::Shipped, why));
    known.chain(fixed).chain(shipped).collect()
}

fn always(one: &FixedQuirk, origin: Origin, why: &str) -> Listed {
    let FixedQuirk { subject, allowance } = *one;
    Listed {
        subject,
        allowance,
        origin,
        since_s: None,
        works_s: None,
        on_trial: false,
        why: why.to_owned(),
    }
}

/// What a stopped server knew. No database is no limit.
pub fn stored(state: &Path) -> anyhow::Result<Vec<FirmwareQuirk>> {
    let database = state.join(DATABASE);
    Ok(if database.exists() { SqliteStore::quirks_in(&database)? } else { Vec::new() })
}

pub fn list(all: &[Listed]) -> Value {
    json!({ "quirks": all.iter().map(one).collect::<Vec<_>>() })
}

fn one(listed: &Listed) -> Value {
    json!({
        "subject": listed.subject.to_string(),
        "kind": match listed.subject {
            QuirkSubject::Machine(_) => "machine",
            QuirkSubject::Oui(_) => "oui",
            QuirkSubject::Class(_) => "vendor-class",
        },
        "limits": in_json(listed.allowance),
        "origin": listed.origin.word(),
        "since_s": listed.since_s,
        "works_s": listed.works_s,
        "on_trial": listed.on_trial,
        "why": listed.why,
    })
}

fn in_json(allowance: QuirkAllowance) -> Value {
    json!({ "windowsize": allowance.window, "blksize": allowance.blksize,
        "http_rate": allowance.http_rate })
}

/// What this machine gets less of, a sentence for each limit.
pub fn sentences(mut all: Vec<Listed>, mac: Mac, firmware: Option<Firmware>) -> Vec<String> {
    all.retain(|listed| !listed.on_trial);
    all.sort_by_key(|listed| listed.origin);
    let mut had = QuirkAllowance::default();
    let mut said = Vec::new();
    // What is shipped counts after everything else, whatever it is for.
    let passes = [false, true].into_iter().flat_map(|shipped| {
        QuirkSubject::all_of(mac, firmware)
            .map(move |subject| (subject, shipped))
            .collect::<Vec<_>>()
    });
    for (subject, shipped) in passes {
        let of_subject = |listed: &&Listed| {
            listed.subject == subject && (listed.origin == Origin::Shipped) == shipped
        };
        for listed in all.iter().filter(of_subject) {
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
            let since = listed.since_s.map(|s| format!(" on {}", date(s))).unwrap_or_default();
            let of = if matches!(subject, QuirkSubject::Machine(_)) {
                String::new()
            } else {
                format!(", as all of {subject}")
            };
            said.push(format!(
                "{new} because {}{of} ({}{since})",
                listed.why,
                listed.origin.word()
            ));
        }
    }
    said
}

/// How many machines, and how many makers and classes, run with limits that were learnt or pinned;
/// for `status`.
pub fn counted(quirks: &[FirmwareQuirk]) -> Value {
    let in_force = || quirks.iter().filter(|quirk| !quirk.on_trial);
    let machines =
        in_force().filter(|quirk| matches!(quirk.subject, QuirkSubject::Machine(_))).count();
    json!({
        "machines": machines,
        "groups": in_force().count() - machines,
        "pinned": in_force().filter(|quirk| quirk.pinned).count(),
        "on_trial": quirks.iter().filter(|quirk| quirk.on_trial).count(),
    })
}

pub fn date(unix_s: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix_s));
    httpdate::fmt_http_date(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn limits_travel_in_a_path() {
        let allowance =
            QuirkAllowance { window: Some(1), blksize: None, http_rate: NonZeroU64::new(9) };
        assert_eq!(in_path(allowance), "window=1/http-rate=9");
        assert_eq!(of_path("window=1/http-rate=9"), Some(allowance));
        for wrong in ["", "window", "window=0", "blksize=7", "http-rate=0", "rate=1", "window=1/"] {
            assert_eq!(of_path(wrong), None, "{wrong}");
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
        let own = sentences(all(known(), &fixed), mac(1), None);
        assert_eq!(
            own,
            [
                "windowsize 1 because two failed (learnt on Thu, 01 Jan 1970 00:00:00 GMT)",
                "blksize 1024 because [[quirk]] in the configuration says so, as all of 02:00:00 \
                 (configured)"
            ]
        );
        let other = sentences(all(known(), &[]), mac(2), None);
        assert_eq!(
            other,
            ["windowsize 4 because 3 machines, as all of 02:00:00 (learnt on Thu, 01 Jan 1970 \
                 00:00:00 GMT)"]
        );
        assert!(sentences(all(known(), &[]), Mac([4; 6]), None).is_empty());
    }
}
