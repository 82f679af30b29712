//! The contract of a lease store, and the data that goes in and out.

use std::net::Ipv4Addr;

use super::error::StoreError;
use crate::dhcp::lease::{BootTimes, Lease, LeaseChange};
use crate::dhcp::other_servers::LookResult;

/// The place where leases outlive the process. It is a trait so that a test can delay a sync.
pub trait LeaseStore: Send {
    /// Loads every row, at the start.
    fn load(&mut self) -> Result<Vec<Lease>, StoreError>;

    /// Makes these changes durable in this order, all or none, and returns after they are synced.
    /// Changes that need not be durable are ignored.
    fn commit(&mut self, changes: &[LeaseChange]) -> Result<(), StoreError>;

    /// Checks, once a second and after a failed commit, whether the next commit will be kept where
    /// the next start looks for it. Repairs what it can; `recall` returns the leases in memory.
    /// Returns rows that could not be read before.
    fn look(
        &mut self,
        _recall: &mut dyn FnMut() -> Option<RememberedState>,
    ) -> Result<Option<StoredRows>, StoreError> {
        Ok(None)
    }
}

/// Everything that a new database gets from memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RememberedState {
    /// The leases, without offers.
    pub leases: Vec<Lease>,
    /// Machines that booted from the network, with the time when each was last seen.
    pub machines: BootTimes,
}

/// The content of a database from an earlier run. At the start it has no leases:
/// `KeptDatabase::each_lease` hands them over.
#[derive(Debug, Default)]
pub struct StoredRows {
    /// How far the clock of the leases is ahead of the time since boot, in seconds.
    pub ahead_s: i64,
    /// The leases that could be read.
    pub leases: Vec<Lease>,
    /// The rows that could not.
    pub odd: Vec<OddRow>,
    /// Machines that booted from the network, with the time when each was last seen.
    pub machines: BootTimes,
    /// The last look for other servers on each subnet.
    pub looks: Vec<LookResult>,
}

/// A row of the lease table that ringboot cannot have written. It stays in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddRow {
    /// The address of the row, which a client may hold; None: it cannot be read.
    pub address: Option<Ipv4Addr>,
    /// What is wrong with the row, in one sentence.
    pub why: String,
}
