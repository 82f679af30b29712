//! One HTTP core: a thread with a ring of its own that accepts, lets hyper parse and frame, and sends what the shelf has.

mod answer;
mod body;
mod connection;
mod journal;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

pub use super::drain::Drain;

use super::drain::DRAIN_MAX;
use super::pulse::Pulse;
use super::shelf::{Names, Shelf};
use crate::engine::tcp::{self, Accepted, CONNECTIONS_PER_RING_MAX, Listener};
use crate::http::admission::{Admission, Arrival};
use crate::http::limits::{
    CHUNK_BYTES, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, DRAIN_BYTES_PER_SECOND_MIN, HEAD_TIMEOUT, IDLE_TIMEOUT,
    LINGER_TIMEOUT, REFUSALS_MAX, STALL_TIMEOUT,
};
use crate::images::CleanPath;
use crate::observe::counters::Count;
use crate::observe::events::Events;
use crate::snapshot::Published;

/// Pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the configuration says of HTTP.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    pub listen: Vec<SocketAddr>,
    /// Directories that are listed, everything below them included; the root path covers the whole tree (H-28).
    pub index: Vec<CleanPath>,
    /// The file that answers for its directory.
    pub index_file: Option<String>,
    /// Connections of one client address; None = no limit (H-34).
    pub per_source: Option<usize>,
    /// Connections of one core.
    pub connections: usize,
    /// Bytes of a mapped file that go to the kernel at a time.
    pub chunk_bytes: u64,
    pub timeouts: Timeouts,
}

/// The times of H-33.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub head: Duration,
    pub idle: Duration,
    pub stall: Duration,
    pub linger: Duration,
    /// Bytes a second over each `stall`.
    pub drain_rate_min: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: HEAD_TIMEOUT,
            idle: IDLE_TIMEOUT,
            stall: STALL_TIMEOUT,
            linger: LINGER_TIMEOUT,
            drain_rate_min: DRAIN_BYTES_PER_SECOND_MIN,
        }
    }
}

impl Default for HttpPlan {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            index: Vec::new(),
            index_file: None,
            per_source: Some(CONNECTIONS_PER_ADDRESS_MAX),
            connections: CONNECTIONS_MAX,
            chunk_bytes: CHUNK_BYTES,
            timeouts: Timeouts::default(),
        }
    }
}

impl HttpPlan {
    /// Whether a directory or one above it is listed.
    fn is_listed(&self, directory: &CleanPath) -> bool {
        let directory = directory.as_bytes();
        self.index.iter().any(|listed| {
            let rest = directory.strip_prefix(listed.as_bytes());
            rest.is_some_and(|rest| listed.as_bytes().is_empty() || rest.is_empty() || rest.starts_with(b"/"))
        })
    }
}

/// What one core counts.
#[derive(Debug, Default)]
pub struct HttpCounters {
    pub connections: Count,
    pub requests: Count,
    /// Bytes of heads and bodies that the kernel has taken.
    pub bytes_sent: Count,
    /// Requests answered 4xx or 5xx.
    pub refused_requests: Count,
    /// Connections cut because the client was too slow (H-33).
    pub timed_out: Count,
    /// Answers cut short because their file changed, or because the client went away.
    pub aborted: Count,
    /// Connections that had to wait for room, and those that found no room to wait (H-34).
    pub queued: Count,
    pub turned_away: Count,
    /// Events that were not said because there were too many.
    pub events_left_out: Count,
}

/// Everything of the thread before it runs.
#[derive(Debug)]
pub struct Core {
    listeners: Vec<TcpListener>,
    plan: HttpPlan,
    shelf: Shelf,
    events: Events,
    drain: Drain,
    busy: Arc<AtomicU32>,
    counters: Arc<HttpCounters>,
    pulse: Pulse,
}

impl Core {
    /// `busy` counts the answers that are being sent, for the TFTP core on the same processor.
    pub fn new(
        listeners: Vec<TcpListener>,
        plan: &HttpPlan,
        names: &Arc<Names>,
        events: &Events,
        drain: &Drain,
        busy: &Arc<AtomicU32>,
    ) -> Self {
        Self {
            listeners,
            plan: plan.clone(),
            shelf: Shelf::new(Arc::clone(names)),
            events: events.clone(),
            drain: drain.clone(),
            busy: Arc::clone(busy),
            counters: Arc::default(),
            pulse: Pulse::default(),
        }
    }

    /// The core is watched: it shows signs of life.
    #[must_use]
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Self { pulse, ..self }
    }

    pub fn counters(&self) -> Arc<HttpCounters> {
        Arc::clone(&self.counters)
    }

    /// Serves until drained. `ready` is called once, when connections are accepted.
    pub fn run(self, ready: &mut dyn FnMut()) -> Result<(), String> {
        let served = tcp::run(serve(self, ready)).map_err(|error| format!("starting the ring: {error}"))?;
        served.map_err(|error| error.to_string())
    }
}

