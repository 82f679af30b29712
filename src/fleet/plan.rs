//! Everything a fleet needs to know before its machines are switched on.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::arrival::ArrivalPattern;
use super::content::ContentMap;
use super::net::lessor::DhcpAccess;
use super::net::wire::WireSettings;
use super::pace::FleetPace;
use super::scenario::MachineRole;

/// Where the servers under test listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAddresses {
    pub dhcp: SocketAddrV4,
    pub tftp: SocketAddrV4,
    pub http: SocketAddrV4,
}

/// Everything a fleet needs to know beforehand.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// How many machines.
    pub machines: u32,
    /// What they do, dealt out by weight.
    pub roles: Vec<MachineRole>,
    pub arrival: ArrivalPattern,
    /// Until so long after the start machines begin again: firmware boots once more, plain steps
    /// are repeated. None: once each.
    pub duration: Option<Duration>,
    /// A boot that takes longer has failed.
    pub within: Option<Duration>,
    /// What begins before is not counted: neither boots nor plain steps.
    pub warm_up: Duration,
    /// None where no role speaks DHCP.
    pub lessor: Option<DhcpAccess>,
    pub tftp: SocketAddr,
    /// Where plain steps ask. (Loaders ask where their URLs say.)
    pub http: SocketAddr,
    /// Label of the menu entry that everybody picks.
    pub pick: String,
    /// Files whose bytes are known; all others are only counted.
    pub contents: ContentMap,
    pub pace: FleetPace,
    pub wire: WireSettings,
    /// Runs with one seed send the same hardware addresses and transaction ids, at the same
    /// moments.
    pub seed: u64,
}
