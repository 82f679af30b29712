//! The list of machines with the state of each.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::bail;
use axum::extract::State;

use super::error::{ApiError, ServerFault};
use super::extract::Json;
use super::leases;
use super::now::Now;
use super::state::{ApiState, in_background};
use super::types::{MachineCounts, MachineEntry, MachineList, MachineStanding};
use super::values::whole_ms;
use crate::dhcp::listing::LeaseFilter;
use crate::model::machine::Mac;
use crate::model::who::MachineSelector;
use crate::observe::cause::StopCause;
use crate::observe::journal::MachineJournal;
use crate::observe::standing::judge_standing;
use crate::observe::timeline::{JournalEntry, build_boot_story};
use crate::serve::overview::ServerOverview;
use crate::store::{HISTORY, HistoryDatabase};

/// Lists every machine that the server knows with its state.
///
/// Machines that failed come first; within one state the most recently active.
#[utoipa::path(
    get,
    path = "/v1/machines",
    tag = "machines",
    responses((status = 200, description = "All machines.", body = MachineList), ServerFault),
)]
pub async fn list_machines(
    State(api): State<Arc<ApiState>>,
) -> Result<Json<MachineList>, ApiError> {
    in_background(move || Ok(of_server(&api.known.journal, api.overview_after_events().as_deref())))
        .await
}

/// The machines of a running server: its journal, with the names of reservations and clients.
pub fn of_server(journal: &MachineJournal, overview: Option<&ServerOverview>) -> MachineList {
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
            // The name that the operator gave replaces the one that the client sent.
            names.extend(host.hostname.clone().map(|name| (host.mac, name)));
            reserved.push((host.mac, host.address));
        }
    }

    let now = Now::from_overview(overview);
    let heard = journal.list_machines();
    let is_heard: HashSet<Mac> = heard.iter().copied().collect();
    let mut machines: Vec<MachineEntry> = heard
        .into_iter()
        .filter_map(|mac| machine_entry(mac, &journal.entries(mac), &names, &now))
        .collect();
    let unseen = reserved.into_iter().filter(|(mac, _)| !is_heard.contains(mac));
    machines.extend(unseen.map(|(mac, address)| unseen_entry(mac, address, &names)));
    machine_list(machines, overview.is_none_or(|overview| overview.dhcp_control.is_some()))
}

/// The machines in the history of a stopped server. Its reservations are in no database.
pub fn of_history(state: &Path) -> anyhow::Result<MachineList> {
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
    let listing = leases::stored_leases(state, LeaseFilter::default()).unwrap_or_default();
    let names = listing
        .listed
        .into_iter()
        .filter_map(|lease| Some((lease.mac, lease.host_name?)))
        .collect();
    let now = Now::of_history();
    let machines = machines
        .iter()
        .filter_map(|(mac, entries)| machine_entry(*mac, entries, &names, &now))
        .collect();
    Ok(machine_list(machines, true))
}

fn machine_entry(
    mac: Mac,
    entries: &[JournalEntry],
    names: &HashMap<Mac, String>,
    now: &Now,
) -> Option<MachineEntry> {
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = whole_ms(at);
    let heard_ms = entries.last()?.at_ms;

    // The same story as in `ringboot why`, so both commands name one cause.
    let story = build_boot_story(
        entries,
        &now.describe_machine(MachineSelector::Mac(mac), entries),
        now_ms,
    );
    let standing = judge_standing(entries, &story);
    let last = story.lines.last();
    Some(MachineEntry {
        machine: mac.to_string(),
        address: story.address.map(|address| address.to_canonical().to_string()),
        host_name: names.get(&mac).cloned(),
        firmware: story.firmware.map(|firmware| firmware.to_string()),
        heard_ms: Some(heard_ms),
        quiet_ms: Some(now_ms.saturating_sub(heard_ms)),
        standing: standing.into(),
        stage: last.map(|line| line.stage.into()),
        last: last.map(|line| line.text.clone()),
        code: story.code.map(|code| code.as_str().to_owned()),
        cause: story.cause,
    })
}

/// A reservation whose machine the server has never seen.
fn unseen_entry(mac: Mac, address: Ipv4Addr, names: &HashMap<Mac, String>) -> MachineEntry {
    MachineEntry {
        machine: mac.to_string(),
        address: Some(address.to_string()),
        host_name: names.get(&mac).cloned(),
        firmware: None,
        heard_ms: None,
        quiet_ms: None,
        standing: MachineStanding::Unseen,
        stage: None,
        last: None,
        code: Some(StopCause::NeverSeen.as_str().to_owned()),
        cause: Some("The server has seen no DISCOVER from this machine.".to_owned()),
    }
}

/// Sorts machines: those that failed first, within one state the most recently active.
pub fn machine_list(mut machines: Vec<MachineEntry>, answers_dhcp: bool) -> MachineList {
    machines.sort_unstable_by(|one, other| {
        let heard = other.heard_ms.cmp(&one.heard_ms);
        one.standing.cmp(&other.standing).then(heard).then_with(|| one.machine.cmp(&other.machine))
    });
    let counts = MachineCounts::from_machines(&machines);
    MachineList { machines, counts, answers_dhcp }
}
