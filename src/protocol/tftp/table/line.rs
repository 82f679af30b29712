//! A line of sessions, oldest first, from which most leave by themselves.

use std::collections::VecDeque;

use super::super::id::TransferId;

/// Sessions in the order in which they entered a state. Those that have left it are skipped when
/// they come up.
#[derive(Debug, Default)]
pub(super) struct SessionQueue {
    pub(super) entered: VecDeque<TransferId>,
    /// Sessions in the state now.
    pub(super) count: usize,
}

impl SessionQueue {
    /// Enters `id`. Those at the head that are not `still` in the state go, so that the line is no
    /// longer than what came in while its oldest lived.
    pub(super) fn push(&mut self, id: TransferId, still: impl Fn(TransferId) -> bool) {
        while self.entered.front().is_some_and(|id| !still(*id)) {
            self.entered.pop_front();
        }
        self.entered.push_back(id);
        self.count += 1;
    }

    pub(super) fn count_out(&mut self) {
        self.count -= 1;
    }

    /// Takes the oldest that is `still` in the state. Its count goes down by [`Self::leave`].
    pub(super) fn pop_oldest(&mut self, still: impl Fn(TransferId) -> bool) -> Option<TransferId> {
        while let Some(id) = self.entered.pop_front() {
            if still(id) {
                return Some(id);
            }
        }
        None
    }
}
