//! What a machine remembers of the address that it was given.

use std::net::Ipv4Addr;

use crate::net::dhcp::Answer;
use crate::net::segment::Port;
use ringboot_protocol::model::machine::Mac;

/// An address as a machine has it from its last ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Number of the machine in its fleet.
    pub machine: u32,
    pub mac: Mac,
    pub address: Ipv4Addr,
    /// Option 51, seconds.
    pub lease_s: u32,
}

impl Lease {
    pub(crate) fn of(port: Port, answer: &Answer) -> Self {
        let lease_s = answer.lease_s.unwrap_or(0);
        Self { machine: port.circuit, mac: port.mac, address: answer.address, lease_s }
    }
}
