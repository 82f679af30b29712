//! The root directory and the contents of its files, shared by all cores and workers.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};
use std::time::SystemTime;

use bytes::Bytes;

use super::ceiling::MemoryCeiling;
use super::content::{ContentBody, FileIdentity, ServedContent, WeakServedContent};
use super::copies::CopyBudget;
use super::directories::{DirectoryListing, DirectoryListings};
use super::fence::RootFence;
use super::limits::{INLINE_BYTES_MAX, MAPPINGS_MAX, WHOLE_BYTES_MAX};
use super::memory::ImageMemory;
use super::path::{CleanPath, NameRefusal};
use super::remote::RemoteDevices;
use super::resolve::{NameResolver, find_folded_path};
use super::small_files::SmallFiles;
use super::stat::{
    classify_name_refusal, is_directory_stat, is_regular_stat, stat_file, stat_known_file,
};
use super::watch;
use super::workers::{DiskWorkers, JobAsker, WorkersBusy};

/// The root directory and every mapping of it, shared by all cores and workers.
#[derive(Debug)]
pub struct ImageStore {
    pub(super) names: NameResolver,
    memory: Arc<ImageMemory>,
    copies: Arc<CopyBudget>,
    workers: DiskWorkers,
    directories: DirectoryListings,
    /// The devices that are file servers.
    pub(super) devices: RemoteDevices,
    /// One reference to each mapping, so that a core never runs the last drop (munmap): a worker
    /// does, through this map.
    loaded: Mutex<HashMap<FileIdentity, ServedContent>>,
    mappings_max: AtomicUsize,
    /// How often a file got no mapping because all mappings were in use.
    short: AtomicU64,
    small: Mutex<SmallFiles>,
    /// Files translated for netascii, for as long as a transfer sends them.
    pub(super) translated: Mutex<HashMap<FileIdentity, Weak<ContentBody>>>,
    /// A counter that ticks at each use; a mapping keeps the tick of its last use.
    clock: AtomicU64,
}

/// The immediate answer for a core.
#[derive(Debug)]
pub enum CatalogAnswer {
    /// The content, in memory or mapped.
    Content(ServedContent),
    /// The path names a directory.
    Directory,
    /// The server never serves this path, or cannot now.
    Refused(NameRefusal),
    /// A worker must answer: pass it to [`ImageStore::answer_on_worker`].
    Ask(CatalogQuestion),
}

/// A job for a worker: look a path up, or open the file that the core found.
#[derive(Debug)]
pub struct CatalogQuestion {
    pub(super) path: CleanPath,
    pub(super) found: Option<OwnedFd>,
}

impl ImageStore {
    /// Opens the root directory, without private and without borrowed files.
    pub fn open(root: &Path, workers: DiskWorkers) -> io::Result<Arc<Self>> {
        let memory = ImageMemory::new(MemoryCeiling::read().budget(None));
        Self::open_fenced(root, RootFence::from_private_paths(&[]), memory, workers)
    }

