//! One transfer as the server sees it: window, timers, retransmissions. Positions have 64 bits;
//! only the block numbers on the wire have 16.

mod burst;
mod effects;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use self::effects::{AckEffect, DataBlockRun, NextTransmit, TimeoutEffect, TransferTally};

use self::burst::{BlockSpan, BurstPacer, NO_RUN};
use super::limits::{
    ECHO_GRACE, OFFERS_MAX, PARKED_MAX, RTO_ASKED_MAX, RTO_BASE, RTO_JITTER_PERCENT, RTO_MAX,
    SECOND, STILL_MAX, TRIES_MAX, UNPROVEN_WINDOWS_MAX,
};
use super::options::NegotiatedTerms;
use super::{NEVER, Tick};
use crate::model::random::SeededRandom;

/// The server's side of one read request.
///
/// Blocks are counted from 1 and never wrap here: block `n` holds the bytes from `(n - 1) *
/// block_size` on, and the last one is short or empty (T-26).
#[derive(Debug)]
pub struct Transfer {
    /// Bytes of the content.
    len: u64,
    /// Number of the final block.
    blocks: u64,
    block_size: u16,
    window: u16,
    burst: BurstPacer,
    /// First retransmission interval.
    rto: Tick,
    phase: TransferPhase,
    /// The client has sent at least one ACK, so its address is hardly forged (T-64).
    confirmed: bool,
    /// A third party guesses at transfers of this address, so an ACK 0 from it proves nothing
    /// (T-64).
    is_distrusted: bool,
    /// Windows that began before the client acknowledged a block (T-64).
    unproven_windows: u8,
    /// The last block that may leave before the client acknowledges one (T-64).
    unproven_end: u64,
    /// When an ACK last moved the transfer forward.
    moved_at: Tick,
    /// Last block the client has acknowledged.
    acked: u64,
    /// Last block sent since the window last restarted; the next block to send is the one after it.
    sent: u64,
    /// Last block ever sent; [`Self::highest_sent`] adds the run that is not recorded yet.
    highest: u64,
    /// Last block sent more than once.
    repeated: u64,
    /// The blocks of the last `DataBlockRun`; [`Self::hand_back_blocks`] may still shorten it.
    run: BlockSpan,
    /// The server has answered a gap after `acked`; the same ACK again means nothing new (T-35).
    gap_answered: bool,
    /// The timer runs for [`ECHO_GRACE`] only: it answers a gap and is no sign that the client is
    /// silent.
    grace: bool,
    /// Timeouts since the last progress.
    tries: u8,
    /// Packets sent before the first ACK, retransmissions included.
    offers: u8,
    /// The engine cannot reach the content: the transfer sends nothing until [`Self::resume`].
    parked: bool,
    deadline: Tick,
    /// Position within the jitter. Each timeout draws a new one, packets do not: so deadlines only
    /// move away.
    jitter_permille: u64,
    random: SeededRandom,
    tally: TransferTally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferPhase {
    /// The server owes an OACK or awaits the ACK 0 for it; no DATA may leave (T-16).
    Offer {
        owed: bool,
    },
    Data,
}

impl Transfer {
    /// A transfer of `len` bytes with its first packet ready. `seed` is for the jitter.
    pub fn new(terms: &NegotiatedTerms, len: u64, seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        Self {
            len,
            // The final block is short or empty (T-26).
            blocks: len / u64::from(terms.block_size) + 1,
            block_size: terms.block_size,
            window: terms.window,
            burst: BurstPacer::for_window(terms.window),
            rto: terms.timeout_s.map_or(RTO_BASE, |seconds| Tick::from(seconds) * SECOND),
            phase: if terms.acknowledged {
                TransferPhase::Offer { owed: true }
            } else {
                TransferPhase::Data
            },
            confirmed: false,
            is_distrusted: false,
            unproven_windows: 0,
            unproven_end: terms.window.into(),
            moved_at: 0,
            acked: 0,
            sent: 0,
            highest: 0,
            repeated: 0,
            run: NO_RUN,
            gap_answered: false,
            grace: false,
            tries: 0,
            offers: 0,
            parked: false,
            deadline: NEVER,
            jitter_permille: random.below(1001),
            random,
            tally: TransferTally { least_burst: terms.window, ..TransferTally::default() },
        }
    }

