//! The rooms of ringboot, in reading order: from what the operator wrote to what leaves the machine.
//!
//! Pure rooms (`model`, `tftp`, `dhcp`, `http`, `boot`) know no socket, file, clock or thread. `tests/tidy.rs` holds who may import whom.

pub mod cli;

pub mod config;
pub mod snapshot;

pub mod model;

pub mod boot;
pub mod dhcp;
pub mod http;
pub mod tftp;

#[allow(unsafe_code)]
pub mod images;

#[allow(unsafe_code)]
pub mod engine;
pub mod guard;
pub mod serve;

pub mod control;
pub mod observe;
pub mod store;
pub mod template;

pub mod fleet;
