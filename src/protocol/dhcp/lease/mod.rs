//! The lease table in memory: a state machine per address, found by address and by machine. The
//! caller passes the time in, as seconds of the lease clock.
//!
//! | state | enters on | leaves on |
//! |---|---|---|
//! | FREE | start, lapsed offer, end of quarantine | offer |
//! | OFFERED | `LeaseChange::Offer` | bind; another server chosen; the hold is over; reused, oldest first, when nothing is free or ended |
//! | BOUND | `LeaseChange::Bind`, durable first | its end, release, decline |
//! | EXPIRED | the end of a lease, `LeaseChange::Release` | the same machine binds again; reused, oldest first, when nothing is free |
//! | DECLINED | `LeaseChange::Decline` | its timer; reused, oldest first, when nothing else is left |

mod booted;
mod change;
mod choose;
mod client;
mod entry;
mod load;
mod offers;
mod reconfigure;
mod table;
mod table_rows;
#[cfg(test)]
mod tests;

pub use super::lease_record::{
    BootTimes, Circuit, ClockSeconds, Lease, LeaseChange, LeaseRowState,
};
pub(in crate::dhcp) use choose::AddressRequest;
pub(in crate::dhcp) use client::{AddressAvailability, ClientIdentity};
pub(in crate::dhcp) use entry::offer_hold_s;
pub use table::LeaseTable;
