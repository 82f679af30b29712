//! The check of one file's bytes as they come, and what a walk writes down of the file.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::wire::ContentProof;
use crate::content::ExpectedContent;
use crate::failure::BootFailure;
use crate::limits::{MENU_OCTETS_MAX, SAMPLE_OCTETS};
use crate::measure::progress::FleetProgress;
use ringboot_protocol::boot::pe::HEAD_BYTES;

/// A file that came, in whole or as a sample.
#[derive(Clone, Debug)]
pub(crate) struct WalkedFile {
    /// A TFTP name or a URL.
    pub(crate) name: String,
    /// The whole file, as far as the server told or sent it.
    pub(crate) octets: u64,
    pub(crate) received: u64,
    /// The first bytes, for a look at what kind of file it is.
    pub(crate) head: Vec<u8>,
    pub(crate) took: Duration,
}

/// Checks the bytes of one file as they come, in any order of arrival that a transfer allows.
#[derive(Debug)]
pub(crate) struct ContentChecker {
    progress: Arc<FleetProgress>,
    verify: ContentProof,
    /// For a walk: files are sampled, and their first bytes kept.
    walks: bool,
    name: Box<str>,
    expected: Option<ExpectedContent>,
    /// Where the machine wants to read the file itself (menus and scripts).
    keep: Option<Vec<u8>>,
    /// The part of the file that is wanted; None: all of it.
    part: Option<Range<u64>>,
    /// All bytes below this have come, counted from the beginning of the part.
    received: u64,
    head: Vec<u8>,
}

impl ContentChecker {
    /// For all of a file that nobody reads.
    pub(crate) fn new(
        progress: &Arc<FleetProgress>,
        verify: ContentProof,
        name: &str,
        expected: Option<ExpectedContent>,
    ) -> Self {
        Self {
            progress: Arc::clone(progress),
            verify,
            walks: false,
            name: name.into(),
            expected,
            keep: None,
            part: None,
            received: 0,
            head: Vec::new(),
        }
    }

    /// The same for a walk, where this is one.
    pub(crate) fn walking(self, walks: bool) -> Self {
        Self { walks, ..self }
    }

    /// The same for a machine that reads the file itself, where it does.
    pub(crate) fn keeping(self, keep: bool) -> Self {
        Self { keep: keep.then(Vec::new), ..self }
    }

    /// For these bytes of the file only.
    pub(crate) fn of_part(self, part: Range<u64>) -> Self {
        Self { part: Some(part), ..self }
    }

    /// Whether anybody looks at the bytes, or only counts them.
    pub(crate) fn reads(&self) -> bool {
        self.walks
            || self.keep.is_some()
            || (self.verify == ContentProof::Full && self.expected.is_some())
    }

    /// The next bytes of the file. A piece that is not what the file has there fails the machine.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), BootFailure> {
        let expected = self.expected.as_ref().filter(|_| self.verify == ContentProof::Full);
        if let Some(content) = expected.filter(|content| !content.matches(self.offset(), bytes)) {
            let name = self.name.to_string();
            return Err(match content.first_difference(self.offset(), bytes) {
                Some(end) if end == content.octets() => BootFailure::WrongLength(
                    name,
                    self.offset() + bytes.len() as u64,
                    content.octets(),
                ),
                at => BootFailure::WrongContent(name, at.unwrap_or(self.offset())),
            });
        }
        if let Some(kept) = &mut self.keep {
            if kept.len() + bytes.len() > MENU_OCTETS_MAX {
                return Err(BootFailure::MenuTooLong(self.name.to_string()));
            }
            kept.extend_from_slice(bytes);
        }
        if self.walks {
            let room = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        self.count(bytes.len() as u64);
        Ok(())
    }

    /// So many bytes have come, and nobody has looked at them.
    pub(crate) fn count(&mut self, octets: u64) {
        self.received += octets;
        self.progress.add_octets(octets);
        if !self.reads() {
            self.progress.add_unchecked_octets(octets);
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The part of the file that is wanted.
    pub(crate) fn part(&self) -> Option<&Range<u64>> {
        self.part.as_ref()
    }

    /// The file is no longer than this: what was asked for beyond does not exist.
    pub(crate) fn clip(&mut self, octets: u64) {
        if let Some(part) = &mut self.part {
            part.end = part.end.min(octets).max(part.start);
        }
    }

    /// Where the next byte stands in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.start) + self.received
    }

    /// A walk has seen enough of a file that it does not read.
    pub(crate) fn is_sample_full(&self) -> bool {
        self.samples() && self.received >= SAMPLE_OCTETS
    }

    /// A walk that does not read the file itself needs no more than a sample.
    pub(crate) fn samples(&self) -> bool {
        self.keep.is_none() && self.walks
    }

    /// For the walk's list: what came, of a file that is `bytes` long.
    pub(crate) fn asked(&self, name: String, octets: u64, took: Duration) -> WalkedFile {
        WalkedFile { name, octets, received: self.received, head: self.head.clone(), took }
    }

    /// The transfer begins again from the first byte. What had come still counts as traffic.
    pub(crate) fn restart(&mut self) {
        self.received = 0;
        self.head.clear();
        if let Some(kept) = &mut self.keep {
            kept.clear();
        }
    }

    /// The transfer has ended: every byte must be there. Gives what was kept.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, BootFailure> {
        let whole = self.part.as_ref().map(|part| part.end - part.start);
        match whole.or(self.expected.as_ref().map(ExpectedContent::octets)) {
            Some(octets) if self.verify != ContentProof::None && octets != self.received => {
                Err(BootFailure::WrongLength(self.name.to_string(), self.received, octets))
            }
            _ => Ok(self.keep.take().unwrap_or_default()),
        }
    }
}
