//! One transfer as the server sees it: window, timers, repeats. Positions are 64-bit, only the
//! wire's numbers are 16.

#[cfg(test)]
mod tests;

use std::ops::Range;

use super::limits::{
    BURST_BLOCK_PAUSE, ECHO_GRACE, MILLISECOND, OFFERS_MAX, PARKED_MAX, RESTARTS_TO_HALVE,
    RTO_ASKED_MAX, RTO_BASE, RTO_JITTER_PERCENT, RTO_MAX, SECOND, STILL_MAX, TRIES_MAX,
    UNPROVEN_WINDOWS_MAX, WINDOWS_TO_GROW,
};
use super::options::NegotiatedTerms;
use super::{NEVER, Tick};
use crate::model::random::SeededRandom;

/// The server's side of one read.
///
/// Blocks are counted from 1 and never wrap here: block `n` holds the bytes from `(n - 1) *
/// block_size` on, and the last one is short or empty (T-26).
#[derive(Debug)]
pub struct Transfer {
    /// Octets to send.
    len: u64,
    /// Number of the final block.
    blocks: u64,
    block_size: u16,
    window: u16,
    burst: BurstPacer,
    /// First retransmission interval.
    rto: Tick,
    phase: TransferPhase,
    /// The client has answered at least once, so its address is hardly forged (T-64).
    confirmed: bool,
    /// Somebody guesses at transfers of this address, so that its ACK 0 proves nothing.
    is_distrusted: bool,
    /// Windows begun while no block was acknowledged, and the last block that may leave until one
    /// is (T-64).
    unproven_windows: u8,
    unproven_end: u64,
    /// Last progress, by the client's ACKs.
    moved_at: Tick,
    /// Last block the client has acknowledged.
    acked: u64,
    /// Last block sent since the window was last begun anew; the next to send is one more.
    sent: u64,
    /// Last block ever sent; [`Self::highest`] adds the run that is not entered yet.
    highest: u64,
    /// Last block sent more than once.
    repeated: u64,
    /// What the last `DataBlockRun` carried; it may still be cut by [`Self::unsent`].
    run: BlockSpan,
    /// A gap after `acked` has been answered; the same ACK again means nothing new (T-35).
    gap_answered: bool,
    /// The timer was pulled in by [`ECHO_GRACE`]; it answers a gap and is no sign of silence.
    grace: bool,
    /// Timeouts since the last progress.
    tries: u8,
    /// Transmissions before the first ACK.
    offers: u8,
    /// The engine can't reach the content; nothing is sent until it says so.
    parked: bool,
    deadline: Tick,
    /// Place within the jitter; drawn anew by a timeout and not by every packet, so that deadlines
    /// only move away.
    jitter_permille: u64,
    random: SeededRandom,
    tally: TransferTally,
}

/// What leaves next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextTransmit {
    /// The answer to the options.
    Oack,
    /// A contiguous run of blocks: at most a window.
    Blocks(DataBlockRun),
}

/// A run of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataBlockRun {
    /// Number of the first block on the wire; the next ones follow modulo 65536 (T-24).
    pub first: u16,
    /// How many; at least 1.
    pub blocks: u32,
    /// Octets in each block but the final one.
    pub block_size: u16,
    /// The bytes of the file; shorter than `blocks * block_size` if the final block is in it.
    pub bytes: Range<u64>,
    /// The final block of the transfer is in it.
    pub last: bool,
}

/// What an ACK led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckEffect {
    /// Nothing: stale, ahead, or known (T-27, T-28).
    Nothing,
    /// There is something to send.
    Moved,
    /// The final block is acknowledged (T-29).
    Done,
}

/// What the timer led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutEffect {
    /// It had not come yet.
    Early,
    /// There is something to send again.
    Again,
    /// The client never acknowledged the end of a transfer that was sent whole (T-29).
    LastAckMissing,
    /// The client is gone (T-42).
    GaveUp,
    /// The content did not come within reach in time.
    Stalled,
}

