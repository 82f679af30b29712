//! A queue of sessions, oldest first, most of which leave their state before their turn.

use std::collections::VecDeque;

use super::super::id::TransferId;

/// Sessions in the order in which they entered a state. The queue skips those that have left the
/// state when they reach its head.
#[derive(Debug, Default)]
pub(super) struct SessionQueue {
    pub(super) entered: VecDeque<TransferId>,
    /// Sessions in the state now.
    pub(super) count: usize,
}

impl SessionQueue {
    /// Appends `id`. Drops sessions at the head that are not `still` in the state, so that the
    /// queue is no longer than the number of sessions that arrived while its oldest one lived.
    pub(super) fn push(&mut self, id: TransferId, still: impl Fn(TransferId) -> bool) {
        while self.entered.front().is_some_and(|id| !still(*id)) {
            self.entered.pop_front();
        }
        self.entered.push_back(id);
        self.count += 1;
    }

    /// Counts a session that leaves the state.
    pub(super) fn count_out(&mut self) {
        self.count -= 1;
    }

    /// Removes the oldest session that is `still` in the state. [`Self::count_out`] lowers the
    /// count.
    pub(super) fn pop_oldest(&mut self, still: impl Fn(TransferId) -> bool) -> Option<TransferId> {
        while let Some(id) = self.entered.pop_front() {
            if still(id) {
                return Some(id);
            }
        }
        None
    }
}
