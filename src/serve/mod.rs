//! Drives the pure rooms with the engine: one core for DHCP, boot cores for TFTP and HTTP, and what starts and stops them.

pub mod descriptors;
pub mod dhcp_core;
mod dhcp_events;
mod dhcp_waiting;
mod dhcp_ways;
mod drain;
pub mod flights;
pub mod health;
pub mod http_core;
mod link_news;
pub mod neighbours;
pub mod overview;
pub(crate) mod placement;
pub mod pulse;
mod quirks;
pub mod shelf;
mod spin;
mod stage;
pub mod supervisor;
pub mod tftp_core;
