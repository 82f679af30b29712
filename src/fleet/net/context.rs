//! What all machines of one fleet share: the servers, the expected contents, the clock's pace, one
//! receive buffer.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::checker::{Asked, Checker};
use super::hub::Hub;
use super::wire::Wire;
use crate::content::{Content, Contents};
use crate::limits::READ_OCTETS;
use crate::measure::progress::Progress;
use crate::pace::Pace;

/// Shared by the machines of a fleet; all of them run on one thread.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) tftp: SocketAddr,
    pub(crate) contents: Contents,
    pub(crate) pace: Pace,
    pub(crate) progress: Arc<Progress>,
    /// A walk, in which files are sampled and every request is written down.
    pub(crate) walking: Option<Walking>,
    pub(crate) wire: Wire,
    /// All TFTP of the fleet.
    pub(crate) hub: Rc<Hub>,
    scratch: RefCell<Box<[u8]>>,
}

impl Context {
    pub(crate) fn new(
        tftp: SocketAddr,
        contents: Contents,
        pace: Pace,
        progress: Arc<Progress>,
    ) -> Self {
        let scratch = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
        let wire = Wire::default();
        let hub = Rc::new(Hub::new(tftp, &wire, 0));
        Self { tftp, contents, pace, progress, walking: None, wire, hub, scratch }
    }

    /// The same with other ways than the usual on the network, whose troubles depend on `seed`.
    pub(crate) fn with_wire(self, wire: Wire, seed: u64) -> Self {
        Self { hub: Rc::new(Hub::new(self.tftp, &wire, seed)), wire, ..self }
    }

    /// The same for a walk from this address.
    pub(crate) fn walking(
        tftp: SocketAddr,
        pace: Pace,
        source: Ipv4Addr,
        ours: Vec<Ipv4Addr>,
    ) -> Self {
        let walking = Some(Walking { source, ours, asked: RefCell::default() });
        Self { walking, ..Self::new(tftp, Contents::default(), pace, Arc::default()) }
    }

    /// Where a machine speaks from to this server: the address it was given where this host has it,
    /// so that the server knows who asks; else any (unspecified), as always with a server of IPv6.
    /// A walk comes from its own address to servers on this host.
    pub(crate) fn speaks_from(&self, given: Ipv4Addr, server: IpAddr) -> Ipv4Addr {
        let IpAddr::V4(server) = server else { return Ipv4Addr::UNSPECIFIED };
        match &self.walking {
            Some(walking) if server.is_loopback() || walking.ours.contains(&server) => {
                walking.source
            }
            None if self.wire.owns(given) => given,
            _ => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Lends the one receive buffer for a single read and what is done with it: never across an
    /// await.
    pub(crate) fn with_scratch<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut self.scratch.borrow_mut())
    }

    pub(crate) fn expected(&self, name: &str) -> Option<&Content> {
        self.contents.find(name)
    }

    /// What checks a file of this name, and keeps it where the machine wants to read it itself.
    pub(crate) fn checker(&self, name: &str, keep: bool) -> Checker {
        let checker =
            Checker::new(&self.progress, self.wire.verify, name, self.expected(name).cloned());
        checker.walking(self.walking.is_some()).keeping(keep)
    }
}

/// What a walk has in addition to a boot.
#[derive(Debug)]
pub(crate) struct Walking {
    source: Ipv4Addr,
    /// Addresses of this host.
    ours: Vec<Ipv4Addr>,
    asked: RefCell<Vec<Asked>>,
}

impl Walking {
    pub(crate) fn write_down(&self, asked: Asked) {
        self.asked.borrow_mut().push(asked);
    }

    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<Asked> {
        self.asked.take()
    }
}
