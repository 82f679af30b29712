//! One subnet as configured: who is served, from which pools, with which options.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

use super::limits::{DEFAULT_LEASE_S, FIRMWARE_LEASE_S, MAX_LEASE_S};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl AddressPool {
    /// How many addresses it has.
    pub fn size(&self) -> u64 {
        u64::from(u32::from(self.last).saturating_sub(u32::from(self.first))) + 1
    }
}

/// Whether and how ringboot speaks DHCP on a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnsweringMode {
    /// Addresses and boot information.
    Server,
    /// Says nothing.
    Off,
}

/// Who is served on a subnet; everybody else is met with silence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAdmission {
    /// Machines that boot from the network, now or once, and those with a reservation.
    #[default]
    Pxe,
    /// Machines with a reservation.
    Known,
    Any,
}

/// A fixed address (and name) for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub hostname: Option<String>,
}

/// Reservations in the order of the file, found by machine however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationTable {
    all: Vec<Reservation>,
    by_mac: HashMap<Mac, usize>,
}

impl From<Vec<Reservation>> for ReservationTable {
    fn from(all: Vec<Reservation>) -> Self {
        // Of two for one machine, which no configuration has, the first counts.
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

/// Why nothing is answered on a subnet now, though its mode is `server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldReason {
    #[error("its interface is not there, or has no address in it")]
    NoInterface,
    #[error("looking for other DHCP servers")]
    Looking,
    #[error("{0} answered there")]
    OtherServer(OtherServer),
}

/// A DHCP server that is not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherServer {
    /// The sender of the frame: the server, or the relay agent before it.
    pub mac: Mac,
    /// Option 54, else the source address.
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
    pub network: Ipv4Network,
    /// Served on this interface; None only when reached by relays.
    pub interface: Option<String>,
    /// Requests may come through relay agents (giaddr).
    pub relay: bool,
    /// Subnets behind relay agents that have one link in common.
    pub shared_network: Option<String>,
    pub mode: AnsweringMode,
    pub clients: ClientAdmission,
    /// Serve although another DHCP server answers on this segment.
    pub allow_other_servers: bool,
    /// Ask whether an address is in use before it is offered to a machine of which nothing is known
    /// there (D-36).
    pub conflict_detection: bool,
    pub pools: Vec<AddressPool>,
    pub reservations: ReservationTable,
    pub routers: Vec<Ipv4Addr>,
    pub domain_name: Option<String>,
    pub domain_name_servers: Vec<Ipv4Addr>,
    pub ntp_servers: Vec<Ipv4Addr>,
    /// For systems: what a client gets that asks for no time.
    pub default_lease_time_s: u32,
    /// The same for firmware and boot loaders, which are done with the address within minutes.
    pub firmware_lease_time_s: u32,
    pub max_lease_time_s: u32,
    /// D-24: answer INIT-REBOOT of unknown clients with NAK.
    pub authoritative: bool,
    /// The address in siaddr, 66 and URLs; None = the address on the receiving interface.
    pub next_server: Option<Ipv4Addr>,
    /// An unattended entry may be the menu's default on this subnet.
    pub install_by_default: bool,
    /// Option 209 and 210 for PXELINUX, where configured.
    pub pxelinux_config: Option<String>,
    pub pxelinux_prefix: Option<String>,
}

impl Subnet {
    /// A subnet of which the configuration says nothing but its network, with the defaults of
    /// docs/configuration.md. It is silent: `mode` has no default there.
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
