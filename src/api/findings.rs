//! One finding of a check, as JSON.

use serde_json::{Value, json};

use crate::observe::finding::CheckFinding;

/// One finding, for whoever reads it by a program.
pub fn finding_json(finding: &CheckFinding) -> Value {
    let position = finding.position.as_ref();
    json!({
        "severity": finding.severity.word(),
        "file": position.map(|position| &position.file),
        "line": position.and_then(|position| position.line),
        "column": position.and_then(|position| position.column),
        "text": finding.what,
        "hint": Some(&finding.hint).filter(|hint| !hint.is_empty()),
    })
}
