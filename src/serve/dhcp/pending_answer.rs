//! A decision that the DHCP core has not carried out yet: an ACK until its lease is durable, an
//! offer while its address is probed.

use super::messages::WayIn;
use crate::dhcp::decide::Decision;

/// What the core does once nothing holds the decision back.
pub(super) struct PendingAnswer {
    pub(super) decision: Decision,
    /// The way on which the message came, and on which the reply leaves.
    pub(super) way: WayIn,
}
