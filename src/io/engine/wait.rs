//! How long a turn of a driver may wait.

use std::time::Duration;

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: submit, collect what is there.
    No,
    AtMost(Duration),
    Forever,
    /// Looks again and again for `poll`, gives way to other threads of the processor in between,
    /// and sleeps only then.
    Poll {
        poll: Duration,
        /// How long the sleep may take; None = until something happens.
        then: Option<Duration>,
    },
}
