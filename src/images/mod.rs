//! Boot images: names under the root become contents that cores can send without touching a disk.
//!
//! A core asks its [`Catalog`] for a clean path. What the kernel's name cache and our mappings answer is answered at
//! once; everything that could wait for a disk becomes a [`Question`] for the [`Images`] workers.

mod catalog;
mod content;
mod fence;
mod limits;
mod path;
mod workers;

pub use catalog::{Catalog, Found, Images, Question};
pub use content::{Content, ContentMeta, Piece};
pub use fence::{Fence, canonical, runs_as_root};
pub use limits::*;
pub use path::{CleanPath, Refusal, clean, clean_tftp, without_prefix, without_trailing_garbage};
pub use workers::{Busy, Workers};
