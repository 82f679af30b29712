//! The order to stop: one flag that every core looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long running transfers may go on after SIGTERM; what is left then is cut off.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Cloned to every core: once raised, nothing new is accepted and what runs is finished. Cores that
/// sleep are woken by their bells.
#[derive(Clone, Debug, Default)]
pub struct DrainOrder(Arc<AtomicBool>);

impl DrainOrder {
    pub fn order(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_ordered(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
