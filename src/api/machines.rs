//! What is remembered of machines, as JSON: the same objects from a running server's journal and
//! from the history it left.

use std::path::Path;
use std::time::SystemTime;

use anyhow::bail;
use http::StatusCode;
use serde_json::{Value, json};

use super::admin_socket::Answer;
use super::now::Now;
use super::quirks::{self, Listed};
use crate::model::machine::Mac;
use crate::model::who::MachineSelector;
use crate::observe::cause::StopCause;
use crate::observe::journal::MachineJournal;
use crate::observe::timeline::{BootStory, JournalEntry, build_boot_story};
use crate::store::{HISTORY, HistoryDatabase};

/// The last boot of one machine, out of a running server.
pub fn of_journal(
    journal: &MachineJournal,
    now: &Now,
    limits: impl FnOnce() -> Vec<Listed>,
    who: &str,
) -> Answer {
    let who = match who.parse::<MachineSelector>() {
        Ok(who) => who,
        Err(why) => {
            return Answer::problem(StatusCode::BAD_REQUEST, "no machine is called so", &why);
        }
    };
    let mac = match who {
        MachineSelector::Mac(mac) => Some(mac),
        MachineSelector::Address(address) => journal.find(address),
    };
    let entries = match (mac, who) {
        (Some(mac), _) => journal.entries(mac),
        (None, MachineSelector::Address(address)) => journal.entries_at(address),
        (None, MachineSelector::Mac(_)) => Vec::new(),
    };
    told(who, mac, &entries, now, limits())
}

/// The same out of a state directory.
pub fn of_history(state: &Path, who: MachineSelector) -> anyhow::Result<Answer> {
    let path = state.join(HISTORY);
    if !path.exists() {
        bail!(
            "there is no {}: a server that answers DHCP writes it into its state directory; \
             --state DIR names another",
            path.display()
        );
    }
    let history = HistoryDatabase::read_only(&path)?;
    let mac = match who {
        MachineSelector::Mac(mac) => Some(mac),
        MachineSelector::Address(address) => history.find(address)?,
    };
    let limits = quirks::all(quirks::stored(state)?, &[]);
    let entries = mac.map(|mac| history.entries(mac)).transpose()?.unwrap_or_default();
    Ok(told(who, mac, &entries, &Now::of_history(), limits))
}

/// A machine that nobody has heard of is a problem that has a story's fields as well: what to look
/// at.
fn told(
    who: MachineSelector,
    mac: Option<Mac>,
    entries: &[JournalEntry],
    now: &Now,
    limits: Vec<Listed>,
) -> Answer {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let known = now.known(mac.map_or(who, MachineSelector::Mac), entries);
    let story =
        build_boot_story(entries, &known, u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
    let mut body = in_json(&mac.map_or(who, MachineSelector::Mac).to_string(), &story);
    body["limits"] =
        json!(mac.map(|mac| quirks::sentences(limits, mac, story.firmware)).unwrap_or_default());
    if !entries.is_empty() || known.flights.is_some_and(|flights| !flights.is_empty()) {
        return Answer::ok(body);
    }
    let why = story.cause.as_deref().unwrap_or_default();
    let mut answer =
        Answer::problem(StatusCode::NOT_FOUND, "nobody has heard of this machine", why);
    if let (Some(problem), Value::Object(fields)) = (answer.body.as_object_mut(), body) {
        problem.extend(fields);
    }
    answer
}

fn in_json(who: &str, story: &BootStory) -> Value {
    let lines = story.lines.iter().map(|line| {
        json!({ "after_ms": line.after_ms, "stage": line.stage.word(), "text": line.text,
            "times": line.times })
    });
    json!({
        "machine": who,
        "address": address(story),
        "firmware": firmware(story),
        "began_ms": story.began_ms,
        "quiet_ms": story.quiet_ms,
        "lines": lines.collect::<Vec<_>>(),
        "code": story.code.map(StopCause::word),
        "cause": story.cause,
        "next_step": story.next_step,
    })
}

fn address(story: &BootStory) -> Option<String> {
    story.address.map(|address| address.to_canonical().to_string())
}

fn firmware(story: &BootStory) -> Option<String> {
    story.firmware.map(|firmware| firmware.to_string())
}
