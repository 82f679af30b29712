//! Drives the pure rooms with the engine: one core for DHCP, boot cores for TFTP and HTTP, and what starts and stops them.

pub mod dhcp_core;
mod drain;
pub mod http_core;
pub mod neighbours;
pub mod overview;
mod placement;
pub mod pulse;
mod quirks;
pub mod shelf;
mod spin;
mod stage;
pub mod supervisor;
pub mod tftp_core;
