//! From a clean path to a content: what the kernel's name cache knows is found on the core, the
//! rest by a worker.
//!
//! There is no index of names to keep in step with the disk: each request asks the kernel, with
//! RESOLVE_CACHED, so that a file added, replaced or removed is seen by the very next request, and
//! a name that would need a disk comes back at once as EAGAIN.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::ceiling::MemoryCeiling;
use super::content::{Content, ContentBody, FileIdentity, WeakContent};
use super::copies::CopyBudget;
use super::directories::{Directories, Listing};
use super::fence::RootFence;
use super::limits::{
    INLINE_BYTES_MAX, MAPPINGS_MAX, REMOTE_TRUSTED, SMALL_FILES_KEPT, WHOLE_BYTES_MAX,
};
use super::memory::ImageMemory;
use super::path::{CleanPath, Refusal};
use super::reserve::DescriptorReserve;
use super::root::{ServedRoot, openat2};
use super::stat::{known_stat, refusal};
use super::watch;
use super::workers::{Busy, WorkAsker, Workers};

/// Entries that a core's own map of mappings may hold before it forgets the dead ones.
const KNOWN_MAX: usize = 2 * MAPPINGS_MAX;

/// The root directory and every mapping of it, shared by all cores and workers.
#[derive(Debug)]
pub struct Images {
    root: ServedRoot,
    fence: RootFence,
    memory: Arc<ImageMemory>,
    copies: Arc<CopyBudget>,
    reserve: DescriptorReserve,
    workers: Workers,
    directories: Directories,
    /// Which devices are file servers.
    devices: ArcSwap<HashMap<u64, bool>>,
    /// Holds one reference to each mapping, so that a core never runs the last drop (munmap): only
    /// a worker does, here.
    loaded: Mutex<HashMap<FileIdentity, Content>>,
    mappings_max: AtomicUsize,
    /// Times that a file found no place, since those that had one were all in use.
    short: AtomicU64,
    small: Mutex<Small>,
    /// Files as they are translated for another way to send them, for as long as somebody sends
    /// them.
    translated: Mutex<HashMap<FileIdentity, Weak<ContentBody>>>,
    /// Ticks at each use; a mapping remembers its last tick.
    clock: AtomicU64,
}

/// Small files that were read: those in use, and as many others as fit the memory for them.
#[derive(Debug, Default)]
struct Small {
    files: HashMap<FileIdentity, Content>,
    bytes: u64,
}

impl Small {
    /// Keeps a file, where those in use leave room for it. Those that were asked for least lately
    /// make room, many at a time.
    fn keep(&mut self, identity: FileIdentity, content: &Content) {
        if self.bytes + cost(content) > SMALL_FILES_KEPT {
            let idle =
                self.files.iter().filter(|(_, content)| Arc::strong_count(content.body()) == 1);
            let mut idle: Vec<(u64, FileIdentity)> = idle
                .map(|(id, content)| (content.body().used.load(Ordering::Relaxed), *id))
                .collect();
            idle.sort_unstable_by_key(|(used, _)| *used);
            for (_, id) in idle {
                if self.bytes <= SMALL_FILES_KEPT / 4 * 3 {
                    break;
                }
                self.bytes -= self.files.remove(&id).map_or(0, |content| cost(&content));
            }
        }
        if self.bytes + cost(content) <= SMALL_FILES_KEPT {
            let before = self.files.insert(identity, content.clone());
            self.bytes += cost(content) - before.map_or(0, |content| cost(&content));
        }
    }
}

/// Memory of a small file, with what stands around it.
fn cost(content: &Content) -> u64 {
    const AROUND: u64 = 1024;
    content.len() + AROUND
}

/// One core's view: a map of its own over mappings that [`Images`] holds.
#[derive(Debug)]
pub struct NameCatalog {
    images: Arc<Images>,
    /// With when a worker last looked at the file itself.
    known: HashMap<FileIdentity, (Weak<ContentBody>, Instant)>,
}

