//! How long a turn of a driver may wait.

use std::time::Duration;

/// How long a turn may wait for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnWait {
    /// Not at all: submit, and collect the events that are there.
    No,
    /// Sleep for at most this long.
    AtMost(Duration),
    /// Sleep until an event comes.
    Forever,
    /// Check for events for the time `poll`, yield to other threads of the processor in between,
    /// and then sleep.
    Poll {
        /// How long to poll before the sleep.
        poll: Duration,
        /// How long the sleep may take; None: until an event comes.
        then: Option<Duration>,
    },
}
