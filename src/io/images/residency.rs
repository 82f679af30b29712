//! Which pieces of a mapping are resident and when a core last used each: words that cores read and
//! stamp without waiting.

use std::sync::atomic::{AtomicU64, Ordering};

use super::limits::PIECE_BYTES;

/// One word per piece of [`PIECE_BYTES`]: absent, requested ahead of need, or resident with a
/// stamp.
///
/// A stamp is a tick of the memory's clock and two bits: whether a core has used the piece since a
/// worker made it resident, and whether cores have used it at two ticks. Ticks begin at 1, so that
/// every stamp is above the two other words.
#[derive(Debug)]
pub(super) struct PieceResidency(Box<[AtomicU64]>);

const ABSENT: u64 = 0;
const ASKED: u64 = 1;
const USED: u64 = 1;
const AGAIN: u64 = 2;
/// Bits of a stamp below its tick.
const BITS: u32 = 2;

/// When a piece became resident or a core last used it. Later stamps are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UseStamp(u64);

impl UseStamp {
    /// Whether a core has used the piece since a worker made it.
    pub(super) fn is_of_use(self) -> bool {
        self.0 & USED != 0
    }

    /// Whether a core has used the piece at this tick of the clock or later.
    pub(super) fn is_of_use_since(self, tick: u64) -> bool {
        self.is_of_use() && self.0 >> BITS >= tick
    }

    /// Whether cores have used the piece more than once, and since this tick.
    pub(super) fn is_in_demand_since(self, tick: u64) -> bool {
        self.0 & AGAIN != 0 && self.0 >> BITS >= tick
    }
}

impl PieceResidency {
    pub(super) fn none_of(len: u64) -> Self {
        let pieces = usize::try_from(len.div_ceil(PIECE_BYTES)).unwrap_or(usize::MAX);
        Self((0..pieces).map(|_| AtomicU64::new(ABSENT)).collect())
    }

    /// Whether a piece is resident; a piece beyond the end always is.
    pub(super) fn has(&self, piece: u64) -> bool {
        self.word(piece).is_none_or(|word| word.load(Ordering::Acquire) > ASKED)
    }

    /// Stamps a resident piece as used now; false: the piece is not resident. A piece evicted at
    /// the same moment stays evicted.
    pub(super) fn use_at(&self, piece: u64, tick: u64) -> bool {
        let Some(word) = self.word(piece) else { return true };
        let mut seen = word.load(Ordering::Acquire);
        while seen > ASKED && (seen >> BITS, seen & USED) < (tick, USED) {
            let again = if seen & USED != 0 { AGAIN } else { 0 };
            let stamp = tick << BITS | USED | again | seen & AGAIN;
            match word.compare_exchange_weak(seen, stamp, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        seen > ASKED
    }

    /// True for the first caller that requests an absent piece since it was last resident.
    pub(super) fn claim(&self, piece: u64) -> bool {
        self.word(piece).is_some_and(|word| {
            word.compare_exchange(ABSENT, ASKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }

    /// Marks a piece as resident and not used yet.
    pub(super) fn set_resident(&self, piece: u64, tick: u64) {
        if let Some(word) = self.word(piece) {
            word.store(tick << BITS, Ordering::Release);
        }
    }

    pub(super) fn clear_resident(&self, piece: u64) {
        if let Some(word) = self.word(piece) {
            word.store(ABSENT, Ordering::Release);
        }
    }

    pub(super) fn stamp(&self, piece: u64) -> UseStamp {
        UseStamp(self.word(piece).map_or(ABSENT, |word| word.load(Ordering::Acquire)))
    }

    fn word(&self, piece: u64) -> Option<&AtomicU64> {
        usize::try_from(piece).ok().and_then(|piece| self.0.get(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_what_was_made_from_what_was_used_and_an_evicted_piece_takes_none() {
        let residency = PieceResidency::none_of(2 * PIECE_BYTES + 1);
        assert!(!residency.use_at(0, 5) && !residency.has(0));
        assert!(residency.claim(0) && !residency.claim(0), "asked for once");
        assert!(!residency.has(0), "asked for is not there");
        residency.set_resident(0, 5);
        residency.set_resident(1, 6);
        assert!(residency.stamp(0) < residency.stamp(1) && !residency.stamp(1).is_of_use());
        assert!(residency.use_at(0, 6));
        assert!(residency.stamp(0) > residency.stamp(1));
        assert!(residency.stamp(0).is_of_use_since(6) && !residency.stamp(0).is_of_use_since(7));
        assert!(!residency.stamp(0).is_in_demand_since(1), "used once");
        assert!(residency.use_at(0, 8) && residency.stamp(0).is_in_demand_since(8));
        assert!(!residency.stamp(0).is_in_demand_since(9));
        residency.clear_resident(0);
        assert!(!residency.use_at(0, 9) && !residency.has(0) && residency.claim(0));
        assert!(
            residency.has(3) && residency.use_at(3, 9) && !residency.claim(3),
            "beyond the end"
        );
    }
}