/// What a transfer has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferTally {
    /// Octets of file content sent, repeats included.
    pub bytes_sent: u64,
    /// Blocks and OACKs sent again.
    pub retransmits: u64,
    /// Blocks that the client has acknowledged, without a gap from the first.
    pub acked_blocks: u64,
    /// How often the effective window was halved (T-40).
    pub halvings: u32,
    /// The smallest effective window, blocks: what the client could take.
    pub least_burst: u16,
    /// The client has answered at least once.
    pub confirmed: bool,
}

/// How many blocks leave back to back (T-40).
///
/// A client acknowledges when it has counted the window that was agreed, and no sooner: a server
/// that sent less and then waited would wait for the client's timer. So a smaller effective window
/// is a shorter burst: the rest of the agreed window follows after a pause in which the client's
/// receive ring empties.
#[derive(Clone, Copy, Debug)]
struct BurstPacer {
    /// The window that was agreed.
    agreed: u16,
    /// Blocks of one burst: the effective window. All of the agreed one until a client proves too
    /// slow for it.
    blocks: u16,
    /// The operator's limit; 0 = none.
    packets_per_ms: u16,
    /// The window is halved, or the operator limits the rate: bursts have pauses.
    paced: bool,
    /// Restarts by the timer since it was last halved, counted in halves.
    restarts: u8,
    /// Windows without a gap since it last changed.
    clean: u8,
    /// No burst before this moment.
    not_before: Tick,
    /// The timer is set to `not_before`; it is no sign of silence.
    pausing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferPhase {
    /// An OACK is owed or awaits its ACK 0; no DATA may leave (T-16).
    Offer {
        owed: bool,
    },
    Data,
}

/// Blocks `first..=last`; empty if `last < first`.
#[derive(Clone, Copy, Debug)]
struct BlockSpan {
    first: u64,
    last: u64,
}

const NO_RUN: BlockSpan = BlockSpan { first: 1, last: 0 };

impl Transfer {
    /// A transfer of `len` bytes that has something to send at once. `seed` is for jitter.
    pub fn new(terms: &NegotiatedTerms, len: u64, seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        Self {
            len,
            blocks: len / u64::from(terms.block_size) + 1,
            block_size: terms.block_size,
            window: terms.window,
            burst: BurstPacer::of(terms.window),
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

    /// At most so many packets in a millisecond; 0 = as many as the window has.
    #[must_use]
    pub fn with_packets_per_ms(mut self, packets_per_ms: u16) -> Self {
        self.burst.packets_per_ms = packets_per_ms;
        self.burst.paced = packets_per_ms > 0;
        self
    }

    /// A client's ACK, by its number on the wire.
    pub fn handle_ack(&mut self, now: Tick, block: u16) -> AckEffect {
        self.enter_run();
        if self.phase != TransferPhase::Data {
            if block != 0 || self.offers == 0 {
                return AckEffect::Nothing;
            }
            self.phase = TransferPhase::Data;
            self.begin_unproven();
            self.confirm(now);
            return AckEffect::Moved;
        }
        // Signed distance from the first block that is not acknowledged (T-34).
        let distance = block.wrapping_sub(wire_block_number(self.acked + 1)).cast_signed();
        match u64::try_from(distance) {
            Ok(ahead) if self.acked + 1 + ahead <= self.highest => {
                self.advance(now, self.acked + 1 + ahead)
            }
            Err(_) if distance == -1 => self.handle_gap(now),
            // Not sent yet, or long known (T-28).
            _ => AckEffect::Nothing,
        }
    }

    /// The request came once more before anything was acknowledged (T-49): true = the first answer
    /// is due again.
    pub fn handle_repeated_request(&mut self) -> bool {
        if self.confirmed || self.parked || self.offers == 0 || self.offers >= OFFERS_MAX {
            return false;
        }
        self.rewind();
        true
    }

    pub fn handle_timeout(&mut self, now: Tick) -> TimeoutEffect {
        if now < self.deadline {
            return TimeoutEffect::Early;
        }
        self.enter_run();
        if self.parked {
            return TimeoutEffect::Stalled;
        }
        // The next transmission sets it anew.
        self.deadline = NEVER;
        if std::mem::replace(&mut self.burst.pausing, false) {
            return TimeoutEffect::Again;
        }
        if self.grace {
            // Often the second half of one loss: after the repeat, a gap inside it.
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
            return if self.sent_whole() {
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

    /// What to send now; None = wait. One call gives a whole window (T-33).
    pub fn poll_transmit(&mut self, now: Tick) -> Option<NextTransmit> {
        if self.parked {
            return None;
        }
        self.enter_run();
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
                if self.acked == 0 {
                    run.last = run.last.min(self.unproven_end);
                }
                if run.last < run.first {
                    return None;
                }
                if self.burst.paced {
                    let Some(last) = self.burst.cut(now, run) else {
                        self.deadline = self.burst.not_before;
                        return None;
                    };
                    run.last = last;
                }
                self.run = run;
                self.sent = run.last;
                NextTransmit::Blocks(self.blocks(run))
            }
        };
        self.offers = self.offers.saturating_add(u8::from(!self.confirmed));
        self.deadline = match self.burst.pausing {
            true => self.burst.not_before,
            false if self.grace => now + ECHO_GRACE,
            false if self.confirmed => (now + self.interval()).min(self.moved_at + STILL_MAX),
            false => now + self.interval(),
        };
        Some(transmit)
    }

    /// Of the blocks just given by [`Self::poll_transmit`], only the first `blocks` left; the rest
    /// is owed, and nothing more is given until [`Self::resume`].
    pub fn unsent(&mut self, now: Tick, blocks: u32) {
        let last = self.run.first - 1 + u64::from(blocks);
        self.run.last = self.run.last.min(last);
        self.sent = self.sent.min(last).max(self.acked);
        self.parked = true;
        self.deadline = now + PARKED_MAX;
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

    /// When [`Self::handle_timeout`] is due; `Tick::MAX` = no timer.
    pub fn deadline(&self) -> Tick {
        self.deadline
    }

    /// The client has acknowledged something, so its address isn't forged.
    pub fn confirmed(&self) -> bool {
        self.confirmed
    }

    /// Every block has left at least once.
    pub fn sent_whole(&self) -> bool {
        self.highest() == self.blocks
    }

    /// First retransmission interval.
    pub fn rto(&self) -> Tick {
        self.rto
    }

    /// The content has so many bytes after all.
    pub fn set_len(&mut self, len: u64) {
        self.len = len;
        self.blocks = len / u64::from(self.block_size) + 1;
    }

    /// A block was acknowledged: the client has what we sent, and is no forger who guesses (T-64).
    pub fn is_proven(&self) -> bool {
        self.acked > 0
    }

    /// From now on an ACK 0 brings one block, until a block is acknowledged.
    pub fn distrust(&mut self) {
        self.is_distrusted = true;
        self.unproven_end = 1;
    }

    pub fn tally(&mut self) -> TransferTally {
        self.enter_run();
        TransferTally { acked_blocks: self.acked, confirmed: self.confirmed, ..self.tally }
    }

    /// Block `n` and all before it have arrived.
    fn advance(&mut self, now: Tick, n: u64) -> AckEffect {
        let inside = n < self.sent;
        if self.burst.is_halved() {
            self.burst.window_done(!inside && n > self.repeated);
        }
        self.acked = n;
        self.gap_answered = inside;
        self.confirm(now);
        if n == self.blocks {
            self.deadline = NEVER;
            return AckEffect::Done;
        }
        self.grace = inside && self.is_echo() && !self.parked;
        if self.grace {
            // The rest may be on its way: go on behind it. The client counts its window from this
            // ACK (T-37).
            self.deadline = now + ECHO_GRACE;
        } else {
            // An ACK inside the window says that the next block is missing: begin anew there, once
            // (T-34).
            self.sent = n;
        }
        AckEffect::Moved
    }

    /// The last ACK once more: with a window it may say that the next block was lost.
    fn handle_gap(&mut self, now: Tick) -> AckEffect {
        // Lockstep: answering would double every packet from here on (T-27).
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

    /// May the last ACK be the client's answer to a copy of what it had? EDK2 acknowledges every
    /// block that it did not expect; if each such ACK began a window anew, one loss would send
    /// every later window twice. So a window whose ACK we may have provoked begins anew only if
    /// nothing better comes for [`ECHO_GRACE`].
    fn is_echo(&self) -> bool {
        if self.acked == 0 { self.offers > 1 } else { self.acked <= self.repeated }
    }

    /// The timer begins a window anew: its blocks were lost, perhaps because they came too fast
    /// (T-40).
    fn count_restart(&mut self, halves: u8) {
        if self.window > 1 && self.phase == TransferPhase::Data {
            self.tally.halvings += u32::from(self.burst.restarted(halves));
            self.tally.least_burst = self.tally.least_burst.min(self.burst.blocks);
        }
    }

    /// Everything after the last ACK is to be sent again (T-36).
    fn rewind(&mut self) {
        self.enter_run();
        self.grace = false;
        match &mut self.phase {
            TransferPhase::Offer { owed } => *owed = true,
            TransferPhase::Data => self.sent = self.acked,
        }
    }

    fn confirm(&mut self, now: Tick) {
        self.confirmed = true;
        self.moved_at = now;
        self.tries = 0;
    }

    /// Before a block is acknowledged, whoever gets them may be somebody else's victim, since an
    /// ACK 0 can be guessed: its window leaves whole a few times, and then one block of it at a
    /// time. A client that is there acknowledges that (T-64).
    fn begin_unproven(&mut self) {
        self.unproven_windows = self.unproven_windows.saturating_add(1);
        let is_too_much = self.is_distrusted || self.unproven_windows > UNPROVEN_WINDOWS_MAX;
        self.unproven_end = if is_too_much { 1 } else { self.window.into() };
    }

    /// Books the last run; from here on it can't be cut.
    fn enter_run(&mut self) {
        let run = std::mem::replace(&mut self.run, NO_RUN);
        if run.last < run.first {
            return;
        }
        let bytes = self.bytes(run);
        self.tally.bytes_sent += bytes.end - bytes.start;
        let again = run.last.min(self.highest);
        if again >= run.first {
            self.tally.retransmits += again - run.first + 1;
            self.repeated = self.repeated.max(again);
        }
        self.highest = self.highest.max(run.last);
    }

    fn highest(&self) -> u64 {
        self.highest.max(self.run.last)
    }

    fn blocks(&self, run: BlockSpan) -> DataBlockRun {
        DataBlockRun {
            first: wire_block_number(run.first),
            // A run is no longer than a window, which is 16-bit.
            blocks: u32::try_from(run.last - run.first + 1).unwrap_or(u32::MAX),
            block_size: self.block_size,
            bytes: self.bytes(run),
            last: run.last == self.blocks,
        }
    }

    fn bytes(&self, run: BlockSpan) -> Range<u64> {
        let size = u64::from(self.block_size);
        (run.first - 1) * size..self.len.min(run.last * size)
    }

    /// Time until the next repeat: doubled by every timeout, spread by jitter (T-41).
    fn interval(&self) -> Tick {
        // Before the first ACK the client's own timeout may not bind a session for minutes (T-64).
        let cap = if self.confirmed { self.rto.clamp(RTO_MAX, RTO_ASKED_MAX) } else { RTO_MAX };
        let interval = (self.rto << self.tries.min(TRIES_MAX)).min(cap);
        let spread = interval * RTO_JITTER_PERCENT / 100;
        interval - spread + 2 * spread * self.jitter_permille / 1000
    }
}

impl BurstPacer {
    /// All of a window at once.
    fn of(window: u16) -> Self {
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

    fn is_halved(&self) -> bool {
        self.blocks < self.agreed
    }

    /// The last block of `run` that leaves now; None = none before `not_before`.
    fn cut(&mut self, now: Tick, run: BlockSpan) -> Option<u64> {
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
    fn restarted(&mut self, halves: u8) -> bool {
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
    fn window_done(&mut self, clean: bool) {
        self.clean = if clean { self.clean + 1 } else { 0 };
        if self.clean == WINDOWS_TO_GROW {
            self.clean = 0;
            self.blocks += 1;
            self.paced = self.is_halved() || self.packets_per_ms > 0;
        }
    }
}

/// A block's number on the wire: after 65535 comes 0 (T-24).
fn wire_block_number(block: u64) -> u16 {
    (block & 0xffff) as u16
}
