//! `ringboot quirk`: which machines, makers and classes of firmware get less than they ask for, why, and by whose word.

use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use http::StatusCode;
use serde_json::{Value, json};

use super::client::{self, Place, Source};
use super::machines::Who;
use crate::boot::quirks::{Allowance, Fixed, Quirk, SHIPPED, Subject};
use crate::control::admin::{Answer, Routes};
use crate::control::quirks::{Quirks, change_stored};
use crate::model::machine::{Firmware, Mac};
use crate::store::{DATABASE, SqliteStore, StoreError};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Every limit: learnt, pinned, configured and shipped, with its reason
    List(List),
    /// Fix what a machine, a maker or a vendor class gets at most; learning leaves it alone
    Pin(Pin),
    /// Drop a limit that was learnt or pinned: the next transfer is tried without
    Forget(Forget),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Pin {
    /// A hardware address, the first half of one, or a vendor class such as pxe+uefi-x64
    #[arg(value_name = "MAC|OUI|CLASS", value_parser = subject)]
    subject: Subject,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Limits {
    /// Blocks in a window at most; 1: the option is not granted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    window: Option<u16>,
    /// Octets in a block at most; 512: the option is not granted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(8..=65_464))]
    blksize: Option<u16>,
    /// Bytes a second on one HTTP connection at most
    #[arg(long, value_name = "BYTES/S")]
    http_rate: Option<NonZeroU64>,
}

#[derive(Debug, clap::Args)]
struct Forget {
    /// What `ringboot quirk list` calls it
    #[arg(value_name = "MAC|OUI|CLASS", value_parser = subject)]
    subject: Subject,
    #[command(flatten)]
    place: Place,
}

/// Hardware addresses in any spelling that `why` knows, too.
fn subject(text: &str) -> Result<Subject, String> {
    text.parse().or_else(|error: crate::boot::quirks::NoSubject| match text.parse() {
        Ok(Who::Mac(mac)) => Ok(Subject::Machine(mac)),
        _ => Err(error.to_string()),
    })
}

/// Exit 0: done; 1: there is no such limit, or the server or store cannot be asked; 2: usage or configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let place = match &arguments.command {
        Command::List(list) => &list.place,
        Command::Pin(pin) => &pin.place,
        Command::Forget(forget) => &forget.place,
    };
    place.carry_out(|source| {
        let text = match &arguments.command {
            Command::List(list) => listed(source, list.json),
            Command::Pin(pin) => pinned(source, pin),
            Command::Forget(forget) => forgotten(source, forget.subject),
        }?;
        Ok(super::say(&text, ExitCode::SUCCESS))
    })
}

fn listed(source: Source, json: bool) -> anyhow::Result<String> {
    let body = match source {
        Source::Server(socket) => client::body(socket.ask("GET", PATH)?)?,
        Source::Store(state) => state.visit(|path| Ok(list(&all(stored(path)?, &[]))))?,
    };
    Ok(if json { super::in_json(&body) } else { plain(&body) })
}

fn pinned(source: Source, pin: &Pin) -> anyhow::Result<String> {
    let Pin { subject, limits, .. } = pin;
    let allowance = Allowance { window: limits.window, blksize: limits.blksize, http_rate: limits.http_rate };
    match source {
        Source::Server(socket) => {
            client::body(socket.ask("POST", &format!("{PATH}/{subject}/{}", in_path(allowance)))?)?;
        }
        Source::Store(state) => state.change(|state| {
            let store = SqliteStore::open(&state.database())?;
            Ok(change_stored(store, |learner, now_s| learner.pin(*subject, allowance, now_s)).map(drop)?)
        })?,
    }
    Ok(format!("{subject}: {allowance}\n"))
}

fn forgotten(source: Source, subject: Subject) -> anyhow::Result<String> {
    let was_there = match source {
        Source::Server(socket) => {
            client::body(socket.ask("DELETE", &format!("{PATH}/{subject}"))?)?;
            true
        }
        Source::Store(state) => state.change(|state| {
            let store = SqliteStore::open(&state.database())?;
            Ok(change_stored(store, |learner, _| learner.forget(subject))?)
        })?,
    };
    if was_there { Ok(format!("{subject}: no limit any more\n")) } else { bail!("{}", no_limit(subject)) }
}

fn no_limit(subject: Subject) -> String {
    format!("nothing was learnt of {subject} and nothing pinned; what [[quirk]] says is changed in the configuration")
}

// --- the resource ---

/// The resource of a running server.
const PATH: &str = "/v1/quirks";

/// What the running server has; `quirks` is None where no DHCP is answered, and so no machine is known.
pub(super) fn routes(
    routes: Routes,
    quirks: Option<std::sync::Arc<Quirks>>,
    fixed: impl Fn() -> Vec<Fixed> + Send + Sync + 'static,
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

fn with(quirks: Option<&Quirks>, answer: impl FnOnce(&Quirks) -> Result<Answer, StoreError>) -> Answer {
    let Some(quirks) = quirks else {
        let detail = "machines are known by their leases; [[quirk]] in the configuration needs them too";
        return Answer::problem(StatusCode::CONFLICT, "no DHCP is answered here", detail);
    };
    answer(quirks).unwrap_or_else(|error| {
        let detail = format!("{error}; it holds until the next start");
        Answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "not kept", &detail)
    })
}

