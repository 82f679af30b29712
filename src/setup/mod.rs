//! The composition root: a configuration becomes threads and sockets here, and here they are
//! watched and ended.

pub mod control;
mod dhcp;
mod history;
pub mod plan;
pub mod supervisor;
