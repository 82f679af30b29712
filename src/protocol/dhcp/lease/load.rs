//! The rows that the store holds when the server starts.

use super::entry::LeaseTableEntry;
use super::table::LeaseTable;
use crate::dhcp::lease_record::{ClockSeconds, Lease, LeaseRowState};
use crate::dhcp::limits::{DECLINE_HOLD_S, FOREVER_S};
use crate::model::machine::Mac;

impl LeaseTable {
    /// Loads the durable rows at the start.
    pub fn load(&mut self, rows: impl IntoIterator<Item = Lease>, now: ClockSeconds) {
        self.begin_load();
        rows.into_iter().for_each(|lease| self.load_row(lease, now));
        self.finish_load();
    }

    /// Begins to load rows one by one: call `load_row` with each, in any order, then `finish_load`,
    /// and use the table only after that.
    pub fn begin_load(&mut self) {
        self.is_loading = true;
    }

    /// Loads one row. A row outside of all pools is kept and never offered.
    pub fn load_row(&mut self, mut lease: Lease, now: ClockSeconds) {
        lease.end_s = cap_lease_end_s(&lease, now);
        if lease.state == LeaseRowState::Declined && lease.end_s > now {
            self.strikes.recall(lease.mac, lease.end_s.saturating_sub(DECLINE_HOLD_S));
        }
        self.insert(LeaseTableEntry::new(lease), None, now);
    }

    /// Ends the load. To sort a million timers at once takes a third of the time and memory that
    /// single inserts take.
    pub fn finish_load(&mut self) {
        self.is_loading = false;
        let timed = self.rows.iter().flatten().filter(|entry| entry.timer_s > 0);
        self.timers = timed.map(|entry| (entry.timer_s, u32::from(entry.lease.address))).collect();
        self.end_unreserved();
    }

    /// Loads the machines that booted from the network before, with the time at which each was seen
    /// last.
    pub fn load_machines(&mut self, machines: impl IntoIterator<Item = (Mac, ClockSeconds)>) {
        machines.into_iter().for_each(|(mac, seen_s)| self.booted.add(mac, seen_s));
    }
}

/// The end of a row of the store, at most its lease time from now. Older stores have times of
/// clocks that were ahead; and the lease clock, which goes on after a reboot, misses the last
/// seconds before it.
fn cap_lease_end_s(lease: &Lease, now: ClockSeconds) -> ClockSeconds {
    let given_s = lease.end_s.saturating_sub(lease.start_s);
    let given_s = match lease.state {
        // Such a row may have no start.
        LeaseRowState::Declined => given_s.max(DECLINE_HOLD_S),
        _ if lease.end_s >= FOREVER_S => return lease.end_s,
        _ => given_s,
    };
    lease.end_s.min(now.saturating_add(given_s))
}
