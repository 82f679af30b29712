//! The pace of log lines: events that any sender can cause get a few lines a second for each
//! subject, and the next line has a count of the rest.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::events::{EventKind, EventSort, MachineEvent};
use ringboot_protocol::model::machine::Mac;

/// Subjects with a count of their own. Beyond it a new subject gets no line until an old one has
/// been quiet for a while.
const SUBJECTS_MAX: usize = 1024;
/// Sources with a count of their own, in a boot storm and for trouble.
const SOURCES_MAX: usize = 16_384;
/// Lines about steps of boots that one source may cause in a second.
const STEPS_OF_A_SOURCE: u32 = 100;
/// Lines of each kind of trouble that one source may cause in a minute.
const TROUBLE_OF_A_SOURCE: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Decides which line goes into the log. A subject has one count: a subnet, a client's address, a
/// kind of fault.
#[derive(Debug)]
pub struct LinePace<K> {
    /// Lines of one subject within `every`.
    lines: u32,
    every: Duration,
    subjects_max: usize,
    subjects: HashMap<K, PacedSubject>,
    /// When quiet subjects were last removed: once within `every`, however many new ones come.
    pruned: Option<Instant>,
}

#[derive(Debug)]
struct PacedSubject {
    since: Instant,
    /// Lines since `since`.
    logged: u32,
    /// Lines left out since the last one that was logged.
    left_out: u64,
}

impl<K: Eq + Hash> LinePace<K> {
    /// At most `lines` lines of one subject within `every`.
    pub fn new(lines: u32, every: Duration) -> Self {
        Self::with_subjects(lines, every, SUBJECTS_MAX)
    }

    fn with_subjects(lines: u32, every: Duration, subjects_max: usize) -> Self {
        Self { lines, every, subjects_max, subjects: HashMap::new(), pruned: None }
    }

    /// True where this subject has used up its lines; then this line counts as left out.
    fn is_spent(&mut self, subject: &K, now: Instant) -> bool {
        let Some(subject) = self.subjects.get_mut(subject) else { return false };
        let is_spent = subject.logged >= self.lines
            && now.saturating_duration_since(subject.since) < self.every;
        subject.left_out += u64::from(is_spent);
        is_spent
    }

    /// Some: log the line; the number is the lines of the subject that were left out before it.
    /// None: leave this line out; it is counted.
    pub fn admit(&mut self, subject: K, now: Instant) -> Option<u64> {
        // A new subject needs a place: quiet subjects give theirs up, without their count.
        if self.subjects.len() >= self.subjects_max && !self.subjects.contains_key(&subject) {
            if self.pruned.is_none_or(|pruned| now.saturating_duration_since(pruned) >= self.every)
            {
                self.pruned = Some(now);
                self.subjects
                    .retain(|_, subject| now.saturating_duration_since(subject.since) < self.every);
            }
            if self.subjects.len() >= self.subjects_max {
                return None;
            }
        }

        let subject = self.subjects.entry(subject).or_insert(PacedSubject {
            since: now,
            logged: 0,
            left_out: 0,
        });
        if now.saturating_duration_since(subject.since) >= self.every {
            (subject.since, subject.logged) = (now, 0);
        }
        if subject.logged >= self.lines {
            subject.left_out += 1;
            return None;
        }
        subject.logged += 1;
        Some(std::mem::take(&mut subject.left_out))
    }
}

/// The source of an event: the machine, or the address of an unknown machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventSource {
    /// A machine with a known hardware address.
    Machine(Mac),
    /// An address in canonical form: IPv4 is never mapped into IPv6.
    Address(IpAddr),
}

impl EventSource {
    /// None for an event with neither.
    pub fn from_event(event: &MachineEvent) -> Option<Self> {
        let address = event.address.map(|address| Self::Address(address.to_canonical()));
        event.mac.map(Self::Machine).or(address)
    }

    /// The hardware address, unless the source is an address.
    pub fn machine(self) -> Option<Mac> {
        if let Self::Machine(mac) = self { Some(mac) } else { None }
    }
}

/// Decides which events of one thread go into the log: steps of boots up to a rate that a person
/// can read, and of trouble a few lines of each source and of each kind and place. Each line has a
/// count of those that were left out before it.
#[derive(Debug)]
pub struct LogGate {
    steps: LinePace<(EventSort, Option<IpAddr>)>,
    steps_of: LinePace<EventSource>,
    trouble: LinePace<(EventSort, Option<IpAddr>)>,
    trouble_of: LinePace<(EventSort, EventSource)>,
}

impl LogGate {
    /// `trouble` and `steps`: lines of one kind and place in a second.
    pub fn new(trouble: u32, steps: u32) -> Self {
        Self {
            steps: LinePace::new(steps, SECOND),
            steps_of: LinePace::with_subjects(STEPS_OF_A_SOURCE, SECOND, SOURCES_MAX),
            trouble: LinePace::new(trouble, SECOND),
            trouble_of: LinePace::with_subjects(TROUBLE_OF_A_SOURCE, MINUTE, SOURCES_MAX),
        }
    }

