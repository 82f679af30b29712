//! The current facts of a running server that explain the last boot of a machine.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::SystemTime;

use super::looks;
use super::values::whole_ms;
use crate::dhcp::subnet::HoldReason;
use crate::model::who::MachineSelector;
use crate::observe::cause::CauseContext;
use crate::observe::flight::ActiveTransfer;
use crate::observe::timeline::JournalEntry;
use crate::serve::dhcp::other_servers::SegmentFinding;
use crate::serve::overview::ServerOverview;

/// Read once for a request, however many machines it is about.
#[derive(Debug, Default)]
pub struct Now {
    /// Open transfers, by the machine that holds the address, or by the address of an unknown
    /// machine. None: the server is stopped.
    under_way: Option<HashMap<MachineSelector, Vec<ActiveTransfer>>>,
    has_dhcp: bool,
    places: Vec<(String, String)>,
    others: Vec<(String, String)>,
}

impl Now {
    /// The facts of a running server. Without an overview the server starts or stops.
    pub fn from_overview(overview: Option<&ServerOverview>) -> Self {
        let Some(overview) = overview else { return Self::of_history() };
        let generation = overview.generation();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();

        let mut under_way: HashMap<MachineSelector, Vec<ActiveTransfer>> = HashMap::new();
        for one in overview.under_way() {
            // The journal counts Unix milliseconds, and a cause compares a transfer with its
            // events.
            let began_ms = whole_ms(at.saturating_sub(one.age));
            let quiet_ms = whole_ms(one.still);
            let flight = ActiveTransfer { name: one.name, began_ms, quiet_ms, way: one.way };
            // The slot of an address names its present holder. Only IPv4 addresses have slots.
            let binding = match one.peer {
                IpAddr::V4(address) => generation.bindings.read(address),
                IpAddr::V6(_) => None,
            };
            let holder = match binding {
                Some(binding) => MachineSelector::Mac(binding.machine.mac),
                None => MachineSelector::Address(one.peer),
            };
            under_way.entry(holder).or_default().push(flight);
        }

        let places = generation
            .snapshot
            .places
            .iter()
            .map(|(network, place)| (network.to_string(), place.clone()));
        Self {
            under_way: Some(under_way),
            has_dhcp: overview.dhcp_control.is_some(),
            places: places.collect(),
            others: overview
                .findings
                .as_ref()
                .map(|findings| describe_others(&findings.read().segments))
                .unwrap_or_default(),
        }
    }

    /// The facts of a stopped server. It answered DHCP, since only such a server has a history.
    pub fn of_history() -> Self {
        Self { has_dhcp: true, ..Self::default() }
    }

    /// The facts about one machine. A transfer belongs to the holder of its address, else to the
    /// machine that had it last.
    pub fn describe_machine(
        &self,
        who: MachineSelector,
        entries: &[JournalEntry],
    ) -> CauseContext<'_> {
        let address = entries
            .iter()
            .rev()
            .find_map(|entry| entry.address)
            .map(|one| MachineSelector::Address(one.to_canonical()));
        // The transfers of an address without a holder are filed under the address.
        let whose = [Some(who), address.filter(|address| *address != who)];
        let flights = self.under_way.as_ref().map(|under_way| {
            let lists = whose.iter().flatten().filter_map(|who| under_way.get(who));
            lists.flatten().cloned().collect()
        });
        CauseContext {
            flights,
            has_dhcp: self.has_dhcp,
            by_address: matches!(who, MachineSelector::Address(_)),
            places: &self.places,
            others: &self.others,
        }
    }
}

/// A clause about other DHCP servers for each subnet.
fn describe_others(segments: &[SegmentFinding]) -> Vec<(String, String)> {
    segments
        .iter()
        .map(|finding| (finding.network.to_string(), describe_segment(finding)))
        .collect()
}

fn describe_segment(finding: &SegmentFinding) -> String {
    match finding.held {
        Some(HoldReason::OtherServer(_)) => format!("it answered{}", looks::describe_age(finding)),
        Some(HoldReason::Looking) => "the server looks for other servers again".to_owned(),
        Some(HoldReason::NoInterface) => "the interface does not exist".to_owned(),
        None => format!("{} is served, so power-cycle the machine", finding.network),
    }
}
