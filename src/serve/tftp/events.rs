//! The TFTP core's events: files sent, names refused, transfers that failed. Each kind is limited
//! in lines per second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::held::HeldFile;
use super::plan::TftpCounters;
use crate::images;
use crate::observe::events::{EventKind, EventSender, EventWeight, MachineEvent, MachineStage};
use crate::observe::pace::{EventSource, LinePace, LogGate, append_left_out_count};
use crate::serve::quirks;
use crate::serve::shelf::{FileOrigin, FileSources};
use crate::serve::stage::{self, stage_of};
use crate::tftp::packet::{ErrorCode, TftpRefusal};
use crate::tftp::table::{EndedTransfer, TableCounts, TransferFailure, TransferOutcome};

/// Events of one core in a second: a person cannot read more, and formatting an event costs more
/// than serving a small file.
const EVENTS_PER_SECOND_MAX: u32 = 2_000;
/// Log lines about one kind of trouble in a second: a single datagram with a forged address can
/// cause one.
const TROUBLE_PER_SECOND_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// How often the log reports that places, files, workers or memory are short.
const SHORTAGE_SAID_EVERY: Duration = Duration::from_secs(60);

/// One core's way to the log.
pub(super) struct TftpJournal {
    events: EventSender,
    names: Arc<FileSources>,
    counters: Arc<TftpCounters>,
    all: LinePace<()>,
    gate: LogGate,
    full: LinePace<()>,
    busy: LinePace<()>,
    /// The count of requests that found the table full, at the last look.
    met_full: u64,
}

impl TftpJournal {
    pub(super) fn new(
        events: EventSender,
        names: Arc<FileSources>,
        counters: Arc<TftpCounters>,
    ) -> Self {
        Self {
            events,
            names,
            counters,
            all: LinePace::new(EVENTS_PER_SECOND_MAX, SECOND),
            gate: LogGate::new(TROUBLE_PER_SECOND_MAX, EVENTS_PER_SECOND_MAX),
            full: LinePace::new(1, SHORTAGE_SAID_EVERY),
            busy: LinePace::new(1, SHORTAGE_SAID_EVERY),
            met_full: 0,
        }
    }

    /// Logs the end of a transfer. A refused one was logged at its refusal.
    pub(super) fn log_ended(
        &mut self,
        now: Instant,
        end: &EndedTransfer,
        name: &[u8],
        held: Option<&HeldFile>,
    ) {
        if matches!(end.outcome, TransferOutcome::Refused { .. }) {
            return;
        }
        self.push(now, |names| {
            let machine = names.machine_at(end.peer.ip());
            let mac = machine.map(|machine| machine.mac);
            // A transfer that never held a file has only the name that its client wrote.
            let name = held.map_or_else(
                || name.escape_ascii().to_string(),
                |held| held.asked.ask.path.display().into_owned(),
            );
            let origin = held.map_or(FileOrigin::File, |held| held.origin);
            let (kind, what) = describe_end(end, name.clone())?;
            let stage = stage_of(&names.published.load().snapshot, &name, origin);

            let retransmits = match end.tally.retransmits {
                0 => String::new(),
                n => format!(", {n} retransmissions"),
            };
            let reasons =
                held.map(|held| held.reasons.join("; ")).filter(|reasons| !reasons.is_empty());
            let reasons = reasons.map_or_else(String::new, |reasons| format!(" ({reasons})"));

            // `control/quirks` learns from it what the firmware cannot do.
            let attempt = machine
                .and_then(|machine| quirks::attempt(machine.firmware, &name, end))
                .map(Box::new);
            let text = format!("{what}{retransmits}{reasons}");
            Some(MachineEvent {
                attempt,
                ..MachineEvent::new(mac, Some(end.peer.ip()), stage, kind, text)
            })
        });
    }

    /// Logs a refused name; `told` is the name and the reason.
    pub(super) fn log_refused(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        told: (String, String),
        refusal: images::NameRefusal,
    ) {
        self.push(now, |names| {
            let mac = names.machine_at(peer.ip()).map(|machine| machine.mac);
            let stage::RefusedName { stage, kind, text } =
                stage::refused(&names.published.load().snapshot, told, refusal, "TFTP");
            Some(MachineEvent::new(mac, Some(peer.ip()), stage, kind, text))
        });
    }

