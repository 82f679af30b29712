//! Serves the same files through hyper on tokio-uring and through ringboot's own driver, over one
//! client, and prints the ratio.
//!
//! `cargo bench --bench drivers` takes about 40 s. Without `--bench`, or with `--test`, it drives
//! each server once and shortly and prints no figures: the tests do so, to see that all of them
//! serve the right bytes. docs/measuring.md explains the figures.
#![allow(missing_debug_implementations, clippy::print_stdout)]

mod client;
mod hyper_server;
mod ring_stream;
mod ringboot_server;
mod rounds;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ringboot::engine::affinity;
use ringboot::engine::datapath::Datapath;
use ringboot::images::{DiskWorkers, ImageStore};
use ringboot::render::TemplateRenderer;
use ringboot::serve::shelf::FileSources;
use ringboot::snapshot::{PublishedState, Snapshot};

use self::ringboot_server::RingbootServer;
use self::rounds::Schedule;

/// The product's allocator, for every server alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a client waits for a server before the run fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A file that every server has under this name.
pub(crate) struct ServedFile {
    pub(crate) name: &'static str,
    pub(crate) bytes: Bytes,
    /// How many connections ask for it at a time.
    pub(crate) connections: usize,
}

impl ServedFile {
    /// Bytes that differ from place to place, so that a wrong offset shows.
    fn new(name: &'static str, length: u32, connections: usize) -> Self {
        let byte_at = |at: u32| at.wrapping_mul(0x9e37_79b9).to_be_bytes()[0];
        Self { name, bytes: (0..length).map(byte_at).collect(), connections }
    }
}

/// Puts the files into this directory, where all servers look names up.
fn furnish(root: &Path, files: &[ServedFile]) -> io::Result<Arc<FileSources>> {
    for file in files {
        fs::write(root.join(file.name), &file.bytes)?;
    }
    Ok(Arc::new(FileSources {
        images: ImageStore::open(root, DiskWorkers::start()?)?,
        published: PublishedState::new(Snapshot::default()),
        renderer: TemplateRenderer::default(),
        strip_prefixes: Vec::new(),
        ignore_case: false,
    }))
}

/// A server of the comparison, which serves until this process ends.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
}

/// The processors of the comparison: the client and the servers disturb each other on one.
#[derive(Clone, Copy)]
struct Placement {
    server: Option<usize>,
    client: Option<usize>,
}

impl Placement {
    fn choose() -> io::Result<Self> {
        let allowed = affinity::list_allowed_processors()?;
        let is_shared = allowed.len() < 2;
        let nth = |n: usize| allowed.get(n).copied().filter(|_| !is_shared);
        Ok(Self { server: nth(0), client: nth(1) })
    }

    fn print(self) {
        match (self.server, self.client) {
            (Some(server), Some(client)) => {
                println!("Servers on processor {server}, client on processor {client}.")
            }
            _ => println!(
                "Servers and client SHARE ONE PROCESSOR: these are no figures to compare with \
                 others."
            ),
        }
    }
}

/// Pins the calling thread, where there is a processor for it alone.
pub(crate) fn pin_thread(processor: Option<usize>) -> io::Result<()> {
    processor.map_or(Ok(()), |processor| affinity::pin_to_processors(&[processor]))
}

fn main() -> io::Result<()> {
    let started = Instant::now();
    let has = |word: &str| std::env::args().skip(1).any(|argument| argument == word);
    let is_measuring = has("--bench") && !has("--test");
    let schedule = if is_measuring { Schedule::measuring() } else { Schedule::trying() };
    let files = [
        ServedFile::new("4-KiB", 4 << 10, 32),
        ServedFile::new("16-KiB", 16 << 10, 32),
        ServedFile::new("1-MiB", 1 << 20, 16),
    ];

    let placement = Placement::choose()?;
    placement.print();
    let root = tempfile::tempdir()?;
    let names = furnish(root.path(), &files)?;
    // All servers are up all the time: a tokio-uring runtime that ends frees buffers that the
    // kernel still writes to.
    let ring = RingbootServer::start(&names, Datapath::IoUring, placement.server)?;
    let epoll = RingbootServer::start(&names, Datapath::Epoll, placement.server)?;
    let contenders = [
        Contender {
            name: "hyper on tokio-uring",
            address: hyper_server::start(&files, &names, placement.server)?,
        },
        Contender { name: "ringboot, io_uring", address: ring.address },
        Contender { name: "ringboot, epoll", address: epoll.address },
    ];

    pin_thread(placement.client)?;
    for file in &files {
        let comparison = rounds::compare(&contenders, file, &schedule)?;
        if is_measuring {
            comparison.print();
        } else {
            println!("{}: every server serves the right bytes", file.name);
        }
    }
    for server in [ring, epoll] {
        server.stop()?;
    }
    println!("{:.0} s in all.", started.elapsed().as_secs_f64());
    Ok(())
}
