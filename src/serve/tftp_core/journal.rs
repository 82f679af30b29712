//! What the log is told of TFTP: files that were sent, names that were refused, transfers that failed; all of it paced.

use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lookup::Held;
use crate::boot::machine::Mac;
use crate::images;
use crate::observe::counters::Count;
use crate::observe::events::{Event, Events, Kind, Stage, Weight};
use crate::observe::pace::{Pace, with_count};
use crate::serve::quirks;
use crate::serve::shelf::{Names, Origin};
use crate::serve::stage::{self, stage_of};
use crate::tftp::Tick;
use crate::tftp::options::Terms;
use crate::tftp::table::{Counts, Failure, Outcome};
use crate::tftp::transfer::Tally;

/// Events of one core in a second: a person can not read more, and formatting one costs more than a small file.
const EVENTS_PER_SECOND_MAX: u32 = 2_000;
/// Warnings of one core in a second, and of one kind for one machine (all strangers are one): a single datagram with a forged
/// address can cause one.
const WARNINGS_PER_SECOND_MAX: u32 = 50;
const WARNINGS_OF_A_KIND_MAX: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);
/// How often it is said that places, files, workers or memory are short.
const SHORTAGE_SAID_EVERY: Duration = Duration::from_secs(60);

/// How a transfer ended, in numbers.
pub(in crate::serve) struct End {
    pub(super) peer: SocketAddr,
    pub(in crate::serve) outcome: Outcome,
    pub(in crate::serve) terms: Option<Terms>,
    /// The request had a `tsize`.
    pub(in crate::serve) size_asked: bool,
    pub(in crate::serve) tally: Tally,
    pub(super) time: Tick,
}

/// The way of one core's events to the log.
pub(super) struct Journal {
    events: Events,
    all: Pace<()>,
    warnings: Pace<()>,
    kinds: Pace<(Discriminant<Kind>, Option<Mac>)>,
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
            warnings: Pace::new(WARNINGS_PER_SECOND_MAX, SECOND),
            kinds: Pace::new(WARNINGS_OF_A_KIND_MAX, SECOND),
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
        self.push(now, left_out, |admit| {
            let machine = names.machine_at(end.peer.ip());
            let mac = machine.map(|machine| machine.mac);
            let name =
                held.map_or_else(|| name.escape_ascii().to_string(), |held| held.asked.ask.path.display().into_owned());
            let origin = held.map_or(Origin::File, |held| held.origin);
            let (weight, kind, what) = ending(end, name.clone())?;
            let unsaid = admit(weight, &kind, mac)?;
            let stage = stage_of(&names.published.load().snapshot, &name, origin);
            let retransmits = match end.tally.retransmits {
                0 => String::new(),
                n => format!(", {n} retransmissions"),
            };
            let reasons = held.map(|held| held.reasons.join("; ")).filter(|reasons| !reasons.is_empty());
            let reasons = reasons.map_or_else(String::new, |reasons| format!(" ({reasons})"));
            let text = with_count(format!("{what}{retransmits}{reasons}"), unsaid);
            let attempt = machine.and_then(|machine| quirks::attempt(machine.firmware, &name, end)).map(Box::new);
            Some(Event { mac, address: Some(end.peer.ip()), stage, weight, kind, text, attempt })
        });
    }

    /// A name that was refused, and why.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        names: &Names,
        peer: SocketAddr,
        (name, why): (String, String),
        refusal: images::Refusal,
        left_out: &Count,
    ) {
        self.push(now, left_out, |admit| {
            let mac = names.machine_at(peer.ip()).map(|machine| machine.mac);
            let (stage, weight, kind) = stage::refused(&names.published.load().snapshot, name, refusal);
            let text = with_count(format!("TFTP refused {why}"), admit(weight, &kind, mac)?);
            Some(Event { mac, address: Some(peer.ip()), stage, weight, kind, text, attempt: None })
        });
    }

    /// Says once in a while that the table is full, which its clients see as silence.
    pub(super) fn look_at(&mut self, now: Instant, counts: &Counts, most: usize) {
        let more = counts.full - std::mem::replace(&mut self.met_full, counts.full);
        if more == 0 || self.full.admit((), now).is_none() {
            return;
        }
        let text = format!(
            "all {most} places for TFTP transfers of a core are taken: a new request gets the place of the transfer that has stood \
             still longest, or no answer until there is one ({} requests so far, {} transfers displaced)",
            counts.full, counts.displaced
        );
        let (stage, weight) = (Stage::File, Weight::Warning);
        self.events.push(Event { mac: None, address: None, stage, weight, kind: Kind::Other, text, attempt: None });
    }

    /// Says once in a while that requests are not answered because something is short. `times`: how often so far.
    pub(super) fn busy(&mut self, now: Instant, why: &str, times: u64) {
        if self.busy.admit((), now).is_none() {
            return;
        }
        let text =
            format!("TFTP leaves requests without an answer for now ({why}; {times} times so far): clients ask again");
        let (stage, weight) = (Stage::File, Weight::Warning);
        self.events.push(Event { mac: None, address: None, stage, weight, kind: Kind::Other, text, attempt: None });
    }

    /// Hands over what `made` makes. It is given a function that tells how many like it were not said, or that this one is not to
    /// be said either.
    fn push(
        &mut self,
        now: Instant,
        left_out: &Count,
        made: impl FnOnce(&mut dyn FnMut(Weight, &Kind, Option<Mac>) -> Option<u64>) -> Option<Event>,
    ) {
        let Self { events, all, warnings, kinds, .. } = self;
        let mut is_left_out = all.admit((), now).is_none();
        if !is_left_out {
            let mut admit = |weight, kind: &Kind, mac| {
                let is_warning = weight == Weight::Warning;
                let unsaid = if is_warning { kinds.admit((discriminant(kind), mac), now) } else { Some(0) };
                is_left_out = unsaid.is_none() || is_warning && warnings.admit((), now).is_none();
                unsaid.filter(|_| !is_left_out)
            };
            if let Some(event) = made(&mut admit) {
                events.push(event);
            }
        }
        left_out.add(u64::from(is_left_out));
    }
}

