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
/// A client sends its ACK when it has counted the agreed window, and no sooner: a server that sent
/// less and then waited would wait for the client's timer. So a smaller effective window is a
/// shorter burst: the rest of the agreed window follows after a pause in which the client empties
/// its receive ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct BurstPacer {
    /// The agreed window, in blocks.
    agreed: u16,
    /// Blocks of one burst: the effective window. It is the agreed one until a client proves too
    /// slow.
    pub(super) blocks: u16,
    /// The operator's limit; 0: none.
    pub(super) packets_per_ms: u16,
    /// The window is halved, or the operator limits the rate: bursts have pauses.
    pub(super) paced: bool,
    /// Restarts by the timer since the window was last halved, counted in halves.
    restarts: u8,
    /// Windows without a gap since `blocks` last changed.
    clean: u8,
    /// No burst before this moment.
    pub(super) not_before: Tick,
    /// The timer runs until `not_before`; it is no sign that the client is silent.
    pub(super) pausing: bool,
}

impl BurstPacer {
    /// Sends a whole window at once.
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

    /// Returns the last block of `run` that leaves now; None: no block before `not_before`.
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

    /// Notes that the timer restarted a window. True: this halved the effective window.
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

    /// Notes that the client acknowledged a window smaller than the agreed one; `clean`: without a
    /// gap.
    pub(super) fn note_whole_window(&mut self, clean: bool) {
        self.clean = if clean { self.clean + 1 } else { 0 };
        if self.clean == WINDOWS_TO_GROW {
            self.clean = 0;
            self.blocks += 1;
            self.paced = self.is_halved() || self.packets_per_ms > 0;
        }
    }
}