    /// Sends at most this many packets in a millisecond; 0: a whole window at once.
    #[must_use]
    pub fn with_packets_per_ms(mut self, packets_per_ms: u16) -> Self {
        self.burst.packets_per_ms = packets_per_ms;
        self.burst.paced = packets_per_ms > 0;
        self
    }

    /// Handles an ACK, by its block number on the wire.
    pub fn handle_ack(&mut self, now: Tick, block: u16) -> AckEffect {
        self.record_run();
        if self.phase != TransferPhase::Data {
            if block != 0 || self.offers == 0 {
                return AckEffect::Nothing;
            }
            self.phase = TransferPhase::Data;
            self.begin_unproven();
            self.note_progress(now);
            return AckEffect::Moved;
        }
        // Signed distance from the first block that is not acknowledged (T-34).
        let distance = block.wrapping_sub(wire_block_number(self.acked + 1)).cast_signed();
        match u64::try_from(distance) {
            Ok(ahead) if self.acked + 1 + ahead <= self.highest => {
                self.accept_block(now, self.acked + 1 + ahead)
            }
            Err(_) if distance == -1 => self.handle_gap(now),
            // Not sent yet, or long known (T-28).
            _ => AckEffect::Nothing,
        }
    }

    /// Handles a request that the client repeats before its first ACK (T-49). True: the first reply
    /// is due again.
    pub fn handle_repeated_request(&mut self) -> bool {
        if self.confirmed || self.parked || self.offers == 0 || self.offers >= OFFERS_MAX {
            return false;
        }
        self.rewind();
        true
    }

    /// Handles the timer; call it at [`Self::deadline`] or later.
    pub fn handle_timeout(&mut self, now: Tick) -> TimeoutEffect {
        if now < self.deadline {
            return TimeoutEffect::Early;
        }
        self.record_run();
        if self.parked {
            return TimeoutEffect::Stalled;
        }
        // The next transmission sets the deadline again.
        self.deadline = NEVER;
        if std::mem::replace(&mut self.burst.pausing, false) {
            return TimeoutEffect::Again;
        }
        if self.grace {
            // Often the second half of one loss: a gap inside the retransmitted window.
            self.count_restart(1);
            self.begin_unproven();
            self.rewind();
            return TimeoutEffect::Again;
        }
        let exhausted = if self.confirmed {
            self.tries + 1 >= TRIES_MAX || now >= self.moved_at + STILL_MAX
        } else {
            self.offers >= OFFERS_MAX
        };
        if exhausted {
            return if self.is_sent_whole() {
                TimeoutEffect::LastAckMissing
            } else {
                TimeoutEffect::GaveUp
            };
        }
        self.tries += 1;
        self.count_restart(2);
        self.jitter_permille = self.random.below(1001);
        self.gap_answered = false;
        self.begin_unproven();
        self.rewind();
        TimeoutEffect::Again
    }

    /// What to send now; None: wait. One call returns a whole window (T-33).
    pub fn poll_transmit(&mut self, now: Tick) -> Option<NextTransmit> {
        if self.parked {
            return None;
        }
        self.record_run();

        let transmit = match self.phase {
            TransferPhase::Offer { owed: false } => return None,
            TransferPhase::Offer { owed: true } => {
                self.phase = TransferPhase::Offer { owed: false };
                self.tally.retransmits += u64::from(self.offers > 0);
                NextTransmit::Oack
            }
            TransferPhase::Data => {
                let mut run = BlockSpan {
                    first: self.sent + 1,
                    last: self.blocks.min(self.acked + u64::from(self.window)),
                };
                // Limit what an unproven client gets (T-64), then the burst (T-40).
                if self.acked == 0 {
                    run.last = run.last.min(self.unproven_end);
                }
                if run.last < run.first {
                    return None;
                }
                if self.burst.paced {
                    let Some(last) = self.burst.cut_burst(now, run) else {
                        self.deadline = self.burst.not_before;
                        return None;
                    };
                    run.last = last;
                }
                self.run = run;
                self.sent = run.last;
                NextTransmit::Blocks(self.describe_run(run))
            }
        };

        self.offers = self.offers.saturating_add(u8::from(!self.confirmed));
        self.deadline = match self.burst.pausing {
            true => self.burst.not_before,
            false if self.grace => now + ECHO_GRACE,
            false if self.confirmed => {
                (now + self.compute_interval()).min(self.moved_at + STILL_MAX)
            }
            false => now + self.compute_interval(),
        };
        Some(transmit)
    }

