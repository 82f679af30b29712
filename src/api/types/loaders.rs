//! Boot loaders on the server's machine.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Boot loaders of the served root and of this machine's packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoaderList {
    /// Directory that was searched beside the packages.
    pub root: Option<String>,
    pub loaders: Vec<LoaderEntry>,
    /// Kinds of firmware for which no loader was found.
    pub missing: Vec<MissingLoader>,
}

/// One boot loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoaderEntry {
    /// Key of `[boot]` that it is for.
    pub key: String,
    /// File name.
    pub name: String,
    /// Where it is.
    pub path: String,
    pub version: Option<String>,
    /// Whether it is signed for Secure Boot. Null: this kind of file carries no signature.
    pub signed: Option<bool>,
}

/// A kind of firmware without a loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingLoader {
    /// Key of `[boot]`.
    pub key: String,
    /// Packages that bring one, by distribution.
    pub packages: String,
}
