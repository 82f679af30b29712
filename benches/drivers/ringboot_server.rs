//! One HTTP core of ringboot on a thread of its own, as the supervisor starts it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use ringboot::engine::datapath::Datapath;
use ringboot::engine::mailbox::MailboxBell;
use ringboot::engine::net;
use ringboot::observe::events::{MachineEvent, open_event_queue};
use ringboot::serve::core::{CoreError, CoreParts};
use ringboot::serve::drain::DrainOrder;
use ringboot::serve::http::{HttpCore, HttpPlan};
use ringboot::serve::pulse::CorePulse;
use ringboot::serve::shelf::FileSources;

use super::pin_thread;

/// What ringboot gives its connections by default: what else the machine is set to would decide the
/// figures.
const CONGESTION: &str = "cubic";

/// A socket for a server of the comparison.
pub(crate) fn listen() -> io::Result<TcpListener> {
    let listener = net::open_tcp_listener(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false)?;
    net::set_congestion_control(&listener, CONGESTION)?;
    Ok(listener)
}

pub(crate) struct RingbootServer {
    pub(crate) address: SocketAddr,
    drain: DrainOrder,
    bell: MailboxBell,
    thread: JoinHandle<Result<(), CoreError>>,
    /// The queue of events has a reader for as long as the core runs; when it is full, the core
    /// drops events and counts them.
    _events: Receiver<MachineEvent>,
}

impl RingbootServer {
    pub(crate) fn start(
        names: &Arc<FileSources>,
        datapath: Datapath,
        processor: Option<usize>,
    ) -> io::Result<Self> {
        let listener = listen()?;
        let address = listener.local_addr()?;
        let (events, received) = open_event_queue();
        let drain = DrainOrder::default();
        // The client of this bench is one address with many connections.
        let plan = HttpPlan { per_source: None, ..HttpPlan::default() };
        let parts =
            CoreParts { datapath, events, drain: drain.clone(), pulse: CorePulse::default() };
        let (core, bell) = HttpCore::new(parts, vec![listener], &plan, names, &Arc::default())?;

        let (ready, is_ready) = channel();
        let serve = move || {
            pin_thread(processor)
                .map_err(|error| CoreError::System { what: "pinning the thread", error })?;
            core.run(&mut || {
                // A receiver that is gone means that this process has given up already.
                let _ = ready.send(());
            })
        };
        let thread = thread::Builder::new().name(format!("rb-{datapath}")).spawn(serve)?;
        if is_ready.recv().is_err() {
            return Err(ended(thread)
                .err()
                .unwrap_or_else(|| io::Error::other("an HTTP core did not start")));
        }
        Ok(Self { address, drain, bell, thread, _events: received })
    }

    /// Ends the core as SIGTERM does.
    pub(crate) fn stop(self) -> io::Result<()> {
        self.drain.order();
        self.bell.ring();
        ended(self.thread)
    }
}

/// Waits for the core's thread and returns its fault.
fn ended(thread: JoinHandle<Result<(), CoreError>>) -> io::Result<()> {
    thread
        .join()
        .map_err(|_| io::Error::other("an HTTP core has panicked"))?
        .map_err(io::Error::other)
}
