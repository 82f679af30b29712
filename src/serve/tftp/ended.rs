//! The end of a transfer: why it ended, and what its client had done until then.

use std::net::SocketAddr;

use crate::tftp::Tick;
use crate::tftp::options::NegotiatedTerms;
use crate::tftp::table::TransferOutcome;
use crate::tftp::transfer::TransferTally;

/// A transfer that has ended.
pub(in crate::serve) struct EndedTransfer {
    pub(super) peer: SocketAddr,
    pub(in crate::serve) outcome: TransferOutcome,
    pub(in crate::serve) terms: Option<NegotiatedTerms>,
    /// The request had the option `tsize`.
    pub(in crate::serve) size_asked: bool,
    pub(in crate::serve) tally: TransferTally,
    /// From the request to the end, in nanoseconds.
    pub(super) time: Tick,
}
