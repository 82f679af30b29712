//! A file server of the test's own by /dev/fuse: every name in it is a file, and it can be told not
//! to answer.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

/// Bytes of every file.
pub const LEN: u64 = 300_000;

/// Mounted until it is dropped.
pub struct FileServer {
    at: CString,
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl FileServer {
    /// Mounts it on a directory, for processes that are started after this.
    pub fn mount(at: &Path) -> Self {
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("/dev/fuse (modprobe fuse)");
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        let [name, kind, options] =
            ["slow", "fuse", &options].map(|text| CString::new(text).unwrap());
        let at = CString::new(at.to_str().unwrap()).unwrap();
        // SAFETY: all strings are NUL-terminated and outlive the call.
        let mounted = unsafe {
            libc::mount(name.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast())
        };
        assert_eq!(mounted, 0, "mounting: {}", std::io::Error::last_os_error());
        let state = Arc::new((Mutex::new(true), Condvar::new()));
        let answers = Arc::clone(&state);
        std::thread::spawn(move || serve(device, &answers));
        Self { at, state }
    }

    /// From now on nothing is answered, or everything is again.
    pub fn answers(&self, does: bool) {
        *self.state.0.lock().unwrap() = does;
        self.state.1.notify_all();
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.answers(true);
        // SAFETY: the path is NUL-terminated and outlives the call.
        unsafe { libc::umount2(self.at.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Answers until it is unmounted, one request after the other.
fn serve(mut device: File, answers: &(Mutex<bool>, Condvar)) {
    let mut request = vec![0; 1 << 20];
    while let Ok(read) = device.read(&mut request) {
        drop(answers.1.wait_while(answers.0.lock().unwrap(), |does| !*does).unwrap());
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let (opcode, unique, node) = (word(4), long(8), long(16));
        let body: Result<Vec<u8>, i32> = match opcode {
            // LOOKUP: nothing may be kept.
            1 => Ok([longs(&[2, 0, 0, 0, 0]), attributes(2)].concat()),
            3 => Ok([longs(&[0, 0]), attributes(node)].concat()), // GETATTR
            14 | 27 => Ok(longs(&[0, 0])),                        // OPEN, OPENDIR
            15 => {
                let (offset, size) = (long(48), u64::from(word(56)));
                Ok(vec![b'x'; usize::try_from(LEN.saturating_sub(offset).min(size)).unwrap()])
            }
            18 | 25 | 29 => Ok(Vec::new()), // RELEASE, FLUSH, RELEASEDIR
            17 => Ok(longs(&[0; 10])),      // STATFS
            26 => Ok(init()),
            2 | 36 | 42 => continue, // FORGET, INTERRUPT, BATCH_FORGET have no answer
            _ => Err(-libc::ENOSYS),
        };
        let (error, body) = body.map_or_else(|error| (error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).unwrap();
        let head =
            [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()].concat();
        let _ = device.write_all(&[head, body].concat()); // whoever asked may have been interrupted
        assert!(read >= 40, "a request has a head");
    }
}

fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct fuse_attr`: the root is a directory, everything else a file.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, len) = if node == 1 { (0o40_755, 0) } else { (0o100_644, LEN) };
    let times_and_mode: [u32; 10] = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
    [
        longs(&[node, len, 0, 1, 1, 1]),
        times_and_mode.iter().flat_map(|word| word.to_ne_bytes()).collect(),
    ]
    .concat()
}

/// `struct fuse_init_out` of version 7.31.
fn init() -> Vec<u8> {
    let mut words = [0u32; 16];
    (words[0], words[1], words[2], words[5]) = (7, 31, 1 << 17, 1 << 17);
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
