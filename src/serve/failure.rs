//! Why the server did not start, or why it ended, in sentences for the operator.

use std::io;

use super::core::CoreError;
use crate::engine::ring::NoRing;

/// Why the server did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerFailure {
    /// The configuration requires io_uring, and the kernel gives none.
    #[error(transparent)]
    Ring(#[from] NoRing),
    /// A listening socket could not be bound.
    #[error("cannot bind {what} to {address}: {reason}")]
    Bind {
        /// The protocol, or the kind of socket.
        what: &'static str,
        /// The address and port.
        address: String,
        /// The reason, and what the operator can do.
        reason: String,
    },
    /// A system call at the start failed.
    #[error("{what}: {error}")]
    System {
        /// What the server was doing, as a gerund.
        what: &'static str,
        /// What the kernel answered.
        error: io::Error,
    },
    /// The process could not drop root.
    #[error(
        "becoming the user {user}: {error}. Where a container forbids it, start ringboot as that \
         user, or write [server] user = \"root\""
    )]
    User {
        /// The unprivileged user.
        user: String,
        /// What the kernel answered.
        error: io::Error,
    },
    /// Root could have had io_uring, the unprivileged user cannot.
    #[error("the user {user} gets no io_uring: {error}")]
    UserRing {
        /// The unprivileged user.
        user: String,
        /// What the kernel answered.
        error: NoRing,
    },
    /// A thread ended while the server ran: its name, and why.
    #[error("the thread {0} has ended without an order: {1}")]
    ThreadEnded(String, String),
    /// The time to drain is over; the threads that still ran.
    #[error("cut off, because the time for the last transfers was over: {0}")]
    CutOff(String),
}

/// The failure for a thread that has ended while the server ran.
pub fn ended(thread: String, result: Result<(), CoreError>) -> ServerFailure {
    let why = result.err().map_or_else(|| "without an error".to_owned(), |why| why.to_string());
    ServerFailure::ThreadEnded(thread, why)
}

/// Turns an I/O error into [`ServerFailure::System`], for `map_err`.
pub fn system(what: &'static str) -> impl Fn(io::Error) -> ServerFailure {
    move |error| ServerFailure::System { what, error }
}
