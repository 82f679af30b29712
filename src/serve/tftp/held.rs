//! What a transfer holds of its file: almost nothing before its client's first ACK, everything
//! after it.

use std::fmt;
use std::sync::Arc;

use crate::images::{ServedContent, WeakServedContent};
use crate::serve::flights::InquiryReport;
use crate::serve::shelf::{FileOrigin, FileReply, FileRequest};
use crate::tftp::packet::TransferMode;
use crate::tftp::table::TransferId;

/// A letter from another thread to the core.
pub(super) enum TftpLetter {
    /// A worker: the answer to a name that a transfer asked for.
    LookedUp(TransferId, LookedUp),
    /// A worker: the range that a transfer waits for is resident.
    Resident(TransferId),
    /// Control asks for the transfers under way.
    Asked(InquiryReport),
}

impl fmt::Debug for TftpLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TftpLetter")
    }
}

/// The result of a look-up.
pub(super) enum LookedUp {
    /// For a transfer that begins.
    Opened(OpenedFile),
    /// For a transfer whose client has answered: it holds its whole content from now on.
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

/// The shelf's answer for a new transfer, on its way to the table.
pub(super) struct OpenedFile {
    pub(super) asked: Arc<AskedFile>,
    pub(super) reply: FileReply,
    /// Length of the whole content in bytes, where the reply carries only its start; None: the
    /// reply carries everything.
    pub(super) whole_bytes: Option<u64>,
}

/// A client's request for a file. The transfer keeps it, so that the core can look the file up
/// again.
#[derive(Debug)]
pub(super) struct AskedFile {
    pub(super) ask: FileRequest,
    pub(super) mode: TransferMode,
    /// No option is agreed, so the first answer is a DATA block and not an OACK.
    pub(super) is_plain: bool,
}

impl AskedFile {
    /// Whether a worker must read bytes of this content before the first packet can leave.
    pub(super) fn needs_disk(&self, content: &ServedContent) -> bool {
        self.mode == TransferMode::Netascii || self.is_plain && content.inline_bytes().is_none()
    }
}

/// What the transfer table keeps for a transfer.
#[derive(Debug)]
pub(super) struct HeldFile {
    pub(super) carried: CarriedContent,
    /// The version of the file that the first answer offered.
    pub(super) etag: String,
    pub(super) origin: FileOrigin,
    pub(super) reasons: Vec<String>,
    pub(super) asked: Arc<AskedFile>,
}

/// How much of its content a transfer holds. Before the client's first ACK it is almost nothing,
/// because the source address of the request may be forged.
#[derive(Debug)]
pub(super) enum CarriedContent {
    Whole(ServedContent),
    /// A file that other transfers hold, or that the image store holds until it needs the room.
    Known(WeakServedContent),
    /// A copy of the first bytes.
    Start(ServedContent),
}

impl HeldFile {
    /// Whether the file has not changed, as far as the transfer holds it.
    pub(super) fn is_unchanged(&self) -> bool {
        match &self.carried {
            CarriedContent::Whole(content) | CarriedContent::Start(content) => {
                content.is_unchanged()
            }
            CarriedContent::Known(_) => true,
        }
    }
}
