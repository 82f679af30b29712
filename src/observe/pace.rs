//! The pace of log lines: of what anybody can cause, a few a second are said for each subject, with a count of the rest.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Subjects that are told apart; beyond it new ones are not said until an old one has been silent for a while.
const SUBJECTS_MAX: usize = 1024;

/// Decides which line may be said. A subject is whatever one count is kept for: a subnet, a client's address, a kind of fault.
#[derive(Debug)]
pub struct Pace<K> {
    /// Lines of one subject in `every`.
    lines: u32,
    every: Duration,
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
        Self { lines, every, subjects: HashMap::new(), pruned: None }
    }

    /// Some: say it; so many lines of the subject were not said since the last one that was. None: say nothing, it is counted.
    pub fn admit(&mut self, subject: K, now: Instant) -> Option<u64> {
        if self.subjects.len() >= SUBJECTS_MAX && !self.subjects.contains_key(&subject) {
            if self.pruned.is_none_or(|pruned| now.saturating_duration_since(pruned) >= self.every) {
                self.pruned = Some(now);
                self.subjects.retain(|_, subject| now.saturating_duration_since(subject.since) < self.every);
            }
            if self.subjects.len() >= SUBJECTS_MAX {
                return None;
            }
        }
        let subject = self.subjects.entry(subject).or_insert(Subject { since: now, said: 0, unsaid: 0 });
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

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_flood_is_one_line_a_second_and_a_count() {
        let start = Instant::now();
        let mut pace = Pace::new(1, SECOND);
        let said: Vec<u64> =
            (0..3000).filter_map(|n| pace.admit("10.0.0.0/8", start + Duration::from_millis(n))).collect();
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
        let said = (0..10 * SUBJECTS_MAX).filter(|subject| pace.admit(*subject, start).is_some()).count();
        assert_eq!((said, pace.subjects.len()), (SUBJECTS_MAX, SUBJECTS_MAX));
        assert_eq!(pace.admit(usize::MAX, start + SECOND), Some(0));
        assert_eq!(pace.subjects.len(), 1);
    }

    #[test]
    fn the_count_is_part_of_the_sentence() {
        assert_eq!(with_count("no answer".into(), 0), "no answer");
        assert_eq!(with_count("no answer".into(), 7), "no answer (7 more like it were not said)");
    }
}
