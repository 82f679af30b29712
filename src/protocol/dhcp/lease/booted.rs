//! The machines that booted from the network at least once.

use std::collections::{BTreeSet, HashMap};

use crate::dhcp::lease_record::ClockSeconds;
use crate::dhcp::limits::MACHINES_MAX;
use crate::model::machine::Mac;

/// Machines that booted from the network at least once, with or without a lease now. At most
/// `MACHINES_MAX`: the machines seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct BootedMachines {
    /// When each machine was seen last.
    pub(super) seen: HashMap<Mac, ClockSeconds>,
    /// The same, the machine not seen for the longest time first.
    pub(super) order: BTreeSet<(ClockSeconds, Mac)>,
}

impl BootedMachines {
    pub(super) fn add(&mut self, mac: Mac, seen_s: ClockSeconds) {
        let is_oldest = self.order.first().is_some_and(|oldest| (seen_s, mac) < *oldest);
        if is_oldest && self.seen.len() >= MACHINES_MAX {
            return;
        }

        // Rows of the store come in any order: an older time never replaces a newer one.
        match self.seen.insert(mac, seen_s) {
            Some(before) if before > seen_s => drop(self.seen.insert(mac, before)),
            Some(before) => {
                self.order.remove(&(before, mac));
                self.order.insert((seen_s, mac));
            }
            None => drop(self.order.insert((seen_s, mac))),
        }
        if self.seen.len() > MACHINES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.seen.remove(&oldest);
        }
    }
}