/// What a core learns at once.
#[derive(Debug)]
pub enum Found {
    Content(Content),
    Directory,
    Refused(Refusal),
    /// Needs a worker: hand it to [`Images::answer`].
    Ask(CatalogQuestion),
}

/// Work for a worker: look a path up, or open what has been found.
#[derive(Debug)]
pub struct CatalogQuestion {
    path: CleanPath,
    found: Option<OwnedFd>,
}

impl Images {
    /// Opens the root directory, with nothing private in it and nothing borrowed.
    pub fn open(root: &Path, workers: Workers) -> io::Result<Arc<Self>> {
        let memory = ImageMemory::new(MemoryCeiling::read().budget(None));
        Self::open_fenced(root, RootFence::of(&[]), memory, workers)
    }

    /// Opens the root directory. An error also where nothing beneath it could be opened.
    pub fn open_fenced(
        root: &Path,
        fence: RootFence,
        memory: Arc<ImageMemory>,
        workers: Workers,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            root: ServedRoot::open(root, &fence)?,
            fence,
            memory,
            copies: CopyBudget::of(MemoryCeiling::read().bytes),
            reserve: DescriptorReserve::new(),
            workers,
            directories: Directories::default(),
            devices: ArcSwap::default(),
            loaded: Mutex::default(),
            mappings_max: AtomicUsize::new(MAPPINGS_MAX),
            short: AtomicU64::new(0),
            small: Mutex::default(),
            translated: Mutex::default(),
            clock: AtomicU64::new(0),
        }))
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What of the images is in memory.
    pub fn memory(&self) -> &Arc<ImageMemory> {
        &self.memory
    }

    /// What copies take of the memory.
    pub fn copies(&self) -> &Arc<CopyBudget> {
        &self.copies
    }

    /// At most so many mappings at once, where the process may not have the usual number of
    /// descriptors.
    pub fn map_at_most(&self, mappings: usize) {
        self.mappings_max.store(mappings.min(MAPPINGS_MAX), Ordering::Relaxed);
    }

    /// How often a file has found no place so far, because all were in use.
    pub fn short_of_places(&self) -> u64 {
        self.short.load(Ordering::Relaxed)
    }

    /// A file as `translate` makes it, one copy for all who ask for this version of it; `source` is
    /// charged for it. Busy while another file is being translated, and where copies have their
    /// budget. Waits for the disk: workers only.
    pub fn translated(
        &self,
        content: &Content,
        source: IpAddr,
        translate: impl FnOnce(&[u8]) -> Result<Vec<u8>, Refusal>,
    ) -> Result<Content, Refusal> {
        // One at a time: others ask again, and find it done or the way free. No worker waits for
        // another one's file.
        let mut translated = match self.translated.try_lock() {
            Ok(translated) => translated,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Refusal::Busy),
        };
        let identity = content.identity();
        if let Some(body) =
            identity.and_then(|identity| translated.get(&identity)).and_then(Weak::upgrade)
        {
            return Ok(Content::from_body(body));
        }
        // The most that it may become, so that nothing is made in vain; the rest is given back.
        drop(self.copies.take(source, 2 * content.len())?);
        let bytes = translate(&content.read_whole()?)?;
        let share = self.copies.take(source, bytes.len() as u64)?;
        let meta = content.meta();
        let made = Content::copy_of(bytes.into(), meta.etag.clone(), meta.mtime, share);
        translated.retain(|_, body| body.strong_count() > 0);
        if let Some(identity) = identity {
            translated.insert(identity, Arc::downgrade(made.body()));
        }
        Ok(made)
    }

    /// A view for one more core.
    pub fn catalog(self: &Arc<Self>) -> NameCatalog {
        NameCatalog { images: Arc::clone(self), known: HashMap::new() }
    }

    /// Answers on a worker thread; `reply` runs there too.
    pub fn answer(
        self: &Arc<Self>,
        asker: WorkAsker,
        question: CatalogQuestion,
        reply: impl FnOnce(Result<Content, Refusal>) + Send + 'static,
    ) -> Result<(), Busy> {
        let images = Arc::clone(self);
        self.workers.look(asker, move || reply(images.load(question)))
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
        match self.load(CatalogQuestion { path: path.clone(), found: Some(found) }) {
            Ok(content) => Found::Content(content),
            Err(refusal) => Found::Refused(refusal),
        }
    }

    /// The one path that differs from this one in the case of its letters only (T-60). Waits for
    /// the disk: workers only.
    pub fn find_ignoring_case(&self, path: &CleanPath) -> Option<CleanPath> {
        let mut real = CleanPath::root();
        for component in path.as_bytes().split(|&b| b == b'/') {
            let listing = self.list(&real).ok()?;
            real = real.child(listing.ignoring_case(std::str::from_utf8(component).ok()?)?);
        }
        Some(real)
    }

    /// Reads a file whole, whatever its size up to [`WHOLE_BYTES_MAX`] (netascii, templates). Waits
    /// for the disk: workers only.
    pub fn read_whole(&self, path: &CleanPath) -> Result<(Vec<u8>, Content), Refusal> {
        let (file, identity) = self.open_regular(self.resolve(path, false)?)?;
        if identity.len > WHOLE_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let bytes = read_exactly(&file, identity.len)?;
        let content = Content::small_file(Bytes::from(bytes.clone()), &identity);
        Ok((bytes, content))
    }

    /// What a directory holds. Waits for the disk: workers only.
    pub fn list(&self, path: &CleanPath) -> Result<Arc<Listing>, Refusal> {
        let directory = self.resolve(path, false)?;
        let before = FileIdentity::of(&stat(&directory)?);
        if let Some(known) = self.directories.find(&before) {
            return Ok(known);
        }
        let listing = Arc::new(Listing::read(&directory).map_err(|error| refusal(&error))?);
        if stat(&directory).is_ok_and(|after| FileIdentity::of(&after) == before) {
            self.directories.keep(before, &listing, SystemTime::now());
        }
        Ok(listing)
    }

    /// Whether this path leads to a regular file, as far as the kernel's caches know; None = it
    /// would need a disk.
    pub fn has_file(&self, path: &CleanPath) -> Option<bool> {
        match self.resolve(path, true) {
            Ok(found) => Some(known_stat(&found).is_ok_and(|stat| is_regular(&stat))),
            Err(Refusal::Busy) => None,
            Err(_) => Some(false),
        }
    }

    /// Contents held now: mappings and small files.
    pub fn loaded(&self) -> usize {
        self.lock().len() + self.small().files.len()
    }

    /// Lets go of contents that nobody uses and whose file has been removed or replaced, so that
    /// their disk space comes back.
    pub fn sweep(&self) {
        let is_idle = |content: &Content| Arc::strong_count(content.body()) == 1;
        let idle: Vec<(FileIdentity, WeakContent)> = self
            .lock()
            .iter()
            .filter(|(_, content)| is_idle(content))
            .map(|(id, content)| (*id, content.downgrade()))
            .collect();
        // A file server may take its time: nobody waits for the lock meanwhile.
        let is_unlinked =
            |content: &WeakContent| content.upgrade().is_some_and(|content| content.is_unlinked());
        let unlinked: Vec<FileIdentity> =
            idle.iter().filter(|(_, content)| is_unlinked(content)).map(|(id, _)| *id).collect();
        let mut loaded = self.lock();
        for id in unlinked {
            if loaded.get(&id).is_some_and(is_idle) {
                loaded.remove(&id);
            }
        }
        drop(loaded);
        self.memory.bury();
        watch::read_events();
    }

    fn load(&self, question: CatalogQuestion) -> Result<Content, Refusal> {
        let found = match question.found {
            Some(found) => found,
            None => self.resolve(&question.path, false)?,
        };
        let (file, identity) = self.open_regular(found)?;
        if identity.len <= INLINE_BYTES_MAX {
            return self.load_small(&file, identity);
        }
        if let Some(content) = self.lock().get(&identity) {
            return Ok(content.clone());
        }
        let content = Content::map(file, identity, &self.memory).map_err(|_| Refusal::TooMany)?;
        let identity = content.identity().unwrap_or(identity);
        self.touch(&content);
        let mut evicted = Vec::new();
        let mut loaded = self.lock();
        while loaded.len() >= self.mappings_max.load(Ordering::Relaxed).max(1) {
            let idle = loaded.iter().filter(|(_, content)| Arc::strong_count(content.body()) == 1);
            let oldest = idle
                .min_by_key(|(_, content)| content.body().used.load(Ordering::Relaxed))
                .map(|(id, _)| *id);
            let Some(oldest) = oldest.and_then(|id| loaded.remove(&id)) else {
                self.short.fetch_add(1, Ordering::Relaxed);
                return Err(Refusal::TooMany);
            };
            evicted.push(oldest);
        }
        let content = loaded.entry(identity).or_insert(content).clone();
        drop(loaded);
        drop(evicted);
        self.memory.bury();
        Ok(content)
    }

    /// A small file needs no place among the mappings: where too many are in use, it lives as long
    /// as its users do.
    fn load_small(&self, file: &File, identity: FileIdentity) -> Result<Content, Refusal> {
        if let Some(content) = self.small().files.get(&identity) {
            return Ok(content.clone());
        }
        let content =
            Content::small_file(Bytes::from(read_exactly(file, identity.len)?), &identity);
        self.touch(&content);
        self.small().keep(identity, &content);
        Ok(content)
    }

    /// Opens exactly the file that was found: through its descriptor, so that no rename can put
    /// another one in its place.
    fn open_regular(&self, found: OwnedFd) -> Result<(File, FileIdentity), Refusal> {
        let stat_of_found = stat(&found)?;
        self.admit(&stat_of_found)?;
        if self.fence.has_private_name(&stat_of_found) {
            return Err(Refusal::Private);
        }
        let name = format!("/proc/self/fd/{}", found.as_raw_fd());
        let file = self.reserve.open(|| File::open(&name)).map_err(|e| refusal(&e))?;
        let identity = FileIdentity::of(&stat(&file)?);
        self.learn(&file, identity.device);
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

    /// An O_PATH descriptor of what the path names, in the root or borrowed from a package: nothing
    /// is opened for reading, so a FIFO or a device does nothing.
    fn resolve(&self, path: &CleanPath, cached_only: bool) -> Result<OwnedFd, Refusal> {
        if !cached_only {
            self.root.follow(&self.fence);
        }
        let root = self.root.now();
        let name: &[u8] = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
        let found = match self.open_path(
            &root.directory,
            name,
            libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS,
            cached_only,
        ) {
            Err(Refusal::NotFound) => {
                // The path comes from the list of loaders, never from a client: links in it are the
                // package's own.
                let borrowed = self.fence.borrowed.get(path).ok_or(Refusal::NotFound)?;
                let name = borrowed.as_os_str().as_bytes();
                return self.open_path(
                    &root.directory,
                    name,
                    libc::RESOLVE_NO_MAGICLINKS,
                    cached_only,
                );
            }
            found => found?,
        };
        // The kernel tells where the descriptor leads, links inside the root followed.
        if !root.inside.is_empty() {
            let real = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
                .map_err(|e| refusal(&e))?;
            if root.inside.iter().any(|private| real.starts_with(private)) {
                return Err(Refusal::Private);
            }
        }
        Ok(found)
    }

    fn open_path(
        &self,
        root: &OwnedFd,
        name: &[u8],
        how_resolved: u64,
        cached_only: bool,
    ) -> Result<OwnedFd, Refusal> {
        let name = CString::new(name).map_err(|_| Refusal::ControlCharacter)?;
        let cached = if cached_only { libc::RESOLVE_CACHED } else { 0 };
        self.reserve
            .open(|| openat2(root, &name, how_resolved | cached))
            .map_err(|error| refusal(&error))
    }

    /// Whether files of this device are on a file server, as far as a worker has learnt.
    fn is_remote(&self, device: u64) -> bool {
        self.devices.load().get(&device) == Some(&true)
    }

    /// Learns what kind of file system a file is on. Waits for the disk.
    fn learn(&self, file: &File, device: u64) {
        if !self.devices.load().contains_key(&device) {
            let is_remote = is_remote(file);
            self.devices.rcu(|known| {
                let mut known = HashMap::clone(known);
                known.insert(device, is_remote);
                known
            });
        }
    }

    fn touch(&self, content: &Content) {
        content.body().used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    fn small(&self) -> std::sync::MutexGuard<'_, Small> {
        self.small.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FileIdentity, Content>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NameCatalog {
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Looks a path up without waiting for a disk.
    pub fn find(&mut self, path: &CleanPath) -> Found {
        if !self.images.root.is_known() {
            return Found::Ask(CatalogQuestion { path: path.clone(), found: None });
        }
        let found = match self.images.resolve(path, true) {
            Ok(found) => found,
            Err(Refusal::Busy) => {
                return Found::Ask(CatalogQuestion { path: path.clone(), found: None });
            }
            Err(refusal) => return Found::Refused(refusal),
        };
        let stat = match known_stat(&found) {
            Ok(stat) => stat,
            Err(refusal) => return Found::Refused(refusal),
        };
        if is_directory(&stat) {
            return Found::Directory;
        }
        if let Err(refusal) = self.images.admit(&stat) {
            return Found::Refused(refusal);
        }
        let identity = FileIdentity::of(&stat);
        let known = self.known.get(&identity).filter(|(_, looked)| {
            // What the kernel knows of a file on a server may be old.
            !self.images.is_remote(identity.device) || looked.elapsed() < REMOTE_TRUSTED
        });
        match known.and_then(|(body, _)| body.upgrade()) {
            Some(body) => {
                let content = Content::from_body(body);
                self.images.touch(&content);
                Found::Content(content)
            }
            None => Found::Ask(CatalogQuestion { path: path.clone(), found: Some(found) }),
        }
    }

    /// Remembers what a worker has loaded, so that the next request finds it here.
    pub fn remember(&mut self, content: &Content) {
        if let Some(identity) = content.identity() {
            if self.known.len() >= KNOWN_MAX {
                self.known.retain(|_, (body, _)| body.strong_count() > 0);
            }
            self.known.insert(identity, (Arc::downgrade(content.body()), Instant::now()));
        }
    }
}

fn stat(file: &impl AsRawFd) -> Result<libc::stat, Refusal> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the descriptor is open while `file` is borrowed, and `stat` has room for one struct
    // stat.
    let answer = unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) };
    if answer != 0 {
        return Err(refusal(&io::Error::last_os_error()));
    }
    // SAFETY: fstat returned 0, so it filled the whole struct.
    Ok(unsafe { stat.assume_init() })
}

