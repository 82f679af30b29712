//! Which devices are file servers, whose files can change behind the kernel's back.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;

use arc_swap::ArcSwap;

/// Devices by number, and whether each is a file server.
#[derive(Debug, Default)]
pub(super) struct RemoteDevices {
    known: ArcSwap<HashMap<u64, bool>>,
}

impl RemoteDevices {
    /// Whether a worker has found this device to be a file server.
    #[inline]
    pub(super) fn is_remote(&self, device: u64) -> bool {
        self.known.load().get(&device) == Some(&true)
    }

    /// Finds out whether a file is on a file server. Waits for the disk.
    pub(super) fn learn(&self, file: &File, device: u64) {
        if !self.known.load().contains_key(&device) {
            let is_remote = is_remote_file(file);
            self.known.rcu(|known| {
                let mut known = HashMap::clone(known);
                known.insert(device, is_remote);
                known
            });
        }
    }
}

/// Whether a file is on a file server, which may change it behind the kernel's back.
fn is_remote_file(file: &File) -> bool {
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
