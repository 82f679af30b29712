//! DHCPv4 as a pure function: packet in, decision with reasons out. Knows no socket, clock or thread.
//!
//! The way of a DISCOVER: `packet` (guard) > `classify` > `decide` > `lease` > `boot::plan` > `options` > `reply` > `route`.

pub mod classify;
pub mod decide;
pub mod frame;
pub mod lease;
pub mod limits;
pub mod neighbours;
mod options;
pub mod packet;
mod pool;
mod pxe;
pub mod reply;
pub mod route;
#[cfg(test)]
mod rules;
mod select;
pub mod solicitation;
pub mod subnet;
#[cfg(test)]
mod testing;
mod times;
