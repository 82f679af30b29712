//! The lines of a server's log, held against the table of docs/log.md: each is there, at its level.

const TABLE: &str = include_str!("../../docs/log.md");
const STAGES: [&str; 7] = [" dhcp: ", " loader: ", " menu: ", " kernel: ", " initrd: ", " answer file: ", " file: "];

/// The patterns of the table with their levels.
fn rows() -> Vec<(&'static str, &'static str)> {
    let mut rows = Vec::new();
    for row in TABLE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        rows.extend(cells[0].split('`').skip(1).step_by(2).map(|pattern| (pattern, cells[1])));
    }
    rows
}

/// How much of the pattern is literal; None: the line is not one of it.
fn matches(pattern: &str, line: &str) -> Option<usize> {
    let mut parts = pattern.split("...").map(str::trim);
    let mut rest = line.strip_prefix(parts.next()?)?;
    for part in parts {
        rest = &rest[rest.find(part)? + part.len()..];
    }
    Some(pattern.replace("...", "").len())
}

/// Every line of a machine.
#[track_caller]
pub fn every_line_is_in_the_docs(log: &str) {
    let rows = rows();
    for line in log.lines() {
        let Some(at) = STAGES.iter().filter_map(|stage| Some(line.find(stage)? + stage.len())).min() else { continue };
        let (head, said) = line.split_at(at);
        // What was left out before is no part of the sentence.
        let best = rows.iter().filter_map(|row| Some((matches(row.0, said)?, row))).max_by_key(|(literal, _)| *literal);
        let (_, (pattern, level)) = best.unwrap_or_else(|| panic!("docs/log.md has no row for {said:?}"));
        let is_paced = head.contains("DEBUG") && *level != "DEBUG";
        assert!(head.contains(level) || is_paced, "{line:?} is not at the level of the row `{pattern}`: {level}");
    }
}
