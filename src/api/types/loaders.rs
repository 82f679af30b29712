//! Boot loaders on the server's machine.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Boot loaders of the served root and of this machine's packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoaderList {
    /// Root that was searched besides the packages. Null: none.
    pub root: Option<String>,
    /// Loaders of the root, then those of packages.
    pub loaders: Vec<LoaderEntry>,
    /// Kinds of firmware for which no loader was found.
    pub missing: Vec<MissingLoader>,
}

/// One boot loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoaderEntry {
    /// Key of `[boot]` to which it fits.
    pub key: String,
    /// File name.
    pub name: String,
    /// Path of its file.
    pub path: String,
    /// Version in the file. Null: the file has none.
    pub version: Option<String>,
    /// Whether it is signed for Secure Boot. Null: this kind of file carries no signature.
    pub signed: Option<bool>,
}

/// A kind of firmware without a loader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MissingLoader {
    /// Key of `[boot]`.
    pub key: String,
    /// Packages with such a loader, by distribution.
    pub packages: String,
}
