//! The fence around the served tree, for the server and for `ringboot check`.

use std::path::Path;

use super::check::FileReader;
use super::loaders::BorrowedFiles;
use crate::config::Config;
use crate::images::{NameResolver, RootFence, resolve_links};

/// What the server serves beside the files of the root, and what it never serves.
pub fn build_fence(config: &Config, borrowed: &BorrowedFiles, reader: FileReader) -> RootFence {
    let private: Vec<&Path> =
        config.places.path().into_iter().chain([config.state.as_path()]).collect();
    RootFence {
        borrowed: borrowed.files.clone(),
        links: config.links.iter().map(|place| resolve_links(place)).collect(),
        only_world_readable: reader == FileReader::Root,
        ..RootFence::from_private_paths(&private)
    }
}

/// Opens the root for questions where names lead. Waits for the disk.
pub fn open_resolver(
    config: &Config,
    borrowed: &BorrowedFiles,
    reader: FileReader,
) -> std::io::Result<NameResolver> {
    NameResolver::open(&config.root, build_fence(config, borrowed, reader))
}
