//! One lease as the store keeps it, the changes of leases, and the circuit that a client's message
//! came from.

use std::net::Ipv4Addr;

use super::classify::{hash_bytes, is_boot_firmware};
use super::limits::{FOREVER_S, OFFERS_PER_CIRCUIT_MAX, OFFERS_PER_RELAY_MAX};
use crate::model::machine::{Firmware, Mac, Machine, Uuid};
use crate::model::network::Ipv4Network;

/// Seconds of the lease clock: it began as unix time, goes on over restarts and reboots, and no
/// step of the wall clock moves it.
pub type ClockSeconds = u64;

/// Machines that booted from the network, each with the time at which it was seen last.
pub type BootTimes = Vec<(Mac, ClockSeconds)>;

/// One lease as the durable store keeps it: one row per address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address, which is the key of the row.
    pub address: Ipv4Addr,
    /// `chaddr` of the machine that holds, held or declined the address.
    pub mac: Mac,
    /// Option 61 of the system that holds the address, empty where option 61 is the hardware
    /// address alone. None while a boot stage holds it: the next system takes it over (D-38).
    pub client_id: Option<Vec<u8>>,
    /// Option 97 of the firmware, or None before any was sent.
    pub uuid: Option<Uuid>,
    /// The class of the last boot stage; an installed system does not overwrite it.
    pub firmware: Option<Firmware>,
    /// The name of the reservation, or else option 12 of the client.
    pub host_name: Option<String>,
    /// Offered, bound, released or declined.
    pub state: LeaseRowState,
    /// When the server last bound, renewed or offered it.
    pub start_s: ClockSeconds,
    /// End of the lease, of the offer, or of the quarantine.
    pub end_s: ClockSeconds,
}

impl Lease {
    /// A bound lease of a machine of which only the hardware address is known.
    pub fn new_bound(address: Ipv4Addr, mac: Mac, end_s: ClockSeconds) -> Self {
        Self {
            address,
            mac,
            client_id: None,
            uuid: None,
            firmware: None,
            host_name: None,
            state: LeaseRowState::Bound,
            start_s: 0,
            end_s,
        }
    }

    /// True for the row of a machine that boots from the network: the store remembers such a
    /// machine beyond its lease.
    pub fn is_of_booting_machine(&self) -> bool {
        self.firmware.is_some_and(is_boot_firmware)
    }

    pub(super) fn is_endless(&self) -> bool {
        self.state == LeaseRowState::Bound && self.end_s >= FOREVER_S
    }
}

impl From<&Lease> for Machine {
    fn from(lease: &Lease) -> Self {
        Self { mac: lease.mac, uuid: lease.uuid, firmware: lease.firmware }
    }
}

/// The state of a row. EXPIRED is `Bound` with an end in the past, or `Released`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRowState {
    /// An OFFER left; the store never keeps this state.
    Offered,
    /// An ACK left, or waits for the store.
    Bound,
    /// The client gave the address back; it stays remembered for the client.
    Released,
    /// Kept back until `end_s`.
    Declined,
}

/// A change that a decision makes to the lease table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Hold the address for the client.
    Offer {
        /// The offered address.
        address: Ipv4Addr,
        /// The machine that gets the offer.
        machine: Machine,
        /// The system on it, where systems are clients of their own (as in `Lease::client_id`).
        client_id: Option<Vec<u8>>,
        /// When the offer lapses.
        until_s: ClockSeconds,
        /// Where the DISCOVER came from, for the limit of unconfirmed offers.
        circuit: Circuit,
    },
    /// The lease of an ACK: durable before the ACK leaves.
    Bind(Box<Lease>),
    /// The client gave its address back.
    Release {
        /// The released address.
        address: Ipv4Addr,
        /// The machine that must hold it.
        mac: Mac,
        /// The time of the release.
        end_s: ClockSeconds,
    },
    /// Keep the address back: the client found another host on it.
    Decline {
        /// The declined address.
        address: Ipv4Addr,
        /// The machine that must hold it.
        mac: Mac,
        /// When the quarantine ends.
        until_s: ClockSeconds,
    },
    /// Count a DECLINE against the machine and its circuit.
    Struck {
        /// The declined address.
        address: Ipv4Addr,
        /// The machine that declined it.
        mac: Mac,
        /// Where the DECLINE came from.
        circuit: Circuit,
    },
    /// Drop an offer: the client chose another server, or declined the address once too often.
    Forget {
        /// The offered address.
        address: Ipv4Addr,
        /// The machine that must have the offer.
        mac: Mac,
    },
    /// Drop the row of an address, in the store first: an operator frees it, or a client declines
    /// its lease once too often.
    Free {
        /// The address that becomes free.
        address: Ipv4Addr,
    },
}

impl LeaseChange {
    /// True for changes that the store keeps.
    pub fn is_durable(&self) -> bool {
        match self {
            Self::Bind(_) | Self::Release { .. } | Self::Decline { .. } | Self::Free { .. } => true,
            Self::Offer { .. } | Self::Struck { .. } | Self::Forget { .. } => false,
        }
    }

    /// The address that the change is about.
    pub fn address(&self) -> Ipv4Addr {
        match self {
            Self::Bind(lease) => lease.address,
            Self::Offer { address, .. }
            | Self::Release { address, .. }
            | Self::Decline { address, .. }
            | Self::Struck { address, .. }
            | Self::Forget { address, .. }
            | Self::Free { address } => *address,
        }
    }
}

/// Where a client's message came from. All clients of one circuit share its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Circuit {
    pub(super) via: CircuitKind,
    pub(super) key: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum CircuitKind {
    #[default]
    Segment,
    Relay,
    Port,
}

/// The clients that a limit of declines applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclineScope {
    /// One machine, which gets no address from the pools.
    Machine(Mac),
    /// A directly connected segment: a further decline from it keeps no address back.
    Segment,
    /// All clients behind one relay agent that sends no circuit ID.
    Relay,
    /// One circuit of a relay agent (option 82, sub-option 1).
    Port,
}

impl Circuit {
    /// `id` is sub-option 1 of option 82. Without giaddr no relay agent sent it, so it does not
    /// count.
    pub(super) fn new(network: Ipv4Network, giaddr: Ipv4Addr, id: Option<&[u8]>) -> Self {
        let via = match id {
            _ if giaddr.is_unspecified() => CircuitKind::Segment,
            None => CircuitKind::Relay,
            Some(_) => CircuitKind::Port,
        };
        let id = id.filter(|_| via == CircuitKind::Port).unwrap_or_default();
        let key = hash_bytes(network.address.octets().iter().chain(&giaddr.octets()).chain(id));
        Self { via, key }
    }

    pub(super) fn as_limit(self) -> DeclineScope {
        match self.via {
            CircuitKind::Segment => DeclineScope::Segment,
            CircuitKind::Relay => DeclineScope::Relay,
            CircuitKind::Port => DeclineScope::Port,
        }
    }

    /// How many unconfirmed offers a circuit may have. None: no limit, since nothing tells the
    /// machines of a directly connected segment apart.
    pub(super) fn offers_max(self) -> Option<usize> {
        match self.via {
            CircuitKind::Segment => None,
            CircuitKind::Relay => Some(OFFERS_PER_RELAY_MAX),
            CircuitKind::Port => Some(OFFERS_PER_CIRCUIT_MAX),
        }
    }
}
