//! Everything a fleet needs to know before its machines are switched on.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::arrival::Arrival;
use super::content::Contents;
use super::net::lessor::Lessor;
use super::net::wire::Wire;
use super::pace::Pace;
use super::scenario::Role;

/// Where the servers under test listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Servers {
    pub dhcp: SocketAddrV4,
    pub tftp: SocketAddrV4,
    pub http: SocketAddrV4,
}

/// Everything a fleet needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many machines.
    pub machines: u32,
    /// What they do, dealt out by weight.
    pub roles: Vec<Role>,
    pub arrival: Arrival,
    /// Until so long after the start machines begin again: firmware boots once more, plain steps
    /// are repeated. None: once each.
    pub duration: Option<Duration>,
    /// A boot that takes longer has failed.
    pub within: Option<Duration>,
    /// What begins before is not counted: neither boots nor plain steps.
    pub warm_up: Duration,
    /// None where no role speaks DHCP.
    pub lessor: Option<Lessor>,
    pub tftp: SocketAddr,
    /// Where plain steps ask. (Loaders ask where their URLs say.)
    pub http: SocketAddr,
    /// Label of the menu entry that everybody picks.
    pub pick: String,
    /// Files whose octets are known; all others are only counted.
    pub contents: Contents,
    pub pace: Pace,
    pub wire: Wire,
    /// Runs with one seed send the same hardware addresses and transaction ids, at the same
    /// moments.
    pub seed: u64,
}
