//! The end of a transfer: how it came, and what its client did until then.

use std::net::SocketAddr;

use crate::tftp::Tick;
use crate::tftp::options::Terms;
use crate::tftp::table::Outcome;
use crate::tftp::transfer::Tally;

/// The end of a transfer, in numbers.
pub(in crate::serve) struct EndedTransfer {
    pub(super) peer: SocketAddr,
    pub(in crate::serve) outcome: Outcome,
    pub(in crate::serve) terms: Option<Terms>,
    /// The request had a `tsize`.
    pub(in crate::serve) size_asked: bool,
    pub(in crate::serve) tally: Tally,
    pub(super) time: Tick,
}
