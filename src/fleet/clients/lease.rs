//! The lease that a machine remembers.

use std::net::Ipv4Addr;

use crate::net::dhcp::DhcpAnswer;
use crate::net::segment::MachinePort;
use ringboot_protocol::model::machine::Mac;

/// A lease from the machine's last ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineLease {
    /// Number of the machine in its fleet.
    pub machine: u32,
    /// Hardware address (chaddr) of the machine.
    pub mac: Mac,
    /// The leased address (yiaddr of the ACK).
    pub address: Ipv4Addr,
    /// Option 51, seconds.
    pub lease_s: u32,
}

impl MachineLease {
    pub(crate) fn from_answer(port: MachinePort, answer: &DhcpAnswer) -> Self {
        let lease_s = answer.lease_s.unwrap_or(0);
        Self { machine: port.circuit, mac: port.mac, address: answer.address, lease_s }
    }
}
