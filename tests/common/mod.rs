//! The system tests' world: namespaces, processes, captures, machines, file trees; each test binary
//! uses its part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

pub mod capture;
pub mod cgroup;
pub mod fuse;
pub mod honest;
pub mod inside;
pub mod net;
pub mod process;
pub mod relayed;
pub mod root;
pub mod seccomp;
pub mod server;
pub mod vm;
pub mod watched;
pub mod wire;
pub mod witness;
pub mod world;

pub use process::need;

/// A UDP address of loopback that nobody uses, for a server that must be told its port. Below the
/// range out of which the kernel serves `bind` to port 0 (32768 and up), so that no client of a
/// neighbouring test is given it in the meantime.
pub fn free_port() -> SocketAddr {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let number =
            u32::from(NEXT.fetch_add(1, Ordering::Relaxed)).wrapping_add(start) % u32::from(PORTS);
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + u16::try_from(number).unwrap()));
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Sets a flag that ends a thread of the test, also where the test panics first: a scope waits for
/// its threads, so that a thread without an end would hide the panic and hang the whole run.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A directory of this test's own under the target directory; it outlives a failed test, so that
/// its files can be read.
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
}

impl Scratch {
    pub fn new(name: &str) -> Self {
        let builder = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self { dir: Some(builder.expect("a scratch directory under target/tmp")) }
    }

    pub fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the files of the failed test are in {}", dir.keep().display());
        }
    }
}
