//! How patient a machine is, and how much faster than real firmware it waits.

use std::time::Duration;

/// The fleet's relation to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetPace {
    /// Firmware's long waits (DHCP, a broken connection, a dead server) are divided by this: 1
    /// waits as firmware does. Never 0.
    pub haste: u32,
    /// Firmware waits even where nothing is lost, such as for an answer of a ProxyDHCP server that
    /// is not there: kept or left out.
    pub idle_waits: bool,
    /// A boot ends where its firmware gives up; else machines begin every step again, for as long
    /// as their patience lasts.
    pub gives_up: bool,
    /// How long one step may go on without any progress.
    pub patience: Duration,
}

impl FleetPace {
    /// A wait of firmware, scaled.
    pub(super) fn hurried(&self, wait: Duration) -> Duration {
        wait / self.haste.max(1)
    }
}
