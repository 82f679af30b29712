//! What machines get less of than they ask for.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Whom a limit is for.
    QuirkKind {
        /// One machine, by its hardware address.
        Machine => "machine",
        /// All machines of a maker, by the first half of their hardware addresses.
        Oui => "oui",
        /// All machines with this firmware.
        VendorClass => "vendor-class",
    }
}

words! {
    /// Where a limit comes from, in the order in which one goes before the other.
    QuirkOrigin {
        /// An operator pinned it.
        Pinned => "pinned",
        /// `[[quirk]]` in the configuration.
        Configured => "configured",
        /// The server learnt it from transfers that failed.
        Learnt => "learnt",
        /// It is part of ringboot.
        Shipped => "shipped",
    }
}

/// Everything that limits any machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuirkList {
    pub quirks: Vec<QuirkEntry>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuirkEntry {
    /// Hardware address, the first half of one, or vendor class.
    pub subject: String,
    pub kind: QuirkKind,
    pub limits: QuirkLimits,
    pub origin: QuirkOrigin,
    /// When it was learnt or pinned, in seconds since 1970. Null: it holds for ever.
    pub since_s: Option<u64>,
    /// When a transfer with it first worked, in seconds since 1970.
    pub works_s: Option<u64>,
    /// Whether it is not applied for now, to see whether it is still needed.
    pub on_trial: bool,
    /// Why it is there.
    pub why: String,
}

/// What is granted at most. Null: as much as is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuirkLimits {
    /// Blocks in a TFTP window; 1: the option is not granted.
    #[schema(minimum = 1)]
    pub windowsize: Option<u16>,
    /// Bytes in a TFTP block; 512: the option is not granted.
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
    pub limits: QuirkLimits,
}

/// A limit that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForgottenQuirk {
    /// Hardware address, the first half of one, or vendor class.
    pub subject: String,
}
