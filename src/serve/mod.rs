//! Drives the pure rooms with the engine: one core for DHCP, boot cores for TFTP and HTTP, and what
//! starts and stops them.

pub mod binding;
pub mod core;
pub mod descriptors;
pub mod dhcp;
pub mod drain;
pub mod failure;
pub mod flights;
pub mod handle;
pub mod health;
pub mod http;
pub mod overview;
pub(crate) mod placement;
pub mod pulse;
mod quirks;
pub mod shelf;
mod spin;
mod stage;
pub mod storm;
pub mod tftp;
