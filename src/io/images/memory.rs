//! The memory for boot images: which pieces are resident, which one is evicted for another, and
//! what waits meanwhile.
//!
//! Workers make pieces resident, lock them and count them here; a core only reads and stamps a word
//! for each piece ([`super::residency`]), and never takes the locks of this file. When the budget
//! is spent, a worker clears the word of the least recently used piece and then unlocks the piece:
//! a core that needs it asks a worker again.
//!
//! Every transfer makes progress, however small the budget is. One worker at a time makes room
//! (`turn`), so that no worker takes a place that another has cleared. A piece that is being read
//! is resident after its read, and every other piece may be evicted after at most
//! [`PIECE_AWAITED`]: so a worker makes room in bounded time. All pieces of a range become resident
//! together, and stay for at least [`PIECE_HELD`] and until a core has sent from them: so the core
//! finds the range whole. A range larger than the budget becomes resident when no other piece is.

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

/// How often a waiting worker checks whether a piece may be evicted: cores send no signal when they
/// use a piece.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The budget for boot images and their resident pieces, shared by all mappings.
#[derive(Debug)]
pub struct ImageMemory {
    /// The budget, bytes.
    budget: u64,
    may_lock: bool,
    /// Ticks each time a worker makes pieces resident: fine enough to order pieces by their last
    /// use.
    tick: AtomicU64,
    /// The one worker that makes room holds this lock.
    turn: Mutex<()>,
    ledger: Mutex<PieceLedger>,
    changed: Condvar,
    /// A keeper thread checks the pieces that could not be locked.
    has_keeper: AtomicBool,
    /// Unused mappings on their way from a core to a worker that unmaps them.
    dead: (Sender<Arc<MappedFile>>, Mutex<Receiver<Arc<MappedFile>>>),
}

/// The use of the memory, for `status`: bytes, but for the last two counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageMemoryUse {
    /// The most that resident pieces may occupy.
    pub budget: u64,
    /// Resident, or being read.
    pub resident: u64,
    /// The part of `resident` that the kernel may evict, because this process may not lock it.
    pub unlocked: u64,
    /// Pieces evicted to make room for others.
    pub evictions: u64,
    /// Pieces that could not be locked, and that the keeper dropped because no core used them.
    pub expired: u64,
}

/// A piece by its mapping and its number.
type PieceKey = (u64, u64);

#[derive(Debug, Default)]
struct PieceLedger {
    held: HashMap<PieceKey, HeldPiece>,
    /// Pieces that workers make resident now, by mapping: none of these is evicted.
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
    /// The tick at which the keeper last checked the piece.
    checked: u64,
}

impl ImageMemory {
    /// A memory with a budget in bytes; [`super::MemoryCeiling::budget`] computes a safe one.
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

    /// The budget, bytes.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// The use of the memory now.
    pub fn usage(&self) -> ImageMemoryUse {
        ImageMemoryUse { budget: self.budget, ..self.ledger().usage }
    }

    /// The current tick, for stamps. For cores.
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
        // Ask the file server for the file's metadata after the read: cores check only the kernel's
        // cache.
        let _ = mapped.stat();
        self.record(mapped, pieces, &made);
        if is_unlocked {
            self.start_keeper();
        }
    }

    /// Waits until no other worker makes one of these pieces and the missing ones have room;
    /// reserves that room.
    fn reserve(&self, mapped: &Arc<MappedFile>, pieces: &Range<u64>) -> Vec<u64> {
        // Mappings whose last user is this function: dropped after the locks.
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
            // A truncated piece counts as resident: the send from it reports the error.
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
        let mine = ledger.making.iter().position(|(id, made)| (*id, made) == (mapped.id, pieces));
        if let Some(at) = mine {
            ledger.making.swap_remove(at);
        }
        drop(ledger);
        self.changed.notify_all();
    }

    /// Takes an unused mapping, without waiting: for cores.
    pub(super) fn lay_out(&self, mapped: &Arc<MappedFile>) {
        let _ = self.dead.0.send(Arc::clone(mapped)); // the other end is here
    }

    /// Unmaps unused mappings and returns their memory to the budget. For workers.
    pub(super) fn unmap_dead(&self) {
        let dead: Vec<_> =
            self.dead.1.lock().unwrap_or_else(PoisonError::into_inner).try_iter().collect();
        for mapped in dead {
            self.forget(mapped.id);
        }
    }

    /// Removes a mapping's pieces from the ledger: unmapping ends their locks.
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

    /// Logs once that pieces cannot be locked, and starts the keeper thread. The thread ends with
    /// the memory.
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

        // The keeper must not keep the memory alive: it ends when the memory is gone.
        let memory = Arc::downgrade(self);
        let keeper = std::thread::Builder::new().name("rb-keeper".into()).spawn(move || {
            let thread = threads::watch_thread("rb-keeper");
            thread.keep_running(|| {
                loop {
                    std::thread::park_timeout(UNLOCKED_CHECKED);
                    let Some(memory) = memory.upgrade() else { return };
                    let _busy = thread.busy();
                    memory.check_unlocked(Instant::now());
                }
            });
        });
        if keeper.is_err() {
            self.has_keeper.store(false, Ordering::Relaxed); // the next piece tries again
        }
    }

    /// Drops unlocked pieces that no core has used since the last check, and reads the others
    /// again, so that the kernel keeps them cached. Waits for the disk.
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

        // Read without the lock: the disk may take its time.
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

    /// Evicts least recently used pieces until `bytes` more fit into the budget. Returns false
    /// while the remaining pieces may not be evicted yet.
    fn make_room(
        &mut self,
        bytes: u64,
        (budget, tick): (u64, u64),
        wanted: (u64, &Range<u64>),
        gone: &mut Vec<Arc<MappedFile>>,
    ) -> bool {
        // Ignore demand of long ago: since then workers could have read the whole budget several
        // times.
        let demand = DEMAND_ROUNDS * (budget / PIECE_BYTES).max(1);
        while self.usage.resident + bytes > budget {
            let now = Instant::now();
            let others = self.held.iter().filter(|(key, _)| {
                let is_wanted = key.0 == wanted.0 && wanted.1.contains(&key.1);
                !is_wanted && !self.is_making(key.0, &(key.1..key.1 + 1))
            });
            let may_go = others.clone().filter(|(key, held)| {
                let stays = if held.residency.stamp(key.1).is_of_use() {
                    PIECE_HELD
                } else {
                    PIECE_AWAITED
                };
                now.saturating_duration_since(held.made) >= stays
            });
            // Evict pieces first that were used once: a client that reads all over a large file
            // evicts nothing that many clients need.
            let oldest = may_go.min_by_key(|(key, held)| {
                let stamp = held.residency.stamp(key.1);
                (stamp.is_in_demand_since(tick.saturating_sub(demand)), stamp)
            });
            match oldest.map(|(key, _)| *key) {
                Some(oldest) => gone.extend(self.evict(oldest)),
                // If no other piece is resident and the range still does not fit, it is larger than
                // the budget.
                None => return others.count() == 0 && self.making.is_empty(),
            }
        }
        true
    }

    /// Clears the word first, so that no core begins to send from the piece. A send that has begun
    /// finds the piece in the page cache.
    fn evict(&mut self, key: PieceKey) -> Option<Arc<MappedFile>> {
        let held = self.take(key)?;
        held.residency.clear_resident(key.1);
        self.usage.evictions += 1;
        // Dropping a mapping unlocks its pieces.
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
