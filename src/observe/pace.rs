//! The pace of log lines: of what anybody can cause, a few a second are said for each subject, with
//! a count of the rest.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::events::{Event, Kind, Sort};
use ringboot_protocol::model::machine::Mac;

/// Subjects that are told apart; beyond it new ones are not said until an old one has been silent
/// for a while.
const SUBJECTS_MAX: usize = 1024;
/// Sources that are told apart in a storm, and of trouble.
const SOURCES_MAX: usize = 16_384;
/// Lines of one source: steps of boots in a second, and of each kind of trouble in a minute.
const STEPS_OF_A_SOURCE: u32 = 100;
const TROUBLE_OF_A_SOURCE: u32 = 5;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Decides which line may be said. A subject is whatever one count is kept for: a subnet, a
/// client's address, a kind of fault.
#[derive(Debug)]
pub struct Pace<K> {
    /// Lines of one subject in `every`.
    lines: u32,
    every: Duration,
    subjects_max: usize,
    subjects: HashMap<K, Subject>,
    /// When silent subjects were looked for last: once in `every`, however many new ones come.
    pruned: Option<Instant>,
}

#[derive(Debug)]
struct Subject {
    since: Instant,
    said: u32,
    unsaid: u64,
}

impl<K: Eq + Hash> Pace<K> {
    pub fn new(lines: u32, every: Duration) -> Self {
        Self::with_subjects(lines, every, SUBJECTS_MAX)
    }

    fn with_subjects(lines: u32, every: Duration, subjects_max: usize) -> Self {
        Self { lines, every, subjects_max, subjects: HashMap::new(), pruned: None }
    }

    /// True, and counted, where this subject has said all that it may.
    fn is_spent(&mut self, subject: &K, now: Instant) -> bool {
        let Some(subject) = self.subjects.get_mut(subject) else { return false };
        let is_spent =
            subject.said >= self.lines && now.saturating_duration_since(subject.since) < self.every;
        subject.unsaid += u64::from(is_spent);
        is_spent
    }

    /// Some: say it; so many lines of the subject were not said since the last one that was. None:
    /// say nothing, it is counted.
    pub fn admit(&mut self, subject: K, now: Instant) -> Option<u64> {
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
        let subject =
            self.subjects.entry(subject).or_insert(Subject { since: now, said: 0, unsaid: 0 });
        if now.saturating_duration_since(subject.since) >= self.every {
            (subject.since, subject.said) = (now, 0);
        }
        if subject.said >= self.lines {
            subject.unsaid += 1;
            return None;
        }
        subject.said += 1;
        Some(std::mem::take(&mut subject.unsaid))
    }
}

/// Whose doing an event is: the machine, or the address of one that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    Machine(Mac),
    Address(IpAddr),
}

impl Source {
    pub fn of(event: &Event) -> Option<Self> {
        let address = event.address.map(|address| Self::Address(address.to_canonical()));
        event.mac.map(Self::Machine).or(address)
    }

    pub fn machine(self) -> Option<Mac> {
        if let Self::Machine(mac) = self { Some(mac) } else { None }
    }
}

/// Which events of one thread go into the log: steps of boots as long as somebody can read them,
/// and of what anybody can cause a few lines of each source and of each kind and place, each with a
/// count of those that were left out.
#[derive(Debug)]
pub struct Gate {
    steps: Pace<(Sort, Option<IpAddr>)>,
    steps_of: Pace<Source>,
    trouble: Pace<(Sort, Option<IpAddr>)>,
    trouble_of: Pace<(Sort, Source)>,
}

impl Gate {
    /// Lines of one kind and place in a second: of trouble, and of steps of boots.
    pub fn new(trouble: u32, steps: u32) -> Self {
        Self {
            steps: Pace::new(steps, SECOND),
            steps_of: Pace::with_subjects(STEPS_OF_A_SOURCE, SECOND, SOURCES_MAX),
            trouble: Pace::new(trouble, SECOND),
            trouble_of: Pace::with_subjects(TROUBLE_OF_A_SOURCE, MINUTE, SOURCES_MAX),
        }
    }

    /// As [`Pace::admit`]. A source that has said all that it may takes nothing from others.
    pub fn admit(
        &mut self,
        kind: &Kind,
        place: Option<IpAddr>,
        source: Option<Source>,
        now: Instant,
    ) -> Option<u64> {
        let sort = kind.sort();
        if kind.is_step() {
            let of_source = source.map_or(Some(0), |source| self.steps_of.admit(source, now))?;
            return Some(of_source + self.steps.admit((sort, place), now)?);
        }
        if source.is_some_and(|source| self.trouble_of.is_spent(&(sort, source), now)) {
            return None;
        }
        let of_all = self.trouble.admit((sort, place), now)?;
        let of_source = source.map_or(Some(0), |source| self.trouble_of.admit((sort, source), now));
        of_source.map(|unsaid| of_all + unsaid)
    }
}

/// The sentence of a line that was admitted, with the count of those that were not.
pub fn with_count(text: String, unsaid: u64) -> String {
    match unsaid {
        0 => text,
        unsaid => format!("{text} ({unsaid} more like it were not said)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second_and_a_count() {
        let start = Instant::now();
        let mut pace = Pace::new(1, SECOND);
        let said: Vec<u64> = (0..3000)
            .filter_map(|n| pace.admit("10.0.0.0/8", start + Duration::from_millis(n)))
            .collect();
        assert_eq!(said, [0, 999, 999]);
        assert_eq!(pace.admit("another", start), Some(0), "a subject has its own pace");
    }

    #[test]
    fn a_few_lines_are_all_said() {
        let start = Instant::now();
        let mut pace = Pace::new(2, SECOND);
        let said = |pace: &mut Pace<u8>, after| pace.admit(1, start + after);
        assert_eq!([0; 4].map(|_| said(&mut pace, Duration::ZERO)), [Some(0), Some(0), None, None]);
        assert_eq!(said(&mut pace, SECOND), Some(2));
        assert_eq!(said(&mut pace, 3 * SECOND), Some(0));
    }

    #[test]
    fn subjects_are_bounded_and_old_ones_make_room() {
        let start = Instant::now();
        let mut pace = Pace::new(1, SECOND);
        let said =
            (0..10 * SUBJECTS_MAX).filter(|subject| pace.admit(*subject, start).is_some()).count();
        assert_eq!((said, pace.subjects.len()), (SUBJECTS_MAX, SUBJECTS_MAX));
        assert_eq!(pace.admit(usize::MAX, start + SECOND), Some(0));
        assert_eq!(pace.subjects.len(), 1);
    }

    fn address(n: u32) -> Option<Source> {
        Some(Source::Address(std::net::Ipv4Addr::from(n).into()))
    }

    #[test]
    fn one_source_cannot_silence_another_and_all_together_are_bounded() {
        let (mut gate, start) = (Gate::new(10, 1000), Instant::now());
        let mut said = |source, after: Duration| {
            gate.admit(&Kind::BadRequest, None, address(source), start + after)
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
        let (mut gate, start) = (Gate::new(1, 20_000), Instant::now());
        let sent = Kind::Sent { name: "linux".into(), bytes: 1 };
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
        assert_eq!(with_count("no answer".into(), 0), "no answer");
        assert_eq!(with_count("no answer".into(), 7), "no answer (7 more like it were not said)");
    }
}
