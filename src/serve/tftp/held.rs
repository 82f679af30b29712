//! What a transfer holds of its file: next to nothing before its client has answered, everything
//! after that.

use std::fmt;
use std::sync::Arc;

use crate::images::{ServedContent, WeakServedContent};
use crate::serve::flights::InquiryReport;
use crate::serve::shelf::{FileOrigin, FileReply, FileRequest};
use crate::tftp::packet::TransferMode;
use crate::tftp::table::TransferId;

/// What other threads tell the core.
pub(super) enum TftpLetter {
    LookedUp(TransferId, LookedUp),
    /// The range that a transfer waits for is resident.
    Resident(TransferId),
    /// Control: what is under way?
    Asked(InquiryReport),
}

impl fmt::Debug for TftpLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TftpLetter")
    }
}

/// What a name has come to.
pub(super) enum LookedUp {
    /// For a transfer that is to be opened.
    Opened(OpenedFile),
    /// For a transfer that is to hold its whole content from now on.
    Secured(FileReply),
}

impl LookedUp {
    pub(super) fn reply(&self) -> &FileReply {
        match self {
            Self::Opened(opened) => &opened.reply,
            Self::Secured(reply) => reply,
        }
    }
}

/// A name's answer on its way to the table.
pub(super) struct OpenedFile {
    pub(super) asked: Arc<AskedFile>,
    pub(super) reply: FileReply,
    /// Bytes of the whole content, of which the reply carries the start alone; None: it carries
    /// everything.
    pub(super) whole_bytes: Option<u64>,
}

/// What a client wants. Kept, so that it can be looked up once more.
#[derive(Debug)]
pub(super) struct AskedFile {
    pub(super) ask: FileRequest,
    pub(super) mode: TransferMode,
    /// No option is agreed, so the first answer is a block.
    pub(super) is_plain: bool,
}

impl AskedFile {
    /// Whether bytes of this content must be read before anything can be sent.
    pub(super) fn needs_disk(&self, content: &ServedContent) -> bool {
        self.mode == TransferMode::Netascii || self.is_plain && content.inline_bytes().is_none()
    }
}

/// What the table keeps for a transfer.
#[derive(Debug)]
pub(super) struct HeldFile {
    pub(super) carried: CarriedContent,
    /// The version that the client was offered.
    pub(super) etag: String,
    pub(super) origin: FileOrigin,
    pub(super) reasons: Vec<String>,
    pub(super) asked: Arc<AskedFile>,
}

/// How much of its content a transfer holds. Before the client's first ACK it is next to nothing.
#[derive(Debug)]
pub(super) enum CarriedContent {
    Whole(ServedContent),
    /// A file that others hold, or that the images hold until they need its place.
    Known(WeakServedContent),
    /// The first bytes of a copy.
    Start(ServedContent),
}

impl HeldFile {
    /// Whether what it carries is as it was. Nothing is known of what it does not hold.
    pub(super) fn is_unchanged(&self) -> bool {
        match &self.carried {
            CarriedContent::Whole(content) | CarriedContent::Start(content) => {
                content.is_unchanged()
            }
            CarriedContent::Known(_) => true,
        }
    }
}
