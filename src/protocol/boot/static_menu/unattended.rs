//! An entry that installs by itself, and the words of a line.

/// A default (or timeout) entry that installs by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unattended {
    /// Of the line with the argument, from 1.
    pub line: usize,
    /// The entry's name in its menu.
    pub entry: String,
    /// The argument that answers the installer's questions.
    pub argument: String,
}

/// Splits a line at its first blank.
pub(super) fn keyword(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}
