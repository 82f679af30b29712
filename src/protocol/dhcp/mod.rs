//! DHCPv4 as a pure function: packet in, decision with reasons out. Knows no socket, clock or
//! thread.
//!
//! The way of a DISCOVER: `packet` (guard) > `classify` > `decide` > `lease` > `boot::plan` >
//! `options` > `reply` > `route`.

pub mod arrival;
pub mod classify;
pub mod decide;
pub mod frame;
pub mod layout;
pub mod lease;
mod lease_record;
pub mod limits;
pub mod listing;
mod options;
pub mod other_servers;
pub mod packet;
pub mod policy;
mod pool;
pub mod pool_use;
pub mod probes;
mod pxe;
pub mod reply;
pub mod route;
#[cfg(test)]
mod rules;
mod select;
pub mod silence;
pub mod solicitation;
mod strikes;
pub mod subnet;
pub mod subnets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod times;
