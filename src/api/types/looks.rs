//! Other DHCP servers on served subnets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is known of other DHCP servers, one entry for each subnet with an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LookList {
    pub looks: Vec<SubnetLook>,
    /// Whether a new look was ordered and has not begun yet.
    pub again: bool,
}

/// What is known of one subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubnetLook {
    /// Network in CIDR form.
    pub subnet: String,
    pub interface: String,
    /// What is known, in the words of the log, with its age.
    pub said: String,
    /// Whether the first look is under way: no address is offered until it is over.
    pub looking: bool,
    /// Seconds since another server last answered.
    pub answered_s: Option<u64>,
    /// Seconds since the last look began.
    pub looked_s: Option<u64>,
    /// Seconds until the next look. Null: now.
    pub next_look_s: Option<u64>,
}

/// A new look was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LookOrder {
    /// Always true.
    pub again: bool,
}
