//! What all machines of one fleet share: the servers, the expected contents, the clock's pace, one receive buffer.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;

use super::content::{Content, Contents};
use super::failure::Failure;
use super::hub::Hub;
use super::limits::READ_OCTETS;
use super::pace::Pace;
use super::progress::Progress;
use super::wire::{Verify, Wire};

/// Shared by the machines of a fleet; all of them run on one thread.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) tftp: SocketAddrV4,
    pub(super) contents: Contents,
    pub(super) pace: Pace,
    pub(super) progress: Arc<Progress>,
    pub(super) wire: Wire,
    /// All TFTP of the fleet.
    pub(super) hub: Rc<Hub>,
    scratch: RefCell<Box<[u8]>>,
}

impl Context {
    pub(super) fn new(tftp: SocketAddrV4, contents: Contents, pace: Pace, progress: Arc<Progress>) -> Self {
        let scratch = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
        let wire = Wire::default();
        let hub = Rc::new(Hub::new(tftp, &wire, 0));
        Self { tftp, contents, pace, progress, wire, hub, scratch }
    }

    /// The same with other ways than the usual on the network, whose troubles depend on `seed`.
    pub(super) fn with_wire(self, wire: Wire, seed: u64) -> Self {
        Self { hub: Rc::new(Hub::new(self.tftp, &wire, seed)), wire, ..self }
    }

    /// Where a machine speaks from: the address it was given where this host has it, so that the server knows who asks; else
    /// any (unspecified).
    pub(super) fn speaks_from(&self, given: Ipv4Addr) -> Ipv4Addr {
        if self.wire.owns(given) { given } else { Ipv4Addr::UNSPECIFIED }
    }

    /// Lends the one receive buffer for a single read and what is done with it: never across an await.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut self.scratch.borrow_mut())
    }

    pub(super) fn expected(&self, name: &str) -> Option<&Content> {
        self.contents.find(name)
    }
}

/// Checks the octets of one file as they come, in any order of arrival that a transfer allows.
#[derive(Debug)]
pub(super) struct Checker {
    progress: Arc<Progress>,
    verify: Verify,
    name: Box<str>,
    expected: Option<Content>,
    /// Where the machine wants to read the file itself (menus and scripts).
    keep: Option<Vec<u8>>,
    /// All octets below this have come.
    received: u64,
}

impl Checker {
    pub(super) fn new(context: &Context, name: &str, keep: bool) -> Self {
        Self {
            progress: Arc::clone(&context.progress),
            verify: context.wire.verify,
            name: name.into(),
            expected: context.expected(name).cloned(),
            keep: keep.then(Vec::new),
            received: 0,
        }
    }

    /// Whether anybody looks at the octets, or only counts them.
    pub(super) fn reads(&self) -> bool {
        self.keep.is_some() || (self.verify == Verify::Full && self.expected.is_some())
    }

    /// The next octets of the file. A piece that is not what the file has there fails the machine.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let expected = self.expected.as_ref().filter(|_| self.verify == Verify::Full);
        if expected.is_some_and(|content| !content.matches(self.received, bytes)) {
            return Err(Failure::WrongContent(self.name.to_string()));
        }
        if let Some(kept) = &mut self.keep {
            if kept.len() + bytes.len() > super::limits::MENU_OCTETS_MAX {
                return Err(Failure::WrongContent(self.name.to_string()));
            }
            kept.extend_from_slice(bytes);
        }
        self.count(bytes.len() as u64);
        Ok(())
    }

    /// So many octets have come, and nobody has looked at them.
    pub(super) fn count(&mut self, octets: u64) {
        self.received += octets;
        self.progress.add_octets(octets);
        if !self.reads() {
            self.progress.add_unchecked_octets(octets);
        }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The transfer begins again from the first octet. What had come still counts as traffic.
    pub(super) fn restart(&mut self) {
        self.received = 0;
        if let Some(kept) = &mut self.keep {
            kept.clear();
        }
    }

    /// The transfer has ended: every octet must be there. Gives what was kept.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, Failure> {
        match &self.expected {
            Some(content) if self.verify != Verify::None && content.octets() != self.received => {
                Err(Failure::WrongLength(self.name.to_string(), self.received, content.octets()))
            }
            _ => Ok(self.keep.take().unwrap_or_default()),
        }
    }
}
