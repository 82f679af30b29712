//! What a running fleet shows to whoever watches: counts that only rise, read from another thread.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Raised by the fleet, read by a progress bar.
#[derive(Debug, Default)]
pub struct Progress {
    octets: AtomicU64,
    unchecked_octets: AtomicU64,
    booted: AtomicU32,
    failed: AtomicU32,
    retries: AtomicU64,
}

impl Progress {
    /// Octets of files received.
    pub fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }

    /// Octets of files of which nothing is known, menus apart.
    pub fn unchecked_octets(&self) -> u64 {
        self.unchecked_octets.load(Ordering::Relaxed)
    }

    /// Machines that have everything they came for.
    pub fn booted(&self) -> u32 {
        self.booted.load(Ordering::Relaxed)
    }

    /// Machines that gave up.
    pub fn failed(&self) -> u32 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Messages repeated, transfers resumed or begun again.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    pub(super) fn add_octets(&self, octets: u64) {
        self.octets.fetch_add(octets, Ordering::Relaxed);
    }

    pub(super) fn add_unchecked_octets(&self, octets: u64) {
        self.unchecked_octets.fetch_add(octets, Ordering::Relaxed);
    }

    pub(super) fn add_retry(&self) {
        self.add_retries(1);
    }

    pub(super) fn add_retries(&self, retries: u64) {
        self.retries.fetch_add(retries, Ordering::Relaxed);
    }

    pub(super) fn add_machine(&self, booted: bool) {
        let count = if booted { &self.booted } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}