    /// As [`LinePace::admit`]. A source that has used up its lines takes none from other sources.
    pub fn admit(
        &mut self,
        kind: &EventKind,
        place: Option<IpAddr>,
        source: Option<EventSource>,
        now: Instant,
    ) -> Option<u64> {
        let sort = kind.to_sort();
        if kind.is_step() {
            // In a storm most lines end here, without a count for each machine.
            if self.steps.is_spent(&(sort, place), now) {
                return None;
            }
            let of_source = source.map_or(Some(0), |source| self.steps_of.admit(source, now))?;
            return Some(of_source + self.steps.admit((sort, place), now)?);
        }
        if source.is_some_and(|source| self.trouble_of.is_spent(&(sort, source), now)) {
            return None;
        }
        let of_all = self.trouble.admit((sort, place), now)?;
        let of_source = source.map_or(Some(0), |source| self.trouble_of.admit((sort, source), now));
        of_source.map(|left_out| of_all + left_out)
    }
}

/// The sentence of an admitted line with the count of the lines that were left out before it.
pub fn append_left_out_count(text: String, left_out: u64) -> String {
    match left_out {
        0 => text,
        left_out => format!("{text} ({left_out} similar lines were left out)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second_and_a_count() {
        let start = Instant::now();
        let mut pace = LinePace::new(1, SECOND);
        let said: Vec<u64> = (0..3000)
            .filter_map(|n| pace.admit("10.0.0.0/8", start + Duration::from_millis(n)))
            .collect();
        assert_eq!(said, [0, 999, 999]);
        assert_eq!(pace.admit("another", start), Some(0), "a subject has its own pace");
    }

    #[test]
    fn a_few_lines_are_all_said() {
        let start = Instant::now();
        let mut pace = LinePace::new(2, SECOND);
        let said = |pace: &mut LinePace<u8>, after| pace.admit(1, start + after);
        assert_eq!([0; 4].map(|_| said(&mut pace, Duration::ZERO)), [Some(0), Some(0), None, None]);
        assert_eq!(said(&mut pace, SECOND), Some(2));
        assert_eq!(said(&mut pace, 3 * SECOND), Some(0));
    }

    #[test]
    fn subjects_are_bounded_and_old_ones_make_room() {
        let start = Instant::now();
        let mut pace = LinePace::new(1, SECOND);
        let said =
            (0..10 * SUBJECTS_MAX).filter(|subject| pace.admit(*subject, start).is_some()).count();
        assert_eq!((said, pace.subjects.len()), (SUBJECTS_MAX, SUBJECTS_MAX));
        assert_eq!(pace.admit(usize::MAX, start + SECOND), Some(0));
        assert_eq!(pace.subjects.len(), 1);
    }

    fn address(n: u32) -> Option<EventSource> {
        Some(EventSource::Address(std::net::Ipv4Addr::from(n).into()))
    }

    #[test]
    fn one_source_cannot_silence_another_and_all_together_are_bounded() {
        let (mut gate, start) = (LogGate::new(10, 1000), Instant::now());
        let mut said = |source, after: Duration| {
            gate.admit(&EventKind::BadRequest, None, address(source), start + after)
        };
        let first: Vec<_> = (0..1000).filter_map(|_| said(1, Duration::ZERO)).collect();
        assert_eq!(first, [0; TROUBLE_OF_A_SOURCE as usize]);
        assert_eq!(said(2, Duration::ZERO), Some(0), "another one");
        assert_eq!(
            said(1, MINUTE),
            Some(1000 - u64::from(TROUBLE_OF_A_SOURCE)),
            "what was left out is counted"
        );
        let forged = (3..1003).filter_map(|source| said(source, 2 * MINUTE)).count();
        assert_eq!(forged, 10, "lines of one kind in a second");
        assert_eq!(said(5000, 2 * MINUTE + SECOND), Some(990));
    }

    #[test]
    fn a_storm_is_told_whole_and_one_machine_that_fetches_without_end_is_not() {
        let (mut gate, start) = (LogGate::new(1, 20_000), Instant::now());
        let sent = EventKind::Sent { name: "linux".into(), bytes: 1 };
        let storm =
            (0..10_000).filter(|source| gate.admit(&sent, None, address(*source), start).is_some());
        assert_eq!(storm.count(), 10_000);
        let one = (0..10_000)
            .filter(|_| gate.admit(&sent, None, address(1), start + SECOND).is_some())
            .count();
        assert_eq!(one, STEPS_OF_A_SOURCE as usize);
    }

    #[test]
    fn the_count_is_part_of_the_sentence() {
        assert_eq!(append_left_out_count("no answer".into(), 0), "no answer");
        assert_eq!(
            append_left_out_count("no answer".into(), 7),
            "no answer (7 similar lines were left out)"
        );
    }
}