/// The core as its tasks share it: one thread, so no locks.
struct Running {
    plan: HttpPlan,
    shelf: RefCell<Shelf>,
    events: Events,
    busy: Arc<AtomicU32>,
    counters: Arc<HttpCounters>,
    builder: hyper::server::conn::http1::Builder,
    admission: RefCell<Admission<Accepted>>,
    refusals: Cell<usize>,
    pace: Cell<journal::Pace>,
    phase: watch::Sender<Phase>,
    /// Rung when a connection has ended.
    left: Notify,
}

/// How the core stands to its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Answers that run are finished, idle connections closed.
    Draining,
    /// Nothing is finished any more.
    Cutting,
}

async fn serve(core: Core, ready: &mut dyn FnMut()) -> std::io::Result<()> {
    let listeners: Vec<Rc<Listener>> =
        core.listeners.into_iter().map(|socket| Listener::new(socket).map(Rc::new)).collect::<Result<_, _>>()?;
    let connections = core.plan.connections.min(CONNECTIONS_PER_RING_MAX);
    let running = Rc::new(Running {
        admission: RefCell::new(Admission::new(core.plan.per_source, connections)),
        plan: core.plan,
        shelf: RefCell::new(core.shelf),
        events: core.events,
        busy: core.busy,
        counters: core.counters,
        builder: connection::builder(),
        refusals: Cell::new(0),
        pace: Cell::new(journal::Pace::new(Instant::now())),
        phase: watch::Sender::new(Phase::Serving),
        left: Notify::new(),
    });
    let accepting: Vec<_> = listeners
        .iter()
        .map(|listener| tcp::spawn(accept_all(Rc::clone(&running), Rc::clone(listener), core.drain.clone())))
        .collect();
    tcp::spawn(show_life(core.pulse));
    ready();

    core.drain.ordered().await;
    listeners.iter().for_each(|listener| listener.close());
    for task in accepting {
        let _ = task.await;
    }
    running.admission.borrow_mut().close();
    running.phase.send_replace(Phase::Draining);
    if tokio::time::timeout(DRAIN_MAX, running.all_left()).await.is_err() {
        running.phase.send_replace(Phase::Cutting);
        running.all_left().await;
    }
    Ok(())
}

/// A task like any other: it runs only while the core's loop does.
async fn show_life(pulse: Pulse) {
    let Some(every) = pulse.every() else { return };
    loop {
        pulse.beat();
        tokio::time::sleep(every).await;
    }
}

async fn accept_all(running: Rc<Running>, listener: Rc<Listener>, drain: Drain) {
    loop {
        match listener.accept().await {
            Ok(accepted) => running.admit(accepted),
            Err(_) if drain.is_ordered() => return,
            // The client is gone already, or descriptors are short: either way the next one may do.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

impl Running {
    fn admit(self: &Rc<Self>, accepted: Accepted) {
        self.counters.connections.add(1);
        let address = accepted.peer.ip();
        let arrival = self.admission.borrow_mut().arrive(address, accepted);
        match arrival {
            Arrival::Start(accepted) => self.start(address, accepted),
            Arrival::Waits => self.counters.queued.add(1),
            Arrival::Refuse(accepted) => self.turn_away(accepted),
        }
    }

    fn start(self: &Rc<Self>, address: IpAddr, accepted: Accepted) {
        let place = Place { running: Rc::clone(self), address };
        tcp::spawn(async move { connection::serve(&place.running, accepted).await });
    }

    /// No room to wait: iPXE is told when to come again, others are closed (H-14).
    fn turn_away(self: &Rc<Self>, accepted: Accepted) {
        self.counters.turned_away.add(1);
        if self.refusals.get() >= REFUSALS_MAX {
            return;
        }
        self.refusals.set(self.refusals.get() + 1);
        let running = Rc::clone(self);
        tcp::spawn(async move {
            connection::turn_away(accepted, running.plan.timeouts.linger).await;
            running.refusals.set(running.refusals.get() - 1);
            running.left.notify_waiters();
        });
    }

    /// Waits until no connection is left.
    async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.admission.borrow().running() == 0 && self.refusals.get() == 0 {
                return;
            }
            left.await;
        }
    }

    fn published(&self) -> Arc<Published> {
        Arc::clone(&self.shelf.borrow().names().published)
    }

    /// One more answer is being sent, until the guard is dropped.
    fn sending(&self) -> Sending {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Sending(Arc::clone(&self.busy))
    }
}

/// A connection's place among those that are served, for as long as its task lives.
struct Place {
    running: Rc<Running>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let next = self.running.admission.borrow_mut().leave(self.address);
        if let Some((address, accepted)) = next {
            self.running.start(address, accepted);
        }
        self.running.left.notify_waiters();
    }
}

/// Counts an answer as being sent while it lives.
struct Sending(Arc<AtomicU32>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
