//! The health of the lease store: its writer's thread sets it, the DHCP core and control read it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the DHCP core may do in this state of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseTrust {
    /// Everything.
    #[default]
    Sound,
    /// No offer, because no lease could follow. Requests are tried, in case the disk is back.
    Broken,
    /// Nothing at all: the leases of an earlier run are unknown.
    Unread,
}

/// The health of the store; sound at the start.
#[derive(Debug, Default)]
pub struct StoreHealth {
    /// 0: sound.
    trust: AtomicU64,
    failed: AtomicU64,
    withheld: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    why: Option<(String, Instant)>,
    /// Work that the store has not finished, and since when it has finished none.
    queued: u64,
    waits_since: Option<Instant>,
}

/// The health of the store at one moment, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// What the DHCP core may do.
    pub trust: LeaseTrust,
    /// Why the store is not sound, and for how long.
    pub why: Option<(String, Duration)>,
    /// Commits that failed since the start.
    pub failed: u64,
    /// Offers withheld because no lease could have followed.
    pub withheld: u64,
    /// Commits that wait for the store.
    pub queued: u64,
    /// For how long commits have waited while none was finished.
    pub waiting: Option<Duration>,
}

impl StoreHealth {
    /// What the DHCP core may do now.
    pub fn trust(&self) -> LeaseTrust {
        match self.trust.load(Ordering::Acquire) {
            0 => LeaseTrust::Sound,
            1 => LeaseTrust::Broken,
            _ => LeaseTrust::Unread,
        }
    }

    /// Sets the state, with the reason where it is not sound. True if the state has changed.
    pub fn set(&self, trust: LeaseTrust, why: &str) -> bool {
        let number = match trust {
            LeaseTrust::Sound => 0,
            LeaseTrust::Broken => 1,
            LeaseTrust::Unread => 2,
        };
        let is_news = self.trust.swap(number, Ordering::AcqRel) != number;
        let mut inner = self.lock();
        if trust == LeaseTrust::Sound {
            inner.why = None;
        } else {
            let since = inner.why.take().map_or_else(Instant::now, |(_, since)| since);
            inner.why = Some((why.to_owned(), since));
        }
        is_news
    }

    /// Counts a commit that failed.
    pub fn note_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an OFFER that was withheld.
    pub fn note_withheld(&self) {
        self.withheld.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a commit that was handed to the store.
    pub fn note_queued(&self) {
        let mut inner = self.lock();
        inner.queued += 1;
        inner.waits_since.get_or_insert_with(Instant::now);
    }

    /// Counts commits that the store has finished, durable or failed.
    pub fn note_finished(&self, tickets: usize) {
        let mut inner = self.lock();
        inner.queued = inner.queued.saturating_sub(tickets as u64);
        inner.waits_since = (inner.queued > 0).then(Instant::now);
    }

    /// The state with all counts.
    pub fn report(&self) -> StoreReport {
        let inner = self.lock();
        StoreReport {
            trust: self.trust(),
            why: inner.why.as_ref().map(|(why, since)| (why.clone(), since.elapsed())),
            failed: self.failed.load(Ordering::Relaxed),
            withheld: self.withheld.load(Ordering::Relaxed),
            queued: inner.queued,
            waiting: inner.waits_since.map(|since| since.elapsed()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreReport {
    /// One line for `systemctl status`.
    pub fn sentence(&self) -> String {
        let why = self.why.as_ref().map_or("", |(why, _)| why.as_str());
        match self.trust {
            LeaseTrust::Sound => "serving".to_owned(),
            LeaseTrust::Broken => {
                format!("serving files; NO NEW LEASES: the lease store is broken: {why}")
            }
            LeaseTrust::Unread => {
                format!("serving files; NO DHCP: the lease store cannot be read: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn news_are_told_once_and_what_waits_is_counted() {
        let health = StoreHealth::default();
        assert_eq!(health.trust(), LeaseTrust::Sound);
        assert!(
            health.set(LeaseTrust::Broken, "disk full")
                && !health.set(LeaseTrust::Broken, "disk still full")
        );
        let report = health.report();
        assert_eq!(
            (report.trust, report.why.as_ref().unwrap().0.as_str()),
            (LeaseTrust::Broken, "disk still full")
        );
        assert!(report.sentence().contains("NO NEW LEASES"));
        assert!(health.set(LeaseTrust::Sound, ""));
        assert_eq!(health.report().why, None);
        health.note_queued();
        health.note_queued();
        health.note_finished(1);
        assert!(health.report().queued == 1 && health.report().waiting.is_some());
        health.note_finished(1);
        assert!(health.report().queued == 0 && health.report().waiting.is_none());
    }
}
