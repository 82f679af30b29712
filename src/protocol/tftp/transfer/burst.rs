//! How many blocks leave back to back, and the pause before the next burst (T-40).

use super::super::Tick;
use super::super::limits::{BURST_BLOCK_PAUSE, MILLISECOND, RESTARTS_TO_HALVE, WINDOWS_TO_GROW};

/// Blocks `first..=last`; empty if `last < first`.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockSpan {
    pub(super) first: u64,
    pub(super) last: u64,
}

pub(super) const NO_RUN: BlockSpan = BlockSpan { first: 1, last: 0 };

/// How many blocks leave back to back (T-40).
///
/// A client acknowledges when it has counted the window that was agreed, and no sooner: a server
/// that sent less and then waited would wait for the client's timer. So a smaller effective window
/// is a shorter burst: the rest of the agreed window follows after a pause in which the client's
/// receive ring empties.
#[derive(Clone, Copy, Debug)]
pub(super) struct BurstPacer {
    /// The window that was agreed.
    agreed: u16,
    /// Blocks of one burst: the effective window. All of the agreed one until a client proves too
    /// slow for it.
    pub(super) blocks: u16,
    /// The operator's limit; 0 = none.
    pub(super) packets_per_ms: u16,
    /// The window is halved, or the operator limits the rate: bursts have pauses.
    pub(super) paced: bool,
    /// Restarts by the timer since it was last halved, counted in halves.
    restarts: u8,
    /// Windows without a gap since it last changed.
    clean: u8,
    /// No burst before this moment.
    pub(super) not_before: Tick,
    /// The timer is set to `not_before`; it is no sign of silence.
    pub(super) pausing: bool,
}

impl BurstPacer {
    /// All of a window at once.
    pub(super) fn for_window(window: u16) -> Self {
        Self {
            agreed: window,
            blocks: window,
            packets_per_ms: 0,
            paced: false,
            restarts: 0,
            clean: 0,
            not_before: 0,
            pausing: false,
        }
    }

    #[inline]
    pub(super) fn is_halved(&self) -> bool {
        self.blocks < self.agreed
    }

    /// The last block of `run` that leaves now; None = none before `not_before`.
    pub(super) fn cut_burst(&mut self, now: Tick, run: BlockSpan) -> Option<u64> {
        self.pausing = now < self.not_before;
        if self.pausing {
            return None;
        }
        let own = if self.is_halved() { BURST_BLOCK_PAUSE } else { 0 };
        let (most, operators) = match self.packets_per_ms {
            0 => (self.blocks, 0),
            most => (self.blocks.min(most), MILLISECOND / u64::from(most)),
        };
        let last = run.last.min(run.first - 1 + u64::from(most));
        self.not_before = now + (last + 1 - run.first) * own.max(operators);
        self.pausing = last < run.last;
        Some(last)
    }

    /// The timer has begun a window anew: true = the effective window is halved.
    pub(super) fn note_restart(&mut self, halves: u8) -> bool {
        self.clean = 0;
        self.restarts += halves;
        if self.restarts < 2 * RESTARTS_TO_HALVE {
            return false;
        }
        self.restarts = 0;
        let halved = self.blocks > 1;
        self.blocks = (self.blocks / 2).max(1);
        self.paced = true;
        halved
    }

    /// A smaller window than the agreed one has been acknowledged, with or without a gap.
    pub(super) fn note_whole_window(&mut self, clean: bool) {
        self.clean = if clean { self.clean + 1 } else { 0 };
        if self.clean == WINDOWS_TO_GROW {
            self.clean = 0;
            self.blocks += 1;
            self.paced = self.is_halved() || self.packets_per_ms > 0;
        }
    }
}
