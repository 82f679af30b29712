//! A row of the lease table, and how long an offer is held.

use crate::dhcp::layout::LayoutPlace;
use crate::dhcp::lease_record::{ClockSeconds, Lease};
use crate::dhcp::limits::{OFFER_HOLD_RASPBERRY_PI_S, OFFER_HOLD_S, OFFER_SAFE_S};
use crate::model::machine::{Firmware, FirmwareRole};

/// A row of the lease table.
#[derive(Clone, Debug)]
pub(super) struct LeaseTableEntry {
    pub(super) lease: Lease,
    /// The end of an offer on top of a lease: a bound machine may send DISCOVER again at each boot
    /// stage.
    pub(super) offered_until_s: ClockSeconds,
    /// When the row changes its state by itself; 0: never.
    pub(super) timer_s: ClockSeconds,
    /// Where the row stands in the orders of the layout.
    pub(super) spot: LayoutPlace,
    /// The machine's next address; 0: none.
    pub(super) next: u32,
    /// Offered while another machine had an unconfirmed offer of it: the first REQUEST gets it.
    pub(super) contested: bool,
    /// Kept back because a host answers for the address without a lease.
    pub(super) is_in_use: bool,
}

impl LeaseTableEntry {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            offered_until_s: 0,
            timer_s: 0,
            spot: LayoutPlace::Nowhere,
            next: 0,
            contested: false,
            is_in_use: false,
        }
    }

    /// True for an offer that its machine should have taken by now.
    pub(super) fn is_old_offer(&self, now: ClockSeconds) -> bool {
        let offered_s = self.offered_until_s.saturating_sub(offer_hold_s(self.lease.firmware));
        offered_s.saturating_add(OFFER_SAFE_S) <= now
    }
}

/// Seconds for which an offered address is held. The ROM of a Pi 3 goes on after the OFFER, without
/// REQUEST.
pub(in crate::dhcp) fn offer_hold_s(firmware: Option<Firmware>) -> u64 {
    let is_pi = firmware.is_some_and(|firmware| firmware.role == FirmwareRole::RaspberryPi);
    if is_pi { OFFER_HOLD_RASPBERRY_PI_S } else { OFFER_HOLD_S }
}
