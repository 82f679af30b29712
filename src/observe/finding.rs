//! What was found wrong with a configuration or a file, and where it stands: the same sentence for
//! command, API, status and log.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckSeverity {
    /// Nothing could be served, or what must not be: `serve` does not start, and a reload is
    /// refused.
    Fatal,
    /// Somebody will not get what the configuration promises. Everything else is served.
    Error,
    Warning,
    Note,
}

impl CheckSeverity {
    pub fn word(self) -> &'static str {
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

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    pub severity: CheckSeverity,
    /// None: it stands in no file.
    pub position: Option<FilePosition>,
    pub what: String,
    /// A way out; empty where there is none to give.
    pub hint: String,
}

impl CheckFinding {
    pub fn new(severity: CheckSeverity, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity, position: None, what: what.into(), hint: hint.into() }
    }

    pub fn fatal(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Fatal, what, hint)
    }

    pub fn error(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Error, what, hint)
    }

    pub fn warning(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Warning, what, hint)
    }

    pub fn note(what: impl Into<String>) -> Self {
        Self::new(CheckSeverity::Note, what, "")
    }

    #[must_use]
    pub fn at(self, position: Option<impl Into<FilePosition>>) -> Self {
        Self { position: position.map(Into::into), ..self }
    }

    /// Place and sentence: `ringboot.toml:4:8: what`.
    pub fn sentence(&self) -> String {
        self.position
            .as_ref()
            .map_or_else(|| self.what.clone(), |position| format!("{position}: {}", self.what))
    }

    /// The same sentence as `ringboot check` has.
    pub fn log(&self) {
        let hint = if self.hint.is_empty() { String::new() } else { format!("; {}", self.hint) };
        let sentence = self.sentence();
        match self.severity {
            CheckSeverity::Fatal | CheckSeverity::Error => tracing::error!("{sentence}{hint}"),
            CheckSeverity::Warning => tracing::warn!("{sentence}{hint}"),
            CheckSeverity::Note => tracing::info!("{sentence}{hint}"),
        }
    }
}

impl fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity.word(), self.sentence())?;
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
            let placed = finding.clone().at(Some(position(line, column)));
            assert_eq!(placed.sentence(), format!("{place}: there is no kernel"));
        }
        assert!(
            CheckSeverity::Fatal < CheckSeverity::Error
                && CheckSeverity::Warning < CheckSeverity::Note,
            "the worst comes first"
        );
    }
}