    /// Of the blocks that [`Self::poll_transmit`] just returned, only the first `blocks` left. The
    /// transfer owes the rest, and returns nothing more until [`Self::resume`].
    pub fn hand_back_blocks(&mut self, now: Tick, blocks: u32) {
        let last = self.run.first - 1 + u64::from(blocks);
        self.run.last = self.run.last.min(last);
        self.sent = self.sent.min(last).max(self.acked);
        self.parked = true;
        self.deadline = now + PARKED_MAX;
    }

    /// Whether the transfer waits for its content, and sends nothing.
    pub fn is_parked(&self) -> bool {
        self.parked
    }

    /// The content is within reach again.
    pub fn resume(&mut self) {
        self.parked = false;
        self.burst.pausing = false;
    }

    /// The first block that is not acknowledged, counted from 1, and how many there are.
    pub fn position(&self) -> (u64, u64) {
        (self.blocks.min(self.acked + 1), self.blocks)
    }

    /// Bytes of the content that the client has acknowledged.
    pub fn count_acked_bytes(&self) -> u64 {
        self.len.min(self.acked * u64::from(self.block_size))
    }

    /// When [`Self::handle_timeout`] is due; `Tick::MAX` = no timer.
    pub fn deadline(&self) -> Tick {
        self.deadline
    }

    /// The client has sent an ACK, so its address is hardly forged.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Every block has left at least once.
    pub fn is_sent_whole(&self) -> bool {
        self.highest_sent() == self.blocks
    }

    /// First retransmission interval.
    pub fn rto(&self) -> Tick {
        self.rto
    }

    /// Corrects the length of the content, in bytes.
    pub fn set_len(&mut self, len: u64) {
        self.len = len;
        self.blocks = len / u64::from(self.block_size) + 1;
    }

    /// The client has acknowledged a block: it received what the server sent, and does not guess
    /// (T-64).
    pub fn is_proven(&self) -> bool {
        self.acked > 0
    }

    /// Sends one block at a time from now on, until the client acknowledges a block.
    pub fn distrust(&mut self) {
        self.is_distrusted = true;
        self.unproven_end = 1;
    }

    /// What the transfer has cost so far.
    pub fn tally(&mut self) -> TransferTally {
        self.record_run();
        TransferTally { acked_blocks: self.acked, confirmed: self.confirmed, ..self.tally }
    }

    /// Block `n` and all before it have arrived.
    fn accept_block(&mut self, now: Tick, n: u64) -> AckEffect {
        let inside = n < self.sent;
        if self.burst.is_halved() {
            self.burst.note_whole_window(!inside && n > self.repeated);
        }
        self.acked = n;
        self.gap_answered = inside;
        self.note_progress(now);
        if n == self.blocks {
            self.deadline = NEVER;
            return AckEffect::Done;
        }
        self.grace = inside && self.is_echo() && !self.parked;
        if self.grace {
            // The rest of the window may be on its way, so go on behind it. The client counts its
            // window from this ACK (T-37).
            self.deadline = now + ECHO_GRACE;
        } else {
            // An ACK inside the window says that the next block is missing: restart the window
            // there, once (T-34).
            self.sent = n;
        }
        AckEffect::Moved
    }

    /// Handles the last ACK when it arrives again: with a window it may say that the next block was
    /// lost.
    fn handle_gap(&mut self, now: Tick) -> AckEffect {
        // Lockstep: a reply would double every packet from here on (T-27).
        if self.window == 1 || self.gap_answered || self.parked || self.sent == self.acked {
            return AckEffect::Nothing;
        }
        self.gap_answered = true;
        if self.is_echo() {
            self.grace = true;
            self.deadline = self.deadline.min(now + ECHO_GRACE);
            return AckEffect::Nothing;
        }
        self.begin_unproven();
        self.rewind();
        AckEffect::Moved
    }

