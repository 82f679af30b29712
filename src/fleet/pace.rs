//! A machine's patience, and the factor by which it waits less than real firmware.

use std::time::Duration;

/// The fleet's relation to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetPace {
    /// Firmware's long waits (DHCP, a broken connection, a dead server) are divided by this: 1
    /// waits as firmware does. Never 0.
    pub haste: u32,
    /// Keep firmware's waits in which nothing is lost, such as the wait for a ProxyDHCP server that
    /// does not exist.
    pub idle_waits: bool,
    /// A boot ends when its firmware gives up; else machines repeat every step as long as their
    /// patience lasts.
    pub gives_up: bool,
    /// Time without progress in one step after which a machine gives up.
    pub patience: Duration,
}

impl FleetPace {
    /// A wait of firmware, scaled.
    pub(super) fn scale_wait(&self, wait: Duration) -> Duration {
        wait / self.haste.max(1)
    }
}
