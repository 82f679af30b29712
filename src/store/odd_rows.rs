//! Rows of the lease database that ringboot cannot read: it logs them, and keeps their addresses
//! back.

use std::net::Ipv4Addr;

use super::lease_store::OddRow;
use crate::dhcp::lease::{ClockSeconds, Lease, LeaseRowState};
use crate::model::machine::Mac;

/// How long the address of such a row is kept back, in seconds: a client may hold it.
const ODD_KEPT_S: u64 = 24 * 3600;
/// Most rows that the log names; further ones are counted.
const ODD_NAMED_MAX: usize = 10;

/// Logs the rows that cannot be read, and returns leases that keep their addresses back.
pub fn recover_odd_leases(odd: &[OddRow], now: ClockSeconds) -> Vec<Lease> {
    for OddRow { address, why } in odd.iter().take(ODD_NAMED_MAX) {
        let whose = address.map_or("a lease without an address".to_owned(), |address| {
            format!("the lease of {address}")
        });
        tracing::error!("{whose} is set aside: {why}. Correct or delete the row");
    }
    if odd.len() > ODD_NAMED_MAX {
        tracing::error!("{} more leases are set aside", odd.len() - ODD_NAMED_MAX);
    }

    odd.iter().filter_map(|row| row.address).map(|address| keep_back(address, now)).collect()
}

/// A declined lease, so that no client gets an address that another one may hold.
fn keep_back(address: Ipv4Addr, now: ClockSeconds) -> Lease {
    Lease {
        address,
        mac: Mac([0; 6]),
        client_id: None,
        uuid: None,
        firmware: None,
        host_name: None,
        state: LeaseRowState::Declined,
        start_s: now,
        end_s: now + ODD_KEPT_S,
    }
}
