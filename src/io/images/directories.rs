//! Names in directories, kept until the directory changes: the server reads a listing of 100,000
//! names once.

use std::collections::HashMap;
use std::fs::DirEntry;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::content::FileIdentity;
use super::hidden_names::is_hidden_name;
use super::limits::{DIRECTORIES_MAX, NAMES_KEPT_MAX};

/// The names in a directory: without hidden ones, directories with a trailing `/`, sorted.
#[derive(Debug, Default)]
pub struct DirectoryListing {
    names: Vec<String>,
    /// Names by their lower-case form; None if several names share that form.
    folded: OnceLock<HashMap<String, Option<usize>>>,
}

impl DirectoryListing {
    /// The names, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads a directory. Waits for the disk.
    pub(super) fn read(directory: &impl AsRawFd) -> std::io::Result<Self> {
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        let mut names: Vec<String> = entries.flatten().filter_map(read_listed_name).collect();
        names.sort_unstable();
        Ok(Self { names, folded: OnceLock::new() })
    }

    /// The one name that differs from this one in the case of ASCII letters only.
    pub(super) fn ignoring_case(&self, name: &str) -> Option<&str> {
        let folded = self.folded.get_or_init(|| {
            let mut folded = HashMap::with_capacity(self.names.len());
            for (at, name) in self.names.iter().enumerate() {
                let key = name.trim_end_matches('/').to_ascii_lowercase();
                folded.entry(key).and_modify(|found| *found = None).or_insert(Some(at));
            }
            folded
        });
        let at = (*folded.get(&name.to_ascii_lowercase())?)?;
        Some(self.names[at].trim_end_matches('/'))
    }
}

/// The name as the listing has it: a directory ends with `/`. None for a hidden name, and for one
/// that is no UTF-8.
fn read_listed_name(entry: DirEntry) -> Option<String> {
    let name =
        entry.file_name().into_string().ok().filter(|name| !is_hidden_name(name.as_bytes()))?;
    // The kernel returns the kind with the name, except for links.
    let is_directory = match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => kind.is_dir(),
        _ => entry.path().is_dir(),
    };
    Some(if is_directory { name + "/" } else { name })
}

/// Recently used listings.
#[derive(Debug, Default)]
pub(super) struct DirectoryListings(Mutex<KeptListings>);

#[derive(Debug, Default)]
struct KeptListings {
    listings: HashMap<FileIdentity, (u64, Arc<DirectoryListing>)>,
    names: usize,
    /// A counter that ticks at each use.
    clock: u64,
}

impl DirectoryListings {
    pub(super) fn find(&self, identity: &FileIdentity) -> Option<Arc<DirectoryListing>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let clock = kept.clock;
        let (used, listing) = kept.listings.get_mut(identity)?;
        *used = clock;
        Some(Arc::clone(listing))
    }

    /// Keeps a listing that was read while the directory had this identity. Keeps none of a
    /// directory that has just changed: its next change may have the same timestamp.
    pub(super) fn keep(
        &self,
        identity: FileIdentity,
        listing: &Arc<DirectoryListing>,
        now: SystemTime,
    ) {
        const SETTLED: Duration = Duration::from_secs(2);
        let now_ns =
            now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        let has_settled =
            identity.ctime_ns.max(identity.mtime_ns) + (SETTLED.as_nanos() as i128) < now_ns;
        if !has_settled || listing.names.len() > NAMES_KEPT_MAX {
            return;
        }

        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        kept.clock += 1;
        if let Some((_, before)) = kept.listings.insert(identity, (kept.clock, Arc::clone(listing)))
        {
            kept.names -= before.names.len();
        }
        kept.names += listing.names.len();

        // Drop the least recently used listings beyond the limits.
        while kept.names > NAMES_KEPT_MAX || kept.listings.len() > DIRECTORIES_MAX {
            let oldest = kept
                .listings
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(identity, _)| *identity);
            let Some((_, gone)) = oldest.and_then(|identity| kept.listings.remove(&identity))
            else {
                return;
            };
            kept.names -= gone.names.len();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn identity(inode: u64) -> FileIdentity {
        FileIdentity { device: 1, inode, len: 0, mtime_ns: 1, ctime_ns: 1 }
    }

    fn listing(names: usize) -> Arc<DirectoryListing> {
        Arc::new(DirectoryListing {
            names: (0..names).map(|n| n.to_string()).collect(),
            folded: OnceLock::new(),
        })
    }

    #[test]
    fn listings_are_kept_within_bounds_and_the_least_used_goes() {
        let directories = DirectoryListings::default();
        let now = SystemTime::now();
        for inode in 0..3 {
            directories.keep(identity(inode), &listing(NAMES_KEPT_MAX / 3), now);
        }
        assert!(directories.find(&identity(0)).is_some());
        directories.keep(identity(3), &listing(10), now);
        assert!(directories.find(&identity(1)).is_none(), "used least");
        assert!(
            directories.find(&identity(0)).is_some() && directories.find(&identity(3)).is_some()
        );
        for inode in 10..10 + 2 * DIRECTORIES_MAX as u64 {
            directories.keep(identity(inode), &listing(1), now);
        }
        assert_eq!(directories.0.lock().unwrap().listings.len(), DIRECTORIES_MAX);
        directories.keep(identity(9), &listing(NAMES_KEPT_MAX + 1), now);
        assert!(directories.find(&identity(9)).is_none(), "larger than all that is kept");
    }

    #[test]
    fn a_directory_that_has_just_changed_is_not_kept() {
        let directories = DirectoryListings::default();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        directories.keep(identity(1), &listing(1), now);
        assert!(directories.find(&identity(1)).is_none());
    }

    #[test]
    fn a_name_is_found_whatever_its_case_unless_two_are_the_same_then() {
        let names = ["EFI/", "Boot", "bOOT", "ü"].map(str::to_owned).to_vec();
        let listing = DirectoryListing { names, folded: OnceLock::new() };
        assert_eq!(listing.ignoring_case("efi"), Some("EFI"));
        assert_eq!(listing.ignoring_case("boot"), None);
        assert_eq!(listing.ignoring_case("none"), None);
    }
}
