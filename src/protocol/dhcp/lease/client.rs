//! The client that asks for an address, and how an address stands to it.

use crate::dhcp::lease_record::{ClockSeconds, Lease, LeaseRowState};
use crate::model::machine::Mac;

/// How an address stands to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dhcp) enum AddressAvailability {
    /// No client has or had it.
    Free,
    /// The client has or had it: offered, bound, or remembered.
    Own(LeaseRowState),
    /// Another client had it, and its lease is over.
    Remembered,
    /// Another client has it, a client declined it, or a commit for another client is pending.
    Taken,
}

/// A client: a machine, and the system on it where systems count as clients of their own (RFC 2131
/// section 4.2).
#[derive(Clone, Copy, Debug)]
pub(in crate::dhcp) struct ClientIdentity<'a> {
    pub(in crate::dhcp) mac: Mac,
    /// As in `Lease::client_id`; None = the machine, with everything that runs on it.
    pub(in crate::dhcp) system: Option<&'a [u8]>,
}

impl ClientIdentity<'_> {
    /// True where the lease is this client's, or that of the machine before a system named itself.
    pub(super) fn owns(&self, lease: &Lease) -> bool {
        lease.mac == self.mac
            && self.system.is_none_or(|id| lease.client_id.as_ref().is_none_or(|known| known == id))
    }

    /// The lease of the greatest rank is the client's: a live one, then one with the client's
    /// identifier, then an offer, then the one that ended last.
    pub(in crate::dhcp) fn rank(
        &self,
        lease: &Lease,
        now: ClockSeconds,
    ) -> (bool, bool, bool, ClockSeconds) {
        let is_live = lease.state == LeaseRowState::Bound && lease.end_s > now;
        let is_named = self.system.is_some() && self.system == lease.client_id.as_deref();
        (is_live, is_named, lease.state == LeaseRowState::Offered, lease.end_s)
    }
}

impl From<Mac> for ClientIdentity<'_> {
    fn from(mac: Mac) -> Self {
        Self { mac, system: None }
    }
}
