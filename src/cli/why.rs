//! `ringboot why MAC|IP`: one machine's last boot as a timeline, and where it stopped, from the
//! server or the history it left.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::client::{Order, SocketPlace, Source};
use super::output;
use crate::api::machines;
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

/// Exit 0: the machine's last boot is told; 1: nobody has heard of it, or the history cannot be
/// read; 2: usage.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    arguments.place.carry_out(|source| tell(arguments, source))
}

fn tell(arguments: &Arguments, source: Source) -> anyhow::Result<ExitCode> {
    let told = match source {
        Source::Server(socket) => {
            let answer = socket.answer(&Order::get("/v1/machines").below(arguments.who))?;
            match answer.status {
                StatusCode::NOT_FOUND => Told::Unheard(answer.read()?),
                status if status.is_success() => Told::Heard(answer.read()?),
                _ => return Err(answer.into_problem()),
            }
        }
        Source::Store(state) => {
            match state.visit(|path| machines::of_history(path, arguments.who))? {
                Ok(story) => Told::Heard(story),
                Err(unheard) => Told::Unheard(unheard),
            }
        }
    };
    let (code, json, story) = match &told {
        Told::Heard(story) => (ExitCode::SUCCESS, output::in_json(story), story),
        Told::Unheard(machine) => (ExitCode::FAILURE, output::in_json(machine), &machine.story),
    };
    Ok(output::say(&if arguments.json { json } else { plain(story) }, code))
}

/// A machine's story, or what to look at where nobody has heard of it.
enum Told {
    Heard(BootStory),
    Unheard(Box<UnknownMachine>),
}

fn plain(story: &BootStory) -> String {
    let mut text = story.machine.clone();
    for known in [&story.address, &story.firmware].into_iter().flatten() {
        let _ = write!(text, "  {known}");
    }
    text.push('\n');
    if !story.lines.is_empty() {
        let began = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(story.began_ms));
        let began = httpdate::fmt_http_date(began.unwrap_or(SystemTime::UNIX_EPOCH));
        let quiet = span(story.quiet_ms);
        let _ = writeln!(text, "last boot began {began}, last heard of {quiet} ago");
    }
    for line in &story.lines {
        let times = if line.times > 1 { format!("  x {}", line.times) } else { String::new() };
        let (after, stage) = (seconds(line.after_ms), line.stage);
        let _ = writeln!(text, "{after} s  {stage:<11}  {}{times}", line.text);
    }
    for limit in &story.limits {
        let _ = writeln!(text, "limited to {limit}");
    }
    match (&story.cause, &story.next_step) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::sample::{assert_shown, sample};

    #[test]
    fn every_field_is_printed_or_left_to_json_for_a_reason() {
        let story: BootStory = sample();
        assert_shown(&[story], plain, &[("code", "the cause is said in a sentence")]);
    }
}
