//! Small files that are kept in memory whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::content::{FileIdentity, ServedContent};
use super::limits::SMALL_FILES_KEPT;

/// Small files in memory: those in use, and as many others as fit into [`SMALL_FILES_KEPT`].
#[derive(Debug, Default)]
pub(super) struct SmallFiles {
    pub(super) files: HashMap<FileIdentity, ServedContent>,
    bytes: u64,
}

impl SmallFiles {
    /// Keeps a file, if the files in use leave room for it. Drops the least recently used files to
    /// make room, many at a time.
    pub(super) fn keep(&mut self, identity: FileIdentity, content: &ServedContent) {
        if self.bytes + count_memory_cost(content) > SMALL_FILES_KEPT {
            // A body with a single reference belongs to this map alone: no transfer sends it.
            let idle =
                self.files.iter().filter(|(_, content)| Arc::strong_count(content.body()) == 1);
            let mut idle: Vec<(u64, FileIdentity)> = idle
                .map(|(id, content)| (content.body().used.load(Ordering::Relaxed), *id))
                .collect();
            idle.sort_unstable_by_key(|(used, _)| *used);
            for (_, id) in idle {
                // A quarter becomes free at a time, so that not every new file sorts the map.
                if self.bytes <= SMALL_FILES_KEPT / 4 * 3 {
                    break;
                }
                self.bytes -=
                    self.files.remove(&id).map_or(0, |content| count_memory_cost(&content));
            }
        }

        // Files in use may fill the memory: then the new one is not kept.
        if self.bytes + count_memory_cost(content) <= SMALL_FILES_KEPT {
            let before = self.files.insert(identity, content.clone());
            self.bytes += count_memory_cost(content)
                - before.map_or(0, |content| count_memory_cost(&content));
        }
    }
}

/// Memory that a small file takes, with its bookkeeping, bytes.
fn count_memory_cost(content: &ServedContent) -> u64 {
    const AROUND: u64 = 1024;
    content.len() + AROUND
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn small_files_that_nobody_uses_keep_no_more_than_their_memory() {
        let mut small = SmallFiles::default();
        let identity =
            |n: u64| FileIdentity { device: 1, inode: n, len: 65_536, mtime_ns: 0, ctime_ns: 0 };
        let file = |n| ServedContent::small_file(Bytes::from(vec![0; 65_536]), &identity(n));
        let used = file(0);
        small.keep(identity(0), &used);
        for n in 1..3000 {
            let content = file(n);
            content.body().used.store(n, Ordering::Relaxed);
            small.keep(identity(n), &content);
            assert!(small.bytes <= SMALL_FILES_KEPT);
        }
        assert_eq!(small.bytes, small.files.values().map(count_memory_cost).sum::<u64>());
        assert!(small.files.contains_key(&identity(0)), "in use");
        assert!(
            small.files.contains_key(&identity(2999)) && !small.files.contains_key(&identity(1))
        );
        let all: Vec<_> = small.files.values().cloned().collect();
        (4000..6000).for_each(|n| small.keep(identity(n), &file(n)));
        assert!(
            small.bytes <= SMALL_FILES_KEPT && all.len() > 500,
            "those in use stay, others are not kept"
        );
    }
}
