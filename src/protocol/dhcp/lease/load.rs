//! The rows that the store had at the start.

use super::entry::LeaseTableEntry;
use super::table::LeaseTable;
use crate::dhcp::lease_record::{ClockSeconds, Lease, LeaseRowState};
use crate::dhcp::limits::{DECLINE_HOLD_S, FOREVER_S};
use crate::model::machine::Mac;

impl LeaseTable {
    /// Takes the durable rows over at the start.
    pub fn load(&mut self, rows: impl IntoIterator<Item = Lease>, now: ClockSeconds) {
        self.begin_load();
        rows.into_iter().for_each(|lease| self.load_row(lease, now));
        self.finish_load();
    }

    /// The same one by one: `load_row` with each, in any order, then `finish_load`, before anything
    /// else is asked.
    pub fn begin_load(&mut self) {
        self.is_loading = true;
    }

    /// A row of an unknown pool is kept and simply never offered.
    pub fn load_row(&mut self, mut lease: Lease, now: ClockSeconds) {
        lease.end_s = cap_lease_end_s(&lease, now);
        if lease.state == LeaseRowState::Declined && lease.end_s > now {
            self.strikes.recall(lease.mac, lease.end_s.saturating_sub(DECLINE_HOLD_S));
        }
        self.insert(LeaseTableEntry::new(lease), None, now);
    }

    /// A million timers are put in order at once in a third of the time, and of the memory, that
    /// they take one by one.
    pub fn finish_load(&mut self) {
        self.is_loading = false;
        let held = self.rows.iter().flatten().filter(|held| held.timer_s > 0);
        self.timers = held.map(|held| (held.timer_s, u32::from(held.lease.address))).collect();
        self.end_unreserved();
    }

    /// Takes the machines over that the store remembers to have booted from the network, and when
    /// they were seen last.
    pub fn load_machines(&mut self, machines: impl IntoIterator<Item = (Mac, ClockSeconds)>) {
        machines.into_iter().for_each(|(mac, seen_s)| self.booted.add(mac, seen_s));
    }
}

/// The end of a row of the store, which is no further away than it was given for: stores of before
/// know times of clocks that were ahead, and of a clock that goes on after another boot the last
/// seconds are unknown.
fn cap_lease_end_s(lease: &Lease, now: ClockSeconds) -> ClockSeconds {
    let given_s = lease.end_s.saturating_sub(lease.start_s);
    let given_s = match lease.state {
        // Such a row may know nothing but the end.
        LeaseRowState::Declined => given_s.max(DECLINE_HOLD_S),
        _ if lease.end_s >= FOREVER_S => return lease.end_s,
        _ => given_s,
    };
    lease.end_s.min(now.saturating_add(given_s))
}
