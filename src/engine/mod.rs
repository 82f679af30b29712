//! The only room that knows io_uring.
pub mod orphan;
