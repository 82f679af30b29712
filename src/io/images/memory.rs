//! The memory for boot images: which pieces are held, which goes when another one needs its place,
//! and what waits meanwhile.
//!
//! Workers make pieces resident, lock them and count them here; a core only reads and stamps a word
//! for each piece ([`super::residency`]), and never meets the locks of this file. When the budget
//! is spent, the least recently used piece is unlocked, and its word cleared first: who wants it
//! asks a worker again.
//!
//! Every transfer gets on, however small the budget is. One worker at a time makes room (`turn`),
//! so that nobody takes a place that another has cleared; a piece that is being read is there after
//! its read, and every other piece may go after at most [`PIECE_AWAITED`]: so room is made in
//! bounded time. All pieces of a range are made as one, and stay for at least [`PIECE_HELD`] and
//! until somebody has sent from them: so who asked for a range finds it whole. A range larger than
//! the budget is made when nothing else is held.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::limits::{DEMAND_ROUNDS, PIECE_AWAITED, PIECE_BYTES, PIECE_HELD, UNLOCKED_CHECKED};
use super::lock::ResidencyKind;
use super::mapped::MappedFile;
use super::residency::PieceResidency;
use ringboot_observe::threads;

/// How often a worker that waits for a place looks whether one has become free: cores do not tell
/// when they use a piece.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The budget for boot images and what is held of them, shared by all mappings.
#[derive(Debug)]
pub struct ImageMemory {
    /// Bytes.
    budget: u64,
    may_lock: bool,
    /// One tick for each time that pieces were made: fine enough to order pieces by their last use.
    tick: AtomicU64,
    /// Held by the one worker that makes room.
    turn: Mutex<()>,
    ledger: Mutex<PieceLedger>,
    changed: Condvar,
    /// A thread looks after the pieces that could not be locked.
    has_keeper: AtomicBool,
    /// Mappings that nobody uses any more, on their way from a core to a worker that unmaps them.
    dead: (Sender<Arc<MappedFile>>, Mutex<Receiver<Arc<MappedFile>>>),
}

/// What is held now, for `status`. All in bytes but the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageMemoryUse {
    pub budget: u64,
    /// Known resident, or being read.
    pub resident: u64,
    /// Of these, what the kernel may take away because this process may not lock it.
    pub unlocked: u64,
    /// Pieces that went because another one needed their place.
    pub evictions: u64,
    /// Pieces that could not be locked and were not used any more.
    pub expired: u64,
}

/// A piece by its mapping and its number.
type PieceKey = (u64, u64);

#[derive(Debug, Default)]
struct PieceLedger {
    held: HashMap<PieceKey, HeldPiece>,
    /// Mappings and their pieces that workers make now: none of these goes.
    making: Vec<(u64, Range<u64>)>,
    usage: ImageMemoryUse,
}

#[derive(Debug)]
struct HeldPiece {
    mapped: Weak<MappedFile>,
    residency: Arc<PieceResidency>,
    bytes: u64,
    how: ResidencyKind,
    made: Instant,
    /// When the keeper last looked at it, as a tick.
    checked: u64,
}

impl ImageMemory {
    /// A budget in bytes; [`super::MemoryCeiling::budget`] says what is safe.
    pub fn new(budget: u64) -> Arc<Self> {
        Self::of(budget, true)
    }

    fn of(budget: u64, may_lock: bool) -> Arc<Self> {
        let (dead, to_bury) = channel();
        Arc::new(Self {
            budget,
            may_lock,
            tick: AtomicU64::new(1),
            turn: Mutex::default(),
            ledger: Mutex::default(),
            changed: Condvar::new(),
            has_keeper: AtomicBool::new(false),
            dead: (dead, Mutex::new(to_bury)),
        })
    }

    pub fn budget(&self) -> u64 {
        self.budget
    }

    pub fn usage(&self) -> ImageMemoryUse {
        ImageMemoryUse { budget: self.budget, ..self.ledger().usage }
    }

