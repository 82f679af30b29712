//! The HTTP core's events: files sent whole, names refused, connections cut.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plan::HttpCounters;
use crate::images::{CleanPath, NameRefusal};
use crate::observe::events::{EventKind, EventSender, EventWeight, MachineEvent, MachineStage};
use crate::observe::pace::{EventSource, LinePace, LogGate, append_left_out_count};
use crate::serve::shelf::{FileOrigin, FileSources};
use crate::serve::stage::{self, stage_of};

/// Events of one core in a second: a person cannot read more, and formatting an event costs more
/// than serving a small file.
const EVENTS_PER_SECOND_MAX: u32 = 2_000;
/// Log lines about one kind of trouble in a second.
const TROUBLE_PER_SECOND_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// The core logs the same fault once in this time.
const FAULTS_APART: Duration = Duration::from_secs(60);

/// A fault of the core itself, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CoreFault {
    /// All connections are taken: this many.
    AllTaken(usize),
    /// accept(2) fails with this error.
    NoConnection(i32),
}

/// A file on its way to a machine.
#[derive(Debug)]
pub(super) struct FileDelivery {
    pub(super) path: Rc<CleanPath>,
    pub(super) origin: FileOrigin,
    pub(super) reasons: Vec<String>,
    /// Bytes of this answer's body.
    pub(super) bytes: u64,
    pub(super) began: Instant,
    /// The answer carries the last byte of the file. Most pieces of an ISO that a machine boots in
    /// place do not, and so are not logged.
    pub(super) completes: bool,
}

/// One core's way to the log.
#[derive(Debug)]
pub(super) struct HttpJournal {
    events: EventSender,
    names: Arc<FileSources>,
    counters: Arc<HttpCounters>,
    faults: LinePace<CoreFault>,
    /// Limits all events.
    pace: LinePace<()>,
    /// Limits the events that go to the log.
    gate: LogGate,
}

impl HttpJournal {
    pub(super) fn new(
        events: EventSender,
        names: Arc<FileSources>,
        counters: Arc<HttpCounters>,
    ) -> Self {
        Self {
            events,
            names,
            counters,
            faults: LinePace::new(1, FAULTS_APART),
            pace: LinePace::new(EVENTS_PER_SECOND_MAX, SECOND),
            gate: LogGate::new(TROUBLE_PER_SECOND_MAX, EVENTS_PER_SECOND_MAX),
        }
    }

    /// Logs a file whose last byte the kernel has taken.
    pub(super) fn log_delivered(
        &mut self,
        peer: SocketAddr,
        delivery: &FileDelivery,
        now: Instant,
    ) {
        if !self.may_log(now) {
            return;
        }
        let FileDelivery { path, reasons, bytes, began, .. } = delivery;
        let kind = EventKind::Sent { name: path.display().into_owned(), bytes: *bytes };
        let reasons =
            if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
        let seconds = now.duration_since(*began).as_secs_f64();
        let text =
            format!("{} sent by HTTP, {bytes} bytes in {seconds:.3} s{reasons}", path.display());
        self.push_event(peer, self.stage_of(delivery), kind, text, now);
    }

    /// Logs a file that was changed in place: its client received fewer bytes than the head
    /// promised.
    pub(super) fn log_changed(&mut self, peer: SocketAddr, delivery: &FileDelivery, now: Instant) {
        if !self.may_log(now) {
            return;
        }
        let name = delivery.path.display().into_owned();
        let text = format!(
            "{name}: the file was changed in place while it was being sent: connection cut"
        );
        self.push_event(peer, self.stage_of(delivery), EventKind::Changed { name }, text, now);
    }

    /// Logs a client that received too slowly, or never finished its request (H-33).
    pub(super) fn log_timed_out(&mut self, peer: SocketAddr, written: u64, now: Instant) {
        if self.may_log(now) {
            let text = format!("HTTP connection cut after {written} bytes: too slow");
            self.push_event(peer, MachineStage::File, EventKind::TooSlow, text, now);
        }
    }

    /// Logs a refused name. `told` returns the name and the reason.
    pub(super) fn log_refused(
        &mut self,
        peer: SocketAddr,
        refusal: NameRefusal,
        told: impl FnOnce() -> (String, String),
        now: Instant,
    ) {
        if self.may_log(now) {
            let refused =
                stage::refused(&self.names.published.load().snapshot, told(), refusal, "HTTP");
            self.push_event(peer, refused.stage, refused.kind, refused.text, now);
        }
    }

    /// Logs a malformed request, or one of a method that is not served. `why` returns a clause.
    pub(super) fn log_bad(&mut self, peer: SocketAddr, why: impl FnOnce() -> String, now: Instant) {
        if self.may_log(now) {
            self.push_event(
                peer,
                MachineStage::File,
                EventKind::BadRequest,
                format!("HTTP refused a request: {}", why()),
                now,
            );
        }
    }

    /// Logs a fault of the core, with a count of its repetitions that were not logged.
    pub(super) fn log_fault(&mut self, fault: CoreFault, now: Instant) {
        let Some(unsaid) = self.faults.admit(fault, now) else { return };
        let text = match fault {
            CoreFault::AllTaken(connections) => format!(
                "all {connections} HTTP connections of a core are taken: clients that stand still \
                 are disconnected for clients that have fewer connections. Raise `[http] \
                 connections` if this is no attack"
            ),
            CoreFault::NoConnection(libc::EMFILE) => {
                "no descriptor is free for an HTTP connection (EMFILE): raise LimitNOFILE= of the \
                 unit, or `ulimit -n`"
                    .to_owned()
            }
            CoreFault::NoConnection(error) => {
                format!(
                    "the kernel gives no HTTP connection: {}",
                    std::io::Error::from_raw_os_error(error)
                )
            }
        };
        tracing::warn!("{}", append_left_out_count(text, unsaid));
    }

    /// Whether the core may log one more event in this second. If not, the event is not even
    /// formatted.
    fn may_log(&mut self, now: Instant) -> bool {
        let may = self.pace.admit((), now).is_some();
        if !may {
            self.counters.events_left_out.add(1);
        }
        may
    }

    fn stage_of(&self, delivery: &FileDelivery) -> MachineStage {
        stage_of(&self.names.published.load().snapshot, &delivery.path.display(), delivery.origin)
    }

    /// Hands an event to the queue: for the timeline alone once the log has enough lines of its
    /// kind.
    fn push_event(
        &mut self,
        peer: SocketAddr,
        stage: MachineStage,
        kind: EventKind,
        text: String,
        now: Instant,
    ) {
        let mac = self.names.machine_at(peer.ip()).map(|machine| machine.mac);
        let mut event = MachineEvent::new(mac, Some(peer.ip()), stage, kind, text);

        // A detail counts for no limit of the log, which shows it at DEBUG alone.
        if event.weight != EventWeight::Detail {
            match self.gate.admit(&event.kind, None, EventSource::from_event(&event), now) {
                Some(unsaid) => event.text = append_left_out_count(event.text, unsaid),
                None => {
                    event.weight = EventWeight::Detail;
                    self.counters.events_left_out.add(1);
                }
            }
        }
        self.events.push(event);
    }
}
