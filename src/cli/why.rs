//! `ringboot why MAC|IP`: one machine's last boot as a timeline, and where it stopped, out of the history database.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};

use super::serve::DEFAULT_CONFIG;
use crate::boot::machine::Mac;
use crate::config::Config;
use crate::control::store::{HISTORY, History, StoreError};
use crate::observe::log::Memory;
use crate::observe::timeline::{Story, story};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The machine: its hardware address in any spelling, or an IP address that it has or had
    #[arg(value_name = "MAC|IP", value_parser = parse_who)]
    who: Who,
    /// Configuration file that names the state directory [default: /etc/ringboot/ringboot.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// State directory of the server
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    state: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Mac(Mac),
    Address(IpAddr),
}

/// `52:54:00:12:34:10`, `52-54-...`, `5254.0012.3410`, `525400123410`, or an IP address.
fn parse_who(text: &str) -> Result<Who, String> {
    if let Ok(address) = text.parse() {
        return Ok(Who::Address(address));
    }
    let digits: String = text.chars().filter(|c| ![':', '-', '.'].contains(c)).collect();
    let octets = digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect::<Vec<_>>();
    let mac =
        octets.join(":").parse().map_err(|error| format!("neither an IP address nor a hardware address: {error}"))?;
    Ok(Who::Mac(mac))
}

/// Exit 0: the machine's last boot is told; 1: nobody has heard of it, or the history cannot be read; 2: usage.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let state = match state(arguments) {
        Ok(state) => state,
        Err(error) => {
            eprintln!("ringboot: {error:#}");
            return ExitCode::from(2);
        }
    };
    tell(arguments, &state).unwrap_or_else(|error| {
        eprintln!("ringboot: {error:#}");
        ExitCode::FAILURE
    })
}

fn state(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    if let Some(state) = &arguments.state {
        return Ok(state.clone());
    }
    let file = arguments.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading {}: name the server's --config FILE or --state DIR", file.display()))?;
    let config = Config::parse(&file.to_string_lossy(), &text)
        .map_err(|problems| anyhow!("the configuration is not right\n{problems}"))?;
    Ok(config.state)
}

fn tell(arguments: &Arguments, state: &Path) -> anyhow::Result<ExitCode> {
    let path = state.join(HISTORY);
    if !path.exists() {
        bail!(
            "there is no {}: a server that answers DHCP writes it into its state directory; --state DIR names another",
            path.display()
        );
    }
    let history = History::read_only(&path)?;
    let mac = match arguments.who {
        Who::Mac(mac) => Some(mac),
        Who::Address(address) => history.find(address)?,
    };
    let entries = mac.map(|mac| history.entries(mac)).transpose()?.unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let story = story(&entries, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let who = match (mac, arguments.who) {
        (Some(mac), _) | (None, Who::Mac(mac)) => mac.to_string(),
        (None, Who::Address(address)) => address.to_string(),
    };
    let text = if arguments.json { json(&who, &story) } else { plain(&who, &story) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if entries.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn plain(who: &str, story: &Story) -> String {
    let mut text = who.to_owned();
    if let Some(address) = story.address {
        let _ = write!(text, "  {}", address.to_canonical());
    }
    if let Some(firmware) = story.firmware {
        let _ = write!(text, "  {firmware}");
    }
    text.push('\n');
    if !story.lines.is_empty() {
        let began = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(story.began_ms));
        let _ = writeln!(text, "last boot began {began}, last heard of {} ago", span(story.quiet_ms));
    }
    for line in &story.lines {
        let times = if line.times > 1 { format!("  x {}", line.times) } else { String::new() };
        let _ = writeln!(text, "{} s  {:<11}  {}{times}", seconds(line.after_ms), line.stage.word(), line.text);
    }
    match (&story.cause, &story.next_step) {
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

fn json(who: &str, story: &Story) -> String {
    let lines: Vec<String> = story
        .lines
        .iter()
        .map(|line| {
            let (stage, text) = (quoted(line.stage.word()), quoted(&line.text));
            format!(r#"{{"after_ms":{},"stage":{stage},"text":{text},"times":{}}}"#, line.after_ms, line.times)
        })
        .collect();
    let maybe = |text: Option<String>| text.map_or_else(|| "null".to_owned(), |text| quoted(&text));
    format!(
        "{{\"machine\":{},\"address\":{},\"firmware\":{},\"began_ms\":{},\"quiet_ms\":{},\"lines\":[{}],\"cause\":{},\"next_step\":{}}}\n",
        quoted(who),
        maybe(story.address.map(|address| address.to_canonical().to_string())),
        maybe(story.firmware.map(|firmware| firmware.to_string())),
        story.began_ms,
        story.quiet_ms,
        lines.join(","),
        maybe(story.cause.clone()),
        maybe(story.next_step.clone()),
    )
}

/// A JSON string (RFC 8259 section 7).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..='\x1f' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// The server's memory of machines, with what an earlier run kept in `state`. A history that cannot be kept stops no boot.
pub(super) fn memory(state: &Path) -> Memory {
    let memory = Memory::default();
    let remembered = History::open(&state.join(HISTORY)).and_then(|mut history| {
        let forgotten = memory.journal.load(history.load()?);
        history.keep(&forgotten)?;
        Ok::<_, StoreError>(history)
    });
    match remembered {
        Ok(history) => Memory { keep: Some(keeper(history)), ..memory },
        Err(error) => {
            tracing::warn!("`ringboot why` will know nothing of this run: {error}");
            memory
        }
    }
}

fn keeper(mut history: History) -> crate::observe::journal::Keep {
    let mut has_failed = false;
    Box::new(move |notes| {
        let kept = history.keep(notes);
        // Said once: a full disk would be told every second.
        if let Err(error) = &kept
            && !has_failed
        {
            tracing::warn!("the history of machines is not kept: {error}");
        }
        has_failed = kept.is_err();
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_spelling_of_a_hardware_address_is_one_machine() {
        let mac = Who::Mac(Mac([0x52, 0x54, 0, 0xab, 0x34, 0x10]));
        for text in ["52:54:00:ab:34:10", "52-54-00-AB-34-10", "5254.00ab.3410", "525400ab3410"] {
            assert_eq!(parse_who(text), Ok(mac), "{text}");
        }
        assert_eq!(parse_who("192.168.4.26"), Ok(Who::Address(IpAddr::from([192, 168, 4, 26]))));
        for text in ["", "node1", "52:54:00:ab:34", "52:54:00:ab:34:10:11", "52:54:00:ab:34:1é"] {
            assert!(parse_who(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_strings_are_quoted() {
        assert_eq!(quoted("a\"b\\c\nd\u{e9}"), "\"a\\\"b\\\\c\\u000ad\u{e9}\"");
    }
}
