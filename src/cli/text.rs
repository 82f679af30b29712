//! How facts are put into words for people: JSON fields, times, lines no wider than the terminal.

use serde_json::Value;

/// The text of a field; empty where there is none.
pub(super) fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// The entries of a list; none where it is no list.
pub(super) fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a list, between blanks.
pub(super) fn joined(value: &Value) -> String {
    each(value).filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// "90 s", "9 min", "25 h", "10 days"
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// "1 error", "2 errors"
pub(super) fn plural(number: u64, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

/// Breaks lines that are wider than this at blanks; what goes on stands further in than the line that it belongs to.
pub(super) fn folded(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len() + FURTHER_IN;
        let mut rest = line;
        let mut room = width;
        while let Some(at) = break_at(rest, room).filter(|_| width > 2 * indent) {
            out.push_str(rest[..at].trim_end());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            rest = rest[at..].trim_start();
            room = width - indent;
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

/// Columns by which the second line of what was one stands further in.
const FURTHER_IN: usize = 4;

/// The place of the last blank within so many columns, where the line has more of them; a word that is longer stays whole.
fn break_at(line: &str, room: usize) -> Option<usize> {
    let (end, _) = line.char_indices().nth(room)?;
    let text_begins = line.len() - line.trim_start_matches(' ').len();
    let is_break = |at: &usize| *at > text_begins && !line[*at..].trim_start().is_empty();
    line[..end].rfind(' ').filter(is_break).or_else(|| line[end..].find(' ').map(|at| end + at).filter(is_break))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        let told = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(span);
        assert_eq!(told, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    }

    #[test]
    fn a_line_is_no_wider_than_the_terminal_and_its_rest_stands_further_in() {
        assert_eq!(folded("one two three\n", 20), "one two three\n");
        assert_eq!(folded("one two three four\nfive\n", 12), "one two\n    three\n    four\nfive\n");
        assert_eq!(folded("  subnet  10.0.0.0/8 by relays", 24), "  subnet  10.0.0.0/8 by\n      relays\n");
        assert_eq!(folded("a-word-that-is-longer and more", 10), "a-word-that-is-longer\n    and\n    more\n");
        assert_eq!(folded("é é é é é é\n", 11), "é é é é é é\n", "columns are characters");
        assert_eq!(folded("too narrow for this", 6), "too narrow for this\n");
        for width in 1..80 {
            let line = "  subnet     192.168.4.0/24 by interface eth1, mode server, SILENT: the DHCP server answers";
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&folded(line, width)), words(line), "{width}");
        }
    }
}
