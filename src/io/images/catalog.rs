//! From a clean path to a content: the core answers from the kernel's name cache, a worker finds
//! the rest.
//!
//! No index of names must follow the disk: each request asks the kernel, with RESOLVE_CACHED. So
//! the very next request sees a file that was added, replaced or removed, and a name that needs a
//! disk returns EAGAIN at once.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::content::{ContentBody, FileIdentity, ServedContent};
use super::limits::{MAPPINGS_MAX, REMOTE_TRUSTED};
use super::path::{CleanPath, NameRefusal};
use super::stat::{is_directory_stat, stat_known_file};
use super::store::{CatalogAnswer, CatalogQuestion, ImageStore};

/// Entries in a core's own map before the core drops the dead ones.
const KNOWN_MAX: usize = 2 * MAPPINGS_MAX;

/// One core's view: the core's own map of contents that [`ImageStore`] owns.
#[derive(Debug)]
pub struct ImageCatalog {
    images: Arc<ImageStore>,
    /// Each content, and when a worker last checked its file.
    known: HashMap<FileIdentity, (Weak<ContentBody>, Instant)>,
}

impl ImageCatalog {
    /// A view for one more core.
    pub fn new(images: &Arc<ImageStore>) -> Self {
        Self { images: Arc::clone(images), known: HashMap::new() }
    }

    /// The store behind this view.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    /// Looks a path up without waiting for a disk.
    pub fn find(&mut self, path: &CleanPath) -> CatalogAnswer {
        if !self.images.names.root.is_known() {
            return CatalogAnswer::Ask(CatalogQuestion { path: path.clone(), found: None });
        }
        let found = match self.images.names.resolve_path(path, true) {
            Ok(found) => found,
            Err(NameRefusal::Busy) => {
                return CatalogAnswer::Ask(CatalogQuestion { path: path.clone(), found: None });
            }
            Err(refusal) => return CatalogAnswer::Refused(refusal),
        };
        let stat = match stat_known_file(&found) {
            Ok(stat) => stat,
            Err(refusal) => return CatalogAnswer::Refused(refusal),
        };
        if is_directory_stat(&stat) {
            return CatalogAnswer::Directory;
        }
        if let Err(refusal) = self.images.names.check_servable(&stat) {
            return CatalogAnswer::Refused(refusal);
        }
        let identity = FileIdentity::from_stat(&stat);
        let known = self.known.get(&identity).filter(|(_, looked)| {
            // The kernel's cache of a file on a file server may be stale.
            !self.images.devices.is_remote(identity.device) || looked.elapsed() < REMOTE_TRUSTED
        });
        match known.and_then(|(body, _)| body.upgrade()) {
            Some(body) => {
                let content = ServedContent::from_body(body);
                self.images.touch(&content);
                CatalogAnswer::Content(content)
            }
            None => CatalogAnswer::Ask(CatalogQuestion { path: path.clone(), found: Some(found) }),
        }
    }

    /// Remembers a content that a worker has loaded, so that the core answers the next request at
    /// once.
    pub fn remember(&mut self, content: &ServedContent) {
        if let Some(identity) = content.identity() {
            if self.known.len() >= KNOWN_MAX {
                self.known.retain(|_, (body, _)| body.strong_count() > 0);
            }
            self.known.insert(identity, (Arc::downgrade(content.body()), Instant::now()));
        }
    }
}
