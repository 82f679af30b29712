//! Other DHCP servers on served subnets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The results of looks for other DHCP servers, one for each subnet with an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LookList {
    /// One entry for each subnet with an interface.
    pub looks: Vec<SubnetLook>,
    /// Whether a new look was requested and has not begun yet.
    pub again: bool,
}

/// The result of a look on one subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubnetLook {
    /// Network in CIDR form.
    pub subnet: String,
    /// Interface of the subnet.
    pub interface: String,
    /// The result as a sentence of the log, with its age.
    pub said: String,
    /// Whether the first look is running: the server offers no address until it ends.
    pub looking: bool,
    /// Seconds since another server last answered. Null: none has.
    pub answered_s: Option<u64>,
    /// Seconds since the last look began. Null: none has begun.
    pub looked_s: Option<u64>,
    /// Seconds until the next look. Null: now.
    pub next_look_s: Option<u64>,
}

/// A new look was requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LookOrder {
    /// Always true.
    pub again: bool,
}
