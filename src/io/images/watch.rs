//! Notices writes to files that the server sends, by inotify(7). Times alone do not show them: a
//! touch, a rename or a chmod changes times too, and a program that overwrites a file may reset its
//! time.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// One inotify instance for the process, since a user may have few.
static WATCH: LazyLock<FileWatch> = LazyLock::new(FileWatch::new);

/// Changes of names, times and rights, which leave the bytes as they are. If a program sets the
/// modification time alone, the kernel reports a write.
const TOUCHED: u32 = libc::IN_ATTRIB | libc::IN_MOVE_SELF | libc::IN_DELETE_SELF;

struct FileWatch {
    /// None: the system grants no inotify instance.
    events: Option<File>,
    files: Mutex<HashMap<i32, Vec<Weak<FileChanges>>>>,
}

/// The changes of a file since it was mapped.
#[derive(Debug)]
pub(super) struct FileChanges {
    number: i32,
    is_written: AtomicBool,
    is_touched: AtomicBool,
}

impl FileChanges {
    /// Begins to watch a file. None: the limit on watches is reached.
    pub(super) fn of(file: &File) -> Option<Arc<Self>> {
        let events = WATCH.events.as_ref()?;
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        // Hold the lock until the map has the file: so every event finds its file.
        let mut files = WATCH.files();
        // SAFETY: the descriptor is open, and the path is NUL-terminated and outlives the call.
        let number = unsafe {
            libc::inotify_add_watch(events.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY | TOUCHED)
        };
        if number < 0 {
            return None;
        }
        let seen = Arc::new(Self {
            number,
            is_written: AtomicBool::new(false),
            is_touched: AtomicBool::new(false),
        });
        files.entry(number).or_default().push(Arc::downgrade(&seen));
        Some(seen)
    }

    /// Whether only names, times or rights of the file have changed, and not its bytes.
    pub(super) fn is_only_touched(&self) -> bool {
        read_inotify_events();
        !self.is_written.load(Ordering::Relaxed) && self.is_touched.load(Ordering::Relaxed)
    }
}

impl Drop for FileChanges {
    fn drop(&mut self) {
        let mut files = WATCH.files();
        let Some(watchers) = files.get_mut(&self.number) else { return };
        watchers.retain(|seen| seen.strong_count() > 0);
        if watchers.is_empty()
            && let Some(events) = &WATCH.events
        {
            files.remove(&self.number);
            // SAFETY: the call takes numbers; the watch is of this instance or gone already.
            unsafe { libc::inotify_rm_watch(events.as_raw_fd(), self.number) };
        }
    }
}

/// Reads the events of the kernel. A worker must call this now and then, before the kernel's queue
/// overflows.
pub(super) fn read_inotify_events() {
    let Some(mut events) = WATCH.events.as_ref() else { return };
    let files = WATCH.files();
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = events.read(&mut bytes) {
        let mut rest = &bytes[..read];
        while let Some((event, after)) = split_inotify_event(rest) {
            rest = after;
            let watchers = match event.mask & libc::IN_Q_OVERFLOW {
                0 => files.get(&event.number).map_or(&[][..], Vec::as_slice),
                // The queue overflowed: any file may have changed.
                _ => {
                    files
                        .values()
                        .flatten()
                        .filter_map(Weak::upgrade)
                        .for_each(|seen| seen.note(libc::IN_MODIFY));
                    continue;
                }
            };
            watchers.iter().filter_map(Weak::upgrade).for_each(|seen| seen.note(event.mask));
        }
    }
}

impl FileChanges {
    fn note(&self, mask: u32) {
        if mask & libc::IN_MODIFY != 0 {
            self.is_written.store(true, Ordering::Relaxed);
        } else if mask & TOUCHED != 0 {
            self.is_touched.store(true, Ordering::Relaxed);
        }
    }
}

struct InotifyEvent {
    number: i32,
    mask: u32,
}

/// Takes the first `struct inotify_event` off: watch, mask, cookie, length of the name, name.
fn split_inotify_event(bytes: &[u8]) -> Option<(InotifyEvent, &[u8])> {
    let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let after = bytes.get(16 + usize::try_from(word(12)?).ok()?..)?;
    Some((InotifyEvent { number: word(0)?.cast_signed(), mask: word(4)? }, after))
}

impl FileWatch {
    fn new() -> Self {
        // SAFETY: the call takes flags only.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let events = (fd >= 0).then(|| File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        Self { events, files: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<i32, Vec<Weak<FileChanges>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{FileExt, PermissionsExt};
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_write_is_told_from_a_touch_a_chmod_and_a_rename() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"bytes").unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let (one, two) = (FileChanges::of(&file).unwrap(), FileChanges::of(&file).unwrap());
        assert!(!one.is_only_touched(), "nothing has happened");
        let before = file.metadata().unwrap().modified().unwrap();
        let touch = |time| {
            file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap()
        };
        touch(SystemTime::now());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        fs::rename(&path, directory.path().join("other")).unwrap();
        assert!(one.is_only_touched() && two.is_only_touched());
        drop(two);
        file.write_all_at(b"B", 0).unwrap();
        touch(before);
        assert!(!one.is_only_touched(), "its time is what it was, its bytes are not");
        let new = FileChanges::of(&file).unwrap();
        touch(SystemTime::now());
        assert!(new.is_only_touched() && !one.is_only_touched());
    }
}
