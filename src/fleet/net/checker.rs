//! Checks the bytes of one file as they arrive, and records the file for a walk.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::wire::ContentProof;
use crate::content::ExpectedContent;
use crate::failure::BootFailure;
use crate::limits::{MENU_BYTES_MAX, SAMPLE_BYTES};
use crate::measure::progress::FleetProgress;
use ringboot_protocol::boot::pe::HEAD_BYTES;

/// A file that arrived, in whole or as a sample.
#[derive(Clone, Debug)]
pub(crate) struct WalkedFile {
    /// A TFTP name or a URL.
    pub(crate) name: String,
    /// Bytes of the whole file, as far as the server sent or announced it.
    pub(crate) octets: u64,
    pub(crate) received: u64,
    /// The first bytes, which show the kind of file.
    pub(crate) head: Vec<u8>,
    pub(crate) took: Duration,
}

/// Checks the bytes of one file in the order in which they arrive.
#[derive(Debug)]
pub(crate) struct ContentChecker {
    progress: Arc<FleetProgress>,
    verify: ContentProof,
    /// For a walk: files are sampled, and their first bytes kept.
    walks: bool,
    name: Box<str>,
    expected: Option<ExpectedContent>,
    /// Keeps the bytes of files that the machine reads itself (menus and scripts).
    keep: Option<Vec<u8>>,
    /// The requested part of the file; None: all of it.
    part: Option<Range<u64>>,
    /// All bytes below this have arrived, counted from the beginning of the part.
    received: u64,
    head: Vec<u8>,
}

impl ContentChecker {
    /// For the whole of a file that the machine does not read.
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

    /// The same for a walk, if this is one.
    pub(crate) fn with_walk(self, walks: bool) -> Self {
        Self { walks, ..self }
    }

    /// The same for a machine that reads the file itself, if it does.
    pub(crate) fn with_keeping(self, keep: bool) -> Self {
        Self { keep: keep.then(Vec::new), ..self }
    }

    /// Only for these bytes of the file.
    pub(crate) fn with_part(self, part: Range<u64>) -> Self {
        Self { part: Some(part), ..self }
    }

    /// Whether the bytes are compared or kept, instead of only counted.
    pub(crate) fn needs_bytes(&self) -> bool {
        self.walks
            || self.keep.is_some()
            || (self.verify == ContentProof::Full && self.expected.is_some())
    }

    /// Takes the next bytes of the file. Wrong bytes fail the machine.
    pub(crate) fn take_bytes(&mut self, bytes: &[u8]) -> Result<(), BootFailure> {
        // `matches` compares many bytes at a time. Only wrong contents need the place of the first
        // wrong byte.
        let expected = self.expected.as_ref().filter(|_| self.verify == ContentProof::Full);
        if let Some(content) = expected.filter(|content| !content.matches(self.offset(), bytes)) {
            let name = self.name.to_string();
            return Err(match content.first_difference(self.offset(), bytes) {
                // All bytes of the file match, and more follow them.
                Some(end) if end == content.octets() => BootFailure::WrongLength(
                    name,
                    self.offset() + bytes.len() as u64,
                    content.octets(),
                ),
                at => BootFailure::WrongContent(name, at.unwrap_or(self.offset())),
            });
        }
        if let Some(kept) = &mut self.keep {
            if kept.len() + bytes.len() > MENU_BYTES_MAX {
                return Err(BootFailure::MenuTooLong(self.name.to_string()));
            }
            kept.extend_from_slice(bytes);
        }
        if self.walks {
            let room = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        self.count_bytes(bytes.len() as u64);
        Ok(())
    }

    /// Counts bytes that were discarded without a check.
    pub(crate) fn count_bytes(&mut self, octets: u64) {
        self.received += octets;
        self.progress.add_bytes(octets);
        if !self.needs_bytes() {
            self.progress.add_unchecked_bytes(octets);
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The requested part of the file.
    pub(crate) fn part(&self) -> Option<&Range<u64>> {
        self.part.as_ref()
    }

    /// The file ends here: bytes that were requested beyond do not exist.
    pub(crate) fn clip_end(&mut self, octets: u64) {
        if let Some(part) = &mut self.part {
            part.end = part.end.min(octets).max(part.start);
        }
    }

    /// The offset of the next byte in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.start) + self.received
    }

    /// Whether a walk has its sample of a file that it does not read.
    pub(crate) fn is_sample_full(&self) -> bool {
        self.needs_sample() && self.received >= SAMPLE_BYTES
    }

    /// A walk that does not read the file itself needs only a sample.
    pub(crate) fn needs_sample(&self) -> bool {
        self.keep.is_none() && self.walks
    }

    /// Records a file of `bytes` bytes for the walk.
    pub(crate) fn record_file(&self, name: String, octets: u64, took: Duration) -> WalkedFile {
        WalkedFile { name, octets, received: self.received, head: self.head.clone(), took }
    }

    /// The transfer begins again at the first byte. Earlier bytes still count as traffic.
    pub(crate) fn restart(&mut self) {
        self.received = 0;
        self.head.clear();
        if let Some(kept) = &mut self.keep {
            kept.clear();
        }
    }

    /// The transfer has ended: every byte must have arrived. Returns the kept bytes.
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
