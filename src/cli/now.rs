//! What a running server knows of this moment, beside what it remembers of machines.

use super::machines::Who;
use crate::observe::cause::Known;
use crate::observe::timeline::Entry;
use crate::serve::overview::Overview;

/// Asked for once for a question, however many machines it is about.
#[derive(Debug, Default)]
pub(super) struct Now {
    /// None: nobody runs who would know.
    is_running: bool,
    has_dhcp: bool,
    places: Vec<(String, String)>,
}

impl Now {
    /// None where the server starts or stops.
    pub(super) fn of(overview: Option<&Overview>) -> Self {
        let Some(overview) = overview else { return Self::of_history() };
        let generation = overview.generation();
        let places = generation.snapshot.places.iter().map(|(network, place)| (network.to_string(), place.clone()));
        Self { is_running: true, has_dhcp: overview.dhcp_control.is_some(), places: places.collect() }
    }

    /// Only servers that answer DHCP leave a history.
    pub(super) fn of_history() -> Self {
        Self { has_dhcp: true, ..Self::default() }
    }

    /// As far as it is about one machine.
    pub(super) fn known(&self, who: Who, _entries: &[Entry]) -> Known<'_> {
        Known {
            flights: self.is_running.then(Vec::new),
            has_dhcp: self.has_dhcp,
            by_address: matches!(who, Who::Address(_)),
            places: &self.places,
            others: &[],
        }
    }
}
