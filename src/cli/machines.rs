//! What is remembered of machines, as JSON: the same objects from a running server's journal and from the history it left.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::SystemTime;

use anyhow::bail;
use http::StatusCode;
use serde_json::{Value, json};

use super::now::Now;
use super::quirk::{self, Listed};
use crate::control::admin::Answer;
use crate::model::machine::Mac;
use crate::observe::cause::Cause;
use crate::observe::journal::Journal;
use crate::observe::timeline::{Entry, Story, story};
use crate::store::{HISTORY, History};

/// A machine by what an operator knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Mac(Mac),
    Address(IpAddr),
}

impl FromStr for Who {
    type Err = String;

    /// `52:54:00:12:34:10`, `52-54-...`, `5254.0012.3410`, `525400123410`, or an IP address.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let digits: String = text.chars().filter(|c| ![':', '-', '.'].contains(c)).collect();
        let octets: Vec<_> =
            digits.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect();
        let mac = octets.join(":").parse();
        mac.map(Self::Mac).map_err(|error| format!("neither an IP address nor a hardware address: {error}"))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.to_canonical().fmt(f),
        }
    }
}

/// The last boot of one machine, out of a running server.
pub(super) fn of_journal(journal: &Journal, now: &Now, limits: impl FnOnce() -> Vec<Listed>, who: &str) -> Answer {
    let who = match who.parse::<Who>() {
        Ok(who) => who,
        Err(why) => return Answer::problem(StatusCode::BAD_REQUEST, "no machine is called so", &why),
    };
    let mac = match who {
        Who::Mac(mac) => Some(mac),
        Who::Address(address) => journal.find(address),
    };
    let entries = match (mac, who) {
        (Some(mac), _) => journal.entries(mac),
        (None, Who::Address(address)) => journal.entries_at(address),
        (None, Who::Mac(_)) => Vec::new(),
    };
    told(who, mac, &entries, now, limits())
}

/// The same out of a state directory.
pub(super) fn of_history(state: &Path, who: Who) -> anyhow::Result<Answer> {
    let path = state.join(HISTORY);
    if !path.exists() {
        bail!(
            "there is no {}: a server that answers DHCP writes it into its state directory; --state DIR names another",
            path.display()
        );
    }
    let history = History::read_only(&path)?;
    let mac = match who {
        Who::Mac(mac) => Some(mac),
        Who::Address(address) => history.find(address)?,
    };
    let limits = quirk::all(quirk::stored(state)?, &[]);
    let entries = mac.map(|mac| history.entries(mac)).transpose()?.unwrap_or_default();
    Ok(told(who, mac, &entries, &Now::of_history(), limits))
}

/// A machine that nobody has heard of is a problem that has a story's fields as well: what to look at.
fn told(who: Who, mac: Option<Mac>, entries: &[Entry], now: &Now, limits: Vec<Listed>) -> Answer {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let known = now.known(mac.map_or(who, Who::Mac), entries);
    let story = story(entries, &known, u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
    let mut body = in_json(&mac.map_or(who, Who::Mac).to_string(), &story);
    body["limits"] = json!(mac.map(|mac| quirk::sentences(limits, mac, story.firmware)).unwrap_or_default());
    if !entries.is_empty() || known.flights.is_some_and(|flights| !flights.is_empty()) {
        return Answer::ok(body);
    }
    let why = story.cause.as_deref().unwrap_or_default();
    let mut answer = Answer::problem(StatusCode::NOT_FOUND, "nobody has heard of this machine", why);
    if let (Some(problem), Value::Object(fields)) = (answer.body.as_object_mut(), body) {
        problem.extend(fields);
    }
    answer
}

fn in_json(who: &str, story: &Story) -> Value {
    let lines = story.lines.iter().map(
        |line| json!({ "after_ms": line.after_ms, "stage": line.stage.word(), "text": line.text, "times": line.times }),
    );
    json!({
        "machine": who,
        "address": address(story),
        "firmware": firmware(story),
        "began_ms": story.began_ms,
        "quiet_ms": story.quiet_ms,
        "lines": lines.collect::<Vec<_>>(),
        "code": story.code.map(Cause::word),
        "cause": story.cause,
        "next_step": story.next_step,
    })
}

fn address(story: &Story) -> Option<String> {
    story.address.map(|address| address.to_canonical().to_string())
}

fn firmware(story: &Story) -> Option<String> {
    story.firmware.map(|firmware| firmware.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_spelling_of_a_hardware_address_is_one_machine() {
        let mac = Who::Mac(Mac([0x52, 0x54, 0, 0xab, 0x34, 0x10]));
        for text in ["52:54:00:ab:34:10", "52-54-00-AB-34-10", "5254.00ab.3410", "525400ab3410"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("192.168.4.26".parse(), Ok(Who::Address(IpAddr::from([192, 168, 4, 26]))));
        for text in ["", "node1", "52:54:00:ab:34", "52:54:00:ab:34:10:11", "52:54:00:ab:34:1é"] {
            assert!(text.parse::<Who>().is_err(), "{text}");
        }
    }
}