    /// Logs a datagram that was turned away: a write request, or no request at all.
    pub(super) fn log_turned_away(&mut self, now: Instant, peer: SocketAddr, refusal: TftpRefusal) {
        self.push(now, |names| {
            let mac = names.machine_at(peer.ip()).map(|machine| machine.mac);
            let (kind, text) = match refusal.code {
                ErrorCode::AccessViolation => (
                    EventKind::WriteRefused,
                    "TFTP refused to take a file: nothing is written here".to_owned(),
                ),
                _ => (EventKind::BadRequest, format!("TFTP refused a request: {}", refusal.text)),
            };
            Some(MachineEvent::new(mac, Some(peer.ip()), MachineStage::File, kind, text))
        });
    }

    /// Logs at most once a minute that the table is full: the clients see only silence.
    pub(super) fn log_full_table(&mut self, now: Instant, counts: &TableCounts, most: usize) {
        let more = counts.full - std::mem::replace(&mut self.met_full, counts.full);
        if more == 0 || self.full.admit((), now).is_none() {
            return;
        }
        let text = format!(
            "all {most} places for TFTP transfers of a core are taken: a new request gets the \
             place of the transfer that has stood still longest, or no answer until there is one \
             ({} requests so far, {} transfers displaced)",
            counts.full, counts.displaced
        );
        self.events.push(MachineEvent::new(None, None, MachineStage::File, EventKind::Short, text));
    }

    /// Logs at most once a minute that requests stay unanswered because something is short.
    pub(super) fn log_busy(&mut self, now: Instant, why: &str) {
        let times = self.counters.busy.read();
        if self.busy.admit((), now).is_none() {
            return;
        }
        let text = format!(
            "TFTP leaves requests without an answer for now ({why}; {times} times so far): clients \
             ask again"
        );
        self.events.push(MachineEvent::new(None, None, MachineStage::File, EventKind::Short, text));
    }

