//! Every machine that the server knows and where it stands, as JSON.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use anyhow::bail;
use serde_json::{Value, json};

use super::admin_socket::Answer;
use super::leases;
use super::now::Now;
use crate::dhcp::listing::LeaseFilter;
use crate::model::machine::Mac;
use crate::model::who::MachineSelector;
use crate::observe::cause::StopCause;
use crate::observe::journal::MachineJournal;
use crate::observe::standing::{MachineStanding, judge_standing};
use crate::observe::timeline::{JournalEntry, build_boot_story};
use crate::serve::overview::Overview;
use crate::store::{HISTORY, HistoryDatabase};

/// The resource of a running server.
pub const PATH: &str = "/v1/machines";

pub fn counts(machines: &[Value]) -> Value {
    let count = |standing: MachineStanding| {
        machines.iter().filter(|one| one["standing"] == standing.word()).count()
    };
    MachineStanding::ALL
        .into_iter()
        .map(|standing| (standing.word().to_owned(), json!(count(standing))))
        .collect()
}

/// What a running server knows: its journal, with the names of reservations and of clients.
pub fn of_server(journal: &MachineJournal, overview: Option<&Overview>) -> Answer {
    let mut reserved = Vec::new();
    let mut names = HashMap::new();
    if let Some(overview) = overview {
        let listing = overview
            .dhcp_control
            .as_ref()
            .and_then(|dhcp| dhcp.list(LeaseFilter::default()))
            .unwrap_or_default();
        names.extend(
            listing.listed.into_iter().filter_map(|lease| Some((lease.mac, lease.host_name?))),
        );
        for host in overview
            .generation()
            .snapshot
            .dhcp
            .subnets
            .iter()
            .flat_map(|subnet| &subnet.reservations)
        {
            names.extend(host.hostname.clone().map(|name| (host.mac, name)));
            reserved.push((host.mac, json!(host.address)));
        }
    }
    let now = Now::of(overview);
    let heard = journal.machines();
    let is_heard: HashSet<Mac> = heard.iter().copied().collect();
    let mut rows: Vec<Row> =
        heard.into_iter().filter_map(|mac| row(mac, &journal.entries(mac), &names, &now)).collect();
    let unseen = reserved.into_iter().filter(|(mac, _)| !is_heard.contains(mac));
    rows.extend(unseen.map(|(mac, address)| unseen_row(mac, &address, &names)));
    Answer::ok(in_json(rows, overview.is_none_or(|overview| overview.dhcp_control.is_some())))
}

/// What a stopped server left. Its reservations are in no database.
pub fn of_history(state: &Path) -> anyhow::Result<Value> {
    let path = state.join(HISTORY);
    if !path.exists() {
        bail!(
            "there is no {}: a server that answers DHCP writes it into its state directory; \
             --state DIR names another",
            path.display()
        );
    }
    let mut machines: HashMap<Mac, Vec<JournalEntry>> = HashMap::new();
    HistoryDatabase::read_only(&path)?
        .load(|(mac, _, entry)| machines.entry(mac).or_default().push(entry))?;
    // A list without names is better than none.
    let listing = leases::stored(state, LeaseFilter::default()).unwrap_or_default();
    let names = listing
        .listed
        .into_iter()
        .filter_map(|lease| Some((lease.mac, lease.host_name?)))
        .collect();
    let now = Now::of_history();
    Ok(in_json(
        machines.iter().filter_map(|(mac, entries)| row(*mac, entries, &names, &now)).collect(),
        true,
    ))
}

/// A machine, and what the list is in the order of.
#[derive(Debug)]
pub struct Row {
    standing: MachineStanding,
    heard_ms: u64,
    mac: Mac,
    body: Value,
}

fn row(mac: Mac, entries: &[JournalEntry], names: &HashMap<Mac, String>, now: &Now) -> Option<Row> {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
    let heard_ms = entries.last()?.at_ms;
    let story = build_boot_story(entries, &now.known(MachineSelector::Mac(mac), entries), now_ms);
    let standing = judge_standing(entries, &story);
    let last = story.lines.last();
    let body = json!({
        "machine": mac.to_string(),
        "address": story.address.map(|address| address.to_canonical().to_string()),
        "host_name": names.get(&mac),
        "firmware": story.firmware.map(|firmware| firmware.to_string()),
        "heard_ms": heard_ms,
        "quiet_ms": now_ms.saturating_sub(heard_ms),
        "standing": standing.word(),
        "stage": last.map(|line| line.stage.word()),
        "last": last.map(|line| &line.text),
        "code": story.code.map(StopCause::word),
        "cause": story.cause,
    });
    Some(Row { standing, heard_ms, mac, body })
}

fn unseen_row(mac: Mac, address: &Value, names: &HashMap<Mac, String>) -> Row {
    let body = json!({
        "machine": mac.to_string(),
        "address": address,
        "host_name": names.get(&mac),
        "firmware": null,
        "heard_ms": null,
        "quiet_ms": null,
        "standing": MachineStanding::Unseen.word(),
        "stage": null,
        "last": null,
        "code": StopCause::NeverSeen.word(),
        "cause": "No DISCOVER of this machine was seen.",
    });
    Row { standing: MachineStanding::Unseen, heard_ms: 0, mac, body }
}

/// Those that did not boot first; of the same standing the one that was heard of last first.
pub fn in_json(mut rows: Vec<Row>, answers_dhcp: bool) -> Value {
    rows.sort_unstable_by_key(|row| (row.standing, std::cmp::Reverse(row.heard_ms), row.mac));
    let machines: Vec<Value> = rows.into_iter().map(|row| row.body).collect();
    let counts = counts(&machines);
    json!({ "machines": machines, "counts": counts, "answers_dhcp": answers_dhcp })
}
