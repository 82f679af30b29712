//! A real HTTP core in this process, on ports of its own on 127.0.0.1 and ::1.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ringboot::engine::mailbox::MailboxBell;
use ringboot::engine::net;
use ringboot::images::{ImageStore, DiskWorkers};
use ringboot::observe::events::{MachineEvent, open_event_queue};
use ringboot::serve::core::{CoreError, CoreParts};
use ringboot::serve::drain::DrainOrder;
use ringboot::serve::http::{HttpCore, HttpCounters, HttpPlan};
use ringboot::serve::pulse::CorePulse;
use ringboot::serve::shelf::FileSources;
use ringboot::snapshot::{PublishedState, Snapshot};
use ringboot::render::TemplateRenderer;

use super::client::Client;

/// Nothing on loopback takes longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    pub(crate) v4: SocketAddr,
    pub(crate) v6: SocketAddr,
    pub(crate) events: Receiver<MachineEvent>,
    pub(crate) counters: Arc<HttpCounters>,
    root: tempfile::TempDir,
    drain: DrainOrder,
    bell: MailboxBell,
    thread: Option<JoinHandle<Result<(), CoreError>>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(HttpPlan::default())
    }

    pub(crate) fn with(plan: HttpPlan) -> Self {
        let root = tempfile::tempdir().unwrap();
        let images = ImageStore::open(root.path(), DiskWorkers::start().unwrap()).unwrap();
        let names = Arc::new(FileSources {
            images,
            published: PublishedState::new(Snapshot::default()),
            renderer: TemplateRenderer::default(),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        });
        let listeners = ["127.0.0.1:0", "[::1]:0"]
            .map(|at| net::open_tcp_listener(at.parse().unwrap(), false).unwrap());
        let [v4, v6] = [0, 1].map(|n: usize| listeners[n].local_addr().unwrap());
        let (sender, events) = open_event_queue();
        let drain = DrainOrder::default();
        let parts = CoreParts {
            datapath: super::DATAPATH,
            events: sender,
            drain: drain.clone(),
            pulse: CorePulse::default(),
        };
        let (core, bell) = HttpCore::new(parts, listeners.into(), &plan, &names, &Arc::default())
        .unwrap();
        let counters = core.counters();
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || core.run(&mut || ready.send(()).unwrap()));
        is_ready.recv().unwrap();
        Self { v4, v6, events, counters, root, drain, bell, thread: Some(thread) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file under the root, dated a while ago: a change after this is then seen by its
    /// time.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.v4).unwrap())
    }

    /// Ends the server as SIGTERM does, and says how its thread ended.
    pub(crate) fn stop(&mut self) -> Result<(), CoreError> {
        self.order_stop();
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("the core panicked"))
    }

    /// Orders the end without waiting for it.
    pub(crate) fn order_stop(&self) {
        self.drain.order();
        self.bell.ring();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.stop();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Bytes that differ from place to place, so that a wrong offset shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}
