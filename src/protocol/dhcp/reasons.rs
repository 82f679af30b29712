//! The reasons of a decision: short clauses in one text, since each message has half a dozen.

use std::fmt;

/// Stands between two clauses.
const BETWEEN: &str = "; ";
/// Room for the clauses of most decisions, so that the text is allocated once.
const TEXT_BYTES: usize = 224;
const CLAUSES: usize = 8;

/// Short clauses, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// Every clause, with [`BETWEEN`] between them.
    text: String,
    /// The end of each clause in `text`.
    ends: Vec<usize>,
}

impl Reasons {
    pub(super) fn with_room() -> Self {
        Self { text: String::with_capacity(TEXT_BYTES), ends: Vec::with_capacity(CLAUSES) }
    }

    /// Adds a clause.
    pub(super) fn push(&mut self, clause: fmt::Arguments<'_>) {
        if !self.ends.is_empty() {
            self.text.push_str(BETWEEN);
        }
        let _ = fmt::write(&mut self.text, clause); // a String takes all
        self.ends.push(self.text.len());
    }

    /// The clauses in one sentence: `PXE firmware (option 93 = 7); subnet 192.168.4.0/24`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Each clause.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts =
            std::iter::once(0).chain(self.ends.iter().map(|end| end.saturating_add(BETWEEN.len())));
        starts.zip(&self.ends).map(|(start, end)| self.text.get(start..*end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_a_sentence_and_each_is_found_again() {
        let mut reasons = Reasons::default();
        assert_eq!((reasons.as_str(), reasons.iter().count()), ("", 0));
        reasons.push(format_args!("one; with a break"));
        reasons.push(format_args!("address {}", 2));
        assert_eq!(reasons.as_str(), "one; with a break; address 2");
        assert_eq!(reasons.iter().collect::<Vec<_>>(), ["one; with a break", "address 2"]);
    }
}
