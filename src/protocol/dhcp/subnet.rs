//! One subnet as configured: its clients, its pools and its options.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

use super::limits::{DEFAULT_LEASE_S, FIRMWARE_LEASE_S, MAX_LEASE_S};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// The lowest address.
    pub first: Ipv4Addr,
    /// The highest address, at least `first`.
    pub last: Ipv4Addr,
}

impl AddressPool {
    /// The number of addresses.
    pub fn size(&self) -> u64 {
        u64::from(u32::from(self.last).saturating_sub(u32::from(self.first))) + 1
    }
}

/// Whether the server answers DHCP on a subnet (`mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweringMode {
    /// It gives addresses and boot files.
    Server,
    /// It stays silent.
    Off,
}

/// The clients that a subnet serves (`clients`). Others get no reply (D-52).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAdmission {
    /// Machines that boot, or ever booted, from the network, and machines with a reservation.
    #[default]
    Pxe,
    /// Machines with a reservation.
    Known,
    /// All machines.
    Any,
}

/// `[[dhcp.subnet.host]]`: a fixed address for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Hardware address of the machine.
    pub mac: Mac,
    /// The address that only this machine gets.
    pub address: Ipv4Addr,
    /// Host name for option 12; None sends none.
    pub hostname: Option<String>,
}

/// Reservations in the order of the file, indexed by machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationTable {
    all: Vec<Reservation>,
    by_mac: HashMap<Mac, usize>,
}

impl From<Vec<Reservation>> for ReservationTable {
    fn from(all: Vec<Reservation>) -> Self {
        // The configuration refuses two reservations for one machine; here the first would count.
        let by_mac =
            all.iter().enumerate().rev().map(|(at, reservation)| (reservation.mac, at)).collect();
        Self { all, by_mac }
    }
}

impl std::ops::Deref for ReservationTable {
    type Target = [Reservation];

    fn deref(&self) -> &[Reservation] {
        &self.all
    }
}

impl<'a> IntoIterator for &'a ReservationTable {
    type Item = &'a Reservation;
    type IntoIter = std::slice::Iter<'a, Reservation>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

/// Why the server does not answer on a subnet whose mode is `server`. The texts are for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldReason {
    /// No interface has an address in the subnet.
    #[error("its interface is not there, or has no address in it")]
    NoInterface,
    /// The first look for other servers is not over.
    #[error("looking for other DHCP servers")]
    Looking,
    /// Another DHCP server answers on the segment.
    #[error("{0} answered there")]
    OtherServer(OtherServer),
}

/// A DHCP server that is not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherServer {
    /// The sender of the frame: the server, or a relay agent between.
    pub mac: Mac,
    /// Option 54, or else the source address.
    pub address: Ipv4Addr,
}

impl fmt::Display for OtherServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the DHCP server {} ({})", self.address, self.mac)
    }
}

/// `[[dhcp.subnet]]`, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Network address and prefix length.
    pub network: Ipv4Network,
    /// Name of the interface on this subnet; None where only relay agents reach it.
    pub interface: Option<String>,
    /// Requests may come through relay agents (giaddr).
    pub relay: bool,
    /// Name that subnets on one link behind relay agents share.
    pub shared_network: Option<String>,
    /// Whether the server answers here.
    pub mode: AnsweringMode,
    /// Which clients the server answers.
    pub clients: ClientAdmission,
    /// Answer although another DHCP server answers on this segment.
    pub allow_other_servers: bool,
    /// Probe an address before it is offered to a machine that never had it (D-36).
    pub conflict_detection: bool,
    /// Ranges of addresses for clients without a reservation.
    pub pools: Vec<AddressPool>,
    /// Fixed addresses.
    pub reservations: ReservationTable,
    /// Option 3.
    pub routers: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain_name: Option<String>,
    /// Option 6.
    pub domain_name_servers: Vec<Ipv4Addr>,
    /// Option 42.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Seconds; lease of a system that sends no option 51.
    pub default_lease_time_s: u32,
    /// Seconds; the same for firmware and boot loaders, which need the address for minutes.
    pub firmware_lease_time_s: u32,
    /// Seconds; the longest lease that option 51 can ask for.
    pub max_lease_time_s: u32,
    /// D-24: answer INIT-REBOOT of unknown clients with NAK.
    pub authoritative: bool,
    /// The address in siaddr, options 66 and 150, and URLs; None = `advertise`, or else the address
    /// of the receiving interface.
    pub next_server: Option<Ipv4Addr>,
    /// True allows an unattended entry as the default of the menu on this subnet.
    pub install_by_default: bool,
    /// Option 209: the configuration file of PXELINUX.
    pub pxelinux_config: Option<String>,
    /// Option 210: the path prefix of PXELINUX.
    pub pxelinux_prefix: Option<String>,
}

impl Subnet {
    /// A subnet with the defaults of docs/configuration.md. `mode` has no default there: this
    /// subnet is off.
    pub fn new(network: Ipv4Network) -> Self {
        Self {
            network,
            interface: None,
            relay: false,
            shared_network: None,
            mode: AnsweringMode::Off,
            clients: ClientAdmission::default(),
            allow_other_servers: false,
            conflict_detection: true,
            pools: Vec::new(),
            reservations: ReservationTable::default(),
            routers: Vec::new(),
            domain_name: None,
            domain_name_servers: Vec::new(),
            ntp_servers: Vec::new(),
            default_lease_time_s: DEFAULT_LEASE_S,
            firmware_lease_time_s: FIRMWARE_LEASE_S,
            max_lease_time_s: MAX_LEASE_S,
            authoritative: false,
            next_server: None,
            install_by_default: false,
            pxelinux_config: None,
            pxelinux_prefix: None,
        }
    }

    /// The reservation of a machine.
    pub fn reserved_for(&self, mac: Mac) -> Option<&Reservation> {
        self.reservations.get(*self.reservations.by_mac.get(&mac)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_ends_of_a_pool_are_in_it() {
        for (first, last, size) in [
            ("10.0.0.1", "10.0.0.1", 1),
            ("10.0.0.1", "10.0.1.0", 256),
            ("0.0.0.0", "255.255.255.255", 1 << 32),
        ] {
            assert_eq!(
                AddressPool { first: first.parse().unwrap(), last: last.parse().unwrap() }.size(),
                size
            );
        }
    }
}
