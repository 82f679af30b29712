//! TFTP as pure state machines: packets, options, one transfer, the table of a core's transfers, a
//! client.
//!
//! The room sees lengths and ranges of a file, never its bytes, and knows no socket, file, clock or
//! thread. Time is an argument of type [`Tick`], chance a seed. The `T-n` in comments and test
//! names are the rules of the wire in `docs/rules.md`.

mod backlog;
mod id;
mod keyed;
pub mod limits;

pub mod packet;

pub mod options;

pub mod netascii;

pub mod transfer;

pub mod table;

pub mod client;

mod local;
mod outcome;
mod sources;
pub mod timers;

/// Nanoseconds on a monotonic clock of the caller's choice.
pub type Tick = u64;

/// A moment that never comes: no timer is set.
pub const NEVER: Tick = Tick::MAX;
