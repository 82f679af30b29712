//! Learns firmware quirks from events, stores their limits and publishes them to the cores.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::boot::quirks::{FirmwareQuirk, QuirkAllowance, QuirkChange, QuirkLearner, QuirkSubject};
use crate::observe::events::{EventKind, MachineEvent};
use crate::snapshot::PublishedState;
use crate::store::{FollowingStore, SqliteStore, StoreError};

/// The firmware limits of a running server. The journal thread and operators change them; cores
/// read the published copy.
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
        f.write_str("QuirkKeeper")
    }
}

impl QuirkKeeper {
    /// Loads the limits of the store and publishes them. `store` is a connection of its own, so
    /// that nothing here waits behind leases.
    pub fn open(mut store: FollowingStore, published: Arc<PublishedState>) -> Self {
        let kept = store.store().and_then(|(store, _)| store.quirks());
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!("the learnt firmware limits cannot be read: {error}");
            Vec::new()
        });
        let learner = QuirkLearner::load(kept);
        published.limit(learner.active_limits());
        Self { inner: Mutex::new(QuirkState { learner, store }), published }
    }

    /// Learns from an event. A limit that the store cannot write counts until the next start.
    pub fn learn_event(&self, event: &MachineEvent) {
        let Some(mac) = event.mac else { return };
        let changed = self.change(|learner, now_s| {
            let mut changes = learner.age(now_s);
            changes.extend(match (&event.attempt, &event.kind) {
                (Some(attempt), _) => learner.learn(mac, attempt, now_s),
                (None, EventKind::TooSlow) => learner.learn_http_stall(mac, None, now_s),
                // An event of TFTP has an attempt, so this one is HTTP.
                (None, EventKind::Sent { bytes, .. }) => {
                    learner.note_http_success(mac, *bytes, now_s)
                }
                _ => Vec::new(),
            });
            changes
        });
        if let Err(error) = changed {
            tracing::warn!("the limit learnt of {mac} could not be stored: {error}");
        }
    }

    /// Every limit, learnt or pinned.
    pub fn list(&self) -> Vec<FirmwareQuirk> {
        self.lock().learner.quirks().cloned().collect()
    }

    /// Pins a limit for an operator. After an error of the store it counts until the next start.
    pub fn pin(&self, subject: QuirkSubject, allowance: QuirkAllowance) -> Result<(), StoreError> {
        self.change(|learner, now_s| learner.pin(subject, allowance, now_s)).map(drop)
    }

    /// Forgets a limit. False: there was none.
    pub fn forget(&self, subject: QuirkSubject) -> Result<bool, StoreError> {
        self.change(|learner, _| learner.forget(subject))
    }

    /// Applies a change, publishes it and stores it. False: nothing changed.
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
            // A database that is new, or could not be opened before, gets all limits.
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
            tracing::info!(
                "{}: {} is an old limit; the next transfer tries without it",
                quirk.subject,
                quirk.allowance
            );
        }
        QuirkChange::Put(quirk) if quirk.works_s.is_some() => {
            tracing::info!("{}: it works with {}", quirk.subject, quirk.allowance);
        }
        // Only a new limit is a warning: a person may correct its cause, such as a cable, and then
        // forget it.
        QuirkChange::Put(quirk) => tracing::warn!(
            "{}: {} from now on, because {}; `ringboot quirk` lists, pins and forgets",
            quirk.subject,
            quirk.allowance,
            quirk.why
        ),
        QuirkChange::Gone(subject) => tracing::info!("{subject}: no limit any more"),
    }
}

/// The wall clock in Unix seconds; 0 before 1970.
pub fn read_unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Applies a change to the store of a stopped server. False: nothing changed.
pub fn change_stored_quirks(
    mut store: SqliteStore,
    change: impl FnOnce(&mut QuirkLearner, u64) -> Vec<QuirkChange>,
) -> Result<bool, StoreError> {
    let changes = change(&mut QuirkLearner::load(store.quirks()?), read_unix_seconds());
    store.keep_quirks(&changes)?;
    Ok(!changes.is_empty())
}
