//! Limits of firmware.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// The machines for which a limit is.
    QuirkKind {
        /// One machine, by its hardware address.
        Machine => "machine",
        /// All machines of one maker, by the first half of their hardware addresses.
        Oui => "oui",
        /// All machines with this firmware.
        VendorClass => "vendor-class",
    }
}

words! {
    /// The origin of a limit. An earlier one in this list goes before a later one.
    QuirkOrigin {
        /// An operator pinned it.
        Pinned => "pinned",
        /// `[[quirk]]` in the configuration sets it.
        Configured => "configured",
        /// The server learnt it from transfers that failed.
        Learnt => "learnt",
        /// It is part of ringboot.
        Shipped => "shipped",
    }
}

/// Every limit of any machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuirkList {
    /// Learnt and pinned limits, then configured ones, then shipped ones.
    pub quirks: Vec<QuirkEntry>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuirkEntry {
    /// Hardware address, the first half of one, or vendor class.
    pub subject: String,
    /// The kind of the subject.
    pub kind: QuirkKind,
    /// The limits.
    pub limits: QuirkLimits,
    /// Where they come from.
    pub origin: QuirkOrigin,
    /// Time when it was learnt or pinned, in seconds since 1970. Null: it is configured or shipped.
    pub since_s: Option<u64>,
    /// Time when a transfer with it first worked, in seconds since 1970. Null: none has.
    pub works_s: Option<u64>,
    /// Whether the server does not apply it for now, to see whether it is still needed.
    pub on_trial: bool,
    /// The reason for it.
    pub why: String,
}

/// What the server grants at most. Null: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuirkLimits {
    /// Blocks in a TFTP window; 1: the server refuses the option.
    #[schema(minimum = 1)]
    pub windowsize: Option<u16>,
    /// Bytes in a TFTP block; 512: the server refuses the option.
    #[schema(minimum = 8, maximum = 65464)]
    pub blksize: Option<u16>,
    /// Bytes a second on one HTTP connection.
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub http_rate: Option<NonZeroU64>,
}

/// A limit that was pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinnedQuirk {
    /// Hardware address, the first half of one, or vendor class.
    pub subject: String,
    /// The pinned limits.
    pub limits: QuirkLimits,
}

/// A limit that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForgottenQuirk {
    /// Hardware address, the first half of one, or vendor class.
    pub subject: String,
}
