//! New pools, reservations and own addresses, while leases go on.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::table::LeaseTable;
use crate::dhcp::layout::PoolLayout;
use crate::dhcp::subnet::Subnet;

impl LeaseTable {
    /// Takes the pools of a new configuration over, at once.
    pub fn reconfigure(&mut self, subnets: &[Subnet]) {
        self.begin_move(PoolLayout::new(subnets));
        self.move_on(usize::MAX, |_, _| ());
        self.finish_move();
    }

    /// Begins to take the pools of a new configuration over: `move_on` goes on with it, and until
    /// it is done everything is given by the old ones. One that was begun before is dropped.
    pub fn begin_move(&mut self, mut layout: PoolLayout) {
        layout.own(self.own.clone());
        self.next = Some((layout, 0));
    }

    /// Takes so many more rows over, and tells of each. True: all are there, and `finish_move` may
    /// follow.
    pub fn move_on(&mut self, rows: usize, mut told: impl FnMut(&Self, Ipv4Addr)) -> bool {
        let Some((mut layout, from)) = self.next.take() else { return true };
        let to = from.saturating_add(rows).min(self.rows.len());
        for held in self.rows[from..to].iter().flatten() {
            layout.put(u32::from(held.lease.address), held.spot);
            told(self, held.lease.address);
        }
        self.next = Some((layout, to));
        to == self.rows.len()
    }

    /// From now on addresses are given by the new pools. Leases outside of them are kept, but no
    /// longer given. What was before comes back, for another thread to drop.
    pub fn finish_move(&mut self) -> Option<PoolLayout> {
        let (layout, _) = self.next.take()?;
        let before = std::mem::replace(&mut self.layout, layout);
        self.end_unreserved();
        Some(before)
    }

    /// A lease without end is a BOOTP client's, which never says that it is gone: it ends with its
    /// reservation (D-31).
    pub(super) fn end_unreserved(&mut self) {
        for address in std::mem::take(&mut self.endless) {
            let Some(lease) =
                self.held(address).map(|held| &held.lease).filter(|lease| lease.is_endless())
            else {
                continue;
            };
            if self.layout.is_reserved_for(address, lease.mac) {
                self.endless.insert(address);
                continue;
            }
            // It ends in the past: whatever the time is now.
            let began = lease.start_s;
            self.touch(address, began, |held| held.lease.end_s = began);
        }
    }

    /// The new configuration is not wanted any more.
    pub fn drop_move(&mut self) -> Option<PoolLayout> {
        self.next.take().map(|(layout, _)| layout)
    }

    /// Addresses that this host has now: nobody is given one of them.
    pub fn keep_own(&mut self, own: &[Ipv4Addr]) {
        let own: HashSet<u32> = own.iter().copied().map(u32::from).collect();
        if own == self.own {
            return;
        }
        let (rows, by_address) = (&self.rows, &self.by_address);
        let next = self.next.as_mut().map(|(layout, _)| layout);
        for layout in std::iter::once(&mut self.layout).chain(next) {
            for address in layout.own(own.clone()) {
                if let Some(held) =
                    by_address.get(&address).and_then(|row| rows.get(*row as usize)?.as_ref())
                {
                    layout.take(address, held.spot);
                    layout.put(address, held.spot);
                }
            }
        }
        self.own = own;
    }
}
