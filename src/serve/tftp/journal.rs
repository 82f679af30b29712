//! What the log is told of TFTP: files that were sent, names that were refused, transfers that
//! failed; all of it paced.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::ended::End;
use super::lookup::Held;
use crate::images;
use crate::observe::counters::Count;
use crate::observe::events::{Event, Events, Kind, Stage, Weight};
use crate::observe::pace::{Gate, Pace, Source, with_count};
use crate::serve::quirks;
use crate::serve::shelf::{Names, Origin};
use crate::serve::stage::{self, stage_of};
use crate::tftp::packet::{ErrorCode, Refusal};
use crate::tftp::table::{Counts, Failure, Outcome};

/// Events of one core in a second: a person can not read more, and formatting one costs more than a
/// small file.
const EVENTS_PER_SECOND_MAX: u32 = 2_000;
/// Lines of trouble of one kind in a second: a single datagram with a forged address can cause one.
const TROUBLE_PER_SECOND_MAX: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
/// How often it is said that places, files, workers or memory are short.
const SHORTAGE_SAID_EVERY: Duration = Duration::from_secs(60);

/// The way of one core's events to the log.
pub(super) struct Journal {
    events: Events,
    all: Pace<()>,
    gate: Gate,
    full: Pace<()>,
    busy: Pace<()>,
    /// Requests that had met a full table when it was last looked at.
    met_full: u64,
}

impl Journal {
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            all: Pace::new(EVENTS_PER_SECOND_MAX, SECOND),
            gate: Gate::new(TROUBLE_PER_SECOND_MAX, EVENTS_PER_SECOND_MAX),
            full: Pace::new(1, SHORTAGE_SAID_EVERY),
            busy: Pace::new(1, SHORTAGE_SAID_EVERY),
            met_full: 0,
        }
    }

    /// The end of a transfer; nothing of what was told when it was refused.
    pub(super) fn ended(
        &mut self,
        now: Instant,
        names: &Names,
        end: &End,
        name: &[u8],
        held: Option<&Held>,
        left_out: &Count,
    ) {
        if matches!(end.outcome, Outcome::Refused { .. }) {
            return;
        }
        self.push(now, left_out, || {
            let machine = names.machine_at(end.peer.ip());
            let mac = machine.map(|machine| machine.mac);
            let name = held.map_or_else(
                || name.escape_ascii().to_string(),
                |held| held.asked.ask.path.display().into_owned(),
            );
            let origin = held.map_or(Origin::File, |held| held.origin);
            let (kind, what) = ending(end, name.clone())?;
            let stage = stage_of(&names.published.load().snapshot, &name, origin);
            let retransmits = match end.tally.retransmits {
                0 => String::new(),
                n => format!(", {n} retransmissions"),
            };
            let reasons =
                held.map(|held| held.reasons.join("; ")).filter(|reasons| !reasons.is_empty());
            let reasons = reasons.map_or_else(String::new, |reasons| format!(" ({reasons})"));
            let attempt = machine
                .and_then(|machine| quirks::attempt(machine.firmware, &name, end))
                .map(Box::new);
            let text = format!("{what}{retransmits}{reasons}");
            Some(Event { attempt, ..Event::new(mac, Some(end.peer.ip()), stage, kind, text) })
        });
    }

    /// A name that was refused: `told` is the name, and why.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        names: &Names,
        peer: SocketAddr,
        told: (String, String),
        refusal: images::Refusal,
        left_out: &Count,
    ) {
        self.push(now, left_out, || {
            let mac = names.machine_at(peer.ip()).map(|machine| machine.mac);
            let stage::Refused { stage, kind, text } =
                stage::refused(&names.published.load().snapshot, told, refusal, "TFTP");
            Some(Event::new(mac, Some(peer.ip()), stage, kind, text))
        });
    }

    /// A datagram that was turned away: a write, or what is no request.
    pub(super) fn turned_away(
        &mut self,
        now: Instant,
        names: &Names,
        peer: SocketAddr,
        refusal: Refusal,
        left_out: &Count,
    ) {
        self.push(now, left_out, || {
            let mac = names.machine_at(peer.ip()).map(|machine| machine.mac);
            let (kind, text) = match refusal.code {
                ErrorCode::AccessViolation => (
                    Kind::WriteRefused,
                    "TFTP refused to take a file: nothing is written here".to_owned(),
                ),
                _ => (Kind::BadRequest, format!("TFTP refused a request: {}", refusal.text)),
            };
            Some(Event::new(mac, Some(peer.ip()), Stage::File, kind, text))
        });
    }

    /// Says once in a while that the table is full, which its clients see as silence.
    pub(super) fn look_at(&mut self, now: Instant, counts: &Counts, most: usize) {
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
        self.events.push(Event::new(None, None, Stage::File, Kind::Short, text));
    }

    /// Says once in a while that requests are not answered because something is short. `times`: how
    /// often so far.
    pub(super) fn busy(&mut self, now: Instant, why: &str, times: u64) {
        if self.busy.admit((), now).is_none() {
            return;
        }
        let text = format!(
            "TFTP leaves requests without an answer for now ({why}; {times} times so far): clients \
             ask again"
        );
        self.events.push(Event::new(None, None, Stage::File, Kind::Short, text));
    }

    /// Hands over what `made` makes, for the timeline alone where the log has had enough of its
    /// like.
    fn push(&mut self, now: Instant, left_out: &Count, made: impl FnOnce() -> Option<Event>) {
        if self.all.admit((), now).is_none() {
            return left_out.add(1);
        }
        let Some(mut event) = made() else { return };
        if event.weight != Weight::Detail {
            match self.gate.admit(&event.kind, None, Source::of(&event), now) {
                Some(unsaid) => event.text = with_count(event.text, unsaid),
                None => {
                    event.weight = Weight::Detail;
                    left_out.add(1);
                }
            }
        }
        self.events.push(event);
    }
}

