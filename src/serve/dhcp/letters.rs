//! The letters between the threads of DHCP: to the core, and to the thread that looks for other
//! servers.

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

/// A letter from another thread to the core.
#[derive(Debug)]
pub(super) enum DhcpLetter {
    /// The writer: the changes of these tickets are durable, or have failed.
    Committed { tickets: Vec<u64>, durable: bool },
    /// The writer asks which leases the store should hold, piece by piece; the answer names the row
    /// of the next piece. Changes that the core makes meanwhile are queued behind it.
    Recalled { from: usize, done: SyncSender<(Vec<Lease>, Option<usize>)> },
    /// The writer asks which machines have booted from the network, and when.
    Booted { done: SyncSender<BootTimes> },
    /// The writer: the content of a store that could not be read at the start.
    Loaded { leases: Vec<Lease>, machines: BootTimes },
    /// The other-servers thread: whether the core may answer on each watched subnet.
    Watched(Vec<SegmentStatus>),
    /// The other-servers thread: an interface has appeared, and this socket is bound to it.
    Bound { interface: String, socket: OwnedFd },
    /// The other-servers thread: an interface has gone, and its socket receives nothing any more.
    Gone(String),
    /// The other-servers thread: the interfaces of this host or their addresses have changed.
    Interfaces(Arc<Vec<NetworkInterface>>),
    /// The other-servers thread: a host has answered the probe for this address.
    InUse { address: Ipv4Addr, host: Option<Mac> },
    /// Control: move the leases into the pools of this generation, then publish it and decide from
    /// it.
    Reconfigured(Box<ConfigProposal>),
    /// Control asks for a piece of the table, beginning at row `from`.
    Listed { from: usize, filter: LeaseFilter, done: SyncSender<LeasePiece> },
    /// Control: durably forget these addresses where that is allowed, and answer how many were.
    Freed { addresses: Vec<Ipv4Addr>, force: bool, done: SyncSender<Option<usize>> },
    /// Control: forget the DECLINEs of this machine; None: of every machine.
    Pardoned { mac: Option<Mac> },
    /// Control asks what this message would get on that subnet. The core sends, counts, stores and
    /// logs nothing for it.
    Tried { packet: Vec<u8>, network: Ipv4Network, done: SyncSender<DryRun> },
}

/// A generation that control has prepared.
#[derive(Debug)]
pub(super) struct ConfigProposal {
    pub(super) next: Arc<PublishedGeneration>,
    /// Its pools, still without any lease.
    pub(super) layout: PoolLayout,
    pub(super) fate: Arc<ProposalFate>,
    /// Receives the old pools, so that control drops them and not the core.
    pub(super) done: SyncSender<Option<PoolLayout>>,
}

/// The fate of a proposal: either the core takes it or control withdraws it, and only the first of
/// the two succeeds. So a reload that was refused never takes effect later.
#[derive(Debug, Default)]
pub(super) struct ProposalFate(AtomicU8);

const OPEN: u8 = 0;
pub(super) const TAKEN: u8 = 1;
pub(super) const WITHDRAWN: u8 = 2;

impl ProposalFate {
    /// Sets the fate; false where the other side has already set it.
    pub(super) fn claim(&self, fate: u8) -> bool {
        self.0.compare_exchange(OPEN, fate, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.0.load(Ordering::Acquire) == WITHDRAWN
    }
}

/// A piece of the lease table, for control.
#[derive(Debug)]
pub(super) struct LeasePiece {
    pub(super) listed: Vec<ListedAddress>,
    pub(super) limited: Vec<DeclineLimit>,
    pub(super) now: ClockSeconds,
    /// The row where the next piece begins; None: this is the last one.
    pub(super) next: Option<usize>,
}

/// Whether the DHCP core may answer on a subnet. Valid only while the subnet keeps this interface
/// and this `allow-other-servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentStatus {
    pub(super) network: Ipv4Network,
    pub(super) interface: String,
    pub(super) beside: bool,
    /// Why the core must be silent; None: it may answer.
    pub(super) held: Option<HoldReason>,
}

impl SegmentStatus {
    /// Whether this status was found for the subnet as it is configured now.
    pub(super) fn applies_to(&self, subnet: &Subnet, interface: &str) -> bool {
        (self.network, self.beside) == (subnet.network, subnet.allow_other_servers)
            && self.interface == interface
    }
}

/// What the core has seen on an interface, given by its index.
#[derive(Clone, Copy, Debug)]
pub(super) enum SegmentSign {
    /// A client has chosen another server.
    OtherServer(u32),
    /// A client asks, and its `secs` field says for how long already.
    ClientAsks { interface: u32, since_s: u16 },
    /// Another ringboot looks for DHCP servers, and this core has received its message.
    Looked { interface: u32, rival: RivalLook },
    /// The core is about to offer an address for the first time, and asks whether a host uses it.
    /// Behind a relay there is no interface.
    Offers { address: Ipv4Addr, interface: Option<u32> },
}

/// The decision on a message that was only tried out, and what is known of its sender.
#[derive(Debug)]
pub struct DryRun {
    /// What the core would have answered and stored, or why it would have been silent.
    pub decision: Decision,
    /// The firmware that asked for the sender's last lease; None: no lease names any.
    pub last_firmware: Option<Firmware>,
}
