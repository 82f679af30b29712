//! `ringboot quirk`: lists, pins and forgets limits of machines, makers and classes of firmware.

use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::process::ExitCode;

use anyhow::bail;

use super::client::{Order, SocketPlace, Source};
use super::output;
use crate::api::quirks::{explain_no_limit, format_date, merge_limits, quirk_list, stored_quirks};
use crate::api::types::{ForgottenQuirk, PinnedQuirk, QuirkLimits, QuirkList};
use crate::boot::quirks::{QuirkAllowance, QuirkSubject};
use crate::control::quirks::change_stored_quirks;
use crate::model::who::MachineSelector;
use crate::store::SqliteStore;

const PATH: &str = "/v1/quirks";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List every limit, learnt, pinned, configured or shipped, with its reason
    List(QuirkListArguments),
    /// Fix a limit of a machine, a maker or a vendor class; learning does not change it
    Pin(Pin),
    /// Drop a learnt or pinned limit: the next transfer tries without it
    Forget(Forget),
}

#[derive(Debug, clap::Args)]
struct QuirkListArguments {
    #[command(flatten)]
    place: SocketPlace,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Pin {
    /// A hardware address, the first half of one, or a vendor class such as pxe+uefi-x64
    #[arg(value_name = "MAC|OUI|CLASS", value_parser = parse_subject)]
    subject: QuirkSubject,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    place: SocketPlace,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Limits {
    /// At most this many blocks in a window; 1 refuses the option windowsize
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    window: Option<u16>,
    /// At most this many bytes in a block; 512 refuses the option blksize
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(8..=65_464))]
    blksize: Option<u16>,
    /// At most this many bytes a second on one HTTP connection
    #[arg(long, value_name = "BYTES/S")]
    http_rate: Option<NonZeroU64>,
}

#[derive(Debug, clap::Args)]
struct Forget {
    /// The name in `ringboot quirk list`
    #[arg(value_name = "MAC|OUI|CLASS", value_parser = parse_subject)]
    subject: QuirkSubject,
    #[command(flatten)]
    place: SocketPlace,
}

/// Parses a subject; hardware addresses in any spelling of `why`.
fn parse_subject(text: &str) -> Result<QuirkSubject, String> {
    text.parse().or_else(|error: crate::boot::quirks::NoSubject| match text.parse() {
        Ok(MachineSelector::Mac(mac)) => Ok(QuirkSubject::Machine(mac)),
        _ => Err(error.to_string()),
    })
}

/// Exit 0: done; 1: there is no such limit, or neither server nor store can be read; 2: usage or
/// configuration.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let place = match &arguments.command {
        Command::List(list) => &list.place,
        Command::Pin(pin) => &pin.place,
        Command::Forget(forget) => &forget.place,
    };
    place.carry_out(|source| {
        let text = match &arguments.command {
            Command::List(list) => list_quirks(source, list.json),
            Command::Pin(pin) => pin_quirk(source, pin),
            Command::Forget(forget) => forget_quirk(source, forget.subject),
        }?;
        Ok(output::say(&text, ExitCode::SUCCESS))
    })
}

fn list_quirks(source: Source, json: bool) -> anyhow::Result<String> {
    let list = match source {
        Source::Server(socket) => socket.ask(&Order::get(PATH))?,
        Source::Store(state) => {
            state.visit(|path| Ok(quirk_list(&merge_limits(stored_quirks(path)?, &[]))))?
        }
    };
    Ok(if json { output::in_json(&list) } else { format_quirks(&list) })
}

fn pin_quirk(source: Source, pin: &Pin) -> anyhow::Result<String> {
    let Pin { subject, limits, .. } = pin;
    let allowance = QuirkAllowance {
        window: limits.window,
        blksize: limits.blksize,
        http_rate: limits.http_rate,
    };

    match source {
        Source::Server(socket) => {
            let limits = QuirkLimits::from(allowance);
            let _: PinnedQuirk = socket.ask(&Order::put(PATH).below(subject).json(&limits)?)?;
        }
        // No server runs: the next one loads the limit when it starts.
        Source::Store(state) => state.change(|state| {
            let store = SqliteStore::open(&state.database())?;
            Ok(change_stored_quirks(store, |learner, now_s| {
                learner.pin(*subject, allowance, now_s)
            })
            .map(drop)?)
        })?,
    }
    Ok(format!("{subject}: {allowance}\n"))
}

fn forget_quirk(source: Source, subject: QuirkSubject) -> anyhow::Result<String> {
    let was_there = match source {
        Source::Server(socket) => {
            let _: ForgottenQuirk = socket.ask(&Order::delete(PATH).below(subject))?;
            true
        }
        Source::Store(state) => state.change(|state| {
            let store = SqliteStore::open(&state.database())?;
            Ok(change_stored_quirks(store, |learner, _| learner.forget(subject))?)
        })?,
    };
    if was_there {
        Ok(format!("{subject}: the limit is removed\n"))
    } else {
        bail!("{}", explain_no_limit(subject))
    }
}

fn format_quirks(list: &QuirkList) -> String {
    let mut text = String::new();
    for quirk in &list.quirks {
        let (subject, origin, why) = (&quirk.subject, quirk.origin, &quirk.why);
        let allowance = QuirkAllowance::from(quirk.limits);
        let since =
            quirk.since_s.map(|s| format!(", since {}", format_date(s))).unwrap_or_default();
        let works = if quirk.works_s.is_some() { "; it works" } else { "" };
        let trial = if quirk.on_trial { "; on trial without" } else { "" };
        let _ = writeln!(
            text,
            "{subject:<18} {origin:<10} {allowance} because {why}{since}{works}{trial}"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let list: QuirkList = sample();
        assert_shown(
            &[list],
            format_quirks,
            &[
                ("quirks.kind", "the subject shows what it is"),
                ("quirks.works_s", "that it works is said, and not since when"),
            ],
        );
    }
}
