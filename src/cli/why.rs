//! `ringboot why MAC|IP`: one machine's last boot as a timeline, and where it stopped, from the server or the history it left.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use serde_json::Value;

use super::client::{Place, Source};
use super::machines::{self, Who};
use crate::observe::journal::{Journal, Keep};
use crate::observe::log::{Load, Memory};
use crate::store::{HISTORY, History};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The machine: its hardware address in any spelling, or an IP address that it has or had
    #[arg(value_name = "MAC|IP")]
    who: Who,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0: the machine's last boot is told; 1: nobody has heard of it, or the history cannot be read; 2: usage.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.place.carry_out(|source| tell(arguments, source))
}

fn tell(arguments: &Arguments, source: Source) -> anyhow::Result<ExitCode> {
    let answer = match source {
        Source::Server(socket) => socket.ask("GET", &format!("/v1/machines/{}", arguments.who))?,
        Source::Store(state) => state.visit(|path| machines::of_history(path, arguments.who))?,
    };
    let body = &answer.body;
    if body["lines"].is_null() {
        bail!("{}: {}", word(&body["title"]), word(&body["detail"]));
    }
    let code = if answer.status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(super::say(&if arguments.json { super::in_json(body) } else { plain(body) }, code))
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn plain(story: &Value) -> String {
    let mut text = word(&story["machine"]).to_owned();
    for known in [&story["address"], &story["firmware"]] {
        if let Some(known) = known.as_str() {
            let _ = write!(text, "  {known}");
        }
    }
    text.push('\n');
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let lines = story["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !lines.is_empty() {
        let began = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(number(&story["began_ms"])));
        let began = httpdate::fmt_http_date(began.unwrap_or(SystemTime::UNIX_EPOCH));
        let _ = writeln!(text, "last boot began {began}, last heard of {} ago", span(number(&story["quiet_ms"])));
    }
    for line in lines {
        let times = if number(&line["times"]) > 1 { format!("  x {}", line["times"]) } else { String::new() };
        let (after, stage) = (seconds(number(&line["after_ms"])), word(&line["stage"]));
        let _ = writeln!(text, "{after} s  {stage:<11}  {}{times}", word(&line["text"]));
    }
    for limit in story["limits"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "limited to {}", word(limit));
    }
    match (story["cause"].as_str(), story["next_step"].as_str()) {
        (Some(cause), Some(next_step)) => {
            let _ = writeln!(text, "{cause}\n{next_step}");
        }
        _ => text.push_str("It got what it asked for: nothing that can be seen from the server is wrong.\n"),
    }
    text
}

/// `    7.380`
fn seconds(ms: u64) -> String {
    format!("{:5}.{:03}", ms / 1000, ms % 1000)
}

fn span(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// The server's memory of machines. What an earlier run kept in `state` is read when the server answers already. A history that
/// cannot be kept stops no boot.
pub(super) fn memory(state: &Path) -> Memory {
    let memory = Memory::default();
    let path = state.join(HISTORY);
    let journal = Arc::clone(&memory.journal);
    let load: Option<Load> = match History::open(&path) {
        Ok(mut history) => Some(Box::new(move |loaded| {
            let mut forgotten = Vec::new();
            let read = history.load(|kept| loaded.load(kept, &mut forgotten)).and_then(|()| history.keep(&forgotten));
            if let Err(error) = read {
                tracing::warn!("`ringboot why` will know nothing of this run: {error}");
                return None;
            }
            Some(keeper(history, path, journal))
        })),
        Err(error) => {
            tracing::warn!("`ringboot why` will know nothing of this run: {error}");
            None
        }
    };
    Memory { load, ..memory }
}

/// A file that was removed or replaced under the server is made anew, with all that is remembered.
fn keeper(mut history: History, path: PathBuf, journal: Arc<Journal>) -> Keep {
    let mut has_failed = false;
    Box::new(move |notes| {
        let kept = if history.is_in_place() {
            history.keep(notes)
        } else {
            History::open(&path).and_then(|fresh| {
                history = fresh;
                history.keep(&journal.notes())
            })
        };
        // Said once: a full disk would be told every second.
        if let Err(error) = &kept
            && !has_failed
        {
            tracing::warn!("the history of machines is not kept: {error}");
        }
        has_failed = kept.is_err();
    })
}
