//! How a transfer ended, and what its client showed meanwhile.

use std::net::SocketAddr;

use crate::tftp::Tick;
use crate::tftp::options::Terms;
use crate::tftp::table::Outcome;
use crate::tftp::transfer::Tally;

/// How a transfer ended, in numbers.
pub(in crate::serve) struct End {
    pub(super) peer: SocketAddr,
    pub(in crate::serve) outcome: Outcome,
    pub(in crate::serve) terms: Option<Terms>,
    /// The request had a `tsize`.
    pub(in crate::serve) size_asked: bool,
    pub(in crate::serve) tally: Tally,
    pub(super) time: Tick,
}
