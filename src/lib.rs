//! The rooms of ringboot, from the command line down to the words that all share.
//!
//! The rooms below `config` stand in crates of their own, so that Cargo holds what they may use:
//! `ringboot-protocol` decides and knows no socket, file, clock or thread; `ringboot-observe` is
//! what operators see; `ringboot-io` has the rings and the mapped images, and all `unsafe` code;
//! `ringboot-fleet` simulates machines. This crate names their rooms as its own, so that
//! `crate::dhcp` means the same everywhere. `tests/tidy.rs` holds which room may import which.
//!
//! ```
//! use ringboot::config::Config;
//!
//! let complaint = Config::parse("ringboot.toml", "rot = \"/srv/tftp\"").unwrap_err();
//! assert!(complaint.to_string().starts_with("ringboot.toml:1:1: "));
//! ```
#![forbid(unsafe_code)]

pub mod cli;
pub mod setup;

pub mod api;
pub mod control;
pub mod serve;

pub mod config;
pub mod guard;
pub mod render;
pub mod snapshot;
pub mod store;

pub use ringboot_fleet as fleet;
pub use ringboot_io::{engine, images};
pub use ringboot_observe as observe;
pub use ringboot_protocol::{boot, dhcp, http, model, template, tftp};
