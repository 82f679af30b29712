//! The lines of a server's log, held against the table of docs/log.md: each is there, at its level.

const TABLE: &str = include_str!("../../docs/log.md");
const STAGES: [&str; 7] =
    [" dhcp: ", " loader: ", " menu: ", " kernel: ", " initrd: ", " answer file: ", " file: "];

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
pub(crate) fn every_line_is_in_the_docs(log: &str) {
    let rows = rows();
    for line in log.lines() {
        let Some(at) =
            STAGES.iter().filter_map(|stage| Some(line.find(stage)? + stage.len())).min()
        else {
            continue;
        };
        let (head, said) = line.split_at(at);
        // What was left out before is no part of the sentence.
        let best = rows
            .iter()
            .filter_map(|row| Some((matches(row.0, said)?, row)))
            .max_by_key(|(literal, _)| *literal);
        let (_, (pattern, level)) =
            best.unwrap_or_else(|| panic!("docs/log.md has no row for {said:?}"));
        let is_paced = head.contains("DEBUG") && *level != "DEBUG";
        assert!(
            head.contains(level) || is_paced,
            "{line:?} is not at the level of the row `{pattern}`: {level}"
        );
    }
}

/// The table of what the server says of itself, against the places where it is said.
#[test]
fn what_the_server_says_of_itself_is_said_at_the_level_of_its_row() {
    let (_, after) = TABLE.split_once("## Lines of the server itself").unwrap();
    let (own, _) = after.split_once("\n## ").unwrap();
    let rows: Vec<(&str, &str)> = own
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| row.split(" | "))
        .map(|mut cells| {
            (
                cells.next().unwrap().trim_start_matches("| `").trim_end_matches('`'),
                cells.next().unwrap(),
            )
        })
        .collect();
    assert!(rows.len() > 10, "{rows:?}");
    let said = said_in(std::path::Path::new("src"));
    for (pattern, level) in rows {
        let is_said = |(at, text): &&(String, String)| at == level && has_all(text, pattern);
        assert!(said.iter().any(|one| is_said(&one)), "nothing in src says `{pattern}` at {level}");
    }
}

/// The literal parts of a pattern, in order.
fn has_all(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    pattern
        .split("...")
        .all(|part| rest.find(part).inspect(|at| rest = &rest[at + part.len()..]).is_some())
}

/// Every call of the log in the program: its level, and the words around it.
fn said_in(folder: &std::path::Path) -> Vec<(String, String)> {
    const WORDS: usize = 500;
    let mut said = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            said.extend(said_in(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap().replace("\\\n", " ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for after in text.split("tracing::").skip(1) {
            let level = after.split('!').next().unwrap().to_uppercase();
            said.push((level, after.chars().take(WORDS).collect()));
        }
    }
    said
}
