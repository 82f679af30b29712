//! From a clean path to a content: what the kernel's name cache knows is found on the core, the rest by a worker.
//!
//! There is no index of names to keep in step with the disk: each request asks the kernel, with RESOLVE_CACHED, so that a file
//! added, replaced or removed is seen by the very next request, and a name that would need a disk comes back at once as EAGAIN.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use super::ceiling::Ceiling;
use super::content::{Body, Content, Identity};
use super::fence::Fence;
use super::limits::{INLINE_BYTES_MAX, MAPPINGS_MAX, WHOLE_BYTES_MAX};
use super::memory::ImageMemory;
use super::path::{CleanPath, Refusal};
use super::workers::{Busy, Workers};

/// Entries that a core's own map of mappings may hold before it forgets the dead ones.
const KNOWN_MAX: usize = 2 * MAPPINGS_MAX;

/// The root directory and every mapping of it, shared by all cores and workers.
#[derive(Debug)]
pub struct Images {
    root: OwnedFd,
    path: PathBuf,
    fence: Fence,
    memory: Arc<ImageMemory>,
    workers: Workers,
    /// Holds one reference to each mapping, so that a core never runs the last drop (munmap): only a worker does, here.
    loaded: Mutex<HashMap<Identity, Content>>,
    /// Ticks at each use; a mapping remembers its last tick.
    clock: AtomicU64,
}

/// One core's view: a map of its own over mappings that [`Images`] holds.
#[derive(Debug)]
pub struct Catalog {
    images: Arc<Images>,
    known: HashMap<Identity, Weak<Body>>,
}

/// What a core learns at once.
#[derive(Debug)]
pub enum Found {
    Content(Content),
    Directory,
    Refused(Refusal),
    /// Needs a worker: hand it to [`Images::answer`].
    Ask(Question),
}

/// Work for a worker: look a path up, or open what has been found.
#[derive(Debug)]
pub struct Question {
    path: CleanPath,
    found: Option<OwnedFd>,
}

impl Images {
    /// Opens the root directory, with nothing private in it and nothing borrowed.
    pub fn open(root: &Path, workers: Workers) -> io::Result<Arc<Self>> {
        let memory = ImageMemory::new(Ceiling::read().budget(None));
        Self::open_fenced(root, Fence::around(root, &[]), memory, workers)
    }

