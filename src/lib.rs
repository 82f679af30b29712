//! The rooms of ringboot, from the command line down to the words that all share.
//!
//! Pure rooms (`model`, `tftp`, `dhcp`, `http`, `boot`) know no socket, file, clock or thread.
//! `tests/tidy.rs` holds who may import whom.

pub mod cli;
pub mod setup;

pub mod api;
pub mod control;
pub mod serve;

pub mod config;
pub mod fleet;
pub mod guard;
pub mod store;
pub mod template;

#[allow(unsafe_code)]
pub mod engine;
#[allow(unsafe_code)]
pub mod images;
pub mod observe;
pub mod snapshot;

pub mod boot;
pub mod dhcp;
pub mod http;
pub mod tftp;

pub mod model;
