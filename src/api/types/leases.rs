//! Leases and other states of addresses.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

words! {
    /// The state of an address.
    LeaseState {
        /// A machine has a lease.
        Bound => "bound",
        /// Offered to a machine that has not requested it yet.
        Offered => "offered",
        /// The lease expired; the machine gets the address again while it is free.
        Ended => "ended",
        /// The machine gave the address back (RELEASE).
        Released => "released",
        /// A machine declined the address, because another host uses it.
        Declined => "declined",
        /// A host without a lease uses the address.
        InUse => "in-use",
    }
}

/// A filter for leases. A parameter that is left out excludes none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LeaseQuery {
    /// State of the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<LeaseState>,
    /// Hardware address of the machine, in any spelling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Network of the address, in CIDR form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// Only addresses above this one: the next page of a long list.
    #[param(value_type = Option<String>, format = Ipv4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Ipv4Addr>,
}

/// How an address is freed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReleaseQuery {
    /// Free also an address that a machine has now.
    #[serde(default)]
    pub force: bool,
}

/// Leases in the order of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseList {
    /// One page of the addresses that match the query.
    pub leases: Vec<LeaseEntry>,
    /// The states of all addresses that match.
    pub counts: LeaseCounts,
    /// Matching addresses after this page: ask again with the last address as `after`.
    pub left_out: usize,
    /// Machines and segments that are limited because they declined too many addresses.
    pub limited: Vec<LimitedClient>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseEntry {
    /// The address.
    #[schema(value_type = String, format = Ipv4)]
    pub address: Ipv4Addr,
    /// Hardware address of the machine that has it, had it or declined it.
    pub machine: String,
    /// Its state.
    pub state: LeaseState,
    /// Seconds until the state ends. Negative: it ended that long ago. Null: it does not end.
    pub left_s: Option<i64>,
    /// The program that requested it: `pxe+uefi-x64`.
    pub firmware: Option<String>,
    /// The host name that the machine sent (option 12).
    pub host_name: Option<String>,
}

/// The number of addresses in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseCounts {
    /// Addresses with a lease.
    pub bound: usize,
    /// Offered addresses.
    pub offered: usize,
    /// Addresses whose lease expired.
    pub ended: usize,
    /// Addresses that their machine gave back.
    pub released: usize,
    /// Declined addresses.
    pub declined: usize,
    /// Addresses that a host without a lease uses.
    #[serde(rename = "in-use")]
    pub in_use: usize,
}

impl LeaseCounts {
    /// Counts one address.
    pub fn add(&mut self, state: LeaseState) {
        *self.place(state) += 1;
    }

    /// The count of a state.
    pub fn read(mut self, state: LeaseState) -> usize {
        *self.place(state)
    }

    fn place(&mut self, state: LeaseState) -> &mut usize {
        match state {
            LeaseState::Bound => &mut self.bound,
            LeaseState::Offered => &mut self.offered,
            LeaseState::Ended => &mut self.ended,
            LeaseState::Released => &mut self.released,
            LeaseState::Declined => &mut self.declined,
            LeaseState::InUse => &mut self.in_use,
        }
    }
}

/// A machine, or a part of the network, that declined too many addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitedClient {
    /// Hardware address. Null: the limit is for a segment, a relay agent or a circuit of one.
    pub machine: Option<String>,
    /// Seconds until the limit ends.
    pub left_s: u64,
    /// The limit as a sentence.
    pub said: String,
}

/// The result of freeing addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FreedLeases {
    /// The number of freed addresses.
    pub freed: usize,
    /// The same as a sentence.
    pub said: String,
}