    /// The present, for stamps. For cores.
    pub(super) fn tick(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Makes all these pieces of one mapping resident at once. Waits for the disk and for room:
    /// workers only.
    pub(super) fn make(self: &Arc<Self>, mapped: &Arc<MappedFile>, pieces: &Range<u64>) {
        if pieces.clone().all(|piece| mapped.residency.has(piece)) {
            return;
        }
        let missing = self.reserve(mapped, pieces);
        let made: Vec<(u64, ResidencyKind)> = missing
            .into_iter()
            .map(|piece| (piece, mapped.make_resident(piece, self.may_lock)))
            .collect();
        let is_unlocked = made.iter().any(|(_, made)| *made == ResidencyKind::Unlocked);
        // A file server is asked what the file is, now that bytes of it were read: cores look at
        // what the kernel knows.
        let _ = mapped.stat();
        self.record(mapped, pieces, &made);
        if is_unlocked {
            self.start_keeper();
        }
    }

    /// Waits until nobody else makes one of these pieces and there is room for those that are
    /// missing, and takes that room.
    fn reserve(&self, mapped: &Arc<MappedFile>, pieces: &Range<u64>) -> Vec<u64> {
        // Mappings whose last user is this function: dropped when no lock is held.
        let mut gone = Vec::new();
        loop {
            let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let mut ledger = self.ledger();
            if ledger.is_making(mapped.id, pieces) {
                drop(turn); // the wait may be as long as a disk takes
                drop(self.wait(ledger));
                continue;
            }
            let missing: Vec<u64> = loop {
                let missing =
                    pieces.clone().filter(|piece| !ledger.held.contains_key(&(mapped.id, *piece)));
                let missing: Vec<u64> = missing.collect();
                let bytes: u64 = missing.iter().map(|piece| mapped.piece_bytes(*piece)).sum();
                if bytes == 0
                    || ledger.make_room(
                        bytes,
                        (self.budget, self.tick()),
                        (mapped.id, pieces),
                        &mut gone,
                    )
                {
                    ledger.usage.resident += bytes;
                    break missing;
                }
                ledger = self.wait(ledger);
            };
            ledger.making.push((mapped.id, pieces.clone()));
            drop(ledger);
            drop(turn);
            return missing;
        }
    }

    fn record(&self, mapped: &Arc<MappedFile>, pieces: &Range<u64>, made: &[(u64, ResidencyKind)]) {
        let mut ledger = self.ledger();
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        for &(piece, how) in made {
            let bytes = mapped.piece_bytes(piece);
            // What was cut short is left for the send to report: it counts as resident.
            ledger.usage.unlocked += if how == ResidencyKind::Unlocked { bytes } else { 0 };
            let (weak, residency) = (Arc::downgrade(mapped), Arc::clone(&mapped.residency));
            let held = HeldPiece { mapped: weak, residency, bytes, how, made: now, checked: tick };
            ledger.held.insert((mapped.id, piece), held);
        }
        for piece in pieces.clone() {
            if let Some(held) = ledger.held.get_mut(&(mapped.id, piece)) {
                held.made = now;
                mapped.residency.set_resident(piece, tick);
            }
        }
        let is_mine = |(id, made): &(u64, Range<u64>)| (*id, made) == (mapped.id, pieces);
        if let Some(at) = ledger.making.iter().position(is_mine) {
            ledger.making.swap_remove(at);
        }
        drop(ledger);
        self.changed.notify_all();
    }

    /// Takes a mapping that nobody uses any more. Without waiting: for cores.
    pub(super) fn lay_out(&self, mapped: &Arc<MappedFile>) {
        let _ = self.dead.0.send(Arc::clone(mapped)); // the other end is here
    }

    /// Gives back the memory of the mappings that nobody uses any more, and unmaps them. For
    /// workers.
    pub(super) fn unmap_dead(&self) {
        let dead: Vec<_> =
            self.dead.1.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect();
        for mapped in dead {
            self.forget(mapped.id);
        }
    }

    /// Counts a mapping's pieces as held no longer: unmapping ends their locks.
    fn forget(&self, id: u64) {
        let mut ledger = self.ledger();
        let gone: Vec<PieceKey> = ledger.held.keys().filter(|key| key.0 == id).copied().collect();
        for key in gone {
            ledger.take(key);
        }
        drop(ledger);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, ledger: MutexGuard<'a, PieceLedger>) -> MutexGuard<'a, PieceLedger> {
        self.changed.wait_timeout(ledger, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner).0
    }

    fn ledger(&self) -> MutexGuard<'_, PieceLedger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once that pieces cannot be locked, and starts the thread that looks after them. It ends
    /// with the memory.
    fn start_keeper(self: &Arc<Self>) {
        if self.has_keeper.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            "boot images cannot be locked in memory: this process may not lock {} MB \
             (RLIMIT_MEMLOCK). When memory is short, a transfer may wait for the disk and hold up \
             others on its core. systemd: LimitMEMLOCK=infinity; a container: --ulimit memlock=-1; \
             by hand: `ulimit -l unlimited`",
            self.budget / 1_000_000
        );
        let memory = Arc::downgrade(self);
        let keep = move || {
            let thread = threads::watch_thread("rb-keeper");
            thread.keep_running(|| {
                loop {
                    std::thread::park_timeout(UNLOCKED_CHECKED);
                    let Some(memory) = memory.upgrade() else { return };
                    let _busy = thread.busy();
                    memory.check_unlocked(Instant::now());
                }
            });
        };
        if std::thread::Builder::new().name("rb-keeper".into()).spawn(keep).is_err() {
            self.has_keeper.store(false, Ordering::Relaxed); // the next piece tries again
        }
    }

    /// Forgets unlocked pieces that nobody has used since the last look, and reads the others
    /// again, which tells the kernel that they are in use. Waits for the disk.
    fn check_unlocked(&self, now: Instant) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        let mut in_use = Vec::new();
        let mut ledger = self.ledger();
        let unlocked = ledger
            .held
            .iter()
            .filter(|(_, held)| held.how == ResidencyKind::Unlocked)
            .map(|(key, _)| *key);
        for key in unlocked.collect::<Vec<PieceKey>>() {
            let Some(held) = ledger.held.get_mut(&key) else { continue };
            let is_used = held.residency.stamp(key.1).is_of_use_since(held.checked);
            let is_new = now.saturating_duration_since(held.made) < UNLOCKED_CHECKED;
            held.checked = tick;
            if is_used || is_new {
                in_use.extend(held.mapped.upgrade().map(|mapped| (mapped, key.1)));
            } else {
                held.residency.clear_resident(key.1);
                ledger.take(key);
                ledger.usage.expired += 1;
            }
        }
        drop(ledger);
        self.changed.notify_all();
        for (mapped, piece) in in_use {
            mapped.make_resident(piece, false);
        }
    }
}

