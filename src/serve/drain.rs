//! The order to stop: one flag that every core looks at, and what wakes those who wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How long running transfers may go on after SIGTERM; what is left then is cut off.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Cloned to every core: once raised, nothing new is accepted and what runs is finished.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ordered: AtomicBool,
    waiting: Notify,
}

impl Drain {
    pub fn order(&self) {
        self.0.ordered.store(true, Ordering::Release);
        self.0.waiting.notify_waiters();
    }

    pub fn is_ordered(&self) -> bool {
        self.0.ordered.load(Ordering::Acquire)
    }

    /// Ends when the order has been given.
    pub async fn ordered(&self) {
        loop {
            // Made before the flag is looked at: an order in between wakes it all the same.
            let notified = self.0.waiting.notified();
            if self.is_ordered() {
                return;
            }
            notified.await;
        }
    }
}