/// How a transfer ended, in words; None = there is nothing to say.
fn ending(end: &End, name: String) -> Option<(Kind, String)> {
    let seconds = Duration::from_nanos(end.time).as_secs_f64();
    let bytes = end.tally.bytes_sent;
    let block = end.tally.acked_blocks + 1;
    Some(match end.outcome {
        Outcome::Refused { .. } => return None,
        Outcome::Complete => {
            let text = format!("{name} sent by TFTP, {bytes} bytes in {seconds:.3} s");
            (Kind::Sent { name, bytes }, text)
        }
        Outcome::CompleteWithoutLastAck => {
            let text = format!("{name} sent by TFTP, {bytes} bytes; the last ACK never came");
            (Kind::Sent { name, bytes }, text)
        }
        Outcome::SizeProbe => (Kind::SizeProbe, format!("{name}: size probe")),
        Outcome::Replaced => (Kind::Other, format!("{name}: the client began anew")),
        Outcome::Aborted { code } => {
            let text = format!(
                "{name}: the client ended the transfer with ERROR {code} after {bytes} bytes"
            );
            (Kind::ClientAborted { name, code }, text)
        }
        Outcome::GaveUp => {
            let text = format!(
                "{name}: the client fell silent at block {block} after {bytes} bytes and \
                 {seconds:.0} s"
            );
            (Kind::Stalled { name, block }, text)
        }
        Outcome::Failed(Failure::Unreadable) => (
            Kind::Failed,
            format!("{name}: the disk or file server gives no more of the file: transfer ended"),
        ),
        Outcome::NeverBegun => {
            (Kind::Other, format!("{name}: not answered, since others go first"))
        }
        Outcome::Displaced => {
            let text = format!(
                "{name}: made room for others after {bytes} bytes; its client had stopped asking"
            );
            (Kind::Stalled { name, block }, text)
        }
        Outcome::Guessed => {
            let text = format!(
                "{name}: ended, since somebody who does not know its port sends ACKs for it: forged"
            );
            (Kind::Forged { name }, text)
        }
        Outcome::Failed(Failure::ContentLost) => {
            let text = format!(
                "{name}: the file was changed in place while it was being sent: transfer ended"
            );
            (Kind::Changed { name }, text)
        }
        outcome => (Kind::Failed, format!("{name}: {outcome:?} after {bytes} bytes")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;
    use crate::images::{Images, Workers};
    use crate::observe::events;
    use crate::render::Renderer;
    use crate::snapshot::{Published, Snapshot};
    use crate::tftp::transfer::Tally;

    fn end(host: u32, outcome: Outcome) -> End {
        let peer = SocketAddr::new(Ipv4Addr::from(host).into(), 2000);
        End { peer, outcome, terms: None, size_asked: false, tally: Tally::default(), time: 0 }
    }

    #[test]
    fn a_flood_is_a_few_lines_with_a_count_and_a_storm_is_told_whole() {
        let directory = tempfile::tempdir().unwrap();
        let names = Names {
            images: Images::open(directory.path(), Workers::start().unwrap()).unwrap(),
            published: Published::new(Snapshot::default()),
            renderer: Renderer::default(),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        };
        let (events, printed) = events::queue();
        let (mut journal, left_out, start) =
            (Journal::new(events), Count::default(), Instant::now());
        for host in 0..1000 {
            journal.ended(start, &names, &end(host, Outcome::Displaced), b"f", None, &left_out);
            let denied = (String::from("f"), String::from("f: a directory"));
            let peer = end(host, Outcome::Displaced).peer;
            journal.refused(start, &names, peer, denied, images::Refusal::NotRegular, &left_out);
        }
        let said = || {
            printed
                .try_iter()
                .filter(|event| event.weight != Weight::Detail)
                .map(|event| event.text)
        };
        let most = 2 * TROUBLE_PER_SECOND_MAX;
        assert_eq!((said().count(), left_out.read()), (most as usize, 2000 - u64::from(most)));
        let next = start + SECOND;
        journal.ended(next, &names, &end(2000, Outcome::Displaced), b"f", None, &left_out);
        let unsaid = 1000 - TROUBLE_PER_SECOND_MAX;
        assert!(
            said().all(|text| text.ends_with(&format!("({unsaid} more like it were not said)")))
        );
        (0..500).for_each(|host| {
            journal.ended(next, &names, &end(host, Outcome::Complete), b"f", None, &left_out)
        });
        assert_eq!(said().count(), 500);
    }

    #[test]
    fn a_full_table_is_said_once_a_minute() {
        let (events, printed) = events::queue();
        let (mut journal, start) = (Journal::new(events), Instant::now());
        for n in 0..1200 {
            let counts = Counts { full: n, ..Counts::default() };
            journal.look_at(start + Duration::from_millis(100 * n), &counts, 16_384);
        }
        assert_eq!(printed.try_iter().count(), 2);
    }
}
