//! Which machine holds an address, and until when.

use super::machine::Machine;

/// The machine that holds an address, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    pub machine: Machine,
    /// Unix seconds.
    pub lease_end_s: u64,
}
