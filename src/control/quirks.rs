//! What is learnt of firmware: events go in, limits are kept in the store and published to the
//! cores.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::boot::quirks::{FirmwareQuirk, QuirkAllowance, QuirkChange, QuirkLearner, QuirkSubject};
use crate::observe::events::{EventKind, MachineEvent};
use crate::snapshot::PublishedState;
use crate::store::{FollowingStore, SqliteStore, StoreError};

/// The limits of a running server. Written by the log thread and by operators, read by whoever
/// asks; cores read what is published.
pub struct QuirkKeeper {
    inner: Mutex<QuirkState>,
    published: Arc<PublishedState>,
}

struct QuirkState {
    learner: QuirkLearner,
    store: FollowingStore,
}

impl fmt::Debug for QuirkKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quirks")
    }
}

impl QuirkKeeper {
    /// With what the store has, which is published at once. The connection is for this alone:
    /// nothing here waits behind leases.
    pub fn open(mut store: FollowingStore, published: Arc<PublishedState>) -> Self {
        let kept = store.store().and_then(|(store, _)| store.quirks());
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!("what was learnt of firmware is not known: {error}");
            Vec::new()
        });
        let learner = QuirkLearner::load(kept);
        published.limit(learner.active_limits());
        Self { inner: Mutex::new(QuirkState { learner, store }), published }
    }

    /// Something happened to a machine. What the store does not take is learnt all the same, until
    /// the next start.
    pub fn heard(&self, event: &MachineEvent) {
        let Some(mac) = event.mac else { return };
        let changed = self.change(|learner, now_s| {
            let mut changes = learner.age(now_s);
            changes.extend(match (&event.attempt, &event.kind) {
                (Some(attempt), _) => learner.learn(mac, attempt, now_s),
                (None, EventKind::TooSlow) => learner.learn_http_stall(mac, None, now_s),
                // TFTP has an attempt with it.
                (None, EventKind::Sent { bytes, .. }) => {
                    learner.note_http_success(mac, *bytes, now_s)
                }
                _ => Vec::new(),
            });
            changes
        });
        if let Err(error) = changed {
            tracing::warn!("what was learnt of {mac} could not be kept: {error}");
        }
    }

    pub fn list(&self) -> Vec<FirmwareQuirk> {
        self.lock().learner.quirks().cloned().collect()
    }

    /// By an operator's hand. An error: it holds until the next start only.
    pub fn pin(&self, subject: QuirkSubject, allowance: QuirkAllowance) -> Result<(), StoreError> {
        self.change(|learner, now_s| learner.pin(subject, allowance, now_s)).map(drop)
    }

    /// True where there was a limit.
    pub fn forget(&self, subject: QuirkSubject) -> Result<bool, StoreError> {
        self.change(|learner, _| learner.forget(subject))
    }

    /// True where something has changed.
    fn change(
        &self,
        change: impl FnOnce(&mut QuirkLearner, u64) -> Vec<QuirkChange>,
    ) -> Result<bool, StoreError> {
        let mut inner = self.lock();
        let changes = change(&mut inner.learner, read_unix_seconds());
        if changes.is_empty() {
            return Ok(false);
        }
        self.published.limit(inner.learner.active_limits());
        changes.iter().for_each(log_quirk_change);
        let QuirkState { learner, store } = &mut *inner;
        match store.store()? {
            // A database that was written anew, or could not be opened before: it gets all.
            (store, true) => store.keep_quirks(
                &learner.quirks().cloned().map(QuirkChange::Put).collect::<Vec<_>>(),
            )?,
            (store, false) => store.keep_quirks(&changes)?,
        }
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, QuirkState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_quirk_change(change: &QuirkChange) {
    match change {
        QuirkChange::Put(quirk) if quirk.on_trial => {
            tracing::info!("{}: {} was long ago; tried without", quirk.subject, quirk.allowance);
        }
        QuirkChange::Put(quirk) if quirk.works_s.is_some() => {
            tracing::info!("{}: it works with {}", quirk.subject, quirk.allowance);
        }
        QuirkChange::Put(quirk) => tracing::warn!(
            "{}: {} from now on, because {}; `ringboot quirk` lists, pins and forgets",
            quirk.subject,
            quirk.allowance,
            quirk.why
        ),
        QuirkChange::Gone(subject) => tracing::info!("{subject}: no limit any more"),
    }
}

/// Unix seconds.
pub fn read_unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Pins or forgets in the store that a stopped server left. True where something has changed.
pub fn change_stored_quirks(
    mut store: SqliteStore,
    change: impl FnOnce(&mut QuirkLearner, u64) -> Vec<QuirkChange>,
) -> Result<bool, StoreError> {
    let changes = change(&mut QuirkLearner::load(store.quirks()?), read_unix_seconds());
    store.keep_quirks(&changes)?;
    Ok(!changes.is_empty())
}
