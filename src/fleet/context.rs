//! What all machines of one fleet share: the servers, the expected contents, the clock's pace, one receive buffer.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use super::content::{Content, Contents};
use super::failure::Failure;
use super::limits::READ_OCTETS;
use super::pace::Pace;
use super::progress::Progress;

/// Shared by the machines of a fleet; all of them run on one thread.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) tftp: SocketAddrV4,
    pub(super) contents: Contents,
    pub(super) pace: Pace,
    pub(super) progress: Arc<Progress>,
    scratch: RefCell<Box<[u8]>>,
}

impl Context {
    pub(super) fn new(tftp: SocketAddrV4, contents: Contents, pace: Pace, progress: Arc<Progress>) -> Self {
        let scratch = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
        Self { tftp, contents, pace, progress, scratch }
    }

    /// Lends the one receive buffer for a single read and what is done with it: never across an await.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut self.scratch.borrow_mut())
    }

    pub(super) fn expected(&self, name: &str) -> Option<&Content> {
        self.contents.find(name)
    }
}

/// Where a machine's sockets are bound: its leased address on loopback, so that the server knows who asks; else any, for a
/// machine that is simulated on another host has no interface with the address it was given.
pub(super) fn local_address(leased: Ipv4Addr) -> SocketAddr {
    let address = if leased.is_loopback() { leased } else { Ipv4Addr::UNSPECIFIED };
    SocketAddr::from((address, 0))
}

/// Checks the octets of one file as they come, in any order of arrival that a transfer allows.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    context: &'a Context,
    name: &'a str,
    expected: Option<&'a Content>,
    /// Where the machine wants to read the file itself (menus and scripts).
    keep: Option<Vec<u8>>,
    /// All octets below this have come.
    received: u64,
}

impl<'a> Checker<'a> {
    pub(super) fn new(context: &'a Context, name: &'a str, keep: bool) -> Self {
        Self { context, name, expected: context.expected(name), keep: keep.then(Vec::new), received: 0 }
    }

    /// The next octets of the file. A piece that is not what the file has there fails the machine.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.expected.is_some_and(|content| !content.matches(self.received, bytes)) {
            return Err(Failure::WrongContent(self.name.to_owned()));
        }
        if let Some(kept) = &mut self.keep {
            if kept.len() + bytes.len() > super::limits::MENU_OCTETS_MAX {
                return Err(Failure::WrongContent(self.name.to_owned()));
            }
            kept.extend_from_slice(bytes);
        }
        let octets = bytes.len() as u64;
        self.received += octets;
        self.context.progress.add_octets(octets);
        if self.expected.is_none() && self.keep.is_none() {
            self.context.progress.add_unchecked_octets(octets);
        }
        Ok(())
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
        match self.expected {
            Some(content) if content.octets() != self.received => {
                Err(Failure::WrongLength(self.name.to_owned(), self.received, content.octets()))
            }
            _ => Ok(self.keep.take().unwrap_or_default()),
        }
    }
}
