//! The HTTP core on the wire: each rule of HTTP, read from raw bytes on loopback.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod changes;
mod client;
mod conditions;
mod heads;
mod hostile;
mod limits;
mod server;
mod targets;
