//! How the lease store is: written by its thread, read by the DHCP core and by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the DHCP core does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseTrust {
    /// Everything.
    #[default]
    Sound,
    /// No offer, because no lease could follow. Requests are tried, in case the disk is back.
    Broken,
    /// Nothing at all: what an earlier run has promised is not known.
    Unread,
}

/// Begins sound.
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

/// The same for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    pub trust: LeaseTrust,
    /// Why it is not sound, and for how long.
    pub why: Option<(String, Duration)>,
    /// Commits that failed since the start.
    pub failed: u64,
    /// Offers that were not made, because no lease could have followed.
    pub withheld: u64,
    pub queued: u64,
    /// For how long work has waited while none was finished.
    pub waiting: Option<Duration>,
}

impl StoreHealth {
    pub fn trust(&self) -> LeaseTrust {
        match self.trust.load(Ordering::Acquire) {
            0 => LeaseTrust::Sound,
            1 => LeaseTrust::Broken,
            _ => LeaseTrust::Unread,
        }
    }

    /// True where this is news.
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

    pub fn note_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub fn note_withheld(&self) {
        self.withheld.fetch_add(1, Ordering::Relaxed);
    }

    pub fn note_queued(&self) {
        let mut inner = self.lock();
        inner.queued += 1;
        inner.waits_since.get_or_insert_with(Instant::now);
    }

    pub fn note_finished(&self, tickets: usize) {
        let mut inner = self.lock();
        inner.queued = inner.queued.saturating_sub(tickets as u64);
        inner.waits_since = (inner.queued > 0).then(Instant::now);
    }

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
