//! What the threads of DHCP tell each other: letters to the core, and the signs and standings of
//! other servers.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::SyncSender;

use crate::dhcp::decide::Decision;
use crate::dhcp::layout::PoolLayout;
use crate::dhcp::lease::{BootTimes, ClockSeconds, Lease};
use crate::dhcp::listing::{DeclineLimit, LeaseFilter, ListedAddress};
use crate::dhcp::other_servers::RivalLook;
use crate::dhcp::subnet::{HoldReason, Subnet};
use crate::engine::net::NetworkInterface;
use crate::model::machine::{Firmware, Mac};
use crate::model::network::Ipv4Network;
use crate::snapshot::PublishedGeneration;

/// What other threads tell the core.
#[derive(Debug)]
pub(super) enum DhcpLetter {
    /// The writer: these tickets are durable, or are not.
    Committed { tickets: Vec<u64>, durable: bool },
    /// The writer: what of a piece of the table should be in the store, and where does the next
    /// piece begin? What changes meanwhile is queued behind it.
    Recalled { from: usize, done: SyncSender<(Vec<Lease>, Option<usize>)> },
    /// The writer: which machines booted?
    Booted { done: SyncSender<BootTimes> },
    /// The writer: this was in the store, and could not be read before.
    Loaded { leases: Vec<Lease>, machines: BootTimes },
    /// The word on every watched subnet.
    Watched(Vec<SegmentStatus>),
    /// An interface has come (again).
    Bound { interface: String, socket: OwnedFd },
    /// An interface has gone, and nothing comes in by its socket any more.
    Gone(String),
    /// The interfaces of this machine have changed, or their addresses.
    Interfaces(Arc<Vec<NetworkInterface>>),
    /// A host has answered for an address that was asked about.
    InUse { address: Ipv4Addr, host: Option<Mac> },
    /// Control: decide from this generation as soon as the leases are in its pools, and publish it.
    Reconfigured(Box<ConfigProposal>),
    /// Control: a piece of the table, from this row on.
    Listed { from: usize, filter: LeaseFilter, done: SyncSender<LeasePiece> },
    /// Control: forget what is known of these addresses where that is allowed, durably, and say of
    /// how many.
    Freed { addresses: Vec<Ipv4Addr>, force: bool, done: SyncSender<Option<usize>> },
    /// Control: what this machine declined, or anybody, counts no more.
    Pardoned { mac: Option<Mac> },
    /// Control: what would this message get on that subnet? Nothing is sent, counted, kept or said.
    Tried { packet: Vec<u8>, network: Ipv4Network, done: SyncSender<DryRun> },
}

/// A configuration that control has prepared.
#[derive(Debug)]
pub(super) struct ConfigProposal {
    pub(super) next: Arc<PublishedGeneration>,
    /// Its pools, still without what is held of them.
    pub(super) layout: PoolLayout,
    pub(super) fate: Arc<ProposalFate>,
    /// Gets the pools of before, for control to drop.
    pub(super) done: SyncSender<Option<PoolLayout>>,
}

/// What becomes of a proposal: the core takes it, or control withdraws it, whoever is first. So an
/// answer of "no" stays true.
#[derive(Debug, Default)]
pub(super) struct ProposalFate(AtomicU8);

const OPEN: u8 = 0;
pub(super) const TAKEN: u8 = 1;
pub(super) const WITHDRAWN: u8 = 2;

impl ProposalFate {
    /// False where the other side was first.
    pub(super) fn settle(&self, fate: u8) -> bool {
        self.0.compare_exchange(OPEN, fate, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }
}

/// A piece of the table of leases.
#[derive(Debug)]
pub(super) struct LeasePiece {
    pub(super) listed: Vec<ListedAddress>,
    pub(super) limited: Vec<DeclineLimit>,
    pub(super) now: ClockSeconds,
    /// The row that the next one begins with.
    pub(super) next: Option<usize>,
}

/// The word on a watched subnet, for the core. It holds for the subnet as it was then: on another
/// interface, or where other servers count otherwise, it says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentStatus {
    pub(super) network: Ipv4Network,
    pub(super) interface: String,
    pub(super) beside: bool,
    /// None = everything may leave.
    pub(super) held: Option<HoldReason>,
}

impl SegmentStatus {
    pub(super) fn is_of(&self, subnet: &Subnet, interface: &str) -> bool {
        (self.network, self.beside) == (subnet.network, subnet.allow_other_servers)
            && self.interface == interface
    }
}

/// What the core has met with, on the interface of this index.
#[derive(Clone, Copy, Debug)]
pub(super) enum SegmentSign {
    /// A client has chosen another server.
    OtherServer(u32),
    /// A client asks, and has asked for so many seconds.
    ClientAsks { interface: u32, since_s: u16 },
    /// Another ringboot looks for DHCP servers.
    Looked { interface: u32, rival: RivalLook },
    /// An address is about to be offered for the first time: has anybody got it? Behind a relay
    /// there is no interface.
    Offers { address: Ipv4Addr, interface: Option<u32> },
}

/// What a message would get, and what is known of its sender.
#[derive(Debug)]
pub struct DryRun {
    pub decision: Decision,
    /// The firmware that the sender's last lease was for.
    pub last_firmware: Option<Firmware>,
}
