//! DHCPv4 as a pure function: packet in, decision with reasons out. Knows no socket, clock or thread.

pub mod subnet;