fn pin(quirks: &Quirks, rest: &str) -> Result<Answer, StoreError> {
    let asked = rest.split_once('/').and_then(|(subject, limits)| Some((subject.parse().ok()?, of_path(limits)?)));
    let Some((subject, allowance)) = asked else {
        let detail = "POST /v1/quirks/SUBJECT/window=N/blksize=N/http-rate=N, one of the three at least";
        return Ok(Answer::problem(StatusCode::BAD_REQUEST, "no such subject or limit", detail));
    };
    quirks.pin(subject, allowance)?;
    Ok(Answer::ok(json!({ "subject": subject.to_string(), "limits": in_json(allowance) })))
}

fn forget(quirks: &Quirks, rest: &str) -> Result<Answer, StoreError> {
    Ok(match rest.parse::<Subject>() {
        Ok(subject) if quirks.forget(subject)? => Answer::ok(json!({ "subject": subject.to_string() })),
        Ok(subject) => Answer::problem(StatusCode::NOT_FOUND, "no such limit", &no_limit(subject)),
        Err(error) => Answer::problem(StatusCode::BAD_REQUEST, "no such subject", &error.to_string()),
    })
}

/// `window=1/blksize=1024`
fn in_path(allowance: Allowance) -> String {
    let Allowance { window, blksize, http_rate } = allowance;
    let window = window.map(|n| format!("window={n}"));
    let blksize = blksize.map(|n| format!("blksize={n}"));
    let rate = http_rate.map(|n| format!("http-rate={n}"));
    [window, blksize, rate].into_iter().flatten().collect::<Vec<_>>().join("/")
}

fn of_path(text: &str) -> Option<Allowance> {
    let mut allowance = Allowance::default();
    for pair in text.split('/') {
        match pair.split_once('=')? {
            ("window", n) => allowance.window = Some(n.parse().ok().filter(|n| *n > 0)?),
            ("blksize", n) => allowance.blksize = Some(n.parse().ok().filter(|n| (8..=65_464).contains(n))?),
            ("http-rate", n) => allowance.http_rate = Some(n.parse().ok()?),
            _ => return None,
        }
    }
    Some(allowance)
}

// --- what is told ---

