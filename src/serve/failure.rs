//! Why nothing was started, or why it ended, in words for the operator.

use std::io;

use super::core::CoreError;
use crate::engine::ring::NoRing;

/// Why the server did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerFailure {
    #[error(transparent)]
    Ring(#[from] NoRing),
    #[error("cannot bind {what} to {address}: {reason}")]
    Bind { what: &'static str, address: String, reason: String },
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
    #[error(
        "becoming the user {user}: {error}. Where a container forbids it, start ringboot as that \
         user, or write [server] user = \"root\""
    )]
    User { user: String, error: io::Error },
    #[error("the user {user} gets no io_uring: {error}")]
    UserRing { user: String, error: NoRing },
    #[error("the thread {0} has ended without an order: {1}")]
    ThreadEnded(String, String),
    #[error("cut off, because the time for the last transfers was over: {0}")]
    CutOff(String),
}

pub fn ended(thread: String, result: Result<(), CoreError>) -> ServerFailure {
    let why = result.err().map_or_else(|| "without an error".to_owned(), |why| why.to_string());
    ServerFailure::ThreadEnded(thread, why)
}

pub fn system(what: &'static str) -> impl Fn(io::Error) -> ServerFailure {
    move |error| ServerFailure::System { what, error }
}
