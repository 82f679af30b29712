//! The confirmed transfers of a table, by how long each made no progress: which one makes room in a
//! full table.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::Tick;
use super::super::id::TransferId;

/// Entries checked for one request: if this many transfers have moved since their last check, none
/// stands still.
const LOOKS_MAX: usize = 64;

/// One entry for each confirmed transfer. The heap corrects an entry's time when the entry reaches
/// the top, so an ACK costs nothing here.
#[derive(Debug, Default)]
pub(super) struct StillestTransfers {
    entries: BinaryHeap<Reverse<(Tick, TransferId)>>,
}

impl StillestTransfers {
    /// Inserts a transfer that has just moved forward. `moved_at` returns the last progress of a
    /// confirmed transfer, None for others.
    pub(super) fn insert(
        &mut self,
        now: Tick,
        id: TransferId,
        moved_at: impl Fn(TransferId) -> Option<Tick>,
    ) {
        // Two checks for each insertion: ended and stale entries reach the top as fast as new ones
        // arrive.
        let _ = self.check_first(&moved_at);
        let _ = self.check_first(&moved_at);
        self.entries.push(Reverse((now, id)));
    }

    /// The transfer that made no progress for the longest time, and since when.
    pub(super) fn find_stillest(
        &mut self,
        moved_at: impl Fn(TransferId) -> Option<Tick>,
    ) -> Option<(Tick, TransferId)> {
        (0..LOOKS_MAX).find_map(|_| self.check_first(&moved_at))
    }

    /// Returns the first entry if it is current. Otherwise removes an ended transfer, or moves an
    /// entry to its new place.
    fn check_first(
        &mut self,
        moved_at: impl Fn(TransferId) -> Option<Tick>,
    ) -> Option<(Tick, TransferId)> {
        let Reverse((entered, id)) = *self.entries.peek()?;
        match moved_at(id) {
            Some(moved) if moved <= entered => return Some((entered, id)),
            Some(moved) => {
                self.entries.pop();
                self.entries.push(Reverse((moved, id)));
            }
            None => drop(self.entries.pop()),
        }
        None
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }
}