    /// Hands an event to the queue: for the timeline alone once the log has enough lines of its
    /// kind. Beyond the core's limit per second the event is not even formatted.
    fn push(&mut self, now: Instant, make: impl FnOnce(&FileSources) -> Option<MachineEvent>) {
        if self.all.admit((), now).is_none() {
            return self.counters.events_left_out.add(1);
        }
        let Some(mut event) = make(&self.names) else { return };
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

/// The event for the end of a transfer; None: there is nothing to log.
fn describe_end(end: &EndedTransfer, name: String) -> Option<(EventKind, String)> {
    let seconds = Duration::from_nanos(end.duration).as_secs_f64();
    let bytes = end.tally.bytes_sent;
    let block = end.tally.acked_blocks + 1;
    Some(match end.outcome {
        TransferOutcome::Refused { .. } => return None,
        TransferOutcome::Complete => {
            let text = format!("{name} sent by TFTP, {bytes} bytes in {seconds:.3} s");
            (EventKind::Sent { name, bytes }, text)
        }
        TransferOutcome::CompleteWithoutLastAck => {
            let text = format!("{name} sent by TFTP, {bytes} bytes; the last ACK never came");
            (EventKind::Sent { name, bytes }, text)
        }
        TransferOutcome::SizeProbe => (EventKind::SizeProbe, format!("{name}: size probe")),
        TransferOutcome::Replaced => (EventKind::Other, format!("{name}: the client began anew")),
        TransferOutcome::Aborted { code } => {
            let text = format!(
                "{name}: the client ended the transfer with ERROR {code} after {bytes} bytes"
            );
            (EventKind::ClientAborted { name, code }, text)
        }
        TransferOutcome::GaveUp => {
            let text = format!(
                "{name}: the client fell silent at block {block} after {bytes} bytes and \
                 {seconds:.0} s"
            );
            (EventKind::Stalled { name, block }, text)
        }
        TransferOutcome::Failed(TransferFailure::Unreadable) => (
            EventKind::Failed,
            format!("{name}: the disk or file server gives no more of the file: transfer ended"),
        ),
        TransferOutcome::NeverBegun => {
            (EventKind::Other, format!("{name}: not answered, since others go first"))
        }
        TransferOutcome::Displaced => {
            let text = format!(
                "{name}: made room for others after {bytes} bytes; its client had stopped asking"
            );
            (EventKind::Stalled { name, block }, text)
        }
        TransferOutcome::Guessed => {
            let text = format!(
                "{name}: ended, because forged ACKs arrive for it: their sender does not know its \
                 port"
            );
            (EventKind::Forged { name }, text)
        }
        TransferOutcome::Failed(TransferFailure::ContentLost) => {
            let text = format!(
                "{name}: the file was changed in place while it was being sent: transfer ended"
            );
            (EventKind::Changed { name }, text)
        }
        outcome => (EventKind::Failed, format!("{name}: {outcome:?} after {bytes} bytes")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;
    use crate::images::{DiskWorkers, ImageStore};
    use crate::observe::events;
    use crate::render::TemplateRenderer;
    use crate::snapshot::{PublishedState, Snapshot};
    use crate::tftp::table::TransferId;
    use crate::tftp::transfer::TransferTally;

    fn end(host: u32, outcome: TransferOutcome) -> EndedTransfer {
        let peer = SocketAddr::new(Ipv4Addr::from(host).into(), 2000);
        EndedTransfer {
            peer,
            outcome,
            terms: None,
            size_asked: false,
            tally: TransferTally::default(),
            id: TransferId::from_token(0),
            duration: 0,
        }
    }

    fn no_names(root: &std::path::Path) -> Arc<FileSources> {
        Arc::new(FileSources {
            images: ImageStore::open(root, DiskWorkers::start().unwrap()).unwrap(),
            published: PublishedState::new(Snapshot::default()),
            renderer: TemplateRenderer::default(),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        })
    }

    #[test]
    fn a_flood_is_a_few_lines_with_a_count_and_a_storm_is_told_whole() {
        let directory = tempfile::tempdir().unwrap();
        let names = no_names(directory.path());
        let (events, printed) = events::open_event_queue();
        let counters = Arc::<TftpCounters>::default();
        let mut journal = TftpJournal::new(events, names, Arc::clone(&counters));
        let start = Instant::now();
        for host in 0..1000 {
            journal.log_ended(start, &end(host, TransferOutcome::Displaced), b"f", None);
            let denied = (String::from("f"), String::from("f: a directory"));
            let peer = end(host, TransferOutcome::Displaced).peer;
            journal.log_refused(start, peer, denied, images::NameRefusal::NotRegular);
        }
        let said = || {
            printed
                .try_iter()
                .filter(|event| event.weight != EventWeight::Detail)
                .map(|event| event.text)
        };
        let most = 2 * TROUBLE_PER_SECOND_MAX;
        assert_eq!(
            (said().count(), counters.events_left_out.read()),
            (most as usize, 2000 - u64::from(most))
        );
        let next = start + SECOND;
        journal.log_ended(next, &end(2000, TransferOutcome::Displaced), b"f", None);
        let unsaid = 1000 - TROUBLE_PER_SECOND_MAX;
        assert!(
            said().all(|text| text.ends_with(&format!("({unsaid} similar lines were left out)")))
        );
        (0..500).for_each(|host| {
            journal.log_ended(next, &end(host, TransferOutcome::Complete), b"f", None)
        });
        assert_eq!(said().count(), 500);
    }

    #[test]
    fn a_full_table_is_said_once_a_minute() {
        let (events, printed) = events::open_event_queue();
        let directory = tempfile::tempdir().unwrap();
        let names = no_names(directory.path());
        let (mut journal, start) =
            (TftpJournal::new(events, names, Arc::default()), Instant::now());
        for n in 0..1200 {
            let counts = TableCounts { full: n, ..TableCounts::default() };
            journal.log_full_table(start + Duration::from_millis(100 * n), &counts, 16_384);
        }
        assert_eq!(printed.try_iter().count(), 2);
    }
}
