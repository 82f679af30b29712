//! An entry that installs unattended, and the split of a line at its keyword.

/// A default or timeout entry that installs unattended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnattendedEntry {
    /// Number of the line with the argument, from 1.
    pub line: usize,
    /// The entry's name in its menu.
    pub entry: String,
    /// The argument that answers the installer's questions.
    pub argument: String,
}

/// Splits a line into its first word and the rest.
pub(super) fn split_keyword(line: &str) -> (&str, &str) {
    let line = line.trim();
    line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()))
}
