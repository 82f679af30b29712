//! One lease as it is kept, what changes it, and the circuit that its machine asked from.

use std::net::Ipv4Addr;

use super::classify::{hash_bytes, is_boot_firmware};
use super::limits::{FOREVER_S, OFFERS_PER_CIRCUIT_MAX, OFFERS_PER_RELAY_MAX};
use crate::model::machine::{Firmware, Mac, Machine, Uuid};
use crate::model::network::Ipv4Network;

/// Seconds of a clock that nobody sets, that goes on from run to run and began as unix time.
pub type ClockSeconds = u64;

/// Machines that booted from the network, each with the last time.
pub type BootTimes = Vec<(Mac, ClockSeconds)>;

/// One lease as the durable store keeps it: one row per address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub mac: Mac,
    /// Option 61 of the system that holds it, empty where that says no more than the hardware
    /// address. None while a boot stage has it: whichever system comes next goes on with it (D-38).
    pub client_id: Option<Vec<u8>>,
    pub uuid: Option<Uuid>,
    /// The class of the last boot stage; an installed system does not overwrite it.
    pub firmware: Option<Firmware>,
    pub host_name: Option<String>,
    pub state: LeaseRowState,
    pub start_s: ClockSeconds,
    /// End of the lease, of the offer, or of the quarantine.
    pub end_s: ClockSeconds,
}

impl Lease {
    /// A lease that is bound, of a machine of which nothing but its hardware address is known.
    pub fn of_address(address: Ipv4Addr, mac: Mac, end_s: ClockSeconds) -> Self {
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

    /// True where the row is of a machine that boots from the network: the store remembers the
    /// machine for longer.
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

/// What a row says of its address. EXPIRED is `Bound` whose end is past, or `Released`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRowState {
    /// Never durable.
    Offered,
    Bound,
    Released,
    Declined,
}

/// What a decision does to the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// Hold the address for the machine until then, and for this system of it where several are
    /// told apart.
    Offer {
        address: Ipv4Addr,
        machine: Machine,
        client_id: Option<Vec<u8>>,
        until_s: ClockSeconds,
        circuit: Circuit,
    },
    /// The lease of an ACK: durable before the ACK leaves.
    Bind(Box<Lease>),
    Release {
        address: Ipv4Addr,
        mac: Mac,
        end_s: ClockSeconds,
    },
    Decline {
        address: Ipv4Addr,
        mac: Mac,
        until_s: ClockSeconds,
    },
    /// A DECLINE is counted against the machine and where it came from.
    Struck {
        address: Ipv4Addr,
        mac: Mac,
        circuit: Circuit,
    },
    /// The client took another server's offer, or the offer counts no more.
    Forget {
        address: Ipv4Addr,
        mac: Mac,
    },
    /// Whatever is known of the address is dropped, durably first: the decline of a lease that
    /// counts no more.
    Free {
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

/// Where a client's message came from, for limits that are shared by all who come from there.
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

/// Who gets less than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeclineScope {
    /// It declined so many addresses that it gets none from the pools.
    Machine(Mac),
    /// From a segment of ours, from behind a relay agent, or from one of its circuits so many
    /// addresses were declined that no further one is kept back.
    Segment,
    Relay,
    Port,
}

impl Circuit {
    /// `id` is sub-option 1 of option 82, which only a relay agent's word stands for.
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

    /// How many unconfirmed offers may go there. None: any number, nobody tells machines of one
    /// segment apart.
    pub(super) fn offers_max(self) -> Option<usize> {
        match self.via {
            CircuitKind::Segment => None,
            CircuitKind::Relay => Some(OFFERS_PER_RELAY_MAX),
            CircuitKind::Port => Some(OFFERS_PER_CIRCUIT_MAX),
        }
    }
}