/// How a transfer ended, in words; None = there is nothing to say.
fn ending(end: &End, name: String) -> Option<(Weight, Kind, String)> {
    let seconds = Duration::from_nanos(end.time).as_secs_f64();
    let bytes = end.tally.bytes_sent;
    Some(match end.outcome {
        Outcome::Refused { .. } => return None,
        Outcome::Complete => {
            let text = format!("{name} sent by TFTP, {bytes} bytes in {seconds:.3} s");
            (Weight::Step, Kind::Sent { name, bytes }, text)
        }
        Outcome::CompleteWithoutLastAck => {
            let text = format!("{name} sent by TFTP, {bytes} bytes; the last ACK never came");
            (Weight::Step, Kind::Sent { name, bytes }, text)
        }
        Outcome::SizeProbe => (Weight::Detail, Kind::SizeProbe, format!("{name}: size probe")),
        Outcome::Replaced => (Weight::Detail, Kind::Other, format!("{name}: the client began anew")),
        Outcome::Aborted { code } => {
            let text = format!("{name}: the client ended the transfer with ERROR {code} after {bytes} bytes");
            (Weight::Detail, Kind::ClientAborted { name, code }, text)
        }
        Outcome::GaveUp => {
            let block = end.tally.acked_blocks + 1;
            let text =
                format!("{name}: the client fell silent at block {block} after {bytes} bytes and {seconds:.0} s");
            (Weight::Warning, Kind::Stalled { name, block }, text)
        }
        Outcome::Failed(Failure::Unreadable) => {
            let text = format!("{name}: the disk or file server gives no more of the file: transfer ended");
            (Weight::Warning, Kind::Failed, text)
        }
        Outcome::NeverBegun => (Weight::Detail, Kind::Other, format!("{name}: not answered, since others go first")),
        Outcome::Displaced => {
            let text = format!("{name}: made room for others after {bytes} bytes; its client had stopped asking");
            (Weight::Warning, Kind::Failed, text)
        }
        Outcome::Guessed => {
            let text = format!("{name}: ended, since somebody who does not know its port sends ACKs for it: forged");
            (Weight::Warning, Kind::Failed, text)
        }
        Outcome::Failed(Failure::ContentLost) => {
            let text = format!("{name}: the file was changed in place while it was being sent: transfer ended");
            (Weight::Warning, Kind::Changed { name }, text)
        }
        outcome => (Weight::Warning, Kind::Failed, format!("{name}: {outcome:?} after {bytes} bytes")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use super::*;
    use crate::images::{Images, Workers};
    use crate::observe::events;
    use crate::snapshot::{Published, Snapshot};

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
            render_template: Box::new(|_, _, _, _| Err(String::new())),
            strip_prefixes: Vec::new(),
            ignore_case: false,
        };
        let (events, printed) = events::queue();
        let (mut journal, left_out, start) = (Journal::new(events), Count::default(), Instant::now());
        for host in 0..1000 {
            journal.ended(start, &names, &end(host, Outcome::Displaced), b"f", None, &left_out);
            let denied = (String::from("f"), String::from("f: a directory"));
            let peer = end(host, Outcome::Displaced).peer;
            journal.refused(start, &names, peer, denied, images::Refusal::NotRegular, &left_out);
        }
        let most = 2 * WARNINGS_OF_A_KIND_MAX;
        assert_eq!((printed.try_iter().count(), left_out.read()), (most as usize, 2000 - u64::from(most)));
        let next = start + SECOND;
        journal.ended(next, &names, &end(1, Outcome::Displaced), b"f", None, &left_out);
        assert!(printed.try_recv().unwrap().text.ends_with("(995 more like it were not said)"));
        (0..500).for_each(|host| journal.ended(next, &names, &end(host, Outcome::Complete), b"f", None, &left_out));
        assert_eq!(printed.try_iter().count(), 500);
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
