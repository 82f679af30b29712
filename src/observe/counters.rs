//! Counters of one core: only that core writes them, any thread may read them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that one thread writes and any thread may read.
#[derive(Debug, Default)]
pub struct SharedCount(AtomicU64);

impl SharedCount {
    /// Adds `n`. There is one writer, so a plain load and store are enough: no locked instruction
    /// on the packet path.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a gauge, such as the number of open transfers.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value that the writer stored last.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