impl PieceLedger {
    fn is_making(&self, id: u64, pieces: &Range<u64>) -> bool {
        self.making
            .iter()
            .any(|(other, made)| *other == id && made.start < pieces.end && pieces.start < made.end)
    }

    /// Evicts until so many bytes more fit into the budget; false where pieces must stay for now
    /// that are in the way.
    fn make_room(
        &mut self,
        bytes: u64,
        (budget, tick): (u64, u64),
        wanted: (u64, &Range<u64>),
        gone: &mut Vec<Arc<MappedFile>>,
    ) -> bool {
        // Demand of long ago is none: by now all that is held could have been made several times.
        let demand = DEMAND_ROUNDS * (budget / PIECE_BYTES).max(1);
        while self.usage.resident + bytes > budget {
            let now = Instant::now();
            let is_making = |key: &PieceKey| self.is_making(key.0, &(key.1..key.1 + 1));
            let is_wanted = |key: &PieceKey| key.0 == wanted.0 && wanted.1.contains(&key.1);
            let is_other = |key: &PieceKey| !is_making(key) && !is_wanted(key);
            let others = self.held.iter().filter(|(key, _)| is_other(key));
            let may_go = others.clone().filter(|(key, held)| {
                let stays = if held.residency.stamp(key.1).is_of_use() {
                    PIECE_HELD
                } else {
                    PIECE_AWAITED
                };
                now.saturating_duration_since(held.made) >= stays
            });
            // What was used once goes first: whoever reads all over a large file pushes out nothing
            // that many ask for.
            let rank = |(key, held): &(&PieceKey, &HeldPiece)| {
                let stamp = held.residency.stamp(key.1);
                (stamp.is_in_demand_since(tick.saturating_sub(demand)), stamp)
            };
            match may_go.min_by_key(rank).map(|(key, _)| *key) {
                Some(oldest) => gone.extend(self.evict(oldest)),
                // Where nothing else is there and it still does not fit, it is larger than the
                // budget.
                None => return others.count() == 0 && self.making.is_empty(),
            }
        }
        true
    }

    /// The word first, so that no core begins to send; what one has begun is in the page cache for
    /// as long as that takes.
    fn evict(&mut self, key: PieceKey) -> Option<Arc<MappedFile>> {
        let held = self.take(key)?;
        held.residency.clear_resident(key.1);
        self.usage.evictions += 1;
        // A mapping that is being dropped unlocks by that.
        let mapped = held.mapped.upgrade()?;
        if held.how == ResidencyKind::Locked {
            mapped.unlock(key.1);
        }
        Some(mapped)
    }

    fn take(&mut self, key: PieceKey) -> Option<HeldPiece> {
        let held = self.held.remove(&key)?;
        self.usage.resident -= held.bytes;
        self.usage.unlocked -= if held.how == ResidencyKind::Unlocked { held.bytes } else { 0 };
        Some(held)
    }
}