    /// Opens the root directory. An error also where nothing beneath it could be opened.
    pub fn open_fenced(root: &Path, fence: Fence, memory: Arc<ImageMemory>, workers: Workers) -> io::Result<Arc<Self>> {
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_PATH)
            .open(root)?;
        let directory = OwnedFd::from(directory);
        openat2(&directory, c".", libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS).map_err(explained)?;
        Ok(Arc::new(Self {
            root: directory,
            path: root.to_path_buf(),
            fence,
            memory,
            workers,
            loaded: Mutex::default(),
            clock: AtomicU64::new(0),
        }))
    }

    pub fn root(&self) -> &Path {
        &self.path
    }

    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What of the images is in memory.
    pub fn memory(&self) -> &Arc<ImageMemory> {
        &self.memory
    }

    /// A view for one more core.
    pub fn catalog(self: &Arc<Self>) -> Catalog {
        Catalog { images: Arc::clone(self), known: HashMap::new() }
    }

    /// Answers on a worker thread; `reply` runs there too.
    pub fn answer(
        self: &Arc<Self>,
        question: Question,
        reply: impl FnOnce(Result<Content, Refusal>) + Send + 'static,
    ) -> Result<(), Busy> {
        let images = Arc::clone(self);
        self.workers.run(move || reply(images.load(question)))
    }

    /// Looks a path up and loads it. Waits for the disk: workers only.
    pub fn find_waiting(&self, path: &CleanPath) -> Found {
        let found = match self.resolve(path, false) {
            Ok(found) => found,
            Err(refusal) => return Found::Refused(refusal),
        };
        if stat(&found).is_ok_and(|stat| is_directory(&stat)) {
            return Found::Directory;
        }
        match self.load(Question { path: path.clone(), found: Some(found) }) {
            Ok(content) => Found::Content(content),
            Err(refusal) => Found::Refused(refusal),
        }
    }

    /// The one path that differs from this one in the case of its letters only (T-60). Waits for the disk: workers only.
    pub fn find_ignoring_case(&self, path: &CleanPath) -> Option<CleanPath> {
        let mut real = CleanPath::root();
        for component in path.as_bytes().split(|&b| b == b'/') {
            let names = self.list(&real).ok()?;
            let mut matches = names
                .iter()
                .map(|name| name.trim_end_matches('/'))
                .filter(|name| name.as_bytes().eq_ignore_ascii_case(component));
            let name = matches.next()?;
            if matches.next().is_some() {
                return None;
            }
            real = real.child(name);
        }
        Some(real)
    }

    /// Reads a file whole, whatever its size up to [`WHOLE_BYTES_MAX`] (netascii, templates). Waits for the disk: workers only.
    pub fn read_whole(&self, path: &CleanPath) -> Result<(Vec<u8>, Content), Refusal> {
        let (file, identity) = self.open_regular(self.resolve(path, false)?)?;
        if identity.len > WHOLE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let bytes = read_exactly(&file, identity.len)?;
        let content = Content::small_file(Bytes::from(bytes.clone()), &identity);
        Ok((bytes, content))
    }

    /// Names in a directory, hidden ones left out, directories with a trailing `/`, sorted. Waits for the disk: workers only.
    pub fn list(&self, path: &CleanPath) -> Result<Vec<String>, Refusal> {
        let directory = self.resolve(path, false)?;
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())).map_err(|e| refusal(&e))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let slash = if entry.path().is_dir() { "/" } else { "" };
                (!name.starts_with('.')).then(|| format!("{name}{slash}"))
            })
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Whether this path leads to a regular file, as far as the kernel's caches know; None = it would need a disk.
    pub fn has_file(&self, path: &CleanPath) -> Option<bool> {
        match self.resolve(path, true) {
            Ok(found) => Some(stat(&found).is_ok_and(|stat| is_regular(&stat))),
            Err(Refusal::Busy) => None,
            Err(_) => Some(false),
        }
    }

    /// Contents held now: mappings and small files.
    pub fn loaded(&self) -> usize {
        self.lock().len()
    }

    /// Lets go of contents that nobody uses and whose file has been removed or replaced, so that their disk space comes back.
    pub fn sweep(&self) {
        let gone: Vec<Content> = {
            let mut loaded = self.lock();
            let idle_and_unlinked = |content: &Content| Arc::strong_count(content.body()) == 1 && content.is_unlinked();
            let ids: Vec<Identity> =
                loaded.iter().filter(|(_, content)| idle_and_unlinked(content)).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| loaded.remove(id)).collect()
        };
        drop(gone); // munmap, outside the lock
    }

    fn load(&self, question: Question) -> Result<Content, Refusal> {
        let found = match question.found {
            Some(found) => found,
            None => self.resolve(&question.path, false)?,
        };
        let (file, identity) = self.open_regular(found)?;
        if let Some(content) = self.lock().get(&identity) {
            return Ok(content.clone());
        }
        let content = if identity.len <= INLINE_BYTES_MAX {
            Content::small_file(Bytes::from(read_exactly(&file, identity.len)?), &identity)
        } else {
            Content::map(file, identity, &self.memory).map_err(|_| Refusal::TooMany)?
        };
        self.touch(&content);
        let mut evicted = Vec::new();
        let mut loaded = self.lock();
        while loaded.len() >= MAPPINGS_MAX {
            let idle = loaded.iter().filter(|(_, content)| Arc::strong_count(content.body()) == 1);
            let oldest = idle.min_by_key(|(_, content)| content.body().used.load(Ordering::Relaxed)).map(|(id, _)| *id);
            evicted.push(oldest.and_then(|id| loaded.remove(&id)).ok_or(Refusal::TooMany)?);
        }
        let content = loaded.entry(identity).or_insert(content).clone();
        drop(loaded);
        drop(evicted); // munmap, outside the lock
        Ok(content)
    }

    /// Opens exactly the file that was found: through its descriptor, so that no rename can put another one in its place.
    fn open_regular(&self, found: OwnedFd) -> Result<(File, Identity), Refusal> {
        let stat_of_found = stat(&found)?;
        self.admit(&stat_of_found)?;
        if self.fence.has_private_name(&stat_of_found) {
            return Err(Refusal::Private);
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(|e| refusal(&e))?;
        let identity = Identity::of(&stat(&file)?);
        Ok((file, identity))
    }

    /// A regular file that everybody may read, where that matters.
    fn admit(&self, stat: &libc::stat) -> Result<(), Refusal> {
        if !is_regular(stat) {
            return Err(Refusal::NotRegular);
        }
        let hidden = self.fence.only_world_readable && stat.st_mode & libc::S_IROTH == 0;
        if hidden { Err(Refusal::Unreadable) } else { Ok(()) }
    }

    /// An O_PATH descriptor of what the path names, in the root or borrowed from a package: nothing is opened for reading,
    /// so a FIFO or a device does nothing.
    fn resolve(&self, path: &CleanPath, cached_only: bool) -> Result<OwnedFd, Refusal> {
        let name: &[u8] = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
        let found = match self.open_path(name, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS, cached_only) {
            Err(Refusal::NotFound) => {
                // The path comes from the list of loaders, never from a client: links in it are the package's own.
                let borrowed = self.fence.borrowed.get(path).ok_or(Refusal::NotFound)?;
                return self.open_path(borrowed.as_os_str().as_bytes(), libc::RESOLVE_NO_MAGICLINKS, cached_only);
            }
            found => found?,
        };
        // The kernel tells where the descriptor leads, links inside the root followed.
        if !self.fence.inside.is_empty() {
            let real = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(|e| refusal(&e))?;
            if self.fence.is_private(&real) {
                return Err(Refusal::Private);
            }
        }
        Ok(found)
    }

    fn open_path(&self, name: &[u8], how_resolved: u64, cached_only: bool) -> Result<OwnedFd, Refusal> {
        let name = CString::new(name).map_err(|_| Refusal::ControlCharacter)?;
        let cached = if cached_only { libc::RESOLVE_CACHED } else { 0 };
        openat2(&self.root, &name, how_resolved | cached).map_err(|error| refusal(&error))
    }

    fn touch(&self, content: &Content) {
        content.body().used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Identity, Content>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalog {
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Looks a path up without waiting for a disk.
    pub fn find(&mut self, path: &CleanPath) -> Found {
        let found = match self.images.resolve(path, true) {
            Ok(found) => found,
            Err(Refusal::Busy) => return Found::Ask(Question { path: path.clone(), found: None }),
            Err(refusal) => return Found::Refused(refusal),
        };
        let stat = match stat(&found) {
            Ok(stat) => stat,
            Err(refusal) => return Found::Refused(refusal),
        };
        if is_directory(&stat) {
            return Found::Directory;
        }
        if let Err(refusal) = self.images.admit(&stat) {
            return Found::Refused(refusal);
        }
        match self.known.get(&Identity::of(&stat)).and_then(Weak::upgrade) {
            Some(body) => {
                let content = Content::from_body(body);
                self.images.touch(&content);
                Found::Content(content)
            }
            None => Found::Ask(Question { path: path.clone(), found: Some(found) }),
        }
    }

    /// Remembers what a worker has loaded, so that the next request finds it here.
    pub fn remember(&mut self, content: &Content) {
        if let Some(identity) = content.identity() {
            if self.known.len() >= KNOWN_MAX {
                self.known.retain(|_, body| body.strong_count() > 0);
            }
            self.known.insert(identity, Arc::downgrade(content.body()));
        }
    }
}

fn stat(file: &impl AsRawFd) -> Result<libc::stat, Refusal> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the descriptor is open while `file` is borrowed, and `stat` has room for one struct stat.
    let answer = unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) };
    if answer != 0 {
        return Err(refusal(&io::Error::last_os_error()));
    }
    // SAFETY: fstat returned 0, so it filled the whole struct.
    Ok(unsafe { stat.assume_init() })
}

