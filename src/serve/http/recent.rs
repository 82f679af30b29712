//! Names that were looked up in this turn: requests that arrived together share one look at the
//! disk.

use std::rc::Rc;

use crate::http::media::find_media_type;
use crate::images::{CleanPath, ServedContent};

/// Most names that one turn remembers; further names are looked up for each request.
const NAMES_MAX: usize = 32;

/// The files that this turn has looked up. The core forgets them at the end of the turn: a request
/// that arrives later must see every change that was made before it was sent.
///
/// *Why not longer, with one `fstatat` in place of openat2, fstat and close?* It follows links out
/// of the root where openat2 with RESOLVE_BENEATH refuses them, and it waits for the disk where
/// RESOLVE_CACHED says EAGAIN: the core would wait with it.
#[derive(Debug, Default)]
pub(super) struct RecentNames {
    names: Vec<(Vec<u8>, NamedFile)>,
}

/// A plain file under its name. Content that is made for one machine is not shared.
#[derive(Clone, Debug)]
pub(super) struct NamedFile {
    pub(super) path: Rc<CleanPath>,
    /// Its Content-Type.
    pub(super) media: &'static str,
    pub(super) content: ServedContent,
}

impl RecentNames {
    pub(super) fn find(&self, target: &[u8]) -> Option<NamedFile> {
        self.names.iter().find(|(known, _)| known == target).map(|(_, named)| named.clone())
    }

    pub(super) fn remember(&mut self, target: &[u8], path: &CleanPath, content: &ServedContent) {
        if self.names.len() < NAMES_MAX {
            let media = find_media_type(path.as_bytes());
            let named = NamedFile { path: Rc::new(path.clone()), media, content: content.clone() };
            self.names.push((target.to_vec(), named));
        }
    }

    pub(super) fn forget(&mut self) {
        self.names.clear();
    }
}
