//! A fault in a configuration or a file, with its position: the same sentence for command, API,
//! status and log.

use std::fmt;

/// How bad a finding is; the worst is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckSeverity {
    /// The server could serve nothing, or would serve what it must not: `serve` does not start,
    /// and a reload is refused.
    Fatal,
    /// Some machine will not get what the configuration promises. The server serves the rest.
    Error,
    /// A likely mistake; the server does what the configuration says.
    Warning,
    /// A fact that explains the configuration; nothing is wrong.
    Note,
}

impl CheckSeverity {
    /// The word before the sentence, and in the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A place in a file that an operator can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// The path as the operator wrote it.
    pub file: String,
    /// From 1. None: the file as a whole.
    pub line: Option<usize>,
    /// In characters, from 1. None: the whole line.
    pub column: Option<usize>,
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        [self.line, self.column].into_iter().flatten().try_for_each(|number| write!(f, ":{number}"))
    }
}

/// One finding of `ringboot check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    /// Whether the server starts with it.
    pub severity: CheckSeverity,
    /// Where to mend it. None: in no file, such as a missing capability.
    pub position: Option<FilePosition>,
    /// A sentence without a full stop at its end.
    pub what: String,
    /// What the operator can do; empty where the sentence says it.
    pub hint: String,
}

impl CheckFinding {
    /// A finding without a position.
    pub fn new(severity: CheckSeverity, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity, position: None, what: what.into(), hint: hint.into() }
    }

    /// As [`new`](Self::new), of that severity.
    pub fn fatal(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Fatal, what, hint)
    }

    /// As [`new`](Self::new), of that severity.
    pub fn error(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Error, what, hint)
    }

    /// As [`new`](Self::new), of that severity.
    pub fn warning(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Warning, what, hint)
    }

    /// A note has no hint: nothing is to be done.
    pub fn note(what: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Note, what, "")
    }

    /// The same finding with its position.
    #[must_use]
    pub fn at_position(self, position: Option<impl Into<FilePosition>>) -> Self {
        Self { position: position.map(Into::into), ..self }
    }

    /// Position and sentence: `ringboot.toml:4:8: what`.
    pub fn to_sentence(&self) -> String {
        self.position
            .as_ref()
            .map_or_else(|| self.what.clone(), |position| format!("{position}: {}", self.what))
    }

    /// Writes the sentence of `ringboot check` and its hint into the log, as one line.
    pub fn log(&self) {
        let hint = if self.hint.is_empty() { String::new() } else { format!("; {}", self.hint) };
        let sentence = self.to_sentence();
        match self.severity {
            CheckSeverity::Fatal | CheckSeverity::Error => tracing::error!("{sentence}{hint}"),
            CheckSeverity::Warning => tracing::warn!("{sentence}{hint}"),
            CheckSeverity::Note => tracing::info!("{sentence}{hint}"),
        }
    }
}

impl fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.as_str(), self.to_sentence())?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "\n  hint: {}", self.hint) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_message_of_a_compiler() {
        let finding = CheckFinding::error("there is no kernel", "put it there");
        assert_eq!(finding.to_string(), "error: there is no kernel\n  hint: put it there");
        let position = |line, column| FilePosition { file: "x.toml".to_owned(), line, column };
        for (line, column, place) in
            [(Some(4), Some(8), "x.toml:4:8"), (Some(4), None, "x.toml:4"), (None, None, "x.toml")]
        {
            let placed = finding.clone().at_position(Some(position(line, column)));
            assert_eq!(placed.to_sentence(), format!("{place}: there is no kernel"));
        }
        assert!(
            CheckSeverity::Fatal < CheckSeverity::Error
                && CheckSeverity::Warning < CheckSeverity::Note,
            "the worst comes first"
        );
    }
}
