//! The plan of a fleet: everything that it must know before its machines start.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::arrival::ArrivalPattern;
use super::content::ContentMap;
use super::net::lessor::DhcpAccess;
use super::net::wire::WireSettings;
use super::pace::FleetPace;
use super::scenario::MachineRole;

/// The addresses of the servers under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAddresses {
    /// UDP, for requests through relay agents.
    pub dhcp: SocketAddrV4,
    /// UDP, for read requests.
    pub tftp: SocketAddrV4,
    /// TCP.
    pub http: SocketAddrV4,
}

/// Everything that a fleet must know before it starts.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// The number of machines.
    pub machines: u32,
    /// Their tasks, distributed by weight.
    pub roles: Vec<MachineRole>,
    /// When machines start.
    pub arrival: ArrivalPattern,
    /// Until this time after the start machines begin again: firmware boots once more, plain steps
    /// are repeated. None: once each.
    pub duration: Option<Duration>,
    /// The longest time of a boot; a longer one has failed.
    pub within: Option<Duration>,
    /// Boots and plain steps that begin within this time after the start do not count.
    pub warm_up: Duration,
    /// None if no role uses DHCP.
    pub lessor: Option<DhcpAccess>,
    /// The TFTP server of plain steps.
    pub tftp: SocketAddr,
    /// The HTTP server of plain steps. (Loaders use the servers of their URLs.)
    pub http: SocketAddr,
    /// Label of the menu entry that every machine chooses.
    pub pick: String,
    /// Files with known contents; the bytes of all others are only counted.
    pub contents: ContentMap,
    /// The factor of firmware's waits, and the patience of machines.
    pub pace: FleetPace,
    /// Source addresses, verification and simulated losses.
    pub wire: WireSettings,
    /// Runs with the same seed send the same hardware addresses and transaction ids, at the same
    /// moments.
    pub seed: u64,
}