    /// Opens the root directory. An error also if nothing below it can be opened.
    pub fn open_fenced(
        root: &Path,
        fence: RootFence,
        memory: Arc<ImageMemory>,
        workers: DiskWorkers,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            names: NameResolver::open(root, fence)?,
            memory,
            copies: CopyBudget::for_memory(MemoryCeiling::read().bytes),
            workers,
            directories: DirectoryListings::default(),
            devices: RemoteDevices::default(),
            loaded: Mutex::default(),
            mappings_max: AtomicUsize::new(MAPPINGS_MAX),
            short: AtomicU64::new(0),
            small: Mutex::default(),
            translated: Mutex::default(),
            clock: AtomicU64::new(0),
        }))
    }

    /// The path of the root directory.
    pub fn root(&self) -> &Path {
        self.names.root_path()
    }

    /// The threads that may wait for a disk.
    pub fn workers(&self) -> &DiskWorkers {
        &self.workers
    }

    /// The pieces of images in memory.
    pub fn memory(&self) -> &Arc<ImageMemory> {
        &self.memory
    }

    /// The budget for copies.
    pub fn copies(&self) -> &Arc<CopyBudget> {
        &self.copies
    }

    /// Limits the number of mappings, for a process that may open fewer file descriptors than
    /// usual.
    pub fn limit_mappings(&self, mappings: usize) {
        self.mappings_max.store(mappings.min(MAPPINGS_MAX), Ordering::Relaxed);
    }

    /// How often a file got no mapping because all mappings were in use.
    pub fn count_shortages(&self) -> u64 {
        self.short.load(Ordering::Relaxed)
    }

    /// Translates a file by `translate`, into one copy for all requests of this version; the copy
    /// counts for `source`. Refuses as busy while another file is being translated, or when the
    /// budget for copies is spent. Waits for the disk: workers only.
    pub fn translate_once(
        &self,
        content: &ServedContent,
        source: IpAddr,
        translate: impl FnOnce(&[u8]) -> Result<Vec<u8>, NameRefusal>,
    ) -> Result<ServedContent, NameRefusal> {
        // One translation at a time: other clients ask again later. No worker waits for another
        // one's file.
        let mut translated = match self.translated.try_lock() {
            Ok(translated) => translated,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(NameRefusal::Busy),
        };
        let identity = content.identity();
        if let Some(body) =
            identity.and_then(|identity| translated.get(&identity)).and_then(Weak::upgrade)
        {
            return Ok(ServedContent::from_body(body));
        }
        // Check the budget for the largest possible result first, so that no translation is in
        // vain.
        drop(self.copies.reserve_share(source, 2 * content.len())?);
        let bytes = translate(&content.read_whole()?)?;
        let share = self.copies.reserve_share(source, bytes.len() as u64)?;
        let meta = content.meta();
        let made = ServedContent::copy_of(bytes.into(), meta.etag.clone(), meta.mtime, share);
        translated.retain(|_, body| body.strong_count() > 0);
        if let Some(identity) = identity {
            translated.insert(identity, Arc::downgrade(made.body()));
        }
        Ok(made)
    }

    /// Answers a question on a worker thread; `reply` runs there too.
    pub fn answer_on_worker(
        self: &Arc<Self>,
        asker: JobAsker,
        question: CatalogQuestion,
        reply: impl FnOnce(Result<ServedContent, NameRefusal>) + Send + 'static,
    ) -> Result<(), WorkersBusy> {
        let images = Arc::clone(self);
        self.workers.submit_quick_job(asker, move || reply(images.load_content(question)))
    }

    /// Looks a path up and loads it. Waits for the disk: workers only.
    pub fn find_waiting(&self, path: &CleanPath) -> CatalogAnswer {
        let found = match self.names.resolve_path(path, false) {
            Ok(found) => found,
            Err(refusal) => return CatalogAnswer::Refused(refusal),
        };
        if stat_file(&found).is_ok_and(|stat| is_directory_stat(&stat)) {
            return CatalogAnswer::Directory;
        }
        match self.load_content(CatalogQuestion { path: path.clone(), found: Some(found) }) {
            Ok(content) => CatalogAnswer::Content(content),
            Err(refusal) => CatalogAnswer::Refused(refusal),
        }
    }

    /// The one path that differs from this one in the case of its letters only (T-60). Waits for
    /// the disk: workers only.
    pub fn find_ignoring_case(&self, path: &CleanPath) -> Option<CleanPath> {
        find_folded_path(path, |directory| self.list_directory(directory).ok())
    }

    /// Reads a whole file of at most [`WHOLE_BYTES_MAX`] (netascii, templates). Waits for the disk:
    /// workers only.
    pub fn read_whole(&self, path: &CleanPath) -> Result<(Vec<u8>, ServedContent), NameRefusal> {
        let (file, identity) = self.open_regular(self.names.resolve_path(path, false)?)?;
        if identity.len > WHOLE_BYTES_MAX {
            return Err(NameRefusal::TooLarge);
        }
        let bytes = read_exactly(&file, identity.len)?;
        let content = ServedContent::small_file(Bytes::from(bytes.clone()), &identity);
        Ok((bytes, content))
    }

    /// Lists a directory. Waits for the disk: workers only.
    pub fn list_directory(&self, path: &CleanPath) -> Result<Arc<DirectoryListing>, NameRefusal> {
        let directory = self.names.resolve_path(path, false)?;
        let before = FileIdentity::from_stat(&stat_file(&directory)?);
        if let Some(known) = self.directories.find(&before) {
            return Ok(known);
        }
        let listing = Arc::new(
            DirectoryListing::read(&directory).map_err(|error| classify_name_refusal(&error))?,
        );
        if stat_file(&directory).is_ok_and(|after| FileIdentity::from_stat(&after) == before) {
            self.directories.keep(before, &listing, SystemTime::now());
        }
        Ok(listing)
    }

    /// Whether this path leads to a regular file, by the kernel's caches alone; None: the answer
    /// needs a disk.
    pub fn has_file(&self, path: &CleanPath) -> Option<bool> {
        match self.names.resolve_path(path, true) {
            Ok(found) => Some(stat_known_file(&found).is_ok_and(|stat| is_regular_stat(&stat))),
            Err(NameRefusal::Busy) => None,
            Err(_) => Some(false),
        }
    }

    /// Number of contents in memory: mappings and small files.
    pub fn count_loaded(&self) -> usize {
        self.lock_loaded().len() + self.lock_small().files.len()
    }

    /// Drops unused contents whose file was removed or replaced, so that the file system frees
    /// their space.
    pub fn sweep(&self) {
        let idle: Vec<(FileIdentity, WeakServedContent)> = self
            .lock_loaded()
            .iter()
            .filter(|(_, content)| is_idle(content))
            .map(|(id, content)| (*id, content.downgrade()))
            .collect();
        // Do not hold the lock here: a file server may take its time.
        let unlinked = idle
            .iter()
            .filter(|(_, content)| content.upgrade().is_some_and(|content| content.is_unlinked()));
        let unlinked: Vec<FileIdentity> = unlinked.map(|(id, _)| *id).collect();
        let mut loaded = self.lock_loaded();
        for id in unlinked {
            if loaded.get(&id).is_some_and(is_idle) {
                loaded.remove(&id);
            }
        }
        drop(loaded);
        self.memory.unmap_dead();
        watch::read_inotify_events();
    }

    fn load_content(&self, question: CatalogQuestion) -> Result<ServedContent, NameRefusal> {
        let found = match question.found {
            Some(found) => found,
            None => self.names.resolve_path(&question.path, false)?,
        };
        let (file, identity) = self.open_regular(found)?;
        if identity.len <= INLINE_BYTES_MAX {
            return self.load_small(&file, identity);
        }

        // Another core may have loaded the same version.
        if let Some(content) = self.lock_loaded().get(&identity) {
            return Ok(content.clone());
        }

        // Map outside the lock, since this may wait for the disk. If two workers map one version,
        // the entry of the first wins.
        let content =
            ServedContent::map(file, identity, &self.memory).map_err(|_| NameRefusal::TooMany)?;
        let identity = content.identity().unwrap_or(identity);
        self.touch(&content);

        // Make room: drop the least recently used mapping without a user.
        let mut evicted = Vec::new();
        let mut loaded = self.lock_loaded();
        while loaded.len() >= self.mappings_max.load(Ordering::Relaxed).max(1) {
            let idle = loaded.iter().filter(|(_, content)| Arc::strong_count(content.body()) == 1);
            let oldest = idle
                .min_by_key(|(_, content)| content.body().used.load(Ordering::Relaxed))
                .map(|(id, _)| *id);
            let Some(oldest) = oldest.and_then(|id| loaded.remove(&id)) else {
                self.short.fetch_add(1, Ordering::Relaxed);
                return Err(NameRefusal::TooMany);
            };
            evicted.push(oldest);
        }

        let content = loaded.entry(identity).or_insert(content).clone();
        drop(loaded);
        drop(evicted);
        self.memory.unmap_dead();
        Ok(content)
    }

    /// Reads a small file. It needs no mapping: if too many small files are in use, it lives as
    /// long as its users do.
    fn load_small(
        &self,
        file: &File,
        identity: FileIdentity,
    ) -> Result<ServedContent, NameRefusal> {
        if let Some(content) = self.lock_small().files.get(&identity) {
            return Ok(content.clone());
        }
        let content =
            ServedContent::small_file(Bytes::from(read_exactly(file, identity.len)?), &identity);
        self.touch(&content);
        self.lock_small().keep(identity, &content);
        Ok(content)
    }

    /// Opens exactly the file that `found` names, through its descriptor: no rename can put another
    /// file in its place.
    pub(super) fn open_regular(&self, found: OwnedFd) -> Result<(File, FileIdentity), NameRefusal> {
        let file = self.names.open_regular(&found)?;
        let identity = FileIdentity::from_stat(&stat_file(&file)?);
        self.devices.learn(&file, identity.device);
        Ok((file, identity))
    }

    #[inline]
    pub(super) fn touch(&self, content: &ServedContent) {
        content.body().used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn lock_small(&self) -> std::sync::MutexGuard<'_, SmallFiles> {
        self.small.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_loaded(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<FileIdentity, ServedContent>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether no transfer uses the content.
fn is_idle(content: &ServedContent) -> bool {
    Arc::strong_count(content.body()) == 1
}

fn read_exactly(file: &File, len: u64) -> Result<Vec<u8>, NameRefusal> {
    let mut bytes = vec![0; usize::try_from(len).map_err(|_| NameRefusal::TooLarge)?];
    file.read_exact_at(&mut bytes, 0).map_err(|_| NameRefusal::ReadFailed)?;
    Ok(bytes)
}
