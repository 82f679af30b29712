//! Boot images: names under the root become contents that cores can send without touching a disk.
//!
//! A core asks its [`ImageCatalog`] for a clean path. What the kernel's name cache and our mappings
//! answer is answered at once; everything that could wait for a disk becomes a [`CatalogQuestion`]
//! for the [`ImageStore`] workers. What pieces of large files are kept in memory is the
//! [`ImageMemory`]'s business, inside a budget.

mod catalog;
mod ceiling;
mod content;
mod copies;
mod directories;
mod fence;
mod hidden_names;
mod limits;
mod lock;
mod mapped;
mod memory;
mod path;
mod remote;
mod reserve;
mod residency;
mod resolve;
mod root;
mod small_files;
mod stat;
mod store;
mod watch;
mod workers;

pub use catalog::ImageCatalog;
pub use ceiling::MemoryCeiling;
pub use content::{ContentMeta, MemoryPiece, ServedContent, WeakServedContent};
pub use copies::{CopiesUse, CopyBudget, CopyShare};
pub use directories::DirectoryListing;
pub use fence::{RootFence, resolve_links, runs_as_root};
pub use hidden_names::is_hidden_name;
pub use limits::*;
pub use lock::{may_lock_memory, raise_locked_memory};
pub use memory::{ImageMemory, ImageMemoryUse};
pub use path::{
    CleanPath, NameRefusal, clean_path_name, clean_tftp_name, strip_path_prefix,
    strip_trailing_garbage,
};
pub use resolve::{NameResolver, NameTarget};
pub use store::{CatalogAnswer, CatalogQuestion, ImageStore};
pub use workers::{DiskWorkers, JobAsker, OwedAnswer, PieceUrgency, WorkersBusy};
