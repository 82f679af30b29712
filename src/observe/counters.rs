//! Counters of one core: written by it alone, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only one thread raises and any thread may read.
#[derive(Debug, Default)]
pub struct SharedCount(AtomicU64);

impl SharedCount {
    /// Raises the count. One writer only, so a plain load and store do (no locked instruction on
    /// the packet path).
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
    /// For what goes up and down, such as open transfers.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
