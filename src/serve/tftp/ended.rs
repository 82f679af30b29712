//! The end of a transfer: how it came, and what its client did until then.

use std::net::SocketAddr;

use crate::tftp::Tick;
use crate::tftp::options::NegotiatedTerms;
use crate::tftp::table::TransferOutcome;
use crate::tftp::transfer::TransferTally;

/// The end of a transfer, in numbers.
pub(in crate::serve) struct EndedTransfer {
    pub(super) peer: SocketAddr,
    pub(in crate::serve) outcome: TransferOutcome,
    pub(in crate::serve) terms: Option<NegotiatedTerms>,
    /// The request had a `tsize`.
    pub(in crate::serve) size_asked: bool,
    pub(in crate::serve) tally: TransferTally,
    pub(super) time: Tick,
}
