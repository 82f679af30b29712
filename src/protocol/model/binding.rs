//! The machine that has an address, as TFTP and HTTP see it.

use super::machine::Machine;

/// The machine that has an address, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBinding {
    /// The machine, with the firmware of its last boot stage.
    pub machine: Machine,
    /// End of the lease or of the offer, seconds of the lease clock.
    pub lease_end_s: u64,
}
