//! What all machines of one fleet share: the servers, the expected contents, the clock's pace, one receive buffer.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use super::content::{Content, Contents};
use super::failure::Failure;
use super::limits::{READ_OCTETS, SAMPLE_OCTETS};
use super::pace::Pace;
use super::progress::Progress;
use crate::boot::pe::HEAD_BYTES;

/// Shared by the machines of a fleet; all of them run on one thread.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) tftp: SocketAddrV4,
    pub(super) contents: Contents,
    pub(super) pace: Pace,
    pub(super) progress: Arc<Progress>,
    /// A walk, in which files are sampled and every request is written down.
    pub(super) walking: Option<Walking>,
    scratch: RefCell<Box<[u8]>>,
}

impl Context {
    pub(super) fn new(tftp: SocketAddrV4, contents: Contents, pace: Pace, progress: Arc<Progress>) -> Self {
        let scratch = RefCell::new(vec![0; READ_OCTETS].into_boxed_slice());
        Self { tftp, contents, pace, progress, walking: None, scratch }
    }

    /// The same for a walk from this address.
    pub(super) fn walking(tftp: SocketAddrV4, pace: Pace, source: Ipv4Addr, ours: Vec<Ipv4Addr>) -> Self {
        let walking = Some(Walking { source, ours, asked: RefCell::default() });
        Self { walking, ..Self::new(tftp, Contents::default(), pace, Arc::default()) }
    }

    /// Where a socket to this server is bound. A walk comes from its own address to servers on this host; a machine from its
    /// leased address on loopback, so that the server knows who asks; else any, for a machine that is simulated on another
    /// host has no interface with the address it was given.
    pub(super) fn local_address(&self, leased: Ipv4Addr, server: Ipv4Addr) -> SocketAddr {
        let address = match &self.walking {
            Some(walking) if server.is_loopback() || walking.ours.contains(&server) => walking.source,
            None if leased.is_loopback() => leased,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        SocketAddr::from((address, 0))
    }

    /// Lends the one receive buffer for a single read and what is done with it: never across an await.
    pub(super) fn with_scratch<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut self.scratch.borrow_mut())
    }

    pub(super) fn expected(&self, name: &str) -> Option<&Content> {
        self.contents.find(name)
    }
}

/// What a walk has in addition to a boot.
#[derive(Debug)]
pub(super) struct Walking {
    source: Ipv4Addr,
    /// Addresses of this host.
    ours: Vec<Ipv4Addr>,
    asked: RefCell<Vec<Asked>>,
}

/// A file that came, in whole or as a sample.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// A TFTP name or a URL.
    pub(super) name: String,
    /// The whole file, as far as the server told or sent it.
    pub(super) octets: u64,
    pub(super) received: u64,
    /// The first octets, for a look at what kind of file it is.
    pub(super) head: Vec<u8>,
    pub(super) took: Duration,
}

impl Walking {
    pub(super) fn write_down(&self, asked: Asked) {
        self.asked.borrow_mut().push(asked);
    }

    /// What came since the last call.
    pub(super) fn take(&self) -> Vec<Asked> {
        self.asked.take()
    }
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
    head: Vec<u8>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(context: &'a Context, name: &'a str, keep: bool) -> Self {
        Self {
            context,
            name,
            expected: context.expected(name),
            keep: keep.then(Vec::new),
            received: 0,
            head: Vec::new(),
        }
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
        if self.context.walking.is_some() {
            let room = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
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

    /// A walk has seen enough of a file that it does not read.
    pub(super) fn is_sample_full(&self) -> bool {
        self.samples() && self.received >= SAMPLE_OCTETS
    }

    /// A walk that does not read the file itself needs no more than a sample.
    pub(super) fn samples(&self) -> bool {
        self.keep.is_none() && self.context.walking.is_some()
    }

    /// For the walk's list: what came, of a file that is `octets` long.
    pub(super) fn asked(&self, name: String, octets: u64, took: Duration) -> Asked {
        Asked { name, octets, received: self.received, head: self.head.clone(), took }
    }

    /// The transfer begins again from the first octet. What had come still counts as traffic.
    pub(super) fn restart(&mut self) {
        self.received = 0;
        self.head.clear();
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
