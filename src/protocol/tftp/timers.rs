//! The deadlines of all sessions: a heap that changes only when a deadline moves nearer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{NEVER, Tick};

/// One session's place in [`TimerHeap`].
///
/// ACKs move a deadline away thousands of times a second. The entry in the heap stays where it is,
/// and is corrected when it reaches the top. So a packet costs a comparison, and a transfer costs
/// the heap about one entry a second.
#[derive(Clone, Copy, Debug)]
pub struct TimerAlarm {
    deadline: Tick,
    /// The session's current entry in the heap; any other is stale.
    entry: Tick,
}

impl Default for TimerAlarm {
    fn default() -> Self {
        Self { deadline: NEVER, entry: NEVER }
    }
}

/// The deadlines of all sessions; `I` names one of them.
#[derive(Debug)]
pub struct TimerHeap<I> {
    heap: BinaryHeap<Reverse<(Tick, I)>>,
}

impl<I: Ord> Default for TimerHeap<I> {
    fn default() -> Self {
        Self { heap: BinaryHeap::default() }
    }
}

impl<I: Copy + Ord> TimerHeap<I> {
    /// Sets the deadline of session `id`.
    pub fn set(&mut self, id: I, alarm: &mut TimerAlarm, deadline: Tick) {
        alarm.deadline = deadline;
        if deadline < alarm.entry {
            alarm.entry = deadline;
            self.heap.push(Reverse((deadline, id)));
        }
    }

    /// Removes the next entry that is due; pass it to [`Self::due`] if its session still lives.
    pub fn pop(&mut self, now: Tick) -> Option<(Tick, I)> {
        let Reverse(first) = self.heap.peek()?;
        if first.0 > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Whether the session is due. False: the entry was stale, or the deadline has moved away; then
    /// the heap gets a new entry.
    pub fn due(&mut self, entry: (Tick, I), alarm: &mut TimerAlarm, now: Tick) -> bool {
        let (tick, id) = entry;
        if alarm.entry != tick {
            return false;
        }
        alarm.entry = NEVER;
        let deadline = alarm.deadline;
        if deadline > now {
            self.set(id, alarm, deadline);
            return false;
        }
        true
    }

    /// A moment no later than the next deadline.
    pub fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((tick, _))| *tick)
    }

    /// Entries, stale ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}
