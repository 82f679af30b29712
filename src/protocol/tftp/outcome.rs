//! How a transfer ended.

use super::packet::ErrorCode;

/// How a transfer ended: by which side, and whether all blocks had left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// The client has acknowledged the last block.
    Complete,
    /// All blocks have left, but the last ACK never arrived. Some clients never send it (T-29).
    CompleteWithoutLastAck,
    /// The client sent ERROR 8 or 0 before its first ACK: it wanted to know the size, or whether
    /// the file exists (T-52). Not a failure.
    SizeProbe,
    /// The client sent an ERROR.
    Aborted {
        /// The code of the client's ERROR.
        code: u16,
    },
    /// The client stopped answering (T-42).
    GaveUp,
    /// The server failed: the content was lost, or was not ready in time.
    Failed(TransferFailure),
    /// The same endpoint sent another request (T-50).
    Replaced,
    /// The server refused the request.
    Refused {
        /// The code of the server's ERROR.
        code: ErrorCode,
    },
    /// The request waited in the queue until its client must have given up (T-65).
    NeverBegun,
    /// Ended to make room: the oldest of too many unconfirmed transfers, or the stillest one in a
    /// full table (T-65).
    Displaced,
    /// A sender that does not know the transfer's port sent ACKs to other ports: the server takes
    /// the request for forged (T-64).
    Guessed,
}

impl TransferOutcome {
    /// Whether an operator should investigate (T-29, T-51, T-52 list harmless ends).
    pub fn is_failure(self) -> bool {
        match self {
            Self::Aborted { code } => code != ErrorCode::OptionsRefused as u16,
            Self::GaveUp | Self::Failed(_) | Self::NeverBegun | Self::Displaced | Self::Guessed => {
                true
            }
            Self::Complete
            | Self::CompleteWithoutLastAck
            | Self::SizeProbe
            | Self::Replaced
            | Self::Refused { .. } => false,
        }
    }
}

/// Why the server could not go on; the client gets ERROR 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferFailure {
    /// The file was changed or truncated in place (T-31).
    ContentLost,
    /// The file is unchanged, but its disk or file server cannot read it.
    Unreadable,
    /// [`super::table::TransferTable::finish_open`] was not called in time.
    NotOpened,
    /// The content stayed out of reach for `limits::PARKED_MAX`.
    OutOfReach,
}
