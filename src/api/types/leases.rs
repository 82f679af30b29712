//! Who has which address.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

words! {
    /// How an address stands.
    LeaseState {
        /// A lease runs.
        Bound => "bound",
        /// Offered, and not confirmed yet.
        Offered => "offered",
        /// The lease is over, and the machine gets the address again where it can.
        Ended => "ended",
        /// The same by the machine's own word.
        Released => "released",
        /// A machine said that another host has it.
        Declined => "declined",
        /// A host answers for it that has no lease.
        InUse => "in-use",
    }
}

/// Which leases are wanted. A parameter that is left out excludes none.
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
    /// Addresses beyond this one: the next piece of a long list.
    #[param(value_type = Option<String>, format = Ipv4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Ipv4Addr>,
}

/// How an address is let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReleaseQuery {
    /// Also an address that a machine has now.
    #[serde(default)]
    pub force: bool,
}

/// Leases in the order of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseList {
    pub leases: Vec<LeaseEntry>,
    pub counts: LeaseCounts,
    /// Addresses that are counted and not listed, because there are too many: ask again with the
    /// last address as `after`.
    pub left_out: usize,
    /// Who gets less for what was declined.
    pub limited: Vec<LimitedClient>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseEntry {
    #[schema(value_type = String, format = Ipv4)]
    pub address: Ipv4Addr,
    /// Hardware address of the machine that has it, had it or declined it.
    pub machine: String,
    pub state: LeaseState,
    /// Seconds that are left. Less than 0: over since. Null: without end.
    pub left_s: Option<i64>,
    /// What asked for it: `pxe+uefi-x64`.
    pub firmware: Option<String>,
    /// The name that the machine gave itself.
    pub host_name: Option<String>,
}

/// How many addresses are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseCounts {
    pub bound: usize,
    pub offered: usize,
    pub ended: usize,
    pub released: usize,
    pub declined: usize,
    #[serde(rename = "in-use")]
    pub in_use: usize,
}

impl LeaseCounts {
    pub fn add(&mut self, state: LeaseState) {
        *self.place(state) += 1;
    }

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

/// A machine, or a part of the network, that declined too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitedClient {
    /// Hardware address. Null: it is a segment, a relay agent or a circuit of one.
    pub machine: Option<String>,
    /// Seconds that are left.
    pub left_s: u64,
    /// Who is limited, and how: a sentence.
    pub said: String,
}

/// What was let go of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FreedLeases {
    /// How many addresses are free now.
    pub freed: usize,
    /// The same as a sentence.
    pub said: String,
}
