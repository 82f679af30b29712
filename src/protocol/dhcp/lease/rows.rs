//! Rows of the lease table: put in and out, under a timer and in the order of their state.

use super::entry::LeaseTableEntry;
use super::table::LeaseTable;
use crate::dhcp::classify::is_boot_firmware;
use crate::dhcp::layout::LayoutPlace;
use crate::dhcp::lease_record::{Circuit, ClockSeconds, LeaseRowState};
use crate::dhcp::limits::ENDED_PER_MACHINE_MAX;
use crate::dhcp::pool_use::LeaseStateCounts;
use crate::model::machine::Mac;

impl LeaseTable {
    pub(super) fn touch(
        &mut self,
        key: u32,
        now: ClockSeconds,
        with: impl FnOnce(&mut LeaseTableEntry),
    ) {
        self.unsettle(key);
        if let Some(&row) = self.by_address.get(&key)
            && let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            with(held);
        }
        self.place(key, now);
    }

    pub(super) fn insert(
        &mut self,
        mut held: LeaseTableEntry,
        circuit: Option<Circuit>,
        now: ClockSeconds,
    ) {
        let key = u32::from(held.lease.address);
        self.remove(key);
        let (mac, lease) = (held.lease.mac, &held.lease);
        if lease.state != LeaseRowState::Offered && lease.firmware.is_some_and(is_boot_firmware) {
            self.booted.add(mac, lease.start_s);
        }
        if lease.state != LeaseRowState::Declined {
            self.forget_oldest(mac, now);
            held.next = self.by_mac.insert(mac, key).unwrap_or(0);
        }
        if held.lease.is_endless() {
            self.endless.insert(key);
        }
        let row = self.vacant.pop().unwrap_or_else(|| {
            self.rows.push(None);
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        });
        self.rows[row as usize] = Some(held);
        self.by_address.insert(key, row);
        if let Some(circuit) = circuit {
            self.offers.of.insert(key, circuit);
        }
        self.place(key, now);
    }

    /// One machine does not fill the table with what it had: where it has many ended leases, the
    /// oldest is forgotten.
    pub(super) fn forget_oldest(&mut self, mac: Mac, now: ClockSeconds) {
        let mut oldest = None;
        let mut count = 0;
        for lease in self.of(mac) {
            if self.held(u32::from(lease.address)).is_some_and(|held| !self.is_occupied(held, now))
            {
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

    pub(super) fn remove(&mut self, key: u32) {
        self.unsettle(key);
        let Some(row) = self.by_address.remove(&key) else { return };
        let Some(held) = self.rows.get_mut(row as usize).and_then(Option::take) else { return };
        self.vacant.push(row);
        self.offers.of.remove(&key);
        if held.lease.state != LeaseRowState::Declined {
            self.unlink(held.lease.mac, key, held.next);
        }
        self.layout.free(key);
        if let Some((next, _)) = &mut self.next {
            next.free(key);
        }
    }

    /// Takes an address out of its machine's list.
    pub(super) fn unlink(&mut self, mac: Mac, key: u32, after: u32) {
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
            && let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            if held.next == key {
                held.next = after;
                return;
            }
            at = held.next;
        }
    }

    /// Takes an address out of all orders; `settle` or `remove` follows.
    pub(super) fn unsettle(&mut self, key: u32) {
        let Some(&row) = self.by_address.get(&key) else { return };
        let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut) else { return };
        let (timer_s, spot) = (std::mem::take(&mut held.timer_s), std::mem::take(&mut held.spot));
        self.timers.remove(&(timer_s, key));
        if let Some(count) = place_counter(&mut self.counts, spot) {
            *count -= 1;
        }
        if let LayoutPlace::Offered(until_s) = spot {
            self.offers.take(key, until_s);
        }
        self.layout.take(key, spot);
        if let Some((next, _)) = &mut self.next {
            next.take(key, spot);
        }
    }

    /// Puts an address where its state belongs at this time: under a timer, in its order, or back
    /// to the free.
    pub(super) fn settle(&mut self, key: u32, now: ClockSeconds) {
        self.unsettle(key);
        self.place(key, now);
    }

    /// The same for one that is in no order.
    pub(super) fn place(&mut self, key: u32, now: ClockSeconds) {
        let Some(&row) = self.by_address.get(&key) else { return };
        let Some(held) = self.rows.get(row as usize).and_then(Option::as_ref) else { return };
        let occupied = self.is_occupied(held, now);
        let (state, end_s, offered_until_s) =
            (held.lease.state, held.lease.end_s, held.offered_until_s);
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
        let timer_s = if occupied { next_s.unwrap_or_else(|| now.saturating_add(1)) } else { 0 };
        if let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut) {
            (held.timer_s, held.spot) = (timer_s, spot);
        }
        if timer_s > 0 && !self.is_loading {
            self.timers.insert((timer_s, key));
        }
        if let Some(count) = place_counter(&mut self.counts, spot) {
            *count += 1;
        }
        if let LayoutPlace::Offered(until_s) = spot {
            self.offers.put(key, until_s);
        }
        self.layout.put(key, spot);
        // Also a row that `move_on` has not come to: what it puts there once more changes nothing.
        if let Some((next, _)) = &mut self.next {
            next.put(key, spot);
        }
    }
}

fn place_counter(counts: &mut LeaseStateCounts, spot: LayoutPlace) -> Option<&mut usize> {
    match spot {
        LayoutPlace::Nowhere => None,
        LayoutPlace::Live => Some(&mut counts.bound),
        LayoutPlace::Offered(_) => Some(&mut counts.offered),
        LayoutPlace::Ended(_) => Some(&mut counts.ended),
        LayoutPlace::Declined(_) => Some(&mut counts.kept_back),
    }
}