fn is_directory(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}

fn is_regular(stat: &libc::stat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG
}

fn read_exactly(file: &File, len: u64) -> Result<Vec<u8>, Refusal> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| Refusal::TooLarge)?];
    file.read_exact_at(&mut bytes, 0).map_err(|_| Refusal::ReadFailed)?;
    Ok(bytes)
}

/// An O_PATH descriptor of what `name` leads to from `root`, by the rules `resolve` (RESOLVE_*).
fn openat2(root: &OwnedFd, name: &CStr, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: open_how is a struct of three integers, for which all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: the root descriptor is open, `name` is NUL-terminated, `how` and its size describe one open_how.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            name.as_ptr(),
            std::ptr::from_ref(&how),
            size_of::<libc::open_how>(),
        )
    };
    match i32::try_from(answer) {
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A sandbox takes the whole call away with these, since it cannot look into its argument; no file could be served then.
fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM) => io::Error::new(
            error.kind(),
            format!(
                "a sandbox refuses openat2 (systemd: RestrictSUIDSGID=yes, or a SystemCallFilter without it): {error}"
            ),
        ),
        _ => error,
    }
}

fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Refusal::Busy,
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => Refusal::NotFound,
        Some(libc::EXDEV | libc::ELOOP) => Refusal::OutsideRoot,
        Some(libc::EACCES | libc::EPERM) => Refusal::Unreadable,
        Some(libc::EMFILE | libc::ENFILE) => Refusal::TooMany,
        _ => Refusal::ReadFailed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::images::{PIECE_BYTES, clean};

    struct Tree {
        directory: tempfile::TempDir,
        catalog: Catalog,
    }

    impl Tree {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("root")).unwrap();
            let images = Images::open(&directory.path().join("root"), Workers::start().unwrap()).unwrap();
            Self { catalog: images.catalog(), directory }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join("root").join(name)
        }

        /// As a core does it: at once, or by a worker whose answer the core then remembers.
        fn get(&mut self, name: &str) -> Result<Content, Refusal> {
            match self.catalog.find(&clean(name.as_bytes()).unwrap()) {
                Found::Content(content) => Ok(content),
                Found::Directory => Err(Refusal::NotRegular),
                Found::Refused(refusal) => Err(refusal),
                Found::Ask(question) => {
                    let (sender, receiver) = channel();
                    self.catalog.images().answer(question, move |answer| sender.send(answer).unwrap()).unwrap();
                    let content = receiver.recv().unwrap()?;
                    self.catalog.remember(&content);
                    Ok(content)
                }
            }
        }
    }

    #[test]
    fn the_second_request_is_answered_on_the_core() {
        let mut tree = Tree::new();
        for (name, len) in [("small", 100), ("large", 300_000)] {
            fs::write(tree.path(name), vec![7; len]).unwrap();
            assert_eq!(tree.get(name).unwrap().len(), len as u64);
            let found = tree.catalog.find(&clean(name.as_bytes()).unwrap());
            assert!(matches!(found, Found::Content(_)), "{found:?}");
        }
        assert!(tree.get("small").unwrap().inline_bytes().is_some());
        assert!(tree.get("large").unwrap().inline_bytes().is_none());
    }

    #[test]
    fn t31_a_replaced_file_is_seen_by_the_next_request_and_the_old_version_lives_on() {
        let mut tree = Tree::new();
        fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
        let old = tree.get("image").unwrap();
        fs::write(tree.path("new"), vec![2; 150_000]).unwrap();
        fs::rename(tree.path("new"), tree.path("image")).unwrap();
        let new = tree.get("image").unwrap();
        assert_eq!((old.len(), new.len()), (200_000, 150_000));
        assert!(old.is_unchanged() && new.is_unchanged());
        assert_ne!(old.meta().etag, new.meta().etag);
        fs::remove_file(tree.path("image")).unwrap();
        assert_eq!(tree.get("image").unwrap_err(), Refusal::NotFound);
        assert!(new.is_unchanged());
    }

    #[test]
    fn a_file_overwritten_in_place_is_no_longer_what_was_mapped() {
        let mut tree = Tree::new();
        fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
        let old = tree.get("image").unwrap();
        OpenOptions::new().write(true).open(tree.path("image")).unwrap().write_all_at(&[9; 10], 0).unwrap();
        // The timestamp of a write may be as coarse as a kernel tick: set it, as a later write would have.
        let file = File::options().write(true).open(tree.path("image")).unwrap();
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
        assert!(!old.is_unchanged());
        assert!(tree.get("image").unwrap().is_unchanged());
    }

    #[test]
    fn a_file_cut_short_before_it_is_mapped_keeps_the_length_that_was_promised() {
        let tree = Tree::new();
        fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
        let images = tree.catalog.images();
        let found = images.resolve(&clean(b"image").unwrap(), false).unwrap();
        let (file, identity) = images.open_regular(found).unwrap();
        File::options().write(true).open(tree.path("image")).unwrap().set_len(100).unwrap();
        let content = Content::map(file, identity, images.memory()).unwrap();
        assert_eq!((content.len(), content.address().1), (200_000, 200_000));
        assert!(!content.is_unchanged());
    }

    #[test]
    fn t59_links_are_followed_inside_the_root_only_and_nothing_but_files_is_opened() {
        let mut tree = Tree::new();
        fs::write(tree.path("real"), b"inside").unwrap();
        fs::write(tree.directory.path().join("secret"), b"outside").unwrap();
        symlink("real", tree.path("good")).unwrap();
        symlink("../secret", tree.path("relative")).unwrap();
        symlink(tree.directory.path().join("secret"), tree.path("absolute")).unwrap();
        symlink("/proc/self/fd/0", tree.path("magic")).unwrap();
        symlink("loop", tree.path("loop")).unwrap();
        let fifo = CString::new(tree.path("fifo").into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: the path is NUL-terminated.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o644) }, 0);
        let socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
        assert_eq!(tree.get("good").unwrap().inline_bytes().unwrap(), &b"inside"[..]);
        for outside in ["relative", "absolute", "magic", "loop"] {
            assert_eq!(tree.get(outside).unwrap_err(), Refusal::OutsideRoot, "{outside}");
        }
        for odd in ["fifo", "socket"] {
            assert_eq!(tree.get(odd).unwrap_err(), Refusal::NotRegular, "{odd}");
        }
        assert_eq!(tree.get("").unwrap_err(), Refusal::NotRegular);
        assert_eq!(tree.get("real/below").unwrap_err(), Refusal::NotFound);
        drop(socket);
    }

    #[test]
    fn t60_a_name_is_found_without_regard_to_case_where_only_one_fits() {
        let tree = Tree::new();
        fs::create_dir(tree.path("Boot")).unwrap();
        fs::write(tree.path("Boot/BCD"), b"x").unwrap();
        fs::write(tree.path("Boot/Twice"), b"x").unwrap();
        fs::write(tree.path("Boot/tWICE"), b"x").unwrap();
        let images = tree.catalog.images();
        let found = images.find_ignoring_case(&clean(b"boot/bcd").unwrap()).unwrap();
        assert_eq!(found.as_bytes(), b"Boot/BCD");
        assert_eq!(images.find_ignoring_case(&clean(b"boot/twice").unwrap()), None);
        assert_eq!(images.find_ignoring_case(&clean(b"boot/none").unwrap()), None);
    }

    #[test]
    fn a_removed_file_is_let_go_when_its_last_transfer_has_ended() {
        let mut tree = Tree::new();
        fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
        let content = tree.get("image").unwrap();
        fs::remove_file(tree.path("image")).unwrap();
        tree.catalog.images().sweep();
        assert_eq!(tree.catalog.images().lock().len(), 1, "a transfer holds it");
        drop(content);
        tree.catalog.images().sweep();
        assert_eq!(tree.catalog.images().lock().len(), 0);
    }

    fn fenced(private: &[&str], borrowed: &[(&str, PathBuf)], only_world_readable: bool) -> Tree {
        let mut tree = Tree::new();
        let root = tree.path("");
        for directory in private.iter().filter(|name| name.ends_with('/')) {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let paths: Vec<PathBuf> = private.iter().map(|name| root.join(name)).collect();
        let mut fence = Fence::around(&root, &paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        fence.only_world_readable = only_world_readable;
        fence.borrowed = borrowed.iter().map(|(name, path)| (clean(name.as_bytes()).unwrap(), path.clone())).collect();
        let memory = ImageMemory::new(PIECE_BYTES);
        tree.catalog = Images::open_fenced(&root, fence, memory, Workers::start().unwrap()).unwrap().catalog();
        tree
    }

    #[test]
    fn configuration_and_state_are_never_served_not_even_through_links() {
        let mut tree = fenced(&["ringboot.toml", "state/"], &[], false);
        for name in ["ringboot.toml", "state/ringboot.db", "ringboot.toml.old", "statement"] {
            fs::write(tree.path(name), b"x").unwrap();
        }
        symlink("ringboot.toml", tree.path("link")).unwrap();
        symlink("state", tree.path("alias")).unwrap();
        // Twice each: by a worker, and then by the core with what the kernel has cached.
        for _ in 0..2 {
            for name in ["ringboot.toml", "link", "state/ringboot.db", "alias/ringboot.db", "state", "alias"] {
                assert_eq!(tree.get(name).unwrap_err(), Refusal::Private, "{name}");
            }
            for name in ["ringboot.toml.old", "statement"] {
                assert_eq!(tree.get(name).unwrap().len(), 1, "{name}");
            }
        }
        fs::rename(tree.path("ringboot.toml.old"), tree.path("ringboot.toml")).unwrap();
        assert_eq!(tree.get("ringboot.toml").unwrap_err(), Refusal::Private, "an editor puts a new file in its place");
        assert_eq!(tree.catalog.images().list(&clean(b"state").unwrap()).unwrap_err(), Refusal::Private);
    }

    #[test]
    fn s73_a_process_of_root_serves_only_what_everybody_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let mut tree = fenced(&[], &[], true);
        fs::write(tree.path("secret"), b"x").unwrap();
        fs::set_permissions(tree.path("secret"), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(tree.get("secret").unwrap_err(), Refusal::Unreadable);
        assert!(Refusal::Unreadable.to_string().contains("chmod o+r"));
        let whole = tree.catalog.images().read_whole(&clean(b"secret").unwrap());
        assert_eq!(whole.unwrap_err(), Refusal::Unreadable);
        fs::set_permissions(tree.path("secret"), fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(tree.get("secret").unwrap().len(), 1);
        // Known to the core by now: taking the right away counts at the next request all the same.
        fs::set_permissions(tree.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(tree.get("secret").unwrap_err(), Refusal::Unreadable);
    }

    #[test]
    fn a_borrowed_file_is_served_under_its_name_until_the_root_has_one() {
        let package = tempfile::tempdir().unwrap();
        fs::write(package.path().join("pxelinux.0"), b"package").unwrap();
        fs::write(package.path().join("other"), b"x").unwrap();
        let borrowed = [("boot/pxelinux.0", package.path().join("pxelinux.0"))];
        let mut tree = fenced(&[], &borrowed, false);
        assert_eq!(tree.get("boot/pxelinux.0").unwrap().len(), 7);
        assert_eq!(tree.get("boot/other").unwrap_err(), Refusal::NotFound, "one file, never its directory");
        assert_eq!(tree.get("pxelinux.0").unwrap_err(), Refusal::NotFound);
        fs::create_dir(tree.path("boot")).unwrap();
        fs::write(tree.path("boot/pxelinux.0"), b"mine").unwrap();
        assert_eq!(tree.get("boot/pxelinux.0").unwrap().len(), 4);
    }

    #[test]
    fn pieces_are_asked_for_until_a_worker_has_made_them_resident() {
        let mut tree = Tree::new();
        let file = File::create(tree.path("big")).unwrap();
        file.set_len(2 * PIECE_BYTES + 10).unwrap();
        let content = tree.get("big").unwrap();
        content.populate(content.missing(&(0..1)).unwrap());
        assert_eq!(content.missing(&(0..PIECE_BYTES)), None);
        let second = content.missing(&(PIECE_BYTES..PIECE_BYTES + 1)).unwrap();
        assert_eq!(content.next_missing(&(0..PIECE_BYTES)), Some(second));
        assert_eq!(content.claim_next_missing(&(0..PIECE_BYTES)), Some(second));
        assert_eq!(content.claim_next_missing(&(0..PIECE_BYTES)), None, "once is enough");
        content.populate(second);
        assert_eq!(content.missing(&(0..2 * PIECE_BYTES)), None);
        let last = content.missing(&(0..content.len())).unwrap();
        content.populate(last);
        assert_eq!(content.missing(&(0..content.len())), None);
        assert_eq!(content.next_missing(&(0..content.len())), None);
    }
}
