//! The confirmed transfers of a table, by how long each has stood still: who makes room when it is
//! full.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::Tick;
use super::super::id::TransferId;

/// Entries looked at for one request: where so many transfers have moved on since they were last
/// looked at, none stands still.
const LOOKS_MAX: usize = 64;

/// One entry for each confirmed transfer. Its moment is put right when it comes up, so that an ACK
/// costs nothing here.
#[derive(Debug, Default)]
pub(super) struct StillestTransfers {
    entries: BinaryHeap<Reverse<(Tick, TransferId)>>,
}

impl StillestTransfers {
    /// Enters a transfer that has moved on just now. `moved_at` gives the last progress of one that
    /// is confirmed, None for others.
    pub(super) fn insert(
        &mut self,
        now: Tick,
        id: TransferId,
        moved_at: impl Fn(TransferId) -> Option<Tick>,
    ) {
        // Two looks for each entry: what is over or stale comes up as fast as others come in.
        let _ = self.check_first(&moved_at);
        let _ = self.check_first(&moved_at);
        self.entries.push(Reverse((now, id)));
    }

    /// The transfer that has stood still longest, and since when.
    pub(super) fn find_stillest(
        &mut self,
        moved_at: impl Fn(TransferId) -> Option<Tick>,
    ) -> Option<(Tick, TransferId)> {
        (0..LOOKS_MAX).find_map(|_| self.check_first(&moved_at))
    }

    /// The first entry, where it is right. One that is over goes, one that has moved on goes to its
    /// place.
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
