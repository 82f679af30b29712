//! `ringboot why MAC|IP`: one machine's last boot as a timeline, and where it stopped, from the
//! server or the history it left.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use serde_json::Value;

use super::client::{Place, Source};
use super::output;
use crate::api::machines;
use crate::model::who::MachineSelector;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The machine: its hardware address in any spelling, or an IP address that it has or had
    #[arg(value_name = "MAC|IP")]
    who: MachineSelector,
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0: the machine's last boot is told; 1: nobody has heard of it, or the history cannot be
/// read; 2: usage.
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
    Ok(output::say(&if arguments.json { output::in_json(body) } else { plain(body) }, code))
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
        let began =
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(number(&story["began_ms"])));
        let began = httpdate::fmt_http_date(began.unwrap_or(SystemTime::UNIX_EPOCH));
        let _ = writeln!(
            text,
            "last boot began {began}, last heard of {} ago",
            span(number(&story["quiet_ms"]))
        );
    }
    for line in lines {
        let times = if number(&line["times"]) > 1 {
            format!("  x {}", line["times"])
        } else {
            String::new()
        };
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
        _ => text.push_str(
            "It got what it asked for: nothing that can be seen from the server is wrong.\n",
        ),
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
