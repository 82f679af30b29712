//! The clients of a machine: DHCP, TFTP and HTTP.

pub(super) mod exchange;
pub(super) mod fetch;
pub(super) mod http;
pub(super) mod lease;
pub(super) mod station;
pub(super) mod tftp;
pub(super) mod url;
pub(super) mod waits;
