//! The clients that machines are made of: DHCP, TFTP and HTTP as one machine speaks them.

pub(super) mod exchange;
pub(super) mod fetch;
pub(super) mod http;
pub(super) mod lease;
pub(super) mod station;
pub(super) mod tftp;
pub(super) mod url;
pub(super) mod waits;
