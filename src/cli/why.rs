//! `ringboot why MAC|IP`: the last boot of one machine as a timeline, and where it stopped, from
//! the server or from the history of a stopped one.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::client::{Order, SocketPlace, Source};
use super::output;
use crate::api::machine;
use crate::api::types::{BootStory, UnknownMachine};
use crate::model::who::MachineSelector;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The machine: its hardware address in any spelling, or an IP address that it has or had
    #[arg(value_name = "MAC|IP")]
    who: MachineSelector,
    #[command(flatten)]
    place: SocketPlace,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Exit 0: the machine is known; 1: it is unknown, or the history cannot be read; 2: usage.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.place.carry_out(|source| print_story(arguments, source))
}

fn print_story(arguments: &Arguments, source: Source) -> anyhow::Result<ExitCode> {
    let found = match source {
        Source::Server(socket) => {
            let answer = socket.exchange(&Order::get("/v1/machines").below(arguments.who))?;
            match answer.status {
                // An unknown machine is an answer and no error: it has a story with advice.
                StatusCode::NOT_FOUND => FoundStory::Unknown(answer.read()?),
                status if status.is_success() => FoundStory::Known(answer.read()?),
                _ => return Err(answer.into_problem()),
            }
        }
        Source::Store(state) => {
            match state.visit(|path| machine::of_history(path, arguments.who))? {
                Ok(story) => FoundStory::Known(story),
                Err(unheard) => FoundStory::Unknown(unheard),
            }
        }
    };
    let (code, json, story) = match &found {
        FoundStory::Known(story) => (ExitCode::SUCCESS, output::in_json(story), story),
        FoundStory::Unknown(machine) => {
            (ExitCode::FAILURE, output::in_json(machine), &machine.story)
        }
    };
    Ok(output::say(&if arguments.json { json } else { format_story(story) }, code))
}

/// The story of a known machine, or the advice for an unknown one.
enum FoundStory {
    Known(BootStory),
    Unknown(Box<UnknownMachine>),
}

fn format_story(story: &BootStory) -> String {
    let mut text = story.machine.clone();
    for known in [&story.address, &story.firmware].into_iter().flatten() {
        let _ = write!(text, "  {known}");
    }
    text.push('\n');

    // An unknown machine has no lines, and its boot began at no time.
    if !story.lines.is_empty() {
        let began = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(story.began_ms));
        let began = httpdate::fmt_http_date(began.unwrap_or(SystemTime::UNIX_EPOCH));
        let quiet = format_age(story.quiet_ms);
        let _ = writeln!(text, "last boot began {began}, last event {quiet} ago");
    }
    for line in &story.lines {
        let times = if line.times > 1 { format!("  x {}", line.times) } else { String::new() };
        let (after, stage) = (format_seconds(line.after_ms), line.stage);
        let _ = writeln!(text, "{after} s  {stage:<11}  {}{times}", line.text);
    }
    for limit in &story.limits {
        let _ = writeln!(text, "limited to {limit}");
    }
    match (&story.cause, &story.next_step) {
        (Some(cause), Some(next_step)) => {
            let _ = writeln!(text, "{cause}\n{next_step}");
        }
        _ => text.push_str("It got every file that it requested: the server sees nothing wrong.\n"),
    }
    text
}

/// `    7.380`
fn format_seconds(ms: u64) -> String {
    format!("{:5}.{:03}", ms / 1000, ms % 1000)
}

fn format_age(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let story: BootStory = sample();
        assert_shown(&[story], format_story, &[("code", "the cause is said in a sentence")]);
    }
}