/// A limit with where it comes from.
pub(super) struct Listed {
    subject: Subject,
    allowance: Allowance,
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
pub(super) fn all(known: Vec<Quirk>, fixed: &[Fixed]) -> Vec<Listed> {
    let known = known.into_iter().map(|quirk| Listed {
        subject: quirk.subject,
        allowance: quirk.allowance,
        origin: if quirk.pinned { Origin::Pinned } else { Origin::Learnt },
        since_s: Some(quirk.since_s),
        works_s: quirk.works_s,
        on_trial: quirk.on_trial,
        why: quirk.why,
    });
    let fixed = fixed.iter().map(|one| always(one, Origin::Configured, "[[quirk]] in the configuration says so"));
    let shipped = SHIPPED.iter().map(|(one, why)| always(one, Origin::Shipped, why));
    known.chain(fixed).chain(shipped).collect()
}

fn always(one: &Fixed, origin: Origin, why: &str) -> Listed {
    let Fixed { subject, allowance } = *one;
    Listed { subject, allowance, origin, since_s: None, works_s: None, on_trial: false, why: why.to_owned() }
}

/// What a stopped server knew. No database is no limit.
pub(super) fn stored(state: &Path) -> anyhow::Result<Vec<Quirk>> {
    let database = state.join(DATABASE);
    Ok(if database.exists() { SqliteStore::quirks_in(&database)? } else { Vec::new() })
}

fn list(all: &[Listed]) -> Value {
    json!({ "quirks": all.iter().map(one).collect::<Vec<_>>() })
}

fn one(listed: &Listed) -> Value {
    json!({
        "subject": listed.subject.to_string(),
        "kind": match listed.subject {
            Subject::Machine(_) => "machine",
            Subject::Oui(_) => "oui",
            Subject::Class(_) => "vendor-class",
        },
        "limits": in_json(listed.allowance),
        "origin": listed.origin.word(),
        "since_s": listed.since_s,
        "works_s": listed.works_s,
        "on_trial": listed.on_trial,
        "why": listed.why,
    })
}

fn in_json(allowance: Allowance) -> Value {
    json!({ "windowsize": allowance.window, "blksize": allowance.blksize, "http_rate": allowance.http_rate })
}

fn plain(body: &Value) -> String {
    let mut text = String::new();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for quirk in body["quirks"].as_array().into_iter().flatten() {
        let limits = &quirk["limits"];
        let number = |key: &str| limits[key].as_u64();
        let small = |key: &str| number(key).and_then(|n| u16::try_from(n).ok());
        let http_rate = number("http_rate").and_then(NonZeroU64::new);
        let allowance = Allowance { window: small("windowsize"), blksize: small("blksize"), http_rate };
        let since = quirk["since_s"].as_u64().map(|s| format!(", since {}", date(s))).unwrap_or_default();
        let works = quirk["works_s"].as_u64().map(|_| "; it works").unwrap_or_default();
        let trial = if quirk["on_trial"] == true { "; on trial without" } else { "" };
        let (subject, origin, why) = (word(&quirk["subject"]), word(&quirk["origin"]), word(&quirk["why"]));
        let _ = writeln!(text, "{subject:<18} {origin:<10} {allowance} because {why}{since}{works}{trial}");
    }
    text
}

/// What this machine gets less of, a sentence for each limit.
pub(super) fn sentences(mut all: Vec<Listed>, mac: Mac, firmware: Option<Firmware>) -> Vec<String> {
    all.retain(|listed| !listed.on_trial);
    all.sort_by_key(|listed| listed.origin);
    let mut had = Allowance::default();
    let mut said = Vec::new();
    // What is shipped counts after everything else, whatever it is for.
    let passes = [false, true]
        .into_iter()
        .flat_map(|shipped| Subject::all_of(mac, firmware).map(move |subject| (subject, shipped)).collect::<Vec<_>>());
    for (subject, shipped) in passes {
        let of_subject = |listed: &&Listed| listed.subject == subject && (listed.origin == Origin::Shipped) == shipped;
        for listed in all.iter().filter(of_subject) {
            let Allowance { window, blksize, http_rate } = listed.allowance;
            let new = Allowance {
                window: window.filter(|_| had.window.is_none()),
                blksize: blksize.filter(|_| had.blksize.is_none()),
                http_rate: http_rate.filter(|_| had.http_rate.is_none()),
            };
            if new.is_empty() {
                continue;
            }
            had = had.or(new);
            let since = listed.since_s.map(|s| format!(" on {}", date(s))).unwrap_or_default();
            let of =
                if matches!(subject, Subject::Machine(_)) { String::new() } else { format!(", as all of {subject}") };
            said.push(format!("{new} because {}{of} ({}{since})", listed.why, listed.origin.word()));
        }
    }
    said
}

/// How many machines, and how many makers and classes, run with limits that were learnt or pinned; for `status`.
pub(super) fn counted(quirks: &[Quirk]) -> Value {
    let in_force = || quirks.iter().filter(|quirk| !quirk.on_trial);
    let machines = in_force().filter(|quirk| matches!(quirk.subject, Subject::Machine(_))).count();
    json!({
        "machines": machines,
        "groups": in_force().count() - machines,
        "pinned": in_force().filter(|quirk| quirk.pinned).count(),
        "on_trial": quirks.iter().filter(|quirk| quirk.on_trial).count(),
    })
}

fn date(unix_s: u64) -> String {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix_s));
    httpdate::fmt_http_date(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn limits_travel_in_a_path() {
        let allowance = Allowance { window: Some(1), blksize: None, http_rate: NonZeroU64::new(9) };
        assert_eq!(in_path(allowance), "window=1/http-rate=9");
        assert_eq!(of_path("window=1/http-rate=9"), Some(allowance));
        for wrong in ["", "window", "window=0", "blksize=7", "http-rate=0", "rate=1", "window=1/"] {
            assert_eq!(of_path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_machine_is_told_the_reason_that_counts() {
        let quirk = |subject: &str, window, pinned, why: &str| Quirk {
            subject: subject.parse().unwrap(),
            allowance: Allowance { window: Some(window), ..Allowance::default() },
            pinned,
            since_s: 0,
            works_s: None,
            on_trial: false,
            class: None,
            why: why.into(),
        };
        let known =
            || vec![quirk("02:00:00", 4, false, "3 machines"), quirk("02:00:00:00:00:01", 1, false, "two failed")];
        let fixed = [Fixed {
            subject: "02:00:00".parse().unwrap(),
            allowance: Allowance { window: Some(8), blksize: Some(1024), http_rate: None },
        }];
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let own = sentences(all(known(), &fixed), mac(1), None);
        assert_eq!(
            own,
            [
                "windowsize 1 because two failed (learnt on Thu, 01 Jan 1970 00:00:00 GMT)",
                "blksize 1024 because [[quirk]] in the configuration says so, as all of 02:00:00 (configured)"
            ]
        );
        let other = sentences(all(known(), &[]), mac(2), None);
        assert_eq!(
            other,
            ["windowsize 4 because 3 machines, as all of 02:00:00 (learnt on Thu, 01 Jan 1970 00:00:00 GMT)"]
        );
        assert!(sentences(all(known(), &[]), Mac([4; 6]), None).is_empty());
    }
}