/// Whether a file comes from a file server, which may change it without the kernel's knowing.
fn is_remote(file: &File) -> bool {
    // NFS, FUSE, SMB, CIFS, SMB2, 9p, Ceph, AFS (two), Coda, Lustre, GFS2, OCFS2: statfs(2).
    const REMOTE: [i64; 13] = [
        0x6969,
        0x6573_5546,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x00c3_6400,
        0x5346_414f,
        0x6b41_4653,
        0x7375_7245,
        0x0bd0_0bd0,
        0x0116_1970,
        0x7461_636f,
    ];
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open while `file` is borrowed, and `found` has room for one struct
    // statfs.
    let answer = unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) };
    // SAFETY: fstatfs returned 0, so it filled the whole struct.
    answer == 0 && REMOTE.contains(&unsafe { found.assume_init() }.f_type)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::images::{PIECE_BYTES, clean};

    struct Tree {
        directory: tempfile::TempDir,
        catalog: NameCatalog,
    }

    impl Tree {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("root")).unwrap();
            let images =
                Images::open(&directory.path().join("root"), Workers::start().unwrap()).unwrap();
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
                    self.catalog
                        .images()
                        .answer(
                            WorkAsker::new([10, 0, 0, 1].into(), b""),
                            question,
                            move |answer| sender.send(answer).unwrap(),
                        )
                        .unwrap();
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
    fn small_files_need_no_place_and_mappings_in_use_leave_no_more_than_there_are() {
        let mut tree = Tree::new();
        tree.catalog.images().map_at_most(2);
        for name in ["a", "b", "c"] {
            fs::write(tree.path(name), vec![1; 100_000]).unwrap();
        }
        for n in 0..20 {
            fs::write(tree.path(&format!("small{n}")), vec![1; 1000]).unwrap();
        }
        let held = [tree.get("a").unwrap(), tree.get("b").unwrap()];
        assert_eq!(tree.get("c").unwrap_err(), Refusal::TooMany);
        let small: Vec<_> = (0..20).map(|n| tree.get(&format!("small{n}")).unwrap()).collect();
        assert_eq!((held[1].len(), small.len()), (100_000, 20));
        drop(held);
        let weak = tree.get("c").unwrap().downgrade();
        assert!(weak.upgrade().is_some(), "kept for the next");
        let _held = [tree.get("a").unwrap(), tree.get("b").unwrap()];
        assert!(weak.upgrade().is_none(), "who only knows it holds no place");
    }

    #[test]
    fn small_files_that_nobody_uses_keep_no_more_than_their_memory() {
        let mut small = Small::default();
        let identity =
            |n: u64| FileIdentity { device: 1, inode: n, len: 65_536, mtime_ns: 0, ctime_ns: 0 };
        let file = |n| Content::small_file(Bytes::from(vec![0; 65_536]), &identity(n));
        let used = file(0);
        small.keep(identity(0), &used);
        for n in 1..3000 {
            let content = file(n);
            content.body().used.store(n, Ordering::Relaxed);
            small.keep(identity(n), &content);
            assert!(small.bytes <= SMALL_FILES_KEPT);
        }
        assert_eq!(small.bytes, small.files.values().map(cost).sum::<u64>());
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

    #[test]
    fn one_translation_serves_all_who_ask_for_the_same_file() {
        let mut tree = Tree::new();
        fs::write(tree.path("text"), vec![b'\n'; 100_000]).unwrap();
        let content = tree.get("text").unwrap();
        let images = Arc::clone(tree.catalog.images());
        let asked = |n: u8| {
            images.translated(&content, IpAddr::from([10, 0, 0, n]), |bytes| {
                Ok([bytes, bytes].concat())
            })
        };
        let [one, two] = [asked(1).unwrap(), asked(2).unwrap()];
        assert!(Arc::ptr_eq(one.body(), two.body()) && one.is_copy());
        assert_eq!((one.len(), images.copies().usage().held), (200_000, 200_000));
        drop((one, two));
        assert_eq!(images.copies().usage().held, 0);
        let _others = images.translated.lock().unwrap();
        assert_eq!(asked(1).unwrap_err(), Refusal::Busy, "no worker waits for another");
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
        File::options()
            .write(true)
            .open(tree.path("image"))
            .unwrap()
            .write_all_at(&[9; 10], 0)
            .unwrap();
        // The timestamp of a write may be as coarse as a kernel tick: set it, as a later write
        // would have.
        let file = File::options().write(true).open(tree.path("image")).unwrap();
        file.set_modified(SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
        assert!(!old.is_unchanged());
        assert!(tree.get("image").unwrap().is_unchanged());
    }

    #[test]
    fn a_touch_changes_nothing_and_a_time_that_is_put_back_hides_nothing() {
        let mut tree = Tree::new();
        fs::write(tree.path("image"), vec![1; 200_000]).unwrap();
        let file = File::options().read(true).write(true).open(tree.path("image")).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        let touch = |time| {
            file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap()
        };
        let old = tree.get("image").unwrap();
        // A kernel tick: the change time is another.
        std::thread::sleep(std::time::Duration::from_millis(20));
        touch(SystemTime::now() + std::time::Duration::from_secs(9));
        assert!(old.is_unchanged(), "touched");
        fs::rename(tree.path("image"), tree.path("other")).unwrap();
        assert!(old.is_unchanged(), "renamed");
        std::thread::sleep(std::time::Duration::from_millis(20));
        file.write_all_at(b"new", 100_000).unwrap();
        touch(before);
        assert!(!old.is_unchanged(), "written");
        let new = tree.get("other").unwrap();
        assert!(new.is_unchanged() && new.meta().etag != old.meta().etag, "{:?}", new.meta());
    }

    #[test]
    fn a_root_that_is_switched_is_followed_whether_it_is_a_link_or_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        for name in ["one", "two", "three"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), name).unwrap();
        }
        fs::write(path("two").join("private"), b"x").unwrap();
        symlink("one", path("root")).unwrap();
        let private = path("two").join("private");
        let fence = RootFence::of(&[&private]);
        let (memory, workers) = (ImageMemory::new(1 << 30), Workers::start().unwrap());
        let images = Images::open_fenced(&path("root"), fence, memory, workers).unwrap();
        let mut tree = Tree { directory: parent, catalog: images.catalog() };
        let path = |tree: &Tree, name: &str| tree.directory.path().join(name);
        let serves = |tree: &mut Tree, text: &str| {
            let end = Instant::now() + std::time::Duration::from_secs(10);
            while tree.get("file").unwrap().inline_bytes().unwrap() != text.as_bytes() {
                assert!(Instant::now() < end, "{text} is never served");
            }
        };
        serves(&mut tree, "one");
        symlink("two", path(&tree, "next")).unwrap();
        fs::rename(path(&tree, "next"), path(&tree, "root")).unwrap();
        serves(&mut tree, "two");
        assert_eq!(tree.get("private").unwrap_err(), Refusal::Private, "the fence goes along");
        fs::rename(path(&tree, "two"), path(&tree, "old")).unwrap();
        serves(&mut tree, "two"); // for a moment there is none
        fs::rename(path(&tree, "three"), path(&tree, "two")).unwrap();
        serves(&mut tree, "three");
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
        let mut fence = RootFence::of(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>());
        fence.only_world_readable = only_world_readable;
        fence.borrowed = borrowed
            .iter()
            .map(|(name, path)| (clean(name.as_bytes()).unwrap(), path.clone()))
            .collect();
        let memory = ImageMemory::new(PIECE_BYTES);
        tree.catalog =
            Images::open_fenced(&root, fence, memory, Workers::start().unwrap()).unwrap().catalog();
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
            for name in [
                "ringboot.toml",
                "link",
                "state/ringboot.db",
                "alias/ringboot.db",
                "state",
                "alias",
            ] {
                assert_eq!(tree.get(name).unwrap_err(), Refusal::Private, "{name}");
            }
            for name in ["ringboot.toml.old", "statement"] {
                assert_eq!(tree.get(name).unwrap().len(), 1, "{name}");
            }
        }
        fs::rename(tree.path("ringboot.toml.old"), tree.path("ringboot.toml")).unwrap();
        assert_eq!(
            tree.get("ringboot.toml").unwrap_err(),
            Refusal::Private,
            "an editor puts a new file in its place"
        );
        assert_eq!(
            tree.catalog.images().list(&clean(b"state").unwrap()).unwrap_err(),
            Refusal::Private
        );
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
        assert_eq!(
            tree.get("boot/other").unwrap_err(),
            Refusal::NotFound,
            "one file, never its directory"
        );
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
