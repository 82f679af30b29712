//! DHCPv4 as a pure function: a packet in, a decision with its reasons out. Knows no socket, clock
//! or thread.
//!
//! The path of a DISCOVER: `packet` (guard) > `classify` > `select` > `decide` > `server` > `lease`
//! > `boot::loader_choice` > `options` > `reply` > `route`.

mod answer;
pub mod arrival;
pub mod classify;
mod context;
pub mod decide;
pub mod decision;
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
pub mod reasons;
pub mod reply;
pub mod route;
#[cfg(test)]
mod rules;
mod select;
mod server;
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
