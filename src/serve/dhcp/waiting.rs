//! Messages that wait for the DHCP core: when it is behind, messages that end an exchange go before
//! those that begin one.

use std::collections::VecDeque;

/// Messages of each kind that may wait; one more is dropped and counted, and its client asks
/// again.
pub(super) const WAITING_MAX: usize = 8192;
/// Every fourth message is one that begins an exchange, however many wait to end theirs.
const FIRST_IN: u32 = 4;

/// Two queues. A client whose REQUEST is answered sends nothing more, while the client of a
/// DISCOVER that has waited for long has already retransmitted it.
#[derive(Debug)]
pub(super) struct WaitingMessages<T> {
    ending: VecDeque<T>,
    beginning: VecDeque<T>,
    taken: u32,
}

impl<T> Default for WaitingMessages<T> {
    fn default() -> Self {
        Self { ending: VecDeque::new(), beginning: VecDeque::new(), taken: 0 }
    }
}

impl<T> WaitingMessages<T> {
    /// Whether the queue has room for one more message.
    pub(super) fn has_room(&self, begins: bool) -> bool {
        if begins { self.beginning.len() < WAITING_MAX } else { self.ending.len() < WAITING_MAX }
    }

    pub(super) fn push(&mut self, begins: bool, datagram: T) {
        if begins { self.beginning.push_back(datagram) } else { self.ending.push_back(datagram) }
    }

    /// The message whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.taken = (self.taken + 1) % FIRST_IN;
        if self.taken == 0 {
            self.beginning.pop_front().or_else(|| self.ending.pop_front())
        } else {
            self.ending.pop_front().or_else(|| self.beginning.pop_front())
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ending.is_empty() && self.beginning.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_end_an_exchange_go_first_and_none_waits_for_ever() {
        let mut waiting = WaitingMessages::default();
        (0..100).for_each(|n| waiting.push(true, ("discover", n)));
        (0..30).for_each(|n| waiting.push(false, ("request", n)));
        let taken: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        let requests = taken.iter().take(40).filter(|(kind, _)| *kind == "request").count();
        assert_eq!((taken.len(), requests), (130, 30));
        for kind in ["discover", "request"] {
            let numbers: Vec<_> =
                taken.iter().filter(|one| one.0 == kind).map(|one| one.1).collect();
            assert!(numbers.is_sorted(), "{kind}: each in its order");
        }
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_flood_of_one_kind_leaves_room_for_the_other() {
        let mut waiting = WaitingMessages::default();
        while waiting.has_room(true) {
            waiting.push(true, 0);
        }
        assert!(waiting.has_room(false));
        waiting.push(false, 1);
        assert_eq!(waiting.pop(), Some(1));
    }
}
