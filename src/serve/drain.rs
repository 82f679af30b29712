//! The order to stop: one flag that every core reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long running transfers may continue after SIGTERM; then the server cuts them off.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// The flag, cloned to every core. Once it is raised, cores accept nothing new and finish running
/// transfers. Sleeping cores are woken by their bells.
#[derive(Clone, Debug, Default)]
pub struct DrainOrder(Arc<AtomicBool>);

impl DrainOrder {
    /// Raises the flag. Ring the bells of all cores afterwards.
    pub fn order(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the flag is raised.
    pub fn is_ordered(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
