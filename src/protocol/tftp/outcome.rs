//! How a transfer ended.

use super::packet::ErrorCode;

/// Whose doing the end was, and whether all had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// The client has it all.
    Complete,
    /// All was sent; the last ACK never came. Some clients never send it (T-29).
    CompleteWithoutLastAck,
    /// The client ended it before its first ACK with code 8 or 0: it wanted the size, or to know
    /// that the file is there (T-52). Not a failure.
    SizeProbe,
    /// The client sent an ERROR.
    Aborted { code: u16 },
    /// The client fell silent (T-42).
    GaveUp,
    /// Ours: the content was lost or did not come in time.
    Failed(TransferFailure),
    /// The same endpoint asked for something else (T-50).
    Replaced,
    /// Turned away with this code.
    Refused { code: ErrorCode },
    /// Waited in the queue until its client must have given up (T-65).
    NeverBegun,
    /// Unconfirmed for longest when there were too many such, or stood still for longest when the
    /// table was full (T-65).
    Displaced,
    /// Somebody who does not know its port sent ACKs for it to others: its request is taken for
    /// forged (T-64).
    Guessed,
}

impl TransferOutcome {
    /// Something an operator should look into (T-29, T-51, T-52: much that looks like it is not).
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

/// Why we could not go on; the client gets ERROR 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferFailure {
    /// The file was changed or cut short in place (T-31).
    ContentLost,
    /// The file is as it was, and its disk or file server gives no more of it.
    Unreadable,
    /// [`super::table::TransferTable::finish_open`] was not called in time.
    NotOpened,
    /// The content stayed out of reach for `limits::PARKED_MAX`.
    OutOfReach,
}
