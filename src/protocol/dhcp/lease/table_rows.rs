//! Rows of the lease table: inserted and removed, linked by machine, under a timer and in the order
//! of their state.

use super::entry::LeaseTableEntry;
use super::table::LeaseTable;
use crate::dhcp::classify::is_boot_firmware;
use crate::dhcp::layout::LayoutPlace;
use crate::dhcp::lease_record::{Circuit, ClockSeconds, LeaseRowState};
use crate::dhcp::limits::ENDED_PER_MACHINE_MAX;
use crate::dhcp::pool_use::LeaseStateCounts;
use crate::model::machine::Mac;

impl LeaseTable {
    /// Changes a row, and moves it to where its new state belongs.
    pub(super) fn update_row(
        &mut self,
        key: u32,
        now: ClockSeconds,
        change: impl FnOnce(&mut LeaseTableEntry),
    ) {
        self.detach_row(key);
        if let Some(&row) = self.by_address.get(&key)
            && let Some(entry) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            change(entry);
        }
        self.attach_row(key, now);
    }

    /// Inserts a row in the place of the one that has the same address.
    pub(super) fn insert(
        &mut self,
        mut entry: LeaseTableEntry,
        circuit: Option<Circuit>,
        now: ClockSeconds,
    ) {
        let key = u32::from(entry.lease.address);
        self.remove(key);

        let (mac, lease) = (entry.lease.mac, &entry.lease);
        if lease.state != LeaseRowState::Offered && lease.firmware.is_some_and(is_boot_firmware) {
            self.booted.add(mac, lease.start_s);
        }
        // A declined address is in no machine's list: its machine must not get it again.
        if lease.state != LeaseRowState::Declined {
            self.forget_oldest(mac, now);
            entry.next = self.by_mac.insert(mac, key).unwrap_or(0);
        }
        if entry.lease.is_endless() {
            self.endless.insert(key);
        }

        let row = self.vacant.pop().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        });
        self.rows[row as usize] = Some(entry);
        self.by_address.insert(key, row);
        if let Some(circuit) = circuit {
            self.offers.circuits.insert(key, circuit);
        }
        self.attach_row(key, now);
    }

    /// Forgets the oldest ended lease of a machine that has many, so that one machine cannot fill
    /// the table.
    fn forget_oldest(&mut self, mac: Mac, now: ClockSeconds) {
        let mut oldest = None;
        let mut count = 0;
        for lease in self.leases_of(mac) {
            let entry = self.entry(u32::from(lease.address));
            if entry.is_some_and(|entry| !self.is_occupied(entry, now)) {
                count += 1;
                oldest = oldest
                    .min(Some((lease.end_s, lease.address)))
                    .or(Some((lease.end_s, lease.address)));
            }
        }
        if count >= ENDED_PER_MACHINE_MAX
            && let Some((_, address)) = oldest
        {
            self.remove(u32::from(address));
        }
    }

    /// Removes the row of an address, which becomes free.
    pub(super) fn remove(&mut self, key: u32) {
        self.detach_row(key);
        let Some(row) = self.by_address.remove(&key) else { return };
        let Some(entry) = self.rows.get_mut(row as usize).and_then(Option::take) else { return };
        self.vacant.push(row);
        self.offers.circuits.remove(&key);
        if entry.lease.state != LeaseRowState::Declined {
            self.unlink(entry.lease.mac, key, entry.next);
        }
        self.layout.set_free(key);
        if let Some((next, _)) = &mut self.next {
            next.set_free(key);
        }
    }

    /// Takes an address out of its machine's list; `after` is the next address of the list.
    fn unlink(&mut self, mac: Mac, key: u32, after: u32) {
        let Some(&first) = self.by_mac.get(&mac) else { return };
        if first == key {
            match after {
                0 => drop(self.by_mac.remove(&mac)),
                next => drop(self.by_mac.insert(mac, next)),
            }
            return;
        }
        let mut at = first;
        while let Some(&row) = self.by_address.get(&at)
            && let Some(entry) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            if entry.next == key {
                entry.next = after;
                return;
            }
            at = entry.next;
        }
    }

    /// Moves a row to where its state belongs at this time: under a timer, into its order, or back
    /// to the free addresses.
    pub(super) fn reattach_row(&mut self, key: u32, now: ClockSeconds) {
        self.detach_row(key);
        self.attach_row(key, now);
    }

    /// Takes a row out of all orders; `attach_row` or `remove` follows.
    fn detach_row(&mut self, key: u32) {
        let Some(&row) = self.by_address.get(&key) else { return };
        let Some(entry) = self.rows.get_mut(row as usize).and_then(Option::as_mut) else { return };
        let (timer_s, spot) = (std::mem::take(&mut entry.timer_s), std::mem::take(&mut entry.spot));
        self.timers.remove(&(timer_s, key));
        if let Some(count) = state_count(&mut self.counts, spot) {
            *count -= 1;
        }
        if let LayoutPlace::Offered(until_s) = spot {
            self.offers.remove(key, until_s);
        }
        self.layout.remove(key, spot);
        if let Some((next, _)) = &mut self.next {
            next.remove(key, spot);
        }
    }

    /// Puts a row that is in no order under its timer and into the order of its state.
    fn attach_row(&mut self, key: u32, now: ClockSeconds) {
        let Some(&row) = self.by_address.get(&key) else { return };
        let Some(entry) = self.rows.get(row as usize).and_then(Option::as_ref) else { return };
        let occupied = self.is_occupied(entry, now);
        let (state, end_s, offered_until_s) =
            (entry.lease.state, entry.lease.end_s, entry.offered_until_s);
        // A lapsed offer and a quarantine that is over leave nothing to remember.
        if !occupied && matches!(state, LeaseRowState::Offered | LeaseRowState::Declined) {
            return self.remove(key);
        }

        let spot = match state {
            _ if !occupied => LayoutPlace::Ended(end_s),
            _ if self.committing.contains_key(&key) => LayoutPlace::Live,
            LeaseRowState::Declined => LayoutPlace::Declined(end_s),
            LeaseRowState::Bound if end_s > now => LayoutPlace::Live,
            _ => LayoutPlace::Offered(offered_until_s),
        };
        let leased_s = if state == LeaseRowState::Released { 0 } else { end_s };
        let next_s = [leased_s, offered_until_s].into_iter().filter(|&at| at > now).min();
        // A row that only a commit keeps occupied is looked at again a second later.
        let timer_s = if occupied { next_s.unwrap_or_else(|| now.saturating_add(1)) } else { 0 };
        if let Some(entry) = self.rows.get_mut(row as usize).and_then(Option::as_mut) {
            (entry.timer_s, entry.spot) = (timer_s, spot);
        }

        if timer_s > 0 && !self.is_loading {
            self.timers.insert((timer_s, key));
        }
        if let Some(count) = state_count(&mut self.counts, spot) {
            *count += 1;
        }
        if let LayoutPlace::Offered(until_s) = spot {
            self.offers.insert(key, until_s);
        }
        self.layout.insert(key, spot);
        // Also a row that `move_rows` has not reached: a second insert changes nothing.
        if let Some((next, _)) = &mut self.next {
            next.insert(key, spot);
        }
    }
}

/// The count of the state that a place stands for.
fn state_count(counts: &mut LeaseStateCounts, spot: LayoutPlace) -> Option<&mut usize> {
    match spot {
        LayoutPlace::Nowhere => None,
        LayoutPlace::Live => Some(&mut counts.bound),
        LayoutPlace::Offered(_) => Some(&mut counts.offered),
        LayoutPlace::Ended(_) => Some(&mut counts.ended),
        LayoutPlace::Declined(_) => Some(&mut counts.kept_back),
    }
}
