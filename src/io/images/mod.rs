//! Boot images: names under the root become contents that cores can send without touching a disk.
//!
//! A core asks its [`NameCatalog`] for a clean path. What the kernel's name cache and our mappings
//! answer is answered at once; everything that could wait for a disk becomes a [`CatalogQuestion`]
//! for the [`Images`] workers. What pieces of large files are kept in memory is the
//! [`ImageMemory`]'s business, inside a budget.

mod catalog;
mod ceiling;
mod content;
mod copies;
mod directories;
mod fence;
mod limits;
mod lock;
mod mapped;
mod memory;
mod path;
mod reserve;
mod residency;
mod root;
mod stat;
mod watch;
mod workers;

pub use catalog::{CatalogQuestion, Found, Images, NameCatalog};
pub use ceiling::MemoryCeiling;
pub use content::{Content, ContentMeta, Piece, WeakContent};
pub use copies::{CopiesUse, CopyBudget, CopyShare};
pub use directories::Listing;
pub use fence::{RootFence, canonical, runs_as_root};
pub use limits::*;
pub use lock::{may_lock, raise_locked_memory};
pub use memory::{ImageMemory, ImageMemoryUse};
pub use path::{CleanPath, Refusal, clean, clean_tftp, without_prefix, without_trailing_garbage};
pub use workers::{Busy, OwedAnswer, ReadUrgency, WorkAsker, Workers};
