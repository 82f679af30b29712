//! One transfer as the server sees it: window, timers, repeats. Positions are 64-bit, only the
//! wire's numbers are 16.

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

    use super::super::limits::MILLISECOND;
    use super::*;

    fn terms(block_size: u16, window: u16) -> NegotiatedTerms {
        NegotiatedTerms { block_size, window, timeout_s: None, acknowledged: true }
    }

    /// A transfer whose options are settled, before its first block.
    fn begun(block_size: u16, window: u16, len: u64) -> Transfer {
        let mut transfer = Transfer::new(&terms(block_size, window), len, 7);
        assert_eq!(transfer.poll_transmit(0), Some(NextTransmit::Oack));
        assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved);
        transfer
    }

    /// The next run, as (first number on the wire, count).
    fn run(transfer: &mut Transfer, now: Tick) -> Option<(u16, u32)> {
        match transfer.poll_transmit(now)? {
            NextTransmit::Blocks(blocks) => Some((blocks.first, blocks.blocks)),
            NextTransmit::Oack => panic!("an OACK"),
        }
    }

    /// Acknowledges whole windows until `block` is the last one acknowledged.
    fn skip_to(transfer: &mut Transfer, block: u64) {
        while transfer.acked < block {
            transfer.poll_transmit(0).unwrap();
            assert_eq!(
                transfer.handle_ack(0, wire_block_number(transfer.sent.min(block))),
                AckEffect::Moved
            );
        }
    }

    /// A transfer whose client has acknowledged the first window.
    fn proven(block_size: u16, window: u16, len: u64) -> Transfer {
        let mut transfer = begun(block_size, window, len);
        skip_to(&mut transfer, window.into());
        transfer
    }

    /// Fires the timer and returns the time that passed.
    fn fire(transfer: &mut Transfer, now: &mut Tick) -> (TimeoutEffect, Tick) {
        let before = std::mem::replace(now, transfer.deadline());
        (transfer.handle_timeout(*now), *now - before)
    }

    #[test]
    fn t16_no_data_leaves_before_ack_0() {
        let mut transfer = Transfer::new(&terms(512, 4), 5000, 1);
        assert_eq!(transfer.poll_transmit(0), Some(NextTransmit::Oack));
        assert_eq!(transfer.poll_transmit(0), None);
        assert_eq!(transfer.handle_ack(0, 1), AckEffect::Nothing);
        assert_eq!(transfer.poll_transmit(0), None);
        assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((1, 4)));
    }

    #[test]
    fn t21_the_clients_timeout_is_the_base_interval() {
        let asked = NegotiatedTerms { timeout_s: Some(5), ..terms(512, 1) };
        let mut transfer = Transfer::new(&asked, 5000, 1);
        transfer.poll_transmit(0);
        assert!(
            (4500 * MILLISECOND..=5500 * MILLISECOND).contains(&transfer.deadline()),
            "{}",
            transfer.deadline()
        );
        let long = NegotiatedTerms { timeout_s: Some(100), ..asked };
        let mut transfer = Transfer::new(&long, 5000, 1);
        transfer.poll_transmit(0);
        transfer.handle_ack(0, 0);
        transfer.poll_transmit(0);
        let most = RTO_ASKED_MAX / SECOND;
        assert!(
            (most * 9 / 10..=most * 11 / 10).contains(&(transfer.deadline() / SECOND)),
            "{}",
            transfer.deadline()
        );
    }

    #[test]
    fn t42_a_client_that_asks_for_a_long_timeout_binds_its_transfer_no_longer_than_others() {
        for timeout_s in [None, Some(1), Some(30), Some(255)] {
            let mut transfer =
                Transfer::new(&NegotiatedTerms { timeout_s, ..terms(512, 1) }, 5000, 1);
            transfer.poll_transmit(0);
            // Progress counts anew; nothing else does.
            let mut now = 5 * SECOND;
            transfer.handle_ack(now, 0);
            let began = now;
            transfer.poll_transmit(now);
            let mut sent = 1;
            while fire(&mut transfer, &mut now).0 == TimeoutEffect::Again {
                sent += u32::from(transfer.poll_transmit(now).is_some());
                assert_eq!(transfer.handle_ack(now, 0), AckEffect::Nothing);
            }
            assert!((3..=u32::from(TRIES_MAX)).contains(&sent), "{timeout_s:?}: {sent}");
            assert!(
                (30 * SECOND..=STILL_MAX).contains(&(now - began)),
                "{timeout_s:?}: {}",
                now - began
            );
        }
    }

    #[test]
    fn t64_an_ack_0_that_may_be_forged_brings_a_few_windows_and_single_blocks() {
        let mut transfer = begun(1468, 32, 1 << 26);
        let (mut now, mut blocks) = (0, 0);
        loop {
            while let Some((first, count)) = run(&mut transfer, now) {
                assert!(first == 1 || blocks == 0, "nothing behind a block that is sent alone");
                blocks += count;
            }
            for _ in 0..20 {
                now += ECHO_GRACE;
                transfer.handle_ack(now, 0);
                transfer.handle_timeout(now);
                while let Some((_, count)) = run(&mut transfer, now) {
                    blocks += count;
                }
            }
            if !matches!(
                fire(&mut transfer, &mut now).0,
                TimeoutEffect::Again | TimeoutEffect::Early
            ) {
                break;
            }
        }
        assert!(
            blocks <= u32::from(UNPROVEN_WINDOWS_MAX) * 32 + 3 * u32::from(TRIES_MAX),
            "{blocks}"
        );

        // A client that is there goes on with whole windows.
        let mut transfer = begun(1468, 32, 1 << 26);
        run(&mut transfer, 0);
        let mut now = 0;
        for blocks in [32, 16, 1] {
            assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
            assert_eq!(run(&mut transfer, now), Some((1, blocks)));
            while transfer.burst.pausing {
                fire(&mut transfer, &mut now);
                run(&mut transfer, now);
            }
        }
        assert_eq!(run(&mut transfer, now), None);
        assert_eq!(transfer.handle_ack(now, 1), AckEffect::Moved);
        transfer.handle_timeout(now + ECHO_GRACE);
        assert_eq!(run(&mut transfer, now + ECHO_GRACE), Some((2, 16)), "halved by the timer");
    }

    #[test]
    fn t64_a_distrusted_address_gets_a_block_for_its_ack_0_until_it_acknowledges_one() {
        let mut transfer = begun(1468, 32, 1 << 26);
        transfer.distrust();
        assert_eq!(run(&mut transfer, 0), Some((1, 1)));
        assert_eq!(run(&mut transfer, 0), None);
        assert_eq!(transfer.handle_ack(0, 1), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((2, 32)));
    }

    #[test]
    fn t24_after_65535_comes_0() {
        let mut transfer = begun(512, 1, 70_000 * 512);
        skip_to(&mut transfer, 65534);
        for number in [65535, 0, 1] {
            assert_eq!(run(&mut transfer, 0), Some((number, 1)));
            assert_eq!(transfer.handle_ack(0, number), AckEffect::Moved);
        }
    }

    #[test]
    fn t25_positions_pass_65535_blocks_and_4_gib() {
        for (block_size, len) in
            [(512, 40 << 20), (1468, 1468 * 65537 + 1), (1468, (5 << 30) + 3), (65464, 1 << 40)]
        {
            let mut transfer = begun(block_size, 32, len);
            let mut expected = 0;
            loop {
                let Some(NextTransmit::Blocks(blocks)) = transfer.poll_transmit(0) else {
                    panic!("nothing to send")
                };
                assert_eq!(blocks.bytes.start, expected);
                expected = blocks.bytes.end;
                if transfer.handle_ack(0, wire_block_number(transfer.sent)) == AckEffect::Done {
                    assert!(blocks.last);
                    break;
                }
            }
            assert_eq!(expected, len);
            let blocks = transfer.blocks;
            let expected = TransferTally {
                bytes_sent: len,
                acked_blocks: blocks,
                least_burst: 32,
                confirmed: true,
                ..TransferTally::default()
            };
            assert_eq!(transfer.tally(), expected);
        }
    }

    #[test]
    fn t26_an_exact_multiple_ends_with_an_empty_block() {
        for (len, blocks, octets) in
            [(0, 1, 0), (1, 1, 1), (511, 1, 511), (512, 2, 0), (1024, 3, 0), (1025, 3, 1)]
        {
            let mut transfer = begun(512, 8, len);
            let Some(NextTransmit::Blocks(sent)) = transfer.poll_transmit(0) else { panic!() };
            assert_eq!((sent.blocks, sent.bytes, sent.last), (blocks, 0..len, true));
            assert_eq!(len - u64::from(blocks - 1) * 512, octets);
            assert_eq!(transfer.handle_ack(0, blocks as u16), AckEffect::Done);
        }
    }

    #[test]
    fn t27_a_duplicate_ack_in_lockstep_sends_nothing() {
        let mut transfer = begun(512, 1, 10_000);
        let mut sent = 0;
        loop {
            assert_eq!(run(&mut transfer, 0), Some((sent + 1, 1)));
            for _ in 0..3 {
                assert_eq!(transfer.handle_ack(0, sent), AckEffect::Nothing);
                assert_eq!(transfer.poll_transmit(0), None);
            }
            sent += 1;
            if transfer.handle_ack(0, sent) == AckEffect::Done {
                break;
            }
        }
        assert_eq!(u64::from(sent), 10_000 / 512 + 1);
        assert_eq!(transfer.tally().retransmits, 0);
    }

    #[test]
    fn t28_acks_ahead_or_far_behind_are_ignored() {
        let mut transfer = begun(512, 4, 1 << 20);
        skip_to(&mut transfer, 100);
        assert_eq!(run(&mut transfer, 0), Some((101, 4)));
        for block in [105, 106, 32000, 99, 50, 0, 40000, 65535] {
            assert_eq!(transfer.handle_ack(0, block), AckEffect::Nothing, "{block}");
            assert_eq!(transfer.poll_transmit(0), None);
        }
        assert_eq!(transfer.handle_ack(0, 104), AckEffect::Moved);
    }

    #[test]
    fn t29_the_last_ack_ends_it_and_its_absence_is_no_failure() {
        let mut transfer = begun(512, 1, 600);
        run(&mut transfer, 0);
        transfer.handle_ack(0, 1);
        run(&mut transfer, 0);
        let mut now = 0;
        let end = loop {
            match fire(&mut transfer, &mut now).0 {
                TimeoutEffect::Again => run(&mut transfer, now),
                end => break end,
            };
        };
        assert_eq!(end, TimeoutEffect::LastAckMissing);
        let mut transfer = begun(512, 1, 600);
        run(&mut transfer, 0);
        transfer.handle_ack(0, 1);
        run(&mut transfer, 0);
        assert_eq!(transfer.handle_ack(0, 2), AckEffect::Done);
        assert_eq!(transfer.deadline(), NEVER);
    }

    #[test]
    fn t33_no_more_than_a_window_is_in_flight() {
        let mut transfer = begun(1000, 16, 40_000);
        assert_eq!(run(&mut transfer, 0), Some((1, 16)));
        assert_eq!(transfer.poll_transmit(0), None);
        assert_eq!(transfer.handle_ack(0, 16), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((17, 16)));
        assert_eq!(transfer.handle_ack(0, 32), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((33, 9)), "the last window is shorter");
    }

    #[test]
    fn t34_an_ack_inside_the_window_begins_a_full_one_after_it() {
        let mut transfer = begun(512, 8, 1 << 20);
        assert_eq!(run(&mut transfer, 0), Some((1, 8)));
        assert_eq!(transfer.handle_ack(0, 3), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((4, 8)));
        assert_eq!(transfer.tally().retransmits, 5);
        // The whole of the first window did arrive, and its ACK comes late: everything up to the
        // highest counts.
        assert_eq!(transfer.handle_ack(0, 11), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((12, 8)));
    }

    #[test]
    fn t35_a_gap_is_answered_once_however_often_it_is_told() {
        let mut transfer = begun(512, 4, 1 << 20);
        run(&mut transfer, 0);
        transfer.handle_ack(0, 4);
        assert_eq!(run(&mut transfer, 0), Some((5, 4)));
        // Block 5 is lost; EDK2 answers 6, 7 and 8 with ACK 4 each.
        assert_eq!(transfer.handle_ack(0, 4), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((5, 4)));
        assert_eq!(transfer.handle_ack(0, 4), AckEffect::Nothing);
        assert_eq!(transfer.handle_ack(0, 4), AckEffect::Nothing);
        assert_eq!(transfer.poll_transmit(0), None);
        // After the timer the same ACK counts again, if nothing better comes within a moment.
        let now = transfer.deadline();
        assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, now), Some((5, 4)));
        assert_eq!(transfer.handle_ack(now, 4), AckEffect::Nothing);
        assert_eq!(transfer.deadline(), now + ECHO_GRACE);
        assert_eq!(transfer.handle_timeout(now + ECHO_GRACE), TimeoutEffect::Again);
        // A gap inside the window: the first ACK begins a new one, its copies do not.
        assert_eq!(run(&mut transfer, now), Some((5, 4)));
        assert_eq!(transfer.handle_ack(now, 8), AckEffect::Moved);
        assert_eq!(run(&mut transfer, now), Some((9, 4)));
        assert_eq!(transfer.handle_ack(now, 10), AckEffect::Moved);
        assert_eq!(run(&mut transfer, now), Some((11, 4)));
        assert_eq!(transfer.handle_ack(now, 10), AckEffect::Nothing);
    }

    #[test]
    fn t35_what_may_be_an_echo_is_answered_after_a_moment() {
        let mut transfer = proven(512, 4, 1 << 20);
        run(&mut transfer, 0);
        assert_eq!(transfer.handle_timeout(transfer.deadline()), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, SECOND), Some((5, 4)));
        // Inside a window sent twice: 7 may be lost, or the client had 5 and 6 already. Go on
        // behind, then look again.
        assert_eq!(transfer.handle_ack(SECOND, 6), AckEffect::Moved);
        assert_eq!(transfer.deadline(), SECOND + ECHO_GRACE, "also where nothing is left to send");
        assert_eq!(run(&mut transfer, SECOND), Some((9, 2)));
        assert_eq!(transfer.deadline(), SECOND + ECHO_GRACE);
        assert_eq!(transfer.handle_timeout(SECOND + ECHO_GRACE), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, 2 * SECOND), Some((7, 4)));
        assert!(
            transfer.deadline() > 2 * SECOND + ECHO_GRACE,
            "the next look takes the whole interval"
        );
    }

    #[test]
    fn t35_ack_0_once_more_is_a_lost_first_block_or_the_echo_of_a_second_oack() {
        let mut transfer = begun(512, 4, 1 << 20);
        assert_eq!(run(&mut transfer, 0), Some((1, 4)));
        assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved, "the OACK was sent once");
        assert_eq!(run(&mut transfer, 0), Some((1, 4)));

        let mut transfer = Transfer::new(&terms(512, 4), 1 << 20, 7);
        for _ in 0..2 {
            assert_eq!(transfer.poll_transmit(0), Some(NextTransmit::Oack));
            transfer.handle_repeated_request();
        }
        assert_eq!(transfer.handle_ack(0, 0), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((1, 4)));
        assert_eq!(
            (transfer.handle_ack(0, 0), transfer.poll_transmit(0)),
            (AckEffect::Nothing, None)
        );
        assert_eq!(transfer.deadline(), ECHO_GRACE);
        assert_eq!(transfer.handle_timeout(ECHO_GRACE), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, ECHO_GRACE), Some((1, 4)), "nothing better has come");
    }

    #[test]
    fn t49_a_repeated_request_brings_an_unanswered_first_answer_again_where_it_can_leave() {
        for acknowledged in [true, false] {
            let mut transfer =
                Transfer::new(&NegotiatedTerms { acknowledged, ..terms(512, 1) }, 1 << 20, 7);
            assert!(!transfer.handle_repeated_request(), "it is about to leave");
            let first = transfer.poll_transmit(0);
            assert_eq!(transfer.poll_transmit(0), None);
            assert!(transfer.handle_repeated_request());
            assert_eq!(transfer.poll_transmit(0), first);
            transfer.unsent(0, 0);
            assert!(!transfer.handle_repeated_request(), "the content is out of reach");
            transfer.resume();
            transfer.handle_ack(0, u16::from(!acknowledged));
            assert!(!transfer.handle_repeated_request(), "it is answered");
        }
    }

    #[test]
    fn t35_echoes_of_repeated_blocks_do_not_double_the_traffic() {
        let mut transfer = proven(512, 4, 1 << 20);
        run(&mut transfer, 0);
        // The ACK of the window is late: the timer sends the window again.
        let now = transfer.deadline();
        assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, now), Some((5, 4)));
        assert_eq!(transfer.handle_ack(now, 8), AckEffect::Moved);
        assert_eq!(run(&mut transfer, now), Some((9, 4)));
        // EDK2 answers the four repeats with four more ACK 8. Nothing is lost, so nothing is sent.
        for _ in 0..4 {
            assert_eq!(transfer.handle_ack(now, 8), AckEffect::Nothing);
        }
        assert_eq!(transfer.poll_transmit(now), None);
        assert_eq!(transfer.handle_ack(now, 12), AckEffect::Moved);
    }

    #[test]
    fn t36_a_timeout_sends_from_the_last_ack_on() {
        let mut transfer = begun(512, 4, 1 << 20);
        run(&mut transfer, 0);
        transfer.handle_ack(0, 2);
        run(&mut transfer, 0);
        assert_eq!(transfer.handle_timeout(transfer.deadline() - 1), TimeoutEffect::Early);
        let now = transfer.deadline();
        assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, now), Some((3, 4)));
    }

    #[test]
    fn t26_a_content_of_another_length_ends_with_its_own_short_block() {
        for (len, blocks) in [(1000, 2), (1024, 3), (0, 1)] {
            let mut transfer = begun(512, 8, 1 << 20);
            transfer.set_len(len);
            assert_eq!(
                (run(&mut transfer, 0), transfer.sent_whole()),
                (Some((1, blocks)), true),
                "{len}"
            );
            assert_eq!(transfer.handle_ack(0, blocks as u16), AckEffect::Done);
        }
    }

    #[test]
    fn t37_a_restarted_window_is_counted_from_the_ack() {
        let mut transfer = begun(512, 4, 1 << 20);
        run(&mut transfer, 0);
        transfer.handle_ack(0, 3);
        assert_eq!(
            run(&mut transfer, 0),
            Some((4, 4)),
            "4..=7, not 4 alone to fill the old window"
        );
        assert_eq!(transfer.handle_ack(0, 7), AckEffect::Moved);
        assert_eq!(run(&mut transfer, 0), Some((8, 4)));
    }

    #[test]
    fn t38_a_window_over_the_rollover_survives_a_loss_at_each_place() {
        for lost in [65534u64, 65535, 65536, 65537] {
            let mut transfer = begun(512, 10, 66_000 * 512);
            skip_to(&mut transfer, 65530);
            assert_eq!(run(&mut transfer, 0), Some((65531, 10)));
            assert_eq!(transfer.handle_ack(0, wire_block_number(lost - 1)), AckEffect::Moved);
            assert_eq!(run(&mut transfer, 0), Some((wire_block_number(lost), 10)));
            assert_eq!(transfer.handle_ack(0, wire_block_number(lost + 9)), AckEffect::Moved);
            assert_eq!(transfer.acked, lost + 9);
        }
    }

    #[test]
    fn t39_without_a_gap_ack_the_timer_recovers() {
        let mut transfer = begun(512, 16, 1 << 26);
        skip_to(&mut transfer, 32768);
        assert_eq!(run(&mut transfer, 0), Some((32769, 16)));
        let now = transfer.deadline();
        assert!(now <= SECOND + SECOND / 10, "the client's own timer is 5 s");
        assert_eq!(transfer.handle_timeout(now), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, now), Some((32769, 16)));
    }

    /// The numbers and lengths of the bursts up to the next silence, and when each left.
    fn bursts(transfer: &mut Transfer, now: &mut Tick) -> Vec<(u16, u32, Tick)> {
        let mut seen = Vec::new();
        loop {
            match run(transfer, *now) {
                Some((first, blocks)) => seen.push((first, blocks, *now)),
                None if transfer.burst.pausing => {
                    *now = transfer.deadline();
                    assert_eq!(transfer.handle_timeout(*now), TimeoutEffect::Again);
                }
                None => return seen,
            }
        }
    }

    #[test]
    fn t40_two_restarts_by_the_timer_halve_the_burst_and_the_agreed_window_still_leaves_whole() {
        let mut transfer = proven(512, 8, 1 << 20);
        let mut now = 0;
        assert_eq!(run(&mut transfer, now), Some((9, 8)));
        assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, now), Some((9, 8)), "one may be chance");
        for halved in [4, 2, 1, 1] {
            assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
            let seen = bursts(&mut transfer, &mut now);
            assert!(seen.iter().all(|(_, blocks, _)| *blocks == halved), "{seen:?}");
            assert_eq!(seen.len() as u32 * halved, 8, "the client counts 8 before it acknowledges");
            for pair in seen.windows(2) {
                assert_eq!(pair[1].2 - pair[0].2, u64::from(halved) * BURST_BLOCK_PAUSE);
            }
            // Progress, so that it is not given up: the count of restarts goes on all the same.
            assert_eq!(
                transfer.handle_ack(now, wire_block_number(transfer.sent)),
                AckEffect::Moved
            );
            now = now.max(transfer.burst.not_before);
            bursts(&mut transfer, &mut now);
            assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
            bursts(&mut transfer, &mut now);
        }
        assert_eq!(transfer.tally().halvings, 3);
    }

    #[test]
    fn t40_a_burst_grows_by_one_for_32_clean_windows_up_to_what_was_agreed() {
        for packets_per_ms in [0, 1000] {
            let mut transfer = proven(512, 4, 1 << 24).with_packets_per_ms(packets_per_ms);
            let mut now = 0;
            for _ in 0..RESTARTS_TO_HALVE {
                bursts(&mut transfer, &mut now);
                assert_eq!(fire(&mut transfer, &mut now).0, TimeoutEffect::Again);
            }
            let mut window = |transfer: &mut Transfer, gap: bool| {
                let first = bursts(transfer, &mut now)[0];
                assert_eq!(
                    transfer.handle_ack(now, wire_block_number(transfer.sent - u64::from(gap))),
                    AckEffect::Moved
                );
                first.1
            };
            // The first one repeats what was sent before, so it is not clean.
            assert_eq!(window(&mut transfer, false), 2);
            (0..31).for_each(|_| assert_eq!(window(&mut transfer, false), 2));
            assert_eq!(window(&mut transfer, true), 2, "a gap: counted anew");
            (0..32).for_each(|_| assert_eq!(window(&mut transfer, false), 2));
            (0..32).for_each(|_| assert_eq!(window(&mut transfer, false), 3));
            assert_eq!(window(&mut transfer, false), 4);
            assert_eq!(transfer.burst.paced, packets_per_ms > 0, "as if nothing had been");
        }
    }

    #[test]
    fn t40_a_clean_client_and_a_lockstep_one_never_see_a_smaller_window() {
        let mut transfer = begun(1468, 32, 64 << 20).with_packets_per_ms(0);
        loop {
            let (_, blocks) = run(&mut transfer, 0).unwrap();
            let whole = transfer.sent == transfer.blocks || blocks == 32;
            assert!(whole && !transfer.burst.paced, "{blocks}");
            if transfer.handle_ack(0, wire_block_number(transfer.sent)) == AckEffect::Done {
                break;
            }
        }
        let mut lockstep = begun(1468, 1, 1 << 20);
        let mut now = 0;
        for _ in 0..5 {
            assert_eq!(run(&mut lockstep, now), Some((1, 1)));
            assert_eq!(fire(&mut lockstep, &mut now).0, TimeoutEffect::Again);
        }
        assert!(!lockstep.burst.paced && lockstep.tally().halvings == 0);
    }

    #[test]
    fn t40_packets_per_ms_hold_within_a_window_and_from_one_to_the_next() {
        let mut transfer = begun(512, 10, 1 << 20).with_packets_per_ms(4);
        let mut now = 0;
        let seen = bursts(&mut transfer, &mut now);
        assert_eq!(seen, [(1, 4, 0), (5, 4, MILLISECOND), (9, 2, 2 * MILLISECOND)]);
        let mut begun = begun(512, 10, 1 << 20).with_packets_per_ms(4);
        assert_eq!(
            (run(&mut begun, 0), begun.deadline()),
            (Some((1, 4)), MILLISECOND),
            "the timer goes on with it"
        );
        assert_eq!(transfer.handle_ack(now, 10), AckEffect::Moved);
        assert_eq!(run(&mut transfer, now), None);
        assert_eq!(
            transfer.deadline(),
            now + MILLISECOND / 2,
            "two packets take half a millisecond"
        );
        let next = bursts(&mut transfer, &mut now)[0];
        assert_eq!(next, (11, 4, 2 * MILLISECOND + MILLISECOND / 2));
        let mut lockstep = self::begun(512, 1, 1 << 20).with_packets_per_ms(1);
        assert_eq!(run(&mut lockstep, 0), Some((1, 1)));
        lockstep.handle_ack(0, 1);
        assert_eq!((run(&mut lockstep, 0), lockstep.deadline()), (None, MILLISECOND));
    }

    #[test]
    fn t40_what_the_engine_could_not_send_in_a_pause_leaves_after_resume() {
        let mut transfer = begun(512, 8, 1 << 20).with_packets_per_ms(4);
        assert_eq!(run(&mut transfer, 0), Some((1, 4)));
        transfer.unsent(0, 1);
        assert_eq!(transfer.poll_transmit(MILLISECOND), None);
        transfer.resume();
        assert_eq!((run(&mut transfer, 0), transfer.deadline()), (None, MILLISECOND));
        assert_eq!(transfer.handle_timeout(MILLISECOND), TimeoutEffect::Again);
        assert_eq!(run(&mut transfer, MILLISECOND), Some((2, 4)));
    }

    #[test]
    fn t41_intervals_double_to_8_s_with_jitter_and_progress_resets_them() {
        let mut transfer = begun(512, 1, 1 << 20);
        let mut now = 0;
        let mut spread = std::collections::BTreeSet::new();
        for round in 0..2 {
            run(&mut transfer, now);
            for seconds in [1, 2, 4, 8, 8] {
                let (timeout, waited) = fire(&mut transfer, &mut now);
                assert_eq!(timeout, TimeoutEffect::Again);
                let expected = seconds * SECOND;
                assert!(
                    (expected * 9 / 10..=expected * 11 / 10).contains(&waited),
                    "{waited} for {seconds} s"
                );
                spread.insert(waited * 1000 / expected);
                run(&mut transfer, now);
            }
            assert_eq!(transfer.handle_ack(now, round + 1), AckEffect::Moved);
        }
        assert!(spread.len() > 5, "jitter spreads: {spread:?}");
        // 500 machines that ask at once do not ask again at once.
        let first = |seed| {
            let mut transfer = Transfer::new(&terms(512, 1), 1 << 20, seed);
            transfer.poll_transmit(0);
            transfer.deadline() / MILLISECOND
        };
        let firsts: std::collections::BTreeSet<_> = (0..500).map(first).collect();
        let (least, most) = (firsts.first().unwrap(), firsts.last().unwrap());
        assert!((900..905).contains(least) && (1095..=1100).contains(most), "{least} to {most} ms");
        assert!(firsts.len() > 150, "{} of 200", firsts.len());
    }

    #[test]
    fn t42_seven_tries_without_progress_are_enough() {
        let mut transfer = begun(512, 1, 1 << 20);
        let (mut now, mut transmissions) = (0, 0);
        loop {
            transmissions += u32::from(transfer.poll_transmit(now).is_some());
            match fire(&mut transfer, &mut now).0 {
                TimeoutEffect::Again => (),
                end => break assert_eq!(end, TimeoutEffect::GaveUp),
            }
        }
        assert_eq!(transmissions, 7);
        assert!((30 * SECOND..45 * SECOND).contains(&now), "{now}");
    }

    #[test]
    fn t64_five_transmissions_at_most_before_the_first_ack() {
        for acknowledged in [true, false] {
            let unanswered = NegotiatedTerms { acknowledged, window: 1, ..terms(512, 1) };
            let mut transfer = Transfer::new(&unanswered, 1 << 20, 3);
            // A server that has run for a while.
            let (mut now, mut transmissions, mut octets) = (1000 * SECOND, 0, 0);
            loop {
                if let Some(transmit) = transfer.poll_transmit(now) {
                    transmissions += 1;
                    if let NextTransmit::Blocks(blocks) = transmit {
                        assert_eq!(blocks.blocks, 1);
                        octets += 4 + blocks.bytes.end - blocks.bytes.start;
                    }
                }
                // Repeated requests draw on the same five.
                transfer.handle_repeated_request();
                if fire(&mut transfer, &mut now).0 == TimeoutEffect::GaveUp {
                    break;
                }
            }
            assert!(transmissions <= 5, "{transmissions}");
            assert!(octets <= 5 * 516);
            assert_eq!(transfer.tally().retransmits, transmissions - 1);
        }
    }

    #[test]
    fn unsent_blocks_are_owed_and_leave_after_resume() {
        let mut transfer = begun(512, 8, 1 << 20);
        assert_eq!(run(&mut transfer, 0), Some((1, 8)));
        transfer.unsent(0, 3);
        assert_eq!(transfer.poll_transmit(0), None);
        assert_eq!(transfer.handle_ack(0, 5), AckEffect::Nothing, "block 5 has never left");
        transfer.resume();
        assert_eq!(run(&mut transfer, 0), Some((4, 5)));
        assert_eq!(
            transfer.tally(),
            TransferTally {
                bytes_sent: 8 * 512,
                least_burst: 8,
                confirmed: true,
                ..TransferTally::default()
            }
        );
        transfer.unsent(0, 0);
        assert_eq!(transfer.handle_timeout(PARKED_MAX), TimeoutEffect::Stalled);
    }
}
