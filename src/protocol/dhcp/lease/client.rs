//! The client that asks for an address, and how an address stands to it.

use crate::dhcp::lease_record::{ClockSeconds, Lease, LeaseRowState};
use crate::model::machine::Mac;

/// How an address stands to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dhcp) enum AddressAvailability {
    /// Nobody holds or remembers it.
    Free,
    /// The machine's own: offered, bound, or remembered from before.
    Own(LeaseRowState),
    /// Another machine's, whose lease is over.
    Remembered,
    /// Another machine's now, declined, or being committed for another.
    Taken,
}

/// Who asks: a machine, and which system of it where they count as clients of their own (RFC 2131
/// section 4.2).
#[derive(Clone, Copy, Debug)]
pub(in crate::dhcp) struct ClientIdentity<'a> {
    pub(in crate::dhcp) mac: Mac,
    /// As in `Lease::client_id`; None = the machine, whatever runs on it.
    pub(in crate::dhcp) system: Option<&'a [u8]>,
}

impl ClientIdentity<'_> {
    pub(super) fn owns(&self, lease: &Lease) -> bool {
        lease.mac == self.mac
            && self.system.is_none_or(|id| lease.client_id.as_ref().is_none_or(|known| known == id))
    }

    /// Of its leases the greatest is the one that counts: a live one, the one that it named itself
    /// for, an offer, the one that ended last.
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
