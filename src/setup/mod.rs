//! The composition root: it turns a configuration into threads and sockets, watches them and ends
//! them.

pub mod control;
mod dhcp;
mod history;
pub mod plan;
pub mod supervisor;
