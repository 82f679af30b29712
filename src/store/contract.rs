//! What a store of leases promises, and what it is given and gives back.

use std::net::Ipv4Addr;

use super::error::StoreError;
use crate::dhcp::lease::{BootTimes, Lease, LeaseChange};
use crate::dhcp::other_servers::LookResult;

/// Where leases outlive the process. A trait, so that a test can hold a sync back, and for a shared
/// database later.
pub trait LeaseStore: Send {
    /// Every row, at the start.
    fn load(&mut self) -> Result<Vec<Lease>, StoreError>;

    /// Makes these changes durable in this order, all or none; returns only after they are synced.
    /// Volatile ones are ignored.
    fn commit(&mut self, changes: &[LeaseChange]) -> Result<(), StoreError>;

    /// Asked once a second, and after a commit has failed: whether the next commit will be kept
    /// where the next start looks for it. What is broken is mended where that can be done; rows
    /// that could not be read before are returned.
    fn look(
        &mut self,
        _recall: &mut dyn FnMut() -> Option<RememberedState>,
    ) -> Result<Option<StoredRows>, StoreError> {
        Ok(None)
    }
}

/// All that memory knows and the store keeps, for a file that is written anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RememberedState {
    pub leases: Vec<Lease>,
    /// Machines that booted from the network, and when they were seen last.
    pub machines: BootTimes,
}

/// What an earlier run has left. At the start without its leases: `KeptDatabase::each_lease` hands
/// them over.
#[derive(Debug, Default)]
pub struct StoredRows {
    /// By how much the clock that the leases go on by is ahead of the time since boot.
    pub ahead_s: i64,
    pub leases: Vec<Lease>,
    pub odd: Vec<OddRow>,
    pub machines: BootTimes,
    pub looks: Vec<LookResult>,
}

/// A row of the lease table that no ringboot wrote. It stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddRow {
    /// Somebody may hold it.
    pub address: Option<Ipv4Addr>,
    pub why: String,
}
