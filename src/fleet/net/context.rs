//! What all machines of a fleet share: the servers, the expected contents, the pace, one receive
//! buffer.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::checker::{ContentChecker, WalkedFile};
use super::hub::TransferHub;
use super::wire::WireSettings;
use crate::content::{ContentMap, ExpectedContent};
use crate::limits::READ_BYTES;
use crate::measure::progress::FleetProgress;
use crate::measure::times::DhcpAnswerTimes;
use crate::pace::FleetPace;

/// Shared by the machines of a fleet; all of them run on one thread.
#[derive(Debug)]
pub(crate) struct FleetContext {
    pub(crate) tftp: SocketAddr,
    pub(crate) contents: ContentMap,
    pub(crate) pace: FleetPace,
    pub(crate) progress: Arc<FleetProgress>,
    /// A walk samples files and records every request.
    pub(crate) walking: Option<WalkContext>,
    pub(crate) wire: WireSettings,
    /// All TFTP of the fleet.
    pub(crate) hub: Rc<TransferHub>,
    /// How long the answers of DHCP took.
    pub(crate) dhcp_times: RefCell<DhcpAnswerTimes>,
    scratch: RefCell<Box<[u8]>>,
}

impl FleetContext {
    pub(crate) fn new(
        tftp: SocketAddr,
        contents: ContentMap,
        pace: FleetPace,
        progress: Arc<FleetProgress>,
    ) -> Self {
        let scratch = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
        let wire = WireSettings::default();
        let hub = Rc::new(TransferHub::new(tftp, &wire, 0));
        let dhcp_times = RefCell::default();
        Self { tftp, contents, pace, progress, walking: None, wire, hub, dhcp_times, scratch }
    }

    /// The same with these settings of the network; `seed` determines its simulated losses.
    pub(crate) fn with_wire(self, wire: WireSettings, seed: u64) -> Self {
        Self { hub: Rc::new(TransferHub::new(self.tftp, &wire, seed)), wire, ..self }
    }

    /// The same for a walk from this address.
    pub(crate) fn with_walk(
        tftp: SocketAddr,
        pace: FleetPace,
        source: Ipv4Addr,
        ours: Vec<Ipv4Addr>,
    ) -> Self {
        let walking = Some(WalkContext { source, ours, asked: RefCell::default() });
        Self { walking, ..Self::new(tftp, ContentMap::default(), pace, Arc::default()) }
    }

    /// The source address of a machine for this server: its lease if this host has the address, so
    /// that the server recognises the machine; else any (unspecified), as always for an IPv6
    /// server. A walk uses its own address for servers on this host.
    pub(crate) fn speaks_from(&self, given: Ipv4Addr, server: IpAddr) -> Ipv4Addr {
        let IpAddr::V4(server) = server else { return Ipv4Addr::UNSPECIFIED };
        match &self.walking {
            Some(walking) if server.is_loopback() || walking.ours.contains(&server) => {
                walking.source
            }
            None if self.wire.may_send_from(given) => given,
            _ => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Lends the one receive buffer for a single read and its evaluation: never across an await.
    pub(crate) fn with_scratch<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut self.scratch.borrow_mut())
    }

    pub(crate) fn find_expected(&self, name: &str) -> Option<&ExpectedContent> {
        self.contents.find(name)
    }

    /// The checker of a file of this name, which keeps the bytes if the machine reads the file
    /// itself.
    pub(crate) fn make_checker(&self, name: &str, keep: bool) -> ContentChecker {
        let checker = ContentChecker::new(
            &self.progress,
            self.wire.verify,
            name,
            self.find_expected(name).cloned(),
        );
        checker.with_walk(self.walking.is_some()).with_keeping(keep)
    }
}

/// The parts of a walk that a boot does not have.
#[derive(Debug)]
pub(crate) struct WalkContext {
    source: Ipv4Addr,
    /// Addresses of this host.
    ours: Vec<Ipv4Addr>,
    asked: RefCell<Vec<WalkedFile>>,
}

impl WalkContext {
    pub(crate) fn write_down(&self, asked: WalkedFile) {
        self.asked.borrow_mut().push(asked);
    }

    /// The files that arrived since the last call.
    pub(crate) fn take_files(&self) -> Vec<WalkedFile> {
        self.asked.take()
    }
}
