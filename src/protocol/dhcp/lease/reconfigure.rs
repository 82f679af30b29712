//! New pools, reservations and host addresses, while leases go on.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::table::LeaseTable;
use crate::dhcp::layout::PoolLayout;
use crate::dhcp::subnet::Subnet;

impl LeaseTable {
    /// Takes over the pools of a new configuration at once.
    pub fn reconfigure(&mut self, subnets: &[Subnet]) {
        self.begin_takeover(PoolLayout::new(subnets));
        self.move_rows(usize::MAX, |_, _| ());
        self.finish_move();
    }

    /// Begins to take over the pools of a new configuration; `move_rows` continues. Until
    /// `finish_move` the old pools give addresses. A move that began before is dropped.
    pub fn begin_takeover(&mut self, mut layout: PoolLayout) {
        layout.set_own(self.own.clone());
        self.next = Some((layout, 0));
    }

    /// Moves up to `rows` more rows, and calls `on_row` for each. True: all rows are moved, and
    /// `finish_move` may follow.
    pub fn move_rows(&mut self, rows: usize, mut on_row: impl FnMut(&Self, Ipv4Addr)) -> bool {
        let Some((mut layout, from)) = self.next.take() else { return true };
        let to = from.saturating_add(rows).min(self.rows.len());
        for entry in self.rows[from..to].iter().flatten() {
            layout.insert(u32::from(entry.lease.address), entry.spot);
            on_row(self, entry.lease.address);
        }
        self.next = Some((layout, to));
        to == self.rows.len()
    }

    /// Ends the move: the new pools give addresses from now on. Leases outside of them are kept.
    /// Returns the old layout, for another thread to drop.
    pub fn finish_move(&mut self) -> Option<PoolLayout> {
        let (layout, _) = self.next.take()?;
        let before = std::mem::replace(&mut self.layout, layout);
        self.end_unreserved();
        Some(before)
    }

    /// Ends each lease without end whose reservation is gone. Only a BOOTP client has one, and it
    /// never releases its address (D-31).
    pub(super) fn end_unreserved(&mut self) {
        for address in std::mem::take(&mut self.endless) {
            let Some(entry) = self.entry(address) else { continue };
            let lease = &entry.lease;
            if !lease.is_endless() {
                continue;
            }
            if self.layout.is_reserved_for(address, lease.mac) {
                self.endless.insert(address);
                continue;
            }
            // An end in the past needs no clock.
            let began = lease.start_s;
            self.update_row(address, began, |entry| entry.lease.end_s = began);
        }
    }

    /// Drops the move to a configuration that is no longer wanted. Returns its layout, for another
    /// thread to drop.
    pub fn drop_move(&mut self) -> Option<PoolLayout> {
        self.next.take().map(|(layout, _)| layout)
    }

    /// Sets the addresses that this host has now: no client gets one of them.
    pub fn set_own_addresses(&mut self, own: &[Ipv4Addr]) {
        let own: HashSet<u32> = own.iter().copied().map(u32::from).collect();
        if own == self.own {
            return;
        }
        let (rows, by_address) = (&self.rows, &self.by_address);
        let next = self.next.as_mut().map(|(layout, _)| layout);
        for layout in std::iter::once(&mut self.layout).chain(next) {
            // An address that the host gave up may be in a row: it goes back into that row's order.
            for address in layout.set_own(own.clone()) {
                if let Some(entry) =
                    by_address.get(&address).and_then(|row| rows.get(*row as usize)?.as_ref())
                {
                    layout.remove(address, entry.spot);
                    layout.insert(address, entry.spot);
                }
            }
        }
        self.own = own;
    }
}
