//! Faults of a configuration file: `path:line:column: what` with a hint below it, all faults in one
//! run.

use std::fmt;
use std::ops::Range;

/// One fault at one position of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The file as the operator named it.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// A sentence without a full stop at its end.
    pub what: String,
    /// A line that would be right, or what to do; None where the sentence says it.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// All faults of a file, in the order of the file. Never empty in an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblems {}

/// The fault of a file that is no UTF-8 text from the byte `offset` on.
pub(super) fn build_encoding_problem(path: &str, bytes: &[u8], offset: usize) -> ConfigProblems {
    let before = String::from_utf8_lossy(bytes.get(..offset).unwrap_or_default());
    let (line, column) = find_text_position(&before, offset);
    let byte = bytes.get(offset).copied().unwrap_or_default();
    let what = format!("the byte {byte:#04x} is not UTF-8");
    let hint =
        Some("save the file as UTF-8; `iconv -f latin1 -t utf-8` converts Latin-1".to_owned());
    ConfigProblems(vec![ConfigProblem { path: path.to_owned(), line, column, what, hint }])
}

/// Collects complaints while a file is read and resolved, so that the operator sees all of them in
/// one run.
#[derive(Debug)]
pub(super) struct ConfigComplaints<'a> {
    path: &'a str,
    text: &'a str,
    found: Vec<(usize, ConfigProblem)>,
}

impl<'a> ConfigComplaints<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> Self {
        Self { path, text, found: Vec::new() }
    }

    /// Adds a fault. `span` is in bytes of the text; an empty hint is none.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (line, column) = find_text_position(self.text, span.start);
        let hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        let problem =
            ConfigProblem { path: self.path.to_owned(), line, column, what: what.into(), hint };
        self.found.push((span.start, problem));
    }

    /// Appends a line that would be right to the hint of the last complaint.
    pub(super) fn append_example(&mut self, line: Option<String>) {
        if let (Some((_, ConfigProblem { hint: Some(hint), .. })), Some(line)) =
            (self.found.last_mut(), line)
        {
            hint.push_str(&format!(": `{line}`"));
        }
    }

    /// The value, or all complaints in the order of the file.
    pub(super) fn into_result<T>(mut self, value: T) -> Result<T, ConfigProblems> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort_by_key(|&(start, _)| start);
        Err(ConfigProblems(self.found.into_iter().map(|(_, problem)| problem).collect()))
    }

    /// The position of a span as `path:line`, for messages after the file was read.
    pub(super) fn describe_place(&self, span: &Range<usize>) -> String {
        format!("{}:{}", self.path, find_text_position(self.text, span.start).0)
    }

    /// The position of a span as `line 12`, for a complaint about another place of the same file.
    pub(super) fn describe_line(&self, span: &Range<usize>) -> String {
        format!("line {}", find_text_position(self.text, span.start).0)
    }
}

/// Line and column (both from 1) of a byte offset.
pub(super) fn find_text_position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_characters_not_bytes() {
        assert_eq!(find_text_position("", 0), (1, 1));
        assert_eq!(find_text_position("a\nbc = 1", 5), (2, 4));
        assert_eq!(find_text_position("# 定义子网\nroot", 2 + 12), (1, 7));
        assert_eq!(find_text_position("short", 99), (1, 6));
    }

    #[test]
    fn a_problem_reads_like_a_compiler_message() {
        let mut complaints = ConfigComplaints::new("config/x.toml", "a = 1\npools = 2\n");
        complaints.add(
            &(14..15),
            "pool 192.168.5.10-192.168.5.20 is outside subnet 192.168.4.0/24",
            "move it",
        );
        complaints.add(&(4..5), "first", "");
        let problems = complaints.into_result(()).expect_err("two problems");
        assert_eq!(
            problems.to_string(),
            "config/x.toml:1:5: first\n\
             config/x.toml:2:9: pool 192.168.5.10-192.168.5.20 is outside subnet 192.168.4.0/24\n  \
             hint: move it"
        );
    }
}