    /// Whether the last ACK may be the client's answer to a duplicate block. EDK2 acknowledges
    /// every block that it did not expect; if each such ACK restarted the window, one loss would
    /// send every later window twice. So a window whose ACK the server may have provoked restarts
    /// only if nothing better arrives within [`ECHO_GRACE`].
    fn is_echo(&self) -> bool {
        if self.acked == 0 { self.offers > 1 } else { self.acked <= self.repeated }
    }

    /// Counts a window that the timer restarts: its blocks were lost, perhaps because they arrived
    /// too fast (T-40).
    fn count_restart(&mut self, halves: u8) {
        if self.window > 1 && self.phase == TransferPhase::Data {
            self.tally.halvings += u32::from(self.burst.note_restart(halves));
            self.tally.least_burst = self.tally.least_burst.min(self.burst.blocks);
        }
    }

    /// Makes everything after the last ACK due again (T-36).
    fn rewind(&mut self) {
        self.record_run();
        self.grace = false;
        match &mut self.phase {
            TransferPhase::Offer { owed } => *owed = true,
            TransferPhase::Data => self.sent = self.acked,
        }
    }

    fn note_progress(&mut self, now: Tick) {
        self.confirmed = true;
        self.moved_at = now;
        self.tries = 0;
    }

    /// Begins a window before the client has acknowledged a block. An attacker can guess an ACK 0,
    /// so the blocks may hit a victim: the window leaves whole a few times, then one block at a
    /// time. A real client acknowledges that block (T-64).
    fn begin_unproven(&mut self) {
        self.unproven_windows = self.unproven_windows.saturating_add(1);
        let is_too_much = self.is_distrusted || self.unproven_windows > UNPROVEN_WINDOWS_MAX;
        self.unproven_end = if is_too_much { 1 } else { self.window.into() };
    }

    /// Adds the last run to the counters; nothing can shorten it afterwards.
    fn record_run(&mut self) {
        let run = std::mem::replace(&mut self.run, NO_RUN);
        if run.last < run.first {
            return;
        }
        let bytes = self.find_byte_range(run);
        self.tally.bytes_sent += bytes.end - bytes.start;
        let again = run.last.min(self.highest);
        if again >= run.first {
            self.tally.retransmits += again - run.first + 1;
            self.repeated = self.repeated.max(again);
        }
        self.highest = self.highest.max(run.last);
    }

    fn highest_sent(&self) -> u64 {
        self.highest.max(self.run.last)
    }

    fn describe_run(&self, run: BlockSpan) -> DataBlockRun {
        DataBlockRun {
            first: wire_block_number(run.first),
            // A run is no longer than a window, which is 16-bit.
            blocks: u32::try_from(run.last - run.first + 1).unwrap_or(u32::MAX),
            block_size: self.block_size,
            bytes: self.find_byte_range(run),
            last: run.last == self.blocks,
        }
    }

    fn find_byte_range(&self, run: BlockSpan) -> Range<u64> {
        let size = u64::from(self.block_size);
        (run.first - 1) * size..self.len.min(run.last * size)
    }

    /// Time until the next retransmission: every timeout doubles it, jitter spreads it (T-41).
    fn compute_interval(&self) -> Tick {
        // Before the first ACK the client's own timeout must not keep a session for minutes (T-64).
        let cap = if self.confirmed { self.rto.clamp(RTO_MAX, RTO_ASKED_MAX) } else { RTO_MAX };
        let interval = (self.rto << self.tries.min(TRIES_MAX)).min(cap);
        let spread = interval * RTO_JITTER_PERCENT / 100;
        interval - spread + 2 * spread * self.jitter_permille / 1000
    }
}

/// A block's number on the wire: after 65535 comes 0 (T-24).
fn wire_block_number(block: u64) -> u16 {
    (block & 0xffff) as u16
}
