//! The last boot of one machine, from the journal of a running server or the history of a stopped
//! one.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::bail;
use axum::extract::State;
use http::StatusCode;

use super::error::{ApiError, ServerFault};
use super::extract::{Json, PathText};
use super::now::Now;
use super::quirks::{self, MachineLimit};
use super::state::{ApiState, in_background};
use super::types::{ApiProblem, BootStory, StoryLine, UnknownMachine};
use super::values::whole_ms;
use crate::model::machine::Mac;
use crate::model::who::MachineSelector;
use crate::observe::journal::MachineJournal;
use crate::observe::timeline::{JournalEntry, MachineStory, TimelineLine, build_boot_story};
use crate::store::{HISTORY, HistoryDatabase};

/// Shows the last boot of one machine, and where it stopped.
///
/// The answer for an unknown machine is a problem that also has the fields of a story, with advice
/// in `next_step`.
#[utoipa::path(
    get,
    path = "/v1/machines/{machine}",
    tag = "machines",
    params(("machine" = String, Path, description = "Hardware address in any spelling, or an IP \
        address that the machine has or had.", example = "52:54:00:12:34:10")),
    responses(
        (status = 200, description = "The last boot.", body = BootStory),
        (status = 400, description = "The path names no machine.",
            body = ApiProblem, content_type = "application/problem+json"),
        (status = 404, description = "The machine is unknown.",
            body = UnknownMachine, content_type = "application/problem+json"),
        ServerFault,
    ),
)]
pub async fn get_machine(
    State(api): State<Arc<ApiState>>,
    PathText(machine): PathText,
) -> Result<Json<BootStory>, ApiError> {
    in_background(move || {
        let who = machine.parse::<MachineSelector>().map_err(|why| {
            ApiError::new(StatusCode::BAD_REQUEST, "not the name of a machine", why)
        })?;
        let now = Now::from_overview(api.overview_after_events().as_deref());
        let story = of_journal(
            &api.known.journal,
            &now,
            || quirks::merge_limits(api.learnt_quirks(), &api.fixed_quirks()),
            who,
        );
        story.map_err(|unheard| (*unheard).into())
    })
    .await
}

/// The last boot of one machine, out of a running server.
pub fn of_journal(
    journal: &MachineJournal,
    now: &Now,
    limits: impl FnOnce() -> Vec<MachineLimit>,
    who: MachineSelector,
) -> Result<BootStory, Box<UnknownMachine>> {
    let mac = match who {
        MachineSelector::Mac(mac) => Some(mac),
        MachineSelector::Address(address) => journal.find_machine(address),
    };
    let entries = match (mac, who) {
        (Some(mac), _) => journal.entries(mac),
        (None, MachineSelector::Address(address)) => journal.entries_at(address),
        (None, MachineSelector::Mac(_)) => Vec::new(),
    };
    judge_story(who, mac, &entries, now, limits())
}

/// The same from a state directory. The inner error: the machine is unknown.
pub fn of_history(
    state: &Path,
    who: MachineSelector,
) -> anyhow::Result<Result<BootStory, Box<UnknownMachine>>> {
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

    // The state directory does not have the limits of the configuration, only stored ones.
    let limits = quirks::merge_limits(quirks::stored_quirks(state)?, &[]);
    let entries = mac.map(|mac| history.entries(mac)).transpose()?.unwrap_or_default();
    Ok(judge_story(who, mac, &entries, &Now::of_history(), limits))
}

fn judge_story(
    who: MachineSelector,
    mac: Option<Mac>,
    entries: &[JournalEntry],
    now: &Now,
    limits: Vec<MachineLimit>,
) -> Result<BootStory, Box<UnknownMachine>> {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let who = mac.map_or(who, MachineSelector::Mac);
    let known = now.describe_machine(who, entries);
    let story = build_boot_story(entries, &known, whole_ms(at));
    let limits =
        mac.map(|mac| quirks::describe_limits(limits, mac, story.firmware)).unwrap_or_default();
    let story = boot_story(who, story, limits);

    // A running transfer has no event yet, so it alone may make a machine known.
    if !entries.is_empty() || known.flights.is_some_and(|flights| !flights.is_empty()) {
        return Ok(story);
    }
    let why = story.cause.clone().unwrap_or_default();
    let error = ApiError::new(StatusCode::NOT_FOUND, "the machine is unknown", why);
    Err(Box::new(UnknownMachine { problem: error.to_problem(), story }))
}

fn boot_story(who: MachineSelector, story: MachineStory, limits: Vec<String>) -> BootStory {
    BootStory {
        machine: who.to_string(),
        address: story.address.map(|address| address.to_canonical().to_string()),
        firmware: story.firmware.map(|firmware| firmware.to_string()),
        began_ms: story.began_ms,
        quiet_ms: story.quiet_ms,
        lines: story.lines.into_iter().map(story_line).collect(),
        limits,
        code: story.code.map(|code| code.as_str().to_owned()),
        cause: story.cause,
        next_step: story.next_step,
    }
}

fn story_line(line: TimelineLine) -> StoryLine {
    StoryLine {
        after_ms: line.after_ms,
        stage: line.stage.into(),
        text: line.text,
        times: line.times,
    }
}
