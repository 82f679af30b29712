//! Events: one per machine and stage, pushed by cores into a bounded queue, printed by the log thread.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::boot::machine::Mac;

/// Events that may wait for the log thread; one more is dropped and counted, never waited for.
pub const EVENTS_QUEUED_MAX: usize = 8192;

/// The step of a boot an event belongs to, in the order in which a machine meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Dhcp,
    Loader,
    Menu,
    Kernel,
    Initrd,
    AnswerFile,
    File,
}

/// How loud an event is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Normal between firmware and server (a size probe, a missing grub.cfg-01-...).
    Detail,
    /// A step of a boot.
    Step,
    /// Something an operator will want to know.
    Warning,
}

/// One thing that happened to one machine.
#[derive(Clone, Debug)]
pub struct Event {
    pub mac: Option<Mac>,
    pub address: Option<IpAddr>,
    pub stage: Stage,
    pub weight: Weight,
    /// One sentence, reasons included.
    pub text: String,
}

/// The cores' end of the queue. Cloned to every thread.
#[derive(Clone, Debug)]
pub struct Events {
    queue: SyncSender<Event>,
    dropped: Arc<AtomicU64>,
}

/// A queue of events: the cores' end, and the log thread's.
pub fn queue() -> (Events, Receiver<Event>) {
    let (sender, receiver) = sync_channel(EVENTS_QUEUED_MAX);
    (Events { queue: sender, dropped: Arc::default() }, receiver)
}

impl Events {
    /// Hands an event over without waiting; a full queue drops it and counts the drop.
    pub fn push(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events lost to a full queue since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
